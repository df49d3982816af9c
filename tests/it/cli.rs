//! The program, run as its users run it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_schemas::Timestamp;
use countersign_service::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

const DONE: i32 = 0;
const NO: i32 = 1;
const MISUSE: i32 = 3;

#[test]
fn a_fresh_installation_is_right_and_its_policies_pass_their_cases() {
    let home = Home::new();
    home.run(DONE, &["config", "check"]);
    let checked = home.json(DONE, &["policy", "check"]);
    assert_eq!((&json!(true), &json!([])), (&checked["ok"], &checked["errors"]));
    let tested = home.json(DONE, &["policy", "test", "--require-coverage"]);
    assert!(tested["passed"].as_u64().unwrap() > 20 && tested["failures"] == json!([]));
}

#[test]
fn a_second_installation_in_the_same_folder_writes_nothing() {
    let home = Home::new();
    fs::remove_file(home.path("trust.json")).unwrap();
    let key = fs::read(home.path("keys/log.pem")).unwrap();
    let told = home.run(MISUSE, &["init", home.path("").to_str().unwrap()]);
    assert!(text(&told.stderr).contains("nothing was written"), "{told:?}");
    assert_eq!(key, fs::read(home.path("keys/log.pem")).unwrap());
    assert!(!home.path("trust.json").exists());
}

#[cfg(unix)]
#[test]
fn secrets_can_be_read_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.run(DONE, &["keys", "generate", home.path("keys/next.pem").to_str().unwrap()]);
    let mut seen = 0;
    for entry in fs::read_dir(home.path("keys")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(0o600, entry.metadata().unwrap().permissions().mode() & 0o777, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(5, seen);
}

#[test]
fn the_trust_file_is_what_the_keys_say() {
    let home = Home::new();
    let written: Value = serde_json::from_slice(&fs::read(home.path("trust.json")).unwrap()).unwrap();
    assert_eq!(written, home.json(DONE, &["keys", "show"]));
    let (receipt, log) = (home.path("keys/receipt.pem"), home.path("keys/log.pem"));
    let of = ["--receipt-key", receipt.to_str().unwrap(), "--log-key", log.to_str().unwrap()];
    let name = ["--origin", "countersign.example.com/log"];
    assert_eq!(written, home.json(DONE, &[["keys", "public"].as_slice(), &of, &name].concat()));
}

#[tokio::test]
async fn a_signed_request_is_decided_and_its_receipt_can_be_found() {
    let home = Home::new();
    let server = home.serve();
    let answer = server.ask("r-1", action("r-1", "read", json!({}))).await;
    assert_eq!("ALLOW", answer["decision"], "{answer}");
    let id = answer["receipt_id"].as_str().unwrap();

    let found = server.json(DONE, &["receipts", "list", "--kind", "decision"]);
    assert_eq!(id, found[0]["statement"]["predicate"]["receiptId"]);
    let shown = server.json(DONE, &["receipts", "show", id]);
    assert_eq!(
        "bob@acme.example", shown["disclosed"]["humanEmail"],
        "the personal part is kept beside the log"
    );
    let leaf = shown["statement"].to_string();
    assert!(!leaf.contains("bob@acme.example"), "the leaf holds nothing personal: {leaf}");
    assert!(text(&server.run(DONE, &["receipts", "list"]).stdout).contains(id));

    let mut tail = server.start(&["receipts", "tail", "-n", "1", "--json"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert_eq!(id, next_receipt(&mut lines));
    let next = server.ask("r-2", action("r-2", "read", json!({}))).await;
    assert_eq!(next["receipt_id"], next_receipt(&mut lines));
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[tokio::test]
async fn an_approved_call_runs_once() {
    let home = Home::new();
    let server = home.serve();
    let deploy = |id: &str| action(id, "deploy", json!({"environment": "production"}));
    let asked = server.ask("d-1", deploy("d-1")).await;
    assert_eq!("STEP_UP", asked["decision"], "{asked}");
    let ticket = asked["ticket"].as_str().unwrap();

    assert_eq!(ticket, server.json(DONE, &["approvals", "list"])[0]["approvalId"]);
    let shown = text(&server.run(DONE, &["approvals", "show", ticket]).stdout);
    assert!(shown.contains("\"environment\": \"production\""), "an approver sees every parameter: {shown}");
    let settled = server.json(DONE, &["approvals", "approve", ticket, "--comment", "checked"]);
    assert_eq!(true, settled["settled"]);
    server.run(MISUSE, &["approvals", "approve", ticket]);

    assert_eq!("ALLOW", server.ask("d-1", deploy("d-1")).await["decision"]);
    assert_eq!("STEP_UP", server.ask("d-2", deploy("d-2")).await["decision"], "a grant is for one run");
}

#[tokio::test]
async fn a_refused_call_does_not_run() {
    let home = Home::new();
    let server = home.serve();
    let deploy = action("d-1", "deploy", json!({"environment": "production"}));
    let asked = server.ask("d-1", deploy.clone()).await;
    assert_eq!("STEP_UP", asked["decision"], "{asked}");
    server.run(DONE, &["approvals", "deny", asked["ticket"].as_str().unwrap()]);
    assert_ne!("ALLOW", server.ask("d-1", deploy).await["decision"]);
}

#[tokio::test]
async fn a_halt_denies_until_it_is_lifted() {
    let home = Home::new();
    let server = home.serve();
    server.run(DONE, &["halt", "--agent", "generic/bot", "--reason", "drill"]);
    assert_eq!(
        json!({"kind": "agent", "name": "generic/bot"}),
        server.json(DONE, &["halt", "list"])[0]["what"]
    );
    let denied = server.ask("h-1", action("h-1", "read", json!({}))).await;
    assert_eq!(("DENY", "halted: drill"), (str(&denied["decision"]), str(&denied["reason"])));
    server.run(DONE, &["halt", "--lift", "--agent", "generic/bot", "--reason", "over"]);
    assert_eq!("ALLOW", server.ask("h-2", action("h-2", "read", json!({}))).await["decision"]);
}

#[tokio::test]
async fn an_export_is_verified_and_a_changed_one_is_refuted() {
    let home = Home::new();
    let server = home.serve();
    for (id, effect) in [("e-1", "read"), ("e-2", "grant"), ("e-3", "read")] {
        server.ask(id, action(id, effect, json!({}))).await;
    }
    let (export, trust) = (home.path("log.ndjson"), home.path("trust.json"));
    let verify = ["verify", export.to_str().unwrap(), "--trust", trust.to_str().unwrap()];
    server.run(DONE, &["export", "-o", export.to_str().unwrap()]);
    let report = home.json(DONE, &verify);
    assert_eq!(("verified", true), (str(&report["verdict"]), report["complete"].as_bool().unwrap()));
    assert_eq!(json!(3), report["counts"]["kinds"]["decision"]);

    let whole = fs::read_to_string(&export).unwrap();
    let (head, _) = whole.trim_end().rsplit_once('\n').unwrap();
    fs::write(&export, format!("{head}\n")).unwrap();
    assert_eq!("refuted", home.json(NO, &verify)["verdict"], "the last receipt is missing");
    // One bit of a receipt's signature.
    let at = whole.rfind("\"sig\":\"").unwrap() + 10;
    let mut changed = whole.clone().into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    fs::write(&export, changed).unwrap();
    assert_eq!("refuted", home.json(NO, &verify)["verdict"]);

    server.run(DONE, &["export", "--verdict", "STEP_UP", "-o", export.to_str().unwrap()]);
    let report = home.json(DONE, &verify);
    assert_eq!((json!(1), json!(false)), (report["counts"]["receipts"].clone(), report["complete"].clone()));
    fs::write(&trust, home.stranger()).unwrap();
    home.run(NO, &verify);
}

#[tokio::test]
async fn the_log_can_be_read_without_a_server_but_not_beside_one() {
    let home = Home::new();
    let server = home.serve();
    let answer = server.ask("o-1", action("o-1", "read", json!({}))).await;
    let refused = home.run(MISUSE, &["receipts", "list", "--offline"]);
    assert!(text(&refused.stderr).contains("leave out --offline"), "{refused:?}");
    let csv = text(&server.run(DONE, &["export", "--format", "csv"]).stdout);
    let online = text(&server.run(DONE, &["export"]).stdout);
    server.stop();

    let found = home.json(DONE, &["receipts", "list", "--offline"]);
    assert_eq!(answer["receipt_id"], found[0]["statement"]["predicate"]["receiptId"]);
    assert_eq!(online, text(&home.run(DONE, &["export", "--offline"]).stdout));
    assert_eq!(csv, text(&home.run(DONE, &["export", "--offline", "--format", "csv"]).stdout));
    assert_eq!(online.lines().count(), csv.lines().count(), "one line for each receipt, and the head");
    for event in text(&home.run(DONE, &["export", "--offline", "--format", "ocsf"]).stdout).lines() {
        let event: Value = serde_json::from_str(event).unwrap();
        assert_eq!("1.8.0", event["metadata"]["version"]);
    }
}

#[tokio::test]
async fn a_changed_policy_comes_into_force_and_a_bad_one_does_not() {
    let home = Home::new();
    let server = home.serve();
    let added = home.path("policies/own.cedar");
    fs::write(&added, "@id(\"no\") permit (principal, action,").unwrap();
    server.run(MISUSE, &["policy", "reload"]);
    assert_eq!("ALLOW", server.ask("p-1", action("p-1", "read", json!({}))).await["decision"]);
    let checked = home.json(MISUSE, &["policy", "check"]);
    assert_eq!(("own.cedar", false), (str(&checked["errors"][0]["file"]), checked["ok"].as_bool().unwrap()));
    fs::write(
        &added,
        "@id(\"own\") @reason(\"never\") forbid (principal, action == Action::\"read\", resource);",
    )
    .unwrap();
    server.run(DONE, &["policy", "reload"]);
    assert_eq!("DENY", server.ask("p-2", action("p-2", "read", json!({}))).await["decision"]);
}

#[tokio::test]
async fn without_the_right_token_the_server_tells_nothing() {
    let home = Home::new();
    let server = home.serve();
    fs::write(home.path("wrong.token"), "not-the-operators-token").unwrap();
    let wrong = home.path("wrong.token");
    let told = server.run(MISUSE, &["receipts", "list", "--token-file", wrong.to_str().unwrap()]);
    assert!(told.stdout.is_empty() && text(&told.stderr).contains("unauthorized"), "{told:?}");
}

#[test]
fn a_request_that_cannot_be_taken_in_is_denied_in_words_the_vendor_understands() {
    let home = Home::new();
    let config = fs::read_to_string(home.path("countersign.toml")).unwrap();
    fs::write(home.path("countersign.toml"), format!("{config}\n[limits]\nbody_bytes = 100000\n")).unwrap();
    let server = home.serve();
    let host = server.url.strip_prefix("http://").unwrap();
    // The first is larger than the limit; the second never arrives.
    for (length, sent) in [(200_000, 200_000), (2_000, 1_000)] {
        let mut stream = TcpStream::connect(host).unwrap();
        let head =
            format!("POST /hooks/generic HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b' '; sent]).unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).unwrap();
        let answer = text(&answer[..count]);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""decision":"DENY""#), "{answer}");
    }
}

#[test]
fn a_decision_is_explained_and_its_exit_code_says_yes_or_no() {
    let home = Home::new();
    let file = home.path("request.json");
    let decide = ["decide", file.to_str().unwrap()];
    for (effect, exit, verdict) in
        [("read", DONE, "ALLOW"), ("grant", NO, "STEP_UP"), ("deploy", NO, "DEFER")]
    {
        fs::write(&file, action("x", effect, json!({})).to_string()).unwrap();
        let decided = home.json(exit, &decide);
        assert_eq!(verdict, decided["explanation"]["decision"]["verdict"], "{decided}");
        // An action is decided as the request that it came from.
        fs::write(&file, decided["action"].to_string()).unwrap();
        assert_eq!(decided["explanation"], home.json(exit, &decide)["explanation"]);
    }
    fs::write(&file, "{}").unwrap();
    home.run(MISUSE, &decide);
}

#[test]
fn a_recorded_request_is_shown_as_its_connector_would_answer_it() {
    let fixtures = repository("fixtures/generic");
    let home = Home::new();
    let test = |case: &str, exit: i32, more: &[&str]| {
        let request = fixtures.join(case).join("request.http");
        let settings = fixtures.join("settings.toml");
        let mut command =
            home.command(&["--json", "connectors", "test", "generic", request.to_str().unwrap()]);
        command.args(["--settings", settings.to_str().unwrap(), "--now", "2026-11-24T05:00:00Z"]).args(more);
        let secrets: toml::Table =
            fs::read_to_string(fixtures.join("secrets.toml")).unwrap().parse().unwrap();
        command.envs(secrets.iter().map(|(name, secret)| (name, secret.as_str().unwrap())));
        serde_json::from_slice::<Value>(&check(command.output().unwrap(), exit).stdout).unwrap()
    };
    let shown = test("action", DONE, &[]);
    assert_eq!("vendor_signed", shown["caller"]["assurance"]);
    let receipt = &shown["receipts"][0]["predicate"];
    assert_eq!(shown["reply"]["body"]["decision"], receipt["decision"]["expressed"]);
    assert_eq!("mismatch", test("forged_signature", NO, &[])["refused"]["code"]);
    let trusted = test("forged_signature", DONE, &["--skip-verify"]);
    assert_eq!("nothing: taken on trust", trusted["caller"]["verifiedBy"]);
    assert!(test("malformed_json", NO, &[])["read"]["unreadable"].is_string());
}

#[test]
fn what_a_real_client_sent_can_be_tried_against_the_policies() {
    let home = Home::new();
    let settings = home.path("claude.toml");
    fs::write(&settings, "tokens = { a = { env = \"CLAUDE_TOKEN\" } }").unwrap();
    for event in ["PreToolUse", "PostToolUse", "UserPromptSubmit"] {
        let file = repository("fixtures/claude-code/captures").join(format!("{event}-1.json"));
        let mut command =
            home.command(&["--json", "connectors", "test", "claude-code", file.to_str().unwrap()]);
        command.args(["--settings", settings.to_str().unwrap(), "--skip-verify"]);
        command.env("CLAUDE_TOKEN", "a-token-of-more-than-16-bytes");
        let shown: Value = serde_json::from_slice(&check(command.output().unwrap(), DONE).stdout).unwrap();
        assert_eq!(event, shown["receipts"][0]["predicate"]["vendor"]["event"], "{shown}");
    }
}

#[test]
fn a_wrong_configuration_is_told_all_that_is_wrong_with_it() {
    let folder = repository("fixtures/config");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut command = program(&["--config", name, "config", "check"]);
        let told = check(command.current_dir(&folder).output().unwrap(), MISUSE);
        expect(&file.with_extension("expected.txt"), &text(&told.stdout));
        check(program(&["--config", name, "serve"]).current_dir(&folder).output().unwrap(), MISUSE);
    }
}

#[test]
fn wrong_use_has_an_exit_code_of_its_own() {
    for args in [
        vec!["no-such-command"],
        vec!["halt", "--reason", "of nothing"],
        vec!["halt", "--all", "--human", "eve", "--reason", "of two"],
        vec!["verify", "/no/such/export", "--trust", "/no/such/trust"],
        vec!["--config", "/no/such/countersign.toml", "serve"],
        vec!["connectors", "setup", "no-such-vendor"],
        vec!["receipts", "list", "--server", "http://countersign.example.com"],
    ] {
        let told = check(program(&args).output().unwrap(), MISUSE);
        assert!(told.stdout.is_empty() && !told.stderr.is_empty(), "{args:?}: {told:?}");
    }
}

#[test]
fn the_connectors_page_is_what_the_manifests_say() {
    let page = check(program(&["connectors", "matrix", "--markdown"]).output().unwrap(), DONE);
    expect(&repository("docs/connectors.md"), &text(&page.stdout));
}

#[test]
fn the_reference_holds_the_help_of_every_command() {
    const MARK: &str = "<!-- The help texts, as the program prints them. Do not edit below this line. -->\n";
    let path = repository("docs/reference/cli.md");
    let page = fs::read_to_string(&path).unwrap();
    let (written, _) = page.split_once(MARK).expect("the mark is gone");
    let mut help = String::new();
    add_help(&[], &mut help);
    expect(&path, &format!("{written}{MARK}{help}"));
}

/// The help of a command and of all commands below it.
fn add_help(command: &[String], help: &mut String) {
    let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
    args.push("--help");
    let shown = text(&check(program(&args).env("COLUMNS", "100").output().unwrap(), DONE).stdout);
    let title = [vec!["countersign".to_owned()], command.to_vec()].concat().join(" ");
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    help.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    let commands =
        lines.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: BTreeSet<_> = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    for name in names {
        add_help(&[command, &[name.to_owned()]].concat(), help);
    }
}

/// Compares with what is checked in; UPDATE=1 rewrites that.
#[track_caller]
pub(crate) fn expect(path: &Path, made: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, made).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(expected, made, "{} is stale; UPDATE=1 rewrites it", path.display());
}

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A request of the generic connector.
pub(crate) fn action(id: &str, effect: &str, parameters: Value) -> Value {
    let environment = parameters.get("environment").cloned();
    let facets = environment.map_or(json!({}), |environment| json!({"environment": environment}));
    json!({
        "version": 1, "id": id, "type": "action", "session": {"id": "s-1"}, "agent": {"id": "bot"},
        "human": {"id": "u-bob", "email": "bob@acme.example"}, "tool": {"name": "tool"},
        "effect": effect, "facets": facets, "parameters": parameters,
    })
}

fn next_receipt(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = lines.next().unwrap().unwrap();
    let receipt: Value = serde_json::from_str(&line).unwrap();
    receipt["statement"]["predicate"]["receiptId"].clone()
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The program, with none of its variables set.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for name in ["CONFIG", "LOG", "LOG_FORMAT", "SERVER", "TOKEN"] {
        command.env_remove(format!("COUNTERSIGN_{name}"));
    }
    command.args(args);
    command
}

#[track_caller]
pub(crate) fn check(output: Output, exit: i32) -> Output {
    assert_eq!(Some(exit), output.status.code(), "{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// An installation as `init` makes it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        check(program(&["init", dir.path().to_str().unwrap()]).output().unwrap(), DONE);
        let home = Self(dir);
        let config = fs::read_to_string(home.path("countersign.toml")).unwrap();
        let anywhere = config.replace("127.0.0.1:8787", "127.0.0.1:0");
        assert_ne!(config, anywhere);
        fs::write(home.path("countersign.toml"), anywhere).unwrap();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program(&[]);
        command.arg("--config").arg(self.path("countersign.toml")).args(args);
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, exit: i32, args: &[&str]) -> Output {
        check(self.command(args).output().unwrap(), exit)
    }

    #[track_caller]
    pub(crate) fn json(&self, exit: i32, args: &[&str]) -> Value {
        let output = self.run(exit, &[&["--json"], args].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The trust file of somebody else, whose log has the same name.
    fn stranger(&self) -> Vec<u8> {
        fs::read(Self::new().path("trust.json")).unwrap()
    }

    pub(crate) fn serve(&self) -> Server<'_> {
        let mut child = self.command(&["--json", "serve"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json!(["/hooks/generic"]), told["hooks"]);
        Server { child, home: self, url: format!("http://{}", str(&told["listen"])) }
    }
}

/// A running server.
pub(crate) struct Server<'a> {
    child: Child,
    home: &'a Home,
    url: String,
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Server<'_> {
    /// Signs a request as Standard Webhooks 1.0.0 says, and sends it.
    pub(crate) async fn ask(&self, id: &str, body: Value) -> Value {
        let secret = fs::read_to_string(self.home.path("keys/generic.secret")).unwrap();
        let key = STANDARD.decode(secret.trim().strip_prefix("whsec_").unwrap()).unwrap();
        let Timestamp(now) = SystemClock.now();
        let (time, body) = ((now / 1000).to_string(), body.to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let tag = hmac::sign(&key, format!("{id}.{time}.{body}").as_bytes());
        let request = reqwest::Client::builder().build().unwrap().post(format!("{}/hooks/generic", self.url));
        let request = request.header("webhook-id", id).header("webhook-timestamp", time);
        let request = request.header("webhook-signature", format!("v1,{}", STANDARD.encode(tag)));
        let response = request.body(body).send().await.unwrap();
        assert_eq!(200, response.status().as_u16());
        response.json().await.unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        command.env("COUNTERSIGN_SERVER", &self.url);
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, exit: i32, args: &[&str]) -> Output {
        check(self.command(args).output().unwrap(), exit)
    }

    #[track_caller]
    pub(crate) fn json(&self, exit: i32, args: &[&str]) -> Value {
        let output = self.run(exit, &[&["--json"], args].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Stops it as a service manager does, and waits until everything is written.
    pub(crate) fn stop(mut self) {
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(stopped.success());
        assert!(self.child.wait().unwrap().success());
    }
}
