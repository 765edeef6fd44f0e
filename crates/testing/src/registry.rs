//! The tests that `#[test]` has registered.

use std::time::Duration;

use crate::attempt::{AsyncStart, SyncStart};

/// All tests that are linked into the program, in no order.
#[linkme::distributed_slice]
pub static TESTS: [Test];

/// Adds a test: what `#[test]` expands to, beside the function itself.
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    (
        name: $name:expr,
        ignore: $ignore:expr,
        should_panic: $panic:expr,
        timeout: $timeout:expr,
        body: $kind:ident($start:expr)
    ) => {
        const _: () = {
            #[$crate::private::linkme::distributed_slice($crate::private::TESTS)]
            #[linkme(crate = $crate::private::linkme)]
            static __PYO3_AWAIT_TEST: $crate::private::Test = $crate::private::Test {
                module: ::core::module_path!(),
                name: $name,
                ignore: $ignore,
                should_panic: $panic,
                timeout: $timeout,
                body: $crate::private::Body::$kind($start),
            };
        };
    };
}

/// One test, as `#[test]` writes it down.
#[derive(Debug)]
pub struct Test {
    /// The module that it stands in, with the crate.
    pub module: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// Present when it is ignored, with the reason if there is one.
    pub ignore: Option<Option<&'static str>>,
    /// Present when it should panic, with a part of the message if it matters.
    pub should_panic: Option<Option<&'static str>>,
    /// What `timeout = ...` says.
    pub timeout: Option<Duration>,
    /// The function.
    pub body: Body,
}

/// How a test is started.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// On a runtime.
    Async(fn(AsyncStart)),
    /// On a thread of its own.
    Sync(fn(SyncStart)),
}

impl Test {
    /// The test's name on the command line: its path in the crate.
    pub(crate) fn path(&self) -> String {
        match self.module.split_once("::") {
            Some((_crate, module)) => format!("{module}::{}", self.name),
            None => self.name.to_owned(),
        }
    }
}

/// All tests by their paths, sorted: the linker's order is any.
pub(crate) fn sorted() -> Vec<(String, &'static Test)> {
    let mut tests: Vec<_> = TESTS.iter().map(|test| (test.path(), test)).collect();
    tests.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    tests
}

/// What the test's stand-in does under Rust's own harness.
///
/// # Panics
///
/// Always: the test itself has not run.
pub fn wrong_harness(name: &str) {
    panic!(
        "the test '{name}' does not run under Rust's own harness, which keeps the main thread from Python; \
         move it to a test target with `harness = false`, whose main function ends with `testing::main().await`"
    );
}
