//! Qwen Code's hooks, over HTTP or by command.
//!
//! Source: requests and reactions recorded from Qwen Code 0.24.4. The dialect is Claude Code's, but a changed input is
//! ignored and `defer` lets the tool run.

use countersign_sdk::dialect::{Entry, Form, Install, Place, Refusal, Scope, Switch, plain};
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

const PRE_TOOL_USE: &str = "PreToolUse";
const PERMISSION_REQUEST: &str = "PermissionRequest";
const USER_PROMPT_SUBMIT: &str = "UserPromptSubmit";
const POST_TOOL_USE: &str = "PostToolUse";
const POST_TOOL_USE_FAILURE: &str = "PostToolUseFailure";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";

const DIALECT: Dialect = Dialect {
    event_fields: &["hook_event_name"],
    reports: &[
        POST_TOOL_USE,
        POST_TOOL_USE_FAILURE,
        "SessionStart",
        "SessionEnd",
        "Stop",
        "SubagentStart",
        "SubagentStop",
        "Notification",
        "PreCompact",
    ],
    answer_fields: &["hookSpecificOutput", "decision", "reason"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[
            PRE_TOOL_USE,
            PERMISSION_REQUEST,
            USER_PROMPT_SUBMIT,
            POST_TOOL_USE,
            POST_TOOL_USE_FAILURE,
            "SessionStart",
            "SessionEnd",
        ],
        names_event: false,
        places: &[
            Place {
                scope: Scope::System,
                path: "/etc/qwen-code/settings.json",
                form: Form::Lists { entry, frame: managed },
            },
            Place {
                scope: Scope::User,
                path: "~/.qwen/settings.json",
                form: Form::Lists { entry, frame: plain },
            },
        ],
        switches: &[
            Switch::spared("./.qwen/settings.json", "/disableAllHooks", true),
            Switch::spared("~/.qwen/settings.json", "/disableAllHooks", true),
            Switch::new("/etc/qwen-code/settings.json", "/disableAllHooks", true),
        ],
    },
};

/// Of a command, this client counts in milliseconds; of a URL in seconds.
fn entry(entry: &Entry<'_>) -> Value {
    let timeout_ms = entry.timeout_s.saturating_mul(1_000);
    json!({
        "matcher": "*",
        "hooks": [{"type": "command", "name": "countersign", "command": entry.command, "timeout": timeout_ms}],
    })
}

/// The administrator's word on this wins over the user's and the project's.
fn managed(file: &mut Map<String, Value>) {
    file.insert("disableAllHooks".to_owned(), json!(false));
}

/// The connector.
pub struct Qwen;

impl Connector for Qwen {
    const NAME: &'static str = "qwen";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Qwen Code (HTTP hooks, or command hooks through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 60_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "run `countersign hook` instead of an HTTP hook: it refuses by exit code 2 and a reason \
                            whenever the server gives no answer; register it in `/etc/qwen-code/settings.json`, with \
                            `disableAllHooks: false`",
            frames: frames(),
            result_feed: "PostToolUse and PostToolUseFailure hooks, joined by tool_use_id",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has a time and the call id",
            verified: Evidence::Capture,
            limits: vec![
                "over HTTP any error, redirect, time-out or unreadable answer lets the tool run",
                "a changed input is ignored: MODIFY becomes a denial",
                "a project's `.qwen/settings.json` with `disableAllHooks` switches hooks off from the start, unless the \
                 administrator's file says `false`",
                "UserPromptSubmit also comes for every turn that no person started; those are kept as reports",
                "with a private certificate authority HTTP hooks need NODE_EXTRA_CA_CERTS, or every call runs",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(
            site,
            Self::NAME,
            "`/etc/qwen-code/settings.json` or `~/.qwen/settings.json`",
            &[
                "The client also has hooks of `\"type\": \"http\"`. They open on every fault: do not use them to enforce.",
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
        FrameSpec::gate(PRE_TOOL_USE, &[Verdict::Allow]),
        FrameSpec::gate(PERMISSION_REQUEST, &[Verdict::Allow]),
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
        let event = take(&mut body, &["hook_event_name"])
            .ok_or_else(|| NormalizeError::unreadable("`hook_event_name` is missing or not a text"))?;
        let frame = match event.as_str() {
            PRE_TOOL_USE | PERMISSION_REQUEST | USER_PROMPT_SUBMIT => Frame::named(&event),
            _ => Frame::named(OTHER),
        };
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let said = Heading {
            session: take_session(&mut body, &["session_id"], refuse)?,
            turn: take(&mut body, &["prompt_id"]),
            subagent: take(&mut body, &["agent_id"]).map(|agent| (agent, None)),
            agent_kind: take(&mut body, &["agent_type"]),
            model: take(&mut body, &["model"]),
            user: None,
            event,
        };
        let idempotency = idempotency(&said.event, request);
        let hook = self.0.hook(request, said, body);
        let event = event_of(hook).map_err(|reason| refuse(&reason))?;
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let block = |text: &str| json!({"decision": "block", "reason": reason(text)});
        let Some(said) = said.first() else { return Reply::json(&block("nothing was decided")) };
        let text = reason(&said.expression.reason);
        let allowed = said.expression.expressed == Expressed::Allow;
        let word = if allowed { "allow" } else { "deny" };
        let body = match frame.name.as_str() {
            OTHER => json!({}),
            PRE_TOOL_USE | PERMISSION_REQUEST | USER_PROMPT_SUBMIT if allowed && !self.0.grants() => {
                json!({})
            }
            PRE_TOOL_USE => json!({"hookSpecificOutput": {
                "hookEventName": PRE_TOOL_USE, "permissionDecision": word, "permissionDecisionReason": text,
            }}),
            PERMISSION_REQUEST if allowed => json!({"hookSpecificOutput": {
                "hookEventName": PERMISSION_REQUEST, "decision": {"behavior": word},
            }}),
            PERMISSION_REQUEST => json!({"hookSpecificOutput": {
                "hookEventName": PERMISSION_REQUEST, "decision": {"behavior": word, "message": text},
            }}),
            USER_PROMPT_SUBMIT if allowed => json!({}),
            _ => block(text),
        };
        Reply::json(&body)
    }
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let call = |body: &mut Map<String, Value>| {
        // The model's id of the call may come again in a session; the client's own does not.
        Call::take(body, &["tool_name"], &["tool_input"], "tool_use_id")
    };
    Ok(match hook.source.event.as_str() {
        PRE_TOOL_USE | PERMISSION_REQUEST => {
            let call = call(&mut hook.body)?;
            let (effect, tool) = (effect_of(&call.tool), naming::tool(Qwen::NAME, &call.tool));
            Event::Action(Box::new(hook.action(call, effect, tool)))
        }
        POST_TOOL_USE | POST_TOOL_USE_FAILURE => {
            let call = call(&mut hook.body)?;
            let error = take(&mut hook.body, &["error"]);
            let ended = Ended {
                duration_ms: hook.body.get("duration_ms").and_then(Value::as_u64),
                interrupted: hook.body.get("is_interrupt") == Some(&Value::Bool(true)),
                failed: hook.source.event == POST_TOOL_USE_FAILURE,
                output: hook.body.shift_remove("tool_response").unwrap_or_else(|| json!(error)),
                error,
            };
            Event::Outcome(hook.outcome(call, ended))
        }
        USER_PROMPT_SUBMIT => match take(&mut hook.body, &["prompt"]) {
            Some(text) => {
                let by_human = hook.body.contains_key("submitted_prompt");
                Event::Intent(hook.intent(text, by_human))
            }
            // A turn that nobody asked for, such as the one after a tool's result.
            None if hook.body.contains_key("prompt") => Event::Observation(hook.observation()),
            None => return Err("`prompt` is missing or not a text".to_owned()),
        },
        "SessionStart" => Event::SessionStart(hook.boundary("source")),
        "SessionEnd" => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

/// The effect of the client's own tools.
fn effect_of(tool: &str) -> Effect {
    match tool {
        "run_shell_command" => Effect::Execute,
        "write_file" => Effect::Create,
        "edit" | "replace" | "save_memory" | "todo_write" => Effect::Update,
        "glob" | "list_directory" => Effect::List,
        "grep_search" | "read_file" | "read_many_files" | "web_fetch" | "web_search" => Effect::Read,
        _ => Effect::Invoke,
    }
}
