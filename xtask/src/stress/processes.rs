//! Runs the programs, and judges how each process ended.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use xshell::{Cmd, Shell, cmd};

use super::{
    Kind, Options,
    table::{Failure, Tally},
};
use crate::{
    error::{Result, Stop},
    process::{Ending, Finished, Output, Runner},
    python::Python,
    report,
    venv::{self, Venv},
    workspace::Workspace,
};

/// What came of one situation.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) ours: Tally,
    /// `None` where the control cannot do it, or was left out.
    pub(super) control: Option<Tally>,
}

/// What a process should do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Situation {
    name: String,
    /// The exit status that it should have.
    status: i32,
    /// It takes long: of so many runs that are asked for, one is made.
    one_in: usize,
}

/// The extension modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    Ours,
    Control,
}

impl Module {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "bridge",
            Self::Control => "peer",
        }
    }

    fn manifest(self) -> &'static str {
        match self {
            Self::Ours => "pytests/extension/Cargo.toml",
            Self::Control => "pytests/peer/Cargo.toml",
        }
    }
}

/// Builds the modules and runs every situation as often as it was asked for.
pub(super) fn run(
    workspace: &Workspace,
    runner: &Runner,
    python: &Python,
    kind: &Kind,
    options: &Options,
) -> Result<Vec<Row>> {
    let runs = options.runs.unwrap_or(kind.runs);
    let control_runs = options.peer_runs.unwrap_or(runs.div_ceil(10));
    let venv = venv::ensure(workspace, runner, python, Venv::Tests)?;
    let built: &[Module] = if control_runs > 0 { &[Module::Ours, Module::Control] } else { &[Module::Ours] };
    for module in built {
        let shell = workspace.shell_for_maturin(python, &venv)?;
        let manifest = module.manifest();
        runner
            .run(cmd!(shell, "maturin develop --manifest-path {manifest}"), Output::Inherit)?
            .expect("building the extension module")?;
    }

    let program = Program { kind, options, runner: runner.with_timeout(limit(kind, options)) };
    let shell = workspace.shell_in(python, &venv)?;
    let situations = program.situations(&shell, Module::Ours)?;
    let of_control = if control_runs > 0 { program.situations(&shell, Module::Control)? } else { Vec::new() };
    if let Some(name) = options.situation.iter().find(|name| !situations.iter().any(|known| known.name == **name)) {
        let known: Vec<_> = situations.iter().map(|situation| &*situation.name).collect();
        return Err(Stop::Failed(format!("there is no situation `{name}`; there are {}", known.join(", "))));
    }
    let mut rows = Vec::new();
    for situation in situations {
        if !options.situation.is_empty() && !options.situation.contains(&situation.name) {
            continue;
        }
        let runs = runs.div_ceil(situation.one_in);
        let control_runs = if of_control.contains(&situation) { control_runs.div_ceil(situation.one_in) } else { 0 };
        let work = Mutex::new(interleaved(runs, control_runs));
        let tallies = Mutex::new((Tally::default(), (control_runs > 0).then(Tally::default)));
        thread::scope(|scope| {
            let workers: Vec<_> = (0..options.jobs.max(1))
                .map(|_| {
                    let (work, tallies, program, situation, venv) = (&work, &tallies, &program, &situation, &venv);
                    scope.spawn(move || program.work(&workspace.shell_in(python, venv)?, situation, work, tallies))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
        })?;
        let (ours, control) = tallies.into_inner().unwrap_or_else(PoisonError::into_inner);
        let of_control = control.as_ref().map_or_else(String::new, |control| {
            format!("; the control: {} of {} failed", control.failures(), control.runs)
        });
        report::progress(&format!("{}: {} of {} failed{of_control}", situation.name, ours.failures(), ours.runs));
        rows.push(Row { name: situation.name, ours, control });
    }
    Ok(rows)
}

fn limit(kind: &Kind, options: &Options) -> Duration {
    Duration::from_secs(options.limit.unwrap_or(kind.limit))
}

/// The processes to run, those of the control spread among ours.
fn interleaved(runs: usize, control_runs: usize) -> VecDeque<Module> {
    let all = runs + control_runs;
    // Where the control's share of all that was run so far grows by one.
    let of_control = |index: usize| (index + 1) * control_runs / all > index * control_runs / all;
    (0..all).map(|index| if of_control(index) { Module::Control } else { Module::Ours }).collect()
}

struct Program<'a> {
    kind: &'a Kind,
    options: &'a Options,
    runner: Runner,
}

impl Program<'_> {
    /// The command that lists the situations, or with one more argument is in one of them.
    fn command<'s>(&self, shell: &'s Shell, module: Module) -> Cmd<'s> {
        let (script, module, event_loop) = (self.kind.script, module.name(), self.options.event_loop.name());
        // A fork of a process with threads is what is tried here: there is no need to be warned of it.
        cmd!(shell, "python -W ignore::DeprecationWarning {script} --module {module} --event-loop {event_loop}")
            .env("BRIDGE_RUNTIME", self.options.runtime.name())
    }

    fn situations(&self, shell: &Shell, module: Module) -> Result<Vec<Situation>> {
        let listed = self.runner.run(self.command(shell, module), Output::Capture)?;
        parse(&listed.expect("listing the situations")?)
    }

    /// Runs processes until there are none left to run.
    fn work(
        &self,
        shell: &Shell,
        situation: &Situation,
        work: &Mutex<VecDeque<Module>>,
        tallies: &Mutex<(Tally, Option<Tally>)>,
    ) -> Result<()> {
        while let Some(module) = { work.lock().unwrap_or_else(PoisonError::into_inner).pop_front() } {
            let command = self.command(shell, module).arg(&situation.name);
            let finished = self.runner.run(command, Output::CaptureBoth)?;
            if let Ending::Error(error) = &finished.ending {
                return Err(Stop::Failed(format!("{}: cannot be run: {error}", situation.name)));
            }
            let failure = judge(&finished, situation.status);
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            let (ours, control) = &mut *tallies;
            let tally = match module {
                Module::Ours => ours,
                Module::Control => control.get_or_insert_default(),
            };
            tally.count(failure);
            match failure {
                None => tally.figures = figures(&finished.output),
                Some(_) if tally.example.is_none() => {
                    tally.example = Some(format!("{}\n{}", finished.ending, finished.output));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Reads a list of situations, one on each line.
fn parse(list: &str) -> Result<Vec<Situation>> {
    let situation = |line: &str| {
        let mut fields = line.split(' ');
        let name = fields.next()?.to_owned();
        Some(Situation { name, status: fields.next()?.parse().ok()?, one_in: fields.next()?.parse().ok()? })
    };
    let situations: Option<Vec<_>> = list.lines().map(situation).collect();
    situations
        .filter(|situations| !situations.is_empty())
        .ok_or_else(|| Stop::Failed(format!("this is no list of situations: {list}")))
}

/// Whether a process failed to end as it should: with `status`, having printed nothing but figures and `end`.
fn judge(finished: &Finished, status: i32) -> Option<Failure> {
    let Ending::Status(ending) = &finished.ending else { return Some(Failure::Hang) };
    match ending.code() {
        None => Some(Failure::Signal),
        Some(code) if code != status => Some(Failure::Status),
        Some(_) => {
            let printed = finished.output.lines().skip_while(|line| line.starts_with('#'));
            (!printed.eq(["end"])).then_some(Failure::Output)
        }
    }
}

/// The figures that a process printed.
fn figures(output: &str) -> String {
    let lines = output.lines().filter_map(|line| line.strip_prefix('#'));
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    fn finished(status: i32, output: &str) -> Finished {
        Finished { ending: Ending::Status(ExitStatus::from_raw(status)), output: output.to_owned() }
    }

    #[test]
    fn a_process_ends_as_it_should_or_fails_in_one_of_four_ways() {
        const SEGMENTATION_FAULT: i32 = 11;
        const CODE_3: i32 = 3 << 8;
        assert_eq!(judge(&finished(0, "end\n"), 0), None);
        assert_eq!(judge(&finished(0, "# one\n# two\nend\n"), 0), None);
        assert_eq!(judge(&finished(CODE_3, "end\n"), 3), None);
        assert_eq!(judge(&finished(CODE_3, "end\n"), 0), Some(Failure::Status));
        assert_eq!(judge(&finished(0, "end\n"), 3), Some(Failure::Status));
        assert_eq!(judge(&finished(SEGMENTATION_FAULT, "end\n"), 0), Some(Failure::Signal));
        for output in ["", "end\nTraceback\n", "warning\nend\n", "end\nend\n", "end\n# late\n"] {
            assert_eq!(judge(&finished(0, output), 0), Some(Failure::Output), "{output}");
        }
        let ending = Ending::TimedOut(Duration::from_secs(1));
        assert_eq!(judge(&Finished { ending, output: "end\n".to_owned() }, 0), Some(Failure::Hang));
    }

    #[test]
    fn the_control_is_spread_among_ours() {
        use Module::{Control, Ours};
        assert_eq!(interleaved(4, 2), [Ours, Ours, Control, Ours, Ours, Control]);
        assert_eq!(interleaved(2, 0), [Ours, Ours]);
        assert_eq!(interleaved(0, 0), []);
    }

    #[test]
    fn a_list_has_a_situation_on_each_line() {
        let situation = |name: &str, status, one_in| Situation { name: name.to_owned(), status, one_in };
        assert_eq!(parse("one 0 1\ntwo 3 50\n").unwrap(), [situation("one", 0, 1), situation("two", 3, 50)]);
        for garbage in ["", "one 0", "one two 1", "one 0 1\nTraceback"] {
            assert!(parse(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn figures_are_what_follows_the_sign() {
        assert_eq!(figures("# a 1\n#b 2\nend\n"), "a 1\nb 2");
    }
}
