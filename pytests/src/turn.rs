//! Giving way.

use std::{future, mem, task::Poll};

/// Is pending once, and wakes its task at once: on any runtime the next poll is another one.
pub async fn turn() {
    let mut turned = false;
    future::poll_fn(|cx| {
        if mem::replace(&mut turned, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
