//! Objects that the classes share.

use countersign_schemas::{IdentityView, PolicyRef, PolicyView, Predicate};
use serde_json::{Map, Value, json};

use super::{OCSF_VERSION, object};
use crate::Projection;

const PRODUCT: &str = "Countersign";

/// `metadata`. `uid` names the event, `original_event_uid` the receipt it was made from.
pub(super) fn metadata(of: &Projection, uid: &str, profiles: &[&str]) -> Option<Value> {
    let receipt = of.predicate.receipt_id.as_str();
    object(json!({
        "version": OCSF_VERSION,
        "profiles": (!profiles.is_empty()).then_some(profiles),
        "product": { "name": PRODUCT, "vendor_name": PRODUCT, "version": env!("CARGO_PKG_VERSION") },
        "uid": uid,
        "original_event_uid": receipt,
        "event_code": of.predicate.kind.as_str(),
        "correlation_uid": of.action_id(),
        "log_name": of.origin,
        "log_provider": PRODUCT,
        "sequence": of.index,
        "tenant_uid": of.predicate.identity.as_ref().and_then(|identity| identity.tenant.as_deref()),
    }))
}

/// `actor`: the person where one is known, the agent as the application, the session.
pub(super) fn actor(of: &Projection) -> Option<Value> {
    let identity = of.predicate.identity.as_ref();
    let vendor = &of.predicate.vendor;
    let kind = identity.and_then(|identity| identity.service.as_ref().or(identity.agent_kind.as_ref()));
    object(json!({
        "user": identity.and_then(|identity| user(of, identity)).or_else(|| operator(of.predicate)),
        "app_name": kind.unwrap_or(&vendor.name),
        "app_uid": identity.map(|identity| &identity.agent),
        "session": object(json!({ "uid": of.predicate.session.id, "uid_alt": vendor.session_id })),
    }))
}

fn user(of: &Projection, identity: &IdentityView) -> Option<Value> {
    let uid = identity.human.as_ref()?;
    let email = of.disclosed.and_then(|disclosed| disclosed.human_email.as_deref());
    object(json!({
        "uid": uid,
        "type_id": 1,
        "type": "User",
        "email_addr": email.filter(|email| is_email(email)),
        "full_name": of.disclosed.and_then(|disclosed| disclosed.human_name.as_deref()),
        "org": identity.tenant.as_ref().map(|tenant| json!({ "uid": tenant })),
    }))
}

/// Who gave or lifted a halt.
fn operator(predicate: &Predicate) -> Option<Value> {
    predicate.halt.as_ref().map(|halt| json!({ "name": halt.by, "type_id": 2, "type": "Admin" }))
}

/// Whether the schema's `email_t` takes it; it knows no internationalised addresses.
fn is_email(text: &str) -> bool {
    let local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let parts = text.split_once('@').and_then(|(name, domain)| Some((name, domain, domain.split_once('.')?)));
    parts.is_some_and(|(name, domain, (first, rest))| {
        !name.is_empty()
            && name.chars().all(local)
            && domain.chars().all(host)
            && !first.is_empty()
            && !rest.is_empty()
    })
}

/// `src_endpoint`: where the hook came from. The device, when the client names it.
pub(super) fn src_endpoint(predicate: &Predicate) -> Option<Value> {
    object(json!({
        "svc_name": predicate.vendor.name,
        "name": predicate.vendor.connector,
        "uid": predicate.identity.as_ref().and_then(|identity| identity.device.as_deref()),
    }))
}

/// `api`: the tool, or, where there is none, the vendor's event.
pub(super) fn api(of: &Projection) -> Option<Value> {
    let Predicate { action, outcome, vendor, .. } = of.predicate;
    let tool = action.as_ref().map(|action| &action.tool);
    let service = tool.map_or(&vendor.name, |tool| tool.server.as_ref().unwrap_or(&tool.namespace));
    let id = of.call_id().or(vendor.delivery_id.as_deref()).unwrap_or(of.predicate.receipt_id.as_str());
    let error = of.disclosed.and_then(|disclosed| disclosed.error.as_deref());
    object(json!({
        "operation": tool.map_or(&vendor.event, |tool| &tool.name),
        "service": { "name": service },
        "group": tool.map(|tool| json!({ "name": tool.namespace })),
        "request": object(json!({
            "uid": id,
            "data": of.disclosed.and_then(|disclosed| disclosed.parameters.as_ref()),
        })),
        "response": outcome.as_ref().and_then(|outcome| object(json!({
            "message": outcome.status,
            "error_message": error,
        }))),
    }))
}

/// `resources`: the tool, by its canonical name, which is also its name in policies.
pub(super) fn resources(predicate: &Predicate) -> Option<Value> {
    let tool = &predicate.action.as_ref()?.tool;
    Some(json!([{
        "uid": tool.canonical(),
        "name": tool.name,
        "namespace": tool.namespace,
        "type": "Tool",
        "role_id": 1,
        "role": "Target",
    }]))
}

/// `policy`: the first policy that decided, or the bundle when it decided by its default.
pub(super) fn policy(predicate: &Predicate) -> Option<Value> {
    let view = predicate.policy.as_ref()?;
    match view.matched.first() {
        Some(matched) => rule(view, matched),
        None => Some(bundle(view)),
    }
}

/// `authorizations`: every policy that decided, since `policy` has room for one.
pub(super) fn authorizations(predicate: &Predicate) -> Option<Value> {
    let view = predicate.policy.as_ref().filter(|view| !view.matched.is_empty())?;
    let decision = predicate.decision.as_ref()?.verdict;
    let entries =
        view.matched.iter().map(|matched| json!({ "decision": decision, "policy": rule(view, matched) }));
    Some(entries.collect())
}

fn rule(view: &PolicyView, matched: &PolicyRef) -> Option<Value> {
    object(json!({
        "uid": matched.id,
        "name": matched.id,
        "version": matched.version,
        "type": "Cedar policy",
        "group": bundle(view),
        "data": { "sha256": matched.sha256 },
    }))
}

fn bundle(view: &PolicyView) -> Value {
    json!({ "uid": view.bundle_sha256, "type": "Cedar bundle" })
}

/// `unmapped`: the receipt as signed, its place in the log, and what was disclosed. Parameters are left out of the
/// latter, because `api.request.data` has them where there is one.
pub(super) fn unmapped(of: &Projection, parameters_are_mapped: bool) -> Value {
    let mut receipt = serde_json::to_value(of.predicate).unwrap_or_default();
    // In mode `inline` the personal part stands in the leaf; here it is wanted only when it is disclosed.
    if let Some(disclosure) = receipt.get_mut("disclosure").and_then(Value::as_object_mut) {
        disclosure.shift_remove("content");
    }
    let disclosed = of.disclosed.and_then(|disclosed| serde_json::to_value(disclosed).ok());
    let disclosed = disclosed.map(|mut disclosed| {
        if let Some(map) = disclosed.as_object_mut().filter(|_| parameters_are_mapped) {
            map.shift_remove("parameters");
        }
        disclosed
    });
    let log = json!({ "origin": of.origin, "index": of.index, "leafHash": of.leaf_hash() });
    let mut aarm = Map::from_iter([("receipt".to_owned(), receipt), ("log".to_owned(), log)]);
    aarm.extend(disclosed.map(|disclosed| ("disclosed".to_owned(), disclosed)));
    json!({ "aarm": aarm })
}
