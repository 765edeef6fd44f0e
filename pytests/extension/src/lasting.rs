//! Futures that are under way when a process ends or forks.
//!
//! The control of `cargo xtask stress` has the same functions, from this file: `crate::host` is what differs.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use pyo3::{exceptions::PyValueError, prelude::*};

use crate::host;

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(after, module)?)?;
    module.add_function(wrap_pyfunction!(busy, module)?)?;
    module.add_function(wrap_pyfunction!(attaching, module)?)?;
    module.add_function(wrap_pyfunction!(attaching_busily, module)?)?;
    module.add_function(wrap_pyfunction!(locking, module)?)?;
    module.add_function(wrap_pyfunction!(awaiting, module)?)
}

/// Ends after a time, with a value that the Rust future holds until then.
#[pyfunction]
#[pyo3(signature = (seconds, value = None))]
fn after(py: Python<'_>, seconds: f64, value: Option<Py<PyAny>>) -> PyResult<Bound<'_, PyAny>> {
    let time = duration(seconds)?;
    host::start(py, async move {
        host::sleep(time).await;
        Ok(value)
    })
}

/// Keeps a worker in one poll for some time.
#[pyfunction]
fn busy(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    let time = duration(seconds)?;
    host::start(py, async move {
        thread::sleep(time);
        Ok(())
    })
}

/// Attaches to Python in each of its polls, of which there is no end.
#[pyfunction]
fn attaching(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    host::start(py, async {
        loop {
            Python::attach(call)?;
            futures_lite::future::yield_now().await;
        }
        #[allow(unreachable_code, reason = "it says what the future's type is")]
        Ok(())
    })
}

/// Attaches to Python again and again in a single poll, for some time.
#[pyfunction]
fn attaching_busily(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    let time = duration(seconds)?;
    host::start(py, async move {
        let started = Instant::now();
        while started.elapsed() < time {
            Python::attach(call)?;
        }
        Ok(())
    })
}

/// Has a lock, of which there is one in the process, for the most part of each of so many polls.
#[pyfunction]
fn locking(py: Python<'_>, polls: usize) -> PyResult<Bound<'_, PyAny>> {
    static LOCK: Mutex<()> = Mutex::new(());

    host::start(py, async move {
        for _ in 0..polls {
            {
                let _locked = LOCK.lock().expect("it is not poisoned");
                thread::sleep(Duration::from_micros(500));
            }
            futures_lite::future::yield_now().await;
        }
        Ok(())
    })
}

/// Lets go of the interpreter and takes it back, in Python's code and in Rust's.
fn call(py: Python<'_>) -> PyResult<()> {
    py.import("time")?.call_method1("sleep", (0,))?;
    py.detach(thread::yield_now);
    Ok(())
}

/// Awaits Python.
#[pyfunction]
fn awaiting(awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = awaitable.py();
    let future = host::into_future(awaitable)?;
    host::start(py, future)
}

pub(crate) fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
}
