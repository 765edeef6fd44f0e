//! How long a test may take.

use std::{env, ffi::OsString, time::Duration};

const VARIABLE: &str = "PYO3_AWAIT_TEST_TIMEOUT";

/// The timeout of the tests that have none of their own.
///
/// # Errors
///
/// What is wrong with the environment variable.
pub(crate) fn from_environment() -> Result<Option<Duration>, String> {
    env::var_os(VARIABLE).map(parse).transpose()
}

fn parse(text: OsString) -> Result<Duration, String> {
    let duration = text.to_str().and_then(duration);
    duration.ok_or_else(|| {
        let text = text.to_string_lossy();
        format!("{VARIABLE} is '{text}'; expected a time longer than zero in ms, s or m, for instance 5s")
    })
}

/// The same notation as in `#[test(timeout = "5s")]`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|&number| number > 0)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

/// How long the event loop has for an answer, when a test with this timeout has not ended in time.
///
/// It is longer than a Python task has to end that was cancelled.
pub(crate) fn grace(timeout: Duration) -> Duration {
    timeout.clamp(Duration::from_secs(5), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "5", "s", "0s", "-1s", "1.5s", "5 s", "5h", "99999999999999999999s", "18446744073709551615m"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_error_shows_what_was_read_and_how_it_should_look() {
        let error = parse("soon".into()).unwrap_err();
        assert!(error.contains("PYO3_AWAIT_TEST_TIMEOUT is 'soon'") && error.contains("5s"), "{error}");
    }
}
