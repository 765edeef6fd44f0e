//! Rust that awaits Python.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
    thread,
};

use futures_lite::Stream as _;
use pyo3::{prelude::*, types::PyTuple};
use pyo3_await_tokio::{PythonFuture, PythonStream, TaskLocals, block_on, into_future, into_stream, scope, spawn};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{gate::Gate, run};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Call>()?;
    module.add_class::<Stream>()?;
    module.add_function(wrap_pyfunction!(call, module)?)?;
    module.add_function(wrap_pyfunction!(call_in_scope, module)?)?;
    module.add_function(wrap_pyfunction!(call_and_poll_busily, module)?)?;
    module.add_function(wrap_pyfunction!(call_in_spawned, module)?)?;
    module.add_function(wrap_pyfunction!(call_on_thread, module)?)?;
    module.add_function(wrap_pyfunction!(call_with_locals, module)?)?;
    module.add_function(wrap_pyfunction!(call_from_afar, module)?)?;
    module.add_function(wrap_pyfunction!(call_without_locals, module)?)?;
    module.add_function(wrap_pyfunction!(spawn_from_python, module)?)?;
    module.add_function(wrap_pyfunction!(current_locals, module)?)?;
    module.add_function(wrap_pyfunction!(nest, module)?)?;
    module.add_function(wrap_pyfunction!(leave, module)?)?;
    module.add_function(wrap_pyfunction!(drop_unpolled, module)?)?;
    module.add_function(wrap_pyfunction!(detach_unpolled, module)?)
}

/// Awaits a Python awaitable, with the current locals.
async fn outcome_of(awaitable: Py<PyAny>) -> PyResult<Py<PyAny>> {
    Python::attach(|py| into_future(awaitable.into_bound(py)))?.await
}

/// Rust awaits a Python awaitable and polls it all the time.
#[pyfunction]
fn call_and_poll_busily<'py>(py: Python<'py>, way: &str, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut call = into_future(awaitable)?;
    let polled = poll_fn(move |cx| {
        for _ in 0..1_000 {
            if let Poll::Ready(result) = Pin::new(&mut call).poll(cx) {
                return Poll::Ready(result);
            }
        }
        // Whoever else is on this worker shall have a turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    run(py, way, polled)
}

/// Rust awaits a Python awaitable.
#[pyfunction]
fn call<'py>(py: Python<'py>, way: &str, awaitable: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move { outcome_of(awaitable).await })
}

/// Rust awaits a Python awaitable in a task of its own, which has the locals by `scope`.
#[pyfunction]
fn call_in_scope<'py>(py: Python<'py>, way: &str, awaitable: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::current(py)?;
    run(py, way, async move {
        let task = Handle::current().spawn(scope(locals, outcome_of(awaitable)));
        task.await.expect("the task does not panic")
    })
}

/// Rust awaits a Python awaitable in a task that `spawn` starts, which inherits the locals.
#[pyfunction]
fn call_in_spawned<'py>(py: Python<'py>, way: &str, awaitable: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        let (sender, receiver) = oneshot::channel();
        spawn(async move { drop(sender.send(outcome_of(awaitable).await)) })?;
        receiver.await.expect("the task ends by sending")
    })
}

/// Rust awaits a Python awaitable on a thread that belongs neither to the runtime nor to Python.
#[pyfunction]
fn call_on_thread<'py>(py: Python<'py>, way: &str, awaitable: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::current(py)?;
    run(py, way, async move {
        let (sender, receiver) = oneshot::channel();
        let runtime = Handle::current();
        thread::spawn(move || sender.send(runtime.block_on(scope(locals, outcome_of(awaitable)))));
        receiver.await.expect("the thread ends by sending")
    })
}

/// Rust awaits a Python awaitable on another event loop, in a given context.
#[pyfunction]
#[pyo3(signature = (way, awaitable, event_loop, context = None))]
fn call_with_locals<'py>(
    py: Python<'py>,
    way: &str,
    awaitable: Bound<'py, PyAny>,
    event_loop: &Bound<'py, PyAny>,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let locals = TaskLocals::new(event_loop)?;
    let locals = context.map_or(locals.clone(), |context| locals.with_context(context));
    let future = locals.into_future(awaitable)?;
    run(py, way, future)
}

/// Awaits Python on an event loop that runs in another thread, and blocks this one until that has ended.
#[pyfunction]
fn call_from_afar(awaitable: Bound<'_, PyAny>, event_loop: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let future = TaskLocals::new(event_loop)?.into_future(awaitable)?;
    block_on(event_loop.py(), future)
}

/// Awaits Python from where there is neither a loop nor a scope.
#[pyfunction]
fn call_without_locals(py: Python<'_>, awaitable: Py<PyAny>) -> PyResult<()> {
    let convert = || Python::attach(|py| into_future(awaitable.into_bound(py)).map(drop));
    py.detach(|| thread::spawn(convert).join().expect("the thread does not panic"))
}

/// Spawned while attached inside a running loop, outside any Rust task: calls `callback` with the result.
#[pyfunction]
fn spawn_from_python(awaitable: Py<PyAny>, callback: Py<PyAny>) -> PyResult<()> {
    spawn(async move {
        let result = outcome_of(awaitable).await;
        Python::attach(|py| {
            let argument = match result {
                Ok(value) => value.into_bound(py),
                Err(error) => error.into_value(py).into_bound(py).into_any(),
            };
            callback.call1(py, (argument,)).expect("the callback does not raise");
        });
    })
}

/// The event loop and the context of the current locals.
#[pyfunction]
fn current_locals(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let locals = TaskLocals::current(py)?;
    (locals.event_loop(py)?, locals.context(py)).into_pyobject(py)
}

/// Rust awaits what `make(depth - 1)` returns; at depth 0, what `make(0)` does.
#[pyfunction]
fn nest<'py>(py: Python<'py>, way: &str, make: Py<PyAny>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
    run(py, way, async move {
        let inner = Python::attach(|py| into_future(make.bind(py).call1((depth.saturating_sub(1),))?))?;
        inner.await
    })
}

/// Awaits a Python awaitable until `gate` opens; then drops the Rust future, or detaches it.
///
/// When the gate counts a start, the awaitable is on its way to the loop; when it counts a drop, the future is gone.
#[pyfunction]
fn leave<'py>(
    py: Python<'py>,
    way: &str,
    awaitable: Bound<'py, PyAny>,
    gate: &Gate,
    detach: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let mut future = into_future(awaitable)?;
    let guard = gate.guard();
    run(py, way, async move {
        tokio::select! {
            biased;
            _ = &mut future => panic!("the awaitable ended before the gate opened"),
            () = guard.opened() => {}
        }
        if detach {
            future.detach();
        } else {
            drop(future);
        }
        drop(guard);
        Ok(())
    })
}

/// What Python polls and lets go of as it likes.
struct Held<T>(Mutex<Option<T>>);

impl<T: Unpin> Held<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    fn poll<R>(&self, poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> R) -> R {
        let mut value = self.0.lock().expect("nobody panics");
        poll(Pin::new(value.as_mut().expect("it is there")), &mut Context::from_waker(Waker::noop()))
    }

    fn take(&self) -> T {
        self.0.lock().expect("nobody panics").take().expect("it is there")
    }
}

/// A Rust future that awaits Python, in Python's hands.
#[pyclass(frozen, module = "bridge")]
pub(crate) struct Call(Held<PythonFuture>);

#[pymethods]
impl Call {
    #[new]
    fn new(awaitable: Bound<'_, PyAny>) -> PyResult<Self> {
        into_future(awaitable).map(|future| Self(Held::new(future)))
    }

    /// The result, once it is there.
    fn poll(&self) -> PyResult<Option<Py<PyAny>>> {
        match self.0.poll(PythonFuture::poll) {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn drop(&self) {
        drop(self.0.take());
    }

    fn detach(&self) {
        self.0.take().detach();
    }
}

/// A Rust stream of what Python yields, in Python's hands.
#[pyclass(frozen, module = "bridge")]
pub(crate) struct Stream(Held<PythonStream>);

#[pymethods]
impl Stream {
    #[new]
    fn new(iterable: Bound<'_, PyAny>) -> PyResult<Self> {
        into_stream(iterable).map(|stream| Self(Held::new(stream)))
    }

    fn poll(&self) {
        assert!(self.0.poll(PythonStream::poll_next).is_pending());
    }

    fn drop(&self) {
        drop(self.0.take());
    }
}

/// Turns an awaitable into a Rust future, and drops that without polling it.
#[pyfunction]
fn drop_unpolled(awaitable: Bound<'_, PyAny>) -> PyResult<()> {
    into_future(awaitable).map(drop)
}

/// Turns an awaitable into a Rust future, and detaches that without polling it.
#[pyfunction]
fn detach_unpolled(awaitable: Bound<'_, PyAny>) -> PyResult<()> {
    into_future(awaitable).map(pyo3_await_tokio::PythonFuture::detach)
}
