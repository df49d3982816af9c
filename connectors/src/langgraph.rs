//! LangGraph server: a run that a human-in-the-loop middleware interrupts ends, and the server says so to the run's
//! `webhook`. What it waits for is read from the thread's state; the run that continues it carries the decisions.
//!
//! Source: langchain 1.5.2 (`HumanInTheLoopMiddleware`), langgraph-api 0.16.7 (`webhook.py`) and langgraph-sdk 0.4.14
//! (PyPI). Webhooks carry static headers and no signature, and nothing of their content is believed but which thread to
//! look at.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::schemas::{Action, Agent, Assurance, Expressed, Timestamp, Verdict};
use countersign_sdk::signature::Bearers;
use countersign_sdk::{
    CallError, CallOutcome, Callback, Caller, ConnectError, Connector, Env, Evidence, FailMode, FetchError,
    Frame, FrameSpec, Gate, GateClass, Held, Inbound, Manifest, NormalizeError, Normalized, Parts, Reply,
    Said, SecretRef, Site, Unverified, Verified, VerifyError, naming, parse,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::support::api::{Api, failure, is_id, status_failure};
use crate::support::gather::{Gather, Step};
use crate::support::{self, Call, Delivery, Ended, chat, text};

/// Frame of every run that ended; it may have ended because it waits.
const RUN: &str = "run";
/// What is put beside the notification: the thread's state.
const STATE: &str = "state";
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Settings of a `langgraph` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bearer tokens by the name of the server that sends them, each at least 16 bytes.
    pub tokens: BTreeMap<String, SecretRef>,
    /// The LangGraph server, for example `https://graphs.example.com`. Its host must be in `[egress] allow_hosts`.
    pub api_base: String,
    /// The server's API key, sent as `x-api-key`, when it wants one.
    #[serde(default)]
    pub api_key: Option<SecretRef>,
}

/// The connector.
pub struct LangGraph;

impl Connector for LangGraph {
    const NAME: &'static str = "langgraph";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "LangGraph server (human-in-the-loop interrupts)",
            class: GateClass::Held,
            vendor_window_ms: 10_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Closed,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "an interrupted thread waits; tools that `interrupt_on` does not list run without asking",
            frames: frames(),
            result_feed: "tool messages in the thread's state, at its next webhook",
            authentication: "static bearer token; the thread's state is read from the server itself",
            assurance: Assurance::ClientAsserted,
            idempotency: "thread and interrupt ids",
            verified: Evidence::Capture,
            limits: vec![
                "tools that `interrupt_on` does not list are approved by the middleware itself",
                "a run that is started without the `webhook` parameter is not seen, and waits",
                "all calls of an interruption are answered at once: the slowest decides when",
                "a batched interrupt has no tool call ids: a call is told by its place, and joined with its result by name \
                 and arguments",
                "who may start runs and read threads is the server's business",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Give the agent `HumanInTheLoopMiddleware(interrupt_on={{TOOL: True, …}})` with every tool that acts: what \
             is not listed runs without asking.\n\
             2. Make a token of at least 16 bytes. In the configuration, refer to it as `tokens = {{ NAME = {{ env = \
             \"...\" }} }}` under `[connectors.{instance}]`, set `api_base` to the LangGraph server, and add its host to \
             `[egress] allow_hosts`.\n\
             3. In `langgraph.json` let the server show the token: `\"webhooks\": {{\"env_prefix\": \"LG_WEBHOOK_\", \
             \"headers\": {{\"authorization\": \"Bearer {{{{ env.LG_WEBHOOK_TOKEN }}}}\"}}}}`. (`langgraph dev` sends that text as it \
             stands: write the token itself there.)\n\
             4. Start runs with `webhook=\"{url}\"`. Runs that Countersign continues carry it by themselves.\n\
             5. Let the agent call a tool and find the receipt with `countersign receipts tail`.\n",
            url = site.hook_url(),
            instance = site.instance,
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let tokens = support::bearers(env, &settings.tokens)?;
        let mut headers = Vec::new();
        if let Some(reference) = &settings.api_key {
            headers.push(("x-api-key", env.secret("api_key", reference)?));
        }
        let api = Api::connect(env, &settings.api_base, headers)?;
        let webhook = format!("{}/hooks/{}", env.public_url, env.instance);
        Ok(Parts {
            deadline: Duration::from_secs(10),
            frames: frames(),
            gate: Box::new(Webhook { instance: env.instance.to_owned(), tokens }),
            held: Some(Box::new(Threads { api, gather: Gather::default(), webhook })),
        })
    }
}

fn frames() -> Vec<FrameSpec> {
    vec![FrameSpec { held: true, ..FrameSpec::gate(RUN, &[Verdict::Allow, Verdict::Modify]) }]
}

/// The gate.
struct Webhook {
    instance: String,
    tokens: Bearers,
}

impl Gate for Webhook {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        support::by_token(&self.tokens, request)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let body = parse::object(&request.body)?;
        let frame = Frame::named(RUN);
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let thread = text(&body, "thread_id").ok_or_else(|| refuse("`thread_id` is missing"))?;
        let assistant = text(&body, "assistant_id").ok_or_else(|| refuse("`assistant_id` is missing"))?;
        let state = body.get(STATE).and_then(Value::as_object);
        let state = state.ok_or_else(|| refuse("the thread's state is not known"))?;
        let delivery = self.delivery(request, &body, thread, assistant);
        let messages =
            state.get("values").and_then(|values| values.get("messages")).and_then(Value::as_array);
        let messages = messages.map_or(&[][..], Vec::as_slice);
        let asked = Question::all(state).map_err(refuse)?;
        let mut made = calls_made(messages);
        let ids: Vec<String> = asked.iter().map(|question| question.id(&mut made)).collect();
        let mut events: Vec<_> = results(messages).map(|ended| delivery.outcome(ended)).collect();
        events.extend(intent(messages).map(|text| delivery.intent(&text)));
        for (question, id) in asked.iter().zip(&ids) {
            let resume = json!({
                "assistant_id": assistant, "all": ids, "interrupt_id": question.interrupt_id,
                "interrupts": interrupt_ids(&asked), "is_single": question.is_single,
            });
            let rest = Map::from_iter([
                ("resume".to_owned(), resume),
                ("run_id".to_owned(), body.get("run_id").cloned().unwrap_or(Value::Null)),
            ]);
            let tool = naming::tool(LangGraph::NAME, &question.name);
            events.push(delivery.action(Call { rest, ..Call::new(id, tool, question.arguments.clone()) }));
        }
        let idempotency = if asked.is_empty() {
            parse::canonical(&json!([thread, body.get("run_id")]))
        } else {
            parse::canonical(&json!([thread, interrupt_ids(&asked), ids]))
        };
        if events.is_empty() {
            events.push(
                delivery.observation(Map::from_iter([("status".to_owned(), json!(text(&body, "status")))])),
            );
        }
        Ok(Normalized { events, frame, idempotency })
    }

    fn answer(&self, _frame: &Frame, said: &[Said<'_>]) -> Reply {
        // The server reads the status alone: the decisions go into the run that continues.
        let words: Vec<_> = said
            .iter()
            .map(|said| json!({"decision": said.expression.expressed, "receiptId": said.receipt_id}))
            .collect();
        Reply::json(&json!({"decisions": words}))
    }
}

impl Webhook {
    fn delivery(
        &self,
        request: &Inbound<Verified>,
        body: &Map<String, Value>,
        thread: &str,
        assistant: &str,
    ) -> Delivery {
        let at = |pointer: &str| {
            let given = Value::pointer(body.get("kwargs").unwrap_or(&Value::Null), pointer);
            given.and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        let none = Map::new();
        let metadata = body.get("metadata").and_then(Value::as_object).unwrap_or(&none);
        let user = at("/config/configurable/langgraph_auth_user_id")
            .or(at("/config/configurable/user_id"))
            .or(text(metadata, "user_id"));
        let mut identity = Delivery::identity(request.caller());
        identity.agent = Agent { id: assistant.to_owned(), kind: None, model: None };
        identity.human = user.map(parse::human);
        let delivery =
            Delivery::new((LangGraph::NAME, &self.instance, RUN), request, identity, thread.to_owned());
        Delivery { id: text(body, "run_id").map(str::to_owned), ..delivery }
    }
}

/// One call that an interrupt asks about.
struct Question {
    arguments: Map<String, Value>,
    /// Its place in a batched interrupt.
    index: usize,
    interrupt_id: String,
    /// Whether the interrupt asks about this one call and takes one decision instead of a list.
    is_single: bool,
    name: String,
    tool_call_id: Option<String>,
}

impl Question {
    /// Everything that a thread's state waits for. Interrupts of another kind are somebody else's to answer, and a
    /// thread that also waits for one of those cannot be continued from here.
    fn all(state: &Map<String, Value>) -> Result<Vec<Self>, &'static str> {
        let tasks = state.get("tasks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let interrupts = tasks.iter().filter_map(|task| task.get("interrupts")?.as_array()).flatten();
        let mut found = Vec::new();
        for interrupt in interrupts {
            let id = interrupt.get("id").and_then(Value::as_str).unwrap_or_default();
            let value = interrupt.get("value").unwrap_or(&Value::Null);
            match value.get("action_requests").and_then(Value::as_array) {
                Some(requests) => {
                    for (index, request) in requests.iter().enumerate() {
                        found.push(Self::read(request, id, index, false)?);
                    }
                }
                None if value.get("type").and_then(Value::as_str) == Some("tool_approval") => {
                    found.push(Self::read(value, id, 0, true)?);
                }
                None => return Err("the thread waits for something that is not a tool call"),
            }
        }
        Ok(found)
    }

    fn read(request: &Value, interrupt: &str, index: usize, is_single: bool) -> Result<Self, &'static str> {
        let request = request.as_object().ok_or("an action request is not an object")?;
        // langchain 1.x writes `args`; its documentation also says `arguments`.
        let written = request.get("args").or(request.get("arguments"));
        Ok(Self {
            arguments: chat::arguments(written)?,
            index,
            interrupt_id: interrupt.to_owned(),
            is_single,
            name: text(request, "name").ok_or("an action request has no name")?.to_owned(),
            tool_call_id: text(request, "tool_call_id").map(str::to_owned),
        })
    }

    /// The model's id of the call, where it is said or can be found among those made; else its place.
    fn id(&self, made: &mut Vec<(String, String, Map<String, Value>)>) -> String {
        let same = |(_, name, arguments): &(String, String, Map<String, Value>)| {
            *name == self.name && *arguments == self.arguments
        };
        let found = made.iter().position(same).map(|at| made.remove(at).0);
        let place = || format!("{}/{}", self.interrupt_id, self.index);
        self.tool_call_id.clone().or(found).unwrap_or_else(place)
    }
}

fn interrupt_ids(asked: &[Question]) -> Vec<&str> {
    let mut ids: Vec<&str> = asked.iter().map(|question| question.interrupt_id.as_str()).collect();
    ids.dedup();
    ids
}

fn kind(message: &Value) -> &str {
    message.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Id, name and arguments of the calls that the model made last.
fn calls_made(messages: &[Value]) -> Vec<(String, String, Map<String, Value>)> {
    let last = messages.iter().rev().find(|message| kind(message) == "ai");
    let calls = last.and_then(|last| last.get("tool_calls")?.as_array());
    let read = |call: &Value| {
        let call = call.as_object()?;
        let arguments = call.get("args").and_then(Value::as_object).cloned().unwrap_or_default();
        Some((text(call, "id")?.to_owned(), text(call, "name")?.to_owned(), arguments))
    };
    calls.into_iter().flatten().filter_map(read).collect()
}

/// Results that came since the model's last call but one: those after it are of this run, and those before were told.
fn results(messages: &[Value]) -> impl Iterator<Item = Ended> {
    let mut spoken =
        messages.iter().enumerate().filter(|(_, message)| kind(message) == "ai").map(|(at, _)| at).rev();
    let last = spoken.next().unwrap_or(0);
    let begin = spoken.next().unwrap_or(last);
    messages[begin.min(messages.len())..].iter().filter(|message| kind(message) == "tool").filter_map(
        |message| {
            Some(Ended {
                call: message.get("tool_call_id")?.as_str()?.to_owned(),
                output: message.get("content").cloned().unwrap_or(Value::Null),
                failed: message.get("status").and_then(Value::as_str) == Some("error"),
                tool: message.get("name").and_then(Value::as_str).map(str::to_owned),
            })
        },
    )
}

/// What the user asked last, while the model has not answered more than once.
fn intent(messages: &[Value]) -> Option<String> {
    let at = messages.iter().rposition(|message| kind(message) == "human")?;
    let answered = messages[at..].iter().filter(|message| kind(message) == "ai").count();
    let content = messages[at].get("content")?.as_str()?;
    (answered <= 1 && !content.is_empty()).then(|| content.to_owned())
}

/// Threads, by the server's API.
struct Threads {
    api: Api,
    gather: Gather,
    webhook: String,
}

/// What waits in the outbox.
#[derive(Debug, Serialize, Deserialize)]
struct Resume {
    all: Vec<String>,
    assistant_id: String,
    decision: Value,
    id: String,
    interrupt_id: String,
    interrupts: Vec<String>,
    is_single: bool,
    thread_id: String,
}

impl Threads {
    async fn state(&self, thread: &str) -> Result<Map<String, Value>, FetchError> {
        self.api.get(&format!("/threads/{thread}/state")).await
    }

    async fn resume(&self, owed: &Resume, answers: &[Value]) -> Result<CallOutcome, CallError> {
        let body = json!({
            "assistant_id": owed.assistant_id,
            "command": {"resume": resume_value(answers)},
            // A run in flight means that somebody has continued the thread already.
            "multitask_strategy": "reject",
            "webhook": self.webhook,
        });
        let path = format!("/threads/{}/runs", owed.thread_id);
        let answer = self.api.post(&path, &body).await.map_err(failure)?;
        if answer.is_success() { Ok(CallOutcome::Delivered) } else { Err(status_failure(answer.status)) }
    }
}

/// One interrupt is answered alone; several by their ids. A batched one takes a list in the order of its requests.
fn resume_value(answers: &[Value]) -> Value {
    let mut by_interrupt: Map<String, Value> = Map::new();
    for answer in answers {
        let id = answer["interrupt_id"].as_str().unwrap_or_default();
        if answer["is_single"] == Value::Bool(true) {
            by_interrupt.insert(id.to_owned(), answer["decision"].clone());
            continue;
        }
        let batch = by_interrupt.entry(id.to_owned()).or_insert_with(|| json!({"decisions": []}));
        if let Some(decisions) = batch.get_mut("decisions").and_then(Value::as_array_mut) {
            decisions.push(answer["decision"].clone());
        }
    }
    match by_interrupt.len() {
        1 => by_interrupt.into_iter().next().map_or(Value::Null, |(_, only)| only),
        _ => Value::Object(by_interrupt),
    }
}

#[async_trait]
impl Held for Threads {
    fn callback(&self, action: &Action, said: &Said<'_>) -> Callback {
        let mut owed = action.vendor_fields.get("resume").cloned().unwrap_or_else(|| json!({}));
        let receipt = said.receipt_id.as_ref().map_or("none", |receipt| receipt.as_str());
        let message = format!("{} (receipt {receipt})", said.expression.reason);
        owed["decision"] = match (said.expression.expressed, &said.modified) {
            (Expressed::Allow, _) => json!({"type": "approve"}),
            (Expressed::Modify, Some(arguments)) => {
                json!({"type": "edit", "edited_action": {"name": action.tool.raw, "args": arguments}})
            }
            _ => json!({"type": "reject", "message": parse::cut(&message, MESSAGE_CHARS_MAX)}),
        };
        owed["id"] = json!(action.call_id);
        owed["thread_id"] = json!(action.session.vendor_id);
        Callback(owed)
    }

    async fn call(&self, callback: &Callback, _now: Timestamp) -> Result<CallOutcome, CallError> {
        let owed = Resume::deserialize(&callback.0)
            .ok()
            .filter(|owed| is_id(&owed.thread_id) && owed.all.contains(&owed.id))
            .ok_or_else(|| CallError::Permanent("the callback is not readable".to_owned()))?;
        let state = self.state(&owed.thread_id).await.map_err(failure)?;
        let waits = Question::all(&state).unwrap_or_default();
        if interrupt_ids(&waits) != owed.interrupts {
            return Ok(CallOutcome::Moot("the thread no longer waits for this".to_owned()));
        }
        let round = parse::canonical(&json!([owed.thread_id, owed.interrupts]));
        let answer = json!({
            "decision": owed.decision, "interrupt_id": owed.interrupt_id, "is_single": owed.is_single,
        });
        match self.gather.note(&round, &owed.all, &owed.id, answer) {
            Step::Sent => Ok(CallOutcome::Delivered),
            Step::Wait(missing) => {
                Err(CallError::Retry(format!("waits for {missing} more decisions on the same interruption")))
            }
            Step::Send(answers) => {
                let outcome = self.resume(&owed, &answers).await;
                self.gather.settle(&round, outcome.is_ok());
                outcome
            }
        }
    }

    async fn complete(
        &self,
        request: &Inbound<Verified>,
        _now: Timestamp,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let Ok(mut body) = parse::object(&request.body) else { return Ok(None) };
        // Never the sender's own: only the server says what a thread waits for.
        body.shift_remove(STATE);
        if let Some(thread) = text(&body, "thread_id").filter(|id| is_id(id)) {
            let state = self.state(thread).await?;
            body.insert(STATE.to_owned(), Value::Object(state));
        }
        Ok(Some(Value::Object(body).to_string().into_bytes()))
    }

    /// The server keeps no list of webhooks that failed: the thread waits.
    async fn sweep(&self, _since: Timestamp, _now: Timestamp) -> Result<u64, CallError> {
        Ok(0)
    }
}
