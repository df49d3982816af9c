//! The conformance rows: they pass where they should, and fail where the server is not what they need.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The program, with none of its variables set.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for name in ["CONFIG", "LOG", "LOG_FORMAT", "SERVER", "TOKEN"] {
        command.env_remove(format!("COUNTERSIGN_{name}"));
    }
    command.args(args);
    command
}

#[track_caller]
fn conformance(args: &[&str]) -> (Option<i32>, Value) {
    let output = program(&["conformance", "--json"]).args(args).output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{output:?}")))
}

fn list<'v>(report: &'v Value, name: &str) -> &'v Vec<Value> {
    report[name].as_array().unwrap()
}

fn failed(report: &Value) -> BTreeSet<&str> {
    let failed = list(report, "rows").iter().filter(|row| row["passed"] != true);
    failed.map(|row| row["row"].as_str().unwrap()).collect()
}

#[test]
fn every_row_passes_on_a_fresh_server_and_names_its_receipts() {
    let (exit, report) = conformance(&["--level", "extended"]);
    assert_eq!((Some(0), BTreeSet::new()), (exit, failed(&report)), "{report}");
    for row in list(&report, "rows") {
        assert!(list(row, "checks").iter().any(|check| check["receipt"].is_string()), "{row}");
    }
}

/// A server with what `init` writes, on a port that is free.
struct Server(Child, String);

impl Server {
    fn start(dir: &Path) -> Self {
        assert!(program(&["init", dir.to_str().unwrap()]).output().unwrap().status.success());
        let config = dir.join("countersign.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("127.0.0.1:8787", "127.0.0.1:0")).unwrap();
        let mut child = program(&["--json", "--config", config.to_str().unwrap(), "serve"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Self(child, format!("http://{}", told["listen"].as_str().unwrap()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn a_running_server_fails_the_rows_until_it_has_their_policies() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (secret, token) = (file("keys/generic.secret"), file("keys/operator.token"));
    let (trust, config) = (file("trust.json"), file("countersign.toml"));
    let at = ["--url", &server.1, "--secret-file", &secret, "--token-file", &token, "--trust", &trust];
    let args = [["--only", "R2,R3"].as_slice(), &at].concat();

    let (exit, report) = conformance(&args);
    assert_eq!(Some(1), exit);
    let failed_rows = failed(&report);
    assert!(failed_rows.contains("forbidden") && failed_rows.contains("prior-actions"), "{failed_rows:?}");
    assert!(!failed_rows.contains("hash-chain"), "receipts are chained whatever the policies are");

    fs::remove_dir_all(dir.path().join("policies")).unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    let policies = program(&["conformance", "--print-policies"]).output().unwrap().stdout;
    fs::write(dir.path().join("policies/conformance.cedar"), policies).unwrap();
    let remote = ["--server", &server.1, "--token-file", &token];
    let reload = program(&["--config", &config, "policy", "reload"]).args(remote).output().unwrap();
    assert!(reload.status.success(), "{reload:?}");
    let (exit, report) = conformance(&args);
    assert_eq!((Some(0), BTreeSet::new()), (exit, failed(&report)), "{report}");
    let shown: BTreeSet<_> = list(&report, "rows").iter().map(|row| row["requirement"].as_str()).collect();
    assert_eq!(BTreeSet::from([Some("R2"), Some("R3")]), shown);
}
