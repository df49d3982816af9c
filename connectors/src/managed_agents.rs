//! Claude Managed Agents: a session that needs a tool confirmed goes idle and says so by a thin webhook. What it waits
//! for is read from its events; each call is answered by a `user.tool_confirmation`.
//!
//! Source: Anthropic, "Managed Agents": permission policies, events and webhooks, beta `managed-agents-2026-04-01` (read
//! 2026-08-21).

use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::schemas::{Action, Agent, Assurance, Expressed, Timestamp, Tool, Verdict};
use countersign_sdk::{
    CallError, CallOutcome, Callback, Caller, ConnectError, Connector, Env, Evidence, FailMode, FetchError,
    Frame, FrameSpec, Gate, GateClass, Held, Inbound, Manifest, NormalizeError, Normalized, Parts, Reply,
    Said, Secret, SecretRef, Site, Unverified, Verified, VerifyError, naming, parse, signature,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::support::api::{Api, failure, is_id, status_failure};
use crate::support::{self, Call, Delivery, Ended, chat, text};

/// The session waits, or has ended its turn.
const IDLED: &str = "session.status_idled";
/// Any other event.
const OTHER: &str = "other";
/// Events that are put beside the notification.
const EVENTS: &str = "events";
/// Pages of events that are read, of 100 each; a session whose question is older than that is not taken.
const PAGES_MAX: usize = 20;
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Settings of a `managed-agents` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The webhook's signing secret (`whsec_…`), shown once in the console; two during a rotation.
    pub secrets: Vec<SecretRef>,
    /// An API key of the workspace, which confirmations are sent with.
    pub api_key: SecretRef,
    /// Where the API is. Its host must be in `[egress] allow_hosts`.
    #[serde(default = "default_api_base")]
    pub api_base: String,
}

fn default_api_base() -> String {
    "https://api.anthropic.com".to_owned()
}

/// The connector.
pub struct ManagedAgents;

impl Connector for ManagedAgents {
    const NAME: &'static str = "managed-agents";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Anthropic Claude Managed Agents (tool confirmations)",
            class: GateClass::Held,
            vendor_window_ms: 10_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "a session waits until its calls are confirmed; tools without `always_ask` are not asked about",
            frames: frames(),
            result_feed: "agent.tool_result events, read at the session's next question",
            authentication: "Standard Webhooks signature over the raw body, at most 300 s old",
            assurance: Assurance::VendorSigned,
            idempotency: "session id and ids of the calls that wait",
            verified: Evidence::VendorDocs,
            limits: vec![
                "built-in tools are `always_allow` unless the agent says otherwise: those are not asked about",
                "a webhook that fails three times is not sent again: the session then waits until it is looked at",
                "parameters cannot be changed",
                "custom tools are run by the customer's application, which can ask through `generic`",
                "Anthropic does not say for whom the agent acts",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Give the agent `\"permission_policy\": {{\"type\": \"always_ask\"}}` in `default_config` of \
             `agent_toolset_20260401` and of every `mcp_toolset`. A tool that is left out is not asked about.\n\
             2. In the Claude Console, Manage, Webhooks, register `{url}` for `session.status_idled`. Copy the signing \
             secret, which is shown once, to where `secrets` of connector `{instance}` points.\n\
             3. Make an API key in the agents' workspace, put it where `api_key` points, and add `api.anthropic.com` to \
             `[egress] allow_hosts`.\n\
             4. {url} must answer on port 443 of a public address, without a redirect: Anthropic disables a webhook that \
             does not.\n\
             5. Let the agent call a tool. The session goes idle, a receipt names the call, and the session goes on or is \
             told why not.\n",
            url = site.hook_url(),
            instance = site.instance,
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let keys = support::webhook_keys(env, &settings.secrets)?;
        let headers = vec![
            ("x-api-key", env.secret("api_key", &settings.api_key)?),
            ("anthropic-version", Secret::new("2023-06-01")),
            ("anthropic-beta", Secret::new("managed-agents-2026-04-01")),
        ];
        let api = Api::connect(env, &settings.api_base, headers)?;
        Ok(Parts {
            deadline: Duration::from_secs(10),
            frames: frames(),
            gate: Box::new(Webhook { instance: env.instance.to_owned(), keys }),
            held: Some(Box::new(Sessions { api })),
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    vec![FrameSpec { held: true, ..FrameSpec::gate(IDLED, &[Verdict::Allow]) }, FrameSpec::notice(OTHER)]
}

/// The gate.
struct Webhook {
    instance: String,
    keys: Vec<Vec<u8>>,
}

impl Gate for Webhook {
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        signature::standard_webhooks(request, &self.keys, now)?;
        Ok(Caller {
            assurance: Assurance::VendorSigned,
            verified_by: "standard-webhooks",
            ..Caller::default()
        })
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let mut body = parse::object(&request.body)?;
        let data = body.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
        let frame = Frame::named(if text(&data, "type") == Some(IDLED) { IDLED } else { OTHER });
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let session = text(&data, "id").ok_or_else(|| refuse("the event names no session"))?;
        let listed = body.shift_remove(EVENTS);
        let events = listed.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if frame.name == IDLED && listed.is_none() {
            return Err(refuse("what the session waits for is not known"));
        }
        let delivery = self.delivery(request, &data, session, &body);
        let waits = waiting(events);
        let mut found: Vec<_> = results(events).map(|ended| delivery.outcome(ended)).collect();
        for event in &waits {
            found.push(delivery.action(call(session, event).map_err(refuse)?));
        }
        if found.is_empty() {
            found.push(delivery.observation(body.clone()));
        }
        let ids: Vec<_> = waits.iter().filter_map(|event| text(event, "id")).collect();
        let idempotency = if ids.is_empty() {
            parse::sha256_hex(&request.body)
        } else {
            parse::canonical(&json!([session, ids]))
        };
        Ok(Normalized { events: found, frame, idempotency })
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        // Anthropic reads the status alone: the decisions go by confirmation.
        let words: Vec<_> = said
            .iter()
            .map(|said| json!({"decision": said.expression.expressed, "receiptId": said.receipt_id}))
            .collect();
        Reply::json(&json!({"decisions": words}))
    }
}

impl Webhook {
    fn delivery(
        &self,
        request: &Inbound<Verified>,
        data: &Map<String, Value>,
        session: &str,
        body: &Map<String, Value>,
    ) -> Delivery {
        let mut identity = Delivery::identity(request.caller());
        identity.agent = Agent {
            id: text(data, "agent_id").or(text(body, "agent_id")).unwrap_or(ManagedAgents::NAME).to_owned(),
            kind: None,
            model: None,
        };
        identity.service = text(data, "workspace_id").map(str::to_owned);
        identity.tenant = text(data, "organization_id").map(str::to_owned);
        let event = text(data, "type").unwrap_or(OTHER);
        let delivery = Delivery::new(
            (ManagedAgents::NAME, &self.instance, event),
            request,
            identity,
            session.to_owned(),
        );
        Delivery { id: text(body, "id").map(str::to_owned), ..delivery }
    }
}

/// The calls that the last idle event asks to confirm and that nobody has answered since. Custom tools are not ours to
/// answer.
fn waiting(events: &[Value]) -> Vec<&Map<String, Value>> {
    let objects = || events.iter().filter_map(Value::as_object);
    let idle = objects()
        .filter(|event| text(event, "type") == Some("session.status_idle"))
        .max_by_key(|event| text(event, "processed_at"));
    let wanted = idle.and_then(|idle| idle.get("stop_reason")?.get("event_ids")?.as_array());
    let answered = |id: &str| {
        objects().any(|event| {
            text(event, "type") == Some("user.tool_confirmation") && text(event, "tool_use_id") == Some(id)
        })
    };
    let find = |id: &Value| {
        let id = id.as_str()?;
        objects().find(|event| {
            text(event, "id") == Some(id)
                && matches!(text(event, "type"), Some("agent.tool_use" | "agent.mcp_tool_use"))
        })
    };
    let asked = wanted.into_iter().flatten().filter_map(find);
    asked.filter(|event| text(event, "id").is_some_and(|id| !answered(id))).collect()
}

fn results(events: &[Value]) -> impl Iterator<Item = Ended> {
    let results = events
        .iter()
        .filter_map(Value::as_object)
        .filter(|event| matches!(text(event, "type"), Some("agent.tool_result" | "agent.mcp_tool_result")));
    results.filter_map(|event| {
        Some(Ended {
            call: text(event, "tool_use_id").or(text(event, "mcp_tool_use_id"))?.to_owned(),
            output: event.get("content").cloned().unwrap_or(Value::Null),
            failed: event.get("is_error") == Some(&Value::Bool(true)),
            tool: text(event, "name").map(str::to_owned),
        })
    })
}

fn call(session: &str, event: &Map<String, Value>) -> Result<Call, &'static str> {
    let name = text(event, "name").ok_or("a tool call has no name")?;
    let id = text(event, "id").ok_or("a tool call has no id")?;
    let tool = match text(event, "mcp_server_name") {
        Some(server) => Tool {
            name: name.to_owned(),
            namespace: "mcp".to_owned(),
            raw: name.to_owned(),
            server: Some(server.to_owned()),
        },
        None => naming::tool(ManagedAgents::NAME, name),
    };
    let mut rest = event.clone();
    ["id", "input", "name"].into_iter().for_each(|placed| {
        rest.shift_remove(placed);
    });
    rest.insert("session_id".to_owned(), json!(session));
    Ok(Call { rest, ..Call::new(id, tool, chat::arguments(event.get("input"))?) })
}

/// The sessions, by the API.
struct Sessions {
    api: Api,
}

/// What waits in the outbox.
#[derive(Debug, Serialize, Deserialize)]
struct Confirmation {
    allow: bool,
    message: String,
    session_id: String,
    session_thread_id: Option<String>,
    tool_use_id: String,
}

impl Sessions {
    /// The session's events, newest first where the API orders them so, until its last question is complete.
    async fn events(&self, session: &str) -> Result<Vec<Value>, FetchError> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        for _page in 0..PAGES_MAX {
            let path = format!("/v1/sessions/{session}/events?beta=true&limit=100&order=desc{cursor}");
            let mut page = self.api.get(&path).await?;
            match page.get_mut("data").map(Value::take) {
                Some(Value::Array(list)) => events.extend(list),
                _ => return Err(FetchError::Body("`data` is not a list of events".to_owned())),
            }
            let Some(next) = text(&page, "next_page") else { return Ok(events) };
            let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
            cursor = format!("&page={next}");
        }
        Err(FetchError::Body("the session has more events than are read".to_owned()))
    }
}

#[async_trait]
impl Held for Sessions {
    fn callback(&self, action: &Action, said: &Said<'_>) -> Callback {
        let receipt = said.receipt_id.as_ref().map_or("none", |receipt| receipt.as_str());
        let message = format!("{} (receipt {receipt})", said.expression.reason);
        Callback(json!(Confirmation {
            allow: said.expression.expressed == Expressed::Allow,
            message: parse::cut(&message, MESSAGE_CHARS_MAX).to_owned(),
            session_id: action.session.vendor_id.clone(),
            session_thread_id: text(&action.vendor_fields, "session_thread_id").map(str::to_owned),
            tool_use_id: action.call_id.clone().unwrap_or_default(),
        }))
    }

    async fn call(&self, callback: &Callback, _now: Timestamp) -> Result<CallOutcome, CallError> {
        let unreadable = || CallError::Permanent("the callback is not readable".to_owned());
        let owed = Confirmation::deserialize(&callback.0).map_err(|_| unreadable())?;
        if !is_id(&owed.session_id) {
            return Err(unreadable());
        }
        let events = self.events(&owed.session_id).await.map_err(failure)?;
        let waits = waiting(&events);
        if !waits.iter().any(|event| text(event, "id") == Some(&owed.tool_use_id)) {
            return Ok(CallOutcome::Moot("the session no longer waits for this call".to_owned()));
        }
        let mut event = json!({
            "type": "user.tool_confirmation",
            "tool_use_id": owed.tool_use_id,
            "result": if owed.allow { "allow" } else { "deny" },
        });
        if !owed.allow {
            event["deny_message"] = json!(owed.message);
        }
        if let Some(thread) = owed.session_thread_id {
            event["session_thread_id"] = json!(thread);
        }
        let path = format!("/v1/sessions/{}/events?beta=true", owed.session_id);
        let answer = self.api.post(&path, &json!({"events": [event]})).await.map_err(failure)?;
        if answer.is_success() { Ok(CallOutcome::Delivered) } else { Err(status_failure(answer.status)) }
    }

    async fn complete(
        &self,
        request: &Inbound<Verified>,
        _now: Timestamp,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let Ok(mut body) = parse::object(&request.body) else { return Ok(None) };
        let data = body.get("data").and_then(Value::as_object);
        let Some(data) = data.filter(|data| text(data, "type") == Some(IDLED)) else { return Ok(None) };
        let Some(session) = text(data, "id").filter(|id| is_id(id)).map(str::to_owned) else {
            body.shift_remove(EVENTS);
            return Ok(Some(Value::Object(body).to_string().into_bytes()));
        };
        let events = self.events(&session).await?;
        body.insert(EVENTS.to_owned(), Value::Array(recent(events)));
        Ok(Some(Value::Object(body).to_string().into_bytes()))
    }

    /// Webhooks that were dropped are not kept for us: the session waits.
    async fn sweep(&self, _since: Timestamp, _now: Timestamp) -> Result<u64, CallError> {
        Ok(0)
    }
}

/// What is read of a session's events: its last question with the calls and answers it is about, and the results that
/// came since the question before it.
fn recent(mut events: Vec<Value>) -> Vec<Value> {
    let at = |event: &Value| event.get("processed_at").and_then(Value::as_str).unwrap_or_default().to_owned();
    events.sort_by_key(at);
    let is_idle = |event: &Value| event.get("type").and_then(Value::as_str) == Some("session.status_idle");
    let mut idles = events.iter().enumerate().filter(|(_, event)| is_idle(event)).map(|(at, _)| at).rev();
    let (last, before) = (idles.next(), idles.next().unwrap_or(0));
    let wanted: Vec<Value> = last
        .and_then(|last| events[last].get("stop_reason")?.get("event_ids")?.as_array().cloned())
        .unwrap_or_default();
    let is_wanted = |event: &Value| {
        ["id", "tool_use_id"].iter().any(|key| event.get(*key).is_some_and(|id| wanted.contains(id)))
    };
    let kept = events.into_iter().enumerate().filter(|(at, event)| *at >= before || is_wanted(event));
    kept.map(|(_, event)| event).collect()
}
