//! Lifecycle hooks of a harness.

use countersign_sdk::schemas::{Agent, Event, Expressed};
use countersign_sdk::{
    Connector as _, Frame, Inbound, NormalizeError, Normalized, Reply, Said, Verified, naming, parse,
};
use serde_json::{Map, Value, json};

use super::{AgentCore, delivery_id};
use crate::support::{Call, Delivery, Ended, chat, text};

pub(super) const BEFORE_TOOL: &str = "before_tool_call";
pub(super) const AFTER_TOOL: &str = "after_tool_call";
pub(super) const BEFORE_INVOCATION: &str = "before_invocation";
pub(super) const AFTER_INVOCATION: &str = "after_invocation";

/// What AWS documents for a reason.
const REASON_CHARS_MAX: usize = 1_024;
/// Where an event may keep its particulars.
const NESTS: [&str; 8] =
    ["context", "hookContext", "toolCall", "toolUse", "tool", "detail", "payload", "data"];

pub(super) fn normalize(instance: &str, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
    let body = parse::object(&request.body)?;
    let kind = find(&body, &["type", "eventType", "event", "hookEventType", "hookType", "hookEventName"]);
    let kind = kind.and_then(Value::as_str).unwrap_or_default();
    let known = [AFTER_TOOL, BEFORE_INVOCATION, AFTER_INVOCATION].into_iter().find(|known| *known == kind);
    // A kind that we do not know may be a tool that waits.
    let frame = Frame::named(known.unwrap_or(BEFORE_TOOL));
    let refuse = |reason: String| NormalizeError::in_frame(frame.clone(), reason);
    let id = delivery_id(request).map_err(refuse)?;
    let delivery = delivery(instance, request, &body, &frame.name, &id);
    let idempotency = format!("{id} {}", parse::sha256_hex(&request.body));
    let events = match frame.name.as_str() {
        BEFORE_TOOL => vec![before_tool(&delivery, body).map_err(|reason| refuse(reason.to_owned()))?],
        AFTER_TOOL => vec![after_tool(&delivery, &body).map_err(|reason| refuse(reason.to_owned()))?],
        BEFORE_INVOCATION => asked(&body)
            .map(|asked| delivery.intent(&asked))
            .or_else(|| Some(delivery.observation(Map::new())))
            .into_iter()
            .collect(),
        _ => vec![delivery.observation(body)],
    };
    Ok(Normalized { events, frame, idempotency })
}

pub(super) fn answer(said: &[Said<'_>]) -> Reply {
    Reply::json(&decision(said))
}

pub(super) fn decision(said: &[Said<'_>]) -> Value {
    let refusal = said.iter().find(|said| said.expression.expressed != Expressed::Allow);
    match refusal {
        None if said.is_empty() => json!({"decision": "deny", "reason": "nothing was decided"}),
        None => json!({"decision": "allow"}),
        Some(said) => json!({
            "decision": "deny",
            "reason": parse::cut(&said.expression.reason, REASON_CHARS_MAX),
        }),
    }
}

/// The first of these keys, at the top or one level down.
fn find<'v>(body: &'v Map<String, Value>, keys: &[&str]) -> Option<&'v Value> {
    let given = |map: &'v Map<String, Value>| {
        keys.iter().find_map(|key| map.get(*key)).filter(|value| !value.is_null())
    };
    given(body).or_else(|| {
        NESTS.iter().filter_map(|nest| body.get(*nest).and_then(Value::as_object)).find_map(given)
    })
}

fn find_text(body: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    find(body, keys).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn delivery(
    instance: &str,
    request: &Inbound<Verified>,
    body: &Map<String, Value>,
    event: &str,
    id: &str,
) -> Delivery {
    let harness = find_text(body, &["harnessArn", "harnessId", "harness_arn", "harnessName", "agentId"]);
    let mut identity = Delivery::identity(request.caller());
    identity.agent =
        Agent { id: harness.unwrap_or_else(|| AgentCore::NAME.to_owned()), kind: None, model: None };
    identity.human = find_text(body, &["actorId", "actor_id", "userId"]).as_deref().map(parse::human);
    let session = find_text(body, &["runtimeSessionId", "runtime_session_id", "sessionId", "session_id"]);
    let session = session.unwrap_or_else(|| identity.agent.id.clone());
    let delivery = Delivery::new((AgentCore::NAME, instance, event), request, identity, session);
    Delivery { id: Some(id.to_owned()), ..delivery }
}

const CALL_ID: [&str; 4] = ["toolUseId", "tool_use_id", "toolCallId", "tool_call_id"];

fn before_tool(delivery: &Delivery, mut body: Map<String, Value>) -> Result<Event, &'static str> {
    let name = find_text(&body, &["toolName", "tool_name"])
        .or_else(|| {
            NESTS.iter().find_map(|nest| text(body.get(*nest)?.as_object()?, "name").map(str::to_owned))
        })
        .ok_or("the tool has no name")?;
    let written = find(&body, &["toolInput", "tool_input", "input", "arguments"]);
    let parameters = chat::arguments(written)?;
    let call = find_text(&body, &CALL_ID).ok_or("the tool call has no id")?;
    ["toolInput", "tool_input", "input", "arguments"].into_iter().for_each(|placed| {
        body.shift_remove(placed);
    });
    Ok(delivery
        .action(Call { rest: body, ..Call::new(&call, naming::tool(AgentCore::NAME, &name), parameters) }))
}

fn after_tool(delivery: &Delivery, body: &Map<String, Value>) -> Result<Event, &'static str> {
    let call = find_text(body, &CALL_ID).ok_or("the tool call has no id")?;
    let error = find(body, &["error", "toolError", "errorMessage"]);
    let output = find(body, &["toolResult", "tool_result", "result", "output"]);
    Ok(delivery.outcome(Ended {
        call,
        failed: error.is_some(),
        output: error.or(output).cloned().unwrap_or(Value::Null),
        tool: find_text(body, &["toolName", "tool_name"]),
    }))
}

/// The last thing a user says in `messages`, whose content is a list of `{"text": …}` as Bedrock writes it.
fn asked(body: &Map<String, Value>) -> Option<String> {
    chat::news(find(body, &["messages"])?.as_array()?).1
}
