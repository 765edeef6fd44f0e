//! `cargo xtask bench`: this library beside its peers and pure Python, in one process and in turns.

mod files;
mod goals;
mod instructions;
mod record;
mod table;

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use xshell::{Shell, cmd};

use crate::{
    error::{Result, Stop},
    process::{Output, Runner},
    python::Python,
    report,
    venv::{self, Venv},
    workspace::Workspace,
};
use record::{Record, Run};

/// The extension module that is measured, and its driver in Python.
pub(crate) const MANIFEST: &str = "pytests/bench/Cargo.toml";
const DRIVER: &str = "pytests/bench/driver";

/// What the driver can be told to measure, apart from `--scale`.
const WORKLOADS: [&str; 14] =
    ["W1e", "W1", "W2", "W2c", "W3f", "W3", "W4a", "W4c", "W4k", "W4b", "W5a", "W5b", "W6", "W7"];

/// Those of them that only tokio can run.
const ON_TOKIO: [&str; 1] = ["W4k"];

/// What is measured, and how.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// This workload only, such as W2c; may be given more than once.
    #[arg(long, value_name = "NAME", value_parser = workload)]
    workload: Vec<String>,

    /// This library on this Rust runtime, or on all; may be given more than once [default: tokio].
    #[arg(long, value_enum)]
    runtime: Vec<Runtime>,

    /// Under this event loop only.
    #[arg(long, value_enum)]
    event_loop: Option<EventLoop>,

    /// Pinned to one core, or free to use all; both if not given.
    #[arg(long, value_enum)]
    cores: Option<Cores>,

    /// A look of a few minutes: few and short repetitions.
    #[arg(long)]
    quick: bool,

    /// The cost of one item as the work grows, instead of the workloads.
    #[arg(long, conflicts_with = "workload")]
    scale: bool,

    /// Count the instructions of the hot paths under valgrind, instead, and compare them with the table in the
    /// repository.
    #[arg(long, conflicts_with_all = ["workload", "runtime", "event_loop", "cores", "quick", "scale", "abi3"])]
    #[arg(conflicts_with_all = ["json", "plot"])]
    instructions: bool,

    /// Write the table of instructions anew.
    #[arg(long, requires = "instructions")]
    update: bool,

    /// Build all contenders for the stable ABI, to see what its slow paths cost.
    #[arg(long)]
    abi3: bool,

    /// Write all samples, and the goals, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Measure nothing: show what `--json` has written to this file; may be given more than once.
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["workload", "runtime", "event_loop", "cores", "quick", "scale", "abi3"])]
    #[arg(conflicts_with_all = ["instructions"])]
    from: Vec<PathBuf>,

    /// Draw the figures to this file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runtime {
    Tokio,
    AsyncStd,
    Smol,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EventLoop {
    Asyncio,
    Uvloop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Cores {
    One,
    All,
}

/// Measures, and shows what came of it. True unless a path takes more instructions than it should.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: &Python, options: &Options) -> Result<bool> {
    let mut runs = Vec::new();
    options.check()?;
    if options.from.is_empty() {
        // Before what is built and measured here adds to it.
        let load = load();
        let shell = build(workspace, runner, python, options)?;
        let driver = workspace.existing(DRIVER)?;
        if options.instructions {
            return instructions::run(&shell, runner, python, driver, options.update);
        }
        for event_loop in options.event_loops() {
            for cores in options.cores() {
                let (event_loop, cores) = (name(event_loop), name(cores));
                let records = measure(&shell, runner, options, &event_loop, &cores)?;
                let run = Run { python: python.version.clone(), abi3: options.abi3, event_loop, cores, load, records };
                show(&run);
                runs.push(run);
            }
        }
    } else {
        for path in &options.from {
            runs.extend(files::read(path)?);
        }
        runs.iter().for_each(show);
    }
    if let Some(path) = &options.json {
        files::write(path, &runs)?;
    }
    if let Some(path) = &options.plot {
        files::plot(workspace, runner, python, path, &runs)?;
    }
    Ok(true)
}

/// Builds the contenders; a shell in which the driver finds them.
fn build(workspace: &Workspace, runner: &Runner, python: &Python, options: &Options) -> Result<Shell> {
    let venv = venv::ensure(workspace, runner, python, Venv::Tests)?;
    let manifest = workspace.existing(MANIFEST)?;
    let shell = workspace.shell_for_maturin(python, &venv)?;
    let features: &[&str] = if options.abi3 { &["--features", "abi3"] } else { &[] };
    runner
        .run(cmd!(shell, "maturin develop --release --manifest-path {manifest} {features...}"), Output::Inherit)?
        .expect("building the benchmark's extension module")?;
    workspace.shell_in(python, &venv)
}

/// One run of the driver.
fn measure(shell: &Shell, runner: &Runner, options: &Options, event_loop: &str, cores: &str) -> Result<Vec<Record>> {
    report::progress(&format!("\n==> {event_loop}, cores: {cores}"));
    let arguments = options.of_driver();
    let command = cmd!(shell, "python {DRIVER} --event-loop {event_loop} --cores {cores} {arguments...}");
    let output = runner.run(command, Output::Capture)?.expect("the benchmark's driver")?;
    record::parse(&output).map_err(Stop::Failed)
}

/// How many processes wanted a core in the last minute. Only Linux tells in a file.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn show(run: &Run) {
    print!("{}{}", table::of(run), table::of_goals(&goals::judge(run)));
}

/// The name of a workload, as it is given.
fn workload(name: &str) -> std::result::Result<String, String> {
    match name {
        "W8" => Err("W8 is what `--scale` measures".to_owned()),
        _ if WORKLOADS.contains(&name) => Ok(name.to_owned()),
        _ => Err(format!("there are {}", WORKLOADS.join(", "))),
    }
}

impl Options {
    /// Whether what was asked for can be done, before anything is built for it.
    fn check(&self) -> Result<()> {
        let on_tokio = self.runtime.is_empty() || self.runtimes().contains(&Runtime::Tokio);
        match self.workload.iter().find(|name| ON_TOKIO.contains(&name.as_str())) {
            Some(name) if !on_tokio => Err(Stop::Failed(format!("{name} needs tokio: add `--runtime tokio`"))),
            _ => Ok(()),
        }
    }

    fn event_loops(&self) -> Vec<EventLoop> {
        self.event_loop.map_or_else(|| EventLoop::value_variants().to_vec(), |one| vec![one])
    }

    fn cores(&self) -> Vec<Cores> {
        self.cores.map_or_else(|| Cores::value_variants().to_vec(), |one| vec![one])
    }

    fn runtimes(&self) -> Vec<Runtime> {
        if self.runtime.contains(&Runtime::All) {
            Runtime::value_variants().iter().copied().filter(|runtime| *runtime != Runtime::All).collect()
        } else {
            self.runtime.clone()
        }
    }

    fn of_driver(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for workload in &self.workload {
            arguments.extend(["--workload".to_owned(), workload.clone()]);
        }
        for runtime in self.runtimes() {
            arguments.extend(["--runtime".to_owned(), name(runtime).replace('-', "_")]);
        }
        if self.quick {
            arguments.extend(["--repetitions", "3", "--seconds", "0.005"].map(str::to_owned));
        }
        if self.scale {
            arguments.push("--scale".to_owned());
        }
        if self.abi3 {
            arguments.push("--abi3".to_owned());
        }
        arguments
    }
}

/// As it is written on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        Line::parse_from([&["bench"], line].concat()).options
    }

    #[test]
    fn every_event_loop_and_both_ways_to_use_cores_unless_one_is_named() {
        assert_eq!(options(&[]).event_loops(), [EventLoop::Asyncio, EventLoop::Uvloop]);
        assert_eq!(options(&[]).cores(), [Cores::One, Cores::All]);
        assert_eq!(options(&["--event-loop", "uvloop"]).event_loops(), [EventLoop::Uvloop]);
        assert_eq!(options(&["--cores", "all"]).cores(), [Cores::All]);
    }

    #[test]
    fn the_driver_is_told() {
        assert!(options(&[]).of_driver().is_empty());
        assert_eq!(
            options(&["--workload", "W1", "--workload", "W2c"]).of_driver(),
            ["--workload", "W1", "--workload", "W2c"]
        );
        assert_eq!(options(&["--runtime", "async-std"]).of_driver(), ["--runtime", "async_std"]);
        assert_eq!(
            options(&["--quick", "--scale"]).of_driver(),
            ["--repetitions", "3", "--seconds", "0.005", "--scale"]
        );
        assert_eq!(options(&["--abi3"]).of_driver(), ["--abi3"]);
        assert_eq!(
            options(&["--runtime", "all"]).of_driver(),
            ["--runtime", "tokio", "--runtime", "async_std", "--runtime", "smol"]
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for line in [
            ["--scale", "--workload", "W1"].as_slice(),
            &["--update"],
            &["--instructions", "--scale"],
            &["--instructions", "--event-loop", "uvloop"],
            &["--instructions", "--cores", "all"],
            &["--instructions", "--runtime", "smol"],
            &["--instructions", "--quick"],
            &["--from", "samples.json", "--scale"],
        ] {
            assert!(Line::try_parse_from([&["bench"], line].concat()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_workload_that_is_not_there_is_refused() {
        let refused = |name| Line::try_parse_from(["bench", "--workload", name]).err().unwrap().to_string();
        assert!(refused("W9").contains("there are W1e, W1, "), "{}", refused("W9"));
        assert!(refused("W8").contains("--scale"), "{}", refused("W8"));
    }

    #[test]
    fn a_workload_that_needs_tokio_says_so() {
        assert_eq!(options(&["--workload", "W4k"]).check(), Ok(()));
        assert_eq!(options(&["--workload", "W4k", "--runtime", "all"]).check(), Ok(()));
        assert_eq!(options(&["--workload", "W1", "--runtime", "smol"]).check(), Ok(()));
        let refused = options(&["--workload", "W1", "--workload", "W4k", "--runtime", "smol"]).check();
        assert_eq!(refused.unwrap_err().to_string(), "error: W4k needs tokio: add `--runtime tokio`");
    }

    #[test]
    fn the_driver_has_these_workloads() {
        let root = Workspace::find().unwrap().root;
        let read = |name: &str| fs::read_to_string(root.join(DRIVER).join(name)).unwrap();
        let timed = read("workloads.py");
        let timed = timed.split("\n    Workload(\n").skip(1).map(|text| (text.split('"').nth(1).unwrap(), text));
        let (names, texts): (Vec<_>, Vec<_>) = timed.unzip();
        let others = [read("load.py"), read("memory.py")];
        let others = others.iter().map(|text| text.split("\nNAME = \"").nth(1).unwrap().split('"').next().unwrap());
        assert_eq!(names.iter().copied().chain(others).collect::<Vec<_>>(), WORKLOADS);
        let on_tokio = names.iter().zip(texts).filter(|(_, text)| text.contains("keep_states=True"));
        assert_eq!(on_tokio.map(|(name, _)| *name).collect::<Vec<_>>(), ON_TOKIO);
    }
}
