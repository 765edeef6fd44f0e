//! `cargo xtask demo`: both directions at work, from Python and from Rust.

use xshell::cmd;

use crate::{
    error::Result,
    process::{Output, Runner},
    python::Python,
    venv::{self, Venv},
    workspace::Workspace,
};

/// Builds and runs the demo; what fails ends it.
pub(crate) fn run(workspace: &Workspace, runner: &Runner, python: &Python) -> Result<bool> {
    let manifest = workspace.existing("docs/examples/demo/Cargo.toml")?;
    let script = workspace.existing("docs/examples/demo/demo.py")?;
    let venv = venv::ensure(workspace, runner, python, Venv::Tests)?;

    let shell = workspace.shell_for_maturin(python, &venv)?;
    runner
        .run(cmd!(shell, "maturin develop --release --manifest-path {manifest}"), Output::Inherit)?
        .expect("building the demo's extension module")?;

    let shell = workspace.shell_in(python, &venv)?;
    for event_loop in ["asyncio", "uvloop"] {
        runner
            .run(cmd!(shell, "python {script} --event-loop {event_loop}"), Output::Inherit)?
            .expect("the demo's Python program")?;
    }
    runner
        .run(cmd!(shell, "cargo run --release --package pyo3-await-demo --bin rust_program"), Output::Inherit)?
        .expect("the demo's Rust program")?;
    Ok(true)
}
