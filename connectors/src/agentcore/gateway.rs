//! Interceptors of a gateway, in front of and behind an MCP target.

use countersign_sdk::schemas::{Agent, Event, Expressed};
use countersign_sdk::{
    Connector as _, Frame, Inbound, NormalizeError, Normalized, Reply, Said, Verified, naming, parse,
};
use serde_json::{Map, Value, json};

use super::{AgentCore, delivery_id};
use crate::support::{Call, Delivery, Ended, chat, text};

pub(super) const REQUEST: &str = "REQUEST";
pub(super) const RESPONSE: &str = "RESPONSE";

/// JSON-RPC's range for errors of the server's own.
const DENIED: i64 = -32_000;

pub(super) fn normalize(instance: &str, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
    let mut event = parse::object(&request.body)
        .map_err(|error| NormalizeError::in_frame(Frame::named(REQUEST), error.reason))?;
    let mcp = event.get_mut("mcp").and_then(Value::as_object_mut).map(std::mem::take).unwrap_or_default();
    let came_back = mcp.get("gatewayResponse").is_some_and(|response| !response.is_null());
    let rpc = mcp.get("gatewayRequest").and_then(|request| request.get("body")).cloned();
    let response = mcp.get("gatewayResponse").cloned().unwrap_or(Value::Null);
    let frame = Frame {
        name: if came_back { RESPONSE } else { REQUEST }.to_owned(),
        state: if came_back { response.clone() } else { rpc.clone().unwrap_or(Value::Null) },
    };
    let refuse = |reason: String| NormalizeError::in_frame(frame.clone(), reason);
    let id = delivery_id(request).map_err(refuse)?;
    let rpc = rpc.as_ref().and_then(Value::as_object);
    let rpc = rpc.ok_or_else(|| refuse("`mcp.gatewayRequest.body` is not a JSON-RPC request".to_owned()))?;
    let delivery = delivery(instance, request, &mcp, &frame.name, &id);
    let called = text(rpc, "method") == Some("tools/call");
    let events = match (called, came_back) {
        (true, false) => vec![call(&delivery, rpc, event).map_err(|reason| refuse(reason.to_owned()))?],
        (true, true) => vec![delivery.outcome(ended(rpc, &response))],
        (false, _) => {
            let method = json!(text(rpc, "method"));
            vec![delivery.observation(Map::from_iter([("method".to_owned(), method)]))]
        }
    };
    Ok(Normalized { events, idempotency: format!("{id} {}", parse::sha256_hex(&request.body)), frame })
}

pub(super) fn answer(frame: &Frame, said: &[Said<'_>]) -> Reply {
    let first = said.first();
    let runs = first.is_some_and(|said| match said.expression.expressed {
        Expressed::Allow => true,
        Expressed::Modify => said.modified.is_some() && frame.state.pointer("/params").is_some(),
        _ => false,
    });
    if !runs {
        return Reply::json(&denied(frame, first));
    }
    if frame.name == RESPONSE {
        let status = frame.state.get("statusCode").cloned().unwrap_or(json!(200));
        let body = frame.state.get("body").cloned().unwrap_or(Value::Null);
        let response = json!({"statusCode": status, "body": body});
        return Reply::json(&transformed("transformedGatewayResponse", &response));
    }
    let mut body = frame.state.clone();
    if let (Some(arguments), Some(params)) =
        (first.and_then(|said| said.modified.as_ref()), body.get_mut("params").and_then(Value::as_object_mut))
    {
        params.insert("arguments".to_owned(), Value::Object(arguments.clone()));
    }
    Reply::json(&transformed("transformedGatewayRequest", &json!({"body": body})))
}

fn transformed(key: &str, value: &Value) -> Value {
    json!({"interceptorOutputVersion": "1.0", "mcp": {key: value}})
}

/// A JSON-RPC error, as the answer to the request that is not let through.
pub(super) fn denied(frame: &Frame, said: Option<&Said<'_>>) -> Value {
    let reason = said.map_or("nothing was decided", |said| said.expression.reason.as_str());
    let id = frame.state.pointer("/id").or(frame.state.pointer("/body/id")).cloned().unwrap_or(Value::Null);
    let data = said.map(|said| json!({"receiptId": said.receipt_id, "ticket": said.ticket}));
    let error = json!({"code": DENIED, "message": parse::cut(reason, 1_024), "data": data});
    let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
    transformed("transformedGatewayResponse", &json!({"statusCode": 200, "body": body}))
}

/// The gateway has checked the caller's token; the forwarder's proof vouches for its being the same one here.
fn delivery(
    instance: &str,
    request: &Inbound<Verified>,
    mcp: &Map<String, Value>,
    event: &str,
    id: &str,
) -> Delivery {
    let headers =
        mcp.get("gatewayRequest").and_then(|request| request.get("headers")).and_then(Value::as_object);
    let header = |name: &str| {
        let found = headers?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
        found.as_str().or_else(|| found.get(0)?.as_str()).map(str::to_owned)
    };
    let token = header("authorization");
    let token = token.as_deref().and_then(|value| value.split_once(' ')).map(|(_, token)| token);
    let claims: Map<String, Value> = token
        .and_then(|token| jsonwebtoken::dangerous::insecure_decode(token).ok())
        .map(|token| token.claims)
        .unwrap_or_default();
    let mut identity = Delivery::identity(request.caller());
    let client = text(&claims, "client_id").or(text(&claims, "azp")).unwrap_or(AgentCore::NAME);
    identity.agent = Agent { id: client.to_owned(), kind: None, model: None };
    identity.human = text(&claims, "sub").map(parse::human);
    let session = header("mcp-session-id").or(header("x-amzn-bedrock-agentcore-policy-session-id"));
    let session = session.or(identity.human.as_ref().map(|human| human.id.clone()));
    let session = session.unwrap_or_else(|| client.to_owned());
    let delivery = Delivery::new((AgentCore::NAME, instance, event), request, identity, session);
    Delivery { id: Some(id.to_owned()), ..delivery }
}

fn call(
    delivery: &Delivery,
    rpc: &Map<String, Value>,
    rest: Map<String, Value>,
) -> Result<Event, &'static str> {
    let params = rpc.get("params").and_then(Value::as_object).ok_or("`params` is missing")?;
    let name = text(params, "name").ok_or("the tool has no name")?;
    let parameters = chat::arguments(params.get("arguments"))?;
    let mut tool = naming::tool("mcp", name);
    tool.namespace = "mcp".to_owned();
    Ok(delivery.action(Call { rest, ..Call::new(&call_id(rpc), tool, parameters) }))
}

fn ended(rpc: &Map<String, Value>, response: &Value) -> Ended {
    let body = response.get("body").unwrap_or(&Value::Null);
    let failed = body.get("error").is_some() || body.pointer("/result/isError") == Some(&Value::Bool(true));
    Ended {
        call: call_id(rpc),
        output: body.get("error").or(body.get("result")).cloned().unwrap_or(Value::Null),
        failed,
        tool: rpc
            .get("params")
            .and_then(|params| params.get("name"))
            .and_then(Value::as_str)
            .map(str::to_owned),
    }
}

/// JSON-RPC counts from one in every connection: with the parameters' digest the id tells calls apart, and is the same
/// in front of the target and behind it.
fn call_id(rpc: &Map<String, Value>) -> String {
    let id = rpc.get("id").unwrap_or(&Value::Null);
    let params = parse::canonical(rpc.get("params").unwrap_or(&Value::Null));
    let digest = parse::sha256_hex(params.as_bytes());
    format!("{id}/{}", parse::cut(&digest, 16))
}
