//! Runs this test program again, as the program that a test is about.
//!
//! Each of these targets is two programs: without [`SUBJECT`] in its environment it drives its tests, with it it is one
//! of the subjects.

use std::{
    env,
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};

const SUBJECT: &str = "PYO3_AWAIT_SUBJECT";

/// No subject may take longer, hung ones included.
const LIMIT: Duration = Duration::from_secs(60);

/// A subject by its name: a function that `#[main]` has made.
pub(crate) type Subject = (&'static str, fn() -> ExitCode);

/// A test of the driver by its name.
pub(crate) type Case = (&'static str, fn());

/// Cases by the names of their functions.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        &[$((stringify!($case), $case)),*]
    };
}

/// The main function of either program.
pub(crate) fn main(subjects: &[Subject], cases: &[Case]) -> ExitCode {
    if let Some(name) = env::var_os(SUBJECT) {
        let (_, subject) = subjects.iter().find(|(subject, _)| name == *subject).expect("the driver names a subject");
        return subject();
    }
    let trials = cases.iter().map(|&(name, case)| {
        Trial::test(name, move || {
            case();
            Result::<(), Failed>::Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// The command for a subject, with what it writes piped.
pub(crate) fn subject(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the program knows its path"));
    command.env(SUBJECT, name).env_remove("PYO3_AWAIT_TEST_TIMEOUT").env_remove("RUST_TEST_THREADS");
    // Python is to buffer what it writes, as it does by itself.
    command.env_remove("PYTHONUNBUFFERED");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// As [`subject`], for one that is to be interrupted: SIGINT is not ignored, whoever runs this driver.
///
/// A shell has what it starts in the background ignore SIGINT, and so does all that this starts.
pub(crate) fn interruptible(name: &str) -> Command {
    const RESET: &str = "import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])";
    let subject = subject(name);
    let mut command = Command::new("python3");
    command.args(["-c", RESET]).arg(subject.get_program());
    for (name, value) in subject.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a process wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Panics with all that is known unless `condition` holds.
    #[track_caller]
    pub(crate) fn expect(&self, what: &str, condition: bool) -> &Self {
        assert!(condition, "{what}\nstatus: {}\nstdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn exits_with(&self, code: i32) -> &Self {
        self.expect(&format!("expected exit code {code}"), self.code() == Some(code))
    }

    #[track_caller]
    pub(crate) fn prints(&self, text: &str) -> &Self {
        self.expect(&format!("expected {text:?} on stdout"), self.stdout.contains(text))
    }

    #[track_caller]
    pub(crate) fn complains(&self, text: &str) -> &Self {
        self.expect(&format!("expected {text:?} on stderr"), self.stderr.contains(text))
    }
}

/// Runs a command to its end.
///
/// # Panics
///
/// When it takes too long.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Run {
    let mut child = command.spawn().expect("the subject starts");
    let guard = Guard::new(&child);
    let stdout = drain(child.stdout.take());
    finish(child, guard, stdout)
}

/// Kills a process that takes too long.
struct Guard {
    /// Dropped when the process has ended.
    ended: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Guard {
    fn new(child: &Child) -> Self {
        let (ended, waits) = mpsc::channel::<()>();
        let pid = child.id();
        let thread = thread::spawn(move || {
            let hung = waits.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if hung {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
            hung
        });
        Self { ended, thread }
    }

    /// Whether it was killed.
    fn stop(self) -> bool {
        drop(self.ended);
        self.thread.join().expect("the guard does not panic")
    }
}

/// Waits for a process whose output is read.
#[track_caller]
fn finish(mut child: Child, guard: Guard, stdout: thread::JoinHandle<String>) -> Run {
    let stderr = drain(child.stderr.take());
    let status = child.wait().expect("the subject can be waited for");
    let hung = guard.stop();
    let run = Run {
        status,
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    };
    run.expect("the subject took too long", !hung);
    run
}

/// Runs a command that is sent SIGINT when it has written a certain line, and then has a line to read, if it reads.
#[track_caller]
pub(crate) fn interrupted(command: &mut Command, cue: &str) -> Run {
    let mut child = command.spawn().expect("the subject starts");
    let guard = Guard::new(&child);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut written = String::new();
    while !written.ends_with(&format!("{cue}\n")) {
        let read = stdout.read_line(&mut written).expect("the subject writes text");
        assert!(read > 0, "the subject ended without its cue:\n{written}");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended.
        let _ = stdin.write_all(b"go on\n");
    }
    let rest = drain(Some(stdout));
    let mut run = finish(child, guard, rest);
    run.stdout = written + &run.stdout;
    run
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
