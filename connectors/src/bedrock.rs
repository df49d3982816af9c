//! Agents for Amazon Bedrock with *return of control*: the agent hands its calls to the customer's application, which
//! asks us before it runs them or confirms them.
//!
//! Source: AWS, "Return control to the agent developer" and API `ReturnControlPayload`,
//! `ReturnControlInvocationResults` (read 2026-08-21). The application posts `{"sessionId", "agentId", "returnControl"}`.

use std::time::Duration;

use countersign_sdk::schemas::{Agent, Assurance, Effect, Event, Expressed, Timestamp, Tool, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, SecretRef, Site, Unverified, Verified,
    VerifyError, parse,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::forwarder::{Forwarder, StsSettings};
use crate::support::{self, Call, Delivery, text};

/// The application runs the calls.
const RESULT: &str = "return_control";
/// The application only confirms them, at least one of them.
const CONFIRMATION: &str = "confirmation";
const REASON_CHARS_MAX: usize = 2_000;

/// Settings of a `bedrock` connector. At least one of `secrets` and `sts` must be given.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Standard Webhooks secrets (`whsec_` and base64) that the application signs with; two during a rotation.
    #[serde(default)]
    pub secrets: Vec<SecretRef>,
    /// Tokens of the application's role instead of a shared secret.
    #[serde(default)]
    pub sts: Option<StsSettings>,
    /// How long the application waits, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    10_000
}

/// The connector.
pub struct Bedrock;

impl Connector for Bedrock {
    const NAME: &'static str = "bedrock";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Agents for Amazon Bedrock (return of control)",
            class: GateClass::Sync,
            vendor_window_ms: default_timeout_ms(),
            margin_ms: 1_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "the agent waits for the application; without our answer the application runs nothing",
            frames: frames(),
            result_feed: "none: the application gives results to the agent itself",
            authentication: "Standard Webhooks signature of the application, or a web identity token of its role",
            assurance: Assurance::OauthVerified,
            idempotency: "session and invocation ids",
            verified: Evidence::VendorDocs,
            limits: vec![
                "the application is trusted to ask before it acts and to run what the answer says",
                "action groups that call a Lambda function do not return control and are not seen",
                "a call that is only confirmed cannot be changed",
                "Bedrock does not say for whom the agent acts",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Let the action groups return control (*Return control* instead of a Lambda function), or let them ask for \
             confirmation.\n\
             2. Make a secret and give it to both sides: `echo \"whsec_$(openssl rand -base64 32)\"`; in the configuration \
             `secrets = [{{ env = \"...\" }}]` under `[connectors.{instance}]`. Or configure \
             `[connectors.{instance}.sts]` and let the application show a token of its role.\n\
             3. When `InvokeAgent` yields `returnControl`, post `{{\"sessionId\": …, \"agentId\": …, \"returnControl\": …}}` \
             to `{url}`, signed by Standard Webhooks 1.0.0.\n\
             4. The answer has `decisions`, one for each of `invocationInputs` and in their order. Run a call only on \
             `ALLOW`, or on `MODIFY` with the decision's `parameters`. Give `sessionState` of the answer back to \
             `InvokeAgent`, with the results of what was run added to its `returnControlInvocationResults`.\n\
             5. Without an answer run nothing.\n",
            instance = site.instance,
            url = site.hook_url(),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        if !(500..=600_000).contains(&settings.timeout_ms) {
            return Err(support::wrong("timeout_ms", "must be from 500 to 600000 milliseconds"));
        }
        let forwarder = Forwarder::connect(env, &settings.secrets, settings.sts)?;
        Ok(Parts {
            deadline: Duration::from_millis(settings.timeout_ms),
            frames: frames(),
            gate: Box::new(ReturnControl { forwarder, instance: env.instance.to_owned() }),
            held: None,
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    let gate = |name, native: &[Verdict]| FrameSpec { holds: true, ..FrameSpec::gate(name, native) };
    vec![gate(RESULT, &[Verdict::Allow, Verdict::Modify]), gate(CONFIRMATION, &[Verdict::Allow])]
}

/// The gate.
struct ReturnControl {
    forwarder: Forwarder,
    instance: String,
}

impl Gate for ReturnControl {
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        self.forwarder.verify(request, now)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let mut body = parse::object(&request.body)?;
        let control = match body.shift_remove("returnControl") {
            Some(Value::Object(control)) => control,
            _ => return Err(NormalizeError::unreadable("`returnControl` is missing")),
        };
        let inputs = control.get("invocationInputs").and_then(Value::as_array).cloned().unwrap_or_default();
        let confirms = |input: &Value| kind(input).starts_with("USER_CONFIRMATION");
        let name = if inputs.iter().any(confirms) { CONFIRMATION } else { RESULT };
        let frame = Frame {
            name: name.to_owned(),
            state: json!({"invocationId": control.get("invocationId"), "inputs": inputs.iter().map(echo).collect::<Vec<_>>()}),
        };
        self.read(request, &body, &control, &inputs, &frame)
            .map_err(|reason| NormalizeError::in_frame(frame, reason))
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let inputs = frame.state.get("inputs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut results = Vec::new();
        let mut decisions = Vec::new();
        for (at, said) in said.iter().enumerate() {
            let runs = match said.expression.expressed {
                Expressed::Allow => true,
                Expressed::Modify => said.modified.is_some(),
                _ => false,
            };
            results.extend(inputs.get(at).and_then(|input| result(input, runs, &said.expression.reason)));
            decisions.push(decision(said, runs));
        }
        Reply::json(&json!({
            "decisions": decisions,
            "sessionState": {
                "invocationId": frame.state.get("invocationId"),
                "returnControlInvocationResults": results,
            },
        }))
    }
}

fn decision(said: &Said<'_>, runs: bool) -> Value {
    let word = if runs { said.expression.expressed } else { Expressed::Deny };
    json!({
        "decision": word,
        "reason": parse::cut(&said.expression.reason, REASON_CHARS_MAX),
        "parameters": said.modified.as_ref().filter(|_| word == Expressed::Modify),
        "receiptId": said.receipt_id,
        "ticket": said.ticket,
    })
}

/// What is given back to the agent at once: a confirmation either way, or that a call failed. A call that is to be run
/// gets its result from the application.
fn result(input: &Value, runs: bool, reason: &str) -> Option<Value> {
    let confirms = text(input.as_object()?, "kind").is_some_and(|kind| kind.starts_with("USER_CONFIRMATION"));
    let mut result = input.get("fields")?.as_object()?.clone();
    if confirms {
        result.insert("confirmationState".to_owned(), json!(if runs { "CONFIRM" } else { "DENY" }));
    } else if runs {
        return None;
    }
    if !runs {
        let body = json!({"TEXT": {"body": parse::cut(reason, REASON_CHARS_MAX)}});
        result.insert("responseBody".to_owned(), body);
        if !confirms {
            result.insert("responseState".to_owned(), json!("FAILURE"));
        }
    }
    let wrapper = if result.contains_key("apiPath") { "apiResult" } else { "functionResult" };
    Some(json!({wrapper: result}))
}

/// The fields that a result repeats, and what is asked for.
fn echo(input: &Value) -> Value {
    let (call, keys): (_, &[&str]) = match input.get("apiInvocationInput") {
        Some(call) => (call, &["actionGroup", "agentId", "apiPath", "httpMethod"]),
        None => (
            input.get("functionInvocationInput").unwrap_or(&Value::Null),
            &["actionGroup", "agentId", "function"],
        ),
    };
    let kept = keys.iter().filter_map(|key| Some(((*key).to_owned(), call.get(*key)?.clone())));
    json!({"kind": kind(input), "fields": kept.collect::<Map<_, _>>()})
}

fn kind(input: &Value) -> &str {
    let call = input.get("functionInvocationInput").or(input.get("apiInvocationInput"));
    call.and_then(|call| call.get("actionInvocationType")).and_then(Value::as_str).unwrap_or("RESULT")
}

impl ReturnControl {
    fn read(
        &self,
        request: &Inbound<Verified>,
        body: &Map<String, Value>,
        control: &Map<String, Value>,
        inputs: &[Value],
        frame: &Frame,
    ) -> Result<Normalized, &'static str> {
        let session = text(body, "sessionId").ok_or("`sessionId` is missing")?;
        let invocation = text(control, "invocationId").ok_or("`invocationId` is missing")?;
        if inputs.is_empty() {
            return Err("`invocationInputs` is empty");
        }
        let mut identity = Delivery::identity(request.caller());
        let agent = text(body, "agentId").unwrap_or(Bedrock::NAME);
        identity.agent = Agent { id: agent.to_owned(), kind: None, model: None };
        identity.human = text(body, "userId").map(parse::human);
        let delivery = Delivery::new(
            (Bedrock::NAME, &self.instance, &frame.name),
            request,
            identity,
            session.to_owned(),
        );
        let delivery = Delivery { id: Some(invocation.to_owned()), ..delivery };
        let mut events = Vec::with_capacity(inputs.len());
        for (at, input) in inputs.iter().enumerate() {
            events.push(call(&delivery, input, body, &format!("{invocation}/{at}"))?);
        }
        let idempotency = parse::canonical(&json!([session, invocation]));
        Ok(Normalized { events, frame: frame.clone(), idempotency })
    }
}

fn call(
    delivery: &Delivery,
    input: &Value,
    body: &Map<String, Value>,
    id: &str,
) -> Result<Event, &'static str> {
    let mut rest = body.clone();
    ["sessionId", "agentId", "userId"].into_iter().for_each(|placed| {
        rest.shift_remove(placed);
    });
    let kinds = [("functionInvocationInput", false), ("apiInvocationInput", true)];
    let (fields, is_api) = kinds
        .into_iter()
        .find_map(|(key, is_api)| Some((input.get(key)?.as_object()?, is_api)))
        .ok_or("an input calls neither a function nor an API")?;
    let group = text(fields, "actionGroup").ok_or("an input has no `actionGroup`")?;
    let mut parameters = Map::new();
    take_properties(fields.get("parameters"), &mut parameters);
    let (name, effect) = if is_api {
        let method = text(fields, "httpMethod").ok_or("an input has no `httpMethod`")?.to_ascii_uppercase();
        let path = text(fields, "apiPath").ok_or("an input has no `apiPath`")?;
        let contents =
            fields.get("requestBody").and_then(|body| body.get("content")).and_then(Value::as_object);
        for content in contents.into_iter().flat_map(Map::values) {
            take_properties(content.get("properties"), &mut parameters);
        }
        (format!("{method} {path}"), effect_of(&method))
    } else {
        (text(fields, "function").ok_or("an input has no `function`")?.to_owned(), Effect::Invoke)
    };
    for (key, value) in fields {
        if !["parameters", "requestBody", "actionGroup", "function", "apiPath", "httpMethod"]
            .contains(&key.as_str())
        {
            rest.insert(key.clone(), value.clone());
        }
    }
    let tool =
        Tool { raw: name.clone(), name, namespace: Bedrock::NAME.to_owned(), server: Some(group.to_owned()) };
    Ok(delivery.action(Call { effect, rest, ..Call::new(id, tool, parameters) }))
}

fn effect_of(method: &str) -> Effect {
    match method {
        "GET" | "HEAD" => Effect::Read,
        "DELETE" => Effect::Delete,
        "PUT" | "PATCH" => Effect::Update,
        _ => Effect::Invoke,
    }
}

/// Parameters are lists of `{name, type, value}` whose values are texts; they become what their type says, and stay
/// texts when they are not of it.
fn take_properties(list: Option<&Value>, parameters: &mut Map<String, Value>) {
    for property in list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        let Some(name) = text(property, "name") else { continue };
        let value = property.get("value").cloned().unwrap_or(Value::Null);
        let is_text = text(property, "type").is_none_or(|kind| kind == "string");
        let read = value.as_str().filter(|_| !is_text).and_then(|text| serde_json::from_str(text).ok());
        parameters.insert(name.to_owned(), read.unwrap_or(value));
    }
}
