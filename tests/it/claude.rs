//! The real Claude Code client asks the real program. Opt-in: it needs the harness that drives the client against a
//! fake model on loopback (see docs/TESTING.md), and root for its network namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_receipt::generate_key_pem;
use countersign_schemas::{ReceiptKind, Verdict};
use countersign_service::config::Config;
use countersign_service::export::statement_of;
use countersign_store::{Query, StoredLeaf};
use serde_json::json;

const TOKEN: &str = "a-token-of-the-harness-0123456789";
const PERSON: &str = "a-token-of-an-approver-0123456789";
/// In the namespace nobody else listens. 0x4963.
const PORT: u16 = 18_787;
const BASE: &str = "@id(\"work\") @reason(\"fine\") permit (principal, action, resource);\n";

/// One turn of the client, which makes the model's one call: `touch /home/user/project/EXECUTED_original`.
struct Turn {
    dir: tempfile::TempDir,
    keys: [String; 2],
}

impl Turn {
    fn with_policies(policies: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/all.cedar"), policies).unwrap();
        let config = json!({
            "server": {"listen": format!("127.0.0.1:{PORT}")},
            "store": {"dir": dir.path().join("data")},
            "keys": {"origin": "test.example/log", "receipt": {"env": "TURN_RECEIPT"}, "log": {"env": "TURN_LOG"}},
            "policies": {"dir": dir.path().join("policies")},
            "api": {"callers": {"ann": {"token": {"env": "TURN_PERSON"}, "roles": ["viewer", "approver"]}}},
            "connectors": {"claude-code": {"tokens": {"harness": {"env": "TURN_TOKEN"}}}},
        });
        std::fs::write(dir.path().join("countersign.toml"), toml::to_string(&config).unwrap()).unwrap();
        Self { dir, keys: [generate_key_pem().unwrap(), generate_key_pem().unwrap()] }
    }

    /// Serves and runs the client beside it; `before` and `meanwhile` are shell commands that know `$server`, its
    /// process id. Returns what the harness says of the tool: `original`, `modified` or `no`.
    fn take(&self, before: &str, meanwhile: &str) -> String {
        let harness = PathBuf::from(env("HARNESS"));
        let script = format!(
            "'{program}' --config '{config}' serve >'{out}/server.log' 2>&1 & server=$!\n\
             for _ in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/{PORT}) 2>/dev/null && break; sleep 0.1; done\n\
             {before}\n{meanwhile}\n\
             '{run}' http://127.0.0.1:{PORT}/hooks/claude-code\n\
             kill -TERM $server 2>/dev/null; wait $server\ntrue",
            program = env!("CARGO_BIN_EXE_countersign"),
            config = self.dir.path().join("countersign.toml").display(),
            out = self.dir.path().display(),
            run = harness.join("run_claude.sh").display(),
        );
        let output = Command::new(harness.join("sandbox.sh"))
            .args(["bash", "-c", &script])
            .env("HARNESS_HOME", env("HARNESS_HOME"))
            .env("OUT", self.dir.path().join("out"))
            .env("PERM", "allow")
            .env("ON_FAILURE", "block")
            .env("HOOK_EVENTS", "PreToolUse PostToolUse SessionEnd")
            .env("HOOK_HEADERS", r#"{"Authorization": "Bearer $TOK"}"#)
            .env("HOOK_ENV", format!("TOK={TOKEN}"))
            .env("TURN_TOKEN", TOKEN)
            .env("TURN_PERSON", PERSON)
            .env("TURN_RECEIPT", &self.keys[0])
            .env("TURN_LOG", &self.keys[1])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let executed = text.lines().find_map(|line| line.strip_prefix("TOOL_EXECUTED=")).map(str::to_owned);
        let log = std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        let executed =
            executed.unwrap_or_else(|| panic!("{text}{}{log}", String::from_utf8_lossy(&output.stderr)));
        println!("TOOL_EXECUTED={executed}");
        executed.split(' ').next().unwrap().to_owned()
    }

    /// A person who looks for a question until there is one, and answers it.
    fn person(&self, verb: &str) -> String {
        let token = self.dir.path().join("person.token");
        std::fs::write(&token, PERSON).unwrap();
        let approvals = format!("'{}' --json approvals", env!("CARGO_BIN_EXE_countersign"));
        let remote = format!("--server http://127.0.0.1:{PORT} --token-file '{}'", token.display());
        format!(
            "(for _ in $(seq 300); do id=$({approvals} list {remote} 2>/dev/null | grep -o 'apr_[a-z0-9]*' | head -1); \
             [ -n \"$id\" ] && {{ sleep 2; {approvals} {verb} $id {remote}; break; }}; sleep 0.1; done) &"
        )
    }

    async fn receipts(&self) -> Vec<StoredLeaf> {
        let text = std::fs::read_to_string(self.dir.path().join("countersign.toml")).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        let lookup = |name: &str| match name {
            "TURN_RECEIPT" => Some(self.keys[0].clone()),
            "TURN_LOG" => Some(self.keys[1].clone()),
            _ => None,
        };
        let store = countersign_service::open_store(&config, &lookup).unwrap();
        let mut found = store.find(&Query { limit: 100, ..Query::default() }).await.unwrap();
        store.close().await.unwrap();
        found.retain(|leaf| matches!(leaf.summary.kind, ReceiptKind::Decision | ReceiptKind::Outcome));
        found.reverse();
        found
    }
}

pub(crate) fn env(name: &str) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "an opt-in test is told by the environment where its harness is"
    )]
    let value = std::env::var(name);
    let value = value.unwrap_or_else(|_| panic!("{name} says where the harness is; see docs/TESTING.md"));
    assert!(Path::new(&value).is_dir(), "{name} is not a folder");
    value
}

#[tokio::test]
#[ignore = "needs the harness and the real client"]
async fn claude_runs_an_allowed_tool_and_its_outcome_is_receipted_under_the_same_call() {
    let turn = Turn::with_policies(BASE);
    assert_eq!("original", turn.take("", ""));
    let receipts = turn.receipts().await;
    let [decision, outcome] = receipts.as_slice() else { panic!("{receipts:?}") };
    let (decision, outcome) = (statement_of(&decision.bytes), statement_of(&outcome.bytes));
    assert_eq!(decision["predicate"]["decision"]["expressed"], "ALLOW");
    assert_eq!(outcome["predicate"]["outcome"]["status"], "succeeded");
    assert_eq!(decision["predicate"]["receiptId"], outcome["predicate"]["parent"]);
    let call = &decision["predicate"]["action"]["callId"];
    assert_eq!(call, &outcome["predicate"]["outcome"]["callId"]);
    println!(
        "call {call} receipted: {} then {}",
        decision["predicate"]["receiptId"], outcome["predicate"]["receiptId"]
    );
}

#[tokio::test]
#[ignore = "needs the harness and the real client"]
async fn claude_does_not_run_a_denied_tool() {
    let deny = "@id(\"no\") @class(\"forbidden\") @reason(\"not here\") forbid (principal, action == Action::\"execute\", resource);";
    let turn = Turn::with_policies(&format!("{BASE}{deny}"));
    assert_eq!("no", turn.take("", ""));
    let receipts = turn.receipts().await;
    assert_eq!(
        [Some(Verdict::Deny)],
        receipts.iter().map(|leaf| leaf.summary.verdict).collect::<Vec<_>>().as_slice()
    );
}

#[tokio::test]
#[ignore = "needs the harness and the real client"]
async fn claude_runs_a_modified_tool_with_the_new_input() {
    let modify = r#"@id("elsewhere") @decision("modify") @reason("write elsewhere")
        @modify("[{\"op\":\"replace\",\"path\":\"/command\",\"value\":\"touch /home/user/project/EXECUTED_modified\"}]")
        forbid (principal, action == Action::"execute", resource)
        when { context.params has command && context.params.command like "*EXECUTED_original*" };"#;
    let turn = Turn::with_policies(&format!("{BASE}{modify}"));
    assert_eq!("modified", turn.take("", ""));
    assert_eq!(Some(Verdict::Modify), turn.receipts().await[0].summary.verdict);
}

#[tokio::test]
#[ignore = "needs the harness and the real client"]
async fn claude_does_not_run_a_tool_whose_server_is_killed_in_mid_call() {
    let turn = Turn::with_policies(BASE);
    // The server is stopped, so that the call is taken by the kernel and not answered; once it is there, kill.
    let kill = "(for _ in $(seq 300); do grep -q ':4963 01 ' /proc/net/tcp && { sleep 0.5; break; }; sleep 0.1; done; \
                kill -KILL $server) &";
    assert_eq!("no", turn.take("kill -STOP $server", kill));
    assert!(turn.receipts().await.is_empty(), "nothing was decided");
}

const ASK: &str = "@id(\"ask\") @decision(\"step_up\") @approvers(\"ann\") @reason(\"a person decides\") \
                   forbid (principal, action == Action::\"execute\", resource);";

#[tokio::test]
#[ignore = "needs the harness and the real client"]
async fn claude_waits_for_a_person_and_runs_the_tool_once_it_is_approved() {
    let turn = Turn::with_policies(&format!("{BASE}{ASK}"));
    assert_eq!("original", turn.take("", &turn.person("approve")));
    let decided: Vec<_> = turn.receipts().await.iter().filter_map(|leaf| leaf.summary.verdict).collect();
    assert_eq!([Verdict::StepUp, Verdict::Allow], decided.as_slice());
}

#[tokio::test]
#[ignore = "needs the harness and the real client"]
async fn claude_waits_for_a_person_and_does_not_run_the_tool_once_it_is_refused() {
    let turn = Turn::with_policies(&format!("{BASE}{ASK}"));
    assert_eq!("no", turn.take("", &turn.person("deny")));
    let decided: Vec<_> = turn.receipts().await.iter().filter_map(|leaf| leaf.summary.verdict).collect();
    assert_eq!(Some(&Verdict::StepUp), decided.first());
    assert!(!decided.contains(&Verdict::Allow), "{decided:?}");
}
