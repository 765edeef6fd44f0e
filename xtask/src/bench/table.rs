//! The figures, for a terminal.

use std::fmt::Write as _;

use super::record::{Record, Run, Unit};

/// A table of each workload: the median, how far the samples are apart, and how it compares.
pub(super) fn of(run: &Run) -> String {
    let Run { python, event_loop, cores, records } = run;
    let mut text = format!("\nPython {python}, {event_loop}, cores: {cores}\n");
    let width = records.iter().map(|record| record.candidate.len()).max().unwrap_or_default();
    for workload in in_order(records) {
        let of_workload: Vec<_> = records.iter().filter(|record| record.workload == workload).collect();
        let find = |name| of_workload.iter().copied().find(|record| record.candidate == name);
        let (peer, python) = (find("peer"), find("python"));
        put(&mut text, format_args!("\n{workload}  {}\n", of_workload[0].title));
        put(&mut text, format_args!("  {:width$}  {:>11}  spread  peer is  python is\n", "", "median"));
        for record in &of_workload {
            let against = |other: Option<&Record>| {
                let other = other.filter(|other| other.candidate != record.candidate);
                other.map_or_else(|| "-".to_owned(), |other| times(record.ratio(other)))
            };
            put(
                &mut text,
                format_args!(
                    "  {:width$}  {:>11}  {:>5.0}%  {:>7}  {:>9}\n",
                    record.candidate,
                    amount(record.median(), record.unit),
                    100.0 * record.spread(),
                    against(peer),
                    against(python),
                ),
            );
        }
    }
    text
}

/// The workloads, each once.
fn in_order(records: &[Record]) -> Vec<&str> {
    let mut found = Vec::new();
    for record in records {
        if !found.contains(&record.workload.as_str()) {
            found.push(&record.workload);
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

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::{super::record::tests::record, *};

    #[test]
    fn each_workload_compares_with_its_own_peer() {
        let records = vec![
            record("W1", "tokio_eager", &[2e-6]),
            record("W1", "peer", &[50e-6]),
            record("W1", "python", &[1e-6]),
            record("W2", "tokio_eager", &[0.004]),
        ];
        let run = Run { python: "3.12.1".into(), event_loop: "uvloop".into(), cores: "one".into(), records };
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
        assert_eq!(of(&run), expected);
    }

    #[test]
    fn amounts_have_their_unit() {
        assert_eq!(amount(592.4, Unit::Bytes), "592 B");
        assert_eq!(amount(49_999.7, Unit::PerSecond), "50000 /s");
        assert_eq!(amount(0.000_000_091, Unit::Seconds), "0.091 µs");
    }
}
