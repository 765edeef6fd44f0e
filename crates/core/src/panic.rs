//! Panics of the user's code, caught where they would leave Rust.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
    thread,
};

/// A panic that was caught. In a box, so that it takes no room where there is none.
pub(crate) struct Panic(Box<Caught>);

struct Caught {
    payload: Box<dyn Any + Send>,
    /// Where it was; not known when somebody has replaced the panic hook.
    location: Option<String>,
}

impl Panic {
    #[cold]
    fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(Box::new(Caught { payload, location: LOCATION.take() }))
    }

    /// What the panic said, and where.
    pub(crate) fn message(self) -> String {
        let Caught { payload, location } = *self.0;
        let message = match payload.downcast::<String>() {
            Ok(message) => *message,
            Err(payload) => match payload.downcast_ref::<&str>() {
                Some(message) => (*message).to_owned(),
                None => "a panic with a payload that is not a string".to_owned(),
            },
        };
        match location {
            Some(location) => format!("{message}, at {location}"),
            None => message,
        }
    }
}

thread_local! {
    /// How many [`catch`]es are on the stack.
    static CATCHING: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic under one of them was.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls the user's code, and catches its panic.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    listen();
    CATCHING.set(CATCHING.get() + 1);
    // Whoever is left in an odd state by a panic is dropped: a future that panicked is not polled again.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(CATCHING.get() - 1);
    result.map_err(Panic::new)
}

/// Puts a panic hook before the present one, once: only a hook is told where a panic is.
fn listen() {
    static LISTENING: Once = Once::new();

    // A hook cannot be set by a thread that panics; the next call will.
    if LISTENING.is_completed() || thread::panicking() {
        return;
    }
    LISTENING.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.try_with(Cell::get).is_ok_and(|catching| catching > 0) {
                let location = info.location().map(ToString::to_string);
                let _ = LOCATION.try_with(|place| place.replace(location));
            }
            next(info);
        }));
    });
}
