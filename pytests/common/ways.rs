//! When a future starts, in each way. How it ends is in `ends`.

use std::{
    future::{self, Future},
    task::Poll,
};

use pyo3::prelude::*;
use pyo3_await_pytests::{Counter, on_loop};

use super::way::Way;
use crate::adapter;

/// Polls and drops of a future, which never ends.
#[derive(Clone, Default)]
struct Traces {
    polled: Counter,
    dropped: Counter,
}

impl Traces {
    fn future(&self) -> impl Future<Output = PyResult<()>> + Send + 'static {
        let (polled, guard) = (self.polled.clone(), self.dropped.guard());
        future::poll_fn(move |_| {
            let _guard = &guard;
            polled.add();
            Poll::Pending
        })
    }
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_coroutine_is_lazy() -> PyResult<()> {
    for way in [Way::Coroutine, Way::EagerCoroutine, Way::LocalCoroutine] {
        let traces = Traces::default();
        let future = traces.future();
        let coroutine = on_loop(move |py| way.convert(py, future).map(Bound::unbind)).await?;
        // Whatever it had sent to the event loop would have come before this.
        on_loop(|_| Ok(())).await?;
        assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 0), "{way:?}");
        on_loop(move |py| coroutine.call_method0(py, "close").map(drop)).await?;
        assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 1), "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn an_asyncio_future_needs_a_running_loop() -> PyResult<()> {
    let traces = Traces::default();
    let error = Python::attach(|py| Way::AsyncioFuture.convert(py, traces.future()).map(drop));
    let error = error.expect_err("no event loop runs in this thread");
    assert!(error.to_string().contains("no running event loop"), "{error}");
    assert_eq!((traces.polled.get(), traces.dropped.get()), (0, 1));
    Ok(())
}
