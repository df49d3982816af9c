//! Portkey AI gateway: its "bring your own guardrail" webhook asks us about what a model wants to call.
//!
//! Source: Portkey documentation, "Bring your own guardrails" (read 2026-08-21). Requests carry static headers and no
//! signature. One verdict for the whole response; `transformedData` replaces it.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::schemas::{Agent, Assurance, Expressed, Timestamp, Verdict};
use countersign_sdk::signature::Bearers;
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError, parse,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::{self, Delivery, chat, text};

const BEFORE: &str = "beforeRequestHook";
const AFTER: &str = "afterRequestHook";

/// Settings of a `portkey` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bearer tokens by the name of the workspace that sends them, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// How long the gateway waits for the answer, in milliseconds: the guardrail's `timeout`.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    3_000
}

/// The connector.
pub struct Portkey;

impl Connector for Portkey {
    const NAME: &'static str = "portkey";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Portkey AI gateway (webhook guardrail)",
            class: GateClass::Sync,
            vendor_window_ms: default_timeout_ms(),
            margin_ms: 500,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Open,
            fail_mode_how: "there is no way: after a time-out or an error the verdict counts as true; besides, a denial \
                            only marks the response unless the guardrail's action is *deny*",
            frames: frames(),
            result_feed: "tool messages of the next request, by tool call id",
            authentication: "static bearer token in a custom header",
            assurance: Assurance::ClientAsserted,
            idempotency: "kind and digest of the body, which holds the response's id",
            verified: Evidence::VendorDocs,
            limits: vec![
                "without an answer in time the response goes through",
                "one verdict for all tool calls of a response: one denied call denies them all",
                "parameters of custom, shell and computer tools cannot be changed: such a response is denied",
                "the client runs the tools: the gateway sees what the model wants, not what the client then does",
                "streamed responses may reach the client before the verdict",
                "tools that the provider itself runs have run before the response is seen",
                "metadata is the client's word: who holds the token can claim any user",
                "Portkey's MCP gateway did not call guardrails on 2026-08-21",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(site)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        if !(500..=60_000).contains(&settings.timeout_ms) {
            return Err(support::wrong("timeout_ms", "must be from 500 to 60000 milliseconds"));
        }
        let tokens = support::bearers(env, &settings.tokens)?;
        Ok(Parts {
            deadline: Duration::from_millis(settings.timeout_ms),
            frames: frames(),
            gate: Box::new(Guardrail { instance: env.instance.to_owned(), tokens }),
            held: None,
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    let gate = |name, native: &[Verdict]| FrameSpec { one_answer: true, ..FrameSpec::gate(name, native) };
    vec![gate(BEFORE, &[Verdict::Allow]), gate(AFTER, &[Verdict::Allow, Verdict::Modify])]
}

/// The gate.
struct Guardrail {
    instance: String,
    tokens: Bearers,
}

impl Gate for Guardrail {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        support::by_token(&self.tokens, request)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let body = parse::object(&request.body)?;
        let before = text(&body, "eventType") == Some(BEFORE);
        let frame = Frame::named(if before { BEFORE } else { AFTER });
        self.read(request, body, frame.clone()).map_err(|reason| NormalizeError::in_frame(frame, reason))
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let mut response = frame.state.get("response").cloned().unwrap_or(Value::Null);
        let places = frame.state.get("places").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut changed = false;
        for (at, said) in said.iter().enumerate() {
            let runs = match (said.expression.expressed, &said.modified) {
                (Expressed::Allow, _) => true,
                (Expressed::Modify, Some(arguments)) => {
                    let place = places.get(at).and_then(|place| place.get(0)).and_then(Value::as_str);
                    let is_text = places.get(at).and_then(|place| place.get(1)) == Some(&Value::Bool(true));
                    changed = true;
                    place.is_some_and(|place| chat::rewrite(&mut response, place, is_text, arguments))
                }
                _ => false,
            };
            if !runs {
                return refusal(said);
            }
        }
        match (said.is_empty(), changed) {
            (true, _) => Reply::json(&json!({"verdict": false})),
            (_, false) => Reply::json(&json!({"verdict": true})),
            (_, true) => {
                Reply::json(&json!({"verdict": true, "transformedData": {"response": {"json": response}}}))
            }
        }
    }
}

/// The gateway keeps `data` with the check's result; it blocks or passes by `verdict` alone.
fn refusal(said: &Said<'_>) -> Reply {
    let reason = parse::cut(&said.expression.reason, 2_000);
    Reply::json(&json!({"verdict": false, "data": {"reason": reason, "receiptId": said.receipt_id}}))
}

impl Guardrail {
    fn read(
        &self,
        request: &Inbound<Verified>,
        mut body: Map<String, Value>,
        mut frame: Frame,
    ) -> Result<Normalized, String> {
        let digest = parse::sha256_hex(&request.body);
        let delivery = self.delivery(request, &body, &frame.name);
        let asked = body.get("request").and_then(|request| request.get("json"));
        let mut events = Vec::new();
        if frame.name == BEFORE {
            let messages = asked.and_then(|asked| asked.get("messages")).and_then(Value::as_array);
            let (ended, intent) = chat::news(messages.map_or(&[], Vec::as_slice));
            events.extend(ended.into_iter().map(|ended| delivery.outcome(ended)));
            events.extend(intent.map(|intent| delivery.intent(&intent)));
        } else {
            let response = body.get("response").and_then(|response| response.get("json"));
            let response =
                response.filter(|json| json.is_object()).ok_or("`response.json` is not an object")?;
            let id = response.get("id").and_then(Value::as_str).unwrap_or(&digest);
            let wanted = chat::wanted(Portkey::NAME, response, id)?;
            let places: Vec<Value> = wanted.iter().map(|one| json!([one.place, one.is_text])).collect();
            if !wanted.is_empty() {
                frame.state = json!({"response": response, "places": places});
            }
            body.shift_remove("request");
            body.shift_remove("response");
            for mut one in wanted {
                one.call.rest = std::mem::take(&mut body);
                events.push(delivery.action(one.call));
            }
        }
        if events.is_empty() {
            events.push(delivery.observation(Map::from_iter([("eventType".to_owned(), json!(frame.name))])));
        }
        Ok(Normalized { events, idempotency: format!("{} {digest}", frame.name), frame })
    }

    fn delivery(&self, request: &Inbound<Verified>, body: &Map<String, Value>, event: &str) -> Delivery {
        let none = Map::new();
        let metadata = body.get("metadata").and_then(Value::as_object).unwrap_or(&none);
        let named = |keys: &[&str]| keys.iter().find_map(|key| text(metadata, key)).map(str::to_owned);
        let user = named(&["_user", "user", "user_id"]);
        let mut identity = Delivery::identity(request.caller());
        let service = identity.service.clone().unwrap_or_default();
        identity.agent = Agent {
            id: named(&["_agent", "agent", "agent_id"]).unwrap_or_else(|| Portkey::NAME.to_owned()),
            kind: None,
            model: body
                .get("request")
                .and_then(|request| request.pointer("/json/model"))
                .and_then(Value::as_str)
                .map(str::to_owned),
        };
        identity.human = user.as_deref().map(parse::human);
        let session = named(&["session_id", "_session_id", "trace_id", "_trace_id", "conversation_id"]);
        let session = session.or(user).unwrap_or(service);
        Delivery::new((Portkey::NAME, &self.instance, event), request, identity, session)
    }
}

fn setup(site: &Site) -> String {
    format!(
        "1. Make a token of at least 16 bytes. In the configuration, refer to it as `tokens = {{ NAME = {{ env = \"...\" \
         }} }}` under `[connectors.{instance}]`.\n\
         2. In Portkey, Guardrails, create two guardrails of the kind *Webhook* with URL `{url}`, the header \
         `Authorization: Bearer TOKEN` and the timeout {timeout} ms: one for inputs, one for outputs.\n\
         3. Set the guardrail's actions to **deny: true** and `async: false`. Without *deny* a denial only marks the \
         response with status 246 and lets it through.\n\
         4. Put both into the gateway config as `before_request_hooks` and `after_request_hooks`, and make that config \
         the default of the API key, so that a client cannot leave it out.\n\
         5. Let clients send `metadata` with `_user` and `session_id`: without a session everything of one user is one \
         session.\n\
         6. Let a model call a tool and find the receipt with `countersign receipts tail`. A time-out lets the response \
         through and cannot be closed: watch `countersign_late_total`.\n",
        instance = site.instance,
        url = site.hook_url(),
        timeout = Settings::deserialize(&site.settings)
            .map_or_else(|_| default_timeout_ms(), |known| known.timeout_ms),
    )
}
