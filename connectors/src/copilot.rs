//! GitHub Copilot's hooks: CLI and cloud agent, over HTTP or by command.
//!
//! Source: GitHub, "Copilot hooks reference" (read 2026-11-23), and requests and reactions recorded from Copilot CLI
//! 1.0.102. How an event's name is written in the configuration decides the payload: `preToolUse` gives camelCase and
//! names no event, `PreToolUse` gives Claude Code's fields. So the name also follows the URL: `…/hooks/copilot/preToolUse`.

use countersign_sdk::dialect::{Entry, Form, Install, Place, Refusal, Scope, Switch};
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
const PERMISSION_REQUEST: &str = "permissionRequest";
const POST_TOOL_USE: &str = "postToolUse";
const POST_TOOL_USE_FAILURE: &str = "postToolUseFailure";
const USER_PROMPT: &str = "userPromptSubmitted";
/// Frame of every event that has none of its own.
const OTHER: &str = "other";
/// The server of GitHub's own that every installation has; its name is the only one known beforehand.
const GITHUB_SERVER: &str = "github-mcp-server";

const DIALECT: Dialect = Dialect {
    event_fields: &["hook_event_name", "hookName"],
    reports: &[
        POST_TOOL_USE,
        POST_TOOL_USE_FAILURE,
        USER_PROMPT,
        "agentStop",
        "errorOccurred",
        "notification",
        "preCompact",
        "sessionEnd",
        "sessionStart",
        "subagentStart",
        "subagentStop",
        "userPromptTransformed",
        "PostToolUse",
        "PostToolUseFailure",
        "UserPromptSubmit",
        "ErrorOccurred",
        "Notification",
        "PreCompact",
        "SessionEnd",
        "SessionStart",
        "Stop",
        "SubagentStart",
        "SubagentStop",
    ],
    answer_fields: &["permissionDecision", "permissionDecisionReason", "modifiedArgs", "behavior", "message"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[
            PRE_TOOL_USE,
            PERMISSION_REQUEST,
            POST_TOOL_USE,
            POST_TOOL_USE_FAILURE,
            USER_PROMPT,
            "sessionStart",
            "sessionEnd",
        ],
        names_event: true,
        places: &[
            Place {
                scope: Scope::System,
                path: "/etc/github-copilot/policy.d/countersign.json",
                form: Form::Lists { entry, frame: version },
            },
            Place {
                scope: Scope::User,
                path: "~/.copilot/hooks/countersign.json",
                form: Form::Lists { entry, frame: version },
            },
        ],
        switches: &[
            Switch::spared("~/.copilot/settings.json", "/disableAllHooks", true),
            Switch::spared("./.github/copilot/settings.json", "/disableAllHooks", true),
            Switch::spared("./.github/copilot/settings.local.json", "/disableAllHooks", true),
        ],
    },
};

fn entry(entry: &Entry<'_>) -> Value {
    json!({"type": "command", "bash": entry.command, "powershell": entry.command, "timeoutSec": entry.timeout_s})
}

fn version(file: &mut Map<String, Value>) {
    file.insert("version".to_owned(), json!(1));
}

/// The connector.
pub struct Copilot;

impl Connector for Copilot {
    const NAME: &'static str = "copilot";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "GitHub Copilot CLI and cloud agent (HTTP hooks, or command hooks through `countersign hook`)",
            class: GateClass::Sync,
            vendor_window_ms: 30_000,
            margin_ms: 2_000,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "run `countersign hook`, which answers before the client's time is over and refuses by exit \
                            code 2; register it in `/etc/github-copilot/policy.d`",
            frames: frames(StepUpAs::Ask),
            result_feed: "postToolUse and postToolUseFailure hooks, joined by tool and arguments within the session",
            authentication: "bearer token, one for each device or team; nothing is signed",
            assurance: Assurance::ClientAsserted,
            idempotency: "digest of event and body, which has a time in milliseconds",
            verified: Evidence::Capture,
            limits: vec![
                "a time-out always lets the tool run, also of the administrator's hooks; over HTTP so does an \
                 unreadable answer",
                "HTTP hooks that are plain http, or resolve to a private address, are skipped or deny everything",
                "calls have no id: equal calls of one session are one action, and a report belongs to the last of \
                 them; equal calls within one millisecond are taken for a repetition",
                "a subagent has a session of its own; the delegation names its parent",
                "`server-tool` is split at the last hyphen, and `github-mcp-server` is known; a tool whose own name has \
                 a hyphen is read wrongly, the raw name is kept",
                "permissionRequest describes a call in other words than preToolUse, so it is an action of its own",
                "in the cloud agent `ask` denies, and only hooks of the repository are read",
                "prompts are recorded and cannot be refused",
                "it names neither the person nor the organisation; `countersign hook` adds the person, unproved",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        let http = format!(
            "Over HTTP instead, for example in the cloud agent (allow the host in its firewall): in \
             `.github/hooks/countersign.json`, for each event, `{{\"type\": \"http\", \"url\": \"{}/preToolUse\", \
             \"headers\": {{\"Authorization\": \"Bearer $COUNTERSIGN_TOKEN\"}}, \"allowedEnvVars\": \
             [\"COUNTERSIGN_TOKEN\"], \"timeoutSec\": 35}}`. It has to be https.",
            site.hook_url()
        );
        let places = "`/etc/github-copilot/policy.d/countersign.json` or `~/.copilot/hooks/countersign.json`";
        setup(site, Self::NAME, places, &[&http])
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
        FrameSpec::gate(PERMISSION_REQUEST, &[Verdict::Allow]),
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
        let named = take(&mut body, &["hook_event_name", "hookName"]);
        let event = named.or_else(|| Some(request.path.clone()).filter(|path| !path.is_empty()));
        let event = event.ok_or_else(|| {
            NormalizeError::unreadable("the event is named neither in the body nor below the hook's URL")
        })?;
        let frame = match canonical(&event) {
            PRE_TOOL_USE => Frame::named(PRE_TOOL_USE),
            PERMISSION_REQUEST => Frame::named(PERMISSION_REQUEST),
            _ => Frame::named(OTHER),
        };
        let refuse = |reason: &str| NormalizeError::in_frame(frame.clone(), reason);
        let parent = take(&mut body, &["parentAgentId", "parent_agent_id"]);
        let said = Heading {
            session: take_session(&mut body, &["sessionId", "session_id"], refuse)?,
            subagent: take(&mut body, &["agentId", "agent_id"]).map(|agent| (agent, parent)),
            agent_kind: take(&mut body, &["agentType", "agent_type"]),
            event,
            ..Heading::default()
        };
        let idempotency = idempotency(&said.event, request);
        let hook = self.0.hook(request, said, body);
        let event = event_of(hook).map_err(|reason| refuse(&reason))?;
        Ok(Normalized { events: vec![event], frame, idempotency })
    }

    /// One form for both payloads: the client takes its own answer on either.
    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        let decision =
            |word: &str, text: &str| json!({"permissionDecision": word, "permissionDecisionReason": text});
        let Some(said) = said.first() else { return Reply::json(&decision("deny", "nothing was decided")) };
        let text = reason(&said.expression.reason);
        let body = match (frame.name.as_str(), said.expression.expressed, &said.modified) {
            (OTHER, ..) => json!({}),
            (PRE_TOOL_USE | PERMISSION_REQUEST, Expressed::Allow, _) if !self.0.grants() => json!({}),
            (PRE_TOOL_USE, Expressed::Allow, _) => decision("allow", text),
            (PRE_TOOL_USE, Expressed::Modify, Some(input)) if !self.0.grants() => {
                json!({"modifiedArgs": input})
            }
            (PRE_TOOL_USE, Expressed::Modify, Some(input)) => {
                let mut answer = decision("allow", text);
                answer["modifiedArgs"] = json!(input);
                answer
            }
            (PRE_TOOL_USE, Expressed::StepUp, _) => decision("ask", text),
            (PERMISSION_REQUEST, Expressed::Allow, _) => json!({"behavior": "allow"}),
            (PERMISSION_REQUEST, ..) => json!({"behavior": "deny", "message": text}),
            _ => decision("deny", text),
        };
        Reply::json(&body)
    }
}

/// The camelCase name of an event, where its two spellings are the same event to us.
fn canonical(event: &str) -> &str {
    match event {
        "PreToolUse" => PRE_TOOL_USE,
        "PermissionRequest" => PERMISSION_REQUEST,
        "PostToolUse" => POST_TOOL_USE,
        "PostToolUseFailure" => POST_TOOL_USE_FAILURE,
        "UserPromptSubmit" => USER_PROMPT,
        "SessionStart" => "sessionStart",
        "SessionEnd" => "sessionEnd",
        other => other,
    }
}

fn event_of(mut hook: Hook) -> Result<Event, String> {
    let call = |body: &mut Map<String, Value>| {
        let arguments = ["toolArgs", "toolInput", "tool_input"];
        Call::take(body, &["toolName", "tool_name"], &arguments, "tool_use_id")
    };
    let name = hook.source.event.clone();
    Ok(match canonical(&name) {
        PRE_TOOL_USE | PERMISSION_REQUEST => {
            let call = call(&mut hook.body)?;
            let (effect, tool) = (effect_of(&call.tool), tool_of(&call.tool));
            Event::Action(Box::new(hook.action(call, effect, tool)))
        }
        POST_TOOL_USE | POST_TOOL_USE_FAILURE => {
            let call = call(&mut hook.body)?;
            let given = ["toolResult", "tool_result"].into_iter().find_map(|key| hook.body.shift_remove(key));
            let error = take(&mut hook.body, &["error"]);
            let ended = Ended {
                output: given.unwrap_or_else(|| json!(error)),
                failed: canonical(&name) == POST_TOOL_USE_FAILURE,
                error,
                ..Ended::default()
            };
            Event::Outcome(hook.outcome(call, ended))
        }
        USER_PROMPT => {
            let text = take(&mut hook.body, &["prompt"]).ok_or("`prompt` is missing or not a text")?;
            // A subagent is prompted by its parent.
            let by_human = hook.identity.delegation.is_empty();
            Event::Intent(hook.intent(text, by_human))
        }
        "sessionStart" => Event::SessionStart(hook.boundary("source")),
        "sessionEnd" => Event::SessionEnd(hook.boundary("reason")),
        _ => Event::Observation(hook.observation()),
    })
}

/// MCP tools are `server-tool` before a call and `server/tool` when permission is asked for; the client's own names
/// have neither mark.
fn tool_of(raw: &str) -> Tool {
    let known = raw.strip_prefix(GITHUB_SERVER).and_then(|rest| rest.strip_prefix('-'));
    let split = raw
        .split_once('/')
        .or_else(|| known.map(|name| (GITHUB_SERVER, name)))
        .or_else(|| raw.rsplit_once('-'))
        .filter(|(server, name)| !server.is_empty() && !name.is_empty());
    match split {
        Some((server, name)) => Tool {
            name: name.to_owned(),
            namespace: "mcp".to_owned(),
            raw: raw.to_owned(),
            server: Some(server.to_owned()),
        },
        // `Bash` and `bash` are one tool.
        None => Tool { name: raw.to_ascii_lowercase(), ..naming::tool(Copilot::NAME, raw) },
    }
}

/// The effect of the client's own tools, in either spelling.
fn effect_of(tool: &str) -> Effect {
    match tool.to_ascii_lowercase().as_str() {
        "bash" | "powershell" | "write_bash" | "write_powershell" => Effect::Execute,
        "create" | "write" => Effect::Create,
        "apply_patch" | "edit" | "str_replace_editor" | "update_todo" => Effect::Update,
        "glob" | "list_bash" => Effect::List,
        "grep" | "read" | "read_bash" | "view" | "web_fetch" | "web_search" => Effect::Read,
        _ => Effect::Invoke,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_tool_are_told_apart_where_they_can_be() {
        for (raw, want) in [
            ("bash", "copilot/-/bash"),
            ("Bash", "copilot/-/bash"),
            ("demo-get_ticket", "mcp/demo/get_ticket"),
            ("demo/get_ticket", "mcp/demo/get_ticket"),
            ("my-server-get_ticket", "mcp/my-server/get_ticket"),
            ("github-mcp-server-search-code", "mcp/github-mcp-server/search-code"),
            ("-", "copilot/-/-"),
        ] {
            assert_eq!((want, raw), (tool_of(raw).canonical().as_str(), tool_of(raw).raw.as_str()));
        }
    }
}
