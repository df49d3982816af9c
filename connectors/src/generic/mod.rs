//! Our own hook, for any platform: the contract of `docs/reference/generic-hook.md`. All five decisions are native, and
//! a client that cannot keep a connection open asks for a callback instead.

mod callback;
mod contract;

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::schemas::{
    Action, Agent, Assurance, Event, Expressed, Expression, Facets, Human, Identity, Intent, Outcome,
    SessionBoundary, SessionId, SessionRef, Source, Timestamp, Tool, Verdict,
};
use countersign_sdk::signature::{self, Bearers};
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use callback::{Destinations, Outlet};
pub use contract::{
    GenericAgent, GenericAnswer, GenericDelegation, GenericFacets, GenericHuman, GenericKind, GenericRequest,
    GenericSession, GenericTool, schemas,
};

/// Below this nothing is left for the decision; above it connections are cut by whatever is on the way.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 500..=600_000;
/// A shorter token could be guessed over the network.
const TOKEN_BYTES_MIN: usize = 16;
/// A reason is for people: nobody reads more, and agents pay for every word.
const REASON_CHARS_MAX: usize = 4_096;
/// Frame of an action whose decision is sent later.
const HELD: &str = "action_held";
/// Where an action keeps the URL that it asked to be called back on.
const CALLBACK_URL: &str = "callback_url";

/// Settings of a `generic` connector. At least one of `secrets` and `tokens` must be given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Standard Webhooks secrets (`whsec_` and base64) that clients sign requests with; two during a rotation.
    #[serde(default)]
    pub secrets: Vec<SecretRef>,
    /// Bearer tokens by the name of the service that holds them, each at least 16 bytes, for clients that cannot sign.
    #[serde(default)]
    pub tokens: BTreeMap<String, SecretRef>,
    /// How long clients wait for the answer, in milliseconds, 500 to 600000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// How decisions are sent later. Without it, requests with a `callback_url` are denied.
    #[serde(default)]
    pub callback: Option<CallbackSettings>,
}

/// How decisions are sent later.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackSettings {
    /// Standard Webhooks secret (`whsec_` and base64) that callbacks are signed with.
    pub secret: SecretRef,
    /// Where callbacks may go: a request's `callback_url` must be one of these URLs or lie below one. Their hosts must
    /// be in `[egress] allow_hosts` too.
    pub urls: Vec<String>,
    /// OAuth 2.0 client credentials, when the callback's receiver wants a bearer token.
    #[serde(default)]
    pub oauth: Option<OauthSettings>,
}

/// OAuth 2.0 client credentials (RFC 6749 section 4.4).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthSettings {
    /// The authorization server's token endpoint.
    pub token_url: String,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there.
    pub client_secret: SecretRef,
    /// Scopes to ask for, separated by spaces; the server's default if absent.
    #[serde(default)]
    pub scope: Option<String>,
}

fn default_timeout_ms() -> u64 {
    5_000
}

/// The connector.
pub struct Generic;

impl Connector for Generic {
    const NAME: &'static str = "generic";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Any platform, by Countersign's own contract",
            class: GateClass::SyncOrHeld,
            vendor_window_ms: default_timeout_ms(),
            margin_ms: 250,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "the contract: without a valid answer in time, the client must not act",
            frames: frames(true),
            result_feed: "`outcome` requests",
            authentication: "Standard Webhooks signature, or a static bearer token",
            assurance: Assurance::VendorSigned,
            idempotency: "type, caller and `id`",
            verified: Evidence::VendorDocs,
            limits: vec![
                "the client is trusted to ask before it acts, and not to act without ALLOW or MODIFY",
                "with a bearer token nothing is signed: who holds the token can claim any identity",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(site)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        if settings.secrets.is_empty() && settings.tokens.is_empty() {
            return Err(value("secrets", "give at least one of `secrets` and `tokens`"));
        }
        if !TIMEOUT_MS.contains(&settings.timeout_ms) {
            return Err(value("timeout_ms", "must be from 500 to 600000 milliseconds"));
        }
        let mut keys = Vec::with_capacity(settings.secrets.len());
        for (at, reference) in settings.secrets.iter().enumerate() {
            keys.push(webhook_key(env, &format!("secrets[{at}]"), reference)?);
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
        let outlet = settings.callback.map(|callback| Outlet::connect(callback, env)).transpose()?;
        let gate = Hook {
            destinations: outlet.as_ref().map(|outlet| outlet.destinations().clone()),
            instance: env.instance.to_owned(),
            keys,
            tokens: Bearers::new(tokens),
        };
        Ok(Parts {
            deadline: Duration::from_millis(settings.timeout_ms),
            frames: frames(outlet.is_some()),
            gate: Box::new(gate),
            held: outlet.map(|outlet| Box::new(outlet) as _),
        })
    }
}

fn frames(held: bool) -> Vec<FrameSpec> {
    use Verdict::{Allow, Defer, Modify, StepUp};
    let mut frames = vec![
        FrameSpec::gate(GenericKind::Action.as_str(), &[Allow, Modify, StepUp, Defer]),
        FrameSpec::notice(GenericKind::Outcome.as_str()),
        FrameSpec::notice(GenericKind::Intent.as_str()),
        FrameSpec::notice(GenericKind::SessionEnd.as_str()),
    ];
    // Not MODIFY: the service owes a callback for what it settles as ALLOW or DENY.
    frames.extend(held.then(|| FrameSpec { held: true, ..FrameSpec::gate(HELD, &[Allow]) }));
    frames
}

fn value(key: &str, problem: impl Into<String>) -> ConnectError {
    ConnectError::Value { key: key.to_owned(), problem: problem.into() }
}

fn webhook_key(env: &Env<'_>, key: &str, reference: &SecretRef) -> Result<Vec<u8>, ConnectError> {
    signature::standard_webhooks_key(&env.secret(key, reference)?).map_err(|problem| value(key, problem))
}

/// The gate.
struct Hook {
    /// Where callbacks may go, if they are configured.
    destinations: Option<Destinations>,
    instance: String,
    keys: Vec<Vec<u8>>,
    tokens: Bearers,
}

impl Gate for Hook {
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        // A signature that can be checked must be right, whatever else is sent.
        let signed = self.tokens.is_empty() || request.headers.contains_key("webhook-signature");
        if signed && !self.keys.is_empty() {
            signature::standard_webhooks(request, &self.keys, now)?;
            return Ok(Caller {
                assurance: Assurance::VendorSigned,
                verified_by: "standard-webhooks",
                ..Caller::default()
            });
        }
        let name = self.tokens.check(request)?;
        Ok(Caller {
            assurance: Assurance::ClientAsserted,
            name: Some(name.to_owned()),
            verified_by: "bearer-token",
            ..Caller::default()
        })
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let (frame, read) = match serde_json::from_slice::<GenericRequest>(&request.body) {
            Ok(read) => (Frame::named(read.kind.as_str()), read.checked()),
            // Once more, slowly, for what is wrong with it.
            Err(_) => {
                let body = parse::object(&request.body)?;
                let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
                // A type that we do not know may be something that waits for our answer.
                let kind = [GenericKind::Outcome, GenericKind::Intent, GenericKind::SessionEnd]
                    .into_iter()
                    .find(|known| known.as_str() == kind)
                    .unwrap_or(GenericKind::Action);
                (Frame::named(kind.as_str()), GenericRequest::read(body))
            }
        };
        let refuse = |reason: String| NormalizeError::in_frame(frame.clone(), reason);
        let read = read.map_err(refuse)?;
        let idempotency = parse::canonical(&json!([read.kind, request.caller().name, read.id]));
        let held = read.kind == GenericKind::Action && read.callback_url.is_some();
        let event = self.event(request, read).map_err(refuse)?;
        let frame = if held { Frame::named(HELD) } else { frame };
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let Some(said) = said.first() else {
            return reply(200, &GenericAnswer::refusal("nothing was decided"));
        };
        // Without an action there is nothing that we could call back about: the answer is final.
        if frame.name == HELD && said.action.is_some() {
            let expression = Expression { expressed: Expressed::Held, ..said.expression.clone() };
            return reply(202, &GenericAnswer::of(&Said { expression, modified: None, ..said.clone() }));
        }
        reply(200, &GenericAnswer::of(said))
    }
}

fn reply(status: u16, answer: &GenericAnswer) -> Reply {
    Reply::json_with_status(status, &json!(answer))
}

impl GenericAnswer {
    fn refusal(reason: &str) -> Self {
        Self {
            id: None,
            decision: Expressed::Deny,
            reason: parse::cut(reason, REASON_CHARS_MAX).to_owned(),
            receipt_id: None,
            parameters: None,
            ticket: None,
            retry: None,
        }
    }

    fn of(said: &Said<'_>) -> Self {
        let expressed = said.expression.expressed;
        let refusal = Self {
            receipt_id: said.receipt_id.clone(),
            ticket: said.ticket.clone(),
            retry: (said.ticket.is_some() && expressed != Expressed::Held).then_some(true),
            ..Self::refusal(&said.expression.reason)
        };
        match (expressed, &said.modified) {
            // Parameters that are not there cannot replace the client's, and its own must not run.
            (Expressed::Modify, None) => refusal,
            (Expressed::Modify, parameters) => {
                Self { decision: expressed, parameters: parameters.clone(), ..refusal }
            }
            _ => Self { decision: expressed, ..refusal },
        }
    }
}

impl Hook {
    fn event(&self, request: &Inbound<Verified>, mut read: GenericRequest) -> Result<Event, String> {
        let identity = identity(request.caller(), &mut read);
        let tenant = read.tenant.as_deref().unwrap_or_default();
        let session = SessionRef {
            id: SessionId::derived(&[&self.instance, tenant, &read.session.id]),
            turn: read.session.turn.take(),
            vendor_id: read.session.id.clone(),
        };
        let source = Source {
            connector: self.instance.clone(),
            event: read.kind.as_str().to_owned(),
            vendor: Generic::NAME.to_owned(),
        };
        let timestamp = request.received_at;
        match read.kind {
            GenericKind::Action => self.action(read, identity, session, source, timestamp),
            GenericKind::Outcome => self.outcome(read, identity, session, source, timestamp),
            GenericKind::Intent => Ok(Event::Intent(Intent {
                identity,
                by_human: read.by_human.unwrap_or(true),
                session,
                source,
                text: read.text.ok_or("`text` is missing")?,
                timestamp,
            })),
            GenericKind::SessionEnd => Ok(Event::SessionEnd(SessionBoundary {
                identity,
                reason: read.reason,
                session,
                source,
                timestamp,
            })),
        }
    }

    fn action(
        &self,
        read: GenericRequest,
        identity: Identity,
        session: SessionRef,
        source: Source,
        timestamp: Timestamp,
    ) -> Result<Event, String> {
        let tool = read.tool.ok_or("`tool` is missing")?;
        let effect = read.effect.unwrap_or_default();
        let facets = Facets { labels: read.labels, ..read.facets.unwrap_or_default().into() };
        let mut vendor_fields = read.rest;
        if let Some(url) = read.callback_url {
            let destinations =
                self.destinations.as_ref().ok_or("`callback_url`: callbacks are not configured")?;
            destinations.check(&url)?;
            vendor_fields.insert(CALLBACK_URL.to_owned(), Value::String(url));
        }
        let call = read.call_id.as_deref().unwrap_or(&read.id);
        Ok(Event::Action(Box::new(Action {
            action_id: Env::action_id(&self.instance, read.tenant.as_deref(), &session.vendor_id, call),
            call_id: read.call_id,
            delivery_id: Some(read.id),
            effect,
            facets,
            identity,
            operation: read.operation.unwrap_or_else(|| effect.as_str().to_owned()),
            parameters: read.parameters,
            risk_signals: Vec::new(),
            session,
            source,
            timestamp,
            tool: canonical(tool),
            vendor_fields,
        })))
    }

    fn outcome(
        &self,
        read: GenericRequest,
        identity: Identity,
        session: SessionRef,
        source: Source,
        timestamp: Timestamp,
    ) -> Result<Event, String> {
        let call = read.call_id.ok_or("`call_id` is missing")?;
        let output = read.output.unwrap_or_else(|| Value::String(String::new()));
        let (output_sha256, output_bytes) = parse::output_digest(&output);
        Ok(Event::Outcome(Outcome {
            action_id: Env::action_id(&self.instance, read.tenant.as_deref(), &session.vendor_id, &call),
            call_id: Some(call),
            duration_ms: read.duration_ms,
            error: read.error,
            identity,
            output: Some(output),
            output_bytes,
            output_sha256,
            session,
            source,
            status: read.status.ok_or("`status` is missing")?,
            timestamp,
            tool: read.tool.map(|tool| tool.name),
        }))
    }
}

fn identity(caller: &Caller, read: &mut GenericRequest) -> Identity {
    let human = read.human.take().map(|claim| {
        let Human { id, email, .. } = parse::human(&claim.id);
        Human { email: claim.email.or(email), id, name: claim.name }
    });
    let GenericAgent { id, kind, model } = read.agent.clone();
    Identity {
        agent: Agent { id, kind, model },
        assurance: caller.assurance,
        delegation: std::mem::take(&mut read.delegation).into_iter().map(Into::into).collect(),
        human,
        service: caller.name.clone(),
        tenant: read.tenant.clone(),
        verified_by: caller.verified_by.to_owned(),
        ..Identity::default()
    }
}

fn canonical(tool: GenericTool) -> Tool {
    let GenericTool { name, server, namespace } = tool;
    if server.is_none() && namespace.is_none() {
        return naming::tool(Generic::NAME, &name);
    }
    let default = if server.is_some() { "mcp" } else { Generic::NAME };
    let namespace = namespace.unwrap_or_else(|| default.to_owned());
    Tool { raw: name.clone(), name, namespace, server }
}

fn setup(site: &Site) -> String {
    let url = site.hook_url();
    let instance = &site.instance;
    format!(
        "1. Make a secret and give it to both sides: `echo \"whsec_$(openssl rand -base64 32)\"`. In the configuration, \
         refer to it as `secrets = [{{ env = \"...\" }}]` under `[connectors.{instance}]`. A client that cannot sign may \
         use a bearer token from `tokens` instead; its claims are then only its own word.\n\
         2. Before each action, let the client `POST` the request of the contract to `{url}` as JSON, signed by Standard \
         Webhooks 1.0.0 (https://www.standardwebhooks.com).\n\
         3. Act only on `ALLOW`, or on `MODIFY` with the answer's `parameters`. Do not act on any other decision, on any \
         other status, on an unreadable answer, or when `timeout_ms` has passed without one.\n\
         4. On `STEP_UP` and `DEFER`, send the same request again once the ticket is answered. A client that would rather \
         be called sends a `callback_url`; list it under `[connectors.{instance}.callback]` and in `[egress] allow_hosts`, \
         and verify the callback's signature.\n\
         5. After each action, report how it ended with an `outcome` request to the same URL.\n\n\
         The whole contract, with examples: `docs/reference/generic-hook.md`.\n"
    )
}

#[cfg(test)]
mod tests;
