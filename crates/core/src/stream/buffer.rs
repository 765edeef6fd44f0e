//! The bounded buffer between a producer and a consumer, one of which is on the event loop's thread.
//!
//! The consumer takes items out in batches of half the buffer at most, so that the producer can fill one half while the
//! other is consumed.
//! Each side wakes the other only when that has said that it waits.

use std::{collections::VecDeque, mem};

use atomic_waker::AtomicWaker;

use crate::sync::Lock;

/// Items of type `T`, and an end of type `E`.
pub(super) struct Buffer<T, E> {
    state: Lock<State<T, E>>,
    /// The waker of a producer that waits.
    pub(super) producer: AtomicWaker,
    /// The waker of a consumer that waits.
    pub(super) consumer: AtomicWaker,
}

struct State<T, E> {
    capacity: usize,
    items: VecDeque<T>,
    /// How many items the last batch had, but for the first, which is consumed at once.
    /// They count as buffered until the next batch is taken.
    taken: usize,
    /// The producer waits until there is room.
    full: bool,
    /// The consumer waits until there are items, or the end.
    empty: bool,
    /// Nobody wants any items.
    closed: bool,
    end: Option<E>,
}

/// What the consumer finds in the buffer.
pub(super) enum Taken<T, E> {
    /// The first item of a batch, and whether the producer waits for room.
    Item {
        item: T,
        wake: bool,
    },
    Nothing,
    End(E),
}

/// What the producer finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// For so many items, one at least.
    For(usize),
    /// The producer is woken when there is.
    None,
    /// Nobody wants any items.
    Closed,
}

impl<T, E> State<T, E> {
    fn room(&mut self) -> Room {
        if self.closed {
            return Room::Closed;
        }
        let room = self.capacity.saturating_sub(self.items.len() + self.taken);
        self.full = room == 0;
        if self.full { Room::None } else { Room::For(room) }
    }
}

impl<T, E> Buffer<T, E> {
    /// # Panics
    ///
    /// When `capacity` is 0.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "the capacity of a stream's buffer is at least one item");
        let state =
            State { capacity, items: VecDeque::new(), taken: 0, full: false, empty: false, closed: false, end: None };
        Self { state: Lock::new(state), producer: AtomicWaker::new(), consumer: AtomicWaker::new() }
    }

    /// To be called before there are any items.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    pub(super) fn set_capacity(&self, capacity: usize) {
        assert!(capacity > 0, "the capacity of a stream's buffer is at least one item");
        self.state.lock().capacity = capacity;
    }

    /// Whether the producer may go on.
    pub(super) fn room(&self) -> Room {
        self.state.lock().room()
    }

    /// Adds an item, for which there is room, and says whether there is room for more.
    pub(super) fn push(&self, item: T) -> Room {
        let mut state = self.state.lock();
        if state.closed {
            // The item is the user's, and dropped when the lock is not held.
            drop(state);
            drop(item);
            return Room::Closed;
        }
        state.items.push_back(item);
        let room = state.room();
        let wake = mem::take(&mut state.empty);
        drop(state);
        if wake {
            self.consumer.wake();
        }
        room
    }

    /// Adds items, for which there is room. If nobody wants them, they are left.
    pub(super) fn append(&self, items: &mut VecDeque<T>) {
        let mut state = self.state.lock();
        if items.is_empty() || state.closed {
            return;
        }
        if state.items.is_empty() {
            mem::swap(&mut state.items, items);
        } else {
            state.items.append(items);
        }
        let wake = mem::take(&mut state.empty);
        drop(state);
        if wake {
            self.consumer.wake();
        }
    }

    /// There will be no more items.
    pub(super) fn end(&self, end: E) {
        let mut state = self.state.lock();
        let old = state.end.replace(end);
        let wake = mem::take(&mut state.empty);
        drop(state);
        drop(old);
        if wake {
            self.consumer.wake();
        }
    }

    /// Exchanges an empty batch for one with the oldest items.
    ///
    /// If there is nothing, `wait` says what the consumer does, who has registered its waker then.
    pub(super) fn take(&self, batch: &mut VecDeque<T>, wait: bool) -> Taken<T, E> {
        let mut state = self.state.lock();
        let most = state.capacity.div_ceil(2);
        if state.items.len() <= most {
            mem::swap(&mut state.items, batch);
        } else {
            batch.extend(state.items.drain(..most));
        }
        let Some(item) = batch.pop_front() else {
            state.taken = 0;
            state.empty = wait && state.end.is_none();
            return state.end.take().map_or(Taken::Nothing, Taken::End);
        };
        state.taken = batch.len();
        Taken::Item { item, wake: mem::take(&mut state.full) }
    }

    /// Refuses items from now on, and gives those that were not taken, with the end if there was one.
    ///
    /// The producer is woken. Gives nothing when it was closed before.
    pub(super) fn close(&self) -> (VecDeque<T>, Option<E>) {
        let mut state = self.state.lock();
        if mem::replace(&mut state.closed, true) {
            return (VecDeque::new(), None);
        }
        let left = (mem::take(&mut state.items), state.end.take());
        drop(state);
        self.producer.wake();
        left
    }

    /// The end, if the buffer has come to it; else the consumer waits, who has registered its waker.
    pub(super) fn ended(&self) -> Option<E> {
        let mut state = self.state.lock();
        state.empty = state.end.is_none();
        state.end.take()
    }
}
