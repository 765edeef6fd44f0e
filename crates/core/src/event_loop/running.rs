//! The handle of the loop that runs in this thread, without asking Python for what is known.

use std::{cell::RefCell, sync::Arc};

use pyo3::prelude::*;

use super::{EventLoop, asyncio};

thread_local! {
    /// The loop that was last seen running in this thread.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

struct Last {
    handle: Arc<EventLoop>,
    /// asyncio's mark of the run in which a drain of this loop is. Only during a drain: it would keep the loop alive.
    mark: Option<Py<PyAny>>,
}

/// The handle of the loop that runs in this thread, if one does; made on first use.
pub(super) fn find(py: Python<'_>) -> PyResult<Option<Arc<EventLoop>>> {
    if let Some(handle) = marked(py) {
        return Ok(Some(handle));
    }
    let Some(object) = asyncio::running_loop(py)? else { return Ok(None) };
    let known = LAST.with_borrow(|last| {
        let handle = &last.as_ref()?.handle;
        (handle.address == object.as_ptr() as usize && handle.is_open()).then(|| Arc::clone(handle))
    });
    if known.is_some() {
        return Ok(known);
    }
    let handle = EventLoop::of(&object)?;
    let last = Last { handle: Arc::clone(&handle), mark: None };
    drop(LAST.replace(Some(last)));
    Ok(Some(handle))
}

/// The loop of the drain that goes on in this thread, unless it is not the one that runs.
///
/// To ask asyncio is a system call, `getpid`, on some versions.
fn marked(py: Python<'_>) -> Option<Arc<EventLoop>> {
    LAST.with_borrow(|last| {
        let Last { handle, mark: Some(mark) } = last.as_ref()? else { return None };
        (asyncio::mark(py)?.is(mark) && handle.is_open()).then(|| Arc::clone(handle))
    })
}

/// A drain, in whose course its loop is known by its mark.
pub(super) struct InDrain;

impl InDrain {
    pub(super) fn new(py: Python<'_>, handle: &Arc<EventLoop>) -> Self {
        let last = Last { handle: Arc::clone(handle), mark: asyncio::mark(py).map(Bound::unbind) };
        drop(LAST.replace(Some(last)));
        Self
    }
}

impl Drop for InDrain {
    fn drop(&mut self) {
        let mark = LAST.with_borrow_mut(|last| last.as_mut()?.mark.take());
        // It may be the last reference to the loop, whose end looks here.
        drop(mark);
    }
}

/// Forgets a loop that is closed: its descriptor would be kept until another loop runs in this thread.
pub(super) fn forget(handle: &Arc<EventLoop>) {
    let last = LAST.try_with(|last| last.borrow_mut().take_if(|last| Arc::ptr_eq(&last.handle, handle)));
    drop(last);
}
