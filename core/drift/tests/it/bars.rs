//! How well the default embedder and profile do on what they were not tuned on.

use std::collections::HashMap;

use countersign_drift::calibrate::{Kind, SequenceKind, calibrate};
use countersign_drift::{Concern, Lexical, Profile, Request, measure, verbalize};
use countersign_schemas::{Degree, Prior, Trend};

use crate::{line, pairs, sequences};

fn held_back_auc(measure: &str, against: Kind) -> Degree {
    let report = calibrate(&pairs(true), &Lexical, &Profile::default(), Degree::ratio(1, 10));
    line(&report, measure, against).auc
}

/// The aim was 0.95. What is measured is 0.94, and the word lists are not to be fitted to these pairs.
#[test]
fn an_action_off_topic_scores_higher_than_an_aligned_one() {
    let auc = held_back_auc("score", Kind::OffTopic);
    assert!(auc >= Degree::ratio(93, 100), "{auc}");
}

#[test]
fn the_wrong_deed_on_the_right_topic_scores_higher_than_an_aligned_one() {
    let auc = held_back_auc("score", Kind::WrongDeed);
    assert!(auc >= Degree::ratio(80, 100), "{auc}");
}

/// Why there is a gap at all.
#[test]
fn the_distance_alone_does_not_see_the_wrong_deed() {
    let auc = held_back_auc("distance", Kind::WrongDeed);
    assert!(auc < Degree::ratio(60, 100), "{auc}");
}

#[test]
fn a_slow_divergence_is_noticed_by_its_fifteenth_step_and_its_benign_twin_never() {
    let profile = Profile::default();
    for sequence in sequences() {
        let steps = sequence.replay(&Lexical, &profile);
        let noticed = steps.iter().position(|(_, trend)| trend.ema >= profile.alert).map(|at| at + 1);
        let asked = steps.iter().any(|(drift, trend)| profile.concern(drift, trend) == Concern::StepUp);
        match sequence.kind {
            SequenceKind::Benign => assert_eq!((None, false), (noticed, asked), "{}", sequence.domain),
            SequenceKind::Diverging => {
                assert!(noticed < Some(15) && noticed > Some(4) && asked, "{}", sequence.domain)
            }
        }
    }
}

/// The whole point of accumulating: no single one of the early steps would have been noticed.
#[test]
fn a_slow_divergence_is_noticed_before_any_single_action_would_be() {
    let profile = Profile::default();
    for sequence in sequences().iter().filter(|sequence| sequence.kind == SequenceKind::Diverging) {
        let steps = sequence.replay(&Lexical, &profile);
        let by_average = steps.iter().position(|(_, trend)| trend.ema >= profile.alert);
        let by_one = steps.iter().position(|(drift, _)| drift.score >= profile.once).unwrap_or(steps.len());
        assert!(by_average.unwrap() < by_one, "{}: {by_average:?}, {by_one}", sequence.domain);
    }
}

#[test]
fn both_halves_hold_every_domain_and_kind_and_enough_of_each() {
    let mut cells: HashMap<(String, Kind), [usize; 2]> = HashMap::new();
    for held_back in [false, true] {
        for pair in pairs(held_back) {
            cells.entry((pair.domain, pair.kind)).or_default()[usize::from(held_back)] += 1;
        }
    }
    assert_eq!(6 * 4, cells.len());
    assert!(cells.values().all(|[tuning, held_back]| tuning == held_back), "{cells:?}");
    let of = |wanted: &dyn Fn(Kind) -> bool| -> usize {
        cells
            .iter()
            .filter(|((_, kind), _)| wanted(*kind))
            .map(|(_, counts)| counts.iter().sum::<usize>())
            .sum()
    };
    assert!(of(&Kind::is_aligned) >= 60 && of(&|kind| kind == Kind::Paraphrase) * 2 >= of(&Kind::is_aligned));
    assert!(of(&|kind| kind == Kind::OffTopic) >= 60 && of(&|kind| kind == Kind::WrongDeed) >= 60);
}

/// Else the paraphrases would measure how alike words are, and not what they mean. Names of people are no content.
#[test]
fn a_paraphrase_shares_no_word_of_more_than_three_letters_with_its_action() {
    for pair in [false, true].map(pairs).iter().flatten().filter(|pair| pair.kind == Kind::Paraphrase) {
        let people = pair.action.facets.recipients.join(" ");
        let request = pair.request.to_lowercase();
        let words = request.split(|c: char| !c.is_alphanumeric());
        let content: Vec<_> = words.filter(|word| word.len() > 3 && !people.contains(word)).collect();
        let said = verbalize(&pair.action.action());
        assert!(!said.split([' ', ':']).any(|word| content.contains(&word)), "{}: {said}", pair.request);
    }
}

/// The running averages of 2,000 sessions of 20 such pairs drawn at random, from the third step on. Harsh: no action
/// profits from what an earlier one named.
pub(crate) fn averages_of_sessions(held_back: bool, kinds: &[Kind], profile: &Profile) -> Vec<Degree> {
    let pairs = pairs(held_back);
    let scores: Vec<Degree> = pairs
        .iter()
        .filter(|pair| kinds.contains(&pair.kind))
        .map(|pair| {
            let request = Request::of(&pair.request, &Lexical);
            measure(&request, &pair.action.action(), &Prior::default(), profile).score
        })
        .collect();
    // Knuth's MMIX generator: the same draws on every machine.
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        scores[(state >> 33) as usize % scores.len()]
    };
    let mut averages = Vec::new();
    for _ in 0..2_000 {
        let mut trend = Trend::default();
        for step in 1..=20 {
            trend = trend.fold(draw(), profile.alpha);
            if step >= 3 {
                averages.push(trend.ema);
            }
        }
    }
    averages
}

/// What is promised to receipts: four decimals that every machine computes alike. These were computed on x86-64.
#[test]
fn the_numbers_of_a_known_pair_are_known() {
    let pair = &pairs(false)[0];
    let request = Request::of(&pair.request, &Lexical);
    let drift = measure(&request, &pair.action.action(), &Prior::default(), &Profile::default());
    let numbers = [drift.distance, drift.gap, drift.scope, drift.score].map(|degree| degree.to_string());
    assert_eq!(["0.2150", "0.0000", "0.0000", "0.0860"], numbers.each_ref().map(String::as_str));
}
