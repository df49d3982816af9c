//! Folds events into a session's [`Context`]. Everything in it is bounded, whatever the session does.

use countersign_schemas::{
    Action, Context, Decision, Degree, Effect, Intent, Outcome, OutcomeStatus, PriorAction, PriorOutcome,
    SessionBoundary, SessionId, Timestamp, Verdict,
};
use sha2::{Digest, Sha256};

use crate::rule::slot;

/// The window of prior actions; older ones are in the counts.
pub const RECENT_MAX: usize = 16;
/// Labels a session can carry.
pub const LABELS_MAX: usize = 32;
/// Longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;
/// How much of the user's request policies and approvers see, in bytes.
pub const REQUEST_BYTES_MAX: usize = 2 << 10;
/// Longest tool name in the window, in bytes.
pub const TOOL_BYTES_MAX: usize = 256;
/// Decisions from which a session is long enough to have habits.
const PAIRS_FROM: u64 = 8;
const MINUTE_MS: u128 = 60_000;
/// The highest label: what a read has that nothing classifies (AARM R2), and what is noted when there is no room
/// for a label.
pub const RESTRICTED: &str = "RESTRICTED";

/// Notes a decided action. `decision` is the final verdict on it: for an action that waited, the resolution.
pub fn fold_action(context: &mut Context, action: &Action, decision: &Decision, now: Timestamp) {
    let verdict = decision.verdict;
    context.started_at.get_or_insert(now);
    context.action_count = context.action_count.saturating_add(1);
    context.chain = context.chain.saturating_add(1);
    count_minute(context, now);
    if verdict == Verdict::Deny {
        context.denied_count = context.denied_count.saturating_add(1);
    }
    if matches!(verdict, Verdict::Allow | Verdict::Modify) {
        let count = context.effects.entry(action.effect.as_str().to_owned()).or_default();
        *count = count.saturating_add(1);
        action.facets.labels.iter().for_each(|label| add_label(context, label));
        if action.effect == Effect::Read && action.facets.labels.is_empty() {
            add_label(context, RESTRICTED);
        }
    }
    if let Some(before) = context.recent.last() {
        let (word, bit) = pair(before.effect, action.effect);
        context.pairs[word] |= bit;
    }
    let excess = (context.recent.len() + 1).saturating_sub(RECENT_MAX);
    context.recent.drain(..excess);
    let tool = cut(&action.tool.canonical(), TOOL_BYTES_MAX);
    context.recent.push(PriorAction {
        action_id: action.action_id.clone(),
        at: now,
        effect: action.effect,
        outcome: None,
        receipt_id: None,
        tool,
        verdict,
    });
}

/// What is dangerous about data: in an outcome, or in all that a session has touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The score of hidden instructions.
    pub injection: Degree,
    /// Labels of the data.
    pub labels: Vec<String>,
    /// Whether it came from outside.
    pub untrusted: bool,
}

/// Notes how an action ended and what was found in its output.
pub fn fold_outcome(context: &mut Context, outcome: &Outcome, found: &Found) {
    context.started_at.get_or_insert(outcome.timestamp);
    if outcome.status == OutcomeStatus::Failed {
        context.failed_count = context.failed_count.saturating_add(1);
    }
    context.injection = context.injection.max(found.injection);
    context.untrusted |= found.untrusted;
    found.labels.iter().for_each(|label| add_label(context, label));
    let prior = context.recent.iter_mut().rev().find(|prior| prior.action_id == outcome.action_id);
    if let Some(prior) = prior {
        prior.outcome = Some(PriorOutcome {
            duration_ms: outcome.duration_ms,
            labels: found.labels.iter().take(LABELS_MAX).map(|label| cut(label, LABEL_BYTES_MAX)).collect(),
            output_sha256: outcome.output_sha256.clone(),
            status: outcome.status,
        });
    }
}

/// Takes over what the session that handed its work to this one has touched: labels and distrust do not end where
/// the work is handed on.
pub fn inherit(context: &mut Context, parent: &SessionId, found: &Found) {
    context.parent = Some(parent.clone());
    context.untrusted |= found.untrusted;
    context.injection = context.injection.max(found.injection);
    found.labels.iter().for_each(|label| add_label(context, label));
}

/// Whether `effect` has never followed the session's last one, in a session that is long enough to tell.
#[must_use]
pub fn is_unusual(context: &Context, effect: Effect) -> bool {
    let Some(before) = context.recent.last() else { return false };
    let (word, bit) = pair(before.effect, effect);
    context.action_count >= PAIRS_FROM && context.pairs[word] & bit == 0
}

/// Decisions in the last minute, as far as two counters can tell: this minute's, and of the one before the share that
/// is less than a minute ago.
#[must_use]
pub fn last_minute(context: &Context, now: Timestamp) -> u64 {
    let Some(begun) = context.minute_at else { return 0 };
    let passed = begun.until(now).as_millis();
    let [before, current] = context.minutes.map(u128::from);
    let sum = match passed {
        passed if passed < MINUTE_MS => current + before * (MINUTE_MS - passed) / MINUTE_MS,
        passed if passed < 2 * MINUTE_MS => current * (2 * MINUTE_MS - passed) / MINUTE_MS,
        _ => 0,
    };
    u64::try_from(sum).unwrap_or(u64::MAX)
}

fn count_minute(context: &mut Context, now: Timestamp) {
    let passed = context.minute_at.map_or(u128::MAX, |begun| begun.until(now).as_millis());
    if passed >= MINUTE_MS {
        let before = if passed < 2 * MINUTE_MS { context.minutes[1] } else { 0 };
        context.minutes = [before, 0];
        context.minute_at = Some(now);
    }
    context.minutes[1] = context.minutes[1].saturating_add(1);
}

/// Where the pair has its bit.
fn pair(first: Effect, second: Effect) -> (usize, u64) {
    let at = usize::from(slot(first)) * Effect::ALL.len() + usize::from(slot(second));
    (at / 64, 1 << (at % 64))
}

/// Notes what the user asked for. Text that a machine put in the user's place is no request.
pub fn fold_intent(context: &mut Context, intent: &Intent) {
    context.started_at.get_or_insert(intent.timestamp);
    if !intent.by_human {
        return;
    }
    context.requests = context.requests.saturating_add(1);
    context.chain = 0;
    if context.request.is_none() {
        context.request = Some(cut(&intent.text, REQUEST_BYTES_MAX));
        context.request_sha256 = Some(hex::encode(Sha256::digest(&intent.text)));
    } else {
        let later = format!("{}\n{}", context.later_requests, cut(&intent.text, REQUEST_BYTES_MAX));
        let from = later.ceil_char_boundary(later.len().saturating_sub(REQUEST_BYTES_MAX));
        context.later_requests = later.get(from..).unwrap_or_default().to_owned();
    }
}

/// Notes that the session began, or went on after it had ended.
pub fn fold_session_start(context: &mut Context, boundary: &SessionBoundary) {
    context.started_at.get_or_insert(boundary.timestamp);
    context.ended_at = None;
}

/// Notes that the session ended.
pub fn fold_session_end(context: &mut Context, boundary: &SessionBoundary) {
    context.started_at.get_or_insert(boundary.timestamp);
    context.ended_at = Some(boundary.timestamp);
}

/// Keeps the labels sorted. One that has no room becomes [`RESTRICTED`], for which there always is some: dropping
/// it would let through what it should stop.
fn add_label(context: &mut Context, label: &str) {
    let fits =
        label == RESTRICTED || (label.len() <= LABEL_BYTES_MAX && context.labels.len() < LABELS_MAX - 1);
    let known = context.labels.binary_search_by(|known| known.as_str().cmp(label));
    match known {
        Ok(_) => {}
        Err(place) if fits => context.labels.insert(place, label.to_owned()),
        Err(_) => add_label(context, RESTRICTED),
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::CaseAction;

    fn action(effect: &str, labels: &[String]) -> Action {
        let action = serde_json::json!({
            "effect": effect, "tool": format!("mcp/-/{}", "é".repeat(300)), "facets": {"labels": labels},
        });
        serde_json::from_value::<CaseAction>(action).unwrap().to_action(Timestamp(0))
    }

    fn allowed() -> Decision {
        Decision { verdict: Verdict::Allow, ..Decision::deny("") }
    }

    #[test]
    fn whatever_happens_the_context_stays_small() {
        let mut context = Context::default();
        for number in 0..200 {
            let labels = [format!("{}{number}", "ü".repeat(number % 50)), format!("L{number}")];
            fold_action(&mut context, &action("send", &labels), &allowed(), Timestamp(number as i64));
        }
        assert_eq!((200, RECENT_MAX), (context.action_count, context.recent.len()));
        assert_eq!(Some(Timestamp(0)), context.started_at);
        assert_eq!(Timestamp(184), context.recent[0].at);
        assert!(context.recent.iter().all(|prior| prior.tool.len() <= TOOL_BYTES_MAX));
        assert!(context.labels.len() <= LABELS_MAX && context.labels.is_sorted());
        assert!(context.labels.iter().all(|label| label.len() <= LABEL_BYTES_MAX));
        assert!(context.labels.iter().any(|label| label == RESTRICTED));
    }

    #[test]
    fn only_what_was_allowed_leaves_labels_and_a_read_without_one_is_restricted() {
        let mut context = Context::default();
        let pii = ["PII".to_owned()];
        fold_action(&mut context, &action("read", &pii), &Decision::deny(""), Timestamp(0));
        assert_eq!((1, 1, 0), (context.action_count, context.denied_count, context.labels.len()));
        fold_action(&mut context, &action("read", &pii), &allowed(), Timestamp(0));
        fold_action(&mut context, &action("list", &[]), &allowed(), Timestamp(0));
        assert_eq!(["PII"], context.labels.as_slice());
        fold_action(&mut context, &action("read", &[]), &allowed(), Timestamp(0));
        assert_eq!(["PII", RESTRICTED], context.labels.as_slice());
        assert_eq!(
            [("list".to_owned(), 1), ("read".to_owned(), 2)],
            *context.effects.into_iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_first_request_of_a_person_is_kept_and_cut_between_characters() {
        let intent = |by_human: bool, text: &str| -> Intent {
            let case = action("read", &[]);
            Intent {
                by_human,
                identity: case.identity,
                session: case.session,
                source: case.source,
                text: text.to_owned(),
                timestamp: Timestamp(7),
            }
        };
        let mut context = Context::default();
        fold_intent(&mut context, &intent(false, "<task-notification>"));
        assert_eq!((0, None), (context.requests, context.request.clone()));
        let text = format!("a{}", "é".repeat(REQUEST_BYTES_MAX));
        fold_intent(&mut context, &intent(true, &text));
        fold_intent(&mut context, &intent(true, "another"));
        assert_eq!(2, context.requests);
        assert_eq!(Some(&text[..REQUEST_BYTES_MAX - 1]), context.request.as_deref());
        assert_eq!(Some(hex::encode(Sha256::digest(&text))), context.request_sha256);
    }
}
