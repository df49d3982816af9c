//! GitHub's deployment protection rules: a deployment waits until our App answers.
//!
//! Source: GitHub, "Creating custom deployment protection rules", "Validating webhook deliveries" and "Handling failed
//! webhook deliveries" (read 2026-11-23). Only the body is signed, never a header, and nothing carries a time; so ids
//! inside the body make a repetition recognisable, and GitHub's state is read again before we answer.

mod api;
mod payload;

use std::time::Duration;

use countersign_sdk::schemas::{
    Action, Assurance, Effect, Event, Facets, Identity, Observation, SessionId, SessionRef, Source,
    Timestamp, Tool, Verdict,
};
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError, parse, signature,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use api::App;
use payload::{Payload, Waiting};

/// The event that a deployment waits on.
const RULE: &str = "deployment_protection_rule";
const PING: &str = "ping";
/// Frame of every other event.
const OTHER: &str = "other";
/// A reason is for people; GitHub shows it beside the delivery.
const REASON_CHARS_MAX: usize = 1_024;
const SIGNATURE: &str = "x-hub-signature-256";

/// Settings of a `github` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The App's webhook secret; two during a rotation.
    pub secrets: Vec<SecretRef>,
    /// The App's id, a number on its settings page.
    pub app_id: u64,
    /// The App's private key, PEM.
    pub private_key: SecretRef,
    /// Where the REST API is: `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise Server. Its host
    /// must be in `[egress] allow_hosts`.
    #[serde(default = "default_api_base")]
    pub api_base: String,
}

fn default_api_base() -> String {
    "https://api.github.com".to_owned()
}

/// The connector.
pub struct GitHub;

impl Connector for GitHub {
    const NAME: &'static str = "github";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "GitHub deployment protection rules",
            class: GateClass::Held,
            vendor_window_ms: 10_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "a job waits until the rule is answered; \"Allow administrators to bypass configured \
                            protection rules\" must be off",
            frames: vec![
                FrameSpec { held: true, ..FrameSpec::gate(RULE, &[Verdict::Allow]) },
                FrameSpec::notice(PING),
                FrameSpec::notice(OTHER),
            ],
            result_feed: "workflow_run and deployment_status events, when the App subscribes to them",
            authentication: "HMAC-SHA256 of the body (X-Hub-Signature-256)",
            assurance: Assurance::VendorSigned,
            idempotency: "repository, run, environment and deployment ids in the body",
            verified: Evidence::VendorDocs,
            limits: vec![
                "administrators can force a deployment through unless the environment forbids it",
                "only jobs that name the environment are held; a workflow can deploy without naming one",
                "private repositories need GitHub Enterprise",
                "the rule is asked about the job, not about what its steps do",
                "GitHub does not send a failed delivery again by itself; the sweep asks for it, up to three days back",
                "GitHub does not name the human behind a bot",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(site)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        if settings.secrets.is_empty() {
            return Err(value("secrets", "give at least one, as { env = \"VARIABLE\" }"));
        }
        let mut secrets = Vec::with_capacity(settings.secrets.len());
        for (at, reference) in settings.secrets.iter().enumerate() {
            secrets.push(env.secret(&format!("secrets[{at}]"), reference)?);
        }
        let app = App::connect(&settings, env)?;
        let gate =
            Webhook { api_base: app.api_base().to_owned(), instance: env.instance.to_owned(), secrets };
        let manifest = Self::manifest();
        Ok(Parts {
            deadline: Duration::from_millis(manifest.vendor_window_ms),
            frames: manifest.frames,
            gate: Box::new(gate),
            held: Some(Box::new(app)),
        })
    }
}

fn value(key: &str, problem: impl Into<String>) -> ConnectError {
    ConnectError::Value { key: key.to_owned(), problem: problem.into() }
}

/// The gate.
struct Webhook {
    api_base: String,
    instance: String,
    secrets: Vec<countersign_sdk::Secret>,
}

impl Gate for Webhook {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        signature::hub_sha256(request, SIGNATURE, &self.secrets)?;
        request.require_header("x-github-event")?;
        Ok(Caller {
            assurance: Assurance::VendorSigned,
            verified_by: "hub-signature-256",
            ..Caller::default()
        })
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let body = parse::object(&request.body)?;
        let event = request.header("x-github-event").unwrap_or_default();
        // Not by the header alone: it is not signed, and a deployment that waits must not pass for a notice.
        if event == RULE || body.contains_key("deployment_callback_url") {
            return self.rule(request, body);
        }
        let frame = Frame::named(if event == PING { PING } else { OTHER });
        let idempotency = parse::sha256_hex(&request.body);
        if event == PING {
            return Ok(Normalized { events: vec![Event::Ping], frame, idempotency });
        }
        // An unusual notice is noted without its particulars; nothing waits on it.
        let payload = Payload::read(&body).unwrap_or_default();
        let observation = Observation {
            identity: identity(request.caller(), &payload),
            session: self.session(&payload),
            source: self.source(event),
            timestamp: request.received_at,
            details: body,
        };
        Ok(Normalized { events: vec![Event::Observation(observation)], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let said = said.first();
        let body = match (frame.name.as_str(), said) {
            (PING | OTHER, _) => json!({}),
            // GitHub shows the body to the App's owner and reads nothing in it: the decision goes by callback.
            (_, Some(Said { action: Some(_), expression, receipt_id, .. })) => {
                json!({"status": "held", "decision": expression.expressed, "receipt": receipt_id})
            }
            (_, Some(said)) => {
                let reason = parse::cut(&said.expression.reason, REASON_CHARS_MAX);
                json!({"status": "denied", "reason": reason, "receipt": said.receipt_id})
            }
            (_, None) => json!({"status": "denied", "reason": "nothing was decided"}),
        };
        Reply::json_with_status(202, &body)
    }
}

impl Webhook {
    fn rule(
        &self,
        request: &Inbound<Verified>,
        body: Map<String, Value>,
    ) -> Result<Normalized, NormalizeError> {
        let frame = Frame::named(RULE);
        let refuse = |reason: String| NormalizeError::in_frame(frame.clone(), reason);
        let payload = Payload::read(&body).map_err(refuse)?;
        let waiting = Waiting::read(&payload, &self.api_base).map_err(refuse)?;
        let idempotency = parse::canonical(&json!([
            RULE,
            waiting.repository_id,
            waiting.run_id,
            waiting.environment,
            waiting.deployment_id
        ]));
        let action = self.action(request, body, &payload, waiting);
        Ok(Normalized { events: vec![Event::Action(Box::new(action))], frame, idempotency })
    }

    fn action(
        &self,
        request: &Inbound<Verified>,
        body: Map<String, Value>,
        payload: &Payload,
        waiting: Waiting,
    ) -> Action {
        let session = self.session_of(payload, waiting.repository_id, Some(waiting.run_id));
        // Not the deployment's id: the jobs of a matrix ask one by one for the same run and environment, and one answer
        // covers them all.
        let call = format!("{}/{}", waiting.run_id, waiting.environment);
        let identity = identity(request.caller(), payload);
        Action {
            action_id: Env::action_id(&self.instance, identity.tenant.as_deref(), &session.vendor_id, &call),
            call_id: Some(call),
            delivery_id: request.header("x-github-delivery").map(str::to_owned),
            effect: Effect::Deploy,
            facets: Facets {
                environment: Some(waiting.environment.clone()),
                repository: Some(waiting.repository.clone()),
                ..Facets::default()
            },
            identity,
            operation: body.get("action").and_then(Value::as_str).unwrap_or("requested").to_owned(),
            parameters: parameters(&body, &waiting),
            risk_signals: Vec::new(),
            session,
            source: self.source(RULE),
            timestamp: request.received_at,
            tool: Tool {
                name: "deployment".to_owned(),
                namespace: GitHub::NAME.to_owned(),
                raw: RULE.to_owned(),
                server: None,
            },
            vendor_fields: body,
        }
    }

    fn source(&self, event: &str) -> Source {
        Source { connector: self.instance.clone(), event: event.to_owned(), vendor: GitHub::NAME.to_owned() }
    }

    /// The run that an event belongs to, else the repository.
    fn session(&self, payload: &Payload) -> SessionRef {
        let repository = payload.repository.as_ref().map_or(0, |repository| repository.id);
        self.session_of(payload, repository, payload.workflow_run.as_ref().map(|run| run.id))
    }

    fn session_of(&self, payload: &Payload, repository: u64, run: Option<u64>) -> SessionRef {
        let vendor_id = run.map_or_else(|| repository.to_string(), |run| format!("{repository}/{run}"));
        let tenant = tenant(payload).unwrap_or_default();
        SessionRef { id: SessionId::derived(&[&self.instance, &tenant, &vendor_id]), turn: None, vendor_id }
    }
}

/// What is asked for, in one place whichever of GitHub's forms the delivery has.
fn parameters(body: &Map<String, Value>, waiting: &Waiting) -> Map<String, Value> {
    let deployment = body.get("deployment").and_then(Value::as_object);
    let mut parameters = Map::new();
    for key in ["description", "event", "payload", "ref", "sha", "task"] {
        let given = body.get(key).or_else(|| deployment.and_then(|deployment| deployment.get(key)));
        if let Some(given) = given.filter(|given| !given.is_null()) {
            parameters.insert(key.to_owned(), given.clone());
        }
    }
    parameters.insert("environment".to_owned(), json!(waiting.environment));
    parameters.insert("repository".to_owned(), json!(waiting.repository));
    parameters.insert("run_id".to_owned(), json!(waiting.run_id));
    parameters
}

fn identity(caller: &Caller, payload: &Payload) -> Identity {
    Identity {
        agent: payload.agent(),
        assurance: caller.assurance,
        human: payload.human(),
        service: Some("github-actions".to_owned()),
        tenant: tenant(payload),
        verified_by: caller.verified_by.to_owned(),
        ..Identity::default()
    }
}

fn tenant(payload: &Payload) -> Option<String> {
    payload.organization.as_ref().map(|organization| organization.id.to_string())
}

fn setup(site: &Site) -> String {
    let url = site.hook_url();
    let instance = &site.instance;
    let app = site.settings.get("app_id").and_then(Value::as_u64);
    let app = app.map_or_else(|| "<app id>".to_owned(), |id| id.to_string());
    format!(
        "1. Register a GitHub App (https://github.com/settings/apps/new, or the organisation's settings): webhook URL \
         `{url}`, content type `application/json`, a long random webhook secret, SSL verification on.\n\
         2. Give it the repository permissions *Actions: read* and *Deployments: read and write*, and nothing else. \
         Subscribe it to *Deployment protection rule*; for the record of what happened afterwards also to *Deployment \
         review*, *Deployment status* and *Workflow run*.\n\
         3. Make a private key for the App. In the configuration, under `[connectors.{instance}]`, set `app_id`, \
         `private_key = {{ file = \"...\" }}` and `secrets = [{{ env = \"...\" }}]`, and put the API's host in `[egress] \
         allow_hosts`.\n\
         4. Install the App on the repositories whose deployments are to be decided.\n\
         5. Enable the rule on each environment (*Settings, Environments*), or by API, as an administrator of the \
         repository: `gh api -X POST repos/OWNER/REPO/environments/ENVIRONMENT/deployment_protection_rules -F \
         integration_id={app}`.\n\
         6. On each environment turn OFF *Allow administrators to bypass configured protection rules*: it is on by \
         default, and whoever may bypass is not asked about.\n\
         7. Deploy once. The job waits at the environment, the App's *Advanced* page shows the delivery answered 202, and \
         a receipt names the run.\n\n\
         GitHub: https://docs.github.com/en/actions/how-tos/deploy/configure-and-manage-deployments/create-custom-protection-rules\n"
    )
}

#[cfg(test)]
mod tests;
