//! Gemini CLI's command hooks.
//!
//! Source: google-gemini/gemini-cli, "Hooks" (main branch of 2026-08-21), and requests and reactions recorded from Gemini
//! CLI 0.61.0. Calls have no id; a changed input is merged into the one that was asked for; `ask` hangs headless.

use countersign_sdk::dialect::{Entry, Form, Install, Place, Refusal, Scope, Switch, plain, set_in};
use countersign_sdk::schemas::{Assurance, Effect, Event, Expressed, Timestamp, Tool, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Dialect, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass,
    Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use serde_json::{Map, Value, json};

use crate::coding_agent::{
    Call, Channel, Ended, Heading, Hook, Settings, idempotency, reason, setup, take, take_session,
};

const BEFORE_TOOL: &str = "BeforeTool";
const BEFORE_AGENT: &str = "BeforeAgent";
const AFTER_TOOL: &str = "AfterTool";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";

const DIALECT: Dialect = Dialect {
    event_fields: &["hook_event_name"],
    reports: &[
        AFTER_TOOL,
        "AfterAgent",
        "AfterModel",
        "BeforeModel",
        "BeforeToolSelection",
        "Notification",
        "PreCompress",
        "SessionStart",
        "SessionEnd",
    ],
    answer_fields: &["decision", "reason", "hookSpecificOutput"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[BEFORE_TOOL, BEFORE_AGENT, AFTER_TOOL, "SessionStart", "SessionEnd"],
        names_event: false,
        places: &[
            Place {
                scope: Scope::System,
                path: "/etc/gemini-cli/settings.json",
                form: Form::Lists { entry, frame: managed },
            },
            Place {
                scope: Scope::User,
                path: "~/.gemini/settings.json",
                form: Form::Lists { entry, frame: plain },
            },
        ],
        switches: &[
            Switch::spared("./.gemini/settings.json", "/hooksConfig/enabled", false),
            Switch::spared("~/.gemini/settings.json", "/hooksConfig/enabled", false),
            Switch::new("/etc/gemini-cli/settings.json", "/hooksConfig/enabled", false),
        ],
    },
};

/// This client counts in milliseconds.
fn entry(entry: &Entry<'_>) -> Value {
    let timeout_ms = entry.timeout_s.saturating_mul(1_000);
    json!({
        "matcher": "*",
        "hooks": [{"type": "command", "name": "countersign", "command": entry.command, "timeout": timeout_ms}],
    })
}

/// The administrator's word on this wins over the user's and the project's.
fn managed(file: &mut Map<String, Value>) {
    set_in(file, "hooksConfig", "enabled", json!(true));
}

/// The connector.
pub struct Gemini;

impl Connector for Gemini {
    const NAME: &'static str = "gemini";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Google Gemini CLI (command hooks, through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 60_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "`countersign hook` refuses by exit code 2 and a reason whenever the server gives no answer; \
                            register it in `/etc/gemini-cli/settings.json`, with `hooksConfig.enabled: true`",
            frames: frames(),
            result_feed: "AfterTool hooks, joined by tool and arguments within the session",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has a time in milliseconds",
            verified: Evidence::Capture,
            limits: vec![
                "a command that is killed or out of time lets the tool run",
                "a project's `.gemini/settings.json` with `hooksConfig.enabled: false` switches hooks off from the start, \
                 unless the administrator's file says `true`",
                "calls have no id: equal calls of one session are one action, and a report belongs to the last of \
                 them; equal calls within one millisecond are taken for a repetition",
                "an MCP tool without `mcp_context` keeps its raw name, which does not tell server and tool apart",
                "it names neither the person nor itself; `countersign hook` adds both, unproved",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(site, Self::NAME, "`/etc/gemini-cli/settings.json` or `~/.gemini/settings.json`", &[])
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
        FrameSpec { merges: true, ..FrameSpec::gate(BEFORE_TOOL, &[Verdict::Allow, Verdict::Modify]) },
        FrameSpec::gate(BEFORE_AGENT, &[Verdict::Allow]),
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
            BEFORE_TOOL | BEFORE_AGENT => Frame::named(&event),
            _ => Frame::named(OTHER),
        };
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let session = take_session(&mut body, &["session_id"], refuse)?;
        let idempotency = idempotency(&event, request);
        let hook = self.0.hook(request, Heading { event, session, ..Heading::default() }, body);
        let event = event_of(hook).map_err(|reason| refuse(&reason))?;
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let deny = |text: &str| json!({"decision": "deny", "reason": reason(text)});
        let Some(said) = said.first() else { return Reply::json(&deny("nothing was decided")) };
        let granted = || json!({"decision": "allow", "reason": reason(&said.expression.reason)});
        let body = match (frame.name.as_str(), said.expression.expressed, &said.modified) {
            (BEFORE_TOOL, Expressed::Allow, _) if self.0.grants() => granted(),
            (OTHER, ..) | (BEFORE_TOOL | BEFORE_AGENT, Expressed::Allow, _) => json!({}),
            (BEFORE_TOOL, Expressed::Modify, Some(input)) => {
                let mut answer = if self.0.grants() { granted() } else { json!({}) };
                answer["hookSpecificOutput"] = json!({"hookEventName": BEFORE_TOOL, "tool_input": input});
                answer
            }
            _ => deny(&said.expression.reason),
        };
        Reply::json(&body)
    }
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let call =
        |body: &mut Map<String, Value>| Call::take(body, &["tool_name"], &["tool_input"], "tool_use_id");
    Ok(match hook.source.event.as_str() {
        BEFORE_TOOL => {
            let call = call(&mut hook.body)?;
            let (effect, tool) = (effect_of(&call.tool), tool_of(&call.tool, hook.body.get("mcp_context")));
            Event::Action(Box::new(hook.action(call, effect, tool)))
        }
        AFTER_TOOL => {
            let call = call(&mut hook.body)?;
            let output = hook.body.shift_remove("tool_response").unwrap_or_default();
            let error = output.pointer("/error/message").and_then(Value::as_str).map(str::to_owned);
            Event::Outcome(hook.outcome(call, Ended { output, error, ..Ended::default() }))
        }
        BEFORE_AGENT => {
            let text = take(&mut hook.body, &["prompt"]).ok_or("`prompt` is missing or not a text")?;
            Event::Intent(hook.intent(text, true))
        }
        "SessionStart" => Event::SessionStart(hook.boundary("source")),
        "SessionEnd" => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

/// `mcp_server_tool` is ambiguous; the client says beside it which is which.
fn tool_of(raw: &str, context: Option<&Value>) -> Tool {
    let said = |key: &str| context.and_then(|context| context.get(key)).and_then(Value::as_str);
    match (said("server_name"), said("tool_name")) {
        (Some(server), Some(name)) => Tool {
            name: name.to_owned(),
            namespace: "mcp".to_owned(),
            raw: raw.to_owned(),
            server: Some(server.to_owned()),
        },
        _ => naming::tool(Gemini::NAME, raw),
    }
}

/// The effect of the client's own tools.
fn effect_of(tool: &str) -> Effect {
    match tool {
        "run_shell_command" => Effect::Execute,
        "write_file" => Effect::Create,
        "replace" | "save_memory" | "write_todos" => Effect::Update,
        "glob" | "list_directory" => Effect::List,
        "google_web_search"
        | "grep_search"
        | "read_file"
        | "read_many_files"
        | "search_file_content"
        | "web_fetch" => Effect::Read,
        _ => Effect::Invoke,
    }
}
