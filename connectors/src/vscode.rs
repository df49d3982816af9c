//! VS Code's agent hooks (its own agent, not Claude Code or Codex that run inside it).
//!
//! Source: Microsoft, "Agent hooks in Visual Studio Code (Preview)" (page of 2026-02-09, read 2026-11-24). Nobody
//! recorded it: field names are accepted in both spellings that the page has.

use countersign_sdk::dialect::{Entry, Form, Install, Place, Refusal, Scope, Switch, plain};
use countersign_sdk::schemas::{Assurance, Effect, Event, Expressed, Timestamp, Verdict};
use countersign_sdk::{
    Caller, ConnectError, Connector, Dialect, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass,
    Inbound, Manifest, NormalizeError, Normalized, Parts, Reply, Said, Site, Unverified, Verified,
    VerifyError, naming, parse,
};
use serde_json::{Map, Value, json};

use crate::coding_agent::{
    Call, Channel, Ended, Heading, Hook, Settings, StepUpAs, idempotency, reason, setup, take, take_session,
};

const PRE_TOOL_USE: &str = "PreToolUse";
const POST_TOOL_USE: &str = "PostToolUse";
const USER_PROMPT_SUBMIT: &str = "UserPromptSubmit";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";

const DIALECT: Dialect = Dialect {
    event_fields: &["hookEventName", "hook_event_name"],
    reports: &[POST_TOOL_USE, "SessionStart", "Stop", "SubagentStart", "SubagentStop", "PreCompact"],
    answer_fields: &["hookSpecificOutput", "continue", "stopReason"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[PRE_TOOL_USE, USER_PROMPT_SUBMIT, POST_TOOL_USE, "SessionStart"],
        names_event: false,
        places: &[Place {
            scope: Scope::Project,
            path: "./.github/hooks/countersign-vscode.json",
            form: Form::Lists { entry, frame: plain },
        }],
        switches: &[Switch::new("./.vscode/settings.json", "/chat.useHooks", false)],
    },
};

fn entry(entry: &Entry<'_>) -> Value {
    json!({"type": "command", "command": entry.command, "timeout": entry.timeout_s})
}

/// The connector.
pub struct VsCode;

impl Connector for VsCode {
    const NAME: &'static str = "vscode";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Visual Studio Code agent hooks (command hooks, through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 30_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "`countersign hook` refuses by exit code 2 and a reason whenever the server gives no answer",
            frames: frames(StepUpAs::Ask),
            result_feed: "PostToolUse hooks, joined by tool_use_id",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has a time and the call id",
            verified: Evidence::VendorDocs,
            limits: vec![
                "nobody recorded this client; all of it is from a page about a preview",
                "exit codes other than 2 let the tool run, and presumably so does a time-out",
                "the hooks file is the project's: who can write to it can take the hooks out",
                "Copilot's CLI and cloud agent read the same folder and would run these hooks too; both payloads are read",
                "a changed input that does not fit the tool's schema is ignored by the client",
                "an organisation may have switched hooks off altogether",
                "it names neither the person nor itself; `countersign hook` adds both, unproved",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        setup(
            site,
            Self::NAME,
            "`.github/hooks/countersign-vscode.json` of the project it is run in",
            &["Check it in, and protect it by a rule of the repository."],
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
    let mut native = vec![Verdict::Allow, Verdict::Modify];
    native.extend((step_up == StepUpAs::Ask).then_some(Verdict::StepUp));
    vec![
        FrameSpec::gate(PRE_TOOL_USE, &native),
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
        let event = take(&mut body, &["hookEventName", "hook_event_name"])
            .ok_or_else(|| NormalizeError::unreadable("`hookEventName` is missing or not a text"))?;
        let frame = match event.as_str() {
            PRE_TOOL_USE | USER_PROMPT_SUBMIT => Frame::named(&event),
            _ => Frame::named(OTHER),
        };
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let session = take_session(&mut body, &["sessionId", "session_id"], refuse)?;
        let idempotency = idempotency(&event, request);
        let hook = self.0.hook(request, Heading { event, session, ..Heading::default() }, body);
        let event = event_of(hook).map_err(|reason| refuse(&reason))?;
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let decision = |word: &str, text: &str| json!({"hookEventName": PRE_TOOL_USE, "permissionDecision": word, "permissionDecisionReason": reason(text)});
        let Some(said) = said.first() else {
            return Reply::json(&json!({"hookSpecificOutput": decision("deny", "nothing was decided")}));
        };
        let text = said.expression.reason.as_str();
        let stop = || json!({"continue": false, "stopReason": reason(text)});
        let specific = match (frame.name.as_str(), said.expression.expressed, &said.modified) {
            (PRE_TOOL_USE, Expressed::Allow, _) if self.0.grants() => decision("allow", text),
            (OTHER, ..) | (PRE_TOOL_USE | USER_PROMPT_SUBMIT, Expressed::Allow, _) => {
                return Reply::json(&json!({}));
            }
            (USER_PROMPT_SUBMIT, ..) => return Reply::json(&stop()),
            (PRE_TOOL_USE, Expressed::Modify, Some(input)) => {
                let mut changed = json!({"hookEventName": PRE_TOOL_USE});
                if self.0.grants() {
                    changed = decision("allow", text);
                }
                changed["updatedInput"] = json!(input);
                changed
            }
            (PRE_TOOL_USE, Expressed::StepUp, _) => decision("ask", text),
            _ => decision("deny", text),
        };
        Reply::json(&json!({"hookSpecificOutput": specific}))
    }
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let call =
        |body: &mut Map<String, Value>| Call::take(body, &["tool_name"], &["tool_input"], "tool_use_id");
    Ok(match hook.source.event.as_str() {
        PRE_TOOL_USE => {
            let call = call(&mut hook.body)?;
            let (effect, tool) = (effect_of(&call.tool), naming::tool(VsCode::NAME, &call.tool));
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
        "Stop" => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

/// The effect of the client's own tools, as far as its page names them.
fn effect_of(tool: &str) -> Effect {
    match tool {
        "runTerminalCommand" | "run_in_terminal" => Effect::Execute,
        "createFile" | "create_file" => Effect::Create,
        "editFiles" | "replace_string_in_file" => Effect::Update,
        "deleteFile" => Effect::Delete,
        "readFile" | "read_file" => Effect::Read,
        _ => Effect::Invoke,
    }
}
