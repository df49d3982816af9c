//! API Activity (6003): what agents did, asked for and were told.

use countersign_schemas::Predicate;
use serde_json::{Value, json};

use super::values::{self, API_ACTIVITY};
use super::{base, fields, finding, parts};
use crate::Projection;

/// The schema wants to know who runs a model; a receipt says only which one.
const AI_PROVIDER: &str = "Unknown";

pub(super) fn event(of: &Projection) -> Value {
    let predicate = of.predicate;
    let effect = predicate.action.as_ref().map(|action| action.effect);
    let word = effect.map_or(predicate.kind.as_str(), |effect| effect.as_str());
    let model = predicate.identity.as_ref().and_then(|identity| identity.model.as_deref());
    let profiles: &[_] =
        if model.is_some() { &["ai_operation", "security_control"] } else { &["security_control"] };
    let (action, disposition) = values::control(predicate);
    let decision = predicate.decision.as_ref();
    let risk = decision.map(|decision| values::risk_level(decision.severity));
    let status = values::status(predicate);

    let mut event = base(of, &API_ACTIVITY, values::activity(effect), word, values::severity(predicate));
    event.extend(fields(json!({
        "metadata": parts::metadata(of, predicate.receipt_id.as_str(), profiles),
        "action_id": action.id,
        "action": action.name,
        "disposition_id": disposition.id,
        "disposition": disposition.name,
        "is_alert": finding::title(predicate).is_some(),
        "risk_level_id": risk.map(|risk| risk.id),
        "risk_level": risk.map(|risk| risk.name),
        "status_id": status.map(|status| status.id),
        "status": status.map(|status| status.name),
        "status_code": decision.map(|decision| decision.expressed.as_str()),
        "status_detail": decision.and_then(|decision| decision.degraded.as_deref()),
        "actor": parts::actor(of),
        "api": parts::api(of),
        "src_endpoint": parts::src_endpoint(predicate),
        "resources": parts::resources(predicate),
        "policy": parts::policy(predicate),
        "authorizations": parts::authorizations(predicate),
        "ai_model": model.map(|model| json!({ "name": model, "ai_provider": AI_PROVIDER })),
    })));
    event.extend(span(predicate));
    event.insert("unmapped".to_owned(), parts::unmapped(of, true));
    Value::Object(event)
}

/// When it began and how long it took, in milliseconds; for requests denied in bulk, from the first to the last.
fn span(predicate: &Predicate) -> serde_json::Map<String, Value> {
    let Predicate { action, gap, outcome, .. } = predicate;
    let began = action.as_ref().map(|action| action.timestamp).or(gap.as_ref().map(|gap| gap.from));
    fields(json!({
        "start_time": began.map(|time| time.0),
        "end_time": gap.as_ref().map(|gap| gap.to.0),
        "duration": outcome.as_ref().and_then(|outcome| outcome.duration_ms),
        "count": gap.as_ref().map(|gap| gap.count),
    }))
}
