//! Codex's command hooks.
//!
//! Source: OpenAI, "Hooks" of the Codex documentation (read 2026-11-23), and requests and reactions recorded from Codex
//! 0.169.0. Its answers are a closed schema: an unknown field, a decision without a reason, `ask` and `defer` all let
//! the tool run.

use countersign_sdk::dialect::{Form, Install, Place, Refusal, Scope, Switch, plain, set_in};
use countersign_sdk::schemas::{Assurance, Effect, Event, Expressed, Timestamp, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Dialect, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass,
    Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use serde_json::{Map, Value, json};

use crate::coding_agent::{
    Call, Channel, Ended, Heading, Hook, Settings, grouped, idempotency, reason, setup, take, take_session,
};

const PRE_TOOL_USE: &str = "PreToolUse";
const PERMISSION_REQUEST: &str = "PermissionRequest";
const USER_PROMPT_SUBMIT: &str = "UserPromptSubmit";
const POST_TOOL_USE: &str = "PostToolUse";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";
/// Events that only report.
const REPORTS: [&str; 9] = [
    POST_TOOL_USE,
    "SessionStart",
    "SessionEnd",
    "Stop",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "PostCompact",
    "Interrupt",
];

const DIALECT: Dialect = Dialect {
    event_fields: &["hook_event_name"],
    reports: &REPORTS,
    answer_fields: &["hookSpecificOutput", "decision", "reason"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[
            PRE_TOOL_USE,
            PERMISSION_REQUEST,
            USER_PROMPT_SUBMIT,
            POST_TOOL_USE,
            "SessionStart",
            "Stop",
            "SessionEnd",
        ],
        names_event: false,
        places: &[
            Place {
                scope: Scope::System,
                path: "/etc/codex/requirements.toml",
                form: Form::Lists { entry: grouped, frame: managed },
            },
            Place {
                scope: Scope::User,
                path: "~/.codex/hooks.json",
                form: Form::Lists { entry: grouped, frame: plain },
            },
        ],
        switches: &[
            Switch::spared("./.codex/config.toml", "/features/hooks", false),
            Switch::spared("~/.codex/config.toml", "/features/hooks", false),
        ],
    },
};

/// The connector.
pub struct Codex;

impl Connector for Codex {
    const NAME: &'static str = "codex";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "OpenAI Codex (command hooks, through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 600_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "`countersign hook` refuses by exit code 2 and a reason whenever the server gives no answer; \
                            register it in `requirements.toml` with `allow_managed_hooks_only`",
            frames: frames(),
            result_feed: "PostToolUse hooks, joined by tool_use_id",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has turn and call id",
            verified: Evidence::Capture,
            limits: vec![
                "a command that is missing, killed or out of time lets the tool run",
                "`write_stdin` has no hook: what is typed into a running program is not seen; deny interactive \
                 interpreters",
                "a hook that nobody trusted is skipped without a word; hooks of `requirements.toml` need no trust",
                "a trusted project's `.codex/config.toml` can switch unmanaged hooks off",
                "hosted tools, such as web search, have no hook",
                "a changed input is also a permission: the dialect has no form for the one without the other",
                "PermissionRequest names no call and no time, so equal requests in one turn are one action",
                "it names neither the person nor itself; `countersign hook` adds both, unproved",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(
            site,
            Self::NAME,
            "`/etc/codex/requirements.toml` or `~/.codex/hooks.json`",
            &["Hooks of `~/.codex/hooks.json` have to be trusted once: start `codex` and confirm them."],
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

/// Only these hooks, and they are on whatever another file says.
fn managed(file: &mut Map<String, Value>) {
    file.insert("allow_managed_hooks_only".to_owned(), json!(true));
    set_in(file, "features", "hooks", json!(true));
}

fn frames() -> Vec<FrameSpec> {
    vec![
        FrameSpec::gate(PRE_TOOL_USE, &[Verdict::Allow, Verdict::Modify]),
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
        let frame = frame_of(&event);
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let said = Heading {
            session: take_session(&mut body, &["session_id"], refuse)?,
            turn: take(&mut body, &["turn_id"]),
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
        let Some(said) = said.first() else { return Reply::json(&block("nothing was decided")) };
        let text = reason(&said.expression.reason);
        let specific = |fields| json!({"hookSpecificOutput": fields});
        let body = match (frame.name.as_str(), said.expression.expressed, &said.modified) {
            (OTHER, ..) | (PRE_TOOL_USE | USER_PROMPT_SUBMIT, Expressed::Allow, _) => json!({}),
            (PRE_TOOL_USE, Expressed::Modify, Some(input)) => specific(json!({
                "hookEventName": PRE_TOOL_USE, "permissionDecision": "allow", "updatedInput": input,
            })),
            (PRE_TOOL_USE, ..) => specific(json!({
                "hookEventName": PRE_TOOL_USE, "permissionDecision": "deny", "permissionDecisionReason": text,
            })),
            (PERMISSION_REQUEST, Expressed::Allow, _) if !self.0.grants() => json!({}),
            (PERMISSION_REQUEST, Expressed::Allow, _) => specific(json!({
                "hookEventName": PERMISSION_REQUEST, "decision": {"behavior": "allow"},
            })),
            (PERMISSION_REQUEST, ..) => specific(json!({
                "hookEventName": PERMISSION_REQUEST, "decision": {"behavior": "deny", "message": text},
            })),
            _ => block(text),
        };
        Reply::json(&body)
    }
}

fn frame_of(event: &str) -> Frame {
    match event {
        PRE_TOOL_USE | PERMISSION_REQUEST | USER_PROMPT_SUBMIT => Frame::named(event),
        _ => Frame::named(OTHER),
    }
}

/// The one form that stops a tool and a prompt alike.
fn block(text: &str) -> Value {
    json!({"decision": "block", "reason": reason(text)})
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let call =
        |body: &mut Map<String, Value>| Call::take(body, &["tool_name"], &["tool_input"], "tool_use_id");
    Ok(match hook.source.event.as_str() {
        PRE_TOOL_USE | PERMISSION_REQUEST => {
            let call = call(&mut hook.body)?;
            let (effect, tool) = (effect_of(&call.tool), naming::tool(Codex::NAME, &call.tool));
            Event::Action(Box::new(hook.action(call, effect, tool)))
        }
        POST_TOOL_USE => {
            let call = call(&mut hook.body)?;
            let output = hook.body.shift_remove("tool_response").unwrap_or_default();
            Event::Outcome(hook.outcome(call, Ended { output, ..Ended::default() }))
        }
        USER_PROMPT_SUBMIT => {
            let text = take(&mut hook.body, &["prompt"]).ok_or("`prompt` is missing or not a text")?;
            Event::Intent(hook.intent(text, true))
        }
        "SessionStart" => Event::SessionStart(hook.boundary("source")),
        "SessionEnd" => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

/// The effect of the client's own tools.
fn effect_of(tool: &str) -> Effect {
    match tool {
        "Bash" | "exec_command" | "local_shell" | "shell" | "write_stdin" => Effect::Execute,
        "apply_patch" => Effect::Update,
        _ => Effect::Invoke,
    }
}
