//! Amazon Bedrock AgentCore: lifecycle hooks of a harness (`/harness`) and interceptors of a gateway (`/gateway`). Both
//! call a Lambda function; a forwarder of a few lines passes the event on to us and our answer back.
//!
//! Source: AWS, "Lifecycle hooks" (API `HarnessHook`, `HarnessHookEvent`) and "Gateway interceptors" (read 2026-08-21
//! and 2026-11-24). AWS documents what a harness sends but not under which keys; every likely spelling is read.

mod gateway;
mod harness;

use std::time::Duration;

use countersign_sdk::schemas::{Assurance, Timestamp, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support;
use crate::support::forwarder::Forwarder;
pub use crate::support::forwarder::StsSettings;

/// Settings of an `agentcore` connector. At least one of `secrets` and `sts` must be given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Standard Webhooks secrets (`whsec_` and base64) that the forwarder signs with; two during a rotation.
    #[serde(default)]
    pub secrets: Vec<SecretRef>,
    /// Tokens of the forwarder's role instead of a shared secret.
    #[serde(default)]
    pub sts: Option<StsSettings>,
    /// How long the forwarder waits, in milliseconds: less than the hook's `timeoutSeconds`.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    50_000
}

/// The connector.
pub struct AgentCore;

impl Connector for AgentCore {
    const NAME: &'static str = "agentcore";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Amazon Bedrock AgentCore (harness hooks, gateway interceptors)",
            class: GateClass::Sync,
            vendor_window_ms: default_timeout_ms(),
            margin_ms: 5_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "leave the harness hook's `failureMode: deny`, which is the default; what a gateway does when \
                            its interceptor fails is not documented, so the forwarder answers a denial to everything that \
                            it catches",
            frames: frames(),
            result_feed: "after_tool_call of the harness; the RESPONSE point of the gateway",
            authentication: "Standard Webhooks signature of the forwarder, or a web identity token of its role",
            assurance: Assurance::OauthVerified,
            idempotency: "`webhook-id`, which is the Lambda request's id, and digest of the body",
            verified: Evidence::Unverified,
            limits: vec![
                "the key names of a harness event are not documented: try a denial before relying on it",
                "the forwarder is the customer's code: whoever can change it can change every answer",
                "a harness cannot change parameters; a gateway can",
                "hooks that target SNS or EventBridge only watch",
                "denying after_tool_call keeps the result and stops the invocation",
                "the harness does not say for whom it acts; the gateway does when it passes request headers",
                "a gateway's HTTP targets are not read, and denied",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(site)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        if !(1_000..=870_000).contains(&settings.timeout_ms) {
            return Err(support::wrong("timeout_ms", "must be from 1000 to 870000 milliseconds"));
        }
        let forwarder = Forwarder::connect(env, &settings.secrets, settings.sts)?;
        Ok(Parts {
            deadline: Duration::from_millis(settings.timeout_ms),
            frames: frames(),
            gate: Box::new(Hooks { forwarder, instance: env.instance.to_owned() }),
            held: None,
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    let allow = &[Verdict::Allow];
    vec![
        FrameSpec { holds: true, ..FrameSpec::gate(harness::BEFORE_TOOL, allow) },
        FrameSpec::gate(harness::AFTER_TOOL, allow),
        FrameSpec::gate(harness::BEFORE_INVOCATION, allow),
        FrameSpec::notice(harness::AFTER_INVOCATION),
        FrameSpec::gate(gateway::REQUEST, &[Verdict::Allow, Verdict::Modify]),
        FrameSpec::gate(gateway::RESPONSE, allow),
    ]
}

/// The gate.
struct Hooks {
    forwarder: Forwarder,
    instance: String,
}

impl Gate for Hooks {
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        self.forwarder.verify(request, now)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        match request.path.as_str() {
            "harness" => harness::normalize(&self.instance, request),
            "gateway" => gateway::normalize(&self.instance, request),
            _ => Err(NormalizeError::unreadable("no such operation; it is `/harness` or `/gateway`")),
        }
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        match frame.name.as_str() {
            gateway::REQUEST | gateway::RESPONSE => gateway::answer(frame, said),
            harness::BEFORE_TOOL
            | harness::AFTER_TOOL
            | harness::BEFORE_INVOCATION
            | harness::AFTER_INVOCATION => harness::answer(said),
            _ => unread(frame, said),
        }
    }
}

/// A denial in both forms at once: of what could not be read nobody knows which of the two waits for the answer.
fn unread(frame: &Frame, said: &[Said<'_>]) -> Reply {
    let Some(mut answer) = harness::decision(said).as_object().cloned() else { return harness::answer(said) };
    if answer.get("decision") != Some(&json!("allow")) {
        answer.extend(gateway::denied(frame, said.first()).as_object().cloned().unwrap_or_default());
    }
    Reply::json(&Value::Object(answer))
}

/// The id of the Lambda request, which tells two equal events apart.
fn delivery_id(request: &Inbound<Verified>) -> Result<String, String> {
    let id = request.header("webhook-id").filter(|id| !id.is_empty());
    id.map(str::to_owned)
        .ok_or_else(|| "header `webhook-id` is missing: send the Lambda request's id".to_owned())
}

fn setup(site: &Site) -> String {
    let url = site.hook_url();
    format!(
        "1. Make a secret and give it to both sides: `echo \"whsec_$(openssl rand -base64 32)\"`. In the configuration, \
         refer to it as `secrets = [{{ env = \"...\" }}]` under `[connectors.{instance}]`; put it into AWS Secrets Manager \
         for the forwarder. Or let the forwarder show a token of its role (`sts:GetWebIdentityToken`) as \
         `Authorization: Bearer`, and configure `[connectors.{instance}.sts]`.\n\
         2. Make a Lambda function of this, with `COUNTERSIGN_URL` `{url}/harness` or `{url}/gateway`, a timeout of 60 \
         seconds, and the secret:\n\n\
         ```python\n\
         import base64, hashlib, hmac, json, os, time, urllib.request\n\n\
         KEY = base64.b64decode(os.environ[\"COUNTERSIGN_SECRET\"].removeprefix(\"whsec_\"))\n\n\
         def handler(event, context):\n\
         \x20   body, now = json.dumps(event).encode(), str(int(time.time()))\n\
         \x20   signed = f\"{{context.aws_request_id}}.{{now}}.\".encode() + body\n\
         \x20   tag = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()\n\
         \x20   headers = {{\"content-type\": \"application/json\", \"webhook-id\": context.aws_request_id,\n\
         \x20              \"webhook-timestamp\": now, \"webhook-signature\": f\"v1,{{tag}}\"}}\n\
         \x20   request = urllib.request.Request(os.environ[\"COUNTERSIGN_URL\"], body, headers)\n\
         \x20   try:\n\
         \x20       with urllib.request.urlopen(request, timeout=50) as answer:\n\
         \x20           return json.load(answer)\n\
         \x20   except Exception:\n\
         \x20       return denial(event)\n\n\
         def denial(event):\n\
         \x20   if \"mcp\" not in event:\n\
         \x20       return {{\"decision\": \"deny\", \"reason\": \"countersign cannot be reached\"}}\n\
         \x20   rpc = (event[\"mcp\"].get(\"gatewayRequest\") or {{}}).get(\"body\") or {{}}\n\
         \x20   error = {{\"code\": -32000, \"message\": \"countersign cannot be reached\"}}\n\
         \x20   return {{\"interceptorOutputVersion\": \"1.0\", \"mcp\": {{\"transformedGatewayResponse\": {{\n\
         \x20       \"statusCode\": 200, \"body\": {{\"jsonrpc\": \"2.0\", \"id\": rpc.get(\"id\"), \"error\": error}}}}}}}}\n\
         ```\n\n\
         3. Harness: `UpdateHarness` with hooks for `before_invocation`, `before_tool_call`, `after_tool_call` and \
         `after_invocation` that target the function, `failureMode` `deny`, `timeoutSeconds` 60.\n\
         4. Gateway: `UpdateGateway` with one interceptor of the function at `REQUEST` and `RESPONSE`, \
         `passRequestHeaders` true, so that the caller's token says for whom.\n\
         5. Let an agent call a tool and find the receipt with `countersign receipts tail`. Deny one by policy and see \
         that it does not run. Stop Countersign: no tool may run.\n",
        instance = site.instance,
    )
}
