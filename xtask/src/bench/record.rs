//! What the driver has measured, and what it comes to.

use serde::{Deserialize, Serialize};

/// One run of the driver.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Run {
    pub(super) python: String,
    /// Built for the stable ABI.
    pub(super) abi3: bool,
    pub(super) event_loop: String,
    pub(super) cores: String,
    /// How many processes wanted a core in the minute before, where that can be told.
    pub(super) load: Option<f64>,
    pub(super) records: Vec<Record>,
}

/// One candidate at one workload: a line of the driver's output.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) workload: String,
    pub(super) title: String,
    pub(super) candidate: String,
    pub(super) unit: Unit,
    /// How much there is at the same time, where that is what changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<usize>,
    /// How many operations make one sample.
    pub(super) operations: usize,
    /// Of one operation, in the order in which they were taken.
    pub(super) samples: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "B")]
    Bytes,
    #[serde(rename = "/s")]
    PerSecond,
}

/// Reads the driver's output.
pub(super) fn parse(output: &str) -> Result<Vec<Record>, String> {
    let parse = |line: &str| -> Result<Record, String> {
        let record: Record =
            serde_json::from_str(line).map_err(|error| format!("the driver has printed {line:?}: {error}"))?;
        if record.samples.is_empty() || !record.samples.iter().all(|sample| sample.is_finite()) {
            return Err(format!("the driver has no samples of {} at {}", record.candidate, record.workload));
        }
        Ok(record)
    };
    output.lines().map(parse).collect()
}

impl Record {
    pub(super) fn quartiles(&self) -> Quartiles {
        Quartiles::of(&self.samples)
    }

    pub(super) fn median(&self) -> f64 {
        self.quartiles().median
    }

    /// How many times `other`'s samples are this one's: the median over the pairs that were taken in the same turn,
    /// so that it holds when the machine's speed drifts.
    pub(super) fn ratio(&self, other: &Self) -> f64 {
        Quartiles::of(&self.ratios(other)).median
    }

    /// That of each turn, or that of the medians, if the two were not taken in the same turns.
    fn ratios(&self, other: &Self) -> Vec<f64> {
        if self.samples.len() != other.samples.len() {
            return vec![other.median() / self.median()];
        }
        self.samples.iter().zip(&other.samples).map(|(own, other)| other / own).collect()
    }

    /// What this one takes, as a part of what `other` takes. For a rate, where more is better, it is the other way
    /// round, so that less than 1 is always good.
    pub(super) fn cost_of(&self, other: &Self) -> Quartiles {
        match self.unit {
            Unit::Seconds | Unit::Bytes => Quartiles::of(&other.ratios(self)),
            Unit::PerSecond => Quartiles::of(&self.ratios(other)),
        }
    }
}

/// Where the middle half of some samples lies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Quartiles {
    pub(super) first: f64,
    pub(super) median: f64,
    pub(super) third: f64,
}

impl Quartiles {
    fn of(samples: &[f64]) -> Self {
        Self { first: quantile(samples, 0.25), median: quantile(samples, 0.5), third: quantile(samples, 0.75) }
    }

    /// The distance between the quartiles, as a part of the median.
    pub(super) fn spread(self) -> f64 {
        (self.third - self.first) / self.median
    }
}

/// The value below which `part` of the samples are, between two of them if need be.
fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "there are not that many samples")]
    let place = part * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between the first and the last")]
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn record(workload: &str, candidate: &str, samples: &[f64]) -> Record {
        Record {
            workload: workload.to_owned(),
            title: format!("what {workload} is"),
            candidate: candidate.to_owned(),
            unit: Unit::Seconds,
            size: None,
            operations: 100,
            samples: samples.to_vec(),
        }
    }

    pub(in crate::bench) fn run(records: Vec<Record>) -> Run {
        let (python, event_loop, cores) = ("3.12.1".into(), "asyncio".into(), "one".into());
        Run { python, abi3: false, event_loop, cores, load: None, records }
    }

    #[test]
    fn a_line_is_a_record() {
        let output = [
            r#"{"workload": "W", "title": "", "candidate": "peer", "unit": "B", "operations": 2, "samples": [3, 1.5]}"#,
            r#"{"workload": "W1", "title": "", "candidate": "ours", "unit": "/s", "operations": 2, "samples": [1]}"#,
        ];
        let records = parse(&output.join("\n")).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].candidate.as_str(), records[0].unit, records[0].operations), ("peer", Unit::Bytes, 2));
        assert_eq!(records[0].samples, [3.0, 1.5]);
        assert_eq!(records[1].unit, Unit::PerSecond);
        let sized = r#"{"workload": "W8", "title": "", "candidate": "peer", "unit": "s", "size": 10, "operations": 2,
            "samples": [1]}"#;
        assert_eq!(parse(&sized.replace('\n', "")).unwrap()[0].size, Some(10));
    }

    #[test]
    fn what_is_no_record_is_shown() {
        let error = parse("Fatal Python error\n").unwrap_err();
        assert!(error.contains("Fatal Python error"), "{error}");
        let empty =
            r#"{"workload": "W1", "title": "", "candidate": "peer", "unit": "s", "operations": 2, "samples": []}"#;
        assert_eq!(parse(empty).unwrap_err(), "the driver has no samples of peer at W1");
    }

    #[test]
    fn a_median_does_not_care_for_one_bad_sample() {
        let record = record("W1", "ours", &[2.0, 900.0, 1.0, 3.0, 2.5]);
        assert!((record.median() - 2.5).abs() < 1e-9);
        assert!((record.quartiles().spread() - 1.0 / 2.5).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_between_samples() {
        assert!((quantile(&[4.0, 1.0], 0.5) - 2.5).abs() < 1e-9);
        assert!((quantile(&[4.0, 1.0, 2.0], 0.25) - 1.5).abs() < 1e-9);
        assert!((quantile(&[7.0], 0.75) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_that_of_the_same_turn() {
        // The machine was three times slower in the second turn, for both.
        let (ours, peer) = (record("W1", "ours", &[1.0, 3.0, 1.0]), record("W1", "peer", &[5.0, 15.0, 5.5]));
        assert!((ours.ratio(&peer) - 5.0).abs() < 1e-9);
        // With other numbers of samples there are no pairs.
        assert!((ours.ratio(&record("W1", "peer", &[7.0])) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_cost_below_one_is_good_whatever_the_unit() {
        let with = |unit, samples: &[f64]| Record { unit, ..record("W6", "ours", samples) };
        let (less, more) = (with(Unit::Seconds, &[1.0, 3.0]), with(Unit::Seconds, &[4.0, 12.0]));
        assert!((less.cost_of(&more).median - 0.25).abs() < 1e-9);
        let (less, more) = (with(Unit::PerSecond, &[1.0, 3.0]), with(Unit::PerSecond, &[4.0, 12.0]));
        assert!((more.cost_of(&less).median - 0.25).abs() < 1e-9);
    }

    #[test]
    fn the_quartiles_of_a_cost_are_those_of_the_turns() {
        let (ours, peer) = (record("W1", "ours", &[1.0, 2.0, 3.0]), record("W1", "peer", &[4.0, 4.0, 4.0]));
        assert_eq!(ours.cost_of(&peer), Quartiles { first: 0.375, median: 0.5, third: 0.625 });
    }
}
