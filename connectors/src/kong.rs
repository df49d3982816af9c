//! Kong AI Gateway: the `ai-custom-guardrail` plugin asks any HTTP service, in a form that its own settings write. The
//! form is ours, and so is the Lua that reads the answer; both are in the setup steps.
//!
//! Source: Kong documentation, "AI Custom Guardrail" (read 2026-08-21), and the plugin's published schema.

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

const INPUT: &str = "INPUT";
const OUTPUT: &str = "OUTPUT";

/// Settings of a `kong` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bearer tokens by the name of the gateway that sends them, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// How long the plugin waits for the answer, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    10_000
}

/// The connector.
pub struct Kong;

impl Connector for Kong {
    const NAME: &'static str = "kong";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Kong AI Gateway (ai-custom-guardrail)",
            class: GateClass::Sync,
            vendor_window_ms: default_timeout_ms(),
            margin_ms: 1_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "third parties saw status 500 when the guardrail failed; try it before relying on it. The \
                            Lua of the setup steps blocks whenever the answer is not exactly `block: false`",
            frames: frames(),
            result_feed: "tool messages of the next input, by tool call id, where the plugin passes messages",
            authentication: "static bearer token",
            assurance: Assurance::ClientAsserted,
            idempotency: "source and digest of the body",
            verified: Evidence::ThirdParty,
            limits: vec![
                "whether `content` of an output holds tool calls, or only text, depends on Kong's version: try it. What is \
                 not in `content` is not seen",
                "one answer for all tool calls of a response",
                "arguments cannot be changed",
                "the plugin's functions see neither the consumer nor the model: identity is that of the gateway",
                "the plugin is part of Kong's enterprise offering from 3.14 on",
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
    let gate = |name| FrameSpec { one_answer: true, ..FrameSpec::gate(name, &[Verdict::Allow]) };
    vec![gate(INPUT), gate(OUTPUT)]
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
        // Only what says that it is an input is one: all else may carry calls that wait for us.
        let is_input = text(&body, "source").is_some_and(|source| source.eq_ignore_ascii_case(INPUT));
        let frame = Frame::named(if is_input { INPUT } else { OUTPUT });
        let events = self
            .events(request, body, &frame.name)
            .map_err(|reason| NormalizeError::in_frame(frame.clone(), reason))?;
        let idempotency = format!("{} {}", frame.name, parse::sha256_hex(&request.body));
        Ok(Normalized { events, frame, idempotency })
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        let refusal = said.iter().find(|said| said.expression.expressed != Expressed::Allow);
        match refusal {
            None if said.is_empty() => Reply::json(&json!({"block": true, "reason": "nothing was decided"})),
            None => Reply::json(&json!({"block": false})),
            Some(said) => Reply::json(&json!({
                "block": true,
                "reason": parse::cut(&said.expression.reason, 2_000),
                "detail": said.receipt_id,
            })),
        }
    }
}

impl Guardrail {
    fn events(
        &self,
        request: &Inbound<Verified>,
        mut body: Map<String, Value>,
        source: &str,
    ) -> Result<Vec<countersign_sdk::schemas::Event>, &'static str> {
        let caller = request.caller();
        let gateway = caller.name.clone().unwrap_or_default();
        let mut identity = Delivery::identity(caller);
        identity.agent =
            Agent { id: text(&body, "agent").unwrap_or(&gateway).to_owned(), kind: None, model: None };
        let session = text(&body, "session").unwrap_or(&gateway).to_owned();
        let delivery = Delivery::new((Kong::NAME, &self.instance, source), request, identity, session);
        let content = structured(body.shift_remove("content").ok_or("`content` is missing")?);
        let mut events = Vec::new();
        if source == INPUT {
            let messages = content.get("messages").unwrap_or(&content).as_array();
            let (ended, asked) = chat::news(messages.map_or(&[], Vec::as_slice));
            events.extend(ended.into_iter().map(|ended| delivery.outcome(ended)));
            events.extend(asked.or(content.as_str().map(str::to_owned)).map(|asked| delivery.intent(&asked)));
        } else {
            let digest = parse::sha256_hex(&request.body);
            let content = whole_response(content);
            for mut one in chat::wanted(Kong::NAME, &content, &digest)? {
                one.call.rest = std::mem::take(&mut body);
                events.push(delivery.action(one.call));
            }
        }
        if events.is_empty() {
            events.push(delivery.observation(Map::from_iter([("source".to_owned(), json!(source))])));
        }
        Ok(events)
    }
}

/// The plugin passes text; where the text is JSON, it is what it says.
fn structured(content: Value) -> Value {
    match &content {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(read @ (Value::Object(_) | Value::Array(_))) => read,
            _ => content,
        },
        _ => content,
    }
}

/// A message, or a list of calls alone, in the place that it has in a whole response.
fn whole_response(content: Value) -> Value {
    match &content {
        Value::Array(_) => json!({"choices": [{"message": {"tool_calls": content}}]}),
        Value::Object(message)
            if message.contains_key("tool_calls") || message.contains_key("function_call") =>
        {
            json!({"choices": [{"message": content}]})
        }
        _ => content,
    }
}

fn setup(site: &Site) -> String {
    format!(
        "1. Make a token of at least 16 bytes. In the configuration, refer to it as `tokens = {{ NAME = {{ env = \"...\" \
         }} }}` under `[connectors.{instance}]`; give Kong the same one as `DECK_COUNTERSIGN_TOKEN`.\n\
         2. Add the plugin beside `ai-proxy` or `ai-proxy-advanced`:\n\n\
         ```yaml\n\
         plugins:\n\
         \x20 - name: ai-custom-guardrail\n\
         \x20   config:\n\
         \x20     guarding_mode: BOTH\n\
         \x20     allow_masking: false\n\
         \x20     timeout: {timeout}\n\
         \x20     params:\n\
         \x20       token: ${{{{ env \"DECK_COUNTERSIGN_TOKEN\" }}}}\n\
         \x20     request:\n\
         \x20       url: {url}\n\
         \x20       auth: {{ location: header, name: Authorization, value: \"Bearer $(conf.params.token)\" }}\n\
         \x20       body: {{ source: \"$(source)\", content: \"$(content)\", agent: NAME-OF-THE-AGENT }}\n\
         \x20     response:\n\
         \x20       block: \"$(countersign_block)\"\n\
         \x20       block_message: \"$(countersign_reason)\"\n\
         \x20     functions:\n\
         \x20       countersign_block: |\n\
         \x20         return function(resp) return type(resp) ~= 'table' or resp.block ~= false end\n\
         \x20       countersign_reason: |\n\
         \x20         return function(resp) return type(resp) == 'table' and resp.reason or 'denied' end\n\
         ```\n\n\
         3. Compare the keys with `curl localhost:8001/schemas/plugins/ai-custom-guardrail` of your version.\n\
         4. Let a model call a tool. If no receipt of it appears, `content` holds only text in your version, and this hook \
         cannot see tool calls.\n\
         5. Stop Countersign: the next request must fail.\n",
        instance = site.instance,
        url = site.hook_url(),
        timeout = Settings::deserialize(&site.settings)
            .map_or_else(|_| default_timeout_ms(), |known| known.timeout_ms),
    )
}
