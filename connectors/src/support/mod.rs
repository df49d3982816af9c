//! What several vendors have in common, so that each of their files says only what is its own: shared tokens, the parts
//! of an event, chat messages.

pub(crate) mod api;
pub(crate) mod chat;
pub(crate) mod forwarder;
pub(crate) mod gather;

use std::collections::BTreeMap;

use countersign_sdk::schemas::Assurance;
use countersign_sdk::schemas::{
    Action, Effect, Event, Facets, Identity, Intent, Observation, Outcome, OutcomeStatus, SessionId,
    SessionRef, Source, Timestamp, Tool,
};
use countersign_sdk::signature::{self, Bearers};
use countersign_sdk::{
    Caller, ConnectError, Env, Inbound, Secret, SecretRef, Unverified, Verified, VerifyError, parse,
};
use serde_json::{Map, Value};

/// A shorter token could be guessed over the network.
const TOKEN_BYTES_MIN: usize = 16;
/// A request longer than this is cut: policies compare what was asked, not what was pasted.
const INTENT_CHARS_MAX: usize = 65_536;
/// An error text longer than this is cut; the digest covers all of it.
const ERROR_CHARS_MAX: usize = 4_096;

/// A settings value that makes no sense.
pub(crate) fn wrong(key: &str, problem: impl Into<String>) -> ConnectError {
    ConnectError::Value { key: key.to_owned(), problem: problem.into() }
}

/// Tokens by the name of their holder, from the settings key `tokens`. None at all is an error: everybody could call.
pub(crate) fn bearers(env: &Env<'_>, tokens: &BTreeMap<String, SecretRef>) -> Result<Bearers, ConnectError> {
    if tokens.is_empty() {
        return Err(wrong("tokens", "give at least one, as NAME = { env = \"VARIABLE\" }"));
    }
    let mut read: Vec<(String, Secret)> = Vec::with_capacity(tokens.len());
    for (name, reference) in tokens {
        let key = format!("tokens.{name}");
        let token = env.secret(&key, reference)?;
        if token.expose().len() < TOKEN_BYTES_MIN {
            return Err(wrong(&key, "is shorter than 16 bytes"));
        }
        read.push((name.clone(), token));
    }
    Ok(Bearers::new(read))
}

/// The keys of Standard Webhooks secrets, from the settings key `secrets`: one, or two during a rotation.
pub(crate) fn webhook_keys(env: &Env<'_>, secrets: &[SecretRef]) -> Result<Vec<Vec<u8>>, ConnectError> {
    if !(1..=2).contains(&secrets.len()) {
        return Err(wrong("secrets", "give one secret, or two during a rotation"));
    }
    let key = |reference| {
        let secret = env.secret("secrets", reference)?;
        signature::standard_webhooks_key(&secret).map_err(|problem| wrong("secrets", problem))
    };
    secrets.iter().map(key).collect()
}

/// Who holds the token in `Authorization: Bearer`. Nothing but the token is proved: what the body says of identity is
/// the word of whoever holds it.
pub(crate) fn by_token(bearers: &Bearers, request: &Inbound<Unverified>) -> Result<Caller, VerifyError> {
    bearers.check(request).map(token_caller)
}

/// The holder of a token that was found to be right.
pub(crate) fn token_caller(name: &str) -> Caller {
    Caller {
        assurance: Assurance::ClientAsserted,
        name: Some(name.to_owned()),
        verified_by: "bearer-token",
        ..Caller::default()
    }
}

/// What all events of one delivery have in common.
pub(crate) struct Delivery {
    pub(crate) id: Option<String>,
    pub(crate) identity: Identity,
    pub(crate) session: SessionRef,
    pub(crate) source: Source,
    pub(crate) timestamp: Timestamp,
}

/// An action, as far as it differs from others of its delivery.
pub(crate) struct Call {
    /// The vendor's id of it, or what else tells it from every other of the session.
    pub(crate) id: String,
    /// Whether `id` is the vendor's.
    pub(crate) has_id: bool,
    pub(crate) effect: Effect,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) tool: Tool,
    /// Fields that have no place of their own.
    pub(crate) rest: Map<String, Value>,
}

impl Call {
    /// A call with the vendor's id and nothing else known.
    pub(crate) fn new(id: &str, tool: Tool, parameters: Map<String, Value>) -> Self {
        Self { id: id.to_owned(), has_id: true, effect: Effect::Invoke, parameters, tool, rest: Map::new() }
    }
}

/// How a call ended.
pub(crate) struct Ended {
    /// The vendor's id of the call.
    pub(crate) call: String,
    pub(crate) output: Value,
    pub(crate) failed: bool,
    pub(crate) tool: Option<String>,
}

impl Delivery {
    /// A delivery of `vendor` to `instance` within a session. The identity says the tenant.
    pub(crate) fn new(
        (vendor, instance, event): (&str, &str, &str),
        request: &Inbound<Verified>,
        identity: Identity,
        session: String,
    ) -> Self {
        let tenant = identity.tenant.as_deref().unwrap_or_default();
        Self {
            id: None,
            session: SessionRef {
                id: SessionId::derived(&[instance, tenant, &session]),
                turn: None,
                vendor_id: session,
            },
            source: Source {
                connector: instance.to_owned(),
                event: event.to_owned(),
                vendor: vendor.to_owned(),
            },
            timestamp: request.received_at,
            identity,
        }
    }

    /// The identity that the caller's proof vouches for, before anything of the body is put in.
    pub(crate) fn identity(caller: &Caller) -> Identity {
        Identity {
            assurance: caller.assurance,
            service: caller.name.clone(),
            verified_by: caller.verified_by.to_owned(),
            ..Identity::default()
        }
    }

    pub(crate) fn action(&self, call: Call) -> Event {
        let tenant = self.identity.tenant.as_deref();
        Event::Action(Box::new(Action {
            action_id: Env::action_id(&self.source.connector, tenant, &self.session.vendor_id, &call.id),
            call_id: call.has_id.then_some(call.id),
            delivery_id: self.id.clone(),
            effect: call.effect,
            facets: Facets::default(),
            identity: self.identity.clone(),
            operation: self.source.event.clone(),
            parameters: call.parameters,
            risk_signals: Vec::new(),
            session: self.session.clone(),
            source: self.source.clone(),
            timestamp: self.timestamp,
            tool: call.tool,
            vendor_fields: call.rest,
        }))
    }

    pub(crate) fn outcome(&self, ended: Ended) -> Event {
        let (output_sha256, output_bytes) = parse::output_digest(&ended.output);
        let tenant = self.identity.tenant.as_deref();
        let error = ended.output.as_str().filter(|_| ended.failed);
        Event::Outcome(Outcome {
            action_id: Env::action_id(&self.source.connector, tenant, &self.session.vendor_id, &ended.call),
            call_id: Some(ended.call),
            duration_ms: None,
            error: error.map(|text| parse::cut(text, ERROR_CHARS_MAX).to_owned()),
            identity: self.identity.clone(),
            output_bytes,
            output_sha256,
            session: self.session.clone(),
            source: self.source.clone(),
            status: if ended.failed { OutcomeStatus::Failed } else { OutcomeStatus::Succeeded },
            timestamp: self.timestamp,
            tool: ended.tool,
            output: Some(ended.output),
        })
    }

    pub(crate) fn intent(&self, text: &str) -> Event {
        Event::Intent(Intent {
            by_human: true,
            identity: self.identity.clone(),
            session: self.session.clone(),
            source: self.source.clone(),
            text: parse::cut(text, INTENT_CHARS_MAX).to_owned(),
            timestamp: self.timestamp,
        })
    }

    pub(crate) fn observation(&self, details: Map<String, Value>) -> Event {
        Event::Observation(Observation {
            identity: self.identity.clone(),
            details,
            session: self.session.clone(),
            source: self.source.clone(),
            timestamp: self.timestamp,
        })
    }
}

/// The text at `key`, when it is one and not empty.
pub(crate) fn text<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}
