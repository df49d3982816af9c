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
/// Client, the harness's script, the package that tells its version, and how the script is told what we want of it.
const CLIENTS: [(&str, &str, &str, &[(&str, &str)]); 6] = [
    (
        "claude-code",
        "run_claude.sh",
        "claude/node_modules/@anthropic-ai/claude-code",
        &[("HOOK_TYPE", "command"), ("PERM", "allow")],
    ),
    ("codex", "run_codex.sh", "codex/node_modules/@openai/codex", &[]),
    ("copilot", "run_copilot.sh", "copilot/node_modules/@github/copilot", &[("HOOK_TYPE", "command")]),
    ("gemini", "run_gemini.sh", "gemini/node_modules/@google/gemini-cli", &[]),
    ("qwen", "run_qwen.sh", "qwen/node_modules/@qwen-code/qwen-code", &[("HOOK_TYPE", "command")]),
    ("cline", "run_cline.sh", "cline/node_modules/cline", &[]),
];
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
    when { context.facets.pathEnds.contains("EXECUTED_original") };
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
fn turn(client: usize, policies: &str, fault: &str) -> String {
    let (name, script, _, settings) = CLIENTS[client];
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

#[test]
#[ignore = "needs the harness and the real clients"]
fn clients_run_a_tool_only_when_they_are_told_to() {
    let installed: Vec<(usize, String)> =
        (0..CLIENTS.len()).filter_map(|client| Some((client, version(CLIENTS[client].2)?))).collect();
    assert!(!installed.is_empty(), "no client is installed");
    let decisions = DECISIONS.iter().map(|(verdict, policy)| (*verdict, format!("{BASE}{policy}"), ""));
    let faults = FAULTS.iter().map(|(fault, command)| (*fault, BASE.to_owned(), *command));
    let rows: Vec<_> = decisions.chain(faults).collect();
    let mut ran = Vec::new();
    println!("| client | {} |", rows.iter().map(|row| row.0).collect::<Vec<_>>().join(" | "));
    println!("| --- |{}", " --- |".repeat(rows.len()));
    for (client, version) in installed {
        let name = CLIENTS[client].0;
        let mut cells = Vec::new();
        for (row, policies, fault) in &rows {
            let executed = turn(client, policies, fault);
            let may = if *row == "ALLOW" { "original" } else { "modified" };
            let may_run = *row == "ALLOW" || *row == "MODIFY";
            if !(executed == "no" && *row != "ALLOW" || may_run && executed == may) {
                ran.push(format!("{name}, {row}: {executed}"));
            }
            cells.push(match executed.as_str() {
                "original" => "ran",
                "modified" => "ran, changed",
                _ => "no",
            });
        }
        println!("| {name} {version} | {} |", cells.join(" | "));
    }
    assert!(ran.is_empty(), "{ran:?}");
}
