//! Drift against labelled pairs and sessions, and what must hold for every input.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its fixture has failed")]

mod bars;
mod document;
mod properties;

use countersign_drift::calibrate::{Kind, Line, Pair, Report, Sequence};

/// All labelled pairs; those held back played no part in tuning.
fn pairs(held_back: bool) -> Vec<Pair> {
    let pairs = Pair::read(include_str!("../../../../fixtures/drift/pairs.jsonl")).unwrap();
    pairs.into_iter().filter(|pair| pair.held_back == held_back).collect()
}

fn sequences() -> Vec<Sequence> {
    serde_json::from_str(include_str!("../../../../fixtures/drift/sessions.json")).unwrap()
}

fn line<'r>(report: &'r Report, measure: &str, against: Kind) -> &'r Line {
    report.lines.iter().find(|line| line.measure == measure && line.against == against).unwrap()
}
