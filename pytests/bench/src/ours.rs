//! This library: each way to run a Rust future, on each runtime.

use std::{future::Future, sync::Arc};

use pyo3::prelude::*;

use crate::{futures, submodule};

type Awaitable<'py> = PyResult<Bound<'py, PyAny>>;

/// The contender of one way on one runtime.
macro_rules! contender {
    ($name:ident, $adapter:ident, $way:ident, $runtime:ident) => {
        mod $name {
            use super::*;

            #[pyfunction]
            pub(super) fn ready(py: Python<'_>) -> Awaitable<'_> {
                $adapter::$way(py, futures::ready())
            }

            #[pyfunction]
            pub(super) fn yield_once(py: Python<'_>) -> Awaitable<'_> {
                $adapter::$way(py, futures::after($runtime::yield_once))
            }

            #[pyfunction]
            pub(super) fn spawn_once(py: Python<'_>) -> Awaitable<'_> {
                $adapter::$way(py, futures::after($runtime::spawn_once))
            }

            #[pyfunction]
            pub(super) fn pending(py: Python<'_>) -> Awaitable<'_> {
                $adapter::$way(py, futures::pending())
            }

            #[pyfunction]
            pub(super) fn call_sequentially(py: Python<'_>, function: Py<PyAny>, count: usize) -> Awaitable<'_> {
                $adapter::$way(py, futures::call_sequentially(call(function), count))
            }

            #[pyfunction]
            pub(super) fn call_at_once(py: Python<'_>, function: Py<PyAny>, count: usize) -> Awaitable<'_> {
                $adapter::$way(py, futures::call_at_once(move || futures::all(call(function), count)))
            }

            #[pyfunction]
            pub(super) fn call_attached(py: Python<'_>, function: Py<PyAny>, count: usize) -> Awaitable<'_> {
                let call = futures::attached($adapter::into_future, function);
                $adapter::$way(py, futures::call_sequentially(call, count))
            }

            /// Has a Python function called on the event loop's thread.
            fn call(function: Py<PyAny>) -> impl Fn() -> PyResult<$adapter::PythonFuture> {
                let function = Arc::new(function);
                move || {
                    let function = Arc::clone(&function);
                    $adapter::into_future_with(move |py| function.bind(py).call0())
                }
            }

            pub(super) fn fill(module: &Bound<'_, PyModule>) -> PyResult<()> {
                module.add_function(wrap_pyfunction!(ready, module)?)?;
                module.add_function(wrap_pyfunction!(yield_once, module)?)?;
                module.add_function(wrap_pyfunction!(spawn_once, module)?)?;
                module.add_function(wrap_pyfunction!(pending, module)?)?;
                module.add_function(wrap_pyfunction!(call_sequentially, module)?)?;
                module.add_function(wrap_pyfunction!(call_at_once, module)?)?;
                module.add_function(wrap_pyfunction!(call_attached, module)?)
            }
        }
    };
}

macro_rules! contenders {
    ($($name:ident: $adapter:ident::$way:ident with $runtime:ident;)*) => {
        $(contender!($name, $adapter, $way, $runtime);)*

        pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
            $(submodule(parent, stringify!($name), $name::fill)?;)*
            Ok(())
        }
    };
}

contenders! {
    tokio_coroutine: pyo3_await_tokio::into_coroutine with on_tokio;
    tokio_eager: pyo3_await_tokio::into_eager_coroutine with on_tokio;
    tokio_local: pyo3_await_tokio::into_local_coroutine with on_tokio;
    tokio_future: pyo3_await_tokio::into_asyncio_future with on_tokio;
    async_std_coroutine: pyo3_await_async_std::into_coroutine with on_async_std;
    async_std_eager: pyo3_await_async_std::into_eager_coroutine with on_async_std;
    async_std_local: pyo3_await_async_std::into_local_coroutine with on_async_std;
    async_std_future: pyo3_await_async_std::into_asyncio_future with on_async_std;
    smol_coroutine: pyo3_await_smol::into_coroutine with on_smol;
    smol_eager: pyo3_await_smol::into_eager_coroutine with on_smol;
    smol_local: pyo3_await_smol::into_local_coroutine with on_smol;
    smol_future: pyo3_await_smol::into_asyncio_future with on_smol;
}

/// What a future asks of its runtime.
mod on_tokio {
    use super::Future;

    pub(super) fn yield_once() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    pub(super) async fn spawn_once() {
        tokio::spawn(async {}).await.expect("it does not panic");
    }
}

mod on_async_std {
    use super::Future;

    pub(super) fn yield_once() -> impl Future<Output = ()> + Send {
        async_std::task::yield_now()
    }

    pub(super) fn spawn_once() -> impl Future<Output = ()> + Send {
        async_std::task::spawn(async {})
    }
}

mod on_smol {
    use super::Future;

    pub(super) fn yield_once() -> impl Future<Output = ()> + Send {
        smol::future::yield_now()
    }

    pub(super) fn spawn_once() -> impl Future<Output = ()> + Send {
        smol::spawn(async {})
    }
}
