//! A coroutine that polls its future once in place.

use std::{
    future::{self, Future},
    sync::{Arc, Mutex},
    task::Poll,
    thread::{self, ThreadId},
};

use pyo3::prelude::*;
use pyo3_await_pytests::{Subject as _, on_loop};

use super::way::Way;
use crate::{Subject, adapter};

/// Where a future was polled: in which thread, and whether that is a worker's.
type Polls = Arc<Mutex<Vec<(ThreadId, bool)>>>;

/// A future that is ready after so many polls; each wakes the next.
fn ready_after(count: usize, polls: &Polls) -> impl Future<Output = PyResult<usize>> + Send + 'static {
    let polls = Arc::clone(polls);
    future::poll_fn(move |cx| {
        let mut polls = polls.lock().expect("nothing panics under the lock");
        polls.push((thread::current().id(), Subject::on_worker()));
        if polls.len() == count {
            return Poll::Ready(Ok(count));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Where a future was polled that Python has awaited.
async fn polls(way: Way, count: usize) -> PyResult<Vec<(ThreadId, bool)>> {
    let polls = Polls::default();
    let value = way.awaited(ready_after(count, &polls))?.await?;
    assert_eq!(Python::attach(|py| value.extract::<usize>(py))?, count);
    let polls = polls.lock().expect("nothing panics under the lock");
    Ok(polls.clone())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_ready_future_is_polled_once_in_place() -> PyResult<()> {
    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    assert_eq!(polls(Way::EagerCoroutine, 1).await?, [(event_loop, false)]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_future_that_waits_goes_on_at_the_runtime() -> PyResult<()> {
    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    let polls = polls(Way::EagerCoroutine, 3).await?;
    assert_eq!(polls[0], (event_loop, false));
    assert_eq!(polls[1..].iter().map(|(_, on_worker)| *on_worker).collect::<Vec<_>>(), [true, true]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_other_ways_poll_in_one_place() -> PyResult<()> {
    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    for way in [Way::Coroutine, Way::AsyncioFuture] {
        let polls = polls(way, 3).await?;
        assert_eq!(polls.iter().map(|(_, on_worker)| *on_worker).collect::<Vec<_>>(), [true; 3], "{way:?}");
    }
    assert_eq!(polls(Way::LocalCoroutine, 3).await?, [(event_loop, false); 3]);
    Ok(())
}

/// The poll in place has a waker of nobody's: what it wakes has to be polled again, by the runtime.
#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_wake_in_the_first_poll_is_not_lost() -> PyResult<()> {
    for _ in 0..100 {
        assert_eq!(polls(Way::EagerCoroutine, 2).await?.len(), 2);
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_future_that_is_ready_is_dropped_in_place() -> PyResult<()> {
    struct Drops(Arc<Mutex<Vec<ThreadId>>>);

    impl Drop for Drops {
        fn drop(&mut self) {
            self.0.lock().expect("nothing panics under the lock").push(thread::current().id());
        }
    }

    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    let drops = Arc::new(Mutex::new(Vec::new()));
    let guard = Drops(Arc::clone(&drops));
    Way::EagerCoroutine
        .awaited(future::poll_fn(move |_| {
            let _guard = &guard;
            Poll::Ready(Ok(()))
        }))?
        .await?;
    assert_eq!(*drops.lock().expect("nothing panics under the lock"), [event_loop]);
    Ok(())
}
