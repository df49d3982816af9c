//! Claude Code's own telemetry, by OTLP over HTTP: what really ran, whether or not its hooks asked. It gates nothing. It
//! joins the hooks' decisions by session and tool use id, and tells when a hook failed and the client went on.
//!
//! Source: OpenTelemetry, "OTLP/HTTP" 1.x with JSON encoding; Claude Code, "Monitoring" (read 2026-08-21). Bodies are one
//! client's, so one session's; a collector that mixes clients in one request is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_sdk::schemas::{
    Agent, Assurance, Event, Expressed, Human, Identity, Observation, Outcome, OutcomeStatus, SessionId,
    SessionRef, Source, Timestamp,
};
use countersign_sdk::signature::Bearers;
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FAIL_OPEN_SEEN, FailMode, Frame, FrameSpec, Gate,
    GateClass, Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site,
    Unverified, Verified, VerifyError, parse,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::{self, Delivery, text};

const PATH: &str = "v1/logs";
const LOGS: &str = "logs";
/// Records of one request that are read: a client sends a few seconds' worth.
const RECORDS_MAX: usize = 4_096;

/// Settings of an `otlp` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bearer tokens by the name of the device or team that sends them, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// The instance whose hooks the same clients call, so that results join their decisions.
    #[serde(default = "default_joins")]
    pub joins: String,
}

fn default_joins() -> String {
    "claude-code".to_owned()
}

/// The connector.
pub struct Otlp;

impl Connector for Otlp {
    const NAME: &'static str = "otlp";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Anthropic Claude Code (OpenTelemetry logs)",
            class: GateClass::Sync,
            vendor_window_ms: 10_000,
            margin_ms: 1_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Open,
            fail_mode_how: "nothing waits for the answer: this tells what happened, and whether hooks were asked",
            frames: vec![FrameSpec::notice(LOGS)],
            result_feed: "this is one",
            authentication: "static bearer token",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of the body",
            verified: Evidence::VendorDocs,
            limits: vec![
                "it stops nothing",
                "the client writes it: a client that was tampered with can leave out or invent what it likes",
                "OTLP with JSON encoding only, and one session in a request: no collector in between",
                "`tool_input` is cut by the client at about 4,000 characters and is not compared with what was decided",
                "prompts and outputs are not kept from here: the hooks have them",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Make a token of at least 16 bytes. In the configuration, refer to it as `tokens = {{ NAME = {{ env = \
             \"...\" }} }}` under `[connectors.{instance}]`, and name the hooks' instance as `joins`.\n\
             2. In Claude Code's managed settings, under `env`, set `CLAUDE_CODE_ENABLE_TELEMETRY=1`, \
             `OTEL_LOGS_EXPORTER=otlp`, `OTEL_LOG_TOOL_DETAILS=1`, `OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/json`, \
             `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT={url}/v1/logs` and `OTEL_EXPORTER_OTLP_LOGS_HEADERS=Authorization=Bearer \
             TOKEN`.\n\
             3. Alert on `countersign_fail_open_seen_total` (a hook failed and the client may have gone on) and on \
             `countersign_unprotected_total` (a session has results and no decision: its hooks are not asked).\n",
            url = site.hook_url(),
            instance = site.instance,
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let tokens = support::bearers(env, &settings.tokens)?;
        Ok(Parts {
            deadline: Duration::from_secs(10),
            frames: Self::manifest().frames,
            gate: Box::new(Receiver { instance: env.instance.to_owned(), joins: settings.joins, tokens }),
            held: None,
        })
    }
}

/// The gate, which gates nothing.
struct Receiver {
    instance: String,
    joins: String,
    tokens: Bearers,
}

/// One log record: its attributes over those of its resource.
struct Record {
    attributes: Map<String, Value>,
    name: String,
}

impl Gate for Receiver {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        support::by_token(&self.tokens, request)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let frame = Frame::named(LOGS);
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        if request.path != PATH {
            return Err(refuse("no such signal; only logs are read"));
        }
        let body = parse::object(&request.body)
            .map_err(|error| NormalizeError::in_frame(frame.clone(), error.reason))?;
        let records = records(&body).ok_or_else(|| refuse("`resourceLogs` is not a list of logs"))?;
        if records.len() > RECORDS_MAX {
            return Err(refuse("too many records in one request"));
        }
        let sessions: BTreeSet<&str> =
            records.iter().filter_map(|record| text(&record.attributes, "session.id")).collect();
        let mut sessions = sessions.into_iter();
        let (session, more) = (sessions.next(), sessions.next());
        if more.is_some() {
            return Err(refuse("records of more than one session in one request"));
        }
        let mut events: Vec<Event> = Vec::new();
        if let Some(session) = session {
            events.extend(records.iter().filter_map(|record| self.event(request, session, record)));
        }
        // Telemetry about nothing that we record is taken and forgotten.
        if events.is_empty() {
            events.push(Event::Ping);
        }
        Ok(Normalized { events, frame, idempotency: parse::sha256_hex(&request.body) })
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        // OTLP's words for "taken" and for "taken in part"; an error status would only be sent again.
        let refused = said.iter().find(|said| said.expression.expressed != Expressed::Allow);
        match refused {
            None => Reply::json(&json!({})),
            Some(said) => Reply::json(&json!({"partialSuccess": {"errorMessage": said.expression.reason}})),
        }
    }
}

impl Receiver {
    fn event(&self, request: &Inbound<Verified>, session: &str, record: &Record) -> Option<Event> {
        match record.name.as_str() {
            "tool_result" => self.result(request, session, record).map(Event::Outcome),
            "hook_execution_complete" if hook_failed(&record.attributes) => {
                Some(self.seen(request, session, FAIL_OPEN_SEEN, record))
            }
            "tool_decision" | "permission_mode_changed" | "mcp_server_connection" => {
                Some(self.seen(request, session, &record.name, record))
            }
            _ => None,
        }
    }

    fn seen(&self, request: &Inbound<Verified>, session: &str, event: &str, record: &Record) -> Event {
        Event::Observation(Observation {
            identity: identity(request.caller(), &record.attributes),
            details: record.attributes.clone(),
            session: self.session(session, record),
            source: self.source(event),
            timestamp: request.received_at,
        })
    }

    fn result(&self, request: &Inbound<Verified>, session: &str, record: &Record) -> Option<Outcome> {
        let attributes = &record.attributes;
        let call = text(attributes, "tool_use_id")?;
        let succeeded = matches!(attributes.get("success"), Some(Value::Bool(true)))
            || text(attributes, "success") == Some("true");
        let number = |key: &str| {
            let value = attributes.get(key)?;
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        // The output itself is not in it, only that there was one.
        let (output_sha256, output_bytes) = parse::output_digest(&Value::Null);
        Some(Outcome {
            action_id: Env::action_id(&self.joins, None, session, call),
            call_id: Some(call.to_owned()),
            duration_ms: number("duration_ms"),
            error: text(attributes, "error_type").or(text(attributes, "error")).map(str::to_owned),
            identity: identity(request.caller(), attributes),
            output: None,
            output_bytes: number("tool_result_size_bytes").unwrap_or(output_bytes),
            output_sha256,
            session: self.session(session, record),
            source: self.source(&record.name),
            status: if succeeded { OutcomeStatus::Succeeded } else { OutcomeStatus::Failed },
            timestamp: request.received_at,
            tool: text(attributes, "tool_name").map(str::to_owned),
        })
    }

    /// The same session as that of the hooks.
    fn session(&self, session: &str, record: &Record) -> SessionRef {
        SessionRef {
            id: SessionId::derived(&[&self.joins, "", session]),
            turn: text(&record.attributes, "prompt.id").map(str::to_owned),
            vendor_id: session.to_owned(),
        }
    }

    fn source(&self, event: &str) -> Source {
        Source { connector: self.instance.clone(), event: event.to_owned(), vendor: Otlp::NAME.to_owned() }
    }
}

/// A hook that failed or was cancelled without blocking: unless `onFailure` blocks, the tool then runs unasked.
fn hook_failed(attributes: &Map<String, Value>) -> bool {
    ["num_non_blocking_error", "num_cancelled"].iter().any(|key| match attributes.get(*key) {
        Some(Value::Number(count)) => count.as_u64() != Some(0),
        Some(Value::String(count)) => count != "0",
        _ => false,
    })
}

fn identity(caller: &Caller, attributes: &Map<String, Value>) -> Identity {
    let email = text(attributes, "user.email");
    let id = ["user.account_uuid", "user.account_id", "user.id"].iter().find_map(|key| text(attributes, key));
    let mut identity = Delivery::identity(caller);
    identity.agent = Agent {
        id: "claude-code".to_owned(),
        kind: None,
        model: text(attributes, "model").map(str::to_owned),
    };
    identity.human = id.or(email).map(|id| Human { email: email.map(str::to_owned), ..parse::human(id) });
    identity.device = identity.service.take();
    identity
}

/// Every log record of a request, `None` when it is not of OTLP's shape.
fn records(body: &Map<String, Value>) -> Option<Vec<Record>> {
    let mut found = Vec::new();
    for resource in body.get("resourceLogs")?.as_array()? {
        let shared = resource.get("resource").and_then(|of| of.get("attributes"));
        for scope in resource.get("scopeLogs").and_then(Value::as_array)? {
            for log in scope.get("logRecords").and_then(Value::as_array).into_iter().flatten() {
                let mut attributes = read_attributes(shared);
                attributes.extend(read_attributes(log.get("attributes")));
                let body = log.get("body").and_then(|body| body.get("stringValue")).and_then(Value::as_str);
                let name = text(&attributes, "event.name").or(log.get("eventName").and_then(Value::as_str));
                let name = name.or(body).unwrap_or_default();
                let name = name.strip_prefix("claude_code.").unwrap_or(name).to_owned();
                found.push(Record { attributes, name });
            }
        }
    }
    Some(found)
}

/// OTLP writes attributes as `[{"key": …, "value": {"stringValue": …}}]`, whole numbers as texts.
fn read_attributes(list: Option<&Value>) -> Map<String, Value> {
    let entries = list.and_then(Value::as_array).into_iter().flatten();
    let read = |entry: &Value| {
        let key = entry.get("key")?.as_str()?.to_owned();
        let (kind, value) = entry.get("value")?.as_object()?.iter().next()?;
        let number = || value.as_str()?.parse::<i64>().ok().map(Value::from);
        let value =
            if kind == "intValue" { number().unwrap_or_else(|| value.clone()) } else { value.clone() };
        Some((key, value))
    };
    entries.filter_map(read).collect()
}
