//! The figures, for a terminal.

use std::fmt::Write as _;

use super::{
    goals::Judged,
    record::{Record, Run, Unit},
};

/// With more than this load, others are in every turn: a ratio holds when the speed drifts, not when all is
/// interrupted.
const BUSY: f64 = 1.0;

/// A table of each workload.
pub(super) fn of(run: &Run) -> String {
    let Run { python, abi3, event_loop, cores, load, records } = run;
    let stable = if *abi3 { ", stable ABI" } else { "" };
    let mut text = format!("\nPython {python}{stable}, {event_loop}, cores: {cores}\n");
    if let Some(load) = load.filter(|load| *load > BUSY) {
        put(&mut text, format_args!("the machine had other work (load average {load:.1}): look at the spread\n"));
    }
    let width = records.iter().map(|record| record.candidate.len()).max().unwrap_or_default();
    for workload in in_order(records.iter().map(|record| record.workload.as_str())) {
        let of_workload: Vec<_> = records.iter().filter(|record| record.workload == workload).collect();
        put(&mut text, format_args!("\n{workload}  {}\n", of_workload[0].title));
        if of_workload.iter().any(|record| record.size.is_some()) {
            by_size(&mut text, width, &of_workload);
        } else {
            by_contender(&mut text, width, &of_workload);
        }
    }
    text
}

/// The median, how far the samples are apart, and how it compares.
fn by_contender(text: &mut String, width: usize, records: &[&Record]) {
    let find = |name| records.iter().copied().find(|record| record.candidate == name);
    let (peer, python) = (find("peer"), find("python"));
    put(text, format_args!("  {:width$}  {:>11}  spread  peer is  python is\n", "", "median"));
    for record in records {
        let against = |other: Option<&Record>| {
            let other = other.filter(|other| other.candidate != record.candidate);
            other.map_or_else(|| "-".to_owned(), |other| times(record.ratio(other)))
        };
        let (median, spread) = (amount(record.median(), record.unit), 100.0 * record.quartiles().spread());
        put(
            text,
            format_args!(
                "  {:width$}  {median:>11}  {spread:>5.0}%  {:>7}  {:>9}\n",
                record.candidate,
                against(peer),
                against(python),
            ),
        );
    }
}

/// The same for each size of each contender, beside its own cost at the smallest.
fn by_size(text: &mut String, width: usize, records: &[&Record]) {
    put(text, format_args!("  {:width$}  {:>9}  {:>11}  spread  of the smallest\n", "", "size", "median"));
    for candidate in in_order(records.iter().map(|record| record.candidate.as_str())) {
        let mut sizes: Vec<_> = records.iter().filter(|record| record.candidate == candidate).collect();
        sizes.sort_by_key(|record| record.size);
        for record in &sizes {
            let (median, spread) = (amount(record.median(), record.unit), 100.0 * record.quartiles().spread());
            let ratio = times(record.cost_of(sizes[0]).median);
            let size = record.size.unwrap_or_default();
            put(text, format_args!("  {candidate:width$}  {size:>9}  {median:>11}  {spread:>5.0}%  {ratio:>15}\n"));
        }
    }
}

/// The goals, and how near the run has come to them.
pub(super) fn of_goals(judged: &[Judged]) -> String {
    if judged.is_empty() {
        return String::new();
    }
    let mut rows = vec![["goals", "", "at most", "measured", "middle half", ""].map(str::to_owned)];
    rows.extend(judged.iter().map(|one| {
        let bar = match &one.of {
            Some(of) => format!("{} of {of}", part(one.bar)),
            None if one.unit == Unit::PerSecond => format!("at least {}", amount(one.bar, one.unit)),
            None => amount(one.bar, one.unit),
        };
        let show = |value| if one.of.is_some() { part(value) } else { amount(value, one.unit) };
        let half = format!("{} to {}", show(one.measured.first), show(one.measured.third));
        let verdict = if one.reached { "reached" } else { "not reached" };
        [one.workload.clone(), one.candidate.clone(), bar, show(one.measured.median), half, verdict.to_owned()]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let [first, second, third, fourth, fifth] = [0, 1, 2, 3, 4].map(width);
    let mut text = String::from("\n");
    for [workload, candidate, bar, measured, half, verdict] in &rows {
        let row = format!(
            "{workload:first$}  {candidate:second$}  {bar:third$}  {measured:>fourth$}  {half:fifth$}  {verdict}"
        );
        put(&mut text, format_args!("{}\n", row.trim_end()));
    }
    let reached = judged.iter().filter(|one| one.reached).count();
    put(&mut text, format_args!("{reached} of {} goals reached\n", judged.len()));
    text
}

/// Each once.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value >= 1e-3 => format!("{:.2} ms", value * 1e3),
        Unit::Seconds => format!("{:.3} µs", value * 1e6),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::PerSecond => format!("{value:.0} /s"),
    }
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0} x") } else { format!("{ratio:.2} x") }
}

/// As goals are written: `1/200` or `2.50 x`.
fn part(part: f64) -> String {
    let inverse = part.recip();
    if part > 0.7 {
        times(part)
    } else if inverse >= 10.0 {
        format!("1/{inverse:.0}")
    } else {
        format!("1/{inverse:.1}")
    }
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::{
        super::record::{
            Quartiles,
            tests::{record, run},
        },
        *,
    };

    #[test]
    fn each_workload_compares_with_its_own_peer() {
        let records = vec![
            record("W1", "tokio_eager", &[2e-6]),
            record("W1", "peer", &[50e-6]),
            record("W1", "python", &[1e-6]),
            record("W2", "tokio_eager", &[0.004]),
        ];
        let expected = "
Python 3.12.1, uvloop, cores: one

W1  what W1 is
                    median  spread  peer is  python is
  tokio_eager     2.000 µs      0%     25 x     0.50 x
  peer           50.000 µs      0%        -     0.02 x
  python          1.000 µs      0%     50 x          -

W2  what W2 is
                    median  spread  peer is  python is
  tokio_eager      4.00 ms      0%        -          -
";
        assert_eq!(of(&Run { event_loop: "uvloop".into(), ..run(records) }), expected);
    }

    #[test]
    fn each_size_compares_with_the_smallest_of_its_own_contender() {
        let sized = |candidate, size, samples: &[f64]| Record { size: Some(size), ..record("W8", candidate, samples) };
        let records = vec![
            sized("ours", 10, &[2e-6, 4e-6]),
            sized("python", 10, &[1e-6]),
            sized("ours", 1_000, &[3e-6, 6e-6]),
            sized("python", 1_000, &[1e-6]),
        ];
        let expected = "
Python 3.12.1, stable ABI, asyncio, cores: one

W8  what W8 is
               size       median  spread  of the smallest
  ours           10     3.000 µs     33%           1.00 x
  ours         1000     4.500 µs     33%           1.50 x
  python         10     1.000 µs      0%           1.00 x
  python       1000     1.000 µs      0%           1.00 x
";
        assert_eq!(of(&Run { abi3: true, ..run(records) }), expected);
    }

    #[test]
    fn a_machine_that_was_busy_is_named() {
        let of_load = |load| of(&Run { load: Some(load), ..run(vec![record("W1", "ours", &[1e-6])]) });
        assert!(of_load(2.5).contains("other work (load average 2.5)"), "{}", of_load(2.5));
        assert!(!of_load(0.5).contains("load"), "{}", of_load(0.5));
    }

    #[test]
    fn goals_are_shown_as_they_are_written() {
        let judged = |of: Option<&str>, unit, bar, measured, reached| Judged {
            workload: "W1".into(),
            candidate: "ours".into(),
            of: of.map(str::to_owned),
            unit,
            bar,
            measured: Quartiles { first: 0.9 * measured, median: measured, third: 1.1 * measured },
            reached,
        };
        let all = [
            judged(Some("peer"), Unit::Seconds, 1.0 / 5.5, 1.0 / 30.0, true),
            judged(Some("python"), Unit::Seconds, 1.1, 2.0, false),
            judged(None, Unit::Bytes, 700.0, 500.0, true),
            judged(None, Unit::PerSecond, 50_000.0, 90.0, false),
        ];
        let expected = "
goals        at most            measured  middle half
W1     ours  1/5.5 of peer          1/30  1/33 to 1/27      reached
W1     ours  1.10 x of python     2.00 x  1.80 x to 2.20 x  not reached
W1     ours  700 B                 500 B  450 B to 550 B    reached
W1     ours  at least 50000 /s     90 /s  81 /s to 99 /s    not reached
2 of 4 goals reached
";
        assert_eq!(of_goals(&all), expected);
        assert_eq!(of_goals(&[]), "");
    }

    #[test]
    fn amounts_have_their_unit() {
        assert_eq!(amount(592.4, Unit::Bytes), "592 B");
        assert_eq!(amount(49_999.7, Unit::PerSecond), "50000 /s");
        assert_eq!(amount(0.000_000_091, Unit::Seconds), "0.091 µs");
    }
}
