//! `cargo xtask check`: all that judges the code without running it.

use xshell::{Cmd, cmd};

use crate::{
    bench,
    error::Result,
    process::{Output, Runner},
    python::Python,
    report::{Outcome, Report},
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

/// Runs the checks, and says whether all passed.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: &Python) -> Result<bool> {
    let shell = workspace.shell(python)?;
    let passes = |command: Cmd<'_>| -> Result<Outcome> {
        let finished = runner.run(command, Output::Inherit)?;
        Ok(Outcome::of(if finished.success() { vec![] } else { vec![finished.ending.to_string()] }))
    };

    let mut report = Report::default();
    report.step("format", || passes(cmd!(shell, "cargo fmt --all --check")))?;
    let bench = workspace.existing(bench::MANIFEST)?;
    report.step("format, benchmark", || passes(cmd!(shell, "cargo fmt --manifest-path {bench} --check")))?;
    let peer = workspace.existing("pytests/peer/Cargo.toml")?;
    report.step("format, control", || passes(cmd!(shell, "cargo fmt --manifest-path {peer} --check")))?;
    report.step("lints", || {
        passes(cmd!(shell, "cargo clippy --workspace --all-targets --all-features -- -D warnings"))
    })?;
    report.step("lints, benchmark", || passes(cmd!(shell, "cargo clippy --manifest-path {bench} -- -D warnings")))?;
    report.step("lints, stable ABI", || {
        passes(cmd!(shell, "cargo clippy --package pyo3-await-tokio --features pyo3/abi3-py310 -- -D warnings"))
    })?;
    report
        .step("docs", || passes(cmd!(shell, "cargo doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings")))?;
    report.step("core has no runtime", || {
        let tree = cmd!(shell, "cargo tree --package pyo3-await --edges normal,build --prefix none");
        let tree = runner.run(tree.args(["--all-features", "--target", "all", "--format", "{p}"]), Output::Capture)?;
        Ok(Outcome::of(match tree.success() {
            true => runtimes(&tree.output),
            false => vec![format!("cargo tree: {}", tree.ending)],
        }))
    })?;
    let listing = cmd!(shell, "git ls-files -z --cached --others --exclude-standard");
    let listing = runner.run(listing, Output::Capture)?;
    if listing.success() {
        let files = Files::read(&workspace.root, listing.output.split('\0'));
        for (name, rule) in tidy::RULES {
            report.step(name, || Ok(Outcome::of(rule(&files))))?;
        }
    } else {
        let complaint = format!("git, which lists the files of this checkout: {}", listing.ending);
        report.step("tidy", || Ok(Outcome::of(vec![complaint])))?;
    }
    Ok(report.close())
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
    fn an_empty_tree_is_no_proof() {
        assert_eq!(runtimes(""), ["cargo tree does not start at pyo3-await"]);
    }
}
