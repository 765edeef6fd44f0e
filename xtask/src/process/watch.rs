//! Follows one child from its start until nothing of it is left to wait for.

use std::{
    io::{self, Write as _},
    mem,
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Ending, Finished, Output, Runner, group};

/// What happens while a child runs.
#[derive(Debug)]
pub(super) enum Event {
    /// It, or what it started, has printed this.
    Output(Vec<u8>),
    /// No more output can come from one of its streams.
    Closed,
    Exited(io::Result<ExitStatus>),
    /// This signal came, and the child is to end.
    Signal(i32),
}

/// One child that runs.
pub(super) struct Watch<'a> {
    runner: &'a Runner,
    group: Pid,
    output: Output,
    kept: Vec<u8>,
    status: Option<io::Result<ExitStatus>>,
    /// How many of the child's streams that are read it, or what inherited them, has not closed.
    open: usize,
    deadline: Instant,
    stage: Stage,
    timed_out: bool,
    /// What the child had started did not end with it, nor soon after.
    left: bool,
}

/// How often those that a child has left behind are looked for.
const TICK: Duration = Duration::from_millis(10);

/// What was done to make the process group end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Left,
    Asked,
    Killed,
}

impl<'a> Watch<'a> {
    pub(super) fn new(runner: &'a Runner, mut child: Child, events: Sender<Event>, output: Output) -> Self {
        let group = Pid::from_child(&child);
        let mut open = 0;
        let mut read = |stream: Option<Box<dyn io::Read + Send>>| {
            let Some(stream) = stream else { return };
            let events = events.clone();
            thread::spawn(move || forward(stream, &events));
            open += 1;
        };
        read(child.stdout.take().map(|stdout| Box::new(stdout) as _));
        read(child.stderr.take().map(|stderr| Box::new(stderr) as _));
        thread::spawn(move || events.send(Event::Exited(child.wait())));
        Self {
            runner,
            group,
            output,
            kept: Vec::new(),
            status: None,
            open,
            deadline: Instant::now() + runner.timeout,
            stage: Stage::Left,
            timed_out: false,
            left: false,
        }
    }

    pub(super) fn follow(mut self, events: &Receiver<Event>) -> Finished {
        while self.status.is_none() || self.open > 0 {
            match next(events, self.deadline) {
                Ok(Event::Output(bytes)) => self.keep(&bytes),
                Ok(Event::Closed) => self.open = self.open.saturating_sub(1),
                Ok(Event::Exited(status)) => {
                    self.status = Some(status);
                    // What the child started may still hold its standard output, but not for ever.
                    self.deadline = self.deadline.min(Instant::now() + self.runner.grace);
                }
                Ok(Event::Signal(signal)) => self.end(Signal::from_named_raw(signal).unwrap_or(Signal::TERM)),
                Err(RecvTimeoutError::Timeout) if self.stage == Stage::Killed => break,
                Err(RecvTimeoutError::Timeout) if self.status.is_some() => self.end_those_left(),
                Err(RecvTimeoutError::Timeout) => {
                    self.timed_out = true;
                    // As Ctrl-C does it: pytest then says what has failed until now.
                    self.end(Signal::INT);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What holds none of the child's streams may be about to end as well.
        while self.stage == Stage::Left && group::runs(self.group) {
            match next(events, self.deadline.min(Instant::now() + TICK)) {
                Ok(Event::Signal(_)) => self.kill(),
                Err(_) if Instant::now() >= self.deadline => self.end_those_left(),
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
                _ => {}
            }
        }
        if self.stage != Stage::Left {
            // The child has ended, as it was asked to; what it started may have not.
            self.kill();
        }
        self.finish()
    }

    /// Kills what the child has left behind.
    fn end_those_left(&mut self) {
        self.left |= self.stage == Stage::Left;
        self.kill();
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.output == Output::Tee {
            // That nobody reads our output any more is no reason to leave the work undone.
            let mut stdout = io::stdout().lock();
            drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
        }
        self.kept.extend_from_slice(bytes);
    }

    /// Asks the group to end with `signal`; kills it if it was asked before.
    fn end(&mut self, signal: Signal) {
        match mem::replace(&mut self.stage, Stage::Asked) {
            Stage::Left => self.send(signal),
            Stage::Asked | Stage::Killed => self.kill(),
        }
    }

    fn kill(&mut self) {
        self.stage = Stage::Killed;
        self.send(Signal::KILL);
    }

    fn send(&mut self, signal: Signal) {
        // That the group has no member left is what was wanted.
        let _ = kill_process_group(self.group, signal);
        self.deadline = Instant::now() + self.runner.grace;
    }

    fn finish(self) -> Finished {
        let ending = match self.status {
            Some(Ok(status)) if self.left && status.success() => Ending::Left,
            Some(Ok(status)) if !self.timed_out => Ending::Status(status),
            Some(Err(error)) if !self.timed_out => Ending::Error(error),
            _ => Ending::TimedOut(self.runner.timeout),
        };
        Finished { ending, output: String::from_utf8_lossy(&self.kept).into_owned() }
    }
}

/// The next event, but none once `deadline` has passed: a child that never stops printing has a limit too.
fn next(events: &Receiver<Event>, deadline: Instant) -> Result<Event, RecvTimeoutError> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) => events.recv_timeout(left),
        None => Err(RecvTimeoutError::Timeout),
    }
}

/// Passes a child's output on as it comes, in whatever pieces, so that a line that grows is seen to grow.
fn forward(mut stream: impl io::Read, events: &Sender<Event>) {
    let mut buffer = [0; 8192];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => drop(events.send(Event::Output(buffer[..read].to_vec()))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    drop(events.send(Event::Closed));
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn a_child_that_never_stops_printing_comes_to_its_limit() {
        let (sender, events) = mpsc::channel();
        sender.send(Event::Closed).unwrap();
        let now = Instant::now();
        assert!(matches!(next(&events, now - Duration::from_millis(1)), Err(RecvTimeoutError::Timeout)));
        assert!(matches!(next(&events, now + Duration::from_secs(60)), Ok(Event::Closed)));
    }
}
