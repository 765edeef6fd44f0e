//! Cancellation from Python, and the time that it may take.

use std::{
    cell::Cell,
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pyo3::{
    gc::{PyTraverseError, PyVisit},
    prelude::*,
};

use super::{AsyncioFuture, Settlement};
use crate::{
    class::{Get, Object},
    error,
    event_loop::Resume,
    lifecycle,
    once::intern,
    task::Cancel,
};

impl AsyncioFuture {
    /// Asks the Rust future to stop; whoever waits learns of it when it has.
    pub(super) fn request_cancel(this: &Bound<'_, Object<Self>>, message: Option<Py<PyAny>>) -> PyResult<bool> {
        let state = &this.get().state;
        // Who cancels does not ask for the exception, if that was there before.
        state.beside.log_traceback.store(false, Ordering::Relaxed);
        let (task, left_behind, _old_message) = {
            let mut state = state.lock(this.py());
            if state.is_done() {
                return Ok(false);
            }
            let old = state.extras.with_rare(|rare| {
                rare.cancel_requested = true;
                mem::replace(&mut rare.cancel_message, message)
            });
            (state.task().map(Arc::clone), state.is_left_behind(), old)
        };
        let Some(task) = task else { return Ok(true) };
        let requested = if left_behind { Self::cancel_left_behind(this) } else { Self::request_end(this, task) };
        match requested {
            Err(error) if error::ends_the_process(this.py(), &error) => Err(error),
            // On a closed loop nothing can be scheduled any more, and nobody waits.
            Ok(()) | Err(_) => Ok(true),
        }
    }

    /// Has the Rust future end, or the wait for it if there is nothing to wait for.
    fn request_end(this: &Bound<'_, Object<Self>>, task: Arc<dyn Cancel>) -> PyResult<()> {
        let py = this.py();
        let admitted = lifecycle::admit(py).map(Some).or_else(|error| {
            // When the interpreter is ending, nothing is polled any more that could end by it.
            if error::ends_the_process(py, &error) { Err(error) } else { Ok(None) }
        })?;
        if admitted.is_none() || task.let_go() {
            return Self::end_wait(this);
        }
        match task.tell() {
            Some(grace) => Deadline::set(this, Stage::CleanUp, grace),
            None => {
                task.cancel();
                Deadline::set(this, Stage::Drop, CANCELLATION_BOUND)
            }
        }
    }

    /// Ends the wait of a forked child for what runs in its parent only.
    fn cancel_left_behind(this: &Bound<'_, Object<Self>>) -> PyResult<()> {
        this.get().abandon(this.py());
        Self::end_wait(this)
    }

    /// Settles it without the Rust future's end, outside of any drain.
    fn end_wait(this: &Bound<'_, Object<Self>>) -> PyResult<()> {
        Self::settle(this, Settlement::Cancelled, &Cell::new(Resume::Soon))
    }
}

/// How long the await of a cancelled Rust future waits for the future's drop. What takes longer is a poll that blocks
/// its thread; Python goes on without it then, and the future is dropped when the poll returns.
const CANCELLATION_BOUND: Duration = Duration::from_secs(1);

/// Makes the types that PyO3 would make when they are first used.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<Deadline>();
}

/// The callback of the timer that bounds a cancellation.
#[pyclass(frozen, module = "pyo3_await")]
struct Deadline {
    future: Py<Object<AsyncioFuture>>,
    stage: Stage,
}

/// What a cancelled future has until the deadline.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The time that it asked for.
    CleanUp,
    /// Its drop.
    Drop,
}

impl Deadline {
    fn set(future: &Bound<'_, Object<AsyncioFuture>>, stage: Stage, time: Duration) -> PyResult<()> {
        let py = future.py();
        let deadline = Bound::new(py, Self { future: future.clone().unbind(), stage })?;
        let event_loop = future.get().event_loop.bind(py);
        let timer = event_loop.call_method1(intern!(py, "call_later"), (time.as_secs_f64(), deadline))?;
        let old = future.get().state.lock(py).extras.with_rare(|rare| rare.timer.replace(timer.unbind()));
        if let Some(old) = old {
            old.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(())
    }
}

#[pymethods]
impl Deadline {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.get().state.lock(py).is_left_behind() {
            return AsyncioFuture::cancel_left_behind(future);
        }
        let Ok(_pass) = lifecycle::admit(py) else {
            // The interpreter is ending: the Rust future is not polled any more.
            return AsyncioFuture::end_wait(future);
        };
        let task = future.get().state.lock(py).task().map(Arc::clone);
        match (self.stage, task) {
            (Stage::CleanUp, Some(task)) => {
                task.cancel();
                Self::set(future, Stage::Drop, CANCELLATION_BOUND)
            }
            _ => AsyncioFuture::end_wait(future),
        }
    }

    /// The future has its timer, and the timer this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)
    }
}
