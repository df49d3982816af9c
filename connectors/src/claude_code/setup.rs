//! What the administrator deploys: managed settings, with the reason for each line.

use countersign_sdk::dialect::{Entry, Form, Install, Place, Refusal, Scope, Switch, plain};
use countersign_sdk::{Dialect, Site};
use serde_json::{Map, Value, json};

use super::{Settings, default_device_header, default_timeout_s, default_user_header};

/// Hooks that decide: they wait for the answer, and a failure blocks.
const GATES: [&str; 3] = ["PreToolUse", "PermissionRequest", "UserPromptSubmit"];
/// Hooks that report. A report that fails must not stop the work; the log then shows an action without an outcome.
const REPORTS: [&str; 8] = [
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "SubagentStart",
    "SubagentStop",
    "TaskCreated",
    "Stop",
    "SessionEnd",
];
/// Long enough for a commit, short enough not to be felt. SessionEnd has less anyway.
const REPORT_TIMEOUT_S: u64 = 10;
/// The first client that knows `onFailure`.
const VERSION_MIN: &str = "2.1.295";
/// Files that can switch hooks off or replace them.
const PROTECTED: [&str; 5] = [
    "**/.claude/settings.json",
    "**/.claude/settings.local.json",
    "~/.claude/**",
    "//etc/claude-code/**",
    "//Library/Application Support/ClaudeCode/**",
];

/// The same by command, for where HTTP hooks cannot be used: these also report the session's start.
pub(super) const DIALECT: Dialect = Dialect {
    event_fields: &["hook_event_name"],
    reports: &[
        "PostToolUse",
        "PostToolUseFailure",
        "PostToolBatch",
        "SubagentStart",
        "SubagentStop",
        "TaskCreated",
        "TaskCompleted",
        "Notification",
        "PreCompact",
        "MessageDisplay",
        "SessionStart",
        "Stop",
        "SessionEnd",
    ],
    answer_fields: &["hookSpecificOutput", "decision", "reason"],
    refusal: Refusal::ExitTwo,
    install: Install {
        events: &[
            "PreToolUse",
            "PermissionRequest",
            "UserPromptSubmit",
            "PostToolUse",
            "PostToolUseFailure",
            "PostToolBatch",
            "SubagentStart",
            "SubagentStop",
            "TaskCreated",
            "SessionStart",
            "Stop",
            "SessionEnd",
        ],
        names_event: false,
        places: &[
            Place {
                scope: Scope::System,
                path: "/etc/claude-code/managed-settings.json",
                form: Form::Lists { entry, frame: managed },
            },
            Place {
                scope: Scope::User,
                path: "~/.claude/settings.json",
                form: Form::Lists { entry, frame: plain },
            },
        ],
        switches: &[
            Switch::spared("./.claude/settings.json", "/disableAllHooks", true),
            Switch::spared("./.claude/settings.local.json", "/disableAllHooks", true),
            Switch::spared("~/.claude/settings.json", "/disableAllHooks", true),
            Switch::new("/etc/claude-code/managed-settings.json", "/disableAllHooks", true),
        ],
    },
};

fn entry(entry: &Entry<'_>) -> Value {
    let mut hook = json!({"type": "command", "command": entry.command, "timeout": entry.timeout_s});
    if GATES.contains(&entry.event) {
        hook["onFailure"] = json!("block");
    }
    json!({"matcher": "*", "hooks": [hook]})
}

/// Only these hooks, on clients that fail closed.
fn managed(file: &mut Map<String, Value>) {
    file.insert("requiredMinimumVersion".to_owned(), json!(VERSION_MIN));
    file.insert("allowManagedHooksOnly".to_owned(), json!(true));
    file.insert("disableAllHooks".to_owned(), json!(false));
}

/// The setup text. `settings` are the connector's, or `None` when it is not configured yet.
pub(super) fn text(site: &Site, settings: Option<&Settings>) -> String {
    let url = site.hook_url();
    let timeout_s = settings.map_or_else(default_timeout_s, |settings| settings.timeout_s);
    let user = settings.map_or_else(default_user_header, |settings| settings.user_header.clone());
    let device = settings.map_or_else(default_device_header, |settings| settings.device_header.clone());
    let managed = managed_settings(&url, timeout_s, &user, &device);
    format!(
        "1. Make one token for each device or team (`openssl rand -base64 32`), and name it under `tokens` of \
         connector `{instance}`.\n\
         2. Deploy the settings below as *managed* settings: the admin console's server-managed settings, your device \
         management, or `/etc/claude-code/managed-settings.json` (Linux), \
         `/Library/Application Support/ClaudeCode/managed-settings.json` (macOS), owned by root.\n\
         3. Set `COUNTERSIGN_TOKEN`, `COUNTERSIGN_USER` and `COUNTERSIGN_DEVICE` in the environment that starts the \
         client. With a private certificate authority also `NODE_EXTRA_CA_CERTS`, or every hook fails.\n\
         4. In a session, run `/hooks` and see that {url} is listed; then let the agent run `true` and find the \
         receipt with `countersign receipt list`.\n\
         5. Stop Countersign for a moment and try again: the tool must be refused. If it runs, the client is too old \
         or the settings are not in force.\n\
         \n\
         ```json\n{managed:#}\n```\n\
         \n\
         Why each line is there:\n\
         \n\
         - `onFailure: \"block\"`: without it a time-out, a refused connection or a broken answer lets the tool run.\n\
         - `requiredMinimumVersion`: clients before {VERSION_MIN} ignore `onFailure` without a word.\n\
         - `matcher: \"*\"`: a hook for some tools only leaves the others to switch it off.\n\
         - `timeout`: the same number as `timeout_s` of the connector; Countersign answers before it is over.\n\
         - `headers` with `allowedEnvVars`: an environment variable that is not listed is sent as nothing.\n\
         - `allowManagedHooksOnly`: a repository's own hooks may not add answers to these.\n\
         - `allowedHttpHookUrls` and `httpHookAllowedEnvVars`: the token goes to Countersign and nowhere else.\n\
         - `disableBypassPermissionsMode`: in that mode the client lets the agent write its own settings files.\n\
         - `permissions.deny`: one line `\"disableAllHooks\": true` in any of these files ends unmanaged hooks at \
         once, within the session. Shell commands are not covered by these rules; a policy has to deny those that \
         touch the files.\n\
         - Where the client cannot reach the server over HTTP itself, `countersign hook install claude-code` registers \
         the same by command, and the session's start besides.\n\
         - The reports have no `onFailure`: a report that fails must not stop the work. MessageDisplay is left out: \
         it repeats the model's text and decides nothing.\n",
        instance = site.instance,
    )
}

fn managed_settings(url: &str, timeout_s: u64, user_header: &str, device_header: &str) -> Value {
    let variables = ["COUNTERSIGN_TOKEN", "COUNTERSIGN_USER", "COUNTERSIGN_DEVICE"];
    let hook = |timeout_s: u64| {
        json!({
            "type": "http",
            "url": url,
            "timeout": timeout_s,
            "headers": {
                "Authorization": "Bearer $COUNTERSIGN_TOKEN",
                user_header: "$COUNTERSIGN_USER",
                device_header: "$COUNTERSIGN_DEVICE",
            },
            "allowedEnvVars": variables,
        })
    };
    let group = |hook: Value| json!([{"matcher": "*", "hooks": [hook]}]);
    let mut hooks = Map::new();
    for event in GATES {
        let mut gate = hook(timeout_s);
        gate["onFailure"] = json!("block");
        hooks.insert(event.to_owned(), group(gate));
    }
    for event in REPORTS {
        hooks.insert(event.to_owned(), group(hook(REPORT_TIMEOUT_S)));
    }
    let deny: Vec<String> =
        PROTECTED.iter().flat_map(|path| ["Edit", "Write"].map(|tool| format!("{tool}({path})"))).collect();
    json!({
        "requiredMinimumVersion": VERSION_MIN,
        "allowManagedHooksOnly": true,
        "disableAllHooks": false,
        "allowedHttpHookUrls": [url],
        "httpHookAllowedEnvVars": variables,
        "permissions": {"deny": deny, "disableBypassPermissionsMode": "disable"},
        "hooks": hooks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_settings_are_json_and_every_gate_and_only_a_gate_blocks_on_failure() {
        let site = Site {
            instance: "laptops".to_owned(),
            public_url: "https://countersign.example.com".to_owned(),
            settings: Value::Null,
        };
        let text = text(&site, None);
        let printed = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
        let printed: Value = serde_json::from_str(printed).unwrap();
        let hooks = printed["hooks"].as_object().unwrap();
        assert_eq!(GATES.len() + REPORTS.len(), hooks.len());
        for (event, groups) in hooks {
            let hook = &groups[0]["hooks"][0];
            assert_eq!("https://countersign.example.com/hooks/laptops", hook["url"], "{event}");
            let blocks = hook.get("onFailure").is_some_and(|value| value == "block");
            assert_eq!(GATES.contains(&event.as_str()), blocks, "{event}");
        }
    }
}
