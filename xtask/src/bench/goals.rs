//! The goals: what each workload is to reach, as data, and how near a run has come.
//!
//! They are printed and never asserted: a test that looks at a clock fails when the machine is busy.

use serde::{Deserialize, Serialize};

use super::record::{Quartiles, Record, Run, Unit};

/// One goal for one contender.
#[derive(Debug)]
struct Goal {
    workload: &'static str,
    candidate: &'static str,
    bar: Bar,
    event_loop: &'static str,
    cores: &'static str,
    /// The oldest Python that it is for, as the second number of its version.
    python: u32,
}

#[derive(Clone, Copy, Debug)]
enum Bar {
    /// At most this part of what that contender takes in the same turn.
    Of(&'static str, f64),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so many times what it takes at this size, or at the smallest, at every larger size.
    Flat(Option<usize>, f64),
}

use Bar::{AtLeast, AtMost, Flat, Of};

/// How much more than at the smallest size an item may take: what varies between sizes by itself is within it.
const FLAT: f64 = 1.6;

/// How much more than on tokio a workload may take on another runtime.
const OTHER_RUNTIME: f64 = 1.5;

/// Pinned to one core, under asyncio, on any Python.
const fn goal(workload: &'static str, candidate: &'static str, bar: Bar) -> Goal {
    Goal { workload, candidate, bar, event_loop: "asyncio", cores: "one", python: 0 }
}

const fn uvloop(workload: &'static str, candidate: &'static str, bar: Bar) -> Goal {
    Goal { event_loop: "uvloop", ..goal(workload, candidate, bar) }
}

const fn all_cores(workload: &'static str, candidate: &'static str, bar: Bar) -> Goal {
    Goal { cores: "all", ..goal(workload, candidate, bar) }
}

const GOALS: &[Goal] = &[
    goal("W1e", "tokio_eager", Of("peer", 1.0 / 200.0)),
    goal("W1e", "tokio_eager", Of("python", 2.5)),
    goal("W1", "tokio_coroutine", Of("peer", 1.0 / 5.5)),
    goal("W2", "tokio_coroutine", Of("peer", 1.0 / 6.0)),
    goal("W2", "tokio_coroutine", Of("floor", 1.25)),
    goal("W2c", "tokio_coroutine", Of("peer", 1.0 / 20.0)),
    goal("W3f", "tokio_future", Of("peer", 1.0 / 18.0)),
    goal("W3", "tokio_coroutine", Of("python", 1.1)),
    goal("W4a", "tokio_coroutine", Of("peer", 1.0 / 6.0)),
    goal("W4a", "tokio_local", Of("peer", 1.0 / 18.0)),
    // Older versions cannot start a task at once, and a task that starts in a later turn is most of the cost.
    Goal { python: 12, ..goal("W4b", "tokio_coroutine", Of("peer", 1.0 / 30.0)) },
    goal("W4b", "tokio_coroutine", Of("python", 1.0)),
    goal("W5a", "tokio_stream", Of("peer", 1.0 / 35.0)),
    goal("W5a", "tokio_stream", Of("python", 1.8)),
    goal("W5b", "tokio_stream", Of("peer", 1.0 / 350.0)),
    goal("W5b", "tokio_stream", Of("python", 1.3)),
    // Both objects can wait without a task around them.
    goal("W7: bare", "tokio_future", AtMost(700.0)),
    goal("W7: bare", "tokio_coroutine", AtMost(700.0)),
    goal("W7: in a task", "tokio_coroutine", AtMost(1500.0)),
    goal("W8 fan-out", "tokio_future", Flat(None, FLAT)),
    goal("W8 fan-out", "tokio_future", Flat(Some(10_000), FLAT)),
    goal("W8 pending", "tokio_coroutine", Flat(None, FLAT)),
    goal("W8 pending", "tokio_future", Flat(None, FLAT)),
    goal("W8 streams to Python", "tokio_stream", Flat(None, FLAT)),
    goal("W8 streams to Rust", "tokio_stream", Flat(None, FLAT)),
    goal("W8 event loops", "tokio_coroutine", Flat(None, FLAT)),
    goal("W8 worker threads", "tokio_coroutine", Flat(None, FLAT)),
    all_cores("W2", "tokio_coroutine", Of("peer", 1.0 / 2.8)),
    all_cores("W2c", "tokio_coroutine", Of("peer", 1.0 / 60.0)),
    // A hundredth is what is still on its way when the time is up.
    all_cores("W6: completions", "tokio_future", AtLeast(0.99 * 50_000.0)),
    all_cores("W6: p99 of the ticker", "tokio_future", Of("python", 1.1)),
    all_cores("W6: CPU time", "tokio_future", Of("python", 1.1)),
    all_cores("W8 event loops", "tokio_coroutine", Flat(None, FLAT)),
    all_cores("W8 worker threads", "tokio_coroutine", Flat(None, FLAT)),
    uvloop("W1", "tokio_coroutine", Of("peer", 1.0 / 4.0)),
    uvloop("W2", "tokio_coroutine", Of("peer", 1.0 / 4.0)),
    uvloop("W2c", "tokio_coroutine", Of("peer", 1.0 / 12.0)),
    uvloop("W3f", "tokio_future", Of("peer", 1.0 / 12.0)),
];

/// How near a run has come to a goal.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Judged {
    pub(super) workload: String,
    pub(super) candidate: String,
    /// What it is compared with: another contender, its own cost at a size, or nothing.
    pub(super) of: Option<String>,
    pub(super) unit: Unit,
    /// What it may be, and what it is: as a part of `of`, or in the unit.
    pub(super) bar: f64,
    pub(super) measured: Quartiles,
    pub(super) reached: bool,
}

/// The goals that the run says something about.
///
/// A build for the stable ABI has none: its figures show what the slow paths cost.
pub(super) fn judge(run: &Run) -> Vec<Judged> {
    if run.abi3 {
        return Vec::new();
    }
    let here = |goal: &&Goal| {
        goal.event_loop == run.event_loop && goal.cores == run.cores && goal.python <= minor(&run.python)
    };
    let own = GOALS.iter().filter(here).filter_map(|goal| measure(goal, &run.records));
    own.chain(other_runtimes(&run.records)).collect()
}

/// The second number of a version.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn find<'a>(records: &'a [Record], workload: &str, candidate: &str) -> Option<&'a Record> {
    records.iter().find(|record| record.workload == workload && record.candidate == candidate)
}

/// Nothing, if the run has not measured all that the goal is about.
fn measure(goal: &Goal, records: &[Record]) -> Option<Judged> {
    let own = find(records, goal.workload, goal.candidate)?;
    let (of, bar, measured) = match goal.bar {
        Of(other, bar) => (Some(other.to_owned()), bar, own.cost_of(find(records, goal.workload, other)?)),
        AtMost(bar) | AtLeast(bar) => (None, bar, own.quartiles()),
        Flat(from, bar) => {
            let mut sizes: Vec<_> = records
                .iter()
                .filter(|record| record.workload == goal.workload && record.candidate == goal.candidate)
                .filter(|record| record.size >= from)
                .collect();
            sizes.sort_by_key(|record| record.size);
            let (smallest, larger) = sizes.split_first()?;
            let worst =
                larger.iter().map(|record| record.cost_of(smallest)).max_by(|a, b| a.median.total_cmp(&b.median))?;
            (Some(format!("that at {}", smallest.size?)), bar, worst)
        }
    };
    let reached = if matches!(goal.bar, AtLeast(_)) { measured.median >= bar } else { measured.median <= bar };
    let (workload, candidate) = (goal.workload.to_owned(), goal.candidate.to_owned());
    Some(Judged { workload, candidate, of, unit: own.unit, bar, measured, reached })
}

/// Each workload that was measured on tokio and on another runtime, in the same way.
fn other_runtimes(records: &[Record]) -> impl Iterator<Item = Judged> + '_ {
    records.iter().filter(|record| record.size.is_none()).filter_map(|record| {
        let way = ["async_std_", "smol_"].iter().find_map(|runtime| record.candidate.strip_prefix(runtime))?;
        let tokio = format!("tokio_{way}");
        let measured = record.cost_of(find(records, &record.workload, &tokio)?);
        Some(Judged {
            workload: record.workload.clone(),
            candidate: record.candidate.clone(),
            of: Some(tokio),
            unit: record.unit,
            bar: OTHER_RUNTIME,
            measured,
            reached: measured.median <= OTHER_RUNTIME,
        })
    })
}

#[cfg(test)]
mod tests;
