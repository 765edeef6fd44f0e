//! Futures that do not leave the event loop's thread.

use std::{
    cell::{Cell, RefCell},
    future,
    marker::PhantomData,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use futures::channel::{mpsc, oneshot};
use pyo3::prelude::*;
use pyo3_await_pytests::{Counter, Subject as _, on_loop};

use super::way::{awaited, maker};
use crate::{
    Subject,
    adapter::{self, into_future, into_local_coroutine},
};

/// Remembers in which thread it is dropped. It is not `Send`.
struct Drops(Arc<Mutex<Vec<ThreadId>>>, PhantomData<Rc<()>>);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.lock().expect("nothing panics under the lock").push(thread::current().id());
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_need_not_be_send() -> PyResult<()> {
    let drops = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&drops);
    let make = maker(move |py| {
        let (shared, guard) = (Rc::new(RefCell::new(Vec::new())), Drops(seen, PhantomData));
        let other = Rc::clone(&shared);
        into_local_coroutine(py, async move {
            let _guard = guard;
            for number in 0..3 {
                other.borrow_mut().push(number);
                let turn = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0,))?))?;
                turn.await?;
            }
            Ok(shared.take())
        })
    })?;
    let value = awaited(make)?.await?;
    assert_eq!(Python::attach(|py| value.extract::<Vec<i32>>(py))?, [0, 1, 2]);
    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    assert_eq!(*drops.lock().expect("nothing panics under the lock"), [event_loop]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_timer_of_the_runtime_works_in_it() -> PyResult<()> {
    const TIME: Duration = Duration::from_millis(20);

    let make = maker(move |py| {
        let turns = Rc::new(Cell::new(0));
        into_local_coroutine(py, async move {
            let begun = Instant::now();
            while turns.get() < 3 {
                Subject::sleep(TIME).await;
                turns.set(turns.get() + 1);
            }
            Ok(begun.elapsed().as_secs_f64())
        })
    })?;
    let elapsed = awaited(make)?.await?;
    let elapsed = Python::attach(|py| elapsed.extract::<f64>(py))?;
    assert!(elapsed >= (3 * TIME).as_secs_f64(), "{elapsed} s");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_may_be_woken_from_any_thread() -> PyResult<()> {
    let (wakers, woken) = mpsc::unbounded::<Waker>();
    let (sender, polls) = oneshot::channel();
    let make = maker(move |py| {
        let (mut polls, mut sender) = (Vec::new(), Some(sender));
        let not_send = Rc::new(());
        into_local_coroutine(
            py,
            future::poll_fn(move |cx| {
                let _not_send = &not_send;
                polls.push(thread::current().id());
                if polls.len() < 10 {
                    wakers.unbounded_send(cx.waker().clone()).expect("the thread receives");
                    return Poll::Pending;
                }
                let sender = sender.take().expect("it is ready once");
                sender.send(std::mem::take(&mut polls)).expect("the test receives");
                Poll::Ready(Ok(()))
            }),
        )
    })?;
    thread::spawn(|| futures::executor::block_on_stream(woken).for_each(Waker::wake));
    awaited(make)?.await?;
    let event_loop = on_loop(|_| Ok(thread::current().id())).await?;
    assert_eq!(polls.await.expect("it was sent"), [event_loop; 10]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_is_refused_by_another_thread() -> PyResult<()> {
    let (polled, dropped) = (Counter::new(), Counter::new());
    let (signal, guard) = (polled.clone(), dropped.guard());
    // It is made by the test's thread, and awaited on the event loop's.
    let future = Python::attach(|py| {
        into_future(into_local_coroutine(py, async move {
            let _guard = guard;
            signal.add();
            Ok(())
        })?)
    })?;
    let error = future.await.expect_err("it is awaited on another thread");
    let message = error.to_string();
    assert!(message.contains("it_is_refused_by_another_thread' can't leave its thread"), "{message}");
    assert!(message.contains("make it by into_coroutine"), "{message}");
    // No thread but its own may drop it either.
    assert_eq!((polled.get(), dropped.get()), (0, 0));
    Ok(())
}
