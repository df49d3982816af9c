//! Cline's hook scripts.
//!
//! Source: requests and reactions recorded from Cline CLI 3.0.65. A script is run for each event by its file name; only
//! `cancel: true` on standard output stops a tool, whatever the exit code.

use countersign_sdk::dialect::{Form, Install, Place, Refusal, Scope};
use countersign_sdk::schemas::{Assurance, Effect, Event, Expressed, Timestamp, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Dialect, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass,
    Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use serde_json::{Map, Value, json};

use crate::coding_agent::{
    Call, Channel, Ended, Heading, Hook, Settings, idempotency, reason, setup, take, take_session,
};

const TOOL_CALL: &str = "tool_call";
const TOOL_RESULT: &str = "tool_result";
const AGENT_START: &str = "agent_start";
const AGENT_END: &str = "agent_end";
/// The script's name for what the payload calls by another; it comes below the URL.
const USER_PROMPT_SUBMIT: &str = "UserPromptSubmit";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";

const DIALECT: Dialect = Dialect {
    event_fields: &["hookName"],
    reports: &[
        TOOL_RESULT,
        AGENT_START,
        AGENT_END,
        "PostToolUse",
        "TaskStart",
        "TaskResume",
        "TaskCancel",
        "TaskComplete",
        "PreCompact",
    ],
    answer_fields: &["cancel", "errorMessage", "overrideInput"],
    refusal: Refusal::Body(cancel),
    install: Install {
        events: &["PreToolUse", USER_PROMPT_SUBMIT, "PostToolUse", "TaskStart", "TaskComplete"],
        names_event: true,
        places: &[Place { scope: Scope::User, path: "~/.cline/hooks", form: Form::Scripts }],
        switches: &[],
    },
};

fn cancel(text: &str) -> Value {
    json!({"cancel": true, "errorMessage": reason(text)})
}

/// The connector.
pub struct Cline;

impl Connector for Cline {
    const NAME: &'static str = "cline";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Cline (hook scripts, through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 120_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "`countersign hook` prints a cancellation whenever the server gives no answer; no exit code \
                            stops this client",
            frames: frames(),
            result_feed: "PostToolUse scripts, joined by tool_result.id",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has a time and the call id",
            verified: Evidence::Capture,
            limits: vec![
                "a script that is missing, killed or out of time, or prints one line more, lets the tool run",
                "the scripts belong to the person at the client; there is no place for an administrator's",
                "a denial ends the run: the model does not see the reason and go on",
                "the payload's version of the client is empty",
                "an event whose `hookName` this version does not know, other than a prompt's, is recorded and not \
                 decided",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(
            site,
            Self::NAME,
            "scripts in `~/.cline/hooks`",
            &[
                "Make `~/.cline/hooks` and the scripts in it owned by root, so that the agent cannot replace them.",
            ],
        )
    }

    fn dialect() -> Option<Dialect> {
        Some(DIALECT)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let channel = Channel::new(&settings, env, Self::NAME, false)?;
        Ok(Parts { deadline: channel.deadline, frames: frames(), gate: Box::new(Hooks(channel)), held: None })
    }
}

fn frames() -> Vec<FrameSpec> {
    vec![
        FrameSpec::gate(TOOL_CALL, &[Verdict::Allow, Verdict::Modify]),
        FrameSpec::gate(USER_PROMPT_SUBMIT, &[Verdict::Allow]),
        FrameSpec::notice(OTHER),
    ]
}

/// The gate.
struct Hooks(Channel);

impl Gate for Hooks {
    fn verify(&self, request: &Inbound<Unverified>, _now: Timestamp) -> Result<Caller, VerifyError> {
        self.0.verify(request)
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let mut body = parse::object(&request.body)?;
        let said = take(&mut body, &["hookName"])
            .ok_or_else(|| NormalizeError::unreadable("`hookName` is missing or not a text"))?;
        let is_prompt = request.path == USER_PROMPT_SUBMIT || body.contains_key("userPromptSubmit");
        let event = if is_prompt && said != TOOL_CALL { USER_PROMPT_SUBMIT.to_owned() } else { said };
        let frame = match event.as_str() {
            TOOL_CALL | USER_PROMPT_SUBMIT => Frame::named(&event),
            _ => Frame::named(OTHER),
        };
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let (agent, parent) = (take(&mut body, &["agent_id"]), take(&mut body, &["parent_agent_id"]));
        let subagent = parent.is_some();
        // Kept where the agent is not a subagent: it is the client's name of this run.
        if let Some(agent) = agent.as_ref().filter(|_| !subagent) {
            body.insert("agent_id".to_owned(), json!(agent));
        }
        let said = Heading {
            session: take_session(&mut body, &["taskId"], refuse)?,
            subagent: agent.filter(|_| subagent).map(|agent| (agent, parent)),
            user: take(&mut body, &["userId"]),
            event,
            ..Heading::default()
        };
        let idempotency = idempotency(&said.event, request);
        let hook = self.0.hook(request, said, body);
        let event = event_of(hook).map_err(|reason| refuse(&reason))?;
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let Some(said) = said.first() else { return Reply::json(&cancel("nothing was decided")) };
        let body = match (frame.name.as_str(), said.expression.expressed, &said.modified) {
            (OTHER, ..) | (TOOL_CALL | USER_PROMPT_SUBMIT, Expressed::Allow, _) => json!({"cancel": false}),
            (TOOL_CALL, Expressed::Modify, Some(input)) => json!({"cancel": false, "overrideInput": input}),
            _ => cancel(&said.expression.reason),
        };
        Reply::json(&body)
    }
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let inner = |body: &mut Map<String, Value>, key: &str| match body.shift_remove(key) {
        Some(Value::Object(inner)) => Ok(inner),
        _ => Err(format!("`{key}` is missing or not an object")),
    };
    let call = |inner: &mut Map<String, Value>| Call::take(inner, &["name"], &["input"], "id");
    Ok(match hook.source.event.as_str() {
        TOOL_CALL => {
            let call = call(&mut inner(&mut hook.body, TOOL_CALL)?)?;
            // The same call once more, with its arguments as texts.
            hook.body.shift_remove("preToolUse");
            let (effect, tool) = (effect_of(&call.tool), naming::tool(Cline::NAME, &call.tool));
            Event::Action(Box::new(hook.action(call, effect, tool)))
        }
        TOOL_RESULT => {
            let mut result = inner(&mut hook.body, TOOL_RESULT)?;
            let call = call(&mut result)?;
            let error = take(&mut result, &["error"]);
            let ended = Ended {
                duration_ms: result.get("durationMs").and_then(Value::as_u64),
                failed: hook.body.get("postToolUse").and_then(|post| post.get("success"))
                    == Some(&Value::Bool(false)),
                interrupted: false,
                output: result.shift_remove("output").unwrap_or_default(),
                error,
            };
            Event::Outcome(hook.outcome(call, ended))
        }
        USER_PROMPT_SUBMIT => {
            let mut submitted = inner(&mut hook.body, "userPromptSubmit")?;
            let text = take(&mut submitted, &["prompt"]).ok_or("`prompt` is missing or not a text")?;
            Event::Intent(hook.intent(text, true))
        }
        AGENT_START => Event::SessionStart(hook.boundary("reason")),
        AGENT_END => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

/// The effect of the client's own tools.
fn effect_of(tool: &str) -> Effect {
    match tool {
        "browser_action" | "execute_command" | "run_commands" => Effect::Execute,
        "write_to_file" => Effect::Create,
        "apply_patch" | "editor" | "replace_in_file" => Effect::Update,
        "list_files" => Effect::List,
        "fetch_web_content" | "read_file" | "read_files" | "search_codebase" | "search_files"
        | "web_fetch" => Effect::Read,
        _ => Effect::Invoke,
    }
}
