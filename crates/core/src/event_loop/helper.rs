//! The thread that wakes the loops that cannot watch a descriptor.
//!
//! It is the only thread of the bridge's own that attaches to Python, so that no worker of a runtime has to.
//! One serves all loops; it is started with the first of them.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use pyo3::prelude::*;

use super::{EventLoop, asyncio};
use crate::{
    lifecycle::{self, PerProcess},
    sync::Lock,
};

/// The way to the helper thread: a loop that is sent is woken once.
pub(super) fn sender() -> io::Result<Sender<Arc<EventLoop>>> {
    static SENDER: PerProcess<Lock<Option<Sender<Arc<EventLoop>>>>> = PerProcess::new(|_| Lock::new(None));

    if let Some(sender) = &*SENDER.get().lock() {
        return Ok(sender.clone());
    }
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("pyo3-await-wake".to_owned()).spawn(move || serve(receiver))?;
    // Two threads may have come here at once; then there are two helpers, which does no harm.
    Ok(SENDER.get().lock().insert(sender).clone())
}

fn serve(wakes: Receiver<Arc<EventLoop>>) {
    while let Ok(event_loop) = wakes.recv() {
        let Some(_pass) = lifecycle::enter() else { return };
        let attached = Python::try_attach(|py| {
            // It fails when the loop has been closed or collected; then nobody waits for the wake.
            let _ = event_loop
                .object(py)
                .and_then(|object| asyncio::call_drain(&event_loop, &object, "call_soon_threadsafe"));
            drop(event_loop);
        });
        if attached.is_none() {
            // The interpreter has ended.
            return;
        }
    }
}
