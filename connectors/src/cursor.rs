//! Cursor's hooks.
//!
//! Source: Cursor, "Hooks" (read 2026-11-23 and 2026-11-24). Nobody recorded this client.

use countersign_sdk::dialect::{Entry, Form, Install, Place, Refusal, Scope};
use countersign_sdk::schemas::{Assurance, Effect, Event, Expressed, Timestamp, Tool, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Dialect, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass,
    Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use serde_json::{Map, Value, json};

use crate::coding_agent::{
    Call, Channel, Ended, Heading, Hook, Settings, StepUpAs, idempotency, reason, setup, take, take_session,
};

const PRE_TOOL_USE: &str = "preToolUse";
const BEFORE_SHELL: &str = "beforeShellExecution";
const BEFORE_MCP: &str = "beforeMCPExecution";
const BEFORE_READ: &str = "beforeReadFile";
const BEFORE_PROMPT: &str = "beforeSubmitPrompt";
const SUBAGENT_START: &str = "subagentStart";
const POST_TOOL_USE: &str = "postToolUse";
const POST_TOOL_USE_FAILURE: &str = "postToolUseFailure";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";

const DIALECT: Dialect = Dialect {
    event_fields: &["hook_event_name"],
    reports: &[
        POST_TOOL_USE,
        POST_TOOL_USE_FAILURE,
        "afterAgentResponse",
        "afterAgentThought",
        "afterFileEdit",
        "afterMCPExecution",
        "afterShellExecution",
        "afterTabFileEdit",
        "preCompact",
        "sessionEnd",
        "sessionStart",
        "stop",
        "subagentStop",
    ],
    answer_fields: &["permission", "user_message", "agent_message", "updated_input", "continue"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[
            PRE_TOOL_USE,
            BEFORE_PROMPT,
            SUBAGENT_START,
            POST_TOOL_USE,
            POST_TOOL_USE_FAILURE,
            "sessionStart",
            "sessionEnd",
        ],
        names_event: false,
        places: &[
            Place {
                scope: Scope::System,
                path: "/etc/cursor/hooks.json",
                form: Form::Lists { entry, frame: version },
            },
            Place {
                scope: Scope::User,
                path: "~/.cursor/hooks.json",
                form: Form::Lists { entry, frame: version },
            },
        ],
        switches: &[],
    },
};

/// Only what asks fails closed: a report that fails must not stop the work.
fn entry(entry: &Entry<'_>) -> Value {
    let asks = !DIALECT.reports.contains(&entry.event);
    json!({"command": entry.command, "timeout": entry.timeout_s, "failClosed": asks})
}

fn version(file: &mut Map<String, Value>) {
    file.insert("version".to_owned(), json!(1));
}

/// The connector.
pub struct Cursor;

impl Connector for Cursor {
    const NAME: &'static str = "cursor";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Cursor (command hooks, through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 60_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "`failClosed: true` on every hook that asks, which `countersign hook install` sets, and \
                            `countersign hook`, which refuses by exit code 2",
            frames: frames(StepUpAs::Ask),
            result_feed: "postToolUse and postToolUseFailure hooks, joined by tool_use_id",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has generation and call id",
            verified: Evidence::VendorDocs,
            limits: vec![
                "nobody recorded this client; its default wait is not documented either",
                "a call may come as preToolUse and again as beforeShellExecution or beforeMCPExecution; register one of \
                 them, or it is decided and receipted twice",
                "`ask` is honoured on beforeShellExecution and beforeMCPExecution only",
                "ALLOW may go past the client's own prompt: whether an answer without `permission` is taken for no \
                 objection is not documented",
                "beforeShellExecution, beforeMCPExecution and beforeReadFile name no call",
                "beforeMCPExecution does not name the server, only its URL or command",
                "completions in the editor have hooks of their own, which are recorded and not decided",
                "cloud agents run only some of the hooks",
                "e-mail address and version are the client's word",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(
            site,
            Self::NAME,
            "`/etc/cursor/hooks.json` or `~/.cursor/hooks.json`",
            &[
                "Teams can enter the same hooks in Cursor's dashboard instead; they reach devices within half an hour.",
            ],
        )
    }

    fn dialect() -> Option<Dialect> {
        Some(DIALECT)
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let channel = Channel::new(&settings, env, Self::NAME, true)?;
        Ok(Parts {
            deadline: channel.deadline,
            frames: frames(settings.step_up),
            gate: Box::new(Hooks(channel)),
            held: None,
        })
    }
}

fn frames(step_up: StepUpAs) -> Vec<FrameSpec> {
    let mut asks = vec![Verdict::Allow];
    asks.extend((step_up == StepUpAs::Ask).then_some(Verdict::StepUp));
    vec![
        FrameSpec::gate(PRE_TOOL_USE, &[Verdict::Allow, Verdict::Modify]),
        FrameSpec::gate(BEFORE_SHELL, &asks),
        FrameSpec::gate(BEFORE_MCP, &asks),
        FrameSpec::gate(BEFORE_READ, &[Verdict::Allow]),
        FrameSpec::gate(BEFORE_PROMPT, &[Verdict::Allow]),
        FrameSpec::gate(SUBAGENT_START, &[Verdict::Allow]),
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
        let known = frames(StepUpAs::Ask).iter().any(|frame| frame.name == event);
        let frame = Frame::named(if known { &event } else { OTHER });
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let said = Heading {
            session: take_session(&mut body, &["conversation_id"], refuse)?,
            turn: take(&mut body, &["generation_id"]),
            model: take(&mut body, &["model"]),
            user: take(&mut body, &["user_email"]),
            event,
            ..Heading::default()
        };
        let idempotency = idempotency(&said.event, request);
        let hook = self.0.hook(request, said, body);
        let event = event_of(hook).map_err(|reason| refuse(&reason))?;
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let permission = |word: &str, text: &str| json!({"permission": word, "user_message": reason(text), "agent_message": reason(text)});
        let Some(said) = said.first() else {
            return Reply::json(&permission("deny", "nothing was decided"));
        };
        let text = said.expression.reason.as_str();
        let body = match (frame.name.as_str(), said.expression.expressed, &said.modified) {
            (OTHER, ..) => json!({}),
            (BEFORE_PROMPT, Expressed::Allow, _) => json!({"continue": true}),
            (BEFORE_PROMPT, ..) => json!({"continue": false, "user_message": reason(text)}),
            ("unreadable", ..) => permission("deny", text),
            (_, Expressed::Allow, _) => json!({"permission": "allow"}),
            (PRE_TOOL_USE, Expressed::Modify, Some(input)) => {
                json!({"permission": "allow", "updated_input": input})
            }
            (BEFORE_SHELL | BEFORE_MCP, Expressed::StepUp, _) => permission("ask", text),
            _ => permission("deny", text),
        };
        Reply::json(&body)
    }
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let call =
        |body: &mut Map<String, Value>| Call::take(body, &["tool_name"], &["tool_input"], "tool_use_id");
    Ok(match hook.source.event.as_str() {
        PRE_TOOL_USE => {
            let call = call(&mut hook.body)?;
            let tool = naming::tool(Cursor::NAME, &call.tool);
            action(hook, call, tool)
        }
        BEFORE_MCP => {
            let call = call(&mut hook.body)?;
            let mcp = "mcp".to_owned();
            let tool = Tool { name: call.tool.clone(), namespace: mcp, raw: call.tool.clone(), server: None };
            action(hook, call, tool)
        }
        BEFORE_SHELL => unnamed(hook, "Shell", &["command"])?,
        BEFORE_READ => {
            // The policy may need the path; the content is the file's owner's.
            if let Some(content) = hook.body.shift_remove("content") {
                let (sha256, bytes) = parse::output_digest(&content);
                hook.body.insert("content".to_owned(), json!({"sha256": sha256, "bytes": bytes}));
            }
            unnamed(hook, "Read", &["file_path"])?
        }
        SUBAGENT_START => unnamed(hook, "Task", &["subagent_type", "task", "prompt"])?,
        POST_TOOL_USE | POST_TOOL_USE_FAILURE => outcome(hook)?,
        BEFORE_PROMPT => {
            let text = take(&mut hook.body, &["prompt"]).ok_or("`prompt` is missing or not a text")?;
            Event::Intent(hook.intent(text, true))
        }
        "sessionStart" => Event::SessionStart(hook.boundary("source")),
        "sessionEnd" => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

fn action(hook: Hook, call: Call, tool: Tool) -> Event {
    let effect = effect_of(&call.tool);
    Event::Action(Box::new(hook.action(call, effect, tool)))
}

/// A hook for one kind of tool, whose arguments stand in the event itself: the first of them has to be there.
fn unnamed(mut hook: Hook, tool: &str, arguments: &[&str]) -> Result<Event, String> {
    let mut parameters = Map::new();
    for key in arguments {
        if let Some(value) = hook.body.shift_remove(*key) {
            parameters.insert((*key).to_owned(), value);
        }
    }
    let first = arguments.first().copied().unwrap_or_default();
    if !parameters.get(first).is_some_and(Value::is_string) {
        return Err(format!("`{first}` is missing or not a text"));
    }
    let named = naming::tool(Cursor::NAME, tool);
    Ok(action(hook, Call { id: None, tool: tool.to_owned(), parameters }, named))
}

fn outcome(mut hook: Hook) -> Result<Event, String> {
    let call = Call::take(&mut hook.body, &["tool_name"], &["tool_input"], "tool_use_id")?;
    let failure = take(&mut hook.body, &["error_message", "failure_type"]);
    let ended = Ended {
        duration_ms: hook.body.get("duration").and_then(Value::as_u64),
        failed: hook.source.event == POST_TOOL_USE_FAILURE,
        interrupted: hook.body.get("is_interrupt") == Some(&Value::Bool(true)),
        output: hook.body.shift_remove("tool_output").unwrap_or_else(|| json!(failure)),
        error: failure,
    };
    Ok(Event::Outcome(hook.outcome(call, ended)))
}

/// The effect of the client's own tools.
fn effect_of(tool: &str) -> Effect {
    match tool {
        "Shell" => Effect::Execute,
        "Write" => Effect::Create,
        "Delete" => Effect::Delete,
        "Grep" | "Read" => Effect::Read,
        _ => Effect::Invoke,
    }
}
