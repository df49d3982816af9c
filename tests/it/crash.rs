//! The program is killed, and its disk fills up: nothing that was acknowledged is lost.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign_connectors::rehearsal::{Rehearsal, Scene};
use countersign_receipt::{Outcome, Trust, VerifyOptions, generate_key_pem, verify};
use countersign_sdk::http::Egress;
use countersign_service::clock::{Clock, SystemClock};
use countersign_service::config::Config;
use countersign_service::export::{self, Filter};
use countersign_store::Store;
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::support::{action, scene, trust};

/// An installation on disk, and the program that serves it.
struct Site {
    config: PathBuf,
    data: PathBuf,
    keys: [(String, String); 2],
    rehearsal: Arc<Rehearsal>,
    trust: Trust,
}

struct Running {
    address: String,
    child: Child,
    log: std::thread::JoinHandle<String>,
}

impl Site {
    /// Sets it up in `dir`, with its store in `data`.
    fn set(dir: &Path, data: &Path) -> Self {
        let rehearsal = Arc::new(Rehearsal::new("http://127.0.0.1:9").unwrap());
        let (receipt, log) = (generate_key_pem().unwrap(), generate_key_pem().unwrap());
        let trust = trust(&receipt, &log);
        let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/base");
        let config = json!({
            "server": {"listen": "127.0.0.1:0"},
            "store": {"kind": "sqlite", "dir": data, "checkpoint_file": dir.join("checkpoint")},
            "keys": {"origin": "test.example/log", "receipt": {"env": "CRASH_RECEIPT"}, "log": {"env": "CRASH_LOG"}},
            "policies": {"dir": policies},
            "connectors": {"generic": rehearsal.connectors()["generic"]},
        });
        let path = dir.join("countersign.toml");
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let keys = [("CRASH_RECEIPT".to_owned(), receipt), ("CRASH_LOG".to_owned(), log)];
        Self { config: path, data: data.to_owned(), keys, rehearsal, trust }
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let key = self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        key.or_else(|| self.rehearsal.lookup(name))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["--config".as_ref(), self.config.as_os_str(), "serve".as_ref()]);
        command.envs(self.keys.iter().map(|(key, value)| (key, value)));
        command.env("REHEARSAL_WEBHOOK", self.rehearsal.lookup("REHEARSAL_WEBHOOK").unwrap());
        command
    }

    /// Starts it, which it refuses; returns what it says.
    fn refuse(&self) -> String {
        let output = self.command().output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(Some(3), output.status.code(), "{complaint}");
        complaint
    }

    fn serve(&self) -> Running {
        self.serve_with(&self.keys)
    }

    fn serve_with(&self, variables: &[(String, String)]) -> Running {
        let mut command = self.command();
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .fold(String::new(), |log, line| log + &line + "\n")
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = lines
            .find_map(|line| line.ok()?.split_once("http://").map(|(_, rest)| rest.trim_end().to_owned()));
        let Some(address) = found else { panic!("it did not start: {}", log.join().unwrap()) };
        let address = address.split([' ', '/', ',']).next().unwrap().to_owned();
        Running { address, child, log }
    }

    /// Calls until the program is gone; returns the receipt ids of what was answered ALLOW.
    async fn call_until_gone(
        &self,
        address: &str,
        round: usize,
        worker: usize,
        answers: &AtomicUsize,
    ) -> Vec<String> {
        let client = Egress::new([address.to_owned()]).unwrap();
        let mut allowed = Vec::new();
        for at in 0.. {
            let id = format!("{round}-{worker}-{at}");
            let scene = scene("generic", action(&id, &format!("s-{}", worker % 3), "read", json!({"n": id})));
            let answer = self.call(&client, address, &scene, &id).await;
            answers.fetch_add(1, Ordering::Relaxed);
            match answer {
                Some(answer) if answer["decision"] == "ALLOW" => {
                    allowed.push(answer["receipt_id"].as_str().unwrap().to_owned())
                }
                Some(_) => {}
                None => break,
            }
        }
        allowed
    }

    /// Calls, and lets `before` happen to each call, until calls have been denied for a while: none may be allowed once
    /// one was denied, and every answer is in time. Returns the receipt ids of what was answered ALLOW.
    async fn call_until_denied(&self, address: &str, padding: &str, before: impl Fn(usize)) -> Vec<String> {
        /// Long enough for the log to say why.
        const WHILE: Duration = Duration::from_secs(2);
        let client = Egress::new([address.to_owned()]).unwrap();
        let mut allowed = Vec::new();
        let mut denied: Option<Instant> = None;
        for at in 0..20_000 {
            before(at);
            let id = at.to_string();
            let call = scene("generic", action(&id, "s", "read", json!({"note": padding})));
            let started = Instant::now();
            let answer = self.call(&client, address, &call, &id).await.expect("an answer");
            assert!(started.elapsed() < Duration::from_secs(5), "inside the vendor's window");
            match answer["decision"].as_str() {
                Some("ALLOW") => {
                    assert_eq!(None, denied, "once stopped, it stays stopped");
                    allowed.push(answer["receipt_id"].as_str().unwrap().to_owned());
                }
                Some("DENY") if denied.get_or_insert(started).elapsed() > WHILE => return allowed,
                Some("DENY") => {}
                _ => panic!("neither allowed nor denied: {answer}"),
            }
        }
        panic!("{} calls were allowed, and not enough denied", allowed.len());
    }

    async fn call(&self, client: &Egress, address: &str, scene: &Scene, id: &str) -> Option<Value> {
        let signed = self.rehearsal.sign(scene, id, SystemClock.now()).unwrap();
        let headers: Vec<_> = signed.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let url = format!("http://{address}{}", signed.target);
        let answer = client.call(reqwest::Method::POST, &url, &headers, signed.body).await.ok()?;
        assert_eq!(200, answer.status, "a verified call is answered in the success format");
        Some(serde_json::from_slice(&answer.body).unwrap())
    }

    fn open(&self) -> Arc<dyn Store> {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        countersign_service::open_store(&config, &|name| self.lookup(name)).unwrap()
    }

    /// Everything acknowledged is there, no request was decided twice, the chain verifies.
    async fn audit(&self, allowed: &[String]) {
        let store = self.open();
        for id in allowed {
            assert!(
                store.receipt(&id.parse().unwrap()).await.unwrap().is_some(),
                "acknowledged receipt {id} is lost"
            );
        }
        let size = store.health().size;
        let leaves = store.leaves(0, usize::try_from(size).unwrap()).await.unwrap();
        let mut actions: Vec<_> =
            leaves.iter().filter_map(|leaf| leaf.summary.action_id.as_deref()).collect();
        let before = actions.len();
        actions.sort_unstable();
        actions.dedup();
        assert_eq!(before, actions.len(), "a request was decided twice");
        let lines = export::stream(store.clone(), Filter::default()).await.unwrap();
        let bytes: Vec<bytes::Bytes> = lines.try_collect().await.unwrap();
        let options = VerifyOptions { kept_checkpoints: &[], threads: 2, progress: &|_| {} };
        let report = verify(bytes.concat().as_slice(), &self.trust, &options);
        assert_eq!(Outcome::Verified, report.verdict, "{:?}", report.findings);
        store.close().await.unwrap();
    }
}

async fn wait_for(answers: &AtomicUsize, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while answers.load(Ordering::Relaxed) < count && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn kill_in_a_loop(rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::set(dir.path(), &dir.path().join("data")));
    let mut allowed = Vec::new();
    for round in 0..rounds {
        let Running { address, mut child, log } = site.serve();
        let answers = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (site, address, answers) = (site.clone(), address.clone(), answers.clone());
                tokio::spawn(async move { site.call_until_gone(&address, round, worker, &answers).await })
            })
            .collect();
        // A different moment each time, so that the kill meets a write, a sync, an answer.
        wait_for(&answers, 20 + (round * 37) % 140).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for worker in workers {
            allowed.extend(worker.await.unwrap());
        }
        log.join().unwrap();
        site.audit(&allowed).await;
    }
    assert!(!allowed.is_empty());
    println!("{rounds} kills, {} receipts acknowledged, none lost", allowed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_has_every_receipt_that_was_acknowledged() {
    kill_in_a_loop(4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn killed_under_load_200_times_it_has_every_receipt_that_was_acknowledged() {
    kill_in_a_loop(200).await;
}

const QUESTIONS: usize = 1_000;
/// Half of the questions end by themselves, while the program is down or soon after.
const ASKING: &str = r#"
    @id("all") @reason("all") permit (principal, action, resource);
    @id("patient") @decision("step_up") @approvers("stage") @timeout("PT30M") @reason("somebody decides")
    forbid (principal, action == Action::"execute", resource);
    @id("brief") @decision("step_up") @approvers("stage") @timeout("PT20S") @reason("somebody decides soon")
    forbid (principal, action == Action::"deploy", resource);
"#;

fn question(at: usize, id: &str) -> Scene {
    let effect = if at.is_multiple_of(2) { "execute" } else { "deploy" };
    scene("generic", action(id, &format!("s-{at}"), effect, json!({"n": at})))
}

/// Approves until the program is gone; returns those approvals that were acknowledged, and the one that was not.
async fn approve_until_gone(
    address: &str,
    tickets: &[String],
    acknowledged: &AtomicUsize,
) -> (Vec<usize>, Option<usize>) {
    let client = Egress::new([address.to_owned()]).unwrap();
    let bearer = [("authorization", "Bearer crash-token-0123456789"), ("content-type", "application/json")];
    let mut done = Vec::new();
    for at in (0..QUESTIONS).step_by(2) {
        let url = format!("http://{address}/v1/approvals/{}/approve", tickets[at]);
        match client.call(reqwest::Method::POST, &url, &bearer, b"{}".to_vec()).await {
            Ok(answer) => assert_eq!(200, answer.status),
            Err(_) => return (done, Some(at)),
        }
        done.push(at);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    (done, None)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn killed_with_a_thousand_questions_open_it_loses_none_and_runs_nothing_without_its_approval() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::set(dir.path(), &dir.path().join("data"));
    let policies = dir.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("asking.cedar"), ASKING).unwrap();
    let mut config: toml::Table = std::fs::read_to_string(&site.config).unwrap().parse().unwrap();
    config["policies"]["dir"] = policies.to_str().unwrap().into();
    let api = "[callers.stage]\ntoken = { env = \"CRASH_TOKEN\" }\nroles = [\"viewer\", \"approver\"]\n";
    config.insert("api".into(), toml::Value::Table(api.parse().unwrap()));
    std::fs::write(&site.config, config.to_string()).unwrap();
    let mut keys = site.keys.to_vec();
    keys.push(("CRASH_TOKEN".to_owned(), "crash-token-0123456789".to_owned()));

    let Running { address, mut child, .. } = site.serve_with(&keys);
    let client = Egress::new([address.clone()]).unwrap();
    let mut tickets = Vec::new();
    for at in 0..QUESTIONS {
        let id = format!("ask-{at}");
        let answer = site.call(&client, &address, &question(at, &id), &id).await.unwrap();
        assert_eq!("STEP_UP", answer["decision"]);
        tickets.push(answer["ticket"].as_str().unwrap().to_owned());
    }
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let (to, names, count) = (address.clone(), tickets.clone(), acknowledged.clone());
    let approving = tokio::spawn(async move { approve_until_gone(&to, &names, &count).await });
    wait_for(&acknowledged, 100).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let (approved, unknown) = approving.await.unwrap();
    assert!(approved.len() >= 100);

    let Running { address, mut child, .. } = site.serve_with(&keys);
    let client = Egress::new([address.clone()]).unwrap();
    for at in (0..QUESTIONS).step_by(2).filter(|at| Some(*at) != unknown) {
        let want = if approved.contains(&at) { "ALLOW" } else { "STEP_UP" };
        for (run, want) in [("first", want), ("second", "STEP_UP")] {
            let id = format!("{run}-{at}");
            let answer = site.call(&client, &address, &question(at, &id), &id).await.unwrap();
            assert_eq!(want, answer["decision"], "question {at}, {run} run");
            if want == "STEP_UP" && run == "first" {
                assert_eq!(tickets[at], answer["ticket"], "the question that was open is still open");
            }
        }
    }
    // The brief ones end with DENY and a receipt, though the program was away for a part of their time.
    tokio::time::sleep(Duration::from_secs(21)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let store = site.open();
    let open = store.approvals().await.unwrap();
    let brief = open.iter().filter(|open| open.action.effect == countersign_schemas::Effect::Deploy).count();
    assert_eq!(0, brief);
    let query = countersign_store::Query {
        kind: Some(countersign_schemas::ReceiptKind::Resolution),
        verdict: Some(countersign_schemas::Verdict::Deny),
        limit: 2 * QUESTIONS,
        ..countersign_store::Query::default()
    };
    assert_eq!(
        QUESTIONS / 2,
        store.find(&query).await.unwrap().len(),
        "one receipt for each that nobody answered"
    );
    println!(
        "{QUESTIONS} questions, {} approvals acknowledged before the kill, each ran once",
        approved.len()
    );
}

/// A mount that goes away with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, what: &[&str]) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(what).arg(at).status().unwrap();
        assert!(mounted.success(), "this test mounts a file system, which takes root");
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A disk in a file. It becomes read-only at its first error, as the disks of most servers are mounted.
struct Disk {
    image: PathBuf,
    mount: Mount,
}

impl Disk {
    fn new(dir: &Path) -> Self {
        let image = dir.join("image");
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        assert!(Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap().success());
        Self { mount: Self::mount(&image, &dir.join("disk")), image }
    }

    fn mount(image: &Path, at: &Path) -> Mount {
        Mount::new(at, &["-t", "ext4", "-o", "loop,errors=remount-ro", image.to_str().unwrap()])
    }

    /// Reports an error of the disk to the kernel's ext4, which then does what it does of itself.
    fn fail(&self) {
        let source =
            Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.mount.0).output().unwrap();
        let device = String::from_utf8(source.stdout).unwrap();
        let device = device.trim().strip_prefix("/dev/").unwrap();
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
    }

    /// What an operator does then.
    fn repair(self) -> Self {
        let (image, at) = (self.image, self.mount.0.clone());
        drop(self.mount);
        let repaired = Command::new("e2fsck").args(["-f", "-y"]).arg(&image).output().unwrap();
        assert!(matches!(repaired.status.code(), Some(0 | 1)), "{repaired:?}");
        Self { mount: Self::mount(&image, &at), image }
    }
}

/// The one line that says why every call is denied.
fn why_stopped(log: &str) -> &str {
    let stopped = "the store has stopped, every call is denied until a restart";
    let lines: Vec<_> = log.lines().filter(|line| line.contains(stopped)).collect();
    let [why] = lines.as_slice() else { panic!("one line says why: {log}") };
    println!("{why}");
    why
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a tmpfs, which takes root"]
async fn on_a_full_disk_every_call_is_denied_in_time_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let _mount = Mount::new(&disk, &["-t", "tmpfs", "-o", "size=96m", "tmpfs"]);
    let site = Site::set(dir.path(), &disk.join("data"));
    let Running { address, mut child, log } = site.serve();
    let allowed = site.call_until_denied(&address, &"x".repeat(20_000), |_| {}).await;
    child.kill().unwrap();
    child.wait().unwrap();
    why_stopped(&log.join().unwrap());
    let grown = Command::new("mount").args(["-o", "remount,size=512m"]).arg(&disk).status().unwrap();
    assert!(grown.success());
    site.audit(&allowed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts an ext4, which takes root"]
async fn on_a_disk_that_becomes_read_only_every_call_is_denied_in_time_and_nothing_is_lost() {
    const CALLS_BEFORE: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path());
    let site = Site::set(dir.path(), &disk.mount.0.join("data"));
    let Running { address, mut child, log } = site.serve();
    let fail = |at| {
        if at == CALLS_BEFORE {
            disk.fail()
        }
    };
    let mut allowed = site.call_until_denied(&address, "", fail).await;
    assert_eq!(CALLS_BEFORE, allowed.len());
    child.kill().unwrap();
    child.wait().unwrap();
    let log = log.join().unwrap();
    let why = why_stopped(&log);
    // As the journal is told, or the index, whichever writes first.
    assert!(why.contains("Read-only file system") || why.contains("disk I/O error"), "{why}");
    let _disk = disk.repair();
    let Running { address, mut child, log } = site.serve();
    let client = Egress::new([address.clone()]).unwrap();
    let call = scene("generic", action("again", "s", "read", json!({})));
    let answer = site.call(&client, &address, &call, "again").await.expect("an answer");
    assert_eq!("ALLOW", answer["decision"]);
    allowed.push(answer["receipt_id"].as_str().unwrap().to_owned());
    child.kill().unwrap();
    child.wait().unwrap();
    log.join().unwrap();
    site.audit(&allowed).await;
}

#[test]
#[ignore = "mounts a tmpfs, which takes root"]
fn on_a_read_only_disk_it_does_not_start_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let _mount = Mount::new(&disk, &["-t", "tmpfs", "-o", "size=1m,ro", "tmpfs"]);
    let complaint = Site::set(dir.path(), &disk.join("data")).refuse();
    let told = ["the store cannot be opened", "Read-only"].iter().all(|part| complaint.contains(part));
    assert!(told, "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_data_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let site = Arc::new(Site::set(dir.path(), &dir.path().join("data")));
    let run = |round: usize| {
        let site = site.clone();
        async move {
            let Running { address, mut child, log } = site.serve();
            let (of, to) = (site.clone(), address.clone());
            let answers = Arc::new(AtomicUsize::new(0));
            let counted = answers.clone();
            let calls = tokio::spawn(async move { of.call_until_gone(&to, round, 0, &counted).await });
            wait_for(&answers, 20).await;
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            child.wait().unwrap();
            calls.await.unwrap();
            log.join().unwrap();
        }
    };
    run(0).await;
    let copy = dir.path().join("copy");
    assert!(Command::new("cp").arg("-a").args([&site.data, &copy]).status().unwrap().success());
    run(1).await;
    std::fs::remove_dir_all(&site.data).unwrap();
    std::fs::rename(&copy, &site.data).unwrap();
    let complaint = site.refuse();
    assert!(complaint.contains("older copy"), "{complaint}");
}
