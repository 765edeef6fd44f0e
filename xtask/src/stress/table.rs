//! What came of many processes, as a table.

use std::fmt::Write as _;

use super::processes::Row;

/// How many of a situation's processes ended in which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) runs: usize,
    pub(super) signals: usize,
    pub(super) statuses: usize,
    pub(super) hangs: usize,
    pub(super) outputs: usize,
    /// How the first that failed ended, and what it printed.
    pub(super) example: Option<String>,
    /// The figures that the last run printed.
    pub(super) figures: String,
}

/// How a process failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A signal ended it.
    Signal,
    /// It ended with another status than it should.
    Status,
    /// It did not end in time.
    Hang,
    /// It printed something else than it should.
    Output,
}

impl Tally {
    pub(super) fn count(&mut self, failure: Option<Failure>) {
        self.runs += 1;
        match failure {
            None => {}
            Some(Failure::Signal) => self.signals += 1,
            Some(Failure::Status) => self.statuses += 1,
            Some(Failure::Hang) => self.hangs += 1,
            Some(Failure::Output) => self.outputs += 1,
        }
    }

    pub(super) fn failures(&self) -> usize {
        self.signals + self.statuses + self.hangs + self.outputs
    }
}

/// The table, the first failure of each situation, and a line that counts.
pub(super) fn of(title: &str, rows: &[Row]) -> String {
    const HEAD: &str = "  runs  signal  status  hang  output";
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default().max("situation".len());
    let has_control = rows.iter().any(|row| row.control.is_some());
    let of_control = if has_control { "; on the right the control, pyo3-async-runtimes" } else { "" };
    let mut text = format!("\n{title}{of_control}\n\n");
    let right = if has_control { HEAD.trim_start() } else { "" };
    put(&mut text, format_args!("{}\n", format!("{:width$}{HEAD} | {right}", "situation").trim_end()));
    let (mut sum, mut control) = (Tally::default(), Tally::default());
    for row in rows {
        put(&mut text, format_args!("{:width$}{}\n", row.name, cells(&row.ours, row.control.as_ref())));
        add(&mut sum, &row.ours);
        add(&mut control, row.control.as_ref().unwrap_or(&Tally::default()));
    }
    put(&mut text, format_args!("{:width$}{}\n", "all", cells(&sum, (control.runs > 0).then_some(&control))));
    for row in rows {
        for line in row.ours.figures.lines() {
            put(&mut text, format_args!("\n{}: {line}", row.name));
        }
        for line in row.control.iter().flat_map(|control| control.figures.lines()) {
            put(&mut text, format_args!("\n{}, the control: {line}", row.name));
        }
    }
    text.push('\n');
    for row in rows {
        if let Some(example) = &row.ours.example {
            put(&mut text, format_args!("failed: {}: {example}\n", row.name));
        }
    }
    if control.runs > 0 {
        put(&mut text, format_args!("control: {} of {} failed\n", control.failures(), control.runs));
    }
    put(&mut text, format_args!("{} passed, {} failed\n", sum.runs - sum.failures(), sum.failures()));
    text
}

fn cells(ours: &Tally, control: Option<&Tally>) -> String {
    let Tally { runs, signals, statuses, hangs, outputs, .. } = ours;
    let mut text = format!("{runs:6}  {signals:6}  {statuses:6}  {hangs:4}  {outputs:6} |");
    if let Some(Tally { runs, signals, statuses, hangs, outputs, .. }) = control {
        put(&mut text, format_args!(" {runs:4}  {signals:6}  {statuses:6}  {hangs:4}  {outputs:6}"));
    }
    text
}

fn add(sum: &mut Tally, tally: &Tally) {
    sum.runs += tally.runs;
    sum.signals += tally.signals;
    sum.statuses += tally.statuses;
    sum.hangs += tally.hangs;
    sum.outputs += tally.outputs;
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_control_nothing_is_said_of_it() {
        let rows = [Row { name: "pending".to_owned(), ours: Tally { runs: 3, ..Tally::default() }, control: None }];
        let expected = "
embedded

situation  runs  signal  status  hang  output |
pending       3       0       0     0       0 |
all           3       0       0     0       0 |

3 passed, 0 failed
";
        assert_eq!(of("embedded", &rows), expected);
    }

    #[test]
    fn every_kind_of_failure_has_its_column_and_the_counts_come_last() {
        let mut ours = Tally { figures: "descriptors 5 -> 5".to_owned(), ..Tally::default() };
        let mut control = Tally::default();
        for failure in [None, Some(Failure::Signal), Some(Failure::Hang), Some(Failure::Hang)] {
            ours.count(failure);
            control.count(failure.map(|_| Failure::Output));
        }
        ours.example = Some("ended by signal 11\nend".to_owned());
        let rows = [
            Row { name: "pending".to_owned(), ours, control: Some(control) },
            Row { name: "block_on".to_owned(), ours: Tally { runs: 3, ..Tally::default() }, control: None },
        ];
        let expected = "
exit; on the right the control, pyo3-async-runtimes

situation  runs  signal  status  hang  output | runs  signal  status  hang  output
pending       4       1       0     2       0 |    4       0       0     0       3
block_on      3       0       0     0       0 |
all           7       1       0     2       0 |    4       0       0     0       3

pending: descriptors 5 -> 5
failed: pending: ended by signal 11
end
control: 3 of 4 failed
4 passed, 3 failed
";
        assert_eq!(of("exit", &rows), expected);
    }
}
