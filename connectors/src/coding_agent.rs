//! What the clients of coding agents have in common: they prove themselves with a token of a device or team, nothing
//! is signed, and everything else they say is their word.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::dialect::Entry;
use countersign_sdk::schemas::{
    Action, ActionId, Agent, Assurance, Delegation, Effect, Facets, Identity, Intent, Observation, Outcome,
    OutcomeStatus, SessionBoundary, SessionId, SessionRef, Source, Timestamp, Tool,
};
use countersign_sdk::signature::Bearers;
use countersign_sdk::{
    Caller, ConnectError, Env, Inbound, NormalizeError, SecretRef, Site, Unverified, Verified, VerifyError,
    parse,
};
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A shorter token could be guessed over the network.
const TOKEN_BYTES_MIN: usize = 16;
/// Below this nothing is left for the decision once the margin is taken off; clients wait ten minutes at most.
const TIMEOUT_S: std::ops::RangeInclusive<u64> = 5..=600;
/// Longer reasons are cut: they go to a model, and some clients cut them anyway.
const REASON_CHARS_MAX: usize = 10_000;
/// The program and version that `countersign hook` found its event to come from.
const CLIENT_HEADER: &str = "x-countersign-client";

/// Settings of the connectors of coding agents.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bearer tokens by the name of the device or team that holds them, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// What ALLOW means to the client, where its dialect can tell the two apart.
    #[serde(default)]
    pub allow: AllowAs,
    /// How STEP_UP reaches a person.
    #[serde(default)]
    pub step_up: StepUpAs,
    /// How long the client, or `countersign hook` in its place, waits for an answer, in seconds, 5 to 600.
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
    /// Countersign's approvers answer a ticket; the agent is told to try again afterwards.
    #[default]
    Ticket,
    /// The client asks whoever sits before it. Headless, that is a refusal. Only where the client honours it.
    Ask,
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

/// What proves a client, and who it says it is.
pub(crate) struct Channel {
    /// What ALLOW means to the client.
    pub(crate) allow: AllowAs,
    /// How long the client waits.
    pub(crate) deadline: Duration,
    device_header: HeaderName,
    instance: String,
    product: &'static str,
    tokens: Bearers,
    user_header: HeaderName,
}

impl Channel {
    /// Checks the settings. `product` names the client, and its own tools; `asks` says whether it honours `ask`.
    pub(crate) fn new(
        settings: &Settings,
        env: &Env<'_>,
        product: &'static str,
        asks: bool,
    ) -> Result<Self, ConnectError> {
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
        if settings.step_up == StepUpAs::Ask && !asks {
            return Err(value("step_up", "must be `ticket`: this client does not stop at `ask`"));
        }
        let header = |key: &str, name: &str| {
            name.parse::<HeaderName>().map_err(|_| value(key, "is not a header name"))
        };
        Ok(Self {
            allow: settings.allow,
            deadline: Duration::from_secs(settings.timeout_s),
            device_header: header("device_header", &settings.device_header)?,
            instance: env.instance.to_owned(),
            product,
            tokens: Bearers::new(tokens),
            user_header: header("user_header", &settings.user_header)?,
        })
    }

    /// Whether ALLOW goes past the client's own prompt.
    pub(crate) fn grants(&self) -> bool {
        self.allow == AllowAs::Grant
    }

    /// Proves the channel: a bearer token.
    pub(crate) fn verify(&self, request: &Inbound<Unverified>) -> Result<Caller, VerifyError> {
        let name = self.tokens.check(request)?;
        Ok(Caller {
            assurance: Assurance::ClientAsserted,
            claims: Map::new(),
            name: Some(name.to_owned()),
            verified_by: "bearer-token",
        })
    }

    /// One request of the client; `body` is what is left of it.
    pub(crate) fn hook(&self, request: &Inbound<Verified>, said: Heading, body: Map<String, Value>) -> Hook {
        let header = |name: &str| request.header(name).filter(|value| !value.is_empty());
        let delegated = |(delegatee, delegator): (String, Option<String>)| Delegation {
            delegatee,
            delegator: delegator.unwrap_or_else(|| self.product.to_owned()),
            expires_at: None,
            issued_at: None,
            scope: Vec::new(),
        };
        let caller = request.caller();
        let human = header(self.user_header.as_str()).map(str::to_owned).or(said.user);
        let identity = Identity {
            // One id for the main agent and its subagents, so that one rule or one halt reaches them all.
            agent: Agent { id: self.product.to_owned(), kind: said.agent_kind, model: said.model },
            assurance: caller.assurance,
            delegation: said.subagent.map(delegated).into_iter().collect(),
            device: header(self.device_header.as_str()).map(str::to_owned),
            human: human.as_deref().map(parse::human),
            service: caller.name.clone(),
            verified_by: caller.verified_by.to_owned(),
            ..Identity::default()
        };
        let mut vendor_fields = body;
        if let Some(client) = header(CLIENT_HEADER) {
            vendor_fields.insert(CLIENT_HEADER.to_owned(), json!(client));
        }
        Hook {
            identity,
            session: SessionRef {
                id: SessionId::derived(&[&self.instance, "", &said.session]),
                turn: said.turn,
                vendor_id: said.session,
            },
            source: Source {
                connector: self.instance.clone(),
                event: said.event,
                vendor: self.product.to_owned(),
            },
            timestamp: request.received_at,
            body: vendor_fields,
        }
    }
}

/// What every event of a client says of itself.
#[derive(Default)]
pub(crate) struct Heading {
    /// The event's name.
    pub(crate) event: String,
    /// The client's id of the session.
    pub(crate) session: String,
    /// The turn within it.
    pub(crate) turn: Option<String>,
    /// A subagent's id, and whose it is.
    pub(crate) subagent: Option<(String, Option<String>)>,
    /// The kind of agent.
    pub(crate) agent_kind: Option<String>,
    /// The model.
    pub(crate) model: Option<String>,
    /// The person, as the body names them; a header wins.
    pub(crate) user: Option<String>,
}

/// Takes the first of `keys` that is a text, and not empty.
pub(crate) fn take(body: &mut Map<String, Value>, keys: &[&str]) -> Option<String> {
    let is_filled =
        |key: &&&str| body.get(**key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let key = keys.iter().find(is_filled)?;
    parse::take_string(body, key)
}

/// Takes the client's session id.
pub(crate) fn take_session(
    body: &mut Map<String, Value>,
    keys: &[&str],
    refuse: impl Fn(&str) -> NormalizeError,
) -> Result<String, NormalizeError> {
    take(body, keys).ok_or_else(|| refuse(&format!("`{}` is missing or not a text", keys.join("` or `"))))
}

/// The same for a repetition of a request and for no other: clients send no id of a delivery, and headers are not
/// signed, so it is a digest of event and body.
pub(crate) fn idempotency(event: &str, request: &Inbound<Verified>) -> String {
    parse::sha256_hex(parse::canonical(&json!([event, parse::sha256_hex(&request.body)])).as_bytes())
}

/// Never empty: without a reason some clients run the tool.
pub(crate) fn reason(text: &str) -> &str {
    let text = if text.trim().is_empty() { "denied" } else { text };
    parse::cut(text, REASON_CHARS_MAX)
}

/// A call of a tool.
pub(crate) struct Call {
    /// The client's id of it, where it has one.
    pub(crate) id: Option<String>,
    /// The tool, as the client spells it.
    pub(crate) tool: String,
    /// Its arguments.
    pub(crate) parameters: Map<String, Value>,
}

impl Call {
    /// Takes a call out of an event. Arguments that came as the text of a JSON object are read.
    pub(crate) fn take(
        body: &mut Map<String, Value>,
        tool_keys: &[&str],
        argument_keys: &[&str],
        id_key: &str,
    ) -> Result<Self, String> {
        let missing =
            |keys: &[&str], what: &str| format!("`{}` is missing or not {what}", keys.join("` or `"));
        let tool = take(body, tool_keys).ok_or_else(|| missing(tool_keys, "a text"))?;
        let given = argument_keys.iter().find_map(|key| body.shift_remove(*key));
        let parameters = match given {
            Some(Value::Object(parameters)) => parameters,
            Some(Value::String(text)) => parse::object(text.as_bytes())
                .map_err(|_| missing(argument_keys, "an object, nor the text of one"))?,
            _ => return Err(missing(argument_keys, "an object")),
        };
        Ok(Self { id: take(body, &[id_key]), tool, parameters })
    }

    /// What joins the question and the report. Without an id it is what is called with what, so equal calls of one
    /// session are one action: the report belongs to the last of them.
    fn key(&self) -> String {
        match &self.id {
            Some(id) => id.clone(),
            None => parse::sha256_hex(parse::canonical(&json!([self.tool, self.parameters])).as_bytes()),
        }
    }
}

/// How a call ended.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) duration_ms: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) interrupted: bool,
    pub(crate) failed: bool,
    pub(crate) output: Value,
}

/// One request: what all events have in common is taken out of `body`, the rest is still in it.
pub(crate) struct Hook {
    pub(crate) body: Map<String, Value>,
    pub(crate) identity: Identity,
    pub(crate) session: SessionRef,
    pub(crate) source: Source,
    pub(crate) timestamp: Timestamp,
}

impl Hook {
    pub(crate) fn action(self, call: Call, effect: Effect, tool: Tool) -> Action {
        Action {
            action_id: self.action_id(&call),
            call_id: call.id,
            delivery_id: None,
            effect,
            facets: Facets::default(),
            operation: self.source.event.clone(),
            parameters: call.parameters,
            risk_signals: Vec::new(),
            tool,
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
            vendor_fields: self.body,
        }
    }

    pub(crate) fn outcome(self, call: Call, ended: Ended) -> Outcome {
        let (output_sha256, output_bytes) = parse::output_digest(&ended.output);
        let status = if ended.interrupted {
            OutcomeStatus::Interrupted
        } else if ended.failed || ended.error.is_some() {
            OutcomeStatus::Failed
        } else {
            OutcomeStatus::Succeeded
        };
        Outcome {
            action_id: self.action_id(&call),
            call_id: call.id,
            duration_ms: ended.duration_ms,
            error: ended.error,
            output: Some(ended.output),
            output_bytes,
            output_sha256,
            status,
            tool: Some(call.tool),
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        }
    }

    pub(crate) fn intent(self, text: String, by_human: bool) -> Intent {
        Intent {
            by_human,
            text,
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        }
    }

    pub(crate) fn boundary(mut self, reason_key: &str) -> SessionBoundary {
        SessionBoundary {
            reason: parse::take_string(&mut self.body, reason_key),
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        }
    }

    pub(crate) fn observation(self) -> Observation {
        Observation {
            details: self.body,
            identity: self.identity,
            session: self.session,
            source: self.source,
            timestamp: self.timestamp,
        }
    }

    fn action_id(&self, call: &Call) -> ActionId {
        Env::action_id(&self.source.connector, None, &self.session.vendor_id, &call.key())
    }
}

/// The steps that are the same for every client whose hooks run `countersign hook`, then `more` as further steps.
pub(crate) fn setup(site: &Site, name: &str, where_to: &str, more: &[&str]) -> String {
    let mut steps = vec![
        format!(
            "Make one token for each device or team (`openssl rand -base64 32`) and name it under `tokens` of connector \
             `{}`, whose hooks come to {}.",
            site.instance,
            site.hook_url()
        ),
        "Put the program `countersign` on the device, and the token into a file there that only its user can read."
            .to_owned(),
        format!(
            "On the device: `countersign hook install {name} --url {} --token-file FILE{}`{}. `--dry-run` prints what \
             it would write: {where_to}.",
            site.public_url,
            if site.instance == name { String::new() } else { format!(" --instance {}", site.instance) },
            ", as root with `--scope system` where the client has such a place",
        ),
        format!(
            "`countersign hook status {name}` says whether the hooks are in force, and which files could switch them off."
        ),
        "Let the agent run `true` and find the receipt with `countersign receipt list`. Stop Countersign for a moment \
         and try again: the tool must be refused."
            .to_owned(),
    ];
    steps.extend(more.iter().map(|step| (*step).to_owned()));
    let numbered = steps.iter().enumerate().map(|(at, step)| format!("{}. {step}\n", at + 1));
    numbered.collect()
}

/// An entry of a `hooks` list in the form that Claude Code brought up and others read: a matcher and its commands.
pub(crate) fn grouped(entry: &Entry<'_>) -> Value {
    json!({
        "matcher": "*",
        "hooks": [{"type": "command", "command": entry.command, "timeout": entry.timeout_s}],
    })
}
