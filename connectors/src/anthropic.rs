//! Anthropic's inference hooks for Claude Enterprise: claude.ai, Cowork, Claude Code and more, asked by Anthropic's
//! servers before the model reads a prompt and before a tool call runs.
//!
//! Source: Anthropic, "Inference hooks" (generally available 2026-10-20, read 2026-11-23). Signed with Standard
//! Webhooks; one verdict covers all tool calls of a frame; allow and deny only.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::schemas::{
    Action, ActionId, Agent, Assurance, Effect, Event, Expressed, Facets, Human, Identity, Intent,
    Observation, Outcome, OutcomeStatus, SessionId, SessionRef, Source, Timestamp, Tool, Verdict,
};
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError, naming, parse, signature,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use url::Url;

use crate::claude_code;

/// What the page allows for `deny_reason`.
const DENY_REASON_CHARS_MAX: usize = 500;
/// A prompt longer than this is cut in the intent; policies compare what was asked, not what was pasted.
const INTENT_CHARS_MAX: usize = 65_536;
/// An error text longer than this is cut; the digest covers all of it.
const ERROR_CHARS_MAX: usize = 4_096;
/// The console takes 1 to 10,000 ms; below 2 s too little is left once the margin is taken off.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 2_000..=10_000;

const PROMPT: &str = "prompt";
const TOOL_CALL: &str = "tool_call";
/// "Test connection" and the probes after an outage.
const CONFIG_TEST: &str = "config-test";
const UNKNOWN: &str = "unknown";

/// Settings of an `anthropic` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The signing secret (`whsec_…`), shown once in the console; during a rotation the old one too.
    pub secrets: Vec<SecretRef>,
    /// The timeout as set in the console, in milliseconds, 2000 to 10000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    5_000
}

/// The connector.
pub struct Anthropic;

impl Connector for Anthropic {
    const NAME: &'static str = "anthropic";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Anthropic Claude Enterprise (inference hooks)",
            class: GateClass::Sync,
            vendor_window_ms: 5_000,
            margin_ms: 1_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "set Failure handling to \"Block the request\"",
            frames: frames(),
            result_feed: "tool_result blocks of the next prompt frame, signed, by tool_use id",
            authentication: "Standard Webhooks signature over the raw body, at most 300 s old",
            assurance: Assurance::VendorSigned,
            idempotency: "webhook-id, which is signed",
            verified: Evidence::VendorDocs,
            limits: vec![
                "Claude Enterprise only: not the API, not Bedrock or Google Cloud, not voice",
                "one verdict for all tool calls of a response: one denied call denies them all",
                "rollout below 100 % and excluded roles are not asked about",
                "some tools of claude.ai are left out of the frames",
                "text streamed before the tool call stays with the user",
                "after sustained failures Anthropic stops asking for ten minutes or more; failure handling then \
                 applies to everything",
                "`source.application` is advisory, and Claude Code's session id is the client's word",
                "the prompt setting `Shadow mode` asks and enforces nothing",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        let timeout_ms = Settings::deserialize(&site.settings)
            .map_or_else(|_| default_timeout_ms(), |known| known.timeout_ms);
        format!(
            "1. Make sure that {url} answers on port 443 of a public address with a certificate of a public authority, \
             without a redirect. Requests come from 160.79.106.0/24.\n\
             2. As an owner, open claude.ai, Organization settings, Data and privacy, Inference hooks, and enter \
             `{url}`.\n\
             3. Copy the signing secret, which is shown once, to where `secrets` of connector `{instance}` points. \
             When you rotate it, list the old one behind the new one for a few minutes.\n\
             4. Set the timeout to {timeout_ms} ms, the same number as `timeout_ms`.\n\
             5. Set Failure handling to \"Block the request\". With \"Allow the request\" every fault between Anthropic \
             and Countersign lets the tools run.\n\
             6. Switch \"Validate tool calls\" and \"Enforce verdicts\" on, set the rollout to 100 %, and exclude no \
             role.\n\
             7. Press \"Test connection\", then let Claude use a tool and find the receipt with \
             `countersign receipt list`.\n\
             8. Stop Countersign for a moment and ask Claude something: it must be refused.\n",
            url = site.hook_url(),
            instance = site.instance,
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let value = |key: &str, problem: String| ConnectError::Value { key: key.to_owned(), problem };
        if !(1..=2).contains(&settings.secrets.len()) {
            return Err(value("secrets", "give one secret, or two during a rotation".to_owned()));
        }
        if !TIMEOUT_MS.contains(&settings.timeout_ms) {
            return Err(value("timeout_ms", "must be from 2000 to 10000 milliseconds".to_owned()));
        }
        let mut keys = Vec::with_capacity(settings.secrets.len());
        for reference in &settings.secrets {
            let secret = env.secret("secrets", reference)?;
            keys.push(
                signature::standard_webhooks_key(&secret).map_err(|problem| value("secrets", problem))?,
            );
        }
        Ok(Parts {
            deadline: Duration::from_millis(settings.timeout_ms),
            frames: frames(),
            gate: Box::new(InferenceHooks { instance: env.instance.to_owned(), keys }),
            held: None,
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    let gate = |name| FrameSpec { one_answer: true, ..FrameSpec::gate(name, &[Verdict::Allow]) };
    vec![
        gate(PROMPT),
        gate(TOOL_CALL),
        FrameSpec::notice(CONFIG_TEST),
        // "If the type is not one you know, answer allow": an error would count against the circuit breaker.
        FrameSpec { allow_unknown: true, ..FrameSpec::notice(UNKNOWN) },
    ]
}

/// The gate.
struct InferenceHooks {
    instance: String,
    keys: Vec<Vec<u8>>,
}

impl Gate for InferenceHooks {
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        signature::standard_webhooks(request, &self.keys, now)?;
        Ok(Caller {
            assurance: Assurance::VendorSigned,
            claims: Map::new(),
            name: None,
            verified_by: "standard-webhooks",
        })
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let delivery = request
            .header("webhook-id")
            .ok_or_else(|| NormalizeError::unreadable("missing header `webhook-id`"))?;
        let Kind { kind } = read(&request.body).map_err(NormalizeError::unreadable)?;
        let body: Result<Body<'_>, _> = read(&request.body);
        let frame = Frame::named(match (kind.as_str(), &body) {
            (PROMPT | TOOL_CALL, Ok(body)) if body.application() == Some(CONFIG_TEST) => CONFIG_TEST,
            (PROMPT, _) => PROMPT,
            (TOOL_CALL, _) => TOOL_CALL,
            _ => UNKNOWN,
        });
        let refuse = |reason: String| NormalizeError::in_frame(frame.clone(), reason);
        // What we do not know may have any shape.
        let body = if frame.name == UNKNOWN { body.unwrap_or_default() } else { body.map_err(refuse)? };
        let delivery = Delivery::new(&self.instance, delivery, kind, &body, request);
        let idempotency = delivery.id.clone();
        let events = match frame.name.as_str() {
            PROMPT => delivery.prompt(&body.messages.unwrap_or_default()),
            TOOL_CALL => delivery.tool_calls(&body.messages.unwrap_or_default()),
            CONFIG_TEST => Ok(vec![Event::Ping]),
            _ => Ok(vec![delivery.observation()]),
        };
        let events = events.map_err(|reason| refuse(reason.to_owned()))?;
        Ok(Normalized { events, frame, idempotency })
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        let refusal = said.iter().find(|said| said.expression.expressed != Expressed::Allow);
        let mut answer = match refusal {
            None if said.is_empty() => json!({"action": "deny", "deny_reason": "nothing was decided"}),
            None => json!({"action": "allow"}),
            Some(said) => json!({"action": "deny", "deny_reason": deny_reason(&said.expression.reason)}),
        };
        // It is kept with the vendor's own record of the denial, so that one leads to the other.
        if let Some(receipt) = refusal.and_then(|said| said.receipt_id.as_ref()) {
            answer["reference_id"] = json!(receipt);
        }
        Reply::json(&answer)
    }
}

fn deny_reason(text: &str) -> &str {
    let text = if text.trim().is_empty() { "denied" } else { text };
    parse::cut(text, DENY_REASON_CHARS_MAX)
}

/// What all events of one delivery have in common.
struct Delivery {
    /// What of the body has no place of its own, without the transcript.
    fields: Map<String, Value>,
    id: String,
    identity: Identity,
    /// `source.application`, whose tools the client's own tools are.
    product: String,
    session: SessionRef,
    source: Source,
    timestamp: Timestamp,
}

impl Delivery {
    fn new(instance: &str, id: &str, kind: String, body: &Body<'_>, request: &Inbound<Verified>) -> Self {
        let actor = body.actor.as_ref();
        let actor_id = actor.and_then(|actor| actor.id.clone());
        let is_user = actor.and_then(|actor| actor.kind.as_deref()).is_none_or(|kind| kind == "user");
        let human = match (&actor_id, actor.and_then(|actor| actor.email_address.clone())) {
            (Some(id), email) => Some(Human { email, id: id.clone(), name: None }),
            (None, email) => email.as_deref().map(parse::human),
        };
        // Without a session id at least what one person does is one session.
        let session =
            body.session_id.clone().or_else(|| actor_id.clone()).or_else(|| body.request_id.clone());
        let session = session.unwrap_or_else(|| id.to_owned());
        let product = body.application().unwrap_or(Anthropic::NAME).to_owned();
        let tenant = body.tenant_id.clone();
        Self {
            fields: other_fields(&request.body),
            id: id.to_owned(),
            session: SessionRef {
                id: SessionId::derived(&[instance, tenant.as_deref().unwrap_or_default(), &session]),
                turn: None,
                vendor_id: session,
            },
            identity: Identity {
                agent: Agent { id: product.clone(), kind: None, model: body.model.clone() },
                assurance: request.caller().assurance,
                human: human.filter(|_| is_user),
                service: actor_id.filter(|_| !is_user),
                tenant,
                verified_by: request.caller().verified_by.to_owned(),
                ..Identity::default()
            },
            product,
            source: Source {
                connector: instance.to_owned(),
                event: kind,
                vendor: Anthropic::NAME.to_owned(),
            },
            timestamp: request.received_at,
        }
    }

    /// Results of the last tool calls, then what the user asks now. Older messages were in earlier frames.
    fn prompt(self, messages: &[&RawValue]) -> Result<Vec<Event>, &'static str> {
        let tail = tail(messages)?;
        let results = tail.iter().flat_map(blocks).filter(|block| is(block, "tool_result"));
        let mut events: Vec<Event> =
            results.filter_map(|block| self.outcome(block)).map(Event::Outcome).collect();
        let mut asked = tail.iter().rev().filter(|message| text(message, "role") == Some("user"));
        events.extend(asked.find_map(|message| self.intent(message)).map(Event::Intent));
        if events.is_empty() {
            return Ok(vec![self.observation()]);
        }
        Ok(events)
    }

    fn outcome(&self, block: &Value) -> Option<Outcome> {
        let call = text(block, "tool_use_id")?;
        let output = block.get("content").unwrap_or(&Value::Null);
        let (output_sha256, output_bytes) = parse::output_digest(output);
        let failed = block.get("is_error").and_then(Value::as_bool) == Some(true);
        let error = output.as_str().filter(|_| failed);
        Some(Outcome {
            action_id: self.action_id(call),
            call_id: Some(call.to_owned()),
            duration_ms: None,
            error: error.map(|text| parse::cut(text, ERROR_CHARS_MAX).to_owned()),
            identity: self.identity.clone(),
            output: Some(output.clone()),
            output_bytes,
            output_sha256,
            session: self.session.clone(),
            source: self.source.clone(),
            status: if failed { OutcomeStatus::Failed } else { OutcomeStatus::Succeeded },
            timestamp: self.timestamp,
            tool: text(block, "tool_name").map(str::to_owned),
        })
    }

    /// Clients put text of their own in the user's place, alone or beside results of tools.
    fn intent(&self, message: &Value) -> Option<Intent> {
        let texts: Vec<&str> = blocks(message)
            .filter(|block| is(block, "text"))
            .filter_map(|block| text(block, "text"))
            .collect();
        let written: Vec<&str> =
            texts.iter().copied().filter(|text| !claude_code::is_machine_text(text)).collect();
        let by_human = !written.is_empty() && !blocks(message).any(|block| is(block, "tool_result"));
        let asked = if by_human { written } else { texts }.join("\n");
        (!asked.is_empty()).then(|| Intent {
            by_human,
            identity: self.identity.clone(),
            session: self.session.clone(),
            source: self.source.clone(),
            text: parse::cut(&asked, INTENT_CHARS_MAX).to_owned(),
            timestamp: self.timestamp,
        })
    }

    fn tool_calls(self, messages: &[&RawValue]) -> Result<Vec<Event>, &'static str> {
        let last = messages.last().and_then(|raw| value(raw)).ok_or("no readable message")?;
        let calls: Vec<&Value> = blocks(&last).filter(|block| is(block, "tool_use")).collect();
        if calls.is_empty() {
            return Err("no `tool_use` block in the last message");
        }
        let action =
            |(place, block): (usize, &&Value)| Ok(Event::Action(Box::new(self.action(place, block)?)));
        calls.iter().enumerate().map(action).collect()
    }

    fn action(&self, place: usize, block: &Value) -> Result<Action, &'static str> {
        let raw = text(block, "tool_name").filter(|name| !name.is_empty()).ok_or("a tool has no name")?;
        let parameters = match block.get("input") {
            Some(Value::Object(parameters)) => parameters.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err("`input` is not an object"),
        };
        let call_id = text(block, "id");
        // A call without an id is still one call of this delivery.
        let call = call_id.map_or_else(|| format!("{} {place}", self.id), str::to_owned);
        let info = Info(block.get("tool_info").unwrap_or(&Value::Null));
        let mut facets = Facets { external: info.is_external(raw).then_some(true), ..Facets::default() };
        if let Some(host) = info.host()
            && !facets.hosts.contains(&host)
        {
            facets.hosts.push(host);
        }
        let mut vendor_fields = self.fields.clone();
        for (key, field) in block.as_object().into_iter().flatten() {
            if !matches!(key.as_str(), "type" | "id" | "tool_name" | "input") {
                vendor_fields.insert(key.clone(), field.clone());
            }
        }
        Ok(Action {
            action_id: self.action_id(&call),
            call_id: call_id.map(str::to_owned),
            delivery_id: Some(self.id.clone()),
            effect: info.effect(raw),
            facets,
            identity: self.identity.clone(),
            operation: TOOL_CALL.to_owned(),
            parameters,
            risk_signals: Vec::new(),
            session: self.session.clone(),
            source: self.source.clone(),
            timestamp: self.timestamp,
            tool: info.tool(&self.product, raw),
            vendor_fields,
        })
    }

    fn observation(self) -> Event {
        Event::Observation(Observation {
            details: self.fields,
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        })
    }

    fn action_id(&self, call: &str) -> ActionId {
        Env::action_id(&self.source.connector, self.identity.tenant.as_deref(), &self.session.vendor_id, call)
    }
}

/// Messages behind the last one of the assistant: what happened since the model spoke.
fn tail(messages: &[&RawValue]) -> Result<Vec<Value>, &'static str> {
    let mut tail = Vec::new();
    for raw in messages.iter().rev() {
        let message = value(raw).ok_or("a message is not readable")?;
        if text(&message, "role") == Some("assistant") {
            break;
        }
        tail.push(message);
    }
    tail.reverse();
    Ok(tail)
}

fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
    message.get("content").and_then(Value::as_array).into_iter().flatten()
}

fn is(block: &Value, kind: &str) -> bool {
    text(block, "type") == Some(kind)
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    // serde's own message would repeat the content.
    serde_json::from_slice(body).map_err(|error| {
        format!("unreadable: {:?} error at line {} column {}", error.classify(), error.line(), error.column())
    })
}

/// `tool_info`: who runs the tool. New kinds may appear, and every key may be missing.
struct Info<'v>(&'v Value);

impl Info<'_> {
    fn kind(&self) -> Option<&str> {
        text(self.0, "type")
    }

    /// `web_search` of `web_search_20250305`.
    fn platform_tool(&self) -> Option<&str> {
        let versioned = text(self.0, "tool_type")?;
        versioned.rsplit_once('_').map(|(name, _)| name)
    }

    /// Where a third party's tool runs, as claimed; `verified_origin` beside it says whether Anthropic saw it.
    fn host(&self) -> Option<String> {
        let origin = Url::parse(text(self.0, "origin")?).ok()?;
        origin.host_str().map(str::to_ascii_lowercase)
    }

    fn tool(&self, product: &str, raw: &str) -> Tool {
        let product = if self.kind() == Some("platform") { Anthropic::NAME } else { product };
        let mut tool = naming::tool(product, raw);
        if self.kind() == Some("third_party") {
            "mcp".clone_into(&mut tool.namespace);
        }
        if tool.server.is_none() {
            tool.server = text(self.0, "toolset_name").map(str::to_owned);
        }
        if tool.server.is_none() && self.kind() == Some("third_party") {
            tool.server = self.host();
        }
        tool
    }

    fn effect(&self, raw: &str) -> Effect {
        match (self.kind(), self.platform_tool()) {
            (Some("platform" | "client"), Some("bash" | "code_execution")) => Effect::Execute,
            (Some("platform" | "client"), Some("memory" | "text_editor")) => Effect::Update,
            (Some("platform"), Some("web_fetch" | "web_search")) => Effect::Read,
            (Some("third_party"), _) => Effect::Invoke,
            _ => claude_code::effect_of(raw),
        }
    }

    fn is_external(&self, raw: &str) -> bool {
        match self.kind() {
            Some("third_party") => false,
            Some("platform") => matches!(self.platform_tool(), Some("web_fetch" | "web_search")),
            _ => claude_code::is_external(raw),
        }
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// What is read of a body. Every field may be null. Messages stay text until they are needed: a transcript can have
/// 64 MiB, and only its end matters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    actor: Option<Actor>,
    #[serde(borrow)]
    messages: Option<Vec<&'a RawValue>>,
    model: Option<String>,
    request_id: Option<String>,
    session_id: Option<String>,
    source: Option<Origin>,
    tenant_id: Option<String>,
}

impl Body<'_> {
    fn application(&self) -> Option<&str> {
        self.source.as_ref()?.application.as_deref()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Actor {
    email_address: Option<String>,
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Origin {
    application: Option<String>,
}

/// The fields that have no place of their own.
fn other_fields(body: &[u8]) -> Map<String, Value> {
    const PLACED: [&str; 6] = ["messages", "model", "request_id", "session_id", "tenant_id", "type"];
    let all: BTreeMap<String, &RawValue> = read(body).unwrap_or_default();
    let others = all.into_iter().filter(|(key, _)| !PLACED.contains(&key.as_str()));
    others.filter_map(|(key, raw)| Some((key, value(raw)?))).collect()
}
