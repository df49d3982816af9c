//! OpenAI's Responses API: a response that wants an MCP tool approved ends, and OpenAI says so by a thin webhook. What it
//! wants is read from the response; the approvals go into the response that continues it.
//!
//! Source: OpenAI, "Webhooks" and "MCP and connectors", section "Approvals" (read 2026-08-21). Only responses that run
//! in the background have webhooks. The Agents SDK's own approvals ask through `generic`.

use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::schemas::{Action, Agent, Assurance, Expressed, Timestamp, Tool, Verdict};
use countersign_sdk::{
    CallError, CallOutcome, Callback, Caller, ConnectError, Connector, Env, Evidence, FailMode, FetchError,
    Frame, FrameSpec, Gate, GateClass, Held, Inbound, Manifest, NormalizeError, Normalized, Parts, Reply,
    Said, Secret, SecretRef, Site, Unverified, Verified, VerifyError, parse, signature,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::support::api::{Api, failure, is_id};
use crate::support::gather::{Gather, Step};
use crate::support::{self, Call, Delivery, Ended, chat, text};

const COMPLETED: &str = "response.completed";
/// Any other event.
const OTHER: &str = "other";
/// What is put beside the notification.
const RESPONSE: &str = "response";
const REASON_CHARS_MAX: usize = 2_000;

/// Settings of an `openai` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The webhook's signing secret (`whsec_…`), shown once in the project's settings; two during a rotation.
    pub secrets: Vec<SecretRef>,
    /// An API key of the project, which responses are read and continued with.
    pub api_key: SecretRef,
    /// Where the API is. Its host must be in `[egress] allow_hosts`.
    #[serde(default = "default_api_base")]
    pub api_base: String,
}

fn default_api_base() -> String {
    "https://api.openai.com/v1".to_owned()
}

/// The connector.
pub struct OpenAi;

impl Connector for OpenAi {
    const NAME: &'static str = "openai";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "OpenAI Responses API (MCP approvals, by webhook)",
            class: GateClass::Held,
            vendor_window_ms: 10_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "a response that asks for approval has ended: the tool runs in the response that approves it, \
                            or never",
            frames: frames(),
            result_feed: "mcp_call items of the responses that follow",
            authentication: "Standard Webhooks signature over the raw body, at most 300 s old",
            assurance: Assurance::VendorSigned,
            idempotency: "ids of the approvals that the response asks for",
            verified: Evidence::VendorDocs,
            limits: vec![
                "only responses with `background: true` have webhooks",
                "only MCP tools with `require_approval` are asked about; function tools are run by the application, which \
                 can ask through `generic`, as can the Agents SDK's approvals",
                "the application must not continue such a response itself",
                "all approvals of a response are answered at once: the slowest decides when",
                "OpenAI does not keep an MCP server's credentials: servers that need some cannot be continued from here",
                "when it is not known whether OpenAI took the approvals, they are not sent again, and the callback is given \
                 up, visibly",
                "OpenAI does not say for whom the response was made, unless its metadata does",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Give MCP tools `\"require_approval\": \"always\"` and run responses with `\"background\": true`.\n\
             2. In the OpenAI dashboard, Settings, Project, Webhooks, add `{url}` for `response.completed` and the other \
             `response.*` events. Copy the signing secret, which is shown once, to where `secrets` of connector \
             `{instance}` points.\n\
             3. Make an API key of the project, put it where `api_key` points, and add `api.openai.com` to `[egress] \
             allow_hosts`.\n\
             4. Let the application wait for the response that continues its own instead of approving by itself: it lists \
             responses by `previous_response_id`, or learns of it by its own webhook.\n\
             5. Put `user`, `agent` and `session` into the response's `metadata`: nothing else says for whom it acts.\n\
             6. Plain functions and the Agents SDK's `needs_approval`: ask `generic` in the application, before \
             `state.approve`.\n\
             7. Let a response call an MCP tool and find the receipt with `countersign receipts tail`.\n",
            url = site.hook_url(),
            instance = site.instance,
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let keys = support::webhook_keys(env, &settings.secrets)?;
        let key = env.secret("api_key", &settings.api_key)?;
        let headers = vec![("authorization", Secret::new(format!("Bearer {}", key.expose())))];
        let api = Api::connect(env, &settings.api_base, headers)?;
        Ok(Parts {
            deadline: Duration::from_secs(10),
            frames: frames(),
            gate: Box::new(Webhook { instance: env.instance.to_owned(), keys }),
            held: Some(Box::new(Responses { api, gather: Gather::default() })),
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    vec![FrameSpec { held: true, ..FrameSpec::gate(COMPLETED, &[Verdict::Allow]) }, FrameSpec::notice(OTHER)]
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
        let kind = text(&body, "type").unwrap_or(OTHER).to_owned();
        let frame = Frame::named(if kind == COMPLETED { COMPLETED } else { OTHER });
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let id = body.get("data").and_then(Value::as_object).and_then(|data| text(data, "id"));
        let id = id.ok_or_else(|| refuse("the event names nothing"))?.to_owned();
        let response = match body.shift_remove(RESPONSE) {
            Some(Value::Object(response)) => response,
            _ if frame.name == COMPLETED => return Err(refuse("the response is not known")),
            _ => Map::new(),
        };
        let delivery = self.delivery(request, &body, &response, &kind, &id);
        let items = response.get("output").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let items: Vec<&Map<String, Value>> = items.iter().filter_map(Value::as_object).collect();
        let asked = approvals(&items);
        let ids: Vec<&str> = asked.iter().filter_map(|item| text(item, "id")).collect();
        if ids.len() != asked.len() {
            return Err(refuse("an approval is asked for without an id"));
        }
        let mut events: Vec<_> =
            items.iter().filter_map(|item| ended(item)).map(|ended| delivery.outcome(ended)).collect();
        for item in &asked {
            events.push(delivery.action(call(item, &id, &ids).map_err(refuse)?));
        }
        let idempotency = if ids.is_empty() {
            parse::sha256_hex(&request.body)
        } else {
            parse::canonical(&json!([id, ids]))
        };
        if events.is_empty() {
            events.push(delivery.observation(body));
        }
        Ok(Normalized { events, frame, idempotency })
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        // OpenAI reads the status alone: the decisions go into the response that continues.
        let words: Vec<_> = said
            .iter()
            .map(|said| json!({"decision": said.expression.expressed, "receiptId": said.receipt_id}))
            .collect();
        Reply::json(&json!({"decisions": words}))
    }
}

impl Webhook {
    /// A conversation is what the metadata or the API say; else every response is its own session.
    fn delivery(
        &self,
        request: &Inbound<Verified>,
        body: &Map<String, Value>,
        response: &Map<String, Value>,
        event: &str,
        id: &str,
    ) -> Delivery {
        let none = Map::new();
        let metadata = response.get("metadata").and_then(Value::as_object).unwrap_or(&none);
        let conversation =
            response.get("conversation").and_then(Value::as_object).and_then(|of| text(of, "id"));
        let mut identity = Delivery::identity(request.caller());
        identity.agent = Agent {
            id: text(metadata, "agent").unwrap_or(OpenAi::NAME).to_owned(),
            kind: None,
            model: text(response, "model").map(str::to_owned),
        };
        let user = text(metadata, "user").or(text(response, "safety_identifier")).or(text(response, "user"));
        identity.human = user.map(parse::human);
        let session = text(metadata, "session").or(conversation).unwrap_or(id).to_owned();
        let delivery = Delivery::new((OpenAi::NAME, &self.instance, event), request, identity, session);
        Delivery { id: text(body, "id").map(str::to_owned), ..delivery }
    }
}

fn approvals<'i>(items: &[&'i Map<String, Value>]) -> Vec<&'i Map<String, Value>> {
    let asks = |item: &&&Map<String, Value>| text(item, "type") == Some("mcp_approval_request");
    items.iter().filter(asks).copied().collect()
}

/// A call that ran names the approval it ran by, so that it joins the action.
fn ended(item: &Map<String, Value>) -> Option<Ended> {
    let approval = text(item, "approval_request_id").filter(|_| text(item, "type") == Some("mcp_call"))?;
    let error = item.get("error").filter(|error| !error.is_null());
    Some(Ended {
        call: approval.to_owned(),
        output: error.or(item.get("output")).cloned().unwrap_or(Value::Null),
        failed: error.is_some(),
        tool: text(item, "name").map(str::to_owned),
    })
}

fn call(item: &Map<String, Value>, response: &str, all: &[&str]) -> Result<Call, &'static str> {
    let name = text(item, "name").ok_or("a tool call has no name")?;
    let tool = Tool {
        name: name.to_owned(),
        namespace: "mcp".to_owned(),
        raw: name.to_owned(),
        server: text(item, "server_label").map(str::to_owned),
    };
    let rest = Map::from_iter([
        ("response_id".to_owned(), json!(response)),
        ("approval_request_ids".to_owned(), json!(all)),
    ]);
    let id = text(item, "id").unwrap_or_default();
    Ok(Call { rest, ..Call::new(id, tool, chat::arguments(item.get("arguments"))?) })
}

/// Responses, by the API.
struct Responses {
    api: Api,
    gather: Gather,
}

/// What waits in the outbox.
#[derive(Debug, Serialize, Deserialize)]
struct Approval {
    all: Vec<String>,
    approve: bool,
    id: String,
    reason: String,
    response_id: String,
}

impl Responses {
    /// Continues a response with all its approvals. Not idempotent at OpenAI, so it is tried again only when it is
    /// certain that nothing was taken.
    async fn resume(&self, response_id: &str, answers: Vec<Value>) -> Result<CallOutcome, CallError> {
        let response = self.api.get(&format!("/responses/{response_id}")).await.map_err(failure)?;
        let mut body = json!({"previous_response_id": response_id, "background": true, "input": answers});
        for key in ["model", "tools", "instructions", "metadata", "store"] {
            if let Some(value) = response.get(key).filter(|value| !value.is_null()) {
                body[key] = value.clone();
            }
        }
        let unknown = |why: String| {
            CallError::Permanent(format!(
                "{why}; whether the approvals were taken is not known, so they stay unsent"
            ))
        };
        let answer = self.api.post("/responses", &body).await.map_err(|error| unknown(error.to_string()))?;
        match answer.status {
            200..=299 => Ok(CallOutcome::Delivered),
            429 => Err(CallError::Retry("OpenAI answered 429".to_owned())),
            500..=599 => Err(unknown(format!("OpenAI answered {}", answer.status))),
            status => Err(CallError::Permanent(format!("OpenAI answered {status}"))),
        }
    }
}

#[async_trait]
impl Held for Responses {
    fn callback(&self, action: &Action, said: &Said<'_>) -> Callback {
        let all = action.vendor_fields.get("approval_request_ids");
        let receipt = said.receipt_id.as_ref().map_or("none", |receipt| receipt.as_str());
        let reason = format!("{} (receipt {receipt})", said.expression.reason);
        Callback(json!(Approval {
            all: all.and_then(|all| Vec::deserialize(all).ok()).unwrap_or_default(),
            approve: said.expression.expressed == Expressed::Allow,
            id: action.call_id.clone().unwrap_or_default(),
            reason: parse::cut(&reason, REASON_CHARS_MAX).to_owned(),
            response_id: text(&action.vendor_fields, "response_id").unwrap_or_default().to_owned(),
        }))
    }

    async fn call(&self, callback: &Callback, _now: Timestamp) -> Result<CallOutcome, CallError> {
        let owed = Approval::deserialize(&callback.0)
            .ok()
            .filter(|owed| is_id(&owed.response_id) && owed.all.contains(&owed.id))
            .ok_or_else(|| CallError::Permanent("the callback is not readable".to_owned()))?;
        let answer = json!({
            "type": "mcp_approval_response",
            "approval_request_id": owed.id,
            "approve": owed.approve,
            "reason": owed.reason,
        });
        match self.gather.note(&owed.response_id, &owed.all, &owed.id, answer) {
            Step::Sent => Ok(CallOutcome::Delivered),
            Step::Wait(missing) => {
                Err(CallError::Retry(format!("waits for {missing} more decisions on the same response")))
            }
            Step::Send(answers) => {
                let outcome = self.resume(&owed.response_id, answers).await;
                self.gather.settle(&owed.response_id, !matches!(outcome, Err(CallError::Retry(_))));
                outcome
            }
        }
    }

    async fn complete(
        &self,
        request: &Inbound<Verified>,
        _now: Timestamp,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let Ok(mut body) = parse::object(&request.body) else { return Ok(None) };
        body.shift_remove(RESPONSE);
        let data = body.get("data").and_then(Value::as_object);
        let id = data.and_then(|data| text(data, "id")).filter(|id| is_id(id));
        if let Some(id) = id.filter(|_| text(&body, "type") == Some(COMPLETED)) {
            let mut response = self.api.get(&format!("/responses/{id}")).await?;
            // What was asked and said is long, and nothing of it is read.
            ["input", "instructions", "text"].into_iter().for_each(|long| {
                response.shift_remove(long);
            });
            body.insert(RESPONSE.to_owned(), Value::Object(response));
        }
        Ok(Some(Value::Object(body).to_string().into_bytes()))
    }

    /// OpenAI keeps no list of webhooks that failed: the response waits.
    async fn sweep(&self, _since: Timestamp, _now: Timestamp) -> Result<u64, CallError> {
        Ok(0)
    }
}
