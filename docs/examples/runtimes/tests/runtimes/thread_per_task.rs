//! One thread for each future.

use std::{
    future,
    task::Poll,
    thread::{self, ThreadId},
};

use futures::channel::oneshot;
use pyo3_await_example_runtimes::thread_per_task;

/// Spawns a future that tells on which thread it is, and stays there until its release is dropped.
fn occupy() -> pyo3::PyResult<(oneshot::Receiver<ThreadId>, oneshot::Sender<()>)> {
    let (here, thread) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    thread_per_task::spawn(async move {
        let _ = here.send(thread::current().id());
        let _ = released.await;
    })?;
    Ok((thread, release))
}

#[pyo3_await::test(crate = thread_per_task, timeout = "60s")]
async fn each_future_has_a_thread() -> pyo3::PyResult<()> {
    let (first, _first) = occupy()?;
    let (second, _second) = occupy()?;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_ne!(first, second);
    assert!(![first, second].contains(&thread::current().id()));
    Ok(())
}

#[pyo3_await::test(crate = thread_per_task, timeout = "60s")]
async fn a_wake_up_is_not_lost_when_the_poll_itself_parks_the_thread() {
    let mut polled = false;
    future::poll_fn(|cx| {
        if polled {
            return Poll::Ready(());
        }
        polled = true;
        cx.waker().wake_by_ref();
        // Consumes the token that the waker has left.
        thread::park();
        Poll::Pending
    })
    .await;
}
