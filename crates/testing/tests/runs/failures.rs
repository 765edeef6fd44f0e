//! Failures, each of its own kind, and what is said of them.

use pyo3::prelude::*;

use crate::{run_tests, support::Case};

pub(crate) const CASES: &[Case] = cases![failures_say_what_happened, should_panic_looks_at_the_message,];

#[pyo3_await_tokio::test]
fn returns_an_error() -> Result<(), std::num::ParseIntError> {
    "x".parse::<i32>().map(drop)
}

#[pyo3_await_tokio::test]
fn panics_in_a_thread() {
    panic!("in a thread");
}

#[pyo3_await_tokio::test]
#[should_panic(expected = "this")]
async fn panics_otherwise() {
    panic!("that");
}

#[pyo3_await_tokio::test]
#[should_panic]
async fn does_not_panic() {}

#[pyo3_await_tokio::test]
#[should_panic]
async fn fails_instead() -> Result<(), String> {
    Err("an error".to_owned())
}

#[pyo3_await_tokio::test]
async fn raises_in_place() -> PyResult<()> {
    Python::attach(|py| py.run(c"def find():\n    raise KeyError('x')\nfind()", None, None))
}

#[pyo3_await_tokio::test]
async fn panics_when_it_is_dropped() {
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    let _bomb = Bomb;
    tokio::task::yield_now().await;
}

fn failures_say_what_happened() {
    let run = run_tests(&["outcomes::"]);
    run.prints("---- outcomes::hangs ----\ntimed out after 200ms\n");
    run.prints("---- outcomes::panics ----\npanicked at ").prints("outcomes.rs:").prints(":\nthe test panicked\n");
    run.prints("---- outcomes::raises ----\nTraceback (most recent call last):\n");
    run.prints("File \"subject.py\", line 2, in main").prints("\nValueError: out of range\n");

    let run = run_tests(&["failures::"]);
    run.exits_with(101).prints("0 passed; 7 failed; 0 ignored;");
    run.prints("---- failures::returns_an_error ----\nError: ParseIntError { kind: InvalidDigit }\n");
    run.prints("---- failures::raises_in_place ----\nTraceback (most recent call last):\n").prints("line 2, in find");
    run.prints("---- failures::panics_in_a_thread ----\npanicked at ").prints(":\nin a thread\n");
    run.prints("---- failures::panics_when_it_is_dropped ----\npanicked at ").prints(":\ndropped\n");
}

fn should_panic_looks_at_the_message() {
    let run = run_tests(&["failures::"]);
    run.prints("---- failures::panics_otherwise ----\npanic did not contain the expected string \"this\"\n");
    run.prints("---- failures::does_not_panic ----\ntest did not panic as expected\n");
    run.prints(
        "---- failures::fails_instead ----\n\
         test did not panic as expected, but returned an error\nError: \"an error\"\n",
    );
}
