//! Claude Code's HTTP hooks.
//!
//! Source: Anthropic, "Hooks reference" (Claude Code 2.1.240, read 2026-11-23), and requests and reactions recorded
//! from Claude Code 2.1.330. Nothing is signed: a bearer token proves the channel, everything else is the client's
//! word.

mod setup;

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::schemas::{
    Action, ActionId, Agent, Assurance, Delegation, Effect, Event, Expressed, Facets, Identity, Intent,
    Observation, Outcome, OutcomeStatus, SessionBoundary, SessionId, SessionRef, Source, Timestamp, Verdict,
};
use countersign_sdk::signature::Bearers;
use countersign_sdk::{
    Caller, ConnectError, Connector, Dialect, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass,
    Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The client cuts strings of an answer here.
const REASON_CHARS_MAX: usize = 10_000;
/// A shorter token could be guessed over the network.
const TOKEN_BYTES_MIN: usize = 16;
/// Below this nothing is left for the decision once the margin is taken off; the client's default is the upper end.
const TIMEOUT_S: std::ops::RangeInclusive<u64> = 5..=600;
/// What a prompt begins with when the client wrote it, not the user.
const MACHINE_PROMPTS: [&str; 2] = ["<task-notification>", "<system-reminder>"];

const PRE_TOOL_USE: &str = "PreToolUse";
const PERMISSION_REQUEST: &str = "PermissionRequest";
const USER_PROMPT_SUBMIT: &str = "UserPromptSubmit";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";

/// Settings of a `claude-code` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bearer tokens by the name of the device or team that holds them, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// What ALLOW means to the client.
    #[serde(default)]
    pub allow: AllowAs,
    /// How STEP_UP reaches a person.
    #[serde(default)]
    pub step_up: StepUpAs,
    /// How DEFER waits.
    #[serde(default)]
    pub defer: DeferAs,
    /// The hook's `timeout` in the client's settings, in seconds, 5 to 600.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// Header with the person's id or e-mail address.
    #[serde(default = "default_user_header")]
    pub user_header: String,
    /// Header with the device's id.
    #[serde(default = "default_device_header")]
    pub device_header: String,
}

/// What ALLOW means to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllowAs {
    /// No objection: the client's own permission rules and prompts still apply.
    #[default]
    NoObjection,
    /// Permission: the tool runs without the client's own prompt.
    Grant,
}

/// How STEP_UP reaches a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepUpAs {
    /// The call is kept waiting for Countersign's approvers, up to `timeout_s`; after that as `ticket`.
    #[default]
    Hold,
    /// Countersign's approvers answer a ticket; the agent is told to try again afterwards.
    Ticket,
    /// The client asks whoever sits before it. Headless, that is a refusal.
    Ask,
}

/// How DEFER waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeferAs {
    /// Refused with a ticket; the agent is told to try again afterwards.
    #[default]
    Ticket,
    /// The client ends and `--resume` asks again. Only for headless use with one tool call a turn: elsewhere the
    /// client ignores it and falls back to its own permission rules.
    Native,
}

fn default_timeout_s() -> u64 {
    30
}

fn default_user_header() -> String {
    "x-countersign-user".to_owned()
}

fn default_device_header() -> String {
    "x-countersign-device".to_owned()
}

/// The connector.
pub struct ClaudeCode;

impl Connector for ClaudeCode {
    const NAME: &'static str = "claude-code";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Anthropic Claude Code (HTTP hooks)",
            class: GateClass::Sync,
            vendor_window_ms: 600_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "`onFailure: \"block\"` on every gating hook, in managed settings, with \
                            `requiredMinimumVersion` 2.1.295",
            frames: frames(AllowAs::Grant, StepUpAs::Ask, DeferAs::Native),
            result_feed: "PostToolUse and PostToolUseFailure hooks; PostToolBatch lists also calls that had no hook",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "event, session, call id, and digest of tool and arguments",
            verified: Evidence::Capture,
            limits: vec![
                "clients older than 2.1.295 ignore `onFailure`: there every failed hook lets the tool run",
                "whoever can write a settings file that the client reads can switch unmanaged hooks off within the \
                 session; deploy them as managed settings",
                "calls that the client refuses itself are not asked about; they show up in PostToolBatch only",
                "`@file` mentions in prompts are read without a hook",
                "SessionStart is not sent over HTTP",
                "events that this version does not know are recorded and not decided",
                "a shell command can do what no facet shows; `commands` lists program names without reading quotes",
                "ALLOW never overrides the client's own deny and ask rules",
                "`continue: false` and top-level decisions do not stop a tool; they are never used",
                "PermissionRequest names no call, so equal requests in one prompt are one action",
                "a private certificate authority needs NODE_EXTRA_CA_CERTS, or every hook fails",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        let configured = Settings::deserialize(&site.settings).ok();
        setup::text(site, configured.as_ref())
    }

    fn dialect() -> Option<Dialect> {
        Some(setup::DIALECT)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let value = |key: &str, problem: &str| ConnectError::Value {
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        if settings.tokens.is_empty() {
            return Err(value("tokens", "give at least one, as name = { env = \"VARIABLE\" }"));
        }
        let mut tokens = Vec::with_capacity(settings.tokens.len());
        for (name, reference) in &settings.tokens {
            let key = format!("tokens.{name}");
            let token = env.secret(&key, reference)?;
            if token.expose().len() < TOKEN_BYTES_MIN {
                return Err(value(&key, "is shorter than 16 bytes"));
            }
            tokens.push((name.clone(), token));
        }
        if !TIMEOUT_S.contains(&settings.timeout_s) {
            return Err(value("timeout_s", "must be from 5 to 600 seconds"));
        }
        let header = |key: &str, name: &str| {
            name.parse::<HeaderName>().map_err(|_| value(key, "is not a header name"))
        };
        let gate = Hooks {
            allow: settings.allow,
            device_header: header("device_header", &settings.device_header)?,
            instance: env.instance.to_owned(),
            tokens: Bearers::new(tokens),
            user_header: header("user_header", &settings.user_header)?,
        };
        Ok(Parts {
            deadline: Duration::from_secs(settings.timeout_s),
            frames: frames(settings.allow, settings.step_up, settings.defer),
            gate: Box::new(gate),
            held: None,
        })
    }
}

fn frames(allow: AllowAs, step_up: StepUpAs, defer: DeferAs) -> Vec<FrameSpec> {
    let mut use_native = vec![Verdict::Allow, Verdict::Modify];
    use_native.extend((step_up == StepUpAs::Ask).then_some(Verdict::StepUp));
    use_native.extend((defer == DeferAs::Native).then_some(Verdict::Defer));
    // Here the input can be changed only by granting the call.
    let mut request_native = vec![Verdict::Allow];
    request_native.extend((allow == AllowAs::Grant).then_some(Verdict::Modify));
    let holds = step_up == StepUpAs::Hold;
    vec![
        FrameSpec { holds, ..FrameSpec::gate(PRE_TOOL_USE, &use_native) },
        FrameSpec { holds, ..FrameSpec::gate(PERMISSION_REQUEST, &request_native) },
        FrameSpec::gate(USER_PROMPT_SUBMIT, &[Verdict::Allow]),
        FrameSpec::notice(OTHER),
    ]
}

/// The effect of the client's own tools. MCP tools are not in it: nobody but a catalogue knows what they do.
pub(crate) fn effect_of(tool: &str) -> Effect {
    match tool {
        "Bash" | "PowerShell" => Effect::Execute,
        "Write" => Effect::Create,
        "Edit" | "MultiEdit" | "NotebookEdit" => Effect::Update,
        "Glob" | "LS" => Effect::List,
        "Grep" | "NotebookRead" | "Read" | "WebFetch" | "WebSearch" => Effect::Read,
        _ => Effect::Invoke,
    }
}

/// Whether a tool of the client talks to the open internet.
pub(crate) fn is_external(tool: &str) -> bool {
    matches!(tool, "WebFetch" | "WebSearch")
}

/// Whether the client wrote this text in the user's place.
pub(crate) fn is_machine_text(text: &str) -> bool {
    MACHINE_PROMPTS.iter().any(|tag| text.trim_start().starts_with(tag))
}

/// The gate.
struct Hooks {
    allow: AllowAs,
    device_header: HeaderName,
    instance: String,
    tokens: Bearers,
    user_header: HeaderName,
}

impl Gate for Hooks {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        let name = self.tokens.check(request)?;
        Ok(Caller {
            assurance: Assurance::ClientAsserted,
            claims: Map::new(),
            name: Some(name.to_owned()),
            verified_by: "bearer-token",
        })
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let mut body = parse::object(&request.body)?;
        let event = parse::take_string(&mut body, "hook_event_name")
            .ok_or_else(|| NormalizeError::unreadable("`hook_event_name` is missing or not a text"))?;
        let frame = frame_of(&event);
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let session = parse::take_string(&mut body, "session_id")
            .filter(|session| !session.is_empty())
            .ok_or_else(|| refuse("`session_id` is missing or not a text"))?;
        let hook = self.hook(request, event, session, body);
        let idempotency = hook.idempotency(request);
        let events = match hook.source.event.as_str() {
            PRE_TOOL_USE | PERMISSION_REQUEST => {
                vec![Event::Action(Box::new(hook.action().map_err(refuse)?))]
            }
            USER_PROMPT_SUBMIT => vec![Event::Intent(hook.intent().map_err(refuse)?)],
            "PostToolUse" => vec![Event::Outcome(hook.outcome("tool_response").map_err(refuse)?)],
            "PostToolUseFailure" => vec![Event::Outcome(hook.outcome("error").map_err(refuse)?)],
            "SessionStart" => vec![Event::SessionStart(hook.boundary("source"))],
            "SessionEnd" => vec![Event::SessionEnd(hook.boundary("reason"))],
            _ => vec![Event::Observation(hook.observation())],
        };
        Ok(Normalized { events, frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let Some(said) = said.first() else { return Reply::json(&block("nothing was decided")) };
        let body = match frame.name.as_str() {
            PRE_TOOL_USE => self.pre_tool_use(said),
            PERMISSION_REQUEST => self.permission_request(said),
            USER_PROMPT_SUBMIT if said.expression.expressed == Expressed::Allow => json!({}),
            OTHER => json!({}),
            // Also what could not be read: the one form that stops a tool in every set-up that was tried.
            _ => block(&said.expression.reason),
        };
        Reply::json(&body)
    }
}

impl Hooks {
    fn hook(
        &self,
        request: &Inbound<Verified>,
        event: String,
        session: String,
        mut body: Map<String, Value>,
    ) -> Hook {
        let agent = parse::take_string(&mut body, "agent_id");
        let delegated = |delegatee| Delegation {
            delegatee,
            delegator: ClaudeCode::NAME.to_owned(),
            expires_at: None,
            issued_at: None,
            scope: Vec::new(),
        };
        let header = |name: &HeaderName| request.header(name.as_str()).filter(|value| !value.is_empty());
        let caller = request.caller();
        let identity = Identity {
            // One id for the main agent and its subagents, so that one rule or one halt reaches them all.
            agent: Agent {
                id: ClaudeCode::NAME.to_owned(),
                kind: parse::take_string(&mut body, "agent_type"),
                model: parse::take_string(&mut body, "model"),
            },
            assurance: caller.assurance,
            delegation: agent.map(delegated).into_iter().collect(),
            device: header(&self.device_header).map(str::to_owned),
            human: header(&self.user_header).map(parse::human),
            service: caller.name.clone(),
            verified_by: caller.verified_by.to_owned(),
            ..Identity::default()
        };
        Hook {
            identity,
            session: SessionRef {
                id: SessionId::derived(&[&self.instance, "", &session]),
                turn: parse::take_string(&mut body, "prompt_id"),
                vendor_id: session,
            },
            source: Source { connector: self.instance.clone(), event, vendor: ClaudeCode::NAME.to_owned() },
            timestamp: request.received_at,
            body,
        }
    }

    fn pre_tool_use(&self, said: &Said<'_>) -> Value {
        let reason = reason(&said.expression.reason);
        let decision = |word: &str| json!({"permissionDecision": word, "permissionDecisionReason": reason});
        let granted = self.allow == AllowAs::Grant;
        let specific = match (said.expression.expressed, &said.modified) {
            (Expressed::Allow, _) if !granted => return json!({}),
            (Expressed::Allow, _) => decision("allow"),
            // The whole input; without a decision the client's own rules then apply to the changed call.
            (Expressed::Modify, Some(input)) if !granted => json!({"updatedInput": input}),
            (Expressed::Modify, Some(input)) => {
                let mut answer = decision("allow");
                answer["updatedInput"] = json!(input);
                answer
            }
            (Expressed::StepUp, _) => decision("ask"),
            (Expressed::Defer, _) => decision("defer"),
            (Expressed::Deny | Expressed::Held | Expressed::Modify, _) => decision("deny"),
        };
        hook_specific(PRE_TOOL_USE, specific)
    }

    fn permission_request(&self, said: &Said<'_>) -> Value {
        let granted = self.allow == AllowAs::Grant;
        let decision = match (said.expression.expressed, &said.modified) {
            (Expressed::Allow, _) if !granted => return json!({}),
            (Expressed::Allow, _) => json!({"behavior": "allow"}),
            (Expressed::Modify, Some(input)) if granted => {
                json!({"behavior": "allow", "updatedInput": input})
            }
            _ => json!({"behavior": "deny", "message": reason(&said.expression.reason)}),
        };
        hook_specific(PERMISSION_REQUEST, json!({"decision": decision}))
    }
}

fn frame_of(event: &str) -> Frame {
    match event {
        PRE_TOOL_USE | PERMISSION_REQUEST | USER_PROMPT_SUBMIT => Frame::named(event),
        _ => Frame::named(OTHER),
    }
}

fn hook_specific(event: &str, fields: Value) -> Value {
    let mut specific = json!({"hookEventName": event});
    if let (Value::Object(all), Value::Object(fields)) = (&mut specific, fields) {
        all.extend(fields);
    }
    json!({"hookSpecificOutput": specific})
}

fn block(text: &str) -> Value {
    json!({"decision": "block", "reason": reason(text)})
}

/// Never empty: without a reason some clients that read this dialect run the tool.
fn reason(text: &str) -> &str {
    let text = if text.trim().is_empty() { "denied" } else { text };
    parse::cut(text, REASON_CHARS_MAX)
}

/// One hook request: what all events have in common is taken out of `body`, the rest is still in it.
struct Hook {
    body: Map<String, Value>,
    identity: Identity,
    session: SessionRef,
    source: Source,
    timestamp: Timestamp,
}

impl Hook {
    /// No delivery has an id, and headers are not signed: so the ids of the body, and a digest of what is asked.
    fn idempotency(&self, request: &Inbound<Verified>) -> String {
        let asked = match self.body.get("tool_input") {
            Some(input) => parse::canonical(&json!([self.body.get("tool_name"), input])),
            None => parse::sha256_hex(&request.body),
        };
        let ids = json!([
            self.source.event,
            self.session.vendor_id,
            self.session.turn,
            self.body.get("tool_use_id"),
            self.identity.delegation.first().map(|link| &link.delegatee),
            parse::sha256_hex(asked.as_bytes()),
        ]);
        parse::sha256_hex(parse::canonical(&ids).as_bytes())
    }

    fn action(mut self) -> Result<Action, &'static str> {
        let raw = parse::take_string(&mut self.body, "tool_name")
            .filter(|name| !name.is_empty())
            .ok_or("`tool_name` is missing or not a text")?;
        let parameters = match self.body.shift_remove("tool_input") {
            Some(Value::Object(parameters)) => parameters,
            _ => return Err("`tool_input` is missing or not an object"),
        };
        let call_id = parse::take_string(&mut self.body, "tool_use_id");
        let call = match &call_id {
            Some(call) => call.clone(),
            None if self.source.event == PERMISSION_REQUEST => self.unnamed_call(&raw, &parameters),
            None => return Err("`tool_use_id` is missing or not a text"),
        };
        let facets = Facets { external: is_external(&raw).then_some(true), ..Facets::default() };
        Ok(Action {
            action_id: self.action_id(&call),
            call_id,
            delivery_id: None,
            effect: effect_of(&raw),
            facets,
            operation: self.source.event.clone(),
            parameters,
            risk_signals: Vec::new(),
            tool: naming::tool(ClaudeCode::NAME, &raw),
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
            vendor_fields: self.body,
        })
    }

    fn outcome(mut self, output_key: &str) -> Result<Outcome, &'static str> {
        let call = parse::take_string(&mut self.body, "tool_use_id")
            .ok_or("`tool_use_id` is missing or not a text")?;
        let output = self.body.get(output_key).unwrap_or(&Value::Null);
        let (output_sha256, output_bytes) = parse::output_digest(output);
        let is_true = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
        let error = self.body.get("error").and_then(Value::as_str).map(str::to_owned);
        let status = if is_true(self.body.get("is_interrupt")) || is_true(output.get("interrupted")) {
            OutcomeStatus::Interrupted
        } else if error.is_some() {
            OutcomeStatus::Failed
        } else {
            OutcomeStatus::Succeeded
        };
        Ok(Outcome {
            action_id: self.action_id(&call),
            call_id: Some(call),
            duration_ms: self.body.get("duration_ms").and_then(Value::as_u64),
            error,
            output: Some(output.clone()),
            output_bytes,
            output_sha256,
            status,
            tool: parse::take_string(&mut self.body, "tool_name"),
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        })
    }

    fn intent(mut self) -> Result<Intent, &'static str> {
        let text = parse::take_string(&mut self.body, "prompt").ok_or("`prompt` is missing or not a text")?;
        Ok(Intent {
            by_human: !is_machine_text(&text),
            text,
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        })
    }

    fn boundary(mut self, reason_key: &str) -> SessionBoundary {
        SessionBoundary {
            reason: parse::take_string(&mut self.body, reason_key),
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        }
    }

    /// PostToolBatch repeats the outputs of calls that had hooks of their own, and lists those that had none: their
    /// ids and arguments are kept, their outputs digested. No outcome is made of it, or each would count twice.
    fn observation(mut self) -> Observation {
        if let Some(Value::Array(calls)) = self.body.get_mut("tool_calls") {
            for output in calls.iter_mut().filter_map(|call| call.get_mut("tool_response")) {
                let (sha256, bytes) = parse::output_digest(output);
                *output = json!({"sha256": sha256, "bytes": bytes});
            }
        }
        Observation {
            details: self.body,
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        }
    }

    fn action_id(&self, call: &str) -> ActionId {
        Env::action_id(&self.source.connector, None, &self.session.vendor_id, call)
    }

    /// A permission request names no call: the same question in the same prompt is the same action.
    fn unnamed_call(&self, tool: &str, parameters: &Map<String, Value>) -> String {
        let asked = json!([PERMISSION_REQUEST, self.session.turn, tool, parameters]);
        parse::sha256_hex(parse::canonical(&asked).as_bytes())
    }
}
