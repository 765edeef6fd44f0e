//! How many instructions the hot paths take: repeatable where time is not.
//!
//! Each path runs twice under callgrind, with a small and with a large number of operations. What the second run takes
//! more, divided by the operations that it has more, is what one operation takes; starting Python is not in it.

use std::fmt::Write as _;

use xshell::{Shell, cmd};

use crate::{
    error::{Result, Stop},
    process::{Output, Runner},
    python::Python,
    report,
};

/// The table in the repository.
const TABLE: &str = "pytests/bench/instructions.txt";

/// How many percent more than in the table are a regression.
///
/// A path that stays on one thread takes the same each time, but for where things happen to lie in memory.
const ALONE: u64 = 2;
/// One that waits for a worker each time differs by how long the worker looks for work before it sleeps.
const IN_A_ROW: u64 = 5;
/// One with many at the same time differs by how many the event loop finds each time that it looks.
const AT_ONCE: u64 = 10;

/// How often a path that more than one thread is in is counted; the median is taken.
const ROUNDS: usize = 3;

/// A workload, a contender, the two numbers of operations, and what is tolerated.
const PATHS: [(&str, &str, u32, u32, u64); 17] = [
    ("W1e", "tokio_eager", 2_000, 6_000, ALONE),
    ("W1e", "tokio_local", 2_000, 6_000, ALONE),
    ("W1e", "python", 2_000, 6_000, ALONE),
    ("W1", "tokio_coroutine", 1_000, 3_000, IN_A_ROW),
    ("W2", "tokio_coroutine", 1_000, 3_000, IN_A_ROW),
    ("W2c", "tokio_coroutine", 1_000, 3_000, AT_ONCE),
    ("W2c", "tokio_eager", 1_000, 3_000, AT_ONCE),
    ("W3f", "tokio_future", 10_000, 20_000, AT_ONCE),
    ("W3", "tokio_coroutine", 10_000, 20_000, AT_ONCE),
    ("W3", "tokio_local", 10_000, 20_000, ALONE),
    ("W4a", "tokio_coroutine", 1_000, 3_000, IN_A_ROW),
    ("W4a", "tokio_local", 1_000, 3_000, ALONE),
    ("W4b", "tokio_coroutine", 10_000, 20_000, AT_ONCE),
    ("W4b", "tokio_local", 10_000, 20_000, ALONE),
    ("W5a", "tokio_stream", 10_000, 30_000, AT_ONCE),
    ("W5b", "tokio_stream", 10_000, 30_000, AT_ONCE),
    ("W5b", "tokio_local_stream", 10_000, 30_000, AT_ONCE),
];

/// How many instructions one operation of a path takes, and how many percent more it may.
struct Counted {
    path: String,
    count: u64,
    tolerance: u64,
}

/// Counts, and compares with the table or writes it; false when a path takes more than it should.
pub(super) fn run(shell: &Shell, runner: &Runner, python: &Python, driver: &str, update: bool) -> Result<bool> {
    if !runner.run(cmd!(shell, "valgrind --version"), Output::Capture)?.success() {
        return Err(Stop::Failed(
            "valgrind, which counts the instructions, is not there; install it (Debian: `apt install valgrind`)"
                .to_owned(),
        ));
    }
    // Else the first that is counted has Python compile the driver.
    runner.run(cmd!(shell, "python {driver} --workers 1 --run W1e python 1"), Output::Capture)?.expect("the driver")?;
    let mut counted = Vec::new();
    for (workload, candidate, few, many, tolerance) in PATHS {
        let total = |operations: u32| -> Result<u64> {
            let operations = operations.to_string();
            let callgrind = cmd!(shell, "valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-fd=1");
            // Threads take turns in the order in which they ask. Else who comes next is chance, and a thread that
            // spins can keep all others waiting.
            let callgrind = callgrind.arg("--fair-sched=try");
            // Else the order of dictionaries is another each time.
            let command = callgrind
                .args(["python", driver, "--workers", "1", "--run", workload, candidate, &operations])
                .env("PYTHONHASHSEED", "0");
            let output = runner.run(command, Output::Capture)?.expect("the driver under valgrind")?;
            collected(&output).ok_or_else(|| Stop::Failed(format!("valgrind has counted nothing:\n{output}")))
        };
        let rounds = if tolerance == ALONE { 1 } else { ROUNDS };
        let counts = (0..rounds)
            .map(|_| Ok(total(many)?.saturating_sub(total(few)?) / u64::from(many - few)))
            .collect::<Result<Vec<_>>>()?;
        report::progress(&format!("{workload} {candidate}: {counts:?}"));
        counted.push(Counted { path: format!("{workload} {candidate}"), count: median(counts), tolerance });
    }
    let platform = platform(python);
    if update {
        shell.write_file(TABLE, to_table(&platform, &counted))?;
        return Ok(true);
    }
    let table = shell.read_file(TABLE)?;
    let (text, good) = compare(&table, &platform, &counted);
    print!("{text}");
    Ok(good)
}

/// Of an odd number of counts.
fn median(mut counts: Vec<u64>) -> u64 {
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// What the table's counts are for; on another platform they are others.
fn platform(python: &Python) -> String {
    format!("# CPython {}, {}, {}", python.tag, std::env::consts::OS, std::env::consts::ARCH)
}

/// The total in what callgrind prints.
fn collected(output: &str) -> Option<u64> {
    let line = output.lines().find_map(|line| line.split_once("Collected : "))?.1;
    line.trim().parse().ok()
}

fn to_table(platform: &str, counted: &[Counted]) -> String {
    let mut text = format!("{platform}\n");
    for Counted { path, count, .. } in counted {
        writeln!(text, "{path} {count}").expect("a String takes all that is written to it");
    }
    text
}

/// What is to be shown, and whether all is well.
fn compare(table: &str, platform: &str, counted: &[Counted]) -> (String, bool) {
    let same_platform = table.lines().next() == Some(platform);
    let mut good = true;
    let mut text = String::from("\ninstructions of one operation\n");
    for Counted { path, count, tolerance } in counted {
        let known = table.lines().find_map(|line| line.strip_prefix(path)?.strip_prefix(' ')?.parse::<u64>().ok());
        #[expect(clippy::cast_precision_loss, reason = "they are far below 2^52")]
        let verdict = match known {
            _ if !same_platform => "the table is for another platform".to_owned(),
            None => "not in the table: write it anew with --update".to_owned(),
            Some(known) => {
                let worse = 100 * count > (100 + tolerance) * known;
                good &= !worse;
                let change = 100.0 * (*count as f64 / known as f64 - 1.0);
                let verdict = if worse { "too many" } else { "good" };
                format!("{change:+6.1} % of at most {tolerance:+3} %: {verdict}")
            }
        };
        good &= !same_platform || known.is_some();
        writeln!(text, "  {path:24}  {count:>8}  {verdict}").expect("a String takes all that is written to it");
    }
    (text, good)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATFORM: &str = "# CPython 3.12, linux, x86_64";

    fn counted(count: u64) -> Vec<Counted> {
        vec![Counted { path: "W1e tokio_eager".to_owned(), count, tolerance: 5 }]
    }

    #[test]
    fn the_total_is_found() {
        let output = "==7== Callgrind\nhello\n==7== Events    : Ir\n==7== Collected : 123456\n==7==\n";
        assert_eq!(collected(output), Some(123_456));
        assert_eq!(collected("==7== Collected : nothing"), None);
        assert_eq!(collected(""), None);
    }

    #[test]
    fn more_than_the_table_says_is_a_failure() {
        let table = to_table(PLATFORM, &counted(1_000));
        assert_eq!(table, "# CPython 3.12, linux, x86_64\nW1e tokio_eager 1000\n");
        for (count, good) in [(900, true), (1_000, true), (1_050, true), (1_051, false)] {
            assert_eq!(compare(&table, PLATFORM, &counted(count)).1, good, "{count}");
        }
    }

    #[test]
    fn each_path_has_its_own_tolerance() {
        let table = to_table(PLATFORM, &counted(1_000));
        for (tolerance, good) in [(9, false), (10, true)] {
            let counted = vec![Counted { tolerance, ..counted(1_100).remove(0) }];
            assert_eq!(compare(&table, PLATFORM, &counted).1, good, "{tolerance}");
        }
    }

    #[test]
    fn one_round_that_went_wrong_does_not_count() {
        assert_eq!(median(vec![9_000, 1_000, 1_001]), 1_001);
        assert_eq!(median(vec![7]), 7);
    }

    #[test]
    fn a_path_that_is_not_in_the_table_is_a_failure() {
        assert!(!compare(PLATFORM, PLATFORM, &counted(1)).1);
        // A name that only begins alike is not it.
        assert!(!compare(&format!("{PLATFORM}\nW1e tokio_eager_too 5\n"), PLATFORM, &counted(1)).1);
    }

    #[test]
    fn another_platform_is_not_judged() {
        let (text, good) = compare("# CPython 3.11, linux, x86_64\nW1e tokio_eager 1\n", PLATFORM, &counted(1_000));
        assert!(good);
        assert!(text.contains("another platform"), "{text}");
    }
}
