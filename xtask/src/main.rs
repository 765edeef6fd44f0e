//! The commands of this repository: `cargo xtask demo`, `test`, `check`, `bench` and `stress`.

mod bench;
mod check;
mod counts;
mod demo;
mod error;
mod process;
mod python;
mod report;
mod stress;
mod test;
mod tidy;
mod venv;
mod workspace;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, value_parser};

use crate::{error::Stop, process::Runner, workspace::Workspace};

#[cfg(not(unix))]
compile_error!("xtask runs on Linux and macOS; on Windows, run it inside WSL");

/// The commands of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// The Python to build for and to run: a path, or a name on PATH [default: python3].
    #[arg(long, global = true, env = "PYO3_PYTHON", hide_env_values = true, value_name = "PATH")]
    python: Option<OsString>,

    /// How long a single child process may take, before it and all that it started are killed.
    #[arg(long, global = true, value_name = "MINUTES")]
    #[arg(default_value_t = 30, value_parser = value_parser!(u32).range(1..))]
    timeout: u32,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the demo and run it: real work over loopback sockets, from Python and from Rust.
    Demo,
    /// Run all the tests: unit and doc tests, Rust integration tests, Python-driven tests.
    Test(test::Options),
    /// Run many short processes, or the tests under a sanitizer, to see what happens once in a thousand.
    #[command(subcommand)]
    Stress(stress::Stress),
    /// Run everything that judges the code without running it: format, lints, docs, tidy.
    Check,
    /// Measure this library beside its peers and pure Python, in one process and in turns.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(stop) => {
            report::progress(&stop.to_string());
            ExitCode::from(stop.exit_code())
        }
    }
}

/// Whether all was well.
fn run(arguments: Arguments) -> Result<bool, Stop> {
    let runner = Runner::new(Duration::from_secs(u64::from(arguments.timeout) * 60));
    runner.handle_signals()?;
    let workspace = Workspace::find()?;
    let python = python::find(&runner, arguments.python.as_deref())?;
    report::progress(&format!("python: {} at {}", python.version, python.executable.display()));
    match arguments.command {
        Command::Demo => demo::run(&workspace, &runner, &python),
        Command::Test(options) => test::run(&workspace, &runner, python, &options),
        Command::Stress(stress) => stress::run(&workspace, &runner, &python, &stress),
        Command::Check => check::run(&workspace, &runner, &python),
        Command::Bench(options) => bench::run(&workspace, &runner, &python, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_for_every_command_may_stand_behind_it() {
        let arguments = Arguments::parse_from(["xtask", "check", "--python", "python3.12", "--timeout", "5"]);
        assert_eq!(arguments.python.as_deref(), Some("python3.12".as_ref()));
        assert_eq!(arguments.timeout, 5);
    }
}
