//! What a Rust runtime must give, and what every runtime gets for it.

use std::future::Future;

use futures_core::Stream;
use pyo3::prelude::*;

use crate::{block_on, error, lifecycle::Admitted, locals, private, run, stream};

/// A Rust runtime that futures can be run on.
///
/// One method is enough: no join handle, no `block_on`, no `spawn_blocking`.
/// Panics are caught, task locals are kept, and cancellation is done on the bridge's side of [`spawn`](Self::spawn).
///
/// A runtime is a value: a handle that is cheap to clone and that any thread may use.
/// One process may have several.
///
/// ```
/// use std::{
///     future::Future,
///     pin::pin,
///     sync::{Arc, atomic::{AtomicBool, Ordering}},
///     task::{Context, Poll, Wake, Waker},
///     thread,
/// };
///
/// /// One thread for each future.
/// #[derive(Clone)]
/// struct Threads;
///
/// struct Bell {
///     rung: AtomicBool,
///     thread: thread::Thread,
/// }
///
/// impl Wake for Bell {
///     fn wake(self: Arc<Self>) {
///         // The flag, since the future may use the thread's own token for something else.
///         self.rung.store(true, Ordering::Release);
///         self.thread.unpark();
///     }
/// }
///
/// impl pyo3_await::Runtime for Threads {
///     fn spawn<F>(&self, future: F)
///     where
///         F: Future<Output = ()> + Send + 'static,
///     {
///         thread::spawn(move || {
///             let bell = Arc::new(Bell { rung: AtomicBool::new(false), thread: thread::current() });
///             let waker = Waker::from(Arc::clone(&bell));
///             let mut future = pin!(future);
///             while future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
///                 while !bell.rung.swap(false, Ordering::Acquire) {
///                     thread::park();
///                 }
///             }
///         });
///     }
/// }
/// ```
#[doc(alias = "ContextExt")]
pub trait Runtime: Clone + Send + Sync + 'static {
    /// Runs `future` to its end, in the background.
    ///
    /// The contract:
    ///
    /// - The future is never polled in place, that is, before `spawn` has returned on the calling thread.
    ///   The caller may be a Python thread that is attached to the interpreter.
    /// - The future is polled until it is ready; it is dropped early only when the runtime shuts down.
    ///   A future that is dropped early settles its Python awaiter with an error that says so; one that is leaked
    ///   cannot.
    /// - The future never panics.
    /// - In a child process that was forked, a runtime of the parent's has no threads: there `spawn` drops the future.
    ///   [`Process`](crate::Process) tells the two apart.
    fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static;

    /// Calls `f` with this runtime's thread-local context in place, for timers and I/O objects that look for it.
    ///
    /// The default calls `f` and nothing else.
    /// A runtime that must drive its own I/O on the calling thread cannot lend it this way.
    fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        f()
    }

    /// Whether the calling thread runs one of this runtime's tasks just now, so that it must not be blocked.
    ///
    /// The default says no. Of the tasks that were spawned by the bridge it knows by itself.
    fn is_in_task(&self) -> bool {
        false
    }

    /// Whether this is a child process that was forked, without the threads that this runtime has in the parent.
    ///
    /// There, what would be polled on the calling thread raises `RuntimeError` instead: its timers might wait for ever.
    /// The default says no, which is right for a runtime that needs no threads but that which polls.
    fn is_left_behind(&self) -> bool {
        false
    }
}

/// The bridge, as methods on any [`Runtime`].
///
/// An adapter crate has the same as free functions, on its current runtime.
#[expect(clippy::wrong_self_convention, reason = "it is the future that is converted")]
pub trait RuntimeExt: Runtime {
    /// Turns a Rust future into a Python coroutine.
    ///
    /// The coroutine is lazy, as Python's are: on the first `await` the future is spawned on this runtime, with the
    /// running event loop and a copy of the current context as its [`TaskLocals`](crate::TaskLocals).
    /// It may be made without a running loop, so `asyncio.run(coroutine)` works.
    /// The output is converted to a Python object on the loop's thread.
    ///
    /// The coroutine takes its `__name__` from the Rust function that the future's type was written in.
    ///
    /// # Errors
    ///
    /// The coroutine raises what the future returns as `Err`, what the conversion of its output raises, and
    /// [`RustPanic`](crate::RustPanic) when the future panics.
    /// If the runtime drops the future before its end, it raises `RuntimeError`.
    ///
    /// # Cancellation
    ///
    /// When Python cancels the await, the Rust future is dropped, on its runtime, before `CancelledError` is raised; if
    /// its poll does not return, no later than a second after.
    /// What it gives or raises meanwhile gives way to that, unless it was told by [`cancelled`](crate::cancelled).
    /// Closing the coroutine, throwing into it and garbage collection drop the future too, without waiting for it.
    #[doc(alias = "future_into_py", alias = "future_into_py_with_locals")]
    fn into_coroutine<'py, F, T>(&self, py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'a> IntoPyObject<'a> + Send + 'static,
    {
        private::into_coroutine(self.clone(), py, future)
    }

    /// Turns a Rust future into a Python coroutine that polls it once in place.
    ///
    /// As [`into_coroutine`](Self::into_coroutine), but the first `send` polls the future where it is, on the event
    /// loop's thread and inside [`Runtime::enter`]: when it is ready at once, nothing crosses a thread.
    /// When it has to wait, it is spawned on this runtime, which polls it again.
    /// Nothing happens before the first `send`, so `asyncio.run` takes this coroutine too.
    ///
    /// The poll in place is made attached to Python: it must be short, and must not wait for a lock that another thread
    /// may hold while it attaches.
    ///
    /// # Errors
    ///
    /// Those of [`into_coroutine`](Self::into_coroutine).
    ///
    /// # Cancellation
    ///
    /// As for [`into_coroutine`](Self::into_coroutine).
    fn into_eager_coroutine<'py, F, T>(&self, py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'a> IntoPyObject<'a> + Send + 'static,
    {
        private::into_eager_coroutine(self.clone(), py, future)
    }

    /// Turns a Rust future that need not be `Send` into a Python coroutine.
    ///
    /// The future is polled and dropped on the event loop's own thread, inside [`Runtime::enter`], so that timers and
    /// sockets of the runtime work in it; the first poll is part of the first `send`.
    /// It is polled attached to Python: a poll must be short, and must not wait for a lock that another thread may hold
    /// while it attaches.
    ///
    /// The coroutine must be awaited on the thread on which it was made.
    ///
    /// # Errors
    ///
    /// Those of [`into_coroutine`](Self::into_coroutine), and `RuntimeError` on another thread than that on which it
    /// was made; then the future is leaked, since no other thread may drop it.
    ///
    /// # Cancellation
    ///
    /// As for [`into_coroutine`](Self::into_coroutine), but that the future is dropped on the loop's thread.
    #[doc(alias = "local_future_into_py", alias = "local_future_into_py_with_locals")]
    fn into_local_coroutine<'py, F, T>(&self, py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = PyResult<T>> + 'static,
        T: for<'a> IntoPyObject<'a> + 'static,
    {
        private::into_local_coroutine(self.clone(), py, future)
    }

    /// Starts a Rust future now and gives Python an asyncio future for it.
    ///
    /// `asyncio.isfuture` is true of it, and it has the whole interface of `asyncio.Future`; as with a task,
    /// `set_result` and `set_exception` are refused, and `cancel` asks the Rust future to stop.
    /// The future runs on when Python drops its reference.
    ///
    /// # Errors
    ///
    /// `RuntimeError` when no event loop runs in this thread.
    /// The errors and the cancellation of what it returns are those of [`into_coroutine`](Self::into_coroutine);
    /// an exception that nobody retrieves is reported to the loop's exception handler.
    #[doc(alias = "future_into_py")]
    fn into_asyncio_future<'py, F, T>(&self, py: Python<'py>, future: F) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: for<'a> IntoPyObject<'a> + Send + 'static,
    {
        private::into_asyncio_future(self.clone(), py, future)
    }

    /// Turns a Rust stream into a Python asynchronous iterator, for `async for`.
    ///
    /// The iterator has the interface of an asynchronous generator (`collections.abc.AsyncGenerator`), so that
    /// `aiter`, `anext` with a default and `contextlib.aclosing` take it.
    /// It is lazy: at the first `__anext__` the stream is given to this runtime, with the running event loop and a copy
    /// of the current context as its [`TaskLocals`](crate::TaskLocals).
    /// From then on it is polled until it is 1,024 items ahead of Python;
    /// see [`into_async_iterator_with_capacity`](Self::into_async_iterator_with_capacity).
    /// Items are converted to Python objects on the event loop's thread, when Python asks for them: a few
    /// at a time, if there are so many. Those that wait are had at once, without a switch of tasks.
    ///
    /// Two tasks must not iterate at the same time: the second gets Python's own `RuntimeError`.
    ///
    /// # Errors
    ///
    /// The iterator raises, once, what the stream gives as `Err`, what the conversion of an item raises, and
    /// [`RustPanic`](crate::RustPanic) when the stream panics; that is its end.
    /// If the runtime drops the stream before its end, it raises `RuntimeError`.
    ///
    /// # Cancellation
    ///
    /// A cancelled `__anext__` loses no item, and the next one goes on.
    /// The stream is dropped, on its runtime, when it has ended, when the iterator is garbage (after a `break`, say),
    /// by `aclose`, which waits for the drop, by `athrow`, and when the event loop shuts down its asynchronous
    /// generators.
    /// Python's garbage collector does not see what is inside the stream: one that has its own iterator stays, with
    /// that, until `aclose`.
    fn into_async_iterator<'py, S, T>(&self, py: Python<'py>, stream: S) -> PyResult<Bound<'py, PyAny>>
    where
        S: Stream<Item = PyResult<T>> + Send + 'static,
        T: for<'a> IntoPyObject<'a> + Send + 'static,
    {
        stream::into_async_iterator(py, self.clone(), stream, stream::CAPACITY)
    }

    /// Turns a Rust stream into a Python asynchronous iterator with a buffer of `capacity` items.
    ///
    /// As [`into_async_iterator`](Self::into_async_iterator); the stream is polled until it is that many items ahead of
    /// Python, and again when half of them have been consumed.
    ///
    /// # Errors
    ///
    /// Those of [`into_async_iterator`](Self::into_async_iterator).
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    fn into_async_iterator_with_capacity<'py, S, T>(
        &self,
        py: Python<'py>,
        stream: S,
        capacity: usize,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        S: Stream<Item = PyResult<T>> + Send + 'static,
        T: for<'a> IntoPyObject<'a> + Send + 'static,
    {
        stream::into_async_iterator(py, self.clone(), stream, capacity)
    }

    /// Turns a Rust stream that need not be `Send` into a Python asynchronous iterator.
    ///
    /// As [`into_async_iterator`](Self::into_async_iterator), but that the stream is polled and dropped on the event
    /// loop's own thread, inside [`Runtime::enter`], and only when Python asks for an item: it is never ahead, and
    /// there is no buffer.
    /// As long as it is ready at once the event loop has no turn, as with Python's own generators: where that may take
    /// long, `await asyncio.sleep(0)` now and then lets others, timeouts and Ctrl-C come in.
    /// It is polled attached to Python: a poll must be short, and must not wait for a lock that another thread may hold
    /// while it attaches.
    ///
    /// The iterator must be used on the thread on which it was made.
    ///
    /// # Errors
    ///
    /// Those of [`into_async_iterator`](Self::into_async_iterator), and `RuntimeError` on another thread than that on
    /// which it was made. A stream that is garbage on another thread is sent back to its own, by its event loop; before
    /// the first item was asked for, or when the loop is closed, it is leaked.
    ///
    /// # Cancellation
    ///
    /// As for [`into_async_iterator`](Self::into_async_iterator), but that the stream is dropped on the loop's thread.
    fn into_local_async_iterator<'py, S, T>(&self, py: Python<'py>, stream: S) -> PyResult<Bound<'py, PyAny>>
    where
        S: Stream<Item = PyResult<T>> + 'static,
        T: for<'a> IntoPyObject<'a> + 'static,
    {
        stream::into_local_async_iterator(py, self.clone(), stream)
    }

    /// Runs a future on a new event loop, to completion, as `asyncio.run` does.
    ///
    /// At the end the tasks that remain are cancelled, and asynchronous generators and the default executor are shut
    /// down.
    /// On the main thread Ctrl-C cancels the future and raises `KeyboardInterrupt`, as Python does.
    ///
    /// # Errors
    ///
    /// What the future returns as `Err`, and `RuntimeError` when an event loop runs in this thread already, or when the
    /// thread runs a task of the Rust runtime, which would be blocked.
    fn run<F, T>(&self, py: Python<'_>, future: F) -> PyResult<T>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        run::run(py, self, run::LoopKind::Policy, future)
    }

    /// Waits for a future in synchronous Python.
    ///
    /// The future is polled on the calling thread, detached from Python and inside [`Runtime::enter`]: other Python
    /// threads run meanwhile. It needs no event loop, and has none: [`into_future`](crate::into_future) in it wants a
    /// [`scope`](crate::scope) with the locals of a loop that runs in another thread.
    ///
    /// # Errors
    ///
    /// What the future returns as `Err`, and [`RustPanic`](crate::RustPanic) when it panics.
    /// `RuntimeError` when it would block what the future may need: in a thread whose event loop runs, and in a task of
    /// the Rust runtime, as far as that [can tell](Runtime::is_in_task). `RuntimeError` in exit functions that run
    /// after the bridge has been stopped, and in a forked process that has none of the runtime's threads.
    ///
    /// # Cancellation
    ///
    /// On the main thread signals are handled every 50 ms while it waits: when a handler raises, as Python's own for
    /// Ctrl-C does, the future is dropped and the exception raised.
    ///
    /// When the interpreter ends while another thread waits here, that thread does not come back.
    fn block_on<F, T>(&self, py: Python<'_>, future: F) -> PyResult<T>
    where
        F: Future<Output = PyResult<T>> + Send,
        T: Send,
    {
        block_on::block_on(py, self, future)
    }

    /// Runs an event loop that the caller owns until `future` has ended.
    ///
    /// # Errors
    ///
    /// What the future returns as `Err`, and what the loop's own `run_until_complete` raises. `RuntimeError` when the
    /// thread runs a task of the Rust runtime, which would be blocked.
    fn run_until_complete<F, T>(&self, event_loop: &Bound<'_, PyAny>, future: F) -> PyResult<T>
    where
        F: Future<Output = PyResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        run::run_until_complete(event_loop, self, future)
    }

    /// Runs `future` in the background, with the [`TaskLocals`](crate::TaskLocals) of the caller.
    ///
    /// The locals are those of the Rust task that calls, if there are any, else those of the event loop that runs in
    /// this thread, when the thread is attached to Python.
    /// Built for the stable ABI (`abi3`) they are those of Rust tasks only.
    /// It never attaches, and having no locals is not an error.
    ///
    /// The future is polled and dropped as long as the interpreter is not ending. A panic ends it, and nothing else.
    ///
    /// # Errors
    ///
    /// What Python raises when an event loop is asked for its locals for the first time, Ctrl-C included; then the
    /// future is dropped.
    fn spawn_inheriting<F>(&self, future: F) -> PyResult<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match locals::inherited()? {
            Some(locals) => self.spawn(Admitted::new(locals::scope(locals, future))),
            None => self.spawn(Admitted::new(future)),
        }
        Ok(())
    }
}

impl<R: Runtime> RuntimeExt for R {}

/// Refuses a runtime that a fork has left behind, where it would be polled on this thread.
pub(crate) fn refuse_left_behind(runtime: &impl Runtime) -> PyResult<()> {
    if runtime.is_left_behind() { Err(error::forked("the Rust runtime")) } else { Ok(()) }
}
