//! Where things are: the checkout, the build folders, and the environment of what runs in them.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use xshell::Shell;

use crate::{
    error::{Result, Stop},
    python::Python,
};

/// What the dynamic loader reads.
const LOADER_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// The checkout, and where its builds go.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's own build folder, in which each Python has its own.
    target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        // As cargo sets it now, not as it was at build time: checkouts that share a build folder share this program.
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let Some(root) = package.as_deref().and_then(Path::parent) else {
            return Err(Stop::Failed("cannot tell which checkout this is for; run it as `cargo xtask`".to_owned()));
        };
        let root = root.to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
            Some(folder) => env::current_dir()
                .map_err(|error| Stop::Failed(format!("cannot find the current folder: {error}")))?
                .join(folder),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    pub(crate) fn venv(&self, python: &Python, prefix: &str) -> PathBuf {
        self.target.join(format!("{prefix}-{}", python.tag))
    }

    /// The build folder of all that embeds or is checked against `python`.
    ///
    /// PyO3 is built for one interpreter, and built anew when `PYO3_PYTHON` changes.
    /// With a folder for each Python, going from one to another, or to a plain `cargo build`, builds nothing twice.
    pub(crate) fn build(&self, python: &Python) -> PathBuf {
        self.target.join(format!("py{}", python.tag))
    }

    /// A shell at the root of the checkout, in which cargo builds for `python` and what it builds runs.
    pub(crate) fn shell(&self, python: &Python) -> Result<Shell> {
        let shell = Shell::new()?;
        shell.change_dir(&self.root);
        shell.set_var("CARGO_TARGET_DIR", self.build(python));
        // The base interpreter, though a venv has one too: its path stays the same when the venv is made anew, and
        // the library that it names is the same.
        shell.set_var("PYO3_PYTHON", &python.executable);
        // Doc tests have no rpath, unlike binaries that are linked with PyO3's build script.
        shell.set_var(LOADER_PATH, prepend(&python.library_dir, LOADER_PATH)?);
        Ok(shell)
    }

    /// The same with the venv at `venv` active: an embedded interpreter takes the venv that comes first on `PATH`.
    pub(crate) fn shell_in(&self, python: &Python, venv: &Path) -> Result<Shell> {
        let shell = self.shell(python)?;
        shell.set_var("PATH", prepend(&venv.join("bin"), "PATH")?);
        shell.set_var("VIRTUAL_ENV", venv);
        Ok(shell)
    }

    /// The same for maturin, whose builds have a folder of their own.
    ///
    /// It sets `PYO3_BUILD_EXTENSION_MODULE`, so that PyO3 is built without libpython; in one folder with the programs
    /// that embed Python, each build would undo the other.
    pub(crate) fn shell_for_maturin(&self, python: &Python, venv: &Path) -> Result<Shell> {
        let shell = self.shell_in(python, venv)?;
        shell.set_var("CARGO_TARGET_DIR", self.build(python).join("extension-module"));
        Ok(shell)
    }

    /// The same for tests with a sanitizer in them, which share nothing with other builds.
    pub(crate) fn shell_for_sanitizer(&self, python: &Python, venv: &Path, name: &str) -> Result<Shell> {
        let shell = self.shell_in(python, venv)?;
        shell.set_var("CARGO_TARGET_DIR", self.build(python).join(name));
        Ok(shell)
    }

    /// `path`, relative to the root of the checkout, where it must be.
    pub(crate) fn existing<'a>(&self, path: &'a str) -> Result<&'a str> {
        if self.root.join(path).exists() {
            Ok(path)
        } else {
            Err(Stop::Failed(format!("{path} is missing from this checkout")))
        }
    }
}

/// The list of folders in the variable `name`, with `folder` before all others.
fn prepend(folder: &Path, name: &str) -> Result<OsString> {
    let rest = env::var_os(name).filter(|list| !list.is_empty());
    let folders = [folder.to_owned()].into_iter().chain(rest.iter().flat_map(env::split_paths));
    env::join_paths(folders)
        .map_err(|error| Stop::Failed(format!("cannot put {} in {name}: {error}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_first_and_the_rest_stays() {
        let list = prepend(Path::new("/first"), "PATH").unwrap();
        let folders: Vec<_> = env::split_paths(&list).collect();
        let before: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap()).collect();
        assert_eq!(folders[0], Path::new("/first"));
        assert_eq!(folders[1..], before);
    }

    #[test]
    fn a_list_that_is_not_set_gets_no_empty_folder() {
        // The loader takes an empty folder for the current one.
        assert_eq!(prepend(Path::new("/only"), "XTASK_NO_SUCH_LIST").unwrap(), "/only");
    }

    #[test]
    fn a_folder_that_no_list_can_hold_is_refused() {
        let message = prepend(Path::new("/a:b"), "PATH").unwrap_err().to_string();
        assert!(message.contains("/a:b"), "{message}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let workspace = Workspace::find().unwrap();
        assert_eq!(workspace.existing("xtask/Cargo.toml"), Ok("xtask/Cargo.toml"));
        assert_eq!(
            workspace.existing("no/such").unwrap_err().to_string(),
            "error: no/such is missing from this checkout"
        );
    }
}
