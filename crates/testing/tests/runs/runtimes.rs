//! Tests on other runtimes than the default one, and on none.

use crate::{
    run_tests,
    support::{Case, run, subject},
};

pub(crate) const CASES: &[Case] = cases![
    a_test_may_have_a_runtime_of_its_own,
    any_runtime_will_do,
    what_is_not_async_has_a_thread,
    the_event_loop_may_be_uvloops,
];

mod own {
    use std::time::Duration;

    use pyo3::prelude::*;
    use tokio::runtime::{Handle, RuntimeFlavor};

    use crate::python;

    #[pyo3_await_tokio::test(flavor = "current_thread")]
    async fn current_thread() -> PyResult<()> {
        assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
        python(c"import asyncio\nasync def main(): await asyncio.sleep(0.01)").await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    #[pyo3_await_tokio::test(worker_threads = 3)]
    async fn three_threads() {
        assert_eq!(Handle::current().metrics().num_workers(), 3);
    }

    #[pyo3_await_tokio::test(flavor = "multi_thread")]
    async fn of_its_own() {
        // Outside of any runtime the default one is current.
        let default = std::thread::spawn(|| {
            let default = pyo3_await_tokio::current_runtime().expect("the default runtime starts");
            pyo3_await_tokio::Runtime::enter(&default, || Handle::current().id())
        });
        let default = default.join().expect("the thread does not panic");
        assert_ne!(Handle::current().id(), default);
    }
}

mod custom {
    use pyo3::prelude::*;

    use crate::{python, threads as mine};

    #[pyo3_await::test(crate = mine)]
    async fn runs_on_a_thread_of_its_own() -> PyResult<()> {
        assert_eq!(std::thread::current().name(), Some("threads"));
        python(c"import asyncio\nasync def main(): await asyncio.sleep(0.01)").await?;
        assert_eq!(std::thread::current().name(), Some("threads"));
        Ok(())
    }

    #[pyo3_await::test(crate = crate::threads, timeout = "5s")]
    fn is_not_async() {}

    /// Suites are written once and instantiated by macros.
    macro_rules! suite {
        ($runtime:path, $thread:expr) => {
            #[pyo3_await::test(crate = $runtime)]
            async fn runs() {
                assert_eq!(std::thread::current().name(), $thread);
            }
        };
    }

    mod instance {
        suite!(super::mine, Some("threads"));
    }
}

mod blocking {
    #[pyo3_await_tokio::test]
    fn has_a_thread_with_its_name() {
        assert_eq!(std::thread::current().name(), Some("runtimes::blocking::has_a_thread_with_its_name"));
    }

    #[pyo3_await_tokio::test]
    fn is_not_attached() {
        // SAFETY: any thread may ask, at any time.
        assert_eq!(unsafe { pyo3::ffi::PyGILState_Check() }, 0);
    }
}

fn a_test_may_have_a_runtime_of_its_own() {
    run_tests(&["runtimes::own::"]).exits_with(0).prints("3 passed;");
}

fn any_runtime_will_do() {
    run_tests(&["runtimes::custom::"])
        .exits_with(0)
        .prints("3 passed;")
        .prints("test runtimes::custom::instance::runs ");
    // So may `main`, and the tests of the other runtime.
    let run = run(subject("threads").args(["runtimes::custom::", "--test-threads", "1"]));
    run.exits_with(0).prints("3 passed;");
}

fn what_is_not_async_has_a_thread() {
    run_tests(&["runtimes::blocking::"]).exits_with(0).prints("2 passed;");
}

fn the_event_loop_may_be_uvloops() {
    let run = run(subject("uvloop").args(["left::", "--skip", "stubborn"]));
    if run.stderr.contains("No module named 'uvloop'") {
        eprintln!("uvloop is not installed: nothing to see");
        return;
    }
    run.exits_with(0)
        .prints("2 passed;")
        .prints("it was cancelled\n")
        .complains("left::a_task left Python tasks behind");
}
