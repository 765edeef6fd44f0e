//! How many tests passed, read from what the test programs print.

use std::ops::AddAssign;

/// How many passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

impl Counts {
    /// The sum of libtest's closing lines, of which each test program prints one, and each crate's doc tests.
    pub(crate) fn of_libtest(output: &str) -> Self {
        let mut sum = Self::default();
        let output = plain(output);
        for line in output.lines() {
            let result = line.strip_prefix("test result: ").and_then(|result| result.split_once(". "));
            let Some((_verdict, counts)) = result else { continue };
            sum += Self::of_list(counts, ';');
        }
        sum
    }

    /// How many of the tests libtest has left out, by their names or because they are ignored.
    pub(crate) fn filtered_out(output: &str) -> usize {
        let output = plain(output);
        let items = output.lines().filter(|line| line.starts_with("test result: ")).flat_map(|line| line.split(';'));
        items.filter_map(|item| item.trim().strip_suffix(" filtered out")?.parse::<usize>().ok()).sum()
    }

    /// How many programs have begun to run tests, and have not come to libtest's closing line.
    pub(crate) fn unfinished(output: &str) -> usize {
        let output = plain(output);
        let begins = |line: &&str| {
            let number = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
            number.is_some_and(|(number, rest)| number.parse::<usize>().is_ok() && matches!(rest, "" | "s"))
        };
        let ended = output.lines().filter(|line| line.starts_with("test result: ")).count();
        output.lines().filter(begins).count().saturating_sub(ended)
    }

    /// pytest's closing line, the last of its kind: `=== 1 failed, 2 passed in 0.12s ===`.
    pub(crate) fn of_pytest(output: &str) -> Self {
        let output = plain(output);
        let closing = output.lines().rev().find_map(|line| {
            let (counts, time) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
            let seconds = time.split(' ').next()?.strip_suffix('s')?;
            seconds.parse::<f64>().ok().map(|_| counts)
        });
        closing.map(|counts| Self::of_list(counts, ',')).unwrap_or_default()
    }

    pub(crate) fn total(self) -> usize {
        self.passed + self.failed + self.ignored
    }

    fn of_list(list: &str, separator: char) -> Self {
        let mut counts = Self::default();
        for item in list.split(separator) {
            let Some((number, what)) = item.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                // A test that fails as it is marked to fail has done what it should.
                "passed" | "xpassed" | "xfailed" => counts.passed += number,
                "failed" | "error" | "errors" | "subtests failed" => counts.failed += number,
                "ignored" | "skipped" => counts.ignored += number,
                _ => {}
            }
        }
        counts
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// `text` without the escape sequences that colour it.
fn plain(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once(|end: char| end.is_ascii_alphabetic()).map_or("", |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: usize, failed: usize, ignored: usize) -> Counts {
        Counts { passed, failed, ignored }
    }

    #[test]
    fn libtest_lines_are_summed() {
        let output = "
running 3 tests
test one ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.03s

   Doc-tests pyo3_await

test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s
";
        assert_eq!(Counts::of_libtest(output), counts(5, 4, 1));
    }

    #[test]
    fn libtest_lines_are_found_under_their_colours() {
        let output = "test result: \u{1b}[32mok\u{1b}[0m. 2 passed; 1 failed; 0 ignored; 0 measured\u{1b}[m";
        assert_eq!(Counts::of_libtest(output), counts(2, 1, 0));
    }

    #[test]
    fn what_only_looks_like_libtest_is_not_counted() {
        for output in ["", "the test result: ok. 1 passed", "test result: ok", "test result: ok. passed; many failed"] {
            assert_eq!(Counts::of_libtest(output), Counts::default(), "{output}");
        }
    }

    #[test]
    fn a_program_without_a_closing_line_is_not_finished() {
        let closed = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out\n";
        assert_eq!((Counts::unfinished(closed), Counts::filtered_out(closed)), (0, 2));
        let cut = format!("\nrunning 2 tests\ntest one ... ok\n\n{closed}\nrunning 0 tests\n{closed}running\n");
        assert_eq!((Counts::unfinished(&cut), Counts::filtered_out(&cut)), (2, 4));
        assert_eq!(Counts::unfinished("running late\nrunning 3 testers\nnow running 3 tests\n"), 0);
    }

    #[test]
    fn pytest_lines() {
        for (line, expected) in [
            ("===== 3 passed in 0.12s =====", counts(3, 0, 0)),
            (
                "= 1 failed, 3 passed, 2 skipped, 1 xfailed, 1 xpassed, 7 warnings, 2 errors in 61.20s (0:01:01) =",
                counts(5, 3, 2),
            ),
            ("1 passed, 4 deselected in 0.01s", counts(1, 0, 0)),
            ("2 failed, 3 subtests failed, 5 subtests passed in 1.00s", counts(0, 5, 0)),
            ("\u{1b}[32m== \u{1b}[32m\u{1b}[1m1 passed\u{1b}[0m\u{1b}[32m in 0.00s\u{1b}[0m ==", counts(1, 0, 0)),
            ("!!!! Interrupted: 1 error during collection !!!!\n=== 1 error in 0.10s ===", counts(0, 1, 0)),
            ("==== no tests ran in 0.01s ====", counts(0, 0, 0)),
            ("Fatal Python error: Segmentation fault", counts(0, 0, 0)),
        ] {
            assert_eq!(Counts::of_pytest(line), expected, "{line}");
        }
    }

    #[test]
    fn the_last_pytest_line_is_the_one() {
        let output =
            "inner: 9 failed in 0.10s\n9 failed in 0.10s\n=== 2 passed in 0.20s ===\nException ignored in atexit\n";
        assert_eq!(Counts::of_pytest(output), counts(2, 0, 0));
    }
}
