//! `.ci/run`, with a program in cargo's place.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// Far beyond what any of these take.
const LONG: Duration = Duration::from_secs(60);

/// Notes what it is called with, and the signal by which it ends.
const ENDLESS: &str = r#"
echo "$*" >> calls
for signal in HUP INT TERM; do
    trap "echo $signal >> calls; exit 1" $signal
done
: > started
while :; do sleep 0.1; done
"#;

/// A shell that was started in the background has what it starts ignore SIGINT.
const RESET: &str = "import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp('bash', ['bash', *sys.argv[1:]])";

/// A checkout with the script, and a folder with a cargo in it.
fn checkout(name: &str, cargo: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    for folder in [".ci", "bin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join(".ci/run"), include_str!("../../.ci/run")).unwrap();
    fs::write(root.join("text"), format!("#!/usr/bin/env bash\n{cargo}")).unwrap();
    // What this process has had open for writing may still be so in a child of another test, and cannot be run.
    succeed(Command::new("chmod").arg("+x").arg(root.join("text")));
    succeed(Command::new("cp").arg(root.join("text")).arg(root.join("bin/cargo")));
    root
}

fn start(root: &Path) -> Child {
    command(root, &root.join(".ci/run")).spawn().unwrap()
}

fn command(root: &Path, script: &Path) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([root.join("bin")].into_iter().chain(env::split_paths(&path))).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", RESET]).arg(script).env("PATH", path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command
}

fn ended(mut child: Child) -> Receiver<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait().unwrap()));
    receiver
}

fn succeed(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn calls(root: &Path) -> String {
    fs::read_to_string(root.join("calls")).unwrap()
}

#[test]
fn both_commands_run_and_the_failure_of_either_is_one() {
    for (cargo, code) in [
        ("echo \"$*\" >> calls", 0),
        ("echo \"$*\" >> calls; [[ $2 == test ]]", 1),
        ("echo \"$*\" >> calls; [[ $2 == check ]]", 1),
    ] {
        let root = checkout("both", cargo);
        let status = ended(start(&root)).recv_timeout(LONG).expect("it ends");
        assert_eq!((status.code(), &*calls(&root)), (Some(code), "xtask check\nxtask test\n"), "{cargo}");
    }
}

#[test]
fn the_checkout_is_that_of_the_script() {
    let root = checkout("here", "echo \"$*\" >> calls");
    fs::create_dir_all(root.join("elsewhere/.ci")).unwrap();
    let mut command = command(&root, Path::new(".ci/run"));
    let script = command.current_dir(&root).env("CDPATH", root.join("elsewhere")).spawn().unwrap();
    assert_eq!(ended(script).recv_timeout(LONG).expect("it ends").code(), Some(0));
    assert_eq!(calls(&root), "xtask check\nxtask test\n");
}

/// The script alone gets it, as from a service that ends what it has started.
#[test]
fn a_signal_ends_the_command_that_runs_and_there_is_no_other() {
    for (signal, number) in [("HUP", 1), ("INT", 2), ("TERM", 15)] {
        let root = checkout(signal, ENDLESS);
        // Opening a named pipe waits for whoever opens its other end.
        let pipe = root.join("started");
        succeed(Command::new("mkfifo").arg(&pipe));
        let script = start(&root);
        let id = script.id().to_string();
        let (sender, started) = mpsc::channel();
        thread::spawn(move || sender.send(fs::read(pipe)));
        started.recv_timeout(LONG).expect("the first command starts").unwrap();
        succeed(Command::new("kill").args([&format!("-{signal}"), &id]));
        let status = ended(script).recv_timeout(LONG).expect("it ends");
        assert_eq!(status.code(), Some(128 + number), "{signal}");
        assert_eq!(calls(&root), format!("xtask check\n{signal}\n"));
    }
}
