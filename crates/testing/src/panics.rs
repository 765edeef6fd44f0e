//! Panics, with the place where they happened.

use std::{
    any::Any,
    cell::Cell,
    fmt, mem,
    panic::{self, AssertUnwindSafe},
};

/// A panic that was caught.
#[derive(Debug)]
pub(crate) struct Panic {
    /// `None` when the payload is not a string.
    pub(crate) message: Option<String>,
    location: Option<String>,
}

thread_local! {
    /// Where this thread panicked last.
    static LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// Has the place of each panic remembered, before the hook that is there writes its message.
pub(crate) fn remember_locations() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        LOCATION.set(info.location().map(ToString::to_string));
        hook(info);
    }));
}

/// Calls `f`, and catches its panic.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    // What is there is of a panic that was caught by somebody else.
    LOCATION.take();
    panic::catch_unwind(AssertUnwindSafe(f))
        .map_err(|payload| Panic { message: message(payload), location: LOCATION.take() })
}

fn message(payload: Box<dyn Any + Send>) -> Option<String> {
    match payload.downcast::<String>() {
        Ok(message) => Some(*message),
        Err(payload) => {
            let message = payload.downcast_ref::<&str>().map(|message| (*message).to_owned());
            // Its drop may panic, which the test has done enough.
            mem::forget(payload);
            message
        }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panicked")?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        match &self.message {
            Some(message) => write!(f, ":\n{message}"),
            None => f.write_str(", with a payload that is not a string"),
        }
    }
}
