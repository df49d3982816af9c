//! The policy packs: each decides what its cases say, stops the attack it is named after in a whole service, lets the
//! same work without the attack pass, and costs what its README says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign_connectors::rehearsal::{Rehearsal, Scene};
use countersign_engine::cases::{Cases, run};
use countersign_engine::{Options, Policies, PolicySource};
use countersign_schemas::{ReceiptKind, Verdict};
use countersign_sdk::http::Egress;
use countersign_service::clock::{Clock as _, FixedClock};
use countersign_service::export::statement_of;
use countersign_service::pipeline::Pipeline;
use countersign_store::Query;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Plan, Site, scene};

/// AARM's threats; each has a pack, an attack and a benign twin of it.
const THREATS: [&str; 11] = [
    "confused-deputy",
    "cross-agent-propagation",
    "data-exfiltration-by-composition",
    "environmental-manipulation",
    "goal-hijacking",
    "intent-drift",
    "malicious-tool-output",
    "memory-poisoning",
    "over-privileged-credentials",
    "prompt-injection",
    "side-channel-leakage",
];

/// The starter set and every pack, as one text.
static ALL: LazyLock<String> =
    LazyLock::new(|| text_of(packs().into_iter().map(|pack| pack.folder).collect()));

/// The starter set and what permits sending outside, so that nothing is stopped only because nobody permits it.
static BARE: LazyLock<String> = LazyLock::new(|| text_of(vec![root("policies/packs/data-egress")]));

/// A folder of `policies/packs`.
struct Pack {
    folder: PathBuf,
    name: String,
}

impl Pack {
    /// Ids of its policies.
    fn ids(&self) -> BTreeSet<String> {
        let texts = sources(&self.folder);
        let ids = texts.iter().flat_map(|source| source.text.split("@id(\"").skip(1));
        ids.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }
}

/// A session over several connectors, step by step.
#[derive(Deserialize)]
struct Story {
    steps: Vec<Step>,
    title: String,
}

/// A request, and what is decided about the action in it: ALLOW, unless it says otherwise.
#[derive(Deserialize)]
struct Step {
    #[serde(flatten)]
    scene: Scene,
    expect: Option<Decided>,
}

/// A verdict, and the ids of the policies in its receipt.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Decided {
    verdict: Verdict,
    policies: BTreeSet<String>,
}

#[test]
fn every_pack_decides_what_its_cases_say_beside_the_starter_set() {
    for pack in packs() {
        let sources = [sources(&root("policies/base")), sources(&pack.folder)].concat();
        let policies = load(&sources);
        assert!(policies.warnings().is_empty(), "{}: {:?}", pack.name, policies.warnings());
        let cases: Cases = read(&pack.folder.join("cases.json"));
        let report = run(&policies, &cases);
        assert!(report.failures.is_empty(), "{}: {:#?}", pack.name, report.failures);
        let own = pack.ids();
        let of_pack = |ids: &[String]| ids.iter().filter(|id| own.contains(*id)).cloned().collect::<Vec<_>>();
        let bare = (of_pack(&report.never_hit), of_pack(&report.never_passed));
        assert_eq!((vec![], vec![]), bare, "{}: no case reaches these, or none passes them by", pack.name);
    }
}

/// Loading refuses an id that is there twice.
#[test]
fn all_packs_load_beside_one_another_and_every_threat_has_one() {
    let policies = load(&[PolicySource { name: "all.cedar".to_owned(), text: ALL.clone() }]);
    assert!(policies.warnings().is_empty(), "{:?}", policies.warnings());
    let names: BTreeSet<_> = packs().into_iter().map(|pack| pack.name).collect();
    let missing: Vec<_> = THREATS.iter().filter(|threat| !names.contains(**threat)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn every_attack_is_stopped_at_its_step_by_its_policies() {
    let mut wrong = Vec::new();
    for threat in THREATS {
        let story = Story::of(&format!("{threat}.json"));
        let (stop, before) = story.steps.split_last().unwrap();
        let own = Pack { folder: root("policies/packs").join(threat), name: threat.to_owned() }.ids();
        let expected = stop.expect.as_ref().unwrap();
        assert!(before.iter().all(|step| step.expect.is_none()), "{threat}: stopped before its end");
        assert!(
            !passes(expected.verdict) && !expected.policies.is_disjoint(&own),
            "{threat}: not by its pack"
        );
        let told = story.play(&ALL).await;
        wrong.extend(report(threat, told.iter().filter(|told| !told.is_expected())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Else the test above would show nothing.
#[tokio::test]
async fn without_the_packs_every_attack_succeeds() {
    let mut wrong = Vec::new();
    for threat in THREATS {
        let story = Story::of(&format!("{threat}.json"));
        let told = story.play(&BARE).await;
        wrong.extend(report(threat, told.iter().filter(|told| !told.passes())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_same_work_without_the_attack_passes() {
    let mut wrong = Vec::new();
    for threat in THREATS {
        let story = Story::of(&format!("{threat}.benign.json"));
        let told = story.play(&ALL).await;
        assert!(story.steps.iter().all(|step| step.expect.is_none()), "{threat}: the twin is stopped");
        wrong.extend(report(threat, told.iter().filter(|told| !told.passes())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_attack_and_its_twin_reach_over_two_connectors() {
    for name in THREATS.iter().flat_map(|threat| [format!("{threat}.json"), format!("{threat}.benign.json")])
    {
        let story = Story::of(&name);
        let connectors: BTreeSet<_> = story.steps.iter().map(|step| &step.scene.connector).collect();
        assert!(connectors.len() >= 2, "{name}: {connectors:?}");
    }
}

/// What is counted: calls that a policy of the pack was among those to stop, with all packs in force.
#[tokio::test]
async fn a_pack_costs_the_false_alarms_that_its_readme_tells_of() {
    let corpora = [
        ("calls recorded from a real client", alarms(recorded_calls()).await),
        ("actions of long benign sessions", alarms(long_sessions()).await),
        ("single actions that were asked for", alarms(short_sessions()).await),
    ];
    let mut wrong = Vec::new();
    for pack in packs() {
        let told = std::fs::read_to_string(pack.folder.join("README.md")).unwrap_or_default();
        for (what, alarms) in &corpora {
            let line = format!("| {what} | {} | {} |", alarms.calls, alarms.of(&pack));
            if !told.contains(&line) {
                wrong.push(format!("{}: {line}", pack.name));
            }
        }
    }
    assert!(wrong.is_empty(), "the READMEs should say\n{}\n{corpora:#?}", wrong.join("\n"));
}

/// Calls, and of those that were stopped the policies that did it.
#[derive(Debug)]
struct Alarms {
    calls: usize,
    stopped: Vec<BTreeSet<String>>,
}

impl Alarms {
    fn of(&self, pack: &Pack) -> usize {
        let own = pack.ids();
        self.stopped.iter().filter(|policies| !policies.is_disjoint(&own)).count()
    }
}

async fn alarms(scenes: Vec<Scene>) -> Alarms {
    let stage = Stage::open(&ALL).await;
    for (at, scene) in scenes.iter().enumerate() {
        stage.send(scene, &format!("call-{at}")).await;
    }
    let decided = stage.decided().await;
    let asked = scenes.iter().filter(|scene| scene.connector == "generic" && scene.body["type"] == "action");
    let asked = asked.count();
    assert!(decided.len() >= asked, "{} of {asked} were read", decided.len());
    let stopped = decided.iter().filter(|decided| !passes(decided.verdict));
    Alarms { calls: decided.len(), stopped: stopped.map(|decided| decided.policies.clone()).collect() }
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allow | Verdict::Modify)
}

/// The requests that were recorded from Claude Code, each call followed by its outcome.
fn recorded_calls() -> Vec<Scene> {
    #[derive(Deserialize)]
    struct Recorded {
        body_raw: Option<String>,
    }
    let folder = root("fixtures/claude-code/captures");
    let bodies = names(&folder).into_iter().filter_map(|name| {
        let recorded: Recorded = read(&folder.join(name));
        serde_json::from_str::<Value>(&recorded.body_raw?).ok()
    });
    let order = |body: &Value| match body["hook_event_name"].as_str() {
        Some("UserPromptSubmit") => 0,
        Some("PreToolUse" | "PermissionRequest") => 1,
        Some("PostToolUse" | "PostToolUseFailure") => 2,
        _ => 3,
    };
    let mut bodies: Vec<Value> = bodies.collect();
    bodies.sort_by_key(|body| match order(body) {
        0 => (0, String::new(), 0),
        place => (1, body["tool_use_id"].as_str().unwrap_or("~").to_owned(), place),
    });
    bodies.into_iter().map(|body| scene("claude-code", body)).collect()
}

/// Sessions of twenty actions that do nothing but what was asked for.
fn long_sessions() -> Vec<Scene> {
    #[derive(Deserialize)]
    struct Session {
        actions: Vec<Map<String, Value>>,
        kind: String,
        request: String,
    }
    let sessions: Vec<Session> = read(&root("fixtures/drift/sessions.json"));
    let benign = sessions.into_iter().filter(|session| session.kind == "benign").enumerate();
    benign
        .flat_map(|(at, session)| asked_for(&format!("long-{at}"), &session.request, session.actions))
        .collect()
}

/// Sessions of one action that does what was asked for, often in other words.
fn short_sessions() -> Vec<Scene> {
    #[derive(Deserialize)]
    struct Pair {
        action: Map<String, Value>,
        kind: String,
        request: String,
    }
    let text = std::fs::read_to_string(root("fixtures/drift/pairs.jsonl")).unwrap();
    let pairs = text.lines().map(|line| serde_json::from_str::<Pair>(line).unwrap());
    let aligned = pairs.filter(|pair| pair.kind == "aligned").enumerate();
    aligned
        .flat_map(|(at, pair)| asked_for(&format!("short-{at}"), &pair.request, vec![pair.action]))
        .collect()
}

/// A person's request and what an agent does about it, by the generic contract.
fn asked_for(session: &str, request: &str, actions: Vec<Map<String, Value>>) -> Vec<Scene> {
    let intent = json!({"type": "intent", "text": request}).as_object().unwrap().clone();
    let events = [intent].into_iter().chain(actions).enumerate();
    let scene = |(at, mut event): (usize, Map<String, Value>)| {
        let kind = event.remove("type").unwrap_or_else(|| json!("action"));
        if let Some(Value::Object(facets)) = event.get_mut("facets") {
            // The fixtures are written as actions are, which the contract spells otherwise.
            if let Some(amount) = facets.remove("amountMinor") {
                facets.insert("amount_minor".to_owned(), amount);
            }
            let labels = facets.remove("labels").unwrap_or_else(|| json!([]));
            event.insert("labels".to_owned(), labels);
        }
        let envelope = json!({
            "version": 1, "id": format!("{session}-{at}"), "type": kind, "session": {"id": session},
            "agent": {"id": "worker"}, "human": {"id": session, "email": format!("{session}@acme.example")},
        });
        event.extend(envelope.as_object().unwrap().clone());
        scene("generic", Value::Object(event))
    };
    events.map(scene).collect()
}

impl Story {
    fn of(name: &str) -> Self {
        read(&root("fixtures/threats").join(name))
    }

    /// Sends every step to a service of its own.
    async fn play(&self, policies: &'static str) -> Vec<Told<'_>> {
        let stage = Stage::open(policies).await;
        let (mut known, mut all) = (0, Vec::new());
        for (at, step) in self.steps.iter().enumerate() {
            stage.send(&step.scene, &format!("step-{at}")).await;
            let decided = stage.decided().await;
            all.push(Told {
                decided: decided[known..].to_vec(),
                expect: step.expect.as_ref(),
                title: &step.scene.title,
            });
            known = decided.len();
        }
        assert!(known > 1, "{}: decides nothing", self.title);
        all
    }
}

/// What became of a step.
struct Told<'a> {
    decided: Vec<Decided>,
    expect: Option<&'a Decided>,
    title: &'a str,
}

impl Told<'_> {
    fn passes(&self) -> bool {
        self.decided.iter().all(|decided| passes(decided.verdict))
    }

    fn is_expected(&self) -> bool {
        self.expect.map_or_else(|| self.passes(), |expected| self.decided == [expected.clone()])
    }
}

fn report<'a>(threat: &str, told: impl Iterator<Item = &'a Told<'a>>) -> Vec<String> {
    told.map(|told| format!("{threat}, {}: {:?}", told.title, told.decided)).collect()
}

/// A service over HTTP, and the far side that its vendors need.
struct Stage {
    clock: Arc<FixedClock>,
    client: Egress,
    far_side: String,
    pipeline: Arc<Pipeline>,
    rehearsal: Arc<Rehearsal>,
    tasks: [JoinHandle<()>; 2],
    url: String,
    _dir: TempDir,
}

impl Stage {
    async fn open(policies: &'static str) -> Self {
        let far_side = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = [("context", json!({"catalogue": [root("fixtures/threats/catalogue.toml")]}))].into();
        let plan = Plan { config, far_side: Some(far_side), policies: Some(policies), ..Plan::default() };
        let site = Site::with(plan).await;
        let vendors = site.serve_far_side(far_side).await;
        let Site { clock, dir, rehearsal, service, .. } = site;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pipeline = service.pipeline().clone();
        let serving =
            tokio::spawn(async move { service.run(listener, std::future::pending()).await.unwrap() });
        let client = Egress::new(["127.0.0.1".to_owned()]).unwrap();
        let (get, ready) = (reqwest::Method::GET, format!("{url}/readyz"));
        while !client.call(get.clone(), &ready, &[], vec![]).await.is_ok_and(|answer| answer.is_success()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let far_side = far_side.to_string();
        Self { clock, client, far_side, pipeline, rehearsal, tasks: [vendors, serving], url, _dir: dir }
    }

    /// Signs as the vendor does and sends; every verified request is answered in the success format.
    async fn send(&self, scene: &Scene, id: &str) {
        let body = scene.body.to_string().replace("{far_side}", &format!("http://{}", self.far_side));
        let scene = Scene { body: serde_json::from_str(&body).unwrap(), ..scene.clone() };
        let signed = self.rehearsal.sign(&scene, id, self.clock.now()).unwrap();
        let headers: Vec<_> = signed.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let url = format!("{}{}", self.url, signed.target);
        let answer = self.client.call(reqwest::Method::POST, &url, &headers, signed.body).await.unwrap();
        assert!(answer.is_success(), "{id} of {}: {}", scene.connector, answer.status);
    }

    /// What was decided about actions so far, oldest first, by the receipts.
    async fn decided(&self) -> Vec<Decided> {
        let query = Query { kind: Some(ReceiptKind::Decision), limit: 1_000, ..Query::default() };
        let mut leaves = self.pipeline.store.find(&query).await.unwrap();
        leaves.reverse();
        let actions = leaves.iter().filter(|leaf| leaf.summary.tool.is_some());
        let decided = actions.map(|leaf| {
            let matched = &statement_of(&leaf.bytes)["predicate"]["policy"]["matched"];
            let ids = matched.as_array().into_iter().flatten().filter_map(|policy| policy["id"].as_str());
            Decided { verdict: leaf.summary.verdict.unwrap(), policies: ids.map(str::to_owned).collect() }
        });
        decided.collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn root(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(below)
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn packs() -> Vec<Pack> {
    let packs = root("policies/packs");
    let pack = |name: String| Pack { folder: packs.join(&name), name };
    names(&packs).into_iter().map(pack).filter(|pack| pack.folder.is_dir()).collect()
}

fn sources(folder: &Path) -> Vec<PolicySource> {
    let files = names(folder).into_iter().filter(|name| name.ends_with(".cedar"));
    let read = |name: String| {
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        PolicySource { name, text }
    };
    files.map(read).collect()
}

/// The policies of the starter set and of `folders`, as one text.
fn text_of(folders: Vec<PathBuf>) -> String {
    let folders = [root("policies/base")].into_iter().chain(folders);
    let texts = folders.flat_map(|folder| sources(&folder)).map(|source| source.text);
    texts.collect::<Vec<_>>().join("\n")
}

fn load(sources: &[PolicySource]) -> Policies {
    let options = Options { refacet: Some(|action| action.facets.clone()), ..Options::default() };
    Policies::load(sources, options).unwrap_or_else(|errors| panic!("{errors}"))
}
