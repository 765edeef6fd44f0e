//! Runtimes that are kept busy, and that are several.

use std::{future, sync::mpsc, task::Poll, thread};

use futures::channel::oneshot;
use pyo3::prelude::*;
use pyo3_await_example_runtimes::thread_per_task::ThreadPerTask;
use pyo3_await_pytests::{Code, Counter, Subject as _, function, on_loop, turn};

use super::way::{awaited, maker};
use crate::{
    Subject,
    adapter::{self, Runtime, RuntimeExt as _, into_coroutine},
};

/// The name of the thread that polls it, whichever poll that is.
async fn name_of_worker() -> PyResult<Option<String>> {
    turn().await;
    Ok(thread::current().name().map(str::to_owned))
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn several_serve_one_loop() -> PyResult<()> {
    const TURNS: usize = 20;

    let code = Code::new(
        c"
async def await_all(makes, turns):
    return [tuple(await asyncio.gather(*[make() for make in makes])) for _ in range(turns)]
",
    )?;
    fn make<R: Runtime>(runtime: R) -> PyResult<Py<PyAny>> {
        function(move |py, _| runtime.into_coroutine(py, name_of_worker()).map(Bound::unbind))
    }

    let makes = vec![
        function(|py, _| into_coroutine(py, async { Ok(Subject::on_worker()) }).map(Bound::unbind))?,
        make(Subject::own("own-1"))?,
        make(Subject::own("own-2"))?,
        make(ThreadPerTask("another-kind"))?,
    ];
    let names = code.future("await_all", (makes, TURNS))?.await?;
    let names: Vec<(bool, String, String, String)> = Python::attach(|py| names.extract(py))?;
    let expected = (true, "own-1".to_owned(), "own-2".to_owned(), "another-kind".to_owned());
    assert_eq!(names, vec![expected; TURNS]);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_panic_ends_its_own_future_only() -> PyResult<()> {
    /// Panics when it is dropped, and says that it is.
    struct Bomb(Counter);

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.add();
            panic!("in the drop");
        }
    }

    // More than there are threads.
    const TIMES: usize = 16;

    let dropped = Counter::new();
    for _ in 0..TIMES {
        let bomb = Bomb(dropped.clone());
        adapter::spawn(future::poll_fn(move |_| {
            let _bomb = &bomb;
            Poll::Ready(())
        }))?;
        adapter::spawn(async {
            turn().await;
            panic!("in the poll")
        })?;
    }
    for _ in 0..TIMES {
        let make = maker(|py| {
            into_coroutine(py, async {
                turn().await;
                Ok(())
            })
        })?;
        awaited(make)?.await?;
    }
    dropped.reached(TIMES).await;
    // Each has been dropped, once.
    assert_eq!(dropped.get(), TIMES);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_loop_is_free_while_a_runtime_is_busy() -> PyResult<()> {
    let runtime = Subject::own("busy");
    let (started, dropped) = (Counter::new(), Counter::new());
    let (signal, guard) = (started.clone(), dropped.guard());
    let (unblock, blocked) = mpsc::channel::<()>();
    let make = maker(move |py| {
        runtime.into_coroutine(py, async move {
            let _guard = guard;
            signal.add();
            let _ = blocked.recv();
            Ok(1)
        })
    })?;
    let (sender, outcome) = oneshot::channel();
    let future = awaited(make)?;
    adapter::spawn(async move { drop(sender.send(future.await)) })?;
    started.reached(1).await;
    for _ in 0..100 {
        on_loop(|_| Ok(())).await?;
    }
    assert_eq!(dropped.get(), 0);
    drop(unblock);
    let value = outcome.await.expect("the task ends by sending")?;
    assert_eq!(Python::attach(|py| value.extract::<i32>(py))?, 1);
    Ok(())
}
