//! What a command tells: progress as it goes, and at the end a table and one line that counts.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use crate::{counts::Counts, error::Result};

/// Shows a line at once, on standard error, as cargo does.
pub(crate) fn progress(line: &str) {
    // That nobody reads it is no reason to stop.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Shows a result, on standard output.
pub(crate) fn print(text: &str) {
    drop(io::stdout().lock().write_all(text.as_bytes()));
}

/// What came of one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// What else is wrong than the failures that the step itself has shown.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    /// A step that is one check: it passed if there is nothing to complain of.
    pub(crate) fn of(complaints: Vec<String>) -> Self {
        let failed = usize::from(!complaints.is_empty());
        Self { counts: Counts { passed: 1 - failed, failed, ignored: 0 }, complaints }
    }
}

/// The steps of a command, each of which runs whatever came of those before.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<(String, Outcome, Duration)>,
    /// What was not tried, and why.
    skipped: Vec<String>,
    /// Why not all steps were come to.
    stopped: Option<String>,
}

/// Runs the steps of a command and prints what came of them, whether all was well or not, or an error came between.
pub(crate) fn gather(steps: impl FnOnce(&mut Report) -> Result<()>) -> Result<bool> {
    let (report, ended) = Report::of(steps);
    if ended.is_ok() || !report.steps.is_empty() {
        print(&report.summary());
    }
    ended.map(|()| report.counts().failed == 0)
}

impl Report {
    fn of(steps: impl FnOnce(&mut Self) -> Result<()>) -> (Self, Result<()>) {
        let mut report = Self::default();
        let ended = steps(&mut report);
        report.stopped = ended.as_ref().err().map(ToString::to_string);
        (report, ended)
    }

    /// Runs a step and notes what came of it.
    ///
    /// # Errors
    ///
    /// What `step` returns as an error, which ends the whole command.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        progress(&format!("\n==> {name}"));
        let started = Instant::now();
        let outcome = step()?;
        self.steps.push((name.to_owned(), outcome, started.elapsed()));
        Ok(())
    }

    /// Notes a step that could not be begun.
    pub(crate) fn fail(&mut self, name: &str, complaint: String) {
        progress(&format!("{name}: {complaint}"));
        self.steps.push((name.to_owned(), Outcome::of(vec![complaint]), Duration::ZERO));
    }

    /// Notes what is not tried, once.
    pub(crate) fn skip(&mut self, what: String) {
        if !self.skipped.contains(&what) {
            progress(&format!("skipped: {what}"));
            self.skipped.push(what);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for (_, outcome, _) in &self.steps {
            sum += outcome.counts;
        }
        sum
    }

    fn summary(&self) -> String {
        let width = self.steps.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
        let mut text = format!("\n{:width$}  passed  failed  ignored  seconds\n", "");
        for (name, Outcome { counts, .. }, elapsed) in &self.steps {
            let Counts { passed, failed, ignored } = counts;
            let seconds = elapsed.as_secs_f64();
            put(&mut text, format_args!("{name:width$}  {passed:6}  {failed:6}  {ignored:7}  {seconds:7.1}\n"));
        }
        text.push('\n');
        for (name, outcome, _) in self.steps.iter().filter(|(_, outcome, _)| outcome.counts.failed > 0) {
            if outcome.complaints.is_empty() {
                put(&mut text, format_args!("failed: {name}\n"));
            }
            for complaint in &outcome.complaints {
                put(&mut text, format_args!("failed: {name}: {complaint}\n"));
            }
        }
        for what in &self.skipped {
            put(&mut text, format_args!("skipped: {what}\n"));
        }
        if let Some(stopped) = &self.stopped {
            put(&mut text, format_args!("not finished: {stopped}\n"));
        }
        let Counts { passed, failed, ignored } = self.counts();
        put(&mut text, format_args!("{passed} passed, {failed} failed"));
        if ignored > 0 {
            put(&mut text, format_args!(", {ignored} skipped"));
        }
        if self.stopped.is_some() {
            text.push_str(", not finished");
        }
        text.push('\n');
        text
    }
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stop;

    fn outcome(passed: usize, failed: usize, ignored: usize, complaints: &[&str]) -> Outcome {
        let complaints = complaints.iter().map(|&complaint| complaint.to_owned()).collect();
        Outcome { counts: Counts { passed, failed, ignored }, complaints }
    }

    fn report(steps: Vec<(&'static str, Outcome)>) -> Report {
        let steps =
            steps.into_iter().map(|(name, outcome)| (name.to_owned(), outcome, Duration::from_millis(1250))).collect();
        Report { steps, ..Report::default() }
    }

    #[test]
    fn all_passed() {
        let report = report(vec![("unit tests", outcome(12, 0, 0, &[])), ("doc", outcome(3, 0, 0, &[]))]);
        let expected = "
            passed  failed  ignored  seconds
unit tests      12       0        0      1.2
doc              3       0        0      1.2

15 passed, 0 failed
";
        assert_eq!(report.summary(), expected);
    }

    #[test]
    fn every_failure_is_named_and_the_counts_come_last() {
        let report = report(vec![
            ("a", outcome(1, 2, 0, &[])),
            ("b", outcome(0, 1, 0, &["exit code 101", "ran no test"])),
            ("c", outcome(1, 0, 4, &[])),
        ]);
        let summary = report.summary();
        let tail = "\n\nfailed: a\nfailed: b: exit code 101\nfailed: b: ran no test\n2 passed, 3 failed, 4 skipped\n";
        assert!(summary.ends_with(tail), "{summary}");
    }

    #[test]
    fn what_was_skipped_is_named_before_the_counts() {
        let mut report = report(vec![("a", outcome(1, 0, 0, &[]))]);
        for _ in 0..2 {
            report.skip("python 3.14: too new".to_owned());
        }
        assert!(report.summary().ends_with("\n\nskipped: python 3.14: too new\n1 passed, 0 failed\n"));
    }

    #[test]
    fn what_cuts_it_short_is_named_after_what_was_done() {
        let (report, ended) = Report::of(|report| {
            report.step("a", || Ok(Outcome::of(vec![])))?;
            report.fail("b", "no".to_owned());
            report.step("c", || Err(Stop::Signal(2)))
        });
        assert_eq!(ended, Err(Stop::Signal(2)));
        let summary = report.summary();
        let tail = "failed: b: no\nnot finished: interrupted\n1 passed, 1 failed, not finished\n";
        assert!(summary.ends_with(tail), "{summary}");
    }

    #[test]
    fn a_step_that_fails_does_not_keep_the_next_from_running() {
        let mut report = Report::default();
        report.step("first", || Ok(Outcome::of(vec!["no".to_owned()]))).unwrap();
        report.step("second", || Ok(Outcome::of(Vec::new()))).unwrap();
        assert_eq!(report.counts(), Counts { passed: 1, failed: 1, ignored: 0 });
    }
}
