//! A crate of its own, as users have it: outside of this workspace, under `cargo test` and other runners.
//!
//! It is built from nothing but this repository and what cargo has fetched for it.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

const MANIFEST: &str = r#"
[package]
name = "outside"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
pyo3 = { version = "0.30", default-features = false, features = ["macros"] }
tokio = { version = "1", features = ["time"] }
pyo3-await-tokio = { path = "TOKIO", features = ["testing"] }

[build-dependencies]
pyo3-build-config = { version = "0.30", features = ["resolve-config"] }

[profile.release]
lto = true

[[test]]
name = "test_example"
path = "pytests/test_example.rs"
harness = false

[[test]]
name = "ours"
path = "pytests/ours.rs"
harness = false

[[test]]
name = "rusts"
path = "pytests/rusts.rs"

[[test]]
name = "misplaced"
path = "pytests/misplaced.rs"

[[test]]
name = "wrong_outputs"
path = "pytests/wrong_outputs.rs"
harness = false
"#;

const BUILD: &str = "fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
";

/// What users of the older bridge have, with the names changed.
const EXAMPLE: &str = r"
#![forbid(unsafe_code)]

mod tests {
    use std::{thread, time::Duration};

    use pyo3::prelude::*;

    // tests can be async
    #[pyo3_await_tokio::test]
    async fn test_async_sleep() -> PyResult<()> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(())
    }

    // they can also be synchronous
    #[pyo3_await_tokio::test]
    fn test_blocking_sleep() -> PyResult<()> {
        thread::sleep(Duration::from_millis(10));
        Ok(())
    }
}

#[pyo3_await_tokio::main]
async fn main() -> pyo3::PyResult<()> {
    pyo3_await_tokio::testing::main().await
}
";

/// One test of each outcome, to be counted by either harness.
const OUTCOMES: &str = r#"
#[TEST]
fn passes() {}

#[TEST]
fn passes_too() -> Result<(), String> {
    Ok(())
}

#[TEST]
fn passes_as_well() {}

#[TEST]
fn panics() {
    panic!("it panics");
}

#[TEST]
fn fails() -> Result<(), String> {
    Err("it fails".to_owned())
}

#[TEST]
#[ignore = "for a reason"]
fn is_ignored() {}

#[TEST]
#[should_panic(expected = "as expected")]
fn panics_as_expected() {
    panic!("it panics as expected");
}
"#;

/// Rust's harness knows no timeouts, so that it has a failure in this one's place.
const HANGS_FOR_US: &str = r#"
#[pyo3_await_tokio::test(timeout = "200ms")]
async fn hangs() {
    std::future::pending().await
}

#[pyo3_await_tokio::main]
async fn main() -> pyo3::PyResult<()> {
    pyo3_await_tokio::testing::main().await
}
"#;

const HANGS_FOR_RUST: &str = r#"
#[test]
fn hangs() {
    panic!("it would");
}
"#;

const WRONG_OUTPUTS: &str = "
#[pyo3_await_tokio::test]
async fn counts() -> usize {
    0
}

#[pyo3_await_tokio::test]
fn compares() -> bool {
    true
}

#[pyo3_await_tokio::main]
async fn main() -> u8 {
    0
}
";

/// The crate, written once.
static OUTSIDE: LazyLock<PathBuf> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = here.parent().expect("this crate is among the workspace's");
    // Outside of the workspace, and the same in each run, so that it is not built anew.
    let mut hasher = DefaultHasher::new();
    here.hash(&mut hasher);
    let folder = env::temp_dir().join(format!("pyo3-await-outside-{:x}", hasher.finish()));
    let misplaced = EXAMPLE.split("#[pyo3_await_tokio::main]").next().expect("split gives one part at least");
    let ours = OUTCOMES.replace("TEST", "pyo3_await_tokio::test") + HANGS_FOR_US;
    let rusts = OUTCOMES.replace("TEST", "test") + HANGS_FOR_RUST;
    let manifest = MANIFEST.replace("TOKIO", &crates.join("tokio").display().to_string());
    for (name, text) in [
        ("Cargo.toml", &*manifest),
        ("build.rs", BUILD),
        ("src/lib.rs", ""),
        ("pytests/test_example.rs", EXAMPLE),
        ("pytests/misplaced.rs", misplaced),
        ("pytests/ours.rs", &ours),
        ("pytests/rusts.rs", &rusts),
        ("pytests/wrong_outputs.rs", WRONG_OUTPUTS),
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder can be made");
        // A test in another process may be reading it.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::write(path, text).expect("the file can be written");
    }
    // The versions that the workspace was built with are there already.
    let lock = crates.parent().expect("the crates are in the workspace").join("Cargo.lock");
    let copy = folder.join(format!("Cargo.lock.{}", process::id()));
    fs::copy(lock, &copy).expect("the workspace has a lock file");
    fs::rename(copy, folder.join("Cargo.lock")).expect("a file of the same folder takes its place");
    folder
});

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&*OUTSIDE).args(arguments).arg("--offline");
    // It stays between runs, so that only the first one builds everything.
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside"));
    command.env("CARGO_TERM_COLOR", "never").env_remove("PYO3_AWAIT_TEST_TIMEOUT");
    command
}

/// Runs `cargo test` with the given options, and the given arguments for the test program.
fn cargo_test(options: &[&str], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cargo(&[&["test"], options].concat());
    text(command.arg("--").args(arguments))
}

/// More than it takes to build all of it, optimized, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs a command: the exit code and all that was written.
fn text(command: &mut Command) -> (Option<i32>, String) {
    let (ended, waits) = mpsc::channel::<()>();
    thread::spawn(move || {
        if waits.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("cargo has not ended after {LIMIT:?}");
            process::abort();
        }
    });
    let output = command.output().expect("cargo runs");
    drop(ended);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn expect((code, text): &(Option<i32>, String), expected_code: i32, parts: &[&str]) {
    assert_eq!(*code, Some(expected_code), "{text}");
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in\n{text}");
    }
}

fn the_example(profile: &[&str]) {
    let options = [profile, &["--test", "test_example"]].concat();
    expect(
        &cargo_test(&options, &[]),
        0,
        &[
            "running 2 tests\n",
            "test tests::test_async_sleep    ... ok",
            "test tests::test_blocking_sleep ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out;",
        ],
    );
    expect(
        &cargo_test(&options, &["--list"]),
        0,
        &["tests::test_async_sleep: test\ntests::test_blocking_sleep: test\n"],
    );
    expect(&cargo_test(&options, &["blocking"]), 0, &["1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out;"]);
}

/// What both harnesses count is the same, and so is the exit code.
fn the_outcomes(profile: &[&str]) {
    let run = |target| cargo_test(&[profile, &["--test", target]].concat(), &[]);
    let (ours, rusts) = (run("ours"), run("rusts"));
    let counts = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("test result: ")).map(str::to_owned);
        line.and_then(|line| line.split_once("; finished").map(|(counts, _)| counts.to_owned()))
    };
    assert_eq!(counts(&ours.1), counts(&rusts.1), "{}\n{}", ours.1, rusts.1);
    expect(&ours, 101, &["4 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out"]);
    expect(&rusts, 101, &[]);
}

#[test]
fn in_debug() {
    the_example(&[]);
    the_outcomes(&[]);
}

#[test]
fn in_release_with_link_time_optimization() {
    the_example(&["--release"]);
    the_outcomes(&["--release"]);
}

/// Rust's harness would run nothing, and call that a success.
#[test]
fn under_rusts_own_harness() {
    expect(
        &cargo_test(&["--test", "misplaced"], &[]),
        101,
        &[
            "test tests::test_async_sleep_needs_harness_false ... FAILED",
            "the test 'test_async_sleep' does not run under Rust's own harness",
            "harness = false",
        ],
    );
}

#[test]
fn under_nextest() {
    let (code, version) = text(&mut cargo(&["nextest", "--version"]));
    assert_eq!(
        code,
        Some(0),
        "{version}\nthis test needs cargo-nextest: `cargo install cargo-nextest --locked` installs it, and \
         `-- --skip under_nextest` does without"
    );
    let run = |target| text(&mut cargo(&["nextest", "run", "--no-fail-fast", "--test", target]));
    expect(&run("test_example"), 0, &["2 tests run: 2 passed, 0 skipped"]);
    expect(&run("ours"), 100, &["7 tests run: 4 passed, 3 failed, 1 skipped", "timed out after 200ms"]);
}

/// The compiler shows where it is written, and what could be instead.
#[test]
fn outputs_that_are_not_accepted() {
    let output = text(&mut cargo(&["check", "--test", "wrong_outputs"]));
    for (kind, place) in [("usize", "3:22"), ("bool", "8:18"), ("u8", "13:20")] {
        expect(
            &output,
            101,
            &[
                &format!("`{kind}` is not what `#[main]` and `#[test]` can make a result of"),
                &format!("pytests/wrong_outputs.rs:{place}"),
                "expected `()`, `PyResult<()>` or `Result<(), E>` with `E: Debug + 'static`",
            ],
        );
    }
}
