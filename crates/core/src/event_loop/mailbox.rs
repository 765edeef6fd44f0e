//! The queue that Rust threads fill and an event loop drains.
//!
//! A lock-free stack of letters: anybody pushes one, the loop's thread takes them all at once and reverses them.
//! A letter is its own node, so that posting allocates nothing and cannot fail for want of memory.
//!
//! The head says more than where the stack begins:
//!
//! | head | meaning | a poster then |
//! |---|---|---|
//! | null | idle: nothing is queued, and the loop is not looking | pushes and must wake the loop |
//! | `DRAINING` | the loop is looking, and will look again before it is idle | pushes |
//! | a letter | letters are queued, and the loop has been woken or is looking | pushes |
//! | `CLOSED` | nobody will look again | gets the letter back |

use std::{marker::PhantomData, mem::ManuallyDrop, ptr};

// The test has loom's in their place.
use super::primitives::{Arc, AtomicBool, AtomicPtr, Ordering, UnsafeCell};

const DRAINING: *mut Link = ptr::without_provenance_mut(align_of::<Link>());
const CLOSED: *mut Link = ptr::without_provenance_mut(2 * align_of::<Link>());

/// A queue of letters; see the module.
#[derive(Debug)]
pub(crate) struct Mailbox {
    head: AtomicPtr<Link>,
}

/// What became of a letter.
#[derive(Debug)]
pub(crate) enum Posted {
    /// It is queued, and the loop must be woken: this is the edge from idle to busy.
    MustWake,
    /// It is queued, or already was.
    Queued,
    /// The mailbox is closed.
    Refused(AnyLetter),
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Queues a letter, from any thread. A letter that is queued already stays where it is.
    pub(crate) fn post<L: Letter>(&self, letter: Arc<Envelope<L>>) -> Posted {
        let letter = AnyLetter::new(letter);
        // Acquire pairs with the release in `Batch::pop`: the node is ours to write once its last trip is over.
        // Release pairs with the acquire there: if the letter is queued already, who pops it sees what we wrote before.
        if letter.link().queued.swap(true, Ordering::AcqRel) {
            return Posted::Queued;
        }
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                letter.link().queued.store(false, Ordering::Release);
                return Posted::Refused(letter);
            }
            // SAFETY: `queued` was false and is true by us, so that no other thread posts or pops this node.
            letter.link().next.with_mut(|next| unsafe { *next = head });
            // Release pairs with the acquire in `take`: what was written to the letter is seen by who pops it.
            match self.head.compare_exchange_weak(head, letter.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(current) => head = current,
            }
        }
        letter.into_queue();
        if head.is_null() { Posted::MustWake } else { Posted::Queued }
    }

    /// Takes all letters, oldest first, and marks the mailbox as being drained.
    pub(crate) fn take(&self) -> Batch {
        self.replace_head(DRAINING)
    }

    /// Goes idle, if nothing was posted since [`take`](Self::take); else the loop must be woken again.
    #[must_use]
    pub(crate) fn rest(&self) -> Rest {
        // Release keeps what the drain did before this; nobody acquires it: the poster that finds null makes a system
        // call, and so does the loop before its next drain.
        match self.head.compare_exchange(DRAINING, ptr::null_mut(), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Rest::Idle,
            Err(CLOSED) => Rest::Idle,
            // Another drain, nested in ours, rested before us, and nothing came since.
            Err(head) if head.is_null() => Rest::Idle,
            Err(_) => Rest::Busy,
        }
    }

    /// Refuses letters from now on, and gives those that were not taken.
    pub(crate) fn close(&self) -> Batch {
        self.replace_head(CLOSED)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.head.load(Ordering::Relaxed) == CLOSED
    }

    fn replace_head(&self, new: *mut Link) -> Batch {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                return Batch::empty();
            }
            // Acquire pairs with the release in `post`.
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Batch::reversed(head),
                Err(current) => head = current,
            }
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Whether a drained mailbox is empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Idle,
    Busy,
}

/// Letters that were taken out of a mailbox, oldest first. Those that are not popped are dropped with it.
#[derive(Debug)]
pub(crate) struct Batch {
    first: *mut Link,
}

// SAFETY: a batch owns its letters, which are `Send` and `Sync`.
unsafe impl Send for Batch {}

impl Batch {
    pub(crate) fn empty() -> Self {
        Self { first: ptr::null_mut() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(crate) fn pop(&mut self) -> Option<AnyLetter> {
        // SAFETY: the batch owns its nodes: each was put into the queue by `into_queue` and is taken out once, here.
        let letter = unsafe { AnyLetter::from_queue(ptr::NonNull::new(self.first)?) };
        // SAFETY: the node is still marked as queued, so that nobody but this batch touches it.
        self.first = letter.link().next.with(|next| unsafe { *next });
        // From now on the node may be queued again. Both orderings pair with those in `post`.
        letter.link().queued.swap(false, Ordering::AcqRel);
        Some(letter)
    }

    /// The stack that begins at `head`, in the order in which it was pushed.
    fn reversed(mut head: *mut Link) -> Self {
        let mut first = ptr::null_mut();
        while !head.is_null() && head != DRAINING {
            // SAFETY: the stack was taken out of the mailbox whole, so that its nodes are this function's alone.
            unsafe {
                let next = (*head).next.with(|next| *next);
                (*head).next.with_mut(|place| *place = first);
                first = head;
                head = next;
            }
        }
        Self { first }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// What can be sent to an event loop.
///
/// The loop's side of it is the trait's business; the queue only keeps it.
pub(crate) trait Letter: Send + Sync + Sized + 'static {
    /// Handles the letter on the loop's thread.
    fn deliver(envelope: Arc<Envelope<Self>>, delivery: &super::Delivery<'_, '_>) -> pyo3::PyResult<()>;

    /// The loop was closed before the letter was handled. Runs on any thread; `py` is there on the one that closes the
    /// loop, and on others even if they are attached it is not.
    fn refuse(envelope: Arc<Envelope<Self>>, py: Option<pyo3::Python<'_>>);
}

/// A letter with its place in the queue.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Envelope<L> {
    link: Link,
    pub(crate) letter: L,
}

impl<L: Letter> Envelope<L> {
    pub(crate) fn new(letter: L) -> Arc<Self> {
        let link = Link {
            queued: AtomicBool::new(false),
            next: UnsafeCell::new(ptr::null_mut()),
            functions: &Functions {
                deliver: |link, delivery| {
                    // SAFETY: the link is the head of an `Envelope<L>`, and the caller gives its reference away.
                    L::deliver(unsafe { Arc::from_raw(link.cast::<Self>().as_ptr()) }, delivery)
                },
                refuse: |link, py| {
                    // SAFETY: as above.
                    L::refuse(unsafe { Arc::from_raw(link.cast::<Self>().as_ptr()) }, py);
                },
                drop: |link| {
                    // SAFETY: as above.
                    drop(unsafe { Arc::from_raw(link.cast::<Self>().as_ptr()) });
                },
            },
        };
        Arc::new(Self { link, letter })
    }
}

/// The node of the queue, at the head of each envelope.
#[derive(Debug)]
struct Link {
    /// True from `post` to `pop`. Who turns it true owns `next` until the node is in a queue; then the queue does.
    queued: AtomicBool,
    next: UnsafeCell<*mut Link>,
    functions: &'static Functions,
}

// SAFETY: `next` is touched only by the owner that `queued` names.
unsafe impl Send for Link {}
// SAFETY: as above.
unsafe impl Sync for Link {}

/// What can be done with a letter whose type is forgotten. Each takes over the caller's reference to the envelope.
#[derive(Debug)]
struct Functions {
    deliver: unsafe fn(ptr::NonNull<Link>, &super::Delivery<'_, '_>) -> pyo3::PyResult<()>,
    refuse: unsafe fn(ptr::NonNull<Link>, Option<pyo3::Python<'_>>),
    drop: unsafe fn(ptr::NonNull<Link>),
}

/// A reference to a letter of some type.
#[derive(Debug)]
pub(crate) struct AnyLetter {
    link: ptr::NonNull<Link>,
    owns: PhantomData<Link>,
}

// SAFETY: it is an `Arc` of an envelope, whose letter is `Send` and `Sync`.
unsafe impl Send for AnyLetter {}

impl AnyLetter {
    fn new<L: Letter>(letter: Arc<Envelope<L>>) -> Self {
        // The link is the first field of a `repr(C)` struct, so a pointer to the whole is one to the link.
        let link = Arc::into_raw(letter).cast::<Link>().cast_mut();
        // SAFETY: an `Arc` is never null.
        Self { link: unsafe { ptr::NonNull::new_unchecked(link) }, owns: PhantomData }
    }

    pub(crate) fn deliver(self, delivery: &super::Delivery<'_, '_>) -> pyo3::PyResult<()> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the functions are those of the letter's own type, and the reference is not used again.
        unsafe { (this.link().functions.deliver)(this.link, delivery) }
    }

    pub(crate) fn refuse(self, py: Option<pyo3::Python<'_>>) {
        let this = ManuallyDrop::new(self);
        // SAFETY: as in `deliver`.
        unsafe { (this.link().functions.refuse)(this.link, py) };
    }

    fn link(&self) -> &Link {
        // SAFETY: the reference keeps the envelope alive.
        unsafe { self.link.as_ref() }
    }

    fn as_ptr(&self) -> *mut Link {
        self.link.as_ptr()
    }

    /// Gives the reference to the queue that the node was pushed on.
    fn into_queue(self) {
        let _ = ManuallyDrop::new(self);
    }

    /// # Safety
    ///
    /// The node was given away by `into_queue`, and is taken back once.
    unsafe fn from_queue(link: ptr::NonNull<Link>) -> Self {
        Self { link, owns: PhantomData }
    }
}

impl Drop for AnyLetter {
    fn drop(&mut self) {
        // SAFETY: as in `deliver`.
        unsafe { (self.link().functions.drop)(self.link) };
    }
}
