//! A few threads, each with a compio runtime.

use std::{cell::RefCell, future, num::NonZero, sync::mpsc, task::Poll, thread, time::Duration};

use futures::channel::oneshot;
use pyo3::{
    prelude::*,
    types::{PyCFunction, PyTuple},
};
use pyo3_await::{Runtime, RustPanic};
use pyo3_await_example_runtimes::thread_per_core::{self, ThreadPerCore};

fn start(threads: usize) -> ThreadPerCore {
    ThreadPerCore::start("tested", NonZero::new(threads).unwrap()).unwrap()
}

#[pyo3_await::test(crate = thread_per_core, timeout = "60s")]
async fn the_threads_take_futures_in_turn() {
    let cores = start(2);
    let mut ran_on = Vec::new();
    for _ in 0..4 {
        let (tell, told) = oneshot::channel();
        cores.spawn(async { tell.send(thread::current().id()).unwrap() });
        ran_on.push(told.await.unwrap());
    }
    assert_ne!(ran_on[0], ran_on[1]);
    assert_eq!(ran_on[..2], ran_on[2..]);
}

#[pyo3_await::test(crate = thread_per_core, timeout = "60s")]
async fn a_future_that_is_woken_elsewhere_is_polled_where_it_was() {
    let home = thread::current().id();
    for _ in 0..100 {
        let mut woken = false;
        future::poll_fn(|cx| {
            if woken {
                return Poll::Ready(());
            }
            woken = true;
            let waker = cx.waker().clone();
            thread::spawn(|| waker.wake());
            Poll::Pending
        })
        .await;
        assert_eq!(thread::current().id(), home);
    }
}

/// The thread of the event loop drives no compio runtime.
#[pyo3_await::test(crate = thread_per_core, timeout = "60s")]
async fn compios_timers_do_not_work_in_a_local_coroutine() -> PyResult<()> {
    let awaited = Python::attach(|py| {
        let code = c"
async def await_made(make):
    return await make()
";
        let await_made = PyModule::from_code(py, code, c"local.py", c"local")?.getattr("await_made")?;
        // It has to be made on the thread on which it is awaited.
        let make = PyCFunction::new_closure(py, None, None, |arguments: &Bound<'_, PyTuple>, _: Option<&_>| {
            let sleep = async {
                compio::time::sleep(Duration::from_millis(1)).await;
                Ok(())
            };
            thread_per_core::into_local_coroutine(arguments.py(), sleep).map(Bound::unbind)
        })?;
        thread_per_core::into_future(await_made.call1((make,))?)
    })?;
    let error = awaited.await.unwrap_err();
    Python::attach(|py| assert!(error.is_instance_of::<RustPanic>(py), "{error}"));
    assert!(error.to_string().contains("not in a compio runtime"), "{error}");
    Ok(())
}

#[pyo3_await::test(crate = thread_per_core, timeout = "60s")]
fn a_thread_ends_when_it_has_done_what_was_sent_to_it() {
    struct TellAtExit(mpsc::Sender<&'static str>);

    impl Drop for TellAtExit {
        fn drop(&mut self) {
            let _ = self.0.send("the thread");
        }
    }

    thread_local! {
        static AT_EXIT: RefCell<Option<TellAtExit>> = const { RefCell::new(None) };
    }

    let (tell, ended) = mpsc::channel();
    let (open, gate) = oneshot::channel::<()>();
    let core = start(1);
    core.spawn(async move {
        AT_EXIT.set(Some(TellAtExit(tell.clone())));
        let opened = gate.await.is_ok();
        let _ = tell.send(if opened { "the future" } else { "nothing opened the gate" });
    });
    // There is no way to the thread any more, but the future still has to end.
    drop(core);
    open.send(()).unwrap();
    assert_eq!(ended.iter().collect::<Vec<_>>(), ["the future", "the thread"]);
}
