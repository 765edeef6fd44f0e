//! The files that a measurement leaves: all samples, and a drawing of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use xshell::cmd;

use super::{
    goals::{self, Judged},
    record::Run,
};
use crate::{
    error::{Result, Stop},
    process::{Output, Runner},
    python::Python,
    venv::{self, Venv},
    workspace::Workspace,
};

/// A run, with what it comes to.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    run: &'a Run,
    goals: Vec<Judged>,
}

/// All samples, for other programs and for `read`.
pub(super) fn write(path: &Path, runs: &[Run]) -> Result<()> {
    fs::write(path, to_json(runs)).map_err(|error| failed("write", path, &error))
}

/// What `write` has written. The goals are judged anew.
pub(super) fn read(path: &Path) -> Result<Vec<Run>> {
    let text = fs::read_to_string(path).map_err(|error| failed("read", path, &error))?;
    serde_json::from_str(&text).map_err(|error| failed("read", path, &error))
}

/// Draws the runs to `path`, whose ending says in which format.
pub(super) fn plot(workspace: &Workspace, runner: &Runner, python: &Python, path: &Path, runs: &[Run]) -> Result<()> {
    let venv = venv::ensure(workspace, runner, python, Venv::Plot)?;
    let shell = workspace.shell_in(python, &venv)?;
    let folder = shell.create_temp_dir()?;
    let samples = folder.path().join("samples.json");
    shell.write_file(&samples, to_json(runs))?;
    let script = workspace.existing("pytests/bench/plot.py")?;
    let path: PathBuf = std::path::absolute(path).map_err(|error| failed("write", path, &error))?;
    runner
        .run(cmd!(shell, "python {script} {samples} {path}"), Output::Inherit)?
        .expect("drawing the figures")
        .map(|_| ())
}

fn to_json(runs: &[Run]) -> String {
    let written: Vec<_> = runs.iter().map(|run| Written { run, goals: goals::judge(run) }).collect();
    let mut text = serde_json::to_string_pretty(&written).expect("strings and finite numbers have a form in JSON");
    text.push('\n');
    text
}

fn failed(verb: &str, path: &Path, error: &dyn std::fmt::Display) -> Stop {
    Stop::Failed(format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use xshell::Shell;

    use super::{
        super::record::tests::{record, run},
        *,
    };

    #[test]
    fn what_is_written_can_be_read() {
        let folder = Shell::new().unwrap().create_temp_dir().unwrap();
        let path = folder.path().join("samples.json");
        let records = vec![record("W1", "tokio_coroutine", &[0.5]), record("W1", "peer", &[5.5])];
        write(&path, &[run(records)]).unwrap();

        let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(value[0]["python"], "3.12.1");
        assert_eq!(value[0]["records"][0]["unit"], "s");
        assert_eq!(value[0]["records"][0]["samples"][0], 0.5);
        assert_eq!(value[0]["goals"][0]["of"], "peer");
        assert_eq!(value[0]["goals"][0]["reached"], true);

        let runs = read(&path).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].records[1].samples, [5.5]);
        assert_eq!(to_json(&runs), fs::read_to_string(&path).unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = read(Path::new("no/such.json")).unwrap_err().to_string();
        assert!(error.starts_with("error: cannot read no/such.json: "), "{error}");
    }
}
