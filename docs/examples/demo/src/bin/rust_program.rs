//! A Rust program, on tokio, that awaits Python.

use std::time::Instant;

use pyo3::{ffi::c_str, prelude::*};
use pyo3_await_tokio::into_future;

#[pyo3_await_tokio::main]
async fn main() -> PyResult<()> {
    println!("Rust program: an async main on tokio, beside a Python event loop");

    let started = Instant::now();
    let sleep = Python::attach(|py| {
        let asyncio = py.import("asyncio")?;
        into_future(asyncio.call_method1("sleep", (0.1,))?)
    })?;
    sleep.await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("  {seconds:5.2} s  asyncio.sleep(0.1) awaited");

    let started = Instant::now();
    let sum = Python::attach(|py| {
        let code = c_str!(include_str!("handlers.py"));
        let handlers = PyModule::from_code(py, code, c"handlers.py", c"handlers")?;
        into_future(handlers.call_method1("add_up", (Vec::from_iter(1..=100),))?)
    })?;
    let sum = sum.await?;
    let sum: u32 = Python::attach(|py| sum.extract(py))?;
    assert_eq!(sum, 5050);
    let seconds = started.elapsed().as_secs_f64();
    println!("  {seconds:5.2} s  an async Python function awaited: 1 + 2 + ... + 100 = {sum}");
    Ok(())
}
