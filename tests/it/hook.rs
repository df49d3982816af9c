//! The real command, run as a client runs it, against the real server and against everything that can be there instead.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::thread;

use countersign_connectors::registry;
use countersign_receipt::generate_key_pem;
use countersign_sdk::dialect::Refusal;
use countersign_sdk::{ConnectorSpec, Dialect};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::cli::{program, repository, text};

const TOKEN: &str = "a-token-of-these-tests-0123456789";
const ALLOW: &str = "@id(\"work\") @reason(\"fine\") permit (principal, action, resource);\n";
const DENY: &str = "@id(\"no\") @reason(\"the policy says so\") forbid (principal, action, resource);\n";
const REFUSED: &str = "Countersign refuses, because it could not be asked: ";

/// Every client that runs commands.
fn clients() -> Vec<(ConnectorSpec, Dialect)> {
    registry().iter().filter_map(|spec| Some((*spec, (spec.dialect)()?))).collect()
}

/// A server of its own process, with every such client's connector.
pub(crate) struct Served {
    child: Child,
    pub(crate) dir: TempDir,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Writes a configuration with every client's connector into `dir`.
pub(crate) fn configure(dir: &Path, listen: &str, policies: &str) -> PathBuf {
    fs::create_dir_all(dir.join("policies")).unwrap();
    fs::write(dir.join("policies/all.cedar"), policies).unwrap();
    fs::write(dir.join("token"), TOKEN).unwrap();
    for key in ["receipt", "log"] {
        fs::write(dir.join(key), generate_key_pem().unwrap()).unwrap();
    }
    let settings = json!({"tokens": {"tests": {"file": dir.join("token")}}});
    let connectors: Map<String, Value> =
        clients().iter().map(|(spec, _)| (spec.name.to_owned(), settings.clone())).collect();
    let key = |name: &str| json!({"file": dir.join(name)});
    let config = json!({
        "server": {"listen": listen},
        "store": {"dir": dir.join("data")},
        "keys": {"origin": "test.example/log", "receipt": key("receipt"), "log": key("log")},
        "policies": {"dir": dir.join("policies")},
        "connectors": connectors,
    });
    let path = dir.join("countersign.toml");
    fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    path
}

impl Served {
    fn with(policies: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = configure(dir.path(), "127.0.0.1:0", policies);
        let mut command = program(&["--json", "--config", config.to_str().unwrap(), "serve"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Self { child, dir, url: format!("http://{}", told["listen"].as_str().unwrap()) }
    }
}

/// The question of a client's fixtures, and what follows the hook's URL.
fn question(spec: &ConnectorSpec) -> (Vec<u8>, String, Value) {
    let folder = repository("fixtures").join(spec.name);
    let case = ["pre_tool", "pre_tool_use"].map(|case| folder.join(case));
    let case = case.iter().find(|case| case.exists()).unwrap();
    let raw = fs::read_to_string(case.join("request.http")).unwrap();
    let (head, body) = raw.split_once("\n\n").unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let below = target.strip_prefix(&format!("/hooks/{}", spec.name)).unwrap().trim_start_matches('/');
    let expected = fs::read_to_string(case.join("expected.json")).unwrap();
    (body.as_bytes().to_vec(), below.to_owned(), serde_json::from_str(&expected).unwrap())
}

/// Runs the command as the client would: with a command line, an event on standard input, and nothing else.
fn speak(name: &str, event: &str, args: &[&str], stdin: &[u8], stdout: Stdio) -> Output {
    let mut command = program(&["hook", name]);
    command.args((!event.is_empty()).then_some(event)).args(args);
    command.env_clear().env("HOME", "/nowhere").env("PATH", "/usr/bin:/bin");
    let mut child = command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    // It may have refused without reading.
    let _read = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn ask(spec: &ConnectorSpec, url: &str, token: &Path, more: &[&str]) -> Output {
    let (body, below, _) = question(spec);
    let args = [&["--url", url, "--token-file", token.to_str().unwrap()], more].concat();
    speak(spec.name, &below, &args, &body, Stdio::piped())
}

#[track_caller]
fn answered(spec: &ConnectorSpec, output: &Output, want: &str) {
    let got = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!((Some(0), want.to_owned(), String::new()), got, "{}", spec.name);
}

/// Refused in the one way that the client honours.
#[track_caller]
fn refused(spec: &ConnectorSpec, dialect: &Dialect, output: &Output, why: &str) {
    let (code, out, err) = (output.status.code(), text(&output.stdout), text(&output.stderr));
    let reason = match dialect.refusal {
        Refusal::ExitTwo => {
            assert_eq!((Some(2), ""), (code, out.as_str()), "{}: {err}", spec.name);
            err
        }
        Refusal::Body(body) => {
            assert_eq!((Some(0), ""), (code, err.as_str()), "{}: {out}", spec.name);
            let said: Value = serde_json::from_str(&out).unwrap();
            let mut said = said.as_object().unwrap().values().filter_map(Value::as_str);
            let reason = said.next().unwrap().to_owned();
            assert_eq!(body(&reason).to_string(), out);
            reason
        }
    };
    assert!(reason.starts_with(REFUSED) && reason.contains(why), "{} ({why}): {reason}", spec.name);
}

#[test]
fn every_client_hears_the_servers_answer_to_the_byte_and_nothing_else() {
    for (policies, verdict) in [(ALLOW.to_owned(), "ALLOW"), (format!("{ALLOW}{DENY}"), "DENY")] {
        let server = Served::with(&policies);
        for (spec, _) in clients() {
            let want = question(&spec).2["answers"][verdict]["body"].as_str().unwrap().to_owned();
            let output = ask(&spec, &server.url, &server.dir.path().join("token"), &[]);
            answered(&spec, &output, &want);
        }
    }
}

#[test]
fn a_token_that_is_not_known_or_a_connector_that_is_not_there_is_a_refusal() {
    let server = Served::with(ALLOW);
    let wrong = server.dir.path().join("wrong");
    fs::write(&wrong, "not-the-token-of-these-tests").unwrap();
    for (spec, dialect) in clients() {
        refused(&spec, &dialect, &ask(&spec, &server.url, &wrong, &[]), "401");
        let token = server.dir.path().join("token");
        let nobody = ask(&spec, &server.url, &token, &["--instance", "nobody"]);
        refused(&spec, &dialect, &nobody, "404");
        refused(
            &spec,
            &dialect,
            &ask(&spec, &server.url, Path::new("/nowhere/token"), &[]),
            "/nowhere/token",
        );
    }
}

/// Says the same to everybody, once the request is there; `None` says nothing and keeps the line open.
fn other(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(answer) = answer {
                respond(&mut stream, answer);
            } else {
                open.push(stream);
            }
        }
    });
    url
}

fn respond(stream: &mut (impl std::io::Read + std::io::Write), answer: &str) {
    let mut request = BufReader::new(&mut *stream);
    let (mut line, mut length) = (String::new(), 0);
    while request.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let _read = request.read_exact(&mut body);
    let _gone = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
}

#[test]
fn whatever_is_there_instead_of_the_server_is_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let no = "that is no answer";
    for (url, why) in [
        ("http://127.0.0.1:1".to_owned(), "cannot be reached"),
        (other(None), "in time"),
        (other(Some("HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\n{}")), "500"),
        (other(Some("HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")), "302"),
        (other(Some("HTTP/1.1 200 x\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}")), "no answer for"),
        (other(Some("HTTP/1.1 200 x\r\ncontent-length: 13\r\n\r\n<html></html>")), "no answer for"),
        (other(Some("HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{}")), "reached"),
        (other(Some("")), "reached"),
        ("http://10.0.0.1".to_owned(), no),
        ("ftp://127.0.0.1".to_owned(), no),
    ] {
        for (spec, dialect) in clients() {
            let why = if why == no { "no URL of a server" } else { why };
            // Who says nothing is waited for to the end; a busy machine may be slow to hear the others.
            let timeout = if why == "in time" { "1" } else { "30" };
            refused(&spec, &dialect, &ask(&spec, &url, &token, &["--timeout", timeout]), why);
        }
    }
}

#[test]
fn a_certificate_is_believed_only_if_somebody_vouches_for_it() {
    let fixture = |name: &str| repository("fixtures/hook").join(name);
    let certificate = CertificateDer::from_pem_file(fixture("test-only-certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("test-only-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let line = ServerConnection::new(config.clone()).unwrap();
            let mut stream: StreamOwned<_, TcpStream> = StreamOwned::new(line, stream.unwrap());
            respond(&mut stream, "HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let ca = fixture("test-only-certificate.pem");
    for (spec, dialect) in clients() {
        refused(&spec, &dialect, &ask(&spec, &url, &token, &[]), "cannot be reached");
        answered(&spec, &ask(&spec, &url, &token, &["--ca-file", ca.to_str().unwrap()]), "{}");
        let no_ca = ask(&spec, &url, &token, &["--ca-file", token.to_str().unwrap()]);
        refused(&spec, &dialect, &no_ca, "certificate");
    }
}

#[test]
fn without_a_configuration_or_an_event_or_a_place_to_print_it_refuses() {
    let server = Served::with(ALLOW);
    for (spec, dialect) in clients() {
        let (body, below, _) = question(&spec);
        refused(&spec, &dialect, &speak(spec.name, &below, &[], &body, Stdio::piped()), "install");
        refused(&spec, &dialect, &speak(spec.name, &below, &[], b"", Stdio::piped()), "no event");
        refused(
            &spec,
            &dialect,
            &speak(spec.name, &below, &["--typo", "x"], &body, Stdio::piped()),
            "--typo",
        );
        let token = server.dir.path().join("token");
        let args = ["--url", &server.url, "--token-file", token.to_str().unwrap()];
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = speak(spec.name, &below, &args, &body, full.into());
        assert_eq!(Some(2), output.status.code(), "{}", spec.name);
        assert!(!output.stderr.is_empty());
    }
    let typo = speak("codx", "", &[], b"{}", Stdio::piped());
    assert_eq!((Some(2), String::new()), (typo.status.code(), text(&typo.stdout)));
    assert!(text(&typo.stderr).contains("codx"));
}

#[test]
fn a_report_that_is_lost_stops_nothing() {
    for (spec, dialect) in clients() {
        let report = dialect.reports[0];
        let event = json!({dialect.event_fields[0]: report}).to_string();
        let named = if dialect.install.names_event { report } else { "" };
        answered(&spec, &speak(spec.name, named, &[], event.as_bytes(), Stdio::piped()), "{}");
    }
}

#[test]
fn hooks_are_registered_beside_others_and_taken_out_without_a_trace() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("token"), TOKEN).unwrap();
    let run = |args: &[&str], exit: i32| {
        let mut command = program(&[&["hook"], args].concat());
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin").current_dir(home.path());
        let output = command.output().unwrap();
        assert_eq!(Some(exit), output.status.code(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let theirs = json!({"theme": "dark", "hooks": {"BeforeTool": [{"hooks": [{"command": "their-own"}]}]}});
    let gemini = home.path().join(".gemini/settings.json");
    fs::create_dir(gemini.parent().unwrap()).unwrap();
    fs::write(&gemini, theirs.to_string()).unwrap();
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    for (spec, _) in clients() {
        let server = ["--url", "https://countersign.example.com", "--token-file", "token"];
        let install = [&["install", spec.name], server.as_slice()].concat();
        run(&["status", spec.name], 1);
        let printed = run(&[install.as_slice(), &["--dry-run"]].concat(), 0);
        assert!(printed.contains(&format!(" hook {}", spec.name)) && !printed.contains(TOKEN), "{printed}");
        run(&["status", spec.name], 1);
        run(&install, 0);
        run(&install, 0);
        assert!(run(&["status", spec.name], 0).contains("in force"), "{}", spec.name);
    }
    let both = read(&gemini);
    assert_eq!(2, both["hooks"]["BeforeTool"].as_array().unwrap().len(), "twice installed is once");
    assert_eq!("dark", both["theme"]);

    fs::create_dir_all(home.path().join(".codex")).unwrap();
    fs::write(home.path().join(".codex/config.toml"), "[features]\nhooks = false\n").unwrap();
    assert!(run(&["status", "codex"], 1).contains("SWITCHES"), "a file switches them off");

    for (spec, _) in clients() {
        run(&["uninstall", spec.name], 0);
        run(&["status", spec.name], 1);
    }
    assert_eq!(theirs, read(&gemini));
}
