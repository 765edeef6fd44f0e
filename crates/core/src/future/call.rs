//! The cell shared by one Python awaitable and its Rust waiter.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use pyo3::prelude::*;

use super::{
    schedule::{Scheduled, forget_what_ends_the_process, result, schedule},
    source::Source,
};
use crate::{
    TaskLocals,
    asyncio_future::cancelled_error_class,
    error,
    event_loop::{Delivery, Envelope, InFlight, Letter, report},
    lifecycle,
    once::intern,
    panic,
    sync::Lock,
};

/// The cell shared by one Python awaitable and its Rust waiter.
pub(crate) struct Call {
    locals: TaskLocals,
    /// Set by the Python side when it cleans up, if it can tell: it is not to be cancelled then.
    ending: Option<Arc<AtomicBool>>,
    state: Lock<State>,
}

enum State {
    /// Not polled yet.
    New(Source),
    /// On its way to the event loop.
    Posted(Source, Wish),
    /// The loop's thread is making a task of it.
    Starting(Wish),
    /// It runs there. `key` is its place among what the loop has in flight.
    Running { task: Py<PyAny>, key: u32, wish: Wish },
    /// Here is the result.
    Ended(PyResult<Py<PyAny>>),
    /// It was detached after its end, or dropped after its clean-up: on its way to the event loop, which reports it.
    Unretrieved(PyErr),
    /// The result was taken, or nobody wants it.
    Over,
}

/// What the Rust side wants of an awaitable that has been posted.
pub(super) enum Wish {
    Result(Waker),
    Cancel,
    RunOn,
}

impl State {
    fn wish(&mut self) -> Option<&mut Wish> {
        match self {
            Self::Posted(_, wish) | Self::Starting(wish) | Self::Running { wish, .. } => Some(wish),
            Self::New(_) | Self::Ended(_) | Self::Unretrieved(_) | Self::Over => None,
        }
    }
}

/// What is left of a call that has ended.
#[derive(Default)]
struct Remains {
    /// Its place among what the loop has in flight.
    key: Option<u32>,
    /// The awaitable, when no task was made of it.
    unstarted: Option<Source>,
    /// Rust had detached it.
    detached: bool,
}

/// What a poll of the state comes to.
pub(super) enum Polled {
    Ready(PyResult<Py<PyAny>>),
    Pending,
    /// It is to be sent to the event loop.
    Posted,
    /// It has to be polled again with a waker that may be kept.
    WantsWaker,
    Over,
}

impl Call {
    pub(super) fn new(locals: TaskLocals, source: Source, ending: Option<Arc<AtomicBool>>) -> Self {
        Self { locals, ending, state: Lock::new(State::New(source)) }
    }

    /// Ends the Rust side's interest in a result.
    pub(super) fn let_go(this: &Arc<Envelope<Self>>, new: Wish) {
        let cancel = matches!(new, Wish::Cancel);
        let mut state = this.letter.state.lock();
        let (garbage, post) = match &mut *state {
            State::New(_) if !cancel => {
                let State::New(source) = mem::replace(&mut *state, State::Over) else { unreachable!("it is new") };
                *state = State::Posted(source, new);
                (State::Over, true)
            }
            // What a clean-up has raised is not for who has gone.
            State::Ended(Err(_)) if !cancel || this.letter.is_ending() => {
                let State::Ended(Err(error)) = mem::replace(&mut *state, State::Over) else {
                    unreachable!("it has failed")
                };
                *state = State::Unretrieved(error);
                (State::Over, true)
            }
            State::New(_) | State::Ended(_) => (mem::replace(&mut *state, State::Over), false),
            State::Unretrieved(_) | State::Over => (State::Over, false),
            running => {
                let is_task = matches!(running, State::Running { .. });
                match running.wish() {
                    // It was detached: the drop that follows changes nothing.
                    Some(Wish::RunOn) | None => (State::Over, false),
                    Some(wish) => (State::Starting(mem::replace(wish, new)), cancel && is_task),
                }
            }
        };
        // A waker and a result are the user's: they are dropped when the lock is not held.
        drop(state);
        drop(garbage);
        if post {
            Self::post(this);
        }
    }

    pub(super) fn post(this: &Arc<Envelope<Self>>) {
        this.letter.locals.handle().post(Arc::clone(this));
    }

    /// Polls the state. `waker` is exchanged for the one that is not needed any more.
    pub(super) fn poll(&self, current: &Waker, waker: &mut Option<Waker>) -> Polled {
        let mut state = self.state.lock();
        match &mut *state {
            State::New(_) => {
                let Some(waker) = waker.take() else { return Polled::WantsWaker };
                let State::New(source) = mem::replace(&mut *state, State::Over) else { unreachable!("it is new") };
                *state = State::Posted(source, Wish::Result(waker));
                Polled::Posted
            }
            State::Ended(_) => {
                let State::Ended(result) = mem::replace(&mut *state, State::Over) else { unreachable!("it has ended") };
                Polled::Ready(result)
            }
            State::Unretrieved(_) | State::Over => Polled::Over,
            pending => {
                if let Some(Wish::Result(kept)) = pending.wish() {
                    if !kept.will_wake(current) {
                        let Some(new) = waker.take() else { return Polled::WantsWaker };
                        *waker = Some(mem::replace(kept, new));
                    }
                }
                Polled::Pending
            }
        }
    }

    /// What the Python side is: for the garbage collector, which counts it as the event loop's.
    ///
    /// It looks twice, and would take for garbage what it had seen only once: so it waits for a worker that has the
    /// lock, which is not attached and lets go of it by itself. In a forked child nobody may be there to do so.
    pub(crate) fn task<R>(&self, visit: impl FnOnce(&Py<PyAny>) -> R) -> Option<R> {
        match &*self.state.lock() {
            State::Running { task, .. } => Some(visit(task)),
            _ => None,
        }
    }

    /// The Python side, if it is to end because the Rust side has.
    pub(crate) fn cancelled_task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &*self.state.lock() {
            State::Running { task, wish: Wish::Cancel, .. } => Some(task.clone_ref(py)),
            _ => None,
        }
    }

    /// Makes a task of the awaitable, on the loop's thread.
    fn start(this: &Arc<Envelope<Self>>, source: Source, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        let py = delivery.py;
        let context = this.letter.locals.copy_context(py)?;
        let awaitable = source.awaitable(&context)?;
        let Scheduled { task, begun } = schedule(delivery, &context, awaitable)?;
        if begun && task.call_method0(intern!(py, "done"))?.is_truthy()? {
            this.letter.end(|| result(&task));
            return Ok(());
        }
        let key = delivery.event_loop.insert(py, InFlight::Call(Arc::clone(this)));
        let Some(cancelled) = this.letter.run(&task, key) else {
            // What we called has closed the loop.
            delivery.event_loop.remove(py, key);
            return Ok(());
        };
        let done = Bound::new(py, Done(Arc::clone(this)))?;
        task.call_method1(intern!(py, "add_done_callback"), (done,))?;
        if cancelled { this.letter.cancel(&task) } else { Ok(()) }
    }

    /// From starting to running; `None` when it has ended meanwhile.
    ///
    /// Whether it is to be cancelled: a wish that comes later is sent.
    fn run(&self, task: &Bound<'_, PyAny>, key: u32) -> Option<bool> {
        let mut state = self.state.lock();
        match mem::replace(&mut *state, State::Over) {
            State::Starting(wish) => {
                let cancelled = matches!(wish, Wish::Cancel);
                *state = State::Running { task: task.clone().unbind(), key, wish };
                Some(cancelled)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// Whether the Python side has said that it cleans up.
    fn is_ending(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.load(Ordering::Relaxed))
    }

    /// Cancels the task, unless it cleans up already.
    fn cancel(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_ending() {
            return Ok(());
        }
        task.call_method0(intern!(task.py(), "cancel")).map(drop)
    }

    /// Hands over the result, which is made only when somebody wants it.
    fn end(&self, result: impl FnOnce() -> PyResult<Py<PyAny>>) -> Remains {
        let wanted = matches!(self.state.lock().wish(), Some(Wish::Result(_)));
        let mut result = wanted.then(result);
        let old = {
            let mut state = self.state.lock();
            let next = match state.wish() {
                // It has ended before.
                None => return Remains::default(),
                Some(Wish::Result(_)) => result.take().map_or(State::Over, State::Ended),
                Some(Wish::Cancel | Wish::RunOn) => State::Over,
            };
            mem::replace(&mut *state, next)
        };
        let (remains, wish) = match old {
            State::Running { key, wish, .. } => (Remains { key: Some(key), ..Remains::default() }, wish),
            State::Posted(source, wish) => (Remains { unstarted: Some(source), ..Remains::default() }, wish),
            State::Starting(wish) => (Remains::default(), wish),
            State::New(_) | State::Ended(_) | State::Unretrieved(_) | State::Over => return Remains::default(),
        };
        let detached = matches!(wish, Wish::RunOn);
        if let Wish::Result(waker) = wish {
            waker.wake();
        }
        Remains { detached, ..remains }
    }

    /// The same on the loop's thread, which has it in flight no more; whether Rust had detached it.
    fn end_on_loop(&self, py: Python<'_>, result: impl FnOnce() -> PyResult<Py<PyAny>>) -> bool {
        let Remains { key, detached, .. } = self.end(result);
        if let Some(key) = key {
            self.locals.handle().remove(py, key);
        }
        detached
    }
}

impl Letter for Call {
    fn deliver(envelope: Arc<Envelope<Self>>, delivery: &Delivery<'_, '_>) -> PyResult<()> {
        let py = delivery.py;
        let mut state = envelope.letter.state.lock();
        match &mut *state {
            State::Posted(..) => {
                let State::Posted(source, wish) = mem::replace(&mut *state, State::Over) else {
                    unreachable!("it is posted")
                };
                if let Wish::Cancel = wish {
                    drop(state);
                    return source.end(py);
                }
                *state = State::Starting(wish);
                drop(state);
                let started = panic::catch(|| {
                    // To look at an error makes it, which is the user's code as well.
                    // A task that is started at once lets these two through, as each of its steps does.
                    Self::start(&envelope, source, delivery).map_err(|it| (error::ends_the_process(py, &it), it))
                });
                let (fatal, error) = match started {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(failed)) => failed,
                    Err(panic) => (false, error::panicked(panic)),
                };
                let detached = envelope.letter.end_on_loop(py, || Err(error.clone_ref(py)));
                match (fatal, detached) {
                    (true, _) => Err(error),
                    (false, true) => report_unretrieved(delivery, error),
                    (false, false) => Ok(()),
                }
            }
            State::Running { task, wish: Wish::Cancel, .. } => {
                let task = task.clone_ref(py);
                drop(state);
                envelope.letter.cancel(task.bind(py))
            }
            State::Unretrieved(_) => {
                let State::Unretrieved(error) = mem::replace(&mut *state, State::Over) else {
                    unreachable!("it is not retrieved")
                };
                drop(state);
                report_unretrieved(delivery, error)
            }
            _ => Ok(()),
        }
    }

    fn refuse(envelope: Arc<Envelope<Self>>, py: Option<Python<'_>>) {
        let call = &envelope.letter;
        let left_behind = call.locals.handle().is_left_behind();
        let error = || if left_behind { error::forked("the event loop") } else { error::event_loop_closed() };
        // One that is detached was to run, and nobody else will say that it has not.
        let awaited = matches!(call.state.lock().wish(), Some(Wish::Result(_) | Wish::Cancel));
        let unstarted = call.end(|| Err(error())).unstarted;
        if let (Some(py), Some(source), true) = (py, unstarted, awaited) {
            // The awaiter has its error. There is nobody to tell of one that Python raises on top of it.
            let _ = source.close(py);
        }
    }
}

/// Tells the loop of an exception that nobody waits for any more.
fn report_unretrieved(delivery: &Delivery<'_, '_>, error: PyErr) -> PyResult<()> {
    let py = delivery.py;
    // asyncio does not report these of its tasks either: somebody knows.
    if error::ends_the_process(py, &error) || error.matches(py, cancelled_error_class(py)?)? {
        return Ok(());
    }
    report(delivery.object, "exception of an awaitable that Rust has let go of", error)
}

/// Makes the types that PyO3 would make when they are first used.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<Done>();
}

/// The callback that a Python task has for its end.
///
/// A task that is dropped before its end, with its loop, drops this too: so nobody waits for ever.
#[pyclass(frozen, module = "pyo3_await")]
struct Done(Arc<Envelope<Call>>);

#[pymethods]
impl Done {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let _pass = lifecycle::shelter(task.py());
        let call = &self.0.letter;
        if call.locals.handle().is_left_behind() {
            return;
        }
        let mut wanted = false;
        call.end_on_loop(task.py(), || {
            wanted = true;
            result(task)
        });
        if !wanted {
            forget_what_ends_the_process(task);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if self.0.letter.locals.handle().is_left_behind() {
            // Its waker is that of a runtime that this process does not have.
            mem::forget(Arc::clone(&self.0));
            return;
        }
        // Python drops it attached. If the interpreter is ending there is nothing left to tell.
        Python::try_attach(|py| {
            let _pass = lifecycle::shelter(py);
            self.0.letter.end_on_loop(py, || Err(error::event_loop_closed()));
        });
    }
}
