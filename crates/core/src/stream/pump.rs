//! The coroutine that iterates over a Python asynchronous iterable, for a Rust stream.
//!
//! It runs in a task of its own, so that the iterable finds a current task, as it would in an `async for`.
//! Whatever the iterable waits for, the task waits for; a cancellation of the task goes to the iterable.

use std::{
    collections::VecDeque,
    ffi::CStr,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use pyo3::{
    exceptions::{PyBaseException, PyRuntimeError, PyValueError},
    prelude::*,
    types::PyType,
};

use super::{
    CAPACITY,
    alarm::{Alarm, Waiting},
    buffer::Room,
    into_rust::Items,
    protocol::{self, Iterator, Pulled},
};
use crate::{
    asyncio_future::{AsyncioFuture, cancelled_error},
    class::{self, Arguments, Awaitable, Class, Get, Members, Object, Protocol, Sent, Visit},
    error,
    once::{PyOnce, intern},
    path::Path,
    sync::Lock,
};

/// How many items are taken in one step of the task from an iterable that does not suspend.
///
/// It is half of a buffer of the usual capacity, which is what there is room for when the task is woken: then it fills
/// that, and waits, with no turn of the event loop in between.
const ROUNDS: usize = CAPACITY / 2;

/// The contents of the Python object.
pub(super) struct Pump {
    /// Taken for the time of a step.
    running: AtomicBool,
    /// It is closing the iterator. The Rust side does not cancel the task any more then, as it would when it is
    /// dropped.
    ending: Arc<AtomicBool>,
    buffer: Arc<Items>,
    stage: Lock<Stage>,
}

enum Stage {
    /// The iterable has not been touched.
    New(Py<PyAny>),
    /// Between two items, so that others have a turn.
    Between(Iterator),
    /// Between two items, until there is room.
    Full(Iterator, Waiting),
    /// It awaits the next item.
    Pulling(Iterator, Py<PyAny>),
    /// It awaits `aclose()`, and then raises the exception.
    Closing(Py<PyAny>, Py<PyBaseException>),
    /// It has returned, raised or been closed; or it is being stepped.
    Over,
}

/// How the task goes on with the coroutine.
enum Input<'py> {
    Send(Bound<'py, PyAny>),
    Throw(PyErr),
}

/// A coroutine that moves what the iterable yields into the buffer, and tells when it is ending.
pub(super) fn new(
    iterable: Bound<'_, PyAny>,
    buffer: Arc<Items>,
    ending: Arc<AtomicBool>,
) -> PyResult<Bound<'_, PyAny>> {
    let py = iterable.py();
    let pump =
        Pump { running: AtomicBool::new(false), ending, buffer, stage: Lock::new(Stage::New(iterable.unbind())) };
    Ok(class::new(py, pump)?.into_any())
}

/// The right to step a pump.
struct Step<'a>(&'a Pump);

impl<'a> Step<'a> {
    fn take(pump: &'a Pump) -> PyResult<Self> {
        // Acquire and release: a step sees what the one before it did, on whichever thread that was.
        if pump.running.swap(true, Ordering::Acquire) {
            return Err(PyValueError::new_err("coroutine already executing"));
        }
        Ok(Self(pump))
    }

    fn replace(&self, stage: Stage) -> Stage {
        mem::replace(&mut *self.0.stage.lock(), stage)
    }

    fn suspend<'py>(&self, stage: Stage, yielded: Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        self.replace(stage);
        Ok(Sent::Yield(yielded))
    }

    /// Takes items until the iterable or the buffer wants to wait.
    fn pull<'py>(&self, py: Python<'py>, mut iterator: Iterator) -> PyResult<Sent<'py>> {
        let none = py.None().into_bound(py);
        let buffer = &*self.0.buffer;
        let mut rounds = ROUNDS;
        loop {
            let room = match buffer.room() {
                // It may be that the iterable never suspends: others shall have a turn.
                Room::For(_) if rounds == 0 => return self.suspend(Stage::Between(iterator), none),
                Room::For(room) => room.min(rounds),
                Room::None => match self.wait(py)? {
                    Some(waiting) => {
                        let future = waiting.future().bind(py).clone();
                        self.replace(Stage::Full(iterator, waiting));
                        return AsyncioFuture::resume(&future);
                    }
                    None => continue,
                },
                // The Rust stream was dropped.
                Room::Closed => return self.close(py, iterator, cancelled_error(py, None)?),
            };
            let mut items = VecDeque::with_capacity(room);
            let pulled = iterator.pull(&none, room, &mut items);
            rounds -= items.len();
            buffer.append(&mut items);
            match pulled {
                Pulled::All => {}
                Pulled::Waits(steps, yielded) => {
                    return self.suspend(Stage::Pulling(iterator, steps.unbind()), yielded);
                }
                Pulled::Failed(error) if protocol::is_end(py, &error) => return Ok(Sent::Return(none)),
                Pulled::Failed(error) => return Err(error),
            }
        }
    }

    /// Waits for room; nothing if there is some, or nobody wants any items.
    fn wait(&self, py: Python<'_>) -> PyResult<Option<Waiting>> {
        let buffer = &*self.0.buffer;
        let alarm = Alarm::new(py, Path(|| "into_stream"), "the buffer", None)?;
        // First the waker, then another look: room that is made after that finds the waker.
        buffer.producer.register(&Waker::from(Arc::clone(&alarm)));
        match buffer.room() {
            Room::None => Waiting::new(py, alarm).map(Some),
            Room::For(_) | Room::Closed => Ok(None),
        }
    }

    /// Goes on with the await of an item.
    fn go_on<'py>(
        &self,
        py: Python<'py>,
        iterator: Iterator,
        steps: Bound<'py, PyAny>,
        input: Input<'py>,
    ) -> PyResult<Sent<'py>> {
        let thrown = matches!(input, Input::Throw(_));
        let sent = match input {
            Input::Send(value) => protocol::send(&steps, &value),
            Input::Throw(error) => protocol::throw(&steps, error),
        };
        match sent {
            Ok(Sent::Yield(object)) => self.suspend(Stage::Pulling(iterator, steps.unbind()), object),
            Ok(Sent::Return(item)) => {
                self.0.buffer.append(&mut VecDeque::from([item.unbind()]));
                self.pull(py, iterator)
            }
            Err(error) if protocol::is_end(py, &error) => Ok(Sent::Return(py.None().into_bound(py))),
            // A generator has ended by this; what else iterates may have something to close.
            Err(error) if thrown => self.close(py, iterator, error),
            Err(error) => Err(error),
        }
    }

    /// Closes the iterator, and then raises `error`.
    fn close<'py>(&self, py: Python<'py>, iterator: Iterator, error: PyErr) -> PyResult<Sent<'py>> {
        self.0.ending.store(true, Ordering::Relaxed);
        match iterator.close(py)? {
            Some(steps) => self.go_on_closing(steps, Input::Send(py.None().into_bound(py)), error),
            None => Err(error),
        }
    }

    fn go_on_closing<'py>(&self, steps: Bound<'py, PyAny>, input: Input<'py>, error: PyErr) -> PyResult<Sent<'py>> {
        let sent = match input {
            Input::Send(value) => protocol::send(&steps, &value)?,
            Input::Throw(error) => protocol::throw(&steps, error)?,
        };
        match sent {
            Sent::Yield(object) => {
                let error = error.into_value(steps.py());
                self.suspend(Stage::Closing(steps.unbind(), error), object)
            }
            Sent::Return(_) => Err(error),
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl Pump {
    fn resume<'py>(&self, py: Python<'py>, input: Input<'py>) -> PyResult<Sent<'py>> {
        self.step(py, input).map_err(|error| error::not_stop_iteration(py, error))
    }

    fn step<'py>(&self, py: Python<'py>, input: Input<'py>) -> PyResult<Sent<'py>> {
        let step = Step::take(self)?;
        // Until it is known to go on, it is over: so it stays when anything below fails.
        match (step.replace(Stage::Over), input) {
            (Stage::New(iterable), Input::Send(_)) => step.pull(py, Iterator::new(iterable.bind(py))?),
            (Stage::New(_), Input::Throw(error)) => Err(error),
            (Stage::Between(iterator), Input::Send(_)) => step.pull(py, iterator),
            (Stage::Full(iterator, waiting), Input::Send(_)) => {
                let future = waiting.future().bind(py).clone();
                if !future.get().is_done(py) {
                    step.replace(Stage::Full(iterator, waiting));
                    return AsyncioFuture::resume(&future);
                }
                step.pull(py, iterator)
            }
            (Stage::Between(iterator) | Stage::Full(iterator, _), Input::Throw(error)) => {
                step.close(py, iterator, error)
            }
            (Stage::Pulling(iterator, steps), input) => step.go_on(py, iterator, steps.into_bound(py), input),
            (Stage::Closing(steps, error), input) => {
                step.go_on_closing(steps.into_bound(py), input, error::of_object(py, error))
            }
            (Stage::Over, _) => Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine")),
        }
    }
}

impl Awaitable for Pump {
    fn send<'py>(this: &Bound<'py, Object<Self>>, value: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
        this.get().resume(this.py(), Input::Send(value.clone()))
    }
}

impl Class for Pump {
    const NAME: &'static CStr = c"pyo3_await.StreamTask";

    fn type_object() -> &'static PyOnce<Py<PyType>> {
        static TYPE: PyOnce<Py<PyType>> = PyOnce::new();
        &TYPE
    }

    fn protocol() -> Protocol {
        Protocol::awaitable::<Self>()
    }

    fn members(_: Python<'_>) -> Members<Self> {
        Members::new()
            .method_with(c"send", send)
            .method_with(c"throw", throw)
            .method(c"close", close)
            .method(c"__await__", await_)
            .get(c"__name__", name)
            .get(c"__qualname__", name)
    }

    fn repr(this: &Bound<'_, Object<Self>>) -> PyResult<String> {
        Ok(format!("<coroutine object into_stream at {:p}>", this.as_ptr()))
    }

    fn traverse(&self, visit: &Visit) {
        let Some(stage) = self.stage.try_lock() else { return };
        match &*stage {
            Stage::New(object) => visit.call(object),
            Stage::Between(iterator) => iterator.traverse(visit),
            Stage::Full(iterator, waiting) => {
                iterator.traverse(visit);
                visit.call(waiting.future());
            }
            Stage::Pulling(iterator, steps) => {
                iterator.traverse(visit);
                visit.call(steps);
            }
            Stage::Closing(steps, error) => {
                visit.call(steps);
                visit.call(error);
            }
            Stage::Over => {}
        }
    }

    fn clear(&self, _: Python<'_>) {
        let stage = mem::replace(&mut *self.stage.lock(), Stage::Over);
        drop(stage);
    }
}

type This<'py> = Bound<'py, Object<Pump>>;

fn send<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    arguments.check("send", 1, 1, &[])?;
    let value = arguments.positional(0).unwrap_or_else(|| this.py().None().into_bound(this.py()));
    this.get().resume(this.py(), Input::Send(value))?.into_result()
}

fn throw<'py>(this: &This<'py>, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let error = class::thrown("throw", arguments)?;
    this.get().resume(this.py(), Input::Throw(error))?.into_result()
}

/// Lets go of the iterable, which Python closes in its own way.
fn close<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    let stage = Step::take(this.get())?.replace(Stage::Over);
    drop(stage);
    Ok(this.py().None().into_bound(this.py()))
}

fn await_<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(this.clone().into_any())
}

fn name<'py>(this: &This<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(intern!(this.py(), "into_stream").clone().into_any())
}
