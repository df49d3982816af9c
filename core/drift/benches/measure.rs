//! How long it takes to read a request and to measure an action with the lexical embedder.
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::time::Duration;

use countersign_drift::calibrate::Pair;
use countersign_drift::{Lexical, Profile, Request, measure, note};
use countersign_schemas::Action;
use countersign_schemas::Prior;
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    let pairs = Pair::read(include_str!("../../../fixtures/drift/pairs.jsonl")).unwrap();
    let actions: Vec<Action> = pairs.iter().map(|pair| pair.action.action()).collect();
    let (profile, mut prior) = (Profile::default(), Prior::default());
    actions.iter().for_each(|action| note(&mut prior, action));
    let (mut next_request, mut next_action) = (pairs.iter().cycle(), actions.iter().cycle());

    criterion.bench_function("request", |b| {
        b.iter(|| Request::of(&next_request.next().unwrap().request, &Lexical))
    });
    let request = Request::of(&pairs[0].request, &Lexical);
    criterion.bench_function("measure", |b| {
        b.iter(|| measure(&request, next_action.next().unwrap(), &prior, &profile))
    });
    criterion.final_summary();
}
