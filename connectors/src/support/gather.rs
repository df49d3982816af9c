//! Decisions that a vendor takes only all at once, while each of ours is settled in its own time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Rounds that are remembered; those that were sent are forgotten first.
const ROUNDS_MAX: usize = 4_096;

/// Rounds of decisions. Kept in memory only: the callbacks that fill it wait in the durable outbox and come again.
#[derive(Default)]
pub(crate) struct Gather(Mutex<BTreeMap<String, Round>>);

#[derive(Default)]
struct Round {
    answers: BTreeMap<String, Value>,
    state: State,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    Sending,
    Sent,
}

/// What is to be done after a decision was noted.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// This many are still missing, or somebody else is sending.
    Wait(usize),
    /// This was the last one: send them, in the order of `wanted`, then say how it went.
    Send(Vec<Value>),
    /// They were sent.
    Sent,
}

impl Gather {
    /// Notes the decision on `id`, one of those that the round wants.
    pub(crate) fn note(&self, round: &str, wanted: &[String], id: &str, answer: Value) -> Step {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rounds.len() >= ROUNDS_MAX && !rounds.contains_key(round) {
            rounds.retain(|_, round| round.state != State::Sent);
            if rounds.len() >= ROUNDS_MAX {
                return Step::Wait(wanted.len());
            }
        }
        let round = rounds.entry(round.to_owned()).or_default();
        round.answers.insert(id.to_owned(), answer);
        let answers: Vec<Value> = wanted.iter().filter_map(|id| round.answers.get(id).cloned()).collect();
        match round.state {
            State::Sent => Step::Sent,
            State::Open if answers.len() == wanted.len() => {
                round.state = State::Sending;
                Step::Send(answers)
            }
            State::Open | State::Sending => Step::Wait(wanted.len() - answers.len()),
        }
    }

    /// Says how sending went: done for good, or to be tried again by whoever comes next.
    pub(crate) fn settle(&self, round: &str, sent: bool) {
        let mut rounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(round) = rounds.get_mut(round) {
            round.state = if sent { State::Sent } else { State::Open };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_round_is_sent_once_by_whoever_completes_it() {
        let gather = Gather::default();
        let wanted = ["a".to_owned(), "b".to_owned()];
        assert_eq!(Step::Wait(1), gather.note("r", &wanted, "b", json!(2)));
        assert_eq!(Step::Wait(1), gather.note("r", &wanted, "b", json!(2)));
        assert_eq!(Step::Send(vec![json!(1), json!(2)]), gather.note("r", &wanted, "a", json!(1)));
        assert_eq!(Step::Wait(0), gather.note("r", &wanted, "b", json!(2)));
        gather.settle("r", false);
        assert_eq!(Step::Send(vec![json!(1), json!(2)]), gather.note("r", &wanted, "b", json!(2)));
        gather.settle("r", true);
        assert_eq!(Step::Sent, gather.note("r", &wanted, "b", json!(2)));
    }
}
