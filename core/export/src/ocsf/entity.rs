//! Entity Management (3004): what was done to Countersign itself and to those it governs.

use countersign_schemas::{HaltScope, HaltView, PolicyChangeView, Predicate, ReceiptKind};
use serde_json::{Value, json};

use super::values::{self, ENTITY_MANAGEMENT, FAILURE, Named, OTHER, SUCCESS};
use super::{base, fields, parts};
use crate::Projection;

const UPDATE: Named = Named { id: 3, name: "Update" };
const DELETE: Named = Named { id: 4, name: "Delete" };
const ACTIVATE: Named = Named { id: 10, name: "Activate" };
const SUSPEND: Named = Named { id: 12, name: "Suspend" };
const RESUME: Named = Named { id: 13, name: "Resume" };

pub(super) fn event(of: &Projection) -> Value {
    let predicate = of.predicate;
    let (activity, entity) = change(predicate);
    let refused = matches!(predicate.policy_change, Some(PolicyChangeView { applied: false, .. }));
    let status = if refused { FAILURE } else { SUCCESS };
    let severity = values::severity(predicate);

    let mut event = base(of, &ENTITY_MANAGEMENT, activity, predicate.kind.as_str(), severity);
    event.extend(fields(json!({
        "metadata": parts::metadata(of, predicate.receipt_id.as_str(), &[]),
        "status_id": status.id,
        "status": status.name,
        "actor": parts::actor(of),
        "entity": entity,
        "comment": of.disclosed.and_then(|disclosed| disclosed.comment.as_deref()).or(of.reason()),
        "src_endpoint": parts::src_endpoint(predicate),
        "unmapped": parts::unmapped(of, false),
    })));
    Value::Object(event)
}

/// What was done, and to what.
fn change(predicate: &Predicate) -> (Named, Value) {
    match (&predicate.policy_change, &predicate.halt, predicate.kind) {
        (Some(change), _, _) => (UPDATE, policy_set(change)),
        (_, Some(halt), _) => (if halt.active { SUSPEND } else { RESUME }, halted(halt)),
        (_, _, ReceiptKind::KeyEpoch) => {
            (ACTIVATE, other("Receipt key", &predicate.signer_epoch.to_string()))
        }
        (_, _, ReceiptKind::Erasure) => {
            let whose =
                predicate.parent.as_ref().map_or(predicate.session.id.as_str(), |parent| parent.as_str());
            (DELETE, other("Personal data", whose))
        }
        _ => (OTHER, other(predicate.kind.as_str(), predicate.receipt_id.as_str())),
    }
}

fn policy_set(change: &PolicyChangeView) -> Value {
    json!({
        "type_id": 5,
        "type": "Policy",
        "uid": change.bundle_sha256,
        "policy": {
            "uid": change.bundle_sha256,
            "type": "Cedar bundle",
            "data": { "policies": change.policies },
        },
    })
}

fn halted(halt: &HaltView) -> Value {
    match &halt.what {
        HaltScope::All => other("Deployment", "all"),
        HaltScope::Agent(name) => other("Agent", name),
        HaltScope::Connector(name) => other("Connector", name),
        HaltScope::Human(name) => {
            json!({ "type_id": 2, "type": "User", "uid": name, "user": { "uid": name } })
        }
    }
}

fn other(kind: &str, uid: &str) -> Value {
    json!({ "type_id": OTHER.id, "type": kind, "uid": uid })
}
