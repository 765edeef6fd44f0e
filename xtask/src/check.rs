//! `cargo xtask check`: all that judges the code without running it.

use xshell::{Cmd, cmd};

use crate::{
    bench,
    error::Result,
    process::{Output, Runner},
    python::Python,
    report::{self, Outcome},
    tidy::{self, Files},
    workspace::Workspace,
};

/// Runtimes, none of which may be under the core crate.
const RUNTIMES: [&str; 9] = [
    "tokio",
    "async-std",
    "smol",
    "async-global-executor",
    "async-executor",
    "async-io",
    "monoio",
    "compio",
    "glommio",
];

/// The crates that are published and have features.
const WITH_FEATURES: [&str; 8] = [
    "--package",
    "pyo3-await",
    "--package",
    "pyo3-await-async-std",
    "--package",
    "pyo3-await-smol",
    "--package",
    "pyo3-await-tokio",
];

/// The oldest Rust that the crates are for, as their manifests say.
const OLDEST_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The systems that the crates are written for and not tested on.
const OTHER_SYSTEMS: [&str; 2] = ["x86_64-apple-darwin", "x86_64-pc-windows-gnu"];

/// Runs the checks, and says whether all passed.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: &Python) -> Result<bool> {
    let shell = workspace.shell(python)?;
    report::gather(|report| {
        let mut passes = |name: &str, command: Cmd<'_>| {
            report.step(name, || {
                let finished = runner.run(command, Output::Inherit)?;
                Ok(Outcome::of(if finished.success() { vec![] } else { vec![finished.ending.to_string()] }))
            })
        };
        let bench = workspace.existing(bench::MANIFEST)?;
        let peer = workspace.existing("pytests/peer/Cargo.toml")?;
        passes("format", cmd!(shell, "cargo fmt --all --check"))?;
        passes("format, benchmark", cmd!(shell, "cargo fmt --manifest-path {bench} --check"))?;
        passes("format, control", cmd!(shell, "cargo fmt --manifest-path {peer} --check"))?;
        passes("lints", cmd!(shell, "cargo clippy --workspace --all-targets --all-features -- -D warnings"))?;
        // With the step above these are all sets of features that there are.
        let crates = WITH_FEATURES;
        passes("lints, no features", cmd!(shell, "cargo clippy {crates...} --no-default-features -- -D warnings"))?;
        passes("lints, default features", cmd!(shell, "cargo clippy {crates...} -- -D warnings"))?;
        passes(
            "lints, stable ABI",
            cmd!(shell, "cargo clippy {crates...} --all-features --features pyo3/abi3-py310 -- -D warnings"),
        )?;
        passes("lints, benchmark", cmd!(shell, "cargo clippy --manifest-path {bench} -- -D warnings"))?;
        passes("docs", cmd!(shell, "cargo doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"))?;
        let targets = runner.run(cmd!(shell, "rustup target list --installed"), Output::Capture)?.output;
        let (installed, missing): (Vec<&str>, Vec<&str>) =
            OTHER_SYSTEMS.into_iter().partition(|target| targets.lines().any(|line| line == *target));
        for target in installed {
            let lints = cmd!(shell, "cargo clippy {crates...} --all-features --target {target} -- -D warnings");
            // A Python of that system is not needed for it.
            let lints = lints.env("PYO3_CROSS", "1").env("PYO3_CROSS_PYTHON_VERSION", &python.tag);
            passes(&format!("lints, {target}"), lints)?;
        }
        match toolchain(&runner.run(cmd!(shell, "rustup toolchain list"), Output::Capture)?.output, OLDEST_RUST) {
            Some(name) => passes(
                &format!("rust {OLDEST_RUST}"),
                cmd!(shell, "cargo check {crates...} --all-features").env("RUSTUP_TOOLCHAIN", name),
            )?,
            None => report.skip(format!(
                "rust {OLDEST_RUST}, the oldest that is supported: rustup does not have it; \
                 `rustup toolchain install {OLDEST_RUST} --profile minimal` installs it"
            )),
        }
        for target in missing {
            report.skip(format!(
                "lints, {target}: rustup does not have this target; `rustup target add {target}` installs it"
            ));
        }
        report.step("core has no runtime", || {
            let tree = cmd!(shell, "cargo tree --package pyo3-await --edges normal,build --prefix none");
            let tree =
                runner.run(tree.args(["--all-features", "--target", "all", "--format", "{p}"]), Output::Capture)?;
            Ok(Outcome::of(match tree.success() {
                true => runtimes(&tree.output),
                false => vec![format!("cargo tree: {}", tree.ending)],
            }))
        })?;
        let listing = cmd!(shell, "git ls-files -z --cached --others --exclude-standard");
        let listing = runner.run(listing, Output::Capture)?;
        if !listing.success() {
            report.fail("tidy", format!("git, which lists the files of this checkout: {}", listing.ending));
            return Ok(());
        }
        let files = Files::read(&workspace.root, listing.output.split('\0'));
        for (name, rule) in tidy::RULES {
            report.step(name, || Ok(Outcome::of(rule(&files))))?;
        }
        Ok(())
    })
}

/// The name that rustup has, in the list that it prints, for the toolchain of a version such as 1.85.
fn toolchain<'a>(list: &'a str, version: &str) -> Option<&'a str> {
    let mut names = list.lines().filter_map(|line| line.split(' ').next());
    names.find(|name| name.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-'])))
}

/// The runtimes in what `cargo tree` prints: a line for each package, its name first.
fn runtimes(tree: &str) -> Vec<String> {
    let mut found: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| RUNTIMES.contains(name))
        .map(|name| format!("{name} is among its dependencies"))
        .collect();
    found.sort();
    found.dedup();
    if !tree.starts_with("pyo3-await ") {
        found.push("cargo tree does not start at pyo3-await".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_found_once_wherever_it_stands() {
        let clean = "pyo3-await v0.1.0 (/somewhere/tokio)\nslab v0.4.9\ntokio-macros-like v1.0.0\n";
        assert_eq!(runtimes(clean), Vec::<String>::new());
        let tree = format!("{clean}tokio v1.47.0\nsmol v2.0.0\ntokio v1.47.0 (*)\n");
        assert_eq!(runtimes(&tree), ["smol is among its dependencies", "tokio is among its dependencies"]);
    }

    #[test]
    fn a_toolchain_is_found_by_its_version() {
        let list = "stable-x86_64 (active, default)\n1.8.0-x86_64\n1.850.0-x86_64\n1.85.1-x86_64 (override)\n";
        assert_eq!(toolchain(list, "1.85"), Some("1.85.1-x86_64"));
        assert_eq!(toolchain("1.85-x86_64\n", "1.85"), Some("1.85-x86_64"));
        assert_eq!(toolchain("stable-x86_64\n1.95.0-x86_64\n", "1.85"), None);
    }

    #[test]
    fn an_empty_tree_is_no_proof() {
        assert_eq!(runtimes(""), ["cargo tree does not start at pyo3-await"]);
    }
}
