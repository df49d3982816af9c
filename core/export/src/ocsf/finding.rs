//! Detection Finding (2004): the receipts that somebody should look at.

use countersign_schemas::{Predicate, ReceiptKind, Severity, Verdict};
use serde_json::{Value, json};

use super::values::{self, API_ACTIVITY, DETECTION_FINDING, Named};
use super::{base, fields, object, parts};
use crate::Projection;

const CREATE: Named = Named { id: 1, name: "Create" };
/// The channel and the method of an answer that nobody gave.
const TIMEOUT: &str = "timeout";

/// What to look at, when there is something.
pub(super) fn title(predicate: &Predicate) -> Option<&'static str> {
    if predicate.kind == ReceiptKind::Gap {
        return Some("Requests were denied in bulk");
    }
    let decision = predicate.decision.as_ref().filter(|decision| decision.verdict == Verdict::Deny)?;
    if timed_out(predicate) {
        Some("An action was denied because nobody answered in time")
    } else if decision.severity >= Severity::High {
        Some("An agent tried an action that a grave policy forbids")
    } else {
        None
    }
}

fn timed_out(predicate: &Predicate) -> bool {
    let channel = predicate.approval.as_ref().and_then(|approval| approval.channel.as_deref());
    let method = predicate.deferral.as_ref().and_then(|deferral| deferral.method.as_deref());
    channel == Some(TIMEOUT) || method == Some(TIMEOUT)
}

pub(super) fn event(of: &Projection, title: &str) -> Value {
    let predicate = of.predicate;
    let uid = format!("{}.finding", predicate.receipt_id);
    let (action, disposition) = values::control(predicate);
    let effect = predicate.action.as_ref().map(|action| action.effect);
    let analytic = of.matched().first().map(|policy| {
        object(json!({ "type_id": 1, "type": "Rule", "uid": policy.id, "name": policy.id, "version": policy.version }))
    });

    let severity = values::severity(predicate);
    let mut event = base(of, &DETECTION_FINDING, CREATE, CREATE.name, severity);
    event.extend(fields(json!({
        "metadata": parts::metadata(of, &uid, &["security_control"]),
        "action_id": action.id,
        "action": action.name,
        "disposition_id": disposition.id,
        "disposition": disposition.name,
        "is_alert": true,
        "status_id": 1,
        "status": "New",
        "finding_info": object(json!({
            "uid": uid,
            "title": title,
            "desc": of.reason(),
            "created_time": predicate.decided_at.0,
            "analytic": analytic,
            "related_events": [{
                "uid": predicate.receipt_id,
                "type_uid": API_ACTIVITY.uid * 100 + values::activity(effect).id,
            }],
        })),
        "evidences": [object(json!({
            "actor": parts::actor(of),
            "api": parts::api(of),
            "src_endpoint": parts::src_endpoint(predicate),
        }))],
        "resources": parts::resources(predicate),
        "policy": parts::policy(predicate),
        "authorizations": parts::authorizations(predicate),
        "count": predicate.gap.as_ref().map(|gap| gap.count),
        "start_time": predicate.gap.as_ref().map(|gap| gap.from.0),
        "end_time": predicate.gap.as_ref().map(|gap| gap.to.0),
    })));
    Value::Object(event)
}
