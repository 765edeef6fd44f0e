//! The handle of one Python event loop.
//!
//! Everything that crosses to the loop's thread is a letter in the handle's mailbox.
//! On the Python side the loop calls a [`Drain`] when it has been woken, and owns a [`Guard`], which it drops when it
//! is closed or collected: that closes the mailbox.

mod asyncio;
mod helper;
mod mailbox;
mod primitives;
mod running;

use std::{
    cell::{Cell, OnceCell},
    fmt,
    mem::{self, ManuallyDrop},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pyo3::{
    gc::{PyTraverseError, PyVisit},
    prelude::*,
    types::{PyDict, PyString, PyWeakrefReference},
};
use slab::Slab;

use self::{
    asyncio::Waker,
    mailbox::{Batch, Mailbox, Posted, Rest},
};
pub(crate) use self::{
    asyncio::call_soon,
    mailbox::{Envelope, Letter},
};
use crate::{
    asyncio_future::AsyncioFuture,
    class::{Get, Object, PendingException},
    error,
    future::Call,
    lifecycle::{self, Process},
    once::{PyOnce, intern},
    panic,
    stream::Alarm,
    sync::SpinLock,
};

/// The handle of one Python event loop, for any thread.
pub(crate) struct EventLoop {
    mailbox: Mailbox,
    /// What was taken out of the mailbox and not delivered yet. It is here, and not on the stack of the drain, so that
    /// a drain nested in it (a loop that is run re-entrantly) goes on with it.
    batch: SpinLock<Batch>,
    /// How many drains have come to their end. Only the loop's thread uses it.
    drains: AtomicUsize,
    /// What the loop has to finish. Only threads that are attached look into it.
    in_flight: SpinLock<Slab<InFlight>>,
    /// Dropped by the process that has made it: in another its descriptors may be somebody else's.
    waker: ManuallyDrop<Waker>,
    /// A weak reference: the loop owns us, by way of its [`Guard`].
    object: Py<PyWeakrefReference>,
    /// To compare with the running loop. While the mailbox is open no other loop can have this address.
    address: usize,
    /// Where it runs. In a forked child nothing of this is touched.
    process: Process,
}

/// Something that ends on the loop's thread, or with the loop.
pub(crate) enum InFlight {
    /// A Rust future's Python waiter: nobody else may hold on to it, nor to the task that awaits it.
    Waiter(Py<Object<AsyncioFuture>>),
    /// What has woken such a waiter's task, until that goes on.
    Woken(Arc<Envelope<Alarm>>),
    /// A Python awaitable's Rust waiter.
    Call(Arc<Envelope<Call>>),
}

/// What a letter finds when it is delivered.
pub(crate) struct Delivery<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) event_loop: &'a Arc<EventLoop>,
    /// The Python event loop.
    pub(crate) object: &'a Bound<'py, PyAny>,
    /// Whether a task may be resumed right here, or only by `call_soon`: so are all that come after one that was.
    pub(crate) resume: Cell<Resume>,
    /// What tasks are made with, once there is one.
    pub(crate) of_tasks: OnceCell<Bound<'py, PyDict>>,
}

/// How a waiting task goes on when what it waits for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// By a call of its wake-up.
    Now,
    /// By `call_soon`: in asyncio's debug mode, so that reports name what really runs; when the loop is run
    /// re-entrantly by a task, which must not be left for another; after a user's callback, so that the order stays.
    Soon,
}

/// How many letters one drain delivers before it looks for no more, and leaves what is posted meanwhile to the loop's
/// next turn.
///
/// That is for the most part an answer to what it has delivered, and a turn of the loop for each answer costs more than
/// the answer; but others have to have their turn too.
const LETTERS: usize = 16;

impl EventLoop {
    /// The handle of the loop that runs in this thread, if one does.
    pub(crate) fn running(py: Python<'_>) -> PyResult<Option<Arc<Self>>> {
        running::find(py)
    }

    /// The handle of any loop, made on first use.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        match Guard::of(object)? {
            Some(guard) if guard.get().0.is_left_behind() => Err(error::forked("the event loop")),
            Some(guard) if guard.get().0.is_open() => Ok(Arc::clone(&guard.get().0)),
            _ => {
                lifecycle::install(object.py())?;
                asyncio::adopt(object)
            }
        }
    }

    fn new(object: &Bound<'_, PyAny>, waker: Waker) -> PyResult<Arc<Self>> {
        Ok(Arc::new(Self {
            mailbox: Mailbox::new(),
            batch: SpinLock::new(Batch::empty()),
            drains: AtomicUsize::new(0),
            in_flight: SpinLock::new(Slab::new()),
            waker: ManuallyDrop::new(waker),
            object: PyWeakrefReference::new(object)?.unbind(),
            address: object.as_ptr() as usize,
            process: Process::current(),
        }))
    }

    fn is_open(&self) -> bool {
        !self.mailbox.is_closed() && !self.is_left_behind()
    }

    /// Whether it is that of a process that has forked this one.
    pub(crate) fn is_left_behind(&self) -> bool {
        !self.process.is_current()
    }

    /// The Python event loop.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        use pyo3::types::PyWeakrefMethods;
        self.object.bind(py).upgrade().ok_or_else(error::event_loop_closed)
    }

    /// Sends a letter to the loop's thread, from any thread, attached or not.
    ///
    /// If the loop is closed, or is that of a process that has forked this one, the letter is refused at once.
    pub(crate) fn post<L: Letter>(self: &Arc<Self>, letter: Arc<Envelope<L>>) {
        if self.is_left_behind() {
            return L::refuse(letter, None);
        }
        match self.mailbox.post(letter) {
            Posted::MustWake => self.waker.wake(self),
            Posted::Queued => {}
            Posted::Refused(letter) => letter.refuse(None),
        }
    }

    /// Keeps it until it is removed by this key, or the loop is closed.
    pub(crate) fn insert(&self, py: Python<'_>, item: InFlight) -> u32 {
        // Each future has room for its key, and there is no memory for so many.
        u32::try_from(self.in_flight.lock(py).insert(item)).expect("fewer than 4,294,967,296 futures are in flight")
    }

    pub(crate) fn remove(&self, py: Python<'_>, key: u32) -> Option<InFlight> {
        self.in_flight.lock(py).try_remove(key as usize)
    }

    /// The Python tasks that Rust has cancelled by a drop, and that have not ended.
    pub(crate) fn ending(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let cancelled = |item: &InFlight| match item {
            InFlight::Call(call) => call.letter.cancelled_task(py),
            InFlight::Waiter(_) | InFlight::Woken(_) => None,
        };
        self.in_flight.lock(py).iter().filter_map(|(_, item)| cancelled(item)).collect()
    }

    /// Delivers all that is in the mailbox, and if that is little, what comes meanwhile; the rest waits for the loop's
    /// next turn.
    fn drain(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        if self.is_left_behind() {
            return Ok(());
        }
        let Ok(_pass) = lifecycle::admit(py) else {
            // The interpreter is ending. Nothing is delivered any more, nor shall the loop come here for ever.
            self.waker.quiet();
            return Ok(());
        };
        let object = self.object(py)?;
        // Both call Python, where Ctrl-C may come; the rest waits for another wake then.
        let resume = asyncio::resume(&object).inspect_err(|_| self.waker.wake(self))?;
        let resume = Cell::new(resume);
        let delivery = Delivery { py, event_loop: self, object: &object, resume, of_tasks: OnceCell::new() };
        let drains = self.drains.load(Ordering::Relaxed);
        let mut delivered = 0;
        while delivered < LETTERS && self.take(py) {
            // A delivery may run the loop re-entrantly, and wait there for the rest of the batch, or for what is posted
            // meanwhile and wakes nobody.
            self.waker.again(self, &object).inspect_err(|_| self.waker.wake(self))?;
            // The lock is released before each delivery.
            while let Some(letter) = { self.batch.lock(py).pop() } {
                delivered += 1;
                let Err(error) = letter.deliver(&delivery) else { continue };
                if error::ends_the_process(py, &error) {
                    // The waker has not been quieted yet: what is left in the batch comes in the loop's next turn.
                    return Err(error);
                }
                report(&object, "an exception in a callback of the Rust bridge", error)?;
            }
            if self.drains.load(Ordering::Relaxed) != drains {
                // A nested drain has quieted the waker: nothing more is taken before it wakes again.
                break;
            }
        }
        self.drains.fetch_add(1, Ordering::Relaxed);
        self.waker.quiet();
        if self.mailbox.rest() == Rest::Busy {
            self.waker.wake(self);
        }
        Ok(())
    }

    /// Takes what is in the mailbox, unless there is some left of what was taken before; false if there is nothing.
    fn take(&self, py: Python<'_>) -> bool {
        let mut batch = self.batch.lock(py);
        if batch.is_empty() {
            *batch = self.mailbox.take();
        }
        !batch.is_empty()
    }

    /// The loop is gone: nothing is delivered any more, and what is in flight ends.
    fn close(self: &Arc<Self>, py: Python<'_>) {
        if self.is_left_behind() {
            // The tasks and wakers in here are those of threads that this process does not have.
            mem::forget(Arc::clone(self));
            return;
        }
        // What ends here may call Python, and the loop may have died while an exception is on its way.
        let _pending = PendingException::set_aside(py);
        let unread = [self.mailbox.close(), mem::replace(&mut *self.batch.lock(py), Batch::empty())];
        let in_flight = mem::take(&mut *self.in_flight.lock(py));
        for (_, item) in in_flight {
            // A panic in there keeps none of the others from its end.
            panic::catch_or_report(py, || match item {
                InFlight::Waiter(waiter) => waiter.get().abandon(py),
                InFlight::Woken(alarm) => alarm.letter.abandon(),
                InFlight::Call(call) => Call::refuse(call, Some(py)),
            });
        }
        for mut batch in unread {
            while let Some(letter) = batch.pop() {
                panic::catch_or_report(py, || letter.refuse(Some(py)));
            }
        }
        running::forget(self);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if !self.is_left_behind() {
            // SAFETY: it is dropped once, and not used any more.
            unsafe { ManuallyDrop::drop(&mut self.waker) };
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("closed", &self.mailbox.is_closed()).finish_non_exhaustive()
    }
}

/// Makes the types that PyO3 would make when they are first used.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<Drain>();
    py.get_type::<Guard>();
}

/// Whether an event loop runs in this thread.
pub(crate) fn is_running(py: Python<'_>) -> PyResult<bool> {
    Ok(running::running_loop(py)?.is_some())
}

/// Tells the loop's exception handler about an error that nobody else will see.
pub(crate) fn report(event_loop: &Bound<'_, PyAny>, message: &str, error: PyErr) -> PyResult<()> {
    let py = event_loop.py();
    let context = PyDict::new(py);
    context.set_item(intern!(py, "message"), message)?;
    context.set_item(intern!(py, "exception"), error.into_value(py))?;
    event_loop.call_method1(intern!(py, "call_exception_handler"), (context,))?;
    Ok(())
}

/// The loop's attribute that leads to its handle.
///
/// Each copy of this library in a process has its own, hence the address in the name.
fn attribute(py: Python<'_>) -> &Bound<'_, PyString> {
    static NAME: PyOnce<Py<PyString>> = PyOnce::new();
    let name = || PyString::intern(py, &format!("__pyo3_await_{:x}", (&raw const NAME) as usize)).unbind();
    NAME.get_or_init(py, name).bind(py)
}

/// What the loop calls when it has been woken.
///
/// An exception that has gone through it keeps it alive, by its traceback.
#[pyclass(frozen, module = "pyo3_await")]
struct Drain(Arc<EventLoop>);

#[pymethods]
impl Drain {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.drain(py)
    }

    /// The drain stands for the context of its own callback: it enters none, and calls itself.
    fn run(&self, py: Python<'_>, _itself: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.drain(py)
    }
}

/// What tells the end of the loop by its own.
///
/// It belongs to the loop alone: `close` drops it.
#[pyclass(frozen, weakref, module = "pyo3_await")]
struct Guard(Arc<EventLoop>);

impl Guard {
    /// The guard of a loop. The loop's attribute is a weak reference, since what owns the guard is what `close` drops.
    fn of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Self>>> {
        use pyo3::types::PyWeakrefMethods;
        let Some(reference) = event_loop.getattr_opt(attribute(event_loop.py()))? else { return Ok(None) };
        reference.cast::<PyWeakrefReference>()?.upgrade_as::<Self>()
    }
}

#[pymethods]
impl Guard {
    /// It is a file that the loop watches, in vain.
    fn fileno(&self) -> Option<i32> {
        self.0.waker.file()
    }

    /// What a loop calls that does not run in the thread which has made the guard.
    fn move_in(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, handle) = (slf.py(), &slf.get().0);
        let _pass = lifecycle::shelter(py);
        // Whoever waits for this loop already is told, and the loop's exception handler too.
        asyncio::move_in(&handle.object(py)?, slf).inspect_err(|_| handle.close(py))
    }

    /// Or it waits in the loop for a time that does not come.
    fn __call__(&self) {}

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.0.is_left_behind() {
            return Ok(());
        }
        // SAFETY: the garbage collector is attached; nothing of Python's is called.
        let py = unsafe { Python::assume_attached() };
        let Some(in_flight) = self.0.in_flight.try_lock(py) else { return Ok(()) };
        for (_, item) in in_flight.iter() {
            match item {
                InFlight::Waiter(waiter) => visit.call(waiter)?,
                InFlight::Woken(_) => {}
                InFlight::Call(call) => call.letter.task(|task| visit.call(task)).unwrap_or(Ok(()))?,
            }
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        let _pass = lifecycle::shelter(py);
        self.0.close(py);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Python drops it attached. If the interpreter is ending there is nothing left to tell.
        Python::try_attach(|py| {
            let _pass = lifecycle::shelter(py);
            self.0.close(py);
        });
    }
}
