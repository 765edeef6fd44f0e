//! A Python extension module whose functions give coroutines, written in Rust and run by tokio.

use pyo3::prelude::*;

#[pymodule]
mod pyo3_await_demo {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures::stream::{self, TryStreamExt};
    use pyo3::{exceptions::PyAssertionError, prelude::*};
    use pyo3_await_tokio::{into_async_iterator, into_coroutine, into_future, into_stream};
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpStream,
    };

    /// Sends each line to the server, checks that it comes back in capitals, and returns how many did.
    #[pyfunction]
    fn ask(py: Python<'_>, port: u16, lines: Vec<String>) -> PyResult<Bound<'_, PyAny>> {
        into_coroutine(py, async move {
            let mut server = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
            let mut answer = String::new();
            for line in &lines {
                server.write_all(format!("{line}\n").as_bytes()).await?;
                answer.clear();
                server.read_line(&mut answer).await?;
                if answer.trim_end() != line.to_uppercase() {
                    let message = format!("{line:?} was answered by {answer:?}");
                    return Err(PyAssertionError::new_err(message));
                }
            }
            Ok(lines.len())
        })
    }

    /// Answers each line from the server with what `handler`, an async Python function, makes of it.
    /// Returns how many lines there were.
    #[pyfunction]
    fn answer(py: Python<'_>, port: u16, handler: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        into_coroutine(py, async move {
            let mut server = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
            let mut answered = 0;
            let mut line = String::new();
            while server.read_line(&mut line).await? > 0 {
                let handled = Python::attach(|py| {
                    let coroutine = handler.bind(py).call1((line.trim_end(),))?;
                    into_future(coroutine)
                })?;
                let answer = handled.await?;
                let answer: String = Python::attach(|py| answer.extract(py))?;
                server.write_all(format!("{answer}\n").as_bytes()).await?;
                answered += 1;
                line.clear();
            }
            Ok(answered)
        })
    }

    /// The lines that the server sends, as they come, for `async for`.
    #[pyfunction]
    fn receive(py: Python<'_>, port: u16) -> PyResult<Bound<'_, PyAny>> {
        let connected = stream::once(async move {
            let server = TcpStream::connect(("127.0.0.1", port)).await?;
            PyResult::Ok(BufReader::new(server).lines())
        });
        let lines = connected.map_ok(|lines| {
            stream::try_unfold(lines, async |mut lines| Ok(lines.next_line().await?.map(|line| (line, lines))))
        });
        into_async_iterator(py, lines.try_flatten())
    }

    /// Sends the server each line that `lines`, an asynchronous generator, yields. Returns how many there were.
    #[pyfunction]
    fn send(py: Python<'_>, port: u16, lines: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        into_coroutine(py, async move {
            let mut lines = Python::attach(|py| into_stream(lines.into_bound(py)))?;
            let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
            let mut sent = 0;
            while let Some(line) = lines.try_next().await? {
                let line: String = Python::attach(|py| line.extract(py))?;
                server.write_all(format!("{line}\n").as_bytes()).await?;
                sent += 1;
            }
            server.shutdown().await?;
            Ok(sent)
        })
    }

    /// Sleeps for as long as it is told, which may be too long for the caller.
    #[pyfunction]
    fn sleep(py: Python<'_>, seconds: u64) -> PyResult<Bound<'_, PyAny>> {
        let count_drop = CountDrop;
        into_coroutine(py, async move {
            let _count_drop = count_drop;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        })
    }

    /// How many futures made by [`sleep`] have been dropped.
    #[pyfunction]
    fn sleeps_dropped() -> usize {
        SLEEPS_DROPPED.load(Ordering::Relaxed)
    }

    static SLEEPS_DROPPED: AtomicUsize = AtomicUsize::new(0);

    struct CountDrop;

    impl Drop for CountDrop {
        fn drop(&mut self) {
            SLEEPS_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}
