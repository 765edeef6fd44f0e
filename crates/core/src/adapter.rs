//! The API of an adapter crate.

/// Fills a module with the bridge's free functions, on the runtime that an expression gives.
///
/// The expression is evaluated at each call and has the type `PyResult<R>` with `R: Runtime`.
/// An adapter crate calls this once, at its root; a runtime of one's own does the same in a module:
///
/// ```
/// mod threads {
///     # use std::future::Future;
///     #[derive(Clone)]
///     pub struct Threads;
///
///     impl pyo3_await::Runtime for Threads {
///         // …
///         # fn spawn<F: Future<Output = ()> + Send + 'static>(&self, _: F) {}
///     }
///
///     pyo3_await::adapter!(Threads, Ok(Threads));
/// }
/// # use pyo3::prelude::*;
///
/// #[pyfunction]
/// fn answer(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     threads::into_coroutine(py, async { Ok(42) })
/// }
/// ```
#[macro_export]
macro_rules! adapter {
    ($runtime:ty, $current:expr) => {
        #[doc(inline)]
        pub use $crate::{
            Cancelled, ChannelClosed, PerProcess, Process, PythonFuture, PythonStream, Receiver, RecvError, Runtime,
            RuntimeExt, RustPanic, Scope, SendError, Sender, TaskLocals, attach, cancelled, channel, into_future,
            into_future_with, into_stream, run_forever, scope,
        };

        #[doc(hidden)]
        pub use $crate::private;

        /// The runtime that this module's free functions use.
        ///
        /// # Errors
        ///
        /// What keeps it from starting, if anything does.
        #[doc(alias = "get_runtime")]
        pub fn current_runtime() -> $crate::private::PyResult<$runtime> {
            $current
        }

        /// Turns a Rust future into a Python coroutine, on the current runtime.
        ///
        /// See [`RuntimeExt::into_coroutine`].
        #[doc(alias = "future_into_py", alias = "future_into_py_with_locals")]
        pub fn into_coroutine<F, T>(
            py: $crate::private::Python<'_>,
            future: F,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + ::core::marker::Send + 'static,
        {
            $crate::private::into_coroutine(current_runtime()?, py, future)
        }

        /// Turns a Rust future into a Python coroutine that polls it once in place, on the current runtime.
        ///
        /// See [`RuntimeExt::into_eager_coroutine`].
        pub fn into_eager_coroutine<F, T>(
            py: $crate::private::Python<'_>,
            future: F,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + ::core::marker::Send + 'static,
        {
            $crate::private::into_eager_coroutine(current_runtime()?, py, future)
        }

        /// Turns a Rust future that need not be `Send` into a Python coroutine, with the current runtime's context.
        ///
        /// See [`RuntimeExt::into_local_coroutine`].
        #[doc(alias = "local_future_into_py", alias = "local_future_into_py_with_locals")]
        pub fn into_local_coroutine<F, T>(
            py: $crate::private::Python<'_>,
            future: F,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + 'static,
        {
            $crate::private::into_local_coroutine(current_runtime()?, py, future)
        }

        /// Starts a Rust future on the current runtime and gives Python an asyncio future for it.
        ///
        /// See [`RuntimeExt::into_asyncio_future`].
        #[doc(alias = "future_into_py")]
        pub fn into_asyncio_future<F, T>(
            py: $crate::private::Python<'_>,
            future: F,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + ::core::marker::Send + 'static,
        {
            $crate::private::into_asyncio_future(current_runtime()?, py, future)
        }

        /// Turns a Rust stream into a Python asynchronous iterator, on the current runtime.
        ///
        /// See [`RuntimeExt::into_async_iterator`].
        pub fn into_async_iterator<S, T>(
            py: $crate::private::Python<'_>,
            stream: S,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            S: $crate::private::Stream<Item = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + ::core::marker::Send + 'static,
        {
            $crate::RuntimeExt::into_async_iterator(&current_runtime()?, py, stream)
        }

        /// Turns a Rust stream into a Python asynchronous iterator with a buffer of that many items.
        ///
        /// See [`RuntimeExt::into_async_iterator_with_capacity`].
        ///
        /// # Panics
        ///
        /// When `capacity` is 0.
        pub fn into_async_iterator_with_capacity<S, T>(
            py: $crate::private::Python<'_>,
            stream: S,
            capacity: ::core::primitive::usize,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            S: $crate::private::Stream<Item = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + ::core::marker::Send + 'static,
        {
            $crate::RuntimeExt::into_async_iterator_with_capacity(&current_runtime()?, py, stream, capacity)
        }

        /// Turns a Rust stream that need not be `Send` into a Python asynchronous iterator.
        ///
        /// See [`RuntimeExt::into_local_async_iterator`].
        pub fn into_local_async_iterator<S, T>(
            py: $crate::private::Python<'_>,
            stream: S,
        ) -> $crate::private::PyResult<$crate::private::Bound<'_, $crate::private::PyAny>>
        where
            S: $crate::private::Stream<Item = $crate::private::PyResult<T>> + 'static,
            T: for<'py> $crate::private::IntoPyObject<'py> + 'static,
        {
            $crate::RuntimeExt::into_local_async_iterator(&current_runtime()?, py, stream)
        }

        /// Runs a future on the current runtime and a new event loop, to completion.
        ///
        /// See [`RuntimeExt::run`].
        pub fn run<F, T>(py: $crate::private::Python<'_>, future: F) -> $crate::private::PyResult<T>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: ::core::marker::Send + 'static,
        {
            $crate::RuntimeExt::run(&current_runtime()?, py, future)
        }

        /// Waits for a future in synchronous Python, with the current runtime's context.
        ///
        /// See [`RuntimeExt::block_on`].
        pub fn block_on<F, T>(py: $crate::private::Python<'_>, future: F) -> $crate::private::PyResult<T>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + ::core::marker::Send,
            T: ::core::marker::Send,
        {
            $crate::RuntimeExt::block_on(&current_runtime()?, py, future)
        }

        /// Runs an event loop that the caller owns until a future on the current runtime has ended.
        ///
        /// See [`RuntimeExt::run_until_complete`].
        pub fn run_until_complete<F, T>(
            event_loop: &$crate::private::Bound<'_, $crate::private::PyAny>,
            future: F,
        ) -> $crate::private::PyResult<T>
        where
            F: ::core::future::Future<Output = $crate::private::PyResult<T>> + ::core::marker::Send + 'static,
            T: ::core::marker::Send + 'static,
        {
            $crate::RuntimeExt::run_until_complete(&current_runtime()?, event_loop, future)
        }

        /// Runs a future in the background on the current runtime, with the task locals of the caller.
        ///
        /// See [`RuntimeExt::spawn_inheriting`].
        ///
        /// # Errors
        ///
        /// What keeps the runtime from starting, if anything does, and those of [`RuntimeExt::spawn_inheriting`].
        pub fn spawn<F>(future: F) -> $crate::private::PyResult<()>
        where
            F: ::core::future::Future<Output = ()> + ::core::marker::Send + 'static,
        {
            $crate::RuntimeExt::spawn_inheriting(&current_runtime()?, future)
        }
    };
}
