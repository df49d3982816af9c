//! OCSF: what a security platform reads without a parser of ours. Which receipt becomes which event, field by field,
//! is in `docs/reference/ocsf.md`.
//!
//! Every event carries the whole receipt under `unmapped.aarm`, so that nothing is lost by the mapping.
//!
//! Source: Open Cybersecurity Schema Framework, schema 1.8.0, classes API Activity (6003), Entity Management (3004)
//! and Detection Finding (2004).

mod activity;
mod entity;
mod finding;
mod parts;
mod values;

use countersign_schemas::ReceiptKind;
use serde_json::{Map, Value, json};

use crate::Projection;
use values::{Class, Named};

/// The schema version that the events are written in.
pub const OCSF_VERSION: &str = "1.8.0";

/// The event of a receipt, and the finding with it when the receipt is one that somebody should look at: a DENY of
/// severity high or critical, a question that nobody answered in time, requests denied in bulk.
///
/// `metadata.uid` is the receipt's id, with `.finding` behind it on the finding: a reader that drops what it has
/// seen drops nothing else.
#[must_use]
pub fn events(of: &Projection) -> Vec<Value> {
    let finding = finding::title(of.predicate).map(|title| finding::event(of, title));
    std::iter::once(event(of)).chain(finding).collect()
}

/// The event of a receipt, without the finding.
#[must_use]
pub fn event(of: &Projection) -> Value {
    match of.predicate.kind {
        ReceiptKind::Decision
        | ReceiptKind::Resolution
        | ReceiptKind::Outcome
        | ReceiptKind::Observation
        | ReceiptKind::Intent
        | ReceiptKind::SessionStart
        | ReceiptKind::SessionEnd
        | ReceiptKind::Gap => activity::event(of),
        ReceiptKind::PolicyChange
        | ReceiptKind::Halt
        | ReceiptKind::BreakGlass
        | ReceiptKind::KeyEpoch
        | ReceiptKind::Erasure => entity::event(of),
    }
}

/// The fields of the base event.
///
/// `activity_name` is the source's own word when the activity is [`values::OTHER`], as the schema wants it; the
/// caption in `type_name` stays `Other`.
fn base(
    of: &Projection,
    class: &Class,
    activity: Named,
    own_word: &str,
    severity: Named,
) -> Map<String, Value> {
    let other = activity == values::OTHER;
    fields(json!({
        "class_uid": class.uid,
        "class_name": class.name,
        "category_uid": class.category_uid,
        "category_name": class.category_name,
        "activity_id": activity.id,
        "activity_name": if other { own_word } else { activity.name },
        "type_uid": class.uid * 100 + activity.id,
        "type_name": format!("{}: {}", class.name, activity.name),
        "severity_id": severity.id,
        "severity": severity.name,
        "time": of.predicate.decided_at.0,
        "timezone_offset": 0,
        "message": of.reason().unwrap_or_else(|| values::message(of.predicate)),
    }))
}

/// The members of an object that are there: an absent one is left out, not null.
fn fields(value: Value) -> Map<String, Value> {
    let Value::Object(mut map) = value else { return Map::new() };
    map.retain(|_, value| !value.is_null());
    map
}

/// [`fields`] as a value; `None` when none is there.
fn object(value: Value) -> Option<Value> {
    let map = fields(value);
    (!map.is_empty()).then_some(Value::Object(map))
}
