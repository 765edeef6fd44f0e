//! Rust futures that synchronous Python waits for.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use futures::channel::oneshot;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};
use pyo3_await::{RustPanic, TaskLocals};
use pyo3_await_pytests::{Counter, Subject as _, on_loop, turn};

use super::way::{awaited, maker};
use crate::{
    Subject,
    adapter::{self, block_on, into_coroutine, into_future, run, scope, spawn},
};

/// Calls `f` on a thread that Python does not know of, and gives its result.
async fn on_thread<T: Send + 'static>(f: impl FnOnce(Python<'_>) -> T + Send + 'static) -> T {
    let (sender, result) = oneshot::channel();
    let _: JoinHandle<()> = thread::spawn(move || drop(sender.send(Python::attach(f))));
    result.await.expect("the thread ends by sending")
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_value_is_returned() {
    let value = on_thread(|py| block_on(py, async { Ok(7) })).await;
    assert_eq!(value.expect("it is ready"), 7);
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_future_may_borrow() {
    let length = on_thread(|py| {
        let text = String::from("borrowed");
        block_on(py, async { Ok(text.len()) })
    });
    assert_eq!(length.await.expect("it is ready"), 8);
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_error_is_raised() {
    let error = on_thread(|py| block_on(py, async { Err::<(), _>(PyValueError::new_err("raised")) })).await;
    assert_eq!(error.expect_err("it fails").to_string(), "ValueError: raised");
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_panic_is_raised() {
    let error = on_thread(|py| {
        let panic: PyResult<()> = block_on(py, async {
            turn().await;
            panic!("the panic")
        });
        panic.expect_err("it panics")
    });
    let error = error.await;
    assert!(Python::attach(|py| error.is_instance_of::<RustPanic>(py)), "{error}");
    assert!(error.to_string().contains("the panic, at pytests/common/block_on.rs"), "{error}");
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_timer_of_the_runtime_ends_it() {
    on_thread(|py| {
        block_on(py, async {
            Subject::sleep(Duration::from_millis(5)).await;
            Ok(())
        })
    })
    .await
    .expect("the timer works");
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_is_woken_from_any_thread() {
    on_thread(|py| {
        block_on(py, async {
            let (sender, woken) = oneshot::channel();
            thread::spawn(|| sender.send(()));
            woken.await.expect("it is sent");
            Ok(())
        })
    })
    .await
    .expect("it is woken");
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn other_threads_have_the_interpreter_meanwhile() {
    on_thread(|py| {
        block_on(py, async {
            let (sender, attached) = oneshot::channel();
            thread::spawn(|| Python::attach(|_| sender.send(())));
            attached.await.expect("the thread attaches");
            Ok(())
        })
    })
    .await
    .expect("it is woken");
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn many_threads_wait_at_once() {
    const THREADS: usize = 20;

    let (waiting, open) = (Counter::new(), Counter::new());
    let (sender, results) = mpsc::channel();
    for number in 0..THREADS {
        let (waiting, open, sender) = (waiting.clone(), open.clone(), sender.clone());
        thread::spawn(move || {
            let result = Python::attach(|py| {
                block_on(py, async {
                    waiting.add();
                    open.reached(1).await;
                    Ok(number)
                })
            });
            sender.send(result.expect("the gate opens")).expect("the test waits");
        });
    }
    drop(sender);
    waiting.reached(THREADS).await;
    open.add();
    let mut numbers: Vec<_> = results.iter().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..THREADS));
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn python_is_awaited_in_the_scope_of_a_loop() -> PyResult<()> {
    let locals = Python::attach(TaskLocals::current)?;
    let value = on_thread(move |py| {
        block_on(
            py,
            scope(locals, async {
                let sleep = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0, 7))?))?;
                let value = sleep.await?;
                Python::attach(|py| value.extract::<i32>(py))
            }),
        )
    })
    .await?;
    assert_eq!(value, 7);
    Ok(())
}

/// What is raised where a thread must not be blocked; the future is never polled.
fn refused(py: Python<'_>) -> String {
    let polled = Counter::new();
    let result = block_on(py, async {
        polled.add();
        Ok(())
    });
    let error = result.expect_err("it is refused");
    assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}");
    assert_eq!(polled.get(), 0);
    error.to_string()
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_running_event_loop_is_not_blocked() -> PyResult<()> {
    let message = on_loop(|py| Ok(refused(py))).await?;
    assert!(message.contains("in a running event loop") && message.contains("into_coroutine"), "{message}");
    Ok(())
}

/// What a function gives in a coroutine's future and in a task that is spawned.
async fn in_tasks(f: fn(Python<'_>) -> String) -> PyResult<[String; 2]> {
    let make = maker(move |py| {
        into_coroutine(py, async move {
            turn().await;
            Ok(Python::attach(f))
        })
    })?;
    let of_coroutine = awaited(make)?.await?.to_string();
    let (sender, of_spawned) = oneshot::channel();
    spawn(async move { drop(sender.send(Python::attach(f))) })?;
    Ok([of_coroutine, of_spawned.await.expect("the task ends by sending")])
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_task_of_the_runtime_is_not_blocked() -> PyResult<()> {
    for message in in_tasks(refused).await? {
        assert!(message.contains("by a task of the Rust runtime") && message.contains("await"), "{message}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_task_of_the_runtime_runs_no_event_loop() -> PyResult<()> {
    let refused = |py: Python<'_>| run(py, async { Ok(()) }).expect_err("it is refused").to_string();
    for message in in_tasks(refused).await? {
        assert!(message.contains("run was called by a task of the Rust runtime"), "{message}");
    }
    Ok(())
}
