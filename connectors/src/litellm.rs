//! LiteLLM proxy: its Generic Guardrail API asks us about what a model wants to call.
//!
//! Source: LiteLLM documentation, "Generic Guardrail API", and the client itself, `generic_guardrail_api.py` of litellm
//! 1.108.7 (PyPI). Requests carry a static token and no signature. `tool_calls` of a `request` are history, already
//! decided when they were new; those of a `response` are what the model asks for now.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::schemas::{Agent, Assurance, Expressed, Human, Timestamp, Verdict};
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

/// What the client appends to `api_base`.
const PATH: &str = "beta/litellm_basic_guardrail_api";
const REQUEST: &str = "request";
const RESPONSE: &str = "response";
const REASON_CHARS_MAX: usize = 2_000;

/// Settings of a `litellm` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The guardrail's `api_key` by the name of the proxy that holds it, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// How long the proxy waits for the answer, in milliseconds: the guardrail's `timeout`.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    10_000
}

/// The connector.
pub struct LiteLlm;

impl Connector for LiteLlm {
    const NAME: &'static str = "litellm";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "LiteLLM proxy (Generic Guardrail API)",
            class: GateClass::Sync,
            vendor_window_ms: default_timeout_ms(),
            margin_ms: 1_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "leave `unreachable_fallback: fail_closed` and `fail_on_error: true`, which are the defaults",
            frames: frames(),
            result_feed: "tool messages of the next request, by tool call id",
            authentication: "static token in `x-api-key` or `Authorization: Bearer`",
            assurance: Assurance::ClientAsserted,
            idempotency: "litellm_call_id, kind and digest of the body",
            verified: Evidence::Capture,
            limits: vec![
                "one answer for all tool calls of a model's response: one denied call denies them all",
                "arguments cannot be changed",
                "the client runs the tools: it is asked about what the model wants, not about what the client then does",
                "without `streaming_buffer_until_moderated` a streamed tool call reaches the client before it is decided",
                "a client may leave out guardrails that are not `default_on`",
                "MCP tools that the proxy itself runs are not sent to this guardrail by litellm 1.108.7",
                "requests are not signed: who holds the token can claim any user of the proxy",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(site)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        if !(500..=600_000).contains(&settings.timeout_ms) {
            return Err(support::wrong("timeout_ms", "must be from 500 to 600000 milliseconds"));
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
    let gate = |name| FrameSpec { one_answer: true, ..FrameSpec::gate(name, &[Verdict::Allow]) };
    vec![gate(REQUEST), gate(RESPONSE)]
}

/// The gate.
struct Guardrail {
    instance: String,
    tokens: Bearers,
}

impl Gate for Guardrail {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        if request.headers.contains_key("x-api-key") {
            return self.tokens.name_of(request.require_header("x-api-key")?).map(support::token_caller);
        }
        support::by_token(&self.tokens, request)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        if request.path != PATH {
            return Err(NormalizeError::unreadable("no such operation; `api_base` is the hook's URL"));
        }
        let body = parse::object(&request.body)?;
        let kind = text(&body, "input_type").unwrap_or_default();
        // Only what says that it is a request is one: all else may carry calls that wait for us.
        let frame = Frame::named(if kind == REQUEST { REQUEST } else { RESPONSE });
        self.read(request, body, &frame).map_err(|reason| NormalizeError::in_frame(frame, reason))
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        let allowed = |said: &Said| said.expression.expressed == Expressed::Allow;
        if !said.is_empty() && said.iter().all(allowed) {
            return Reply::json(&json!({"action": "NONE"}));
        }
        let refusal = said.iter().find(|said| !allowed(said));
        let reason = refusal.map_or("nothing was decided", |said| said.expression.reason.as_str());
        let reason = if reason.trim().is_empty() { "denied" } else { reason };
        Reply::json(&json!({"action": "BLOCKED", "blocked_reason": parse::cut(reason, REASON_CHARS_MAX)}))
    }
}

impl Guardrail {
    fn read(
        &self,
        request: &Inbound<Verified>,
        mut body: Map<String, Value>,
        frame: &Frame,
    ) -> Result<Normalized, String> {
        let call_id = text(&body, "litellm_call_id").map(str::to_owned);
        let digest = parse::sha256_hex(&request.body);
        let idempotency = parse::canonical(&json!([frame.name, call_id, digest]));
        let delivery = self.delivery(request, &body, &frame.name, call_id.clone());
        let mut events = Vec::new();
        if frame.name == RESPONSE {
            let calls = chat::calls(LiteLlm::NAME, &body, call_id.as_deref().unwrap_or(&digest))?;
            // What else is known stays with the first call; texts and history were in the frame before.
            ["tool_calls", "structured_messages", "texts", "images", "tools", "request_data"]
                .into_iter()
                .for_each(|placed| {
                    body.shift_remove(placed);
                });
            for mut call in calls {
                call.rest = std::mem::take(&mut body);
                events.push(delivery.action(call));
            }
        } else {
            let messages = body.get("structured_messages").and_then(Value::as_array);
            let (ended, asked) = chat::news(messages.map_or(&[], Vec::as_slice));
            events.extend(ended.into_iter().map(|ended| delivery.outcome(ended)));
            events.extend(asked.map(|asked| delivery.intent(&asked)));
        }
        if events.is_empty() {
            events.push(delivery.observation(Map::from_iter([("input_type".to_owned(), json!(frame.name))])));
        }
        Ok(Normalized { events, frame: frame.clone(), idempotency })
    }

    /// LiteLLM knows the person by its virtual key. A conversation is its trace, else whatever one key does.
    fn delivery(
        &self,
        request: &Inbound<Verified>,
        body: &Map<String, Value>,
        event: &str,
        id: Option<String>,
    ) -> Delivery {
        let none = Map::new();
        let key = body.get("request_data").and_then(Value::as_object).unwrap_or(&none);
        let user = text(key, "user_api_key_user_id").or(text(key, "user_api_key_end_user_id"));
        let email = text(key, "user_api_key_user_email");
        let human = user.or(email).map(|id| Human { email: email.map(str::to_owned), ..parse::human(id) });
        let alias = text(key, "user_api_key_alias").or(text(key, "user_api_key_hash"));
        let mut identity = Delivery::identity(request.caller());
        identity.agent = Agent {
            id: alias.unwrap_or(LiteLlm::NAME).to_owned(),
            kind: None,
            model: text(body, "model").map(str::to_owned),
        };
        identity.human = human;
        identity.role = text(key, "user_api_key_team_id").map(str::to_owned);
        identity.tenant = text(key, "user_api_key_org_id").map(str::to_owned);
        let session = text(body, "litellm_trace_id").or(text(key, "user_api_key_hash")).or(id.as_deref());
        let session = session.unwrap_or("no session").to_owned();
        let delivery = Delivery::new((LiteLlm::NAME, &self.instance, event), request, identity, session);
        Delivery { id, ..delivery }
    }
}

fn setup(site: &Site) -> String {
    let url = site.hook_url();
    let timeout_s = Settings::deserialize(&site.settings)
        .map_or_else(|_| default_timeout_ms(), |known| known.timeout_ms)
        / 1000;
    format!(
        "1. Make a token of at least 16 bytes for each proxy. In the configuration, refer to it as `tokens = {{ NAME = \
         {{ env = \"...\" }} }}` under `[connectors.{instance}]`; give the proxy the same one as `COUNTERSIGN_TOKEN`.\n\
         2. In the proxy's `config.yaml` add the guardrail; LiteLLM appends its own path to `api_base`:\n\n\
         ```yaml\n\
         guardrails:\n\
         \x20 - guardrail_name: countersign\n\
         \x20   litellm_params:\n\
         \x20     guardrail: generic_guardrail_api\n\
         \x20     mode: [pre_call, post_call]\n\
         \x20     api_base: {url}\n\
         \x20     api_key: os.environ/COUNTERSIGN_TOKEN\n\
         \x20     default_on: true\n\
         \x20     unreachable_fallback: fail_closed\n\
         \x20     fail_on_error: true\n\
         \x20     timeout: {timeout_s}\n\
         \x20     streaming_end_of_stream_only: true\n\
         \x20     streaming_buffer_until_moderated: true\n\
         ```\n\n\
         3. `default_on` matters: without it a client chooses whether it is asked about. The two streaming settings keep \
         a streamed tool call back until it is decided.\n\
         4. Let clients send one `litellm_session_id` or `x-litellm-trace-id` for a conversation: without it everything \
         that one key does is one session.\n\
         5. Let a model call a tool and find the receipt with `countersign receipts tail`. Then stop Countersign: the \
         next request must fail.\n",
        instance = site.instance,
    )
}
