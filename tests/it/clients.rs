//! The real clients, with the hooks that `countersign hook install` registers. Opt-in: it needs the harness that drives
//! the clients against a fake model on loopback (see docs/TESTING.md), and root for its network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::claude::env;
use crate::hook::configure;

/// In the namespace nobody else listens.
const PORT: u16 = 18_787;
const BASE: &str = "@id(\"work\") @reason(\"fine\") permit (principal, action, resource);\n";
/// A client, and how the harness runs it.
struct Client {
    name: &'static str,
    script: &'static str,
    /// Where its version stands.
    package: &'static str,
    /// How the script is told what we want of it.
    settings: &'static [(&'static str, &'static str)],
}

/// What is decided, by a policy about commands.
const DECISIONS: [(&str, &str); 5] = [
    ("ALLOW", ""),
    (
        "DENY",
        "@id(\"no\") @reason(\"not here\") forbid (principal, action == Action::\"execute\", resource);",
    ),
    ("MODIFY", MODIFY),
    (
        "STEP_UP",
        "@id(\"ask\") @decision(\"step_up\") @approvers(\"ann\") @reason(\"ask first\")
         forbid (principal, action == Action::\"execute\", resource);",
    ),
    (
        "DEFER",
        "@id(\"wait\") @decision(\"defer\") @defer_needs(\"ticket\") @reason(\"not yet\")
         forbid (principal, action == Action::\"execute\", resource);",
    ),
];
/// One client has a list of commands where the others have one.
const MODIFY: &str = r#"
    @id("elsewhere") @decision("modify") @reason("write elsewhere")
    @modify("[{\"op\":\"replace\",\"path\":\"/command\",\"value\":\"touch /home/user/project/EXECUTED_modified\"}]")
    forbid (principal, action == Action::"execute", resource)
    when { context.params has command && context.params.command like "*EXECUTED_original*" };
    @id("elsewhere-list") @decision("modify") @reason("write elsewhere")
    @modify("[{\"op\":\"replace\",\"path\":\"/commands\",\"value\":[\"touch /home/user/project/EXECUTED_modified\"]}]")
    forbid (principal, action == Action::"execute", resource == Tool::"cline/-/run_commands")
    when { context.facets.pathEnds.contains("executed_original") };
"#;
/// What can be there instead of an answer, as shell commands that know `$server`, its process id.
const FAULTS: [(&str, &str); 3] = [
    ("server down", "kill -KILL $server; wait $server 2>/dev/null"),
    ("server slow", "kill -STOP $server"),
    (
        "server 500",
        "kill -KILL $server; wait $server 2>/dev/null; python3 -c '
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(500); self.end_headers(); self.wfile.write(b\"{}\")
http.server.HTTPServer((\"127.0.0.1\", 18787), H).serve_forever()' >/dev/null 2>&1 & fault=$!; sleep 1",
    ),
];

/// One turn of a client, which makes the model's one call. Says what the harness says of the tool: `original`,
/// `modified` or `no`.
fn turn(client: &Client, policies: &str, fault: &str) -> String {
    let Client { name, script, settings, .. } = client;
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path(), &format!("127.0.0.1:{PORT}"), policies);
    let harness = PathBuf::from(env("HARNESS"));
    let program = env!("CARGO_BIN_EXE_countersign");
    let out = dir.path().display();
    let install = format!(
        "HOME=$home '{program}' hook install {name} --url http://127.0.0.1:{PORT} --token-file '{out}/token' \
         --timeout 4 >'{out}/install.log' 2>&1"
    );
    let script = format!(
        "'{program}' --config '{config}' serve >'{out}/server.log' 2>&1 & server=$!\n\
         for _ in $(seq 300); do (exec 3<>/dev/tcp/127.0.0.1/{PORT}) 2>/dev/null && break; sleep 0.1; done\n\
         {fault}\n\
         '{run}' http://unused.invalid\n\
         kill -KILL $server $fault 2>/dev/null; wait 2>/dev/null; true",
        config = config.display(),
        run = harness.join(script).display(),
    );
    let output = Command::new(harness.join("sandbox.sh"))
        .args(["bash", "-c", &script])
        .env("HARNESS_HOME", env("HARNESS_HOME"))
        .env("OUT", dir.path().join("out"))
        .env("PRE_CMD", install)
        // The harness registers nothing of its own.
        .env("HOOK_EVENTS", " ")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let executed = text.lines().find_map(|line| line.strip_prefix("TOOL_EXECUTED="));
    let log = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let executed = executed.unwrap_or_else(|| {
        panic!("{name}: {text}{}{}", String::from_utf8_lossy(&output.stderr), log("server.log"))
    });
    assert!(log("install.log").contains("wrote"), "{name}: {}", log("install.log"));
    executed.split(' ').next().unwrap().to_owned()
}

fn version(package: &str) -> Option<String> {
    let path = Path::new(&env("HARNESS_HOME")).join("node").join(package).join("package.json");
    let package: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(package["version"].as_str()?.to_owned())
}

/// Runs a client through every decision and fault, prints its row of the table, and holds that the tool ran only where
/// it was to run.
fn runs_a_tool_only_when_it_is_told_to(client: &Client) {
    let version = version(client.package).unwrap_or_else(|| panic!("{} is not installed", client.name));
    let decisions = DECISIONS.iter().map(|(verdict, policy)| (*verdict, format!("{BASE}{policy}"), ""));
    let faults = FAULTS.iter().map(|(fault, command)| (*fault, BASE.to_owned(), *command));
    let (mut cells, mut wrong) = (Vec::new(), Vec::new());
    for (row, policies, fault) in decisions.chain(faults) {
        let executed = turn(client, &policies, fault);
        let (allowed, cell) = match executed.as_str() {
            "original" => (row == "ALLOW", "ran"),
            "modified" => (row == "MODIFY", "ran, changed"),
            _ => (row != "ALLOW", "no"),
        };
        if !allowed {
            wrong.push(format!("{row}: {cell}"));
        }
        cells.push(cell);
    }
    println!("| {} {version} | {} |", client.name, cells.join(" | "));
    assert!(wrong.is_empty(), "{}: {wrong:?}", client.name);
}

#[test]
#[ignore = "needs the harness and the real client"]
fn claude_code_runs_a_tool_only_when_it_is_told_to() {
    runs_a_tool_only_when_it_is_told_to(&Client {
        name: "claude-code",
        script: "run_claude.sh",
        package: "claude/node_modules/@anthropic-ai/claude-code",
        settings: &[("HOOK_TYPE", "command"), ("PERM", "allow")],
    });
}

#[test]
#[ignore = "needs the harness and the real client"]
fn codex_runs_a_tool_only_when_it_is_told_to() {
    runs_a_tool_only_when_it_is_told_to(&Client {
        name: "codex",
        script: "run_codex.sh",
        package: "codex/node_modules/@openai/codex",
        settings: &[],
    });
}

#[test]
#[ignore = "needs the harness and the real client"]
fn copilot_runs_a_tool_only_when_it_is_told_to() {
    runs_a_tool_only_when_it_is_told_to(&Client {
        name: "copilot",
        script: "run_copilot.sh",
        package: "copilot/node_modules/@github/copilot",
        settings: &[("HOOK_TYPE", "command")],
    });
}

#[test]
#[ignore = "needs the harness and the real client"]
fn gemini_runs_a_tool_only_when_it_is_told_to() {
    runs_a_tool_only_when_it_is_told_to(&Client {
        name: "gemini",
        script: "run_gemini.sh",
        package: "gemini/node_modules/@google/gemini-cli",
        settings: &[],
    });
}

#[test]
#[ignore = "needs the harness and the real client"]
fn qwen_runs_a_tool_only_when_it_is_told_to() {
    runs_a_tool_only_when_it_is_told_to(&Client {
        name: "qwen",
        script: "run_qwen.sh",
        package: "qwen/node_modules/@qwen-code/qwen-code",
        settings: &[("HOOK_TYPE", "command")],
    });
}

#[test]
#[ignore = "needs the harness and the real client"]
fn cline_runs_a_tool_only_when_it_is_told_to() {
    runs_a_tool_only_when_it_is_told_to(&Client {
        name: "cline",
        script: "run_cline.sh",
        package: "cline/node_modules/cline",
        settings: &[],
    });
}
