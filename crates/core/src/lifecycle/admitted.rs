//! A future that is polled only as long as Python may be touched.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use super::enter;
use crate::panic;

/// A future of the user's that is polled, and dropped, only as long as Python may be touched, and that does not panic.
pub(crate) struct Admitted<F>(Option<Pin<Box<F>>>);

impl<F> Admitted<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }

    fn end(&mut self) {
        // The panic hook has told of a panic; nobody waits for this future.
        let _ = panic::catch(|| self.0 = None);
    }
}

impl<F: Future<Output = ()>> Future for Admitted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(_pass) = enter() else { return Poll::Pending };
        let Some(future) = &mut self.0 else { return Poll::Ready(()) };
        if let Ok(Poll::Pending) = panic::catch(|| future.as_mut().poll(cx)) {
            return Poll::Pending;
        }
        self.end();
        Poll::Ready(())
    }
}

impl<F> Drop for Admitted<F> {
    fn drop(&mut self) {
        match enter() {
            Some(_pass) => self.end(),
            None => mem::forget(self.0.take()),
        }
    }
}
