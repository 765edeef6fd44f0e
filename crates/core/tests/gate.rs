//! The gate under loom: whoever is in when it closes or pauses is seen until it comes out.

#![allow(dead_code, unreachable_pub, reason = "the module is the crate's own, with other primitives")]

use loom::{sync::Arc, thread};

#[path = "../src/lifecycle/gate.rs"]
mod gate;

mod primitives {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
}

use self::{
    gate::{Counter, Gate},
    primitives::{AtomicUsize, Ordering},
};

/// What a thread does inside; it must be over when nobody is in.
type Work = loom::cell::UnsafeCell<u32>;

struct Shared {
    gate: Gate<2>,
    work: [Work; 2],
    refused: AtomicUsize,
}

// SAFETY: a thread touches its own work while it is inside, and the closing one when nobody is; loom checks that.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

fn visit(shared: &Shared, index: usize, counter: usize) {
    if shared.gate.enter(counter) {
        // SAFETY: see above.
        shared.work[index].with_mut(|work| unsafe { *work += 1 });
        shared.gate.leave(counter);
    } else {
        shared.refused.fetch_add(1, Ordering::Relaxed);
    }
}

fn shut_beside_two(counters: [usize; 2], shut: fn(&Gate<2>)) {
    loom::model(move || {
        let shared = Arc::new(Shared {
            gate: Gate([Counter(AtomicUsize::new(0)), Counter(AtomicUsize::new(0))]),
            work: [Work::new(0), Work::new(0)],
            refused: AtomicUsize::new(0),
        });
        let threads = [0, 1].map(|index| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || visit(&shared, index, counters[index]))
        });
        shut(&shared.gate);
        let quiet = shared.gate.inside() == 0;
        // SAFETY: nobody is in, and nobody gets in any more.
        let done = || shared.work.iter().map(|work| work.with(|work| unsafe { *work })).sum::<u32>();
        let seen = quiet.then(&done);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(shared.gate.inside(), 0);
        assert!(!shared.gate.enter(0) && !shared.gate.enter(1));
        assert_eq!(done() as usize + shared.refused.load(Ordering::Relaxed), 2);
        if let Some(seen) = seen {
            assert_eq!(seen, done(), "somebody got in after the gate was seen shut and empty");
        }
    });
}

#[test]
fn nobody_is_in_once_it_is_closed_and_empty() {
    shut_beside_two([0, 1], Gate::close);
}

#[test]
fn nobody_is_in_once_it_is_paused_and_empty() {
    shut_beside_two([0, 1], Gate::pause);
}

#[test]
fn threads_may_share_a_counter() {
    shut_beside_two([0, 0], Gate::close);
    shut_beside_two([0, 0], Gate::pause);
}

#[test]
fn it_closes_while_it_is_paused() {
    loom::model(|| {
        let gate = Arc::new(Gate([Counter(AtomicUsize::new(0))]));
        gate.pause();
        assert!(gate.is_paused() && !gate.enter(0) && gate.enter_paused(0));
        let closing = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.close()
        });
        gate.resume();
        closing.join().unwrap();
        assert!(!gate.is_paused() && gate.is_closed());
        assert!(!gate.enter(0) && !gate.enter_paused(0));
        assert_eq!(gate.inside(), 1);
        assert!(gate.leave(0));
    });
}

#[test]
fn it_says_that_somebody_may_wait() {
    loom::model(|| {
        let gate = Arc::new(Gate([Counter(AtomicUsize::new(0))]));
        assert!(gate.enter(0));
        let closing = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                gate.close();
                gate.inside()
            }
        });
        let told = gate.leave(0);
        // Whoever has seen somebody in is told when he comes out.
        assert!(told || closing.join().unwrap() == 0);
    });
}
