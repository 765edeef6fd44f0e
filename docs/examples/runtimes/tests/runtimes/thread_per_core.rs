//! A few threads, each with a compio runtime.

use std::{cell::RefCell, future, num::NonZero, sync::mpsc, task::Poll, thread};

use futures::channel::oneshot;
use pyo3_await::Runtime;
use pyo3_await_example_runtimes::thread_per_core::{self, ThreadPerCore};

fn start(threads: usize) -> ThreadPerCore {
    ThreadPerCore::start(NonZero::new(threads).unwrap()).unwrap()
}

#[pyo3_await::test(crate = thread_per_core, timeout = "60s")]
async fn the_threads_take_futures_in_turn() {
    let cores = start(2);
    let mut ran_on = Vec::new();
    for _ in 0..4 {
        let (tell, told) = oneshot::channel();
        cores.spawn(async { tell.send(thread::current().name().map(str::to_owned)).unwrap() });
        ran_on.push(told.await.unwrap().unwrap());
    }
    assert_eq!(ran_on, ["core-0", "core-1", "core-0", "core-1"]);
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
