//! Futures that end in any way at any time.

use std::{
    ffi::CStr,
    future::{self, Future},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pyo3::{exceptions::PyValueError, prelude::*};
use pyo3_await_pytests::{Code, function, random::Random, turn};

use super::way::Way;
use crate::adapter::{self, cancelled};

/// How long it goes on, at least for one round.
const TIME: Duration = Duration::from_secs(3);

/// How many futures a round has at once.
const FUTURES: usize = 400;

/// What happens to a Python awaiter, which counts how often it is settled and says how.
const DRIVE: &CStr = c"
import collections

async def inner(turns):
    for _ in range(turns):
        await asyncio.sleep(0)

async def drive(make, settled, cancel_after):
    outcomes = collections.Counter()

    def done(index, future):
        settled(index)
        if future.cancelled():
            outcomes['cancelled'] += 1
        else:
            error = future.exception()
            if error is None and future.result() != index:
                outcomes['wrong'] += 1
            outcomes['value' if error is None else type(error).__name__] += 1

    async def await_made(index):
        return await make(index)

    async def one(index, turns):
        future = asyncio.ensure_future(await_made(index) if index % 2 else make(index))
        future.add_done_callback(lambda future: done(index, future))
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        if turns is not None:
            future.cancel()
        await asyncio.wait([future])
        # Its callbacks have been called, too.
        await asyncio.sleep(0)

    await asyncio.gather(*[one(index, turns) for index, turns in enumerate(cancel_after)])
    return dict(outcomes)
";

/// How often each of some futures was made, and dropped, and how often its waiter was settled.
struct Tally {
    made: Vec<AtomicUsize>,
    dropped: Vec<AtomicUsize>,
    settled: Vec<AtomicUsize>,
}

impl Tally {
    fn new() -> Arc<Self> {
        let zeroes = || (0..FUTURES).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { made: zeroes(), dropped: zeroes(), settled: zeroes() })
    }

    /// The counts of each future, as numbers: made, dropped, settled.
    fn counts(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let load = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (0..FUTURES).map(move |index| (load(&self.made[index]), load(&self.dropped[index]), load(&self.settled[index])))
    }

    /// Waits until each future has been dropped. What Python has closed is dropped at the runtime's leisure.
    async fn all_dropped(&self) {
        while self.counts().any(|(made, dropped, _)| dropped < made) {
            turn().await;
        }
    }
}

/// Counts one future and its drop.
struct Guard(Arc<Tally>, usize);

impl Guard {
    fn new(tally: &Arc<Tally>, index: usize) -> Self {
        tally.made[index].fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(tally), index)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped[self.1].fetch_add(1, Ordering::SeqCst);
    }
}

/// How a future goes on when it has had its turns.
#[derive(Clone, Copy, Debug)]
enum Last {
    Value,
    Error,
    Panic,
    Never,
    CleanUp,
}

/// A future that takes some turns, on its runtime or in Python, and ends.
fn future(code: &Arc<Code>, random: &mut Random, guard: Guard) -> impl Future<Output = PyResult<usize>> + Send + use<> {
    let (turns, by_python) = (random.below(4), random.below(3) == 0);
    let last = [Last::Value, Last::Error, Last::Panic, Last::Never, Last::CleanUp][random.below(5)];
    let (code, index) = (Arc::clone(code), guard.1);
    async move {
        let _guard = guard;
        if by_python {
            code.future("inner", (turns,))?.await?;
        }
        for _ in 0..turns {
            turn().await;
        }
        match last {
            Last::Value => Ok(index),
            Last::Error => Err(PyValueError::new_err(index)),
            Last::Panic => std::panic::resume_unwind(Box::new("a panic that is not reported")),
            Last::Never => future::pending().await,
            Last::CleanUp => {
                cancelled(Duration::from_secs(3600))?.await;
                code.future("inner", (turns,))?.await?;
                Ok(index)
            }
        }
    }
}

async fn round(code: &Arc<Code>, seed: u64) -> PyResult<()> {
    let (tally, mut random) = (Tally::new(), Random::new(seed));
    // Whoever may never end by itself has to be cancelled, so all are; many of them too late.
    let cancel_after: Vec<_> = (0..FUTURES).map(|_| random.below(12)).collect();
    let make = {
        let (code, tally) = (Arc::clone(code), Arc::clone(&tally));
        function(move |py, arguments| {
            let index: usize = arguments.get_item(0)?.extract()?;
            let mut random = Random::new(seed.wrapping_add(index as u64));
            let way = Way::ALL[random.below(Way::ALL.len())];
            let future = future(&code, &mut random, Guard::new(&tally, index));
            way.convert(py, future).map(Bound::unbind)
        })?
    };
    let settled = {
        let tally = Arc::clone(&tally);
        function(move |_, arguments| {
            let index: usize = arguments.get_item(0)?.extract()?;
            tally.settled[index].fetch_add(1, Ordering::SeqCst);
            Ok(())
        })?
    };
    let outcomes = code.future("drive", (make, settled, cancel_after))?.await?;
    tally.all_dropped().await;
    let outcomes: std::collections::BTreeMap<String, usize> = Python::attach(|py| outcomes.extract(py))?;
    // A task that is cancelled before it starts makes no future.
    let wrong = tally.counts().filter(|counts| !matches!(counts, (1, 1, 1) | (0, 0, 1)));
    assert_eq!(wrong.collect::<Vec<_>>(), [], "seed {seed}: {outcomes:?}");
    let mut kinds: Vec<_> = outcomes.keys().map(String::as_str).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["RustPanic", "ValueError", "cancelled", "value"], "seed {seed}: {outcomes:?}");
    assert_eq!(outcomes.values().sum::<usize>(), FUTURES, "seed {seed}: {outcomes:?}");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn each_future_is_dropped_once_and_each_waiter_settled_once() -> PyResult<()> {
    let code = Arc::new(Code::new(DRIVE)?);
    let begun = Instant::now();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let first = u64::try_from(time % 1_000_000_007).unwrap_or(0);
    for seed in first.. {
        round(&code, seed).await?;
        if begun.elapsed() > TIME {
            break;
        }
    }
    Ok(())
}
