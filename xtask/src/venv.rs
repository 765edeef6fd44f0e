//! The venvs with what the commands need, at the pinned versions.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    mem,
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::{FdFlags, fcntl_setfd},
};
use xshell::{Shell, cmd};

use crate::{
    error::{Result, Stop},
    process::{Output, Runner},
    python::Python,
    report,
    workspace::Workspace,
};

/// What a venv is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Venv {
    /// The tests, the demo and the benchmark.
    Tests,
    /// Drawing figures. Nobody else needs what that takes.
    Plot,
}

impl Venv {
    fn prefix(self) -> &'static str {
        match self {
            Self::Tests => "venv",
            Self::Plot => "venv-plot",
        }
    }

    /// What is installed, at which versions.
    fn requirements(self) -> &'static str {
        match self {
            Self::Tests => "pytests/requirements.txt",
            Self::Plot => "pytests/bench/requirements.txt",
        }
    }

    /// What is in it when the requirements are: the interpreter, and what it was made for.
    fn contents(self, python: &Python) -> Vec<String> {
        let packages = format!("lib/python{}/site-packages", python.tag);
        match self {
            Self::Tests => ["bin/python", "bin/maturin", &format!("{packages}/pytest")].map(str::to_owned).to_vec(),
            Self::Plot => vec!["bin/python".to_owned(), format!("{packages}/matplotlib")],
        }
    }
}

/// In the venv: what it was made from. It is written last, so that a venv without it is one that was not finished.
const STAMP: &str = "made-from.txt";

/// Makes the venv for `python` if there is none, if it was made from something else than it would be now, or if it has
/// lost what it was made for.
///
/// Until this process ends no other command uses the venv: what `maturin develop` installs is there once.
///
/// # Errors
///
/// When the interpreter cannot make a venv, or pip cannot install the requirements; pip has then said why.
pub(crate) fn ensure(workspace: &Workspace, runner: &Runner, python: &Python, kind: Venv) -> Result<PathBuf> {
    let venv = workspace.venv(python, kind.prefix());
    let requirements = workspace.existing(kind.requirements())?;
    let shell = workspace.shell(python)?;
    let stamp = stamp(python, &shell.read_file(requirements)?);
    let contents = kind.contents(python);
    let lock = reserve(&venv)?;
    if !is_current(&venv, &stamp, &contents) {
        if !python.has_venv {
            return Err(Stop::Failed(lacks_venv(python)));
        }
        let started = Instant::now();
        // These children work on in the venv when this process is killed, and have the lock as long.
        inherit(&lock, true)?;
        make(&shell, runner, python, &venv, requirements)?;
        inherit(&lock, false)?;
        if let Some(missing) = missing(&venv, &contents) {
            return Err(Stop::Failed(format!(
                "installing {requirements}: pip has succeeded, but {} is not there: see that pip's configuration, \
                 which `pip config list` shows, does not have it install elsewhere",
                missing.display()
            )));
        }
        shell.write_file(venv.join(STAMP), stamp)?;
        report::progress(&format!("venv: ready after {:.1} s", started.elapsed().as_secs_f64()));
    }
    // The lock goes with the file.
    mem::forget(lock);
    Ok(venv)
}

fn make(shell: &Shell, runner: &Runner, python: &Python, venv: &Path, requirements: &str) -> Result<()> {
    report::progress(&format!("venv: making {}", venv.display()));
    let executable = &python.executable;
    let made = runner.run(cmd!(shell, "{executable} -m venv --clear {venv}"), Output::Inherit)?;
    if !made.success() {
        return Err(Stop::Failed(format!(
            "making {}: {}; Python has said why, above: see that it can be written there, or name another Python with \
             --python",
            venv.display(),
            made.ending
        )));
    }
    report::progress("venv: installing pinned requirements ...");
    let pip = venv.join("bin/python");
    let pip = cmd!(shell, "{pip} -m pip --disable-pip-version-check --no-input install --quiet -r {requirements}");
    let installed = runner.run(pip, Output::Inherit)?;
    if !installed.success() {
        let ending = installed.ending;
        return Err(Stop::Failed(format!(
            "installing {requirements}: {ending}; pip has said why, above: see that it reaches its package index"
        )));
    }
    Ok(())
}

/// Waits until no other process has `venv`, and has it as long as the file is open.
fn reserve(venv: &Path) -> Result<File> {
    // Beside it, since a venv that is made anew is emptied; `3.12` would be taken for an extension.
    let mut path = OsString::from(venv);
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |error: &dyn fmt::Display| Stop::Failed(format!("cannot lock {}: {error}", path.display()));
    fs::create_dir_all(venv.parent().unwrap_or(venv)).map_err(|error| failed(&error))?;
    let file = File::create(&path).map_err(|error| failed(&error))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        report::progress(&format!("venv: waiting for another command, which uses {}", venv.display()));
        flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(&error))?;
    }
    Ok(file)
}

/// Whether the children that are started from now on have the lock too.
fn inherit(lock: &File, inherit: bool) -> Result<()> {
    let flags = if inherit { FdFlags::empty() } else { FdFlags::CLOEXEC };
    fcntl_setfd(lock, flags).map_err(|error| Stop::Failed(format!("cannot share the lock of a venv: {error}")))
}

/// All that the venv depends on, in full, so that a person can see what changed.
fn stamp(python: &Python, requirements: &str) -> String {
    format!("# {} at {}\n{requirements}", python.version, python.executable.display())
}

fn is_current(venv: &Path, stamp: &str, contents: &[String]) -> bool {
    missing(venv, contents).is_none() && fs::read_to_string(venv.join(STAMP)).is_ok_and(|made_from| made_from == stamp)
}

/// The first of `contents` that is not in the venv.
fn missing(venv: &Path, contents: &[String]) -> Option<PathBuf> {
    contents.iter().map(|path| venv.join(path)).find(|path| !path.exists())
}

fn lacks_venv(python: &Python) -> String {
    let Python { executable, version, tag, .. } = python;
    format!(
        "CPython {version} at {} cannot make a venv: its modules venv and ensurepip are not both there; install them \
         (Debian: `apt install python{tag}-venv`), or name another Python with --python",
        executable.display()
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn python(version: &str) -> Python {
        Python {
            executable: "/usr/bin/python3.12".into(),
            version: version.to_owned(),
            tag: "3.12".to_owned(),
            library_dir: "/usr/lib".into(),
            has_venv: false,
        }
    }

    #[test]
    fn a_venv_is_made_again_when_what_it_was_made_from_changes() {
        let shell = Shell::new().unwrap();
        let venv = shell.create_temp_dir().unwrap();
        let venv = venv.path();
        let made_from = stamp(&python("3.12.1"), "pytest==1\n");
        let contents = Venv::Tests.contents(&python("3.12.1"));
        let is_current = |stamp: &str| is_current(venv, stamp, &contents);
        assert!(!is_current(&made_from), "nothing is there yet");
        for path in &contents {
            shell.write_file(venv.join(path), "").unwrap();
        }
        assert!(!is_current(&made_from), "an install that failed leaves no stamp");
        shell.write_file(venv.join(STAMP), &made_from).unwrap();
        assert!(is_current(&made_from));
        assert!(!is_current(&stamp(&python("3.12.1"), "pytest==2\n")));
        assert!(!is_current(&stamp(&python("3.12.2"), "pytest==1\n")));
    }

    #[test]
    fn a_venv_is_made_again_when_it_has_lost_what_it_is_for() {
        let shell = Shell::new().unwrap();
        for kind in [Venv::Tests, Venv::Plot] {
            let contents = kind.contents(&python("3.12.1"));
            for lost in &contents {
                let venv = shell.create_temp_dir().unwrap();
                let venv = venv.path();
                shell.write_file(venv.join(STAMP), "stamp").unwrap();
                for path in contents.iter().filter(|path| *path != lost) {
                    shell.write_file(venv.join(path), "").unwrap();
                }
                assert!(!is_current(venv, "stamp", &contents), "{lost}");
                assert_eq!(missing(venv, &contents), Some(venv.join(lost)));
            }
        }
    }

    /// The lock is this process's, but of another open file, as that of another process would be.
    #[test]
    fn a_venv_that_is_used_is_reserved() {
        let shell = Shell::new().unwrap();
        let folder = shell.create_temp_dir().unwrap();
        let venv = folder.path().join("new/venv-3.12");
        let _lock = reserve(&venv).unwrap();
        assert!(is_reserved(&venv));
    }

    #[test]
    fn a_venv_is_reserved_for_those_who_make_it() {
        let shell = Shell::new().unwrap();
        let folder = shell.create_temp_dir().unwrap();
        let venv = folder.path().join("venv-3.12");
        let lock = reserve(&venv).unwrap();
        inherit(&lock, true).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        drop(lock);
        assert!(is_reserved(&venv));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    fn is_reserved(venv: &Path) -> bool {
        let file = File::open(format!("{}.lock", venv.display())).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    #[test]
    fn the_package_to_install_is_named() {
        let message = lacks_venv(&python("3.12.1"));
        assert!(message.contains("CPython 3.12.1") && message.contains("apt install python3.12-venv"), "{message}");
    }
}
