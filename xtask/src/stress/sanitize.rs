//! The Rust tests, built by a nightly compiler with a sanitizer in them.

use std::path::Path;

use xshell::cmd;

use crate::{
    error::{Result, Stop},
    process::{Output, Runner},
    python::Python,
    report, test,
    venv::{self, Venv},
    workspace::Workspace,
};

/// Which tests.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The toolchain that has the sanitizer.
    #[arg(long, default_value = "nightly", value_name = "NAME")]
    toolchain: String,

    /// These test programs only, such as `test_tokio_asyncio`; a pattern will do.
    #[arg(long, default_value = "test_*", value_name = "NAME")]
    test: String,

    /// Tests with this in their name only.
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sanitizer {
    Address,
    Thread,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Thread => "thread",
        }
    }

    /// What the compiler is told.
    fn flags(self) -> &'static str {
        match self {
            Self::Address => "-Zsanitizer=address",
            Self::Thread => "-Zsanitizer=thread",
        }
    }

    /// What the programs are told.
    fn environment(self) -> Vec<(&'static str, String)> {
        match self {
            // Python keeps much until the process ends. With its own allocator few of its bugs would be seen.
            Self::Address => {
                vec![("ASAN_OPTIONS", "detect_leaks=0".to_owned()), ("PYTHONMALLOC", "malloc".to_owned())]
            }
            Self::Thread => vec![("TSAN_OPTIONS", "halt_on_error=1".to_owned())],
        }
    }

    /// Whether the standard library is built too: what its locks exclude is seen only if the sanitizer is in them.
    fn builds_std(self) -> bool {
        self == Self::Thread
    }
}

/// Builds and runs the tests, and says whether all passed.
pub(crate) fn run(
    workspace: &Workspace,
    runner: &Runner,
    python: &Python,
    sanitizer: Sanitizer,
    options: &Options,
) -> Result<bool> {
    let Options { toolchain, test, filter } = options;
    let venv = venv::ensure(workspace, runner, python, Venv::Tests)?;
    let shell = workspace.shell_for_sanitizer(python, &venv, sanitizer.name())?;
    shell.set_var("RUSTUP_TOOLCHAIN", toolchain);
    let version = runner.run(cmd!(shell, "rustc --version --verbose"), Output::Capture)?;
    if !version.success() {
        let ending = version.ending;
        return Err(Stop::Failed(format!(
            "the toolchain `{toolchain}`, which the sanitizer needs: {ending}; install it, or name another with \
             --toolchain"
        )));
    }
    let Some(target) = version.output.lines().find_map(|line| line.strip_prefix("host: ")) else {
        return Err(Stop::Failed(format!("rustc does not say what `{toolchain}` builds for")));
    };
    let build_std = sanitizer.builds_std().then_some("-Zbuild-std");
    if build_std.is_some() {
        let sysroot = runner.run(cmd!(shell, "rustc --print sysroot"), Output::Capture)?.output;
        if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library").exists() {
            return Err(Stop::Failed(format!(
                "the toolchain `{toolchain}` has no sources of the standard library, which has to be built with the \
                 sanitizer; install them: `rustup component add rust-src --toolchain {toolchain}`"
            )));
        }
    }
    // Where both are set, cargo takes this one and not `RUSTFLAGS`.
    shell.set_var("CARGO_ENCODED_RUSTFLAGS", sanitizer.flags());
    for (name, value) in sanitizer.environment() {
        shell.set_var(name, value);
    }
    report::gather(|report| {
        report.step(sanitizer.name(), || {
            // With a target named, the flags are for the tests only, and not for build scripts and macros.
            let tests = cmd!(
                shell,
                "cargo test --target {target} --package pyo3-await-pytests --no-fail-fast {build_std...} --test {test}
                 {filter...}"
            );
            Ok(test::judge_libtest(&runner.run(tests, Output::Tee)?))
        })?;
        if report.counts().total() == 0 {
            report.fail("all tests", "no test has that in its name".to_owned());
        }
        Ok(())
    })
}
