//! When a goal is reached, and when a run says nothing about it.

use super::{
    super::record::tests::{record, run},
    *,
};

fn judged(records: Vec<Record>) -> Vec<Judged> {
    judge(&run(records))
}

fn sized(workload: &str, candidate: &str, size: usize, samples: &[f64]) -> Record {
    Record { size: Some(size), ..record(workload, candidate, samples) }
}

#[track_caller]
fn assert_measured(judged: &[Judged], expected: &[(&str, &str, f64, bool)]) {
    let found: Vec<_> = judged
        .iter()
        .map(|one| (one.candidate.as_str(), one.of.as_deref().unwrap_or("-"), one.measured.median, one.reached))
        .collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1, found.3), (expected.0, expected.1, expected.3), "{found:?}");
        assert!((found.2 - expected.2).abs() < 1e-9, "{found:?}");
    }
}

#[test]
fn a_part_of_another_is_that_of_the_same_turn() {
    // The machine was slower in the second turn; the medians by themselves would say 1/200.
    let records =
        |second| vec![record("W1e", "tokio_eager", &[1.0, 10.0, 1.0]), record("W1e", "peer", &[200.0, second, 190.0])];
    assert_measured(&judged(records(2_000.0)), &[("tokio_eager", "peer", 1.0 / 200.0, true)]);
    assert_measured(&judged(records(1_900.0)), &[("tokio_eager", "peer", 1.0 / 190.0, false)]);
}

#[test]
fn several_goals_of_one_workload_are_judged_each() {
    let records = vec![
        record("W2", "tokio_coroutine", &[10.0]),
        record("W2", "peer", &[50.0]),
        record("W2", "floor", &[8.0]),
        record("W2", "python", &[1.0]),
    ];
    assert_measured(
        &judged(records),
        &[("tokio_coroutine", "peer", 0.2, false), ("tokio_coroutine", "floor", 1.25, true)],
    );
}

#[test]
fn a_goal_is_for_its_event_loop_its_cores_and_its_python() {
    let records = || {
        vec![
            record("W2", "tokio_coroutine", &[10.0]),
            record("W2", "peer", &[45.0]),
            record("W4b", "tokio_coroutine", &[1.0]),
            record("W4b", "peer", &[30.0]),
        ]
    };
    let bars = |run: Run| judge(&run).iter().map(|one| (one.bar.recip(), one.reached)).collect::<Vec<_>>();
    let close = |found: Vec<(f64, bool)>, expected: &[(f64, bool)]| {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(a, b)| (a.0 - b.0).abs() < 1e-9 && a.1 == b.1), "{found:?}");
    };
    close(bars(run(records())), &[(6.0, false), (30.0, true)]);
    close(bars(Run { python: "3.11.7".into(), ..run(records()) }), &[(6.0, false)]);
    close(bars(Run { cores: "all".into(), ..run(records()) }), &[(2.8, true)]);
    close(bars(Run { event_loop: "uvloop".into(), ..run(records()) }), &[(4.0, true)]);
    close(bars(Run { event_loop: "uvloop".into(), cores: "all".into(), ..run(records()) }), &[]);
    close(bars(Run { abi3: true, ..run(records()) }), &[]);
}

#[test]
fn an_amount_has_a_bar_of_its_own() {
    let memory = |bytes| Record { unit: Unit::Bytes, ..record("W7: bare", "tokio_future", &[bytes]) };
    assert_measured(&judged(vec![memory(700.0)]), &[("tokio_future", "-", 700.0, true)]);
    assert_measured(&judged(vec![memory(701.0)]), &[("tokio_future", "-", 701.0, false)]);
    let rate = |rate| Record { unit: Unit::PerSecond, ..record("W6: completions", "tokio_future", &[rate]) };
    let judged = |record| judge(&Run { cores: "all".into(), ..run(vec![record]) });
    assert_measured(&judged(rate(49_900.0)), &[("tokio_future", "-", 49_900.0, true)]);
    assert_measured(&judged(rate(40_000.0)), &[("tokio_future", "-", 40_000.0, false)]);
}

#[test]
fn flat_is_the_worst_of_all_larger_sizes() {
    // In any order, and not only the last.
    let records = vec![
        sized("W8 fan-out", "tokio_future", 1_000_000, &[3.0]),
        sized("W8 fan-out", "tokio_future", 1_000, &[2.0]),
        sized("W8 fan-out", "tokio_future", 100_000, &[4.0]),
        sized("W8 fan-out", "tokio_future", 10_000, &[2.5]),
        sized("W8 fan-out", "python", 100_000, &[90.0]),
    ];
    assert_measured(
        &judged(records),
        &[("tokio_future", "that at 1000", 2.0, false), ("tokio_future", "that at 10000", 1.6, true)],
    );
    // One size alone says nothing.
    assert_measured(&judged(vec![sized("W8 fan-out", "tokio_future", 1_000, &[2.0])]), &[]);
}

#[test]
fn another_runtime_is_held_against_tokio_in_the_same_way() {
    let records = vec![
        record("W9", "tokio_eager", &[1.0]),
        record("W9", "tokio_coroutine", &[2.0]),
        record("W9", "smol_eager", &[2.0]),
        record("W9", "async_std_coroutine", &[2.0]),
        record("W9", "async_std_local", &[2.0]),
    ];
    assert_measured(
        &judged(records),
        &[("smol_eager", "tokio_eager", 2.0, false), ("async_std_coroutine", "tokio_coroutine", 1.0, true)],
    );
}

#[test]
fn each_goal_names_a_workload_and_contenders_that_the_driver_knows() {
    let driver = ["workloads", "load", "memory", "scale"]
        .map(|name| std::fs::read_to_string(format!("../pytests/bench/driver/{name}.py")).unwrap())
        .concat();
    let parts = |name: &'static str| name.split(": ").map(str::to_owned).collect::<Vec<_>>();
    for goal in GOALS {
        let name = goal.workload.strip_prefix("W8 streams ").unwrap_or(goal.workload);
        for part in parts(name) {
            assert!(driver.contains(&format!("\"{part}\"")), "{goal:?}");
        }
        let way = goal.candidate.strip_prefix("tokio_").expect("goals are for tokio");
        assert!(driver.contains(&format!("\"{way}\"")) || driver.contains(&format!("_{way}\"")), "{goal:?}");
        if let Of(other, _) = goal.bar {
            assert!(driver.contains(&format!("\"{other}\"")), "{goal:?}");
        }
    }
}
