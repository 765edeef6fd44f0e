//! The mailbox under loom: every interleaving of posters and the drain.

#![allow(dead_code, unreachable_pub, reason = "the module is the crate's own, with other primitives")]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use loom::thread;
use pyo3::{PyResult, Python};

#[path = "../src/event_loop/mailbox.rs"]
mod mailbox;

mod primitives {
    pub(crate) use loom::sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, Ordering},
    };

    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            self.0.with(f)
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(f)
        }
    }
}

use self::{
    mailbox::{Envelope, Letter, Mailbox, Posted, Rest},
    primitives::Arc,
};

/// The drain's side is tested with Python; here letters are only popped.
pub(crate) struct Delivery<'a, 'py>(std::marker::PhantomData<(&'a (), &'py ())>);

/// A letter that counts its own end, and carries a value that only the poster's ordering makes visible.
struct Counted {
    dropped: std::sync::Arc<AtomicUsize>,
    value: loom::cell::UnsafeCell<u32>,
}

// SAFETY: `value` is written before the letter is posted and read after it is popped.
unsafe impl Sync for Counted {}

impl Letter for Counted {
    fn deliver(_: Arc<Envelope<Self>>, _: &Delivery<'_, '_>) -> PyResult<()> {
        unreachable!("nothing is delivered here")
    }

    fn refuse(_: Arc<Envelope<Self>>, _: Option<Python<'_>>) {}
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, SeqCst);
    }
}

fn letter(dropped: &std::sync::Arc<AtomicUsize>) -> Arc<Envelope<Counted>> {
    Envelope::new(Counted { dropped: dropped.clone(), value: loom::cell::UnsafeCell::new(0) })
}

/// Writes the letter's value and posts it; the wakes that the loop got are counted.
fn post(mailbox: &Mailbox, letter: Arc<Envelope<Counted>>, wakes: &loom::sync::atomic::AtomicUsize) {
    letter.letter.value.with_mut(|value| {
        // SAFETY: nobody else has the letter yet.
        unsafe { *value = 7 }
    });
    match mailbox.post(letter) {
        Posted::MustWake => {
            wakes.fetch_add(1, loom::sync::atomic::Ordering::SeqCst);
        }
        Posted::Queued => {}
        Posted::Refused(letter) => drop(letter),
    }
}

/// What a loop's turn does; returns how many letters it found.
fn drain(mailbox: &Mailbox, wakes: &loom::sync::atomic::AtomicUsize) -> usize {
    let mut batch = mailbox.take();
    let mut found = 0;
    while let Some(letter) = batch.pop() {
        drop(letter);
        found += 1;
    }
    wakes.store(0, loom::sync::atomic::Ordering::SeqCst);
    if mailbox.rest() == Rest::Busy {
        wakes.fetch_add(1, loom::sync::atomic::Ordering::SeqCst);
    }
    found
}

#[test]
fn no_letter_is_lost_and_no_wake_is_missed() {
    loom::model(|| {
        let dropped = std::sync::Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Mailbox::new());
        let wakes = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let posters: Vec<_> = (0..2)
            .map(|_| {
                let (mailbox, wakes, letter) = (mailbox.clone(), wakes.clone(), letter(&dropped));
                thread::spawn(move || post(&mailbox, letter, &wakes))
            })
            .collect();
        let mut found = 0;
        // The loop comes whenever it has been woken.
        if wakes.load(loom::sync::atomic::Ordering::SeqCst) > 0 {
            found += drain(&mailbox, &wakes);
        }
        for poster in posters {
            poster.join().unwrap();
        }
        while wakes.load(loom::sync::atomic::Ordering::SeqCst) > 0 {
            found += drain(&mailbox, &wakes);
        }
        assert_eq!(found, 2, "a letter waits, and nobody was woken for it");
        assert_eq!(dropped.load(SeqCst), 2);
    });
}

#[test]
fn what_the_poster_wrote_is_seen() {
    loom::model(|| {
        let dropped = std::sync::Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Mailbox::new());
        let wakes = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let (sent, kept) = {
            let letter = letter(&dropped);
            (letter.clone(), letter)
        };
        let poster = {
            let (mailbox, wakes) = (mailbox.clone(), wakes.clone());
            thread::spawn(move || post(&mailbox, sent, &wakes))
        };
        let mut batch = mailbox.take();
        if batch.pop().is_some() {
            let value = kept.letter.value.with(|value| {
                // SAFETY: it was popped, so its poster is done with it; loom checks just this.
                unsafe { *value }
            });
            assert_eq!(value, 7);
        }
        drop(batch);
        poster.join().unwrap();
    });
}

#[test]
fn a_letter_posted_twice_is_queued_once_and_can_come_back() {
    loom::model(|| {
        let dropped = std::sync::Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Mailbox::new());
        let letter = letter(&dropped);
        let poster = {
            let (mailbox, letter) = (mailbox.clone(), letter.clone());
            thread::spawn(move || drop(mailbox.post(letter)))
        };
        drop(mailbox.post(letter.clone()));
        poster.join().unwrap();
        let mut batch = mailbox.take();
        assert!(batch.pop().is_some());
        assert!(batch.pop().is_none(), "it was queued twice");
        assert!(matches!(mailbox.post(letter), Posted::Queued), "the drain has not rested yet");
        assert_eq!(mailbox.rest(), Rest::Busy);
        drop((batch, mailbox));
        assert_eq!(dropped.load(SeqCst), 1);
    });
}

#[test]
fn a_mailbox_that_closes_keeps_nothing() {
    loom::model(|| {
        let dropped = std::sync::Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Mailbox::new());
        let wakes = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let poster = {
            let (mailbox, wakes, letter) = (mailbox.clone(), wakes.clone(), letter(&dropped));
            thread::spawn(move || post(&mailbox, letter, &wakes))
        };
        drop(mailbox.close());
        poster.join().unwrap();
        assert!(mailbox.is_closed());
        assert!(mailbox.take().is_empty());
        assert_eq!(mailbox.rest(), Rest::Idle);
        assert_eq!(dropped.load(SeqCst), 1, "a letter that came before or after the end is still there");
    });
}

#[test]
fn a_letter_that_is_queued_already_brings_what_was_written_since() {
    loom::model(|| {
        let dropped = std::sync::Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Mailbox::new());
        let letter = letter(&dropped);
        let flag = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        drop(mailbox.post(letter.clone()));
        let poster = {
            let (mailbox, letter, flag) = (mailbox.clone(), letter, flag.clone());
            thread::spawn(move || {
                // Relaxed: only the mailbox's own orderings are under test.
                flag.store(true, loom::sync::atomic::Ordering::Relaxed);
                drop(mailbox.post(letter));
            })
        };
        let pop = || {
            let popped = mailbox.take().pop().is_some();
            (popped, flag.load(loom::sync::atomic::Ordering::Relaxed))
        };
        let (popped, seen) = pop();
        assert!(popped, "the first post was lost");
        if !seen {
            // Then the second post came after the first was popped, and has queued the letter again.
            poster.join().unwrap();
            assert_eq!(pop(), (true, true), "the second post was merged into the first, and what it brought is lost");
        }
    });
}
