//! Runs the programs, and judges how each process ended.

use std::{
    collections::VecDeque,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::ExitStatus,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use xshell::{Cmd, Shell, cmd};

use super::{
    EventLoop, Kind, Options, Program, Runtime,
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

/// Builds the programs and runs every situation as often as it was asked for.
pub(super) fn run(
    workspace: &Workspace,
    runner: &Runner,
    python: &Python,
    kind: &Kind,
    options: &Options,
) -> Result<Vec<Row>> {
    let runs = options.runs.unwrap_or(kind.runs);
    let control_runs = match kind.program {
        Program::Script(_) => options.peer_runs.unwrap_or(runs.div_ceil(10)),
        Program::Binary(_) => 0,
    };
    let venv = venv::ensure(workspace, runner, python, Venv::Tests)?;
    let shell = workspace.shell_in(python, &venv)?;
    let launch = match kind.program {
        Program::Script(script) => {
            let built: &[Module] = if control_runs > 0 { &[Module::Ours, Module::Control] } else { &[Module::Ours] };
            for module in built {
                let shell = workspace.shell_for_maturin(python, &venv)?;
                let manifest = module.manifest();
                runner
                    .run(cmd!(shell, "maturin develop --manifest-path {manifest}"), Output::Inherit)?
                    .expect("building the extension module")?;
            }
            Launch::Script(script)
        }
        Program::Binary(name) => {
            if (options.runtime, options.event_loop) != (Runtime::Tokio, EventLoop::Asyncio) {
                return Err(Stop::Failed(format!("`{name}` is on tokio and asyncio only")));
            }
            if options.forked {
                return Err(Stop::Failed(format!("`{name}` starts its processes: it imports nothing that takes long")));
            }
            let build = cmd!(shell, "cargo build --package pyo3-await-pytests --bin {name}");
            let build = build.arg("--message-format=json-render-diagnostics");
            report::progress(&format!("$ {build}"));
            let messages = runner.run(build, Output::Capture)?.expect("building the program")?;
            let executable = executable(&messages, name);
            Launch::Binary(executable.ok_or_else(|| Stop::Failed(format!("cargo does not say where `{name}` is")))?)
        }
    };

    let program = Processes { launch, options, runner: runner.with_timeout(limit(kind, options)) };
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
            let workers: Vec<_> = (0..options.jobs)
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

/// What a process runs.
enum Launch {
    Script(&'static str),
    Binary(PathBuf),
}

struct Processes<'a> {
    launch: Launch,
    options: &'a Options,
    runner: Runner,
}

impl Processes<'_> {
    /// The command that lists the situations, or with one more argument is in one of them.
    fn command<'s>(&self, shell: &'s Shell, module: Module) -> Cmd<'s> {
        let (module, event_loop) = (module.name(), self.options.event_loop.name());
        match &self.launch {
            // A fork of a process with threads is what is tried here: there is no need to be warned of it.
            Launch::Script(script) => {
                cmd!(shell, "python -W ignore::DeprecationWarning {script} --module {module} --event-loop {event_loop}")
                    .env("BRIDGE_RUNTIME", self.options.runtime.name())
            }
            Launch::Binary(program) => cmd!(shell, "{program}"),
        }
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
        let batch = if self.options.forked { FORKED_AT_ONCE } else { 1 };
        while let Some((module, count)) = { next(&mut work.lock().unwrap_or_else(PoisonError::into_inner), batch) } {
            let finished = if self.options.forked {
                self.forked(shell, situation, module, count)?
            } else {
                let command = self.command(shell, module).arg(&situation.name);
                vec![self.runner.run(command, Output::CaptureBoth)?]
            };
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            let (ours, control) = &mut *tallies;
            let tally = match module {
                Module::Ours => ours,
                Module::Control => control.get_or_insert_default(),
            };
            for finished in finished {
                if let Ending::Error(error) = &finished.ending {
                    return Err(Stop::Failed(format!("{}: cannot be run: {error}", situation.name)));
                }
                let failure = judge(&finished, situation.status);
                tally.count(failure);
                match failure {
                    None => tally.figures = figures(&finished.output),
                    Some(_) if tally.example.is_none() => {
                        tally.example = Some(format!("{}\n{}", finished.ending, finished.output));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Has one process fork some that are in the situation.
    fn forked(&self, shell: &Shell, situation: &Situation, module: Module, count: usize) -> Result<Vec<Finished>> {
        let limit = self.runner.timeout();
        let (seconds, forks) = (limit.as_secs().to_string(), count.to_string());
        let command = self.command(shell, module).args([&situation.name, "--forks", &forks, "--limit", &seconds]);
        let runner = self.runner.with_timeout(limit * (u32::try_from(count).unwrap_or(u32::MAX) + 1));
        let reported = runner.run(command, Output::Capture)?.expect("forking processes")?;
        let finished: Option<Vec<_>> = reported.lines().map(|line| of_report(line, limit)).collect();
        finished
            .filter(|finished| finished.len() == count)
            .ok_or_else(|| Stop::Failed(format!("this does not report {count} processes: {reported}")))
    }
}

/// Where the program is that cargo has built, by what it says in JSON.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Artifact {
        target: Target,
        executable: Option<PathBuf>,
    }

    #[derive(serde::Deserialize)]
    struct Target {
        name: String,
    }

    let mut artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.find_map(|artifact| artifact.executable.filter(|_| artifact.target.name == name))
}

/// How many processes are forked by one that was started.
const FORKED_AT_ONCE: usize = 25;

/// Takes the next process to run, and with it those that follow and are alike, `most` at the most.
fn next(work: &mut VecDeque<Module>, most: usize) -> Option<(Module, usize)> {
    let module = work.pop_front()?;
    let alike = work.iter().take(most.saturating_sub(1)).take_while(|&&other| other == module).count();
    work.drain(..alike);
    Some((module, 1 + alike))
}

/// Reads how a forked process has ended.
fn of_report(line: &str, limit: Duration) -> Option<Finished> {
    #[derive(serde::Deserialize)]
    struct Reported {
        status: Option<i32>,
        output: String,
    }

    let Reported { status, output } = serde_json::from_str(line).ok()?;
    let ending = match status {
        None => Ending::TimedOut(limit),
        // The system's own notation: an exit code in the second byte, a signal in the first.
        Some(status) => Ending::Status(ExitStatus::from_raw(if status < 0 { -status } else { status << 8 })),
    };
    Some(Finished { ending, output })
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
    // It, or what it had started, did not end.
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
        for ending in [Ending::TimedOut(Duration::from_secs(1)), Ending::Left] {
            assert_eq!(judge(&Finished { ending, output: "end\n".to_owned() }, 0), Some(Failure::Hang));
        }
    }

    #[test]
    fn the_program_is_where_cargo_says_it_is() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"one"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"two"},"executable":"/target/debug/two"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"one"},"executable":"/target/debug/one"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages, "one"), Some("/target/debug/one".into()));
        assert_eq!(executable(messages, "three"), None);
    }

    #[test]
    fn the_control_is_spread_among_ours() {
        use Module::{Control, Ours};
        assert_eq!(interleaved(4, 2), [Ours, Ours, Control, Ours, Ours, Control]);
        assert_eq!(interleaved(2, 0), [Ours, Ours]);
        assert_eq!(interleaved(0, 0), []);
    }

    #[test]
    fn those_that_are_alike_are_taken_together() {
        use Module::{Control, Ours};
        let mut work = VecDeque::from([Ours, Ours, Ours, Control, Ours]);
        let taken: Vec<_> = std::iter::from_fn(|| next(&mut work, 2)).collect();
        assert_eq!(taken, [(Ours, 2), (Ours, 1), (Control, 1), (Ours, 1)]);
    }

    #[test]
    fn a_forked_process_is_judged_as_one_that_was_started() {
        const LIMIT: Duration = Duration::from_secs(1);
        let judged = |line, status| of_report(line, LIMIT).map(|finished| judge(&finished, status));
        assert_eq!(judged(r#"{"status": 0, "output": "end\n"}"#, 0), Some(None));
        assert_eq!(judged(r#"{"status": 3, "output": "end\n"}"#, 3), Some(None));
        assert_eq!(judged(r#"{"status": 3, "output": "end\n"}"#, 0), Some(Some(Failure::Status)));
        assert_eq!(judged(r#"{"status": -11, "output": "end\n"}"#, 0), Some(Some(Failure::Signal)));
        assert_eq!(judged(r#"{"status": null, "output": "end\n"}"#, 0), Some(Some(Failure::Hang)));
        assert_eq!(judged(r#"{"status": 0, "output": "late"}"#, 0), Some(Some(Failure::Output)));
        assert_eq!(judged("end", 0), None);
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
