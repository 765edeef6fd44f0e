//! `#[main]` and `#[test]` for pyo3-await.
//!
//! Nobody needs to name this crate.
//! An attribute macro does not know by which path it was reached, so each adapter has a pair of its own here, which it
//! re-exports as `main` and `test`; what a pair does is written once.

#![forbid(unsafe_code)]

mod adapter;
mod args;
mod values;
mod function;
mod expand_main;
mod expand_test;

use proc_macro::TokenStream;

use crate::adapter::Adapter;

/// Makes an async function the program: Python has the main thread, a runtime of your own works in the background.
///
/// The function runs as a future on the runtime, with a new Python event loop on the main thread; `into_future` and
/// everything else that needs an event loop works inside it.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// # use pyo3_await_tokio::Tokio as Mine;
/// mod mine {
///     pyo3_await::adapter!(super::Mine, super::Mine::current());
/// }
///
/// #[pyo3_await::main(crate = mine)]
/// async fn main() -> PyResult<()> {
///     let sleep = Python::attach(|py| mine::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?))?;
///     sleep.await?;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/main.md")]
///
/// - `crate = path`: the module that `adapter!` filled; required, while an official adapter's own `main` knows it.
/// - `event_loop = "asyncio" | "uvloop"`: which event loop to make.
///   `"asyncio"`, the default, is what `asyncio.run` makes.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_main::expand(Adapter::Custom, args.into(), item.into()).into()
}

/// Registers a test with the harness of `pyo3-await-testing`, on a runtime of your own.
///
/// An async test is a future on the runtime, and the Python event loop of the main thread is there for it; a test that
/// is not async runs on a thread of its own, not attached to Python.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// # use pyo3_await_tokio::Tokio as Mine;
/// mod mine {
///     pyo3_await::adapter!(super::Mine, super::Mine::current());
///     // What `#[test]` expands to is found here.
///     pub use pyo3_await_testing as testing;
/// }
///
/// #[pyo3_await::test(crate = mine, timeout = "5s")]
/// async fn sleeps() -> PyResult<()> {
///     let sleep = Python::attach(|py| mine::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?))?;
///     sleep.await?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
#[doc = include_str!("doc/test.md")]
/// - `crate = path`: the module that `adapter!` filled; required, while an official adapter's own `test` knows it.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_test::expand(Adapter::Custom, args.into(), item.into()).into()
}

/// Makes an async function the program: Python has the main thread, tokio works in the background.
///
/// The function runs as a future on tokio, with a new Python event loop on the main thread; `into_future` and
/// everything else that needs an event loop works inside it.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyo3_await_tokio::main]
/// async fn main() -> PyResult<()> {
///     let sleep = Python::attach(|py| {
///         pyo3_await_tokio::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?)
///     })?;
///     sleep.await?;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/main.md")]
///
/// - `flavor = "multi_thread" | "current_thread"` and `worker_threads = 4`: tokio's own, for the process-wide default
///   runtime.
///   `worker_threads` needs `"multi_thread"`, which is the default.
/// - `event_loop = "asyncio" | "uvloop"`: which event loop to make.
///   `"asyncio"`, the default, is what `asyncio.run` makes.
/// - `crate = path`: where the adapter is, when it is not at `::pyo3_await_tokio`.
#[proc_macro_attribute]
pub fn tokio_main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_main::expand(Adapter::Tokio, args.into(), item.into()).into()
}

/// Registers a test with the harness of the feature `testing`.
///
/// An async test is a future on tokio, and the Python event loop of the main thread is there for it; a test that is not
/// async runs on a thread of its own, not attached to Python.
///
/// ```no_run
/// # use std::time::Duration;
/// # use pyo3::prelude::*;
/// #[pyo3_await_tokio::test(timeout = "5s")]
/// async fn sleeps() -> PyResult<()> {
///     tokio::time::sleep(Duration::from_secs(1)).await;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/test.md")]
/// - `flavor = "multi_thread" | "current_thread"` and `worker_threads = 4`: a runtime of the test's own.
///   `worker_threads` needs `"multi_thread"`, which is the default.
/// - `crate = path`: where the adapter is, when it is not at `::pyo3_await_tokio`.
#[proc_macro_attribute]
pub fn tokio_test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_test::expand(Adapter::Tokio, args.into(), item.into()).into()
}

/// Makes an async function the program: Python has the main thread, async-std works in the background.
///
/// The function runs as a future on async-std, with a new Python event loop on the main thread; `into_future` and
/// everything else that needs an event loop works inside it.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyo3_await_async_std::main]
/// async fn main() -> PyResult<()> {
///     let sleep = Python::attach(|py| {
///         pyo3_await_async_std::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?)
///     })?;
///     sleep.await?;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/main.md")]
///
/// - `event_loop = "asyncio" | "uvloop"`: which event loop to make.
///   `"asyncio"`, the default, is what `asyncio.run` makes.
/// - `crate = path`: where the adapter is, when it is not at `::pyo3_await_async_std`.
#[proc_macro_attribute]
pub fn async_std_main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_main::expand(Adapter::AsyncStd, args.into(), item.into()).into()
}

/// Registers a test with the harness of the feature `testing`.
///
/// An async test is a future on async-std, and the Python event loop of the main thread is there for it; a test that
/// is not async runs on a thread of its own, not attached to Python.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyo3_await_async_std::test(timeout = "5s")]
/// async fn sleeps() -> PyResult<()> {
///     let sleep = Python::attach(|py| {
///         pyo3_await_async_std::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?)
///     })?;
///     sleep.await?;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/test.md")]
/// - `crate = path`: where the adapter is, when it is not at `::pyo3_await_async_std`.
#[proc_macro_attribute]
pub fn async_std_test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_test::expand(Adapter::AsyncStd, args.into(), item.into()).into()
}

/// Makes an async function the program: Python has the main thread, smol works in the background.
///
/// The function runs as a future on smol, with a new Python event loop on the main thread; `into_future` and everything
/// else that needs an event loop works inside it.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyo3_await_smol::main]
/// async fn main() -> PyResult<()> {
///     let sleep = Python::attach(|py| {
///         pyo3_await_smol::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?)
///     })?;
///     sleep.await?;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/main.md")]
///
/// - `event_loop = "asyncio" | "uvloop"`: which event loop to make.
///   `"asyncio"`, the default, is what `asyncio.run` makes.
/// - `crate = path`: where the adapter is, when it is not at `::pyo3_await_smol`.
#[proc_macro_attribute]
pub fn smol_main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_main::expand(Adapter::Smol, args.into(), item.into()).into()
}

/// Registers a test with the harness of the feature `testing`.
///
/// An async test is a future on smol, and the Python event loop of the main thread is there for it; a test that is not
/// async runs on a thread of its own, not attached to Python.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyo3_await_smol::test(timeout = "5s")]
/// async fn sleeps() -> PyResult<()> {
///     let sleep = Python::attach(|py| {
///         pyo3_await_smol::into_future(py.import("asyncio")?.call_method1("sleep", (1,))?)
///     })?;
///     sleep.await?;
///     Ok(())
/// }
/// ```
///
#[doc = include_str!("doc/test.md")]
/// - `crate = path`: where the adapter is, when it is not at `::pyo3_await_smol`.
#[proc_macro_attribute]
pub fn smol_test(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_test::expand(Adapter::Smol, args.into(), item.into()).into()
}
