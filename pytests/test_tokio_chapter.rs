//! The examples of PyO3's old chapter on async and await, for tokio: the same layout, with today's names.

use std::time::Duration;

use pyo3::{prelude::*, types::PyModule};

/// A Python module with the chapter's coroutine function.
fn example(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    PyModule::from_code(
        py,
        c"
import asyncio

async def py_sleep():
    await asyncio.sleep(0.001)
    return 'slept'
",
        c"example.py",
        c"example",
    )
}

async fn rust_sleep() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[pyfunction]
fn call_rust_sleep(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_await_tokio::into_coroutine(py, async move {
        rust_sleep().await;
        Ok(())
    })
}

mod tests {
    use std::{thread, time::Duration};

    use pyo3::{prelude::*, types::PyDict};

    #[pyo3_await_tokio::test]
    async fn an_async_python_function_is_awaited_in_rust() -> PyResult<()> {
        let future = Python::attach(|py| {
            let coroutine = super::example(py)?.call_method0("py_sleep")?;
            pyo3_await_tokio::into_future(coroutine)
        })?;
        let result = future.await?;
        assert_eq!(Python::attach(|py| result.extract::<String>(py))?, "slept");
        Ok(())
    }

    #[pyo3_await_tokio::test]
    async fn a_rust_future_is_awaited_in_python() -> PyResult<()> {
        let future = Python::attach(|py| {
            let names = PyDict::new(py);
            names.set_item("call_rust_sleep", wrap_pyfunction!(super::call_rust_sleep, py)?)?;
            py.run(c"async def rust_sleep():\n    return await call_rust_sleep()", Some(&names), Some(&names))?;
            pyo3_await_tokio::into_future(names.get_item("rust_sleep")?.expect("it was defined").call0()?)
        })?;
        let result = future.await?;
        assert!(Python::attach(|py| result.is_none(py)));
        Ok(())
    }

    #[pyo3_await_tokio::test]
    async fn test_async_sleep() -> PyResult<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    #[pyo3_await_tokio::test]
    fn test_blocking_sleep() -> PyResult<()> {
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

#[pyo3_await_tokio::main]
async fn main() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}
