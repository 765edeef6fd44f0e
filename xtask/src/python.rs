//! Finds the Python that everything is built for, and says what is missing when it will not do.

use std::{
    cmp::Reverse,
    collections::HashMap,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use xshell::{Shell, cmd};

use crate::{
    error::{Result, Stop},
    process::{Ending, Output, Runner},
};

/// The oldest version that the bridge supports.
const OLDEST: (u32, u32) = (3, 10);

/// How to get a Python that will do.
const INSTALL: &str = "install one (Debian: `apt install python3 python3-venv libpython3-dev`; \
    pyenv: `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.13`) and name it with --python or PYO3_PYTHON";

/// Far more than an interpreter takes to start, from the slowest disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// An interpreter that the workspace can be built for and run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Python {
    /// The interpreter itself, also when a venv's was named.
    pub(crate) executable: PathBuf,
    /// Such as `3.12.1`.
    pub(crate) version: String,
    /// What tells its builds from those for other Pythons: `3.12`, `3.13t`.
    pub(crate) tag: String,
    /// Where the linker and the loader find libpython.
    pub(crate) library_dir: PathBuf,
    /// Whether it can make a venv with pip in it.
    pub(crate) has_venv: bool,
}

/// Asks the interpreter `choice`, or else `python3`, what it is.
///
/// # Errors
///
/// When there is none, or it is too old, not CPython or without a shared libpython: what to install.
pub(crate) fn find(runner: &Runner, choice: Option<&OsStr>) -> Result<Python> {
    let program = choice.filter(|program| !program.is_empty()).unwrap_or(OsStr::new("python3"));
    let name = program.to_string_lossy();
    let shell = Shell::new()?;
    let question = cmd!(shell, "{program} -c {QUESTION}");
    let finished = runner.with_timeout(PATIENCE).run(question, Output::Capture)?;
    if !finished.success() {
        let ending = &finished.ending;
        return Err(Stop::Failed(match ending {
            Ending::Error(error) => format!("no Python: `{name}` cannot be run: {error}; {INSTALL}"),
            _ => format!("`{name}` does not work as a Python: {ending}; {INSTALL}"),
        }));
    }
    judge(&name, &finished.output).map_err(Stop::Failed)
}

/// `chosen`, and of each other version that can be found the newest that will do: the oldest version first; and which
/// versions will not do, with the reasons.
///
/// # Errors
///
/// Only a signal that ends the whole command.
pub(crate) fn find_all(runner: &Runner, chosen: Python) -> Result<(Vec<Python>, Vec<String>)> {
    let mut found = vec![chosen];
    let mut refused = Vec::new();
    for (tag, path) in candidates() {
        match find(runner, Some(path.as_os_str())) {
            Ok(python) => found.push(python),
            Err(Stop::Failed(reason)) => refused.push((tag, reason)),
            Err(stop) => return Err(stop),
        }
    }
    let passed_over = passed_over(refused, &found);
    Ok((one_of_each(found), passed_over))
}

/// Of those refused, one of each version of which there is no other.
fn passed_over(mut refused: Vec<(String, String)>, found: &[Python]) -> Vec<String> {
    refused.retain(|(tag, _)| !found.iter().any(|python| python.tag == *tag));
    refused.sort_by(|(one, _), (other, _)| one.cmp(other));
    refused.dedup_by(|(one, _), (other, _)| one == other);
    refused.into_iter().map(|(tag, reason)| format!("python {tag}: {reason}")).collect()
}

/// Those on `PATH` by the names that installations of several versions give them, and those that pyenv has built: the
/// tags that their names promise, and their paths.
fn candidates() -> Vec<(String, PathBuf)> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = Vec::new();
    for folder in env::split_paths(&path) {
        for minor in OLDEST.1..OLDEST.1 + 20 {
            for suffix in ["", "t"] {
                let tag = format!("{}.{minor}{suffix}", OLDEST.0);
                let path = folder.join(format!("python{tag}"));
                found.push((tag, path));
            }
        }
    }
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let pyenv = env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home);
    // pyenv's names on `PATH` are scripts, which refuse what is not chosen at the moment.
    found.retain(|(_, path)| !pyenv.as_ref().is_some_and(|pyenv| path.starts_with(pyenv)));
    let versions = pyenv.and_then(|pyenv| fs::read_dir(pyenv.join("versions")).ok());
    for version in versions.into_iter().flatten().flatten() {
        if let Some(tag) = tag_of_pyenv(&version.file_name().to_string_lossy()) {
            found.push((tag, version.path().join("bin/python3")));
        }
    }
    found.retain(|(_, path)| path.exists());
    found
}

/// The tag that a folder of pyenv's is for, `3.13t` for `3.13.0t`: its name if that is no version, none if it is too
/// old to be meant.
fn tag_of_pyenv(folder: &str) -> Option<String> {
    let Some((major, minor)) = parse_version(folder) else { return Some(folder.to_owned()) };
    let suffix = if folder.ends_with('t') { "t" } else { "" };
    ((major, minor) >= OLDEST).then(|| format!("{major}.{minor}{suffix}"))
}

/// The first, and of each other version the newest: builds for two of the same would undo each other.
fn one_of_each(mut found: Vec<Python>) -> Vec<Python> {
    let chosen = found.remove(0);
    let order = |python: &Python| python.version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    found.retain(|python| python.tag != chosen.tag);
    found.sort_by_key(|python| Reverse(order(python)));
    let mut kept = vec![chosen];
    for python in found {
        if !kept.iter().any(|other| other.tag == python.tag) {
            kept.push(python);
        }
    }
    kept.sort_by_key(order);
    kept
}

/// What an interpreter is asked.
///
/// It is written so that any Python can answer, also one that is then refused.
/// Headers are not asked for: PyO3 has its own declarations, and nothing here is compiled from C.
/// The linker needs `libpython3.x.so` (`.dylib`), which Debian ships apart from the interpreter.
const QUESTION: &str = r#"
from __future__ import print_function
import os, platform, sys, sysconfig

def have(module):
    try:
        __import__(module)
        return True
    except ImportError:
        return False

get = sysconfig.get_config_var
version = sys.version_info
base_prefix = getattr(sys, "base_prefix", sys.prefix)

# Python 3.10 takes a venv's own interpreter for the base one.
executable = getattr(sys, "_base_executable", None) or sys.executable
if sys.prefix != base_prefix and executable == sys.executable:
    executable = os.path.join(base_prefix, "bin", "python%d.%d" % version[:2])

# PyO3 links to a shared library in these cases, else to a static one.
shared = bool(get("Py_ENABLE_SHARED") or get("PYTHONFRAMEWORK")
              or os.path.exists(os.path.join(base_prefix, "conda-meta")))
library = "libpython%s.%s" % (get("LDVERSION") or "%d.%d" % version[:2],
                              "dylib" if sys.platform == "darwin" else "so")
folders = [get("LIBDIR") or "", os.path.join(get("LIBDIR") or "", get("MULTIARCH") or "")]
folders = [folder for folder in folders if os.path.exists(os.path.join(folder, library))]

print("implementation=" + platform.python_implementation())
print("version=%d.%d.%d" % version[:3])
print("executable=" + executable)
print("shared=%s" % shared)
print("library=" + library)
print("library_dir=" + (folders[0] if folders else ""))
print("free_threaded=%s" % bool(get("Py_GIL_DISABLED")))
# Debian takes ensurepip out, and with it what makes venv useful.
print("venv=%s" % (have("venv") and have("ensurepip")))
"#;

/// Reads the answer of the interpreter called `name`; an error says what is wrong with it, and the remedy.
fn judge(name: &str, answer: &str) -> std::result::Result<Python, String> {
    let answer: HashMap<_, _> = answer.lines().filter_map(|line| line.trim_end().split_once('=')).collect();
    let garbage = || format!("`{name}` does not answer as a Python does; {INSTALL}");
    let get = |key| answer.get(key).copied().ok_or_else(garbage);
    let implementation = get("implementation")?;
    let version = get("version")?;
    let executable = Path::new(get("executable")?);
    let shown = format!("{implementation} {version} at {}", executable.display());

    if implementation != "CPython" {
        return Err(format!("{shown} will not do: the bridge is for CPython; {INSTALL}"));
    }
    let (major, minor) = parse_version(version).ok_or_else(garbage)?;
    if (major, minor) < OLDEST {
        let (major, minor) = OLDEST;
        return Err(format!("{shown} is too old: Python {major}.{minor} or newer is needed; {INSTALL}"));
    }
    if get("shared")? != "True" {
        return Err(format!(
            "{shown} has no shared libpython, so no Rust program can embed it; take the system's (Debian: \
             `apt install python3 python3-venv libpython3-dev`), or build it again with `--enable-shared` (pyenv: \
             `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {version}`), or name another with --python"
        ));
    }
    let library_dir = get("library_dir")?;
    if library_dir.is_empty() {
        let library = get("library")?;
        return Err(format!(
            "{shown} comes without {library}, which the linker needs to embed it; install it (Debian: \
             `apt install libpython{major}.{minor}-dev`; Fedora: `dnf install python3-devel`), or name another Python \
             with --python"
        ));
    }
    let suffix = if get("free_threaded")? == "True" { "t" } else { "" };
    Ok(Python {
        executable: executable.to_owned(),
        version: version.to_owned(),
        tag: format!("{major}.{minor}{suffix}"),
        library_dir: library_dir.into(),
        has_venv: get("venv")? == "True",
    })
}

/// The first two numbers of a version.
fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use xshell::TempDir;

    use super::*;

    /// What a Python that will do answers, with some lines replaced.
    fn answer(changes: &[(&str, &str)]) -> String {
        let mut lines = [
            ("implementation", "CPython"),
            ("version", "3.12.1"),
            ("executable", "/usr/bin/python3.12"),
            ("shared", "True"),
            ("library", "libpython3.12.so"),
            ("library_dir", "/usr/lib"),
            ("free_threaded", "False"),
            ("venv", "True"),
        ];
        for (key, value) in changes {
            lines.iter_mut().find(|(name, _)| name == key).expect("a key of the answer").1 = value;
        }
        lines.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    fn refusal(changes: &[(&str, &str)]) -> String {
        judge("python3", &answer(changes)).unwrap_err()
    }

    /// A shell script that stands in for an interpreter.
    ///
    /// `cp` makes the file: if this process had it open for writing, a child forked meanwhile by another test would
    /// keep it so, and the script could not be run.
    fn fake(script: &str) -> (TempDir, PathBuf) {
        let shell = Shell::new().unwrap();
        let directory = shell.create_temp_dir().unwrap();
        shell.change_dir(directory.path());
        shell.write_file("text", format!("#!/bin/sh\n{script}\n")).unwrap();
        cmd!(shell, "chmod +x text").quiet().run().unwrap();
        cmd!(shell, "cp text python").quiet().run().unwrap();
        let path = directory.path().join("python");
        (directory, path)
    }

    fn find_fake(script: &str) -> Result<Python> {
        let (_directory, path) = fake(script);
        find(&Runner::new(PATIENCE), Some(path.as_os_str()))
    }

    fn print(answer: &str) -> String {
        format!("cat <<'END'\n{answer}END")
    }

    #[test]
    fn one_that_will_do() {
        let python = find_fake(&print(&answer(&[]))).unwrap();
        let expected = Python {
            executable: "/usr/bin/python3.12".into(),
            version: "3.12.1".to_owned(),
            tag: "3.12".to_owned(),
            library_dir: "/usr/lib".into(),
            has_venv: true,
        };
        assert_eq!(python, expected);
    }

    #[test]
    fn of_each_version_there_is_one_and_the_chosen_one_stays() {
        let python = |version: &str, free_threaded| {
            judge("python3", &answer(&[("version", version), ("free_threaded", free_threaded)])).unwrap()
        };
        let found = ["3.12.1", "3.9.9", "3.12.7", "3.10.2", "3.10.13"].map(|version| Python {
            version: version.to_owned(),
            tag: version.rsplit_once('.').unwrap().0.to_owned(),
            ..python("3.12.1", "False")
        });
        let mut found = found.to_vec();
        found.push(python("3.13.0", "True"));
        found.push(python("3.13.0", "False"));
        let kept = one_of_each(found);
        let kept: Vec<_> = kept.iter().map(|python| (&*python.tag, &*python.version)).collect();
        let expected =
            [("3.9", "3.9.9"), ("3.10", "3.10.13"), ("3.12", "3.12.1"), ("3.13t", "3.13.0"), ("3.13", "3.13.0")];
        assert_eq!(kept, expected);
    }

    #[test]
    fn of_each_version_that_will_not_do_one_is_named() {
        let found = [judge("python3", &answer(&[])).unwrap()];
        let refused = ["3.14", "3.12", "3.13t", "3.14"].map(|tag| (tag.to_owned(), "no".to_owned()));
        assert_eq!(passed_over(refused.to_vec(), &found), ["python 3.13t: no", "python 3.14: no"]);
    }

    #[test]
    fn the_folders_of_pyenv_have_the_names_of_versions() {
        for (folder, tag) in [
            ("3.12.1", Some("3.12")),
            ("3.13.0t", Some("3.13t")),
            ("3.14-dev", Some("3.14-dev")),
            ("3.9.18", None),
            ("2.7.18", None),
            ("pypy3.10-7.3", Some("pypy3.10-7.3")),
        ] {
            assert_eq!(tag_of_pyenv(folder).as_deref(), tag, "{folder}");
        }
    }

    #[test]
    fn lines_that_nobody_asked_for_are_passed_over() {
        let answer = format!("welcome\n\nwarning: x = y\n{}", answer(&[]));
        assert_eq!(judge("python3", &answer).unwrap().tag, "3.12");
    }

    #[test]
    fn a_free_threaded_one_has_builds_of_its_own() {
        let answer = answer(&[("version", "3.13.0"), ("free_threaded", "True")]);
        assert_eq!(judge("python3", &answer).unwrap().tag, "3.13t");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(judge("python3", &answer(&[("version", "3.10.0")])).is_ok());
        assert!(judge("python3", &answer(&[("version", "4.0.0")])).is_ok());
        for old in ["3.9.18", "3.1.0", "2.7.18"] {
            let message = refusal(&[("version", old)]);
            assert!(message.contains(&format!("CPython {old} at /usr/bin/python3.12 is too old")), "{message}");
            assert!(message.contains("3.10 or newer") && message.ends_with(INSTALL), "{message}");
        }
    }

    #[test]
    fn an_old_one_is_refused_with_the_remedy() {
        let stop = find_fake(&print(&answer(&[("version", "3.9.18")]))).unwrap_err();
        assert_eq!(stop.exit_code(), 1);
        let message = stop.to_string();
        assert!(message.contains("is too old") && message.contains("apt install"), "{message}");
    }

    #[test]
    fn pypy_is_refused() {
        let message = refusal(&[("implementation", "PyPy")]);
        assert!(message.starts_with("PyPy 3.12.1 at ") && message.contains("the bridge is for CPython"), "{message}");
    }

    #[test]
    fn a_static_one_is_refused() {
        let message = refusal(&[("shared", "False")]);
        assert!(message.contains("has no shared libpython"), "{message}");
        assert!(message.contains("pyenv install --force 3.12.1"), "{message}");
    }

    #[test]
    fn a_missing_library_is_named_with_its_package() {
        let message = refusal(&[("library_dir", "")]);
        assert!(message.contains("comes without libpython3.12.so"), "{message}");
        assert!(message.contains("apt install libpython3.12-dev"), "{message}");
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        for garbage in ["echo hello", "exit 0", "echo version=three", "echo implementation=CPython; echo version=x.y"] {
            let message = find_fake(garbage).unwrap_err().to_string();
            assert!(message.contains("does not answer as a Python does; install one"), "{garbage}: {message}");
        }
    }

    #[test]
    fn a_version_that_is_none_is_refused() {
        for version in ["3", "3.", "three.ten", ""] {
            assert!(refusal(&[("version", version)]).contains("does not answer as a Python does"), "{version}");
        }
    }

    #[test]
    fn one_that_fails_is_refused() {
        let message = find_fake("exit 1").unwrap_err().to_string();
        assert!(message.contains("does not work as a Python: exit code 1; install one"), "{message}");
    }

    #[test]
    fn one_that_is_not_there_is_refused() {
        let program = OsStr::new("xtask-has-no-such-python");
        let stop = find(&Runner::new(PATIENCE), Some(program)).unwrap_err();
        assert_eq!(stop.exit_code(), 1);
        let message = stop.to_string();
        assert!(message.starts_with("error: no Python: `xtask-has-no-such-python` cannot be run: "), "{message}");
        assert!(message.contains("--python"), "{message}");
    }
}
