//! Arbitrary bytes as the body of a verified request, for every connector: reading them never panics, and what was
//! said is always answered with a success in JSON.
//!
//! The first byte of the input picks the connector; what follows up to a NUL is the path behind the instance, the rest
//! the body.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use countersign_connectors::registry;
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::{Event, Expressed, Expression, Timestamp, Verdict};
use countersign_sdk::{Caller, ConnectorSpec, Env, Frame, Inbound, Parts, Said};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static CONNECTORS: LazyLock<Vec<Parts>> = LazyLock::new(|| registry().iter().map(connect).collect());

const EXPRESSED: [Expressed; 6] = [
    Expressed::Allow,
    Expressed::Deny,
    Expressed::Modify,
    Expressed::StepUp,
    Expressed::Defer,
    Expressed::Held,
];

fuzz_target!(|input: &[u8]| {
    let Some((&pick, input)) = input.split_first() else { return };
    let parts = &CONNECTORS[usize::from(pick) % CONNECTORS.len()];
    let end = input.iter().position(|byte| *byte == 0);
    let (path, body) = end.map_or((&[][..], input), |end| (&input[..end], &input[end + 1..]));
    let path = String::from_utf8_lossy(path).into_owned();
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
    let request = Inbound::new(path, String::new(), headers, body.to_vec().into(), Timestamp(0));
    let (frame, events) = match parts.gate.normalize(&request.assume_verified(Caller::default())) {
        Ok(normalized) => (normalized.frame, normalized.events),
        Err(error) => (error.frame.unwrap_or_else(Frame::unreadable), Vec::new()),
    };
    for expressed in EXPRESSED {
        let mut said: Vec<Said> = events.iter().filter_map(|event| about(event, expressed)).collect();
        if said.is_empty() {
            said.push(saying(None, expressed));
        }
        let reply = parts.gate.answer(&frame, &said);
        assert!((200..300).contains(&reply.status));
        assert!(serde_json::from_slice::<Value>(&reply.body).is_ok());
    }
});

fn about(event: &Event, expressed: Expressed) -> Option<Said> {
    match event {
        Event::Action(action) => Some(saying(Some(action.as_ref().clone()), expressed)),
        _ => None,
    }
}

fn saying(action: Option<countersign_sdk::schemas::Action>, expressed: Expressed) -> Said {
    Said {
        modified: action.as_ref().map(|action| action.parameters.clone()),
        action,
        expression: Expression { degraded: None, expressed, reason: String::new() },
        receipt_id: None,
        ticket: None,
        verdict: Verdict::Deny,
    }
}

/// Builds a connector as its fixtures configure it.
fn connect(spec: &ConnectorSpec) -> Parts {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(spec.name);
    let table = |name: &str| -> toml::Table {
        std::fs::read_to_string(folder.join(name)).unwrap_or_default().parse().unwrap()
    };
    let secrets = table("secrets.toml");
    let lookup = |name: &str| match secrets.get(name) {
        Some(secret) => secret.as_str().map(str::to_owned),
        None => std::fs::read_to_string(folder.join(name)).ok(),
    };
    let settings = serde_json::to_value(table("settings.toml")).unwrap();
    let env = Env {
        egress: &Egress::new(hosts(&settings)).unwrap(),
        instance: spec.name,
        keys: &KeySets::default(),
        lookup: &lookup,
        public_url: "https://countersign.example.com",
    };
    (spec.connect)(settings, &env).unwrap()
}

fn hosts(settings: &Value) -> Vec<String> {
    match settings {
        Value::String(text) => text.split('/').nth(2).map(str::to_owned).into_iter().collect(),
        Value::Array(list) => list.iter().flat_map(hosts).collect(),
        Value::Object(map) => map.values().flat_map(hosts).collect(),
        _ => Vec::new(),
    }
}
