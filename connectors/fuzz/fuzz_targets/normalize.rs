//! Arbitrary bytes as the body of a verified request, for every connector: reading them never panics, and what was
//! said is always answered with a success in JSON.
//!
//! The first byte of the input picks the connector; what follows up to a NUL is the path behind the instance, the rest
//! the body.

#![no_main]

use countersign_connectors_fuzz::CONNECTORS;
use countersign_sdk::schemas::{Action, Event, Expressed, Expression, Timestamp, Verdict};
use countersign_sdk::{Caller, Frame, Inbound, Said};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

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
    let parts = &CONNECTORS[usize::from(pick) % CONNECTORS.len()].parts;
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
        let mut said: Vec<Said<'_>> = events.iter().filter_map(|event| about(event, expressed)).collect();
        if said.is_empty() {
            said.push(saying(None, expressed));
        }
        let reply = parts.gate.answer(&frame, &said);
        assert!((200..300).contains(&reply.status));
        assert!(serde_json::from_slice::<Value>(&reply.body).is_ok());
    }
});

fn about(event: &Event, expressed: Expressed) -> Option<Said<'_>> {
    match event {
        Event::Action(action) => Some(saying(Some(action), expressed)),
        _ => None,
    }
}

fn saying(action: Option<&Action>, expressed: Expressed) -> Said<'_> {
    Said {
        modified: action.map(|action| action.parameters.clone()),
        action,
        expression: Expression { degraded: None, expressed, reason: String::new() },
        receipt_id: None,
        ticket: None,
        verdict: Verdict::Deny,
    }
}
