//! Walks the registry and `fixtures/`. Knows no vendor: a new connector is tested by its fixtures alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use countersign_connectors::registry;
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::{
    Action, ApprovalId, Event, Expressed, Expression, ReceiptId, Timestamp, Verdict,
};
use countersign_sdk::{
    Caller, ConnectError, ConnectorSpec, Env, Frame, FrameSpec, Inbound, NormalizeError, Normalized, Parts,
    Reply, Said, Site, Verified, VerifyError, parse,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) const NOW: &str = "2026-11-24T05:00:00Z";
const REASON: &str = "the policy says so";
/// A longer answer is recorded by its digest.
const BODY_BYTES_MAX: usize = 4_096;
const VERDICTS: [Verdict; 5] =
    [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer];

#[test]
fn every_fixture_gives_what_is_expected() {
    let mut wrong = Vec::new();
    for spec in registry().iter() {
        for case in cases(spec) {
            let path = case.folder.join("expected.json");
            let made = format!("{:#}\n", outcome(&case));
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&path, &made).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if expected != made {
                wrong.push(format!("{}: expected\n{expected}made\n{made}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE=1 rewrites them", wrong.join("\n"));
}

#[test]
fn every_connector_has_an_accepted_and_a_forged_case() {
    for spec in registry().iter() {
        let (mut accepted, mut forged) = (0, 0);
        for case in cases(spec) {
            let verified = case.verify();
            if case.name.contains("forged") {
                assert!(verified.is_err(), "{}/{} is not refused", spec.name, case.name);
                forged += 1;
            } else if verified.is_ok_and(|request| case.parts.gate.normalize(&request).is_ok()) {
                accepted += 1;
            }
        }
        assert!(accepted > 0, "{}: no accepted case under {}", spec.name, fixtures(spec).display());
        assert!(forged > 0, "{}: no forged case under {}", spec.name, fixtures(spec).display());
    }
}

#[test]
fn a_repetition_and_only_a_repetition_has_the_same_idempotency_key() {
    for spec in registry().iter() {
        let mut keys: BTreeMap<String, String> = BTreeMap::new();
        let mut repetitions = Vec::new();
        for case in cases(spec) {
            let Ok(request) = case.verify() else { continue };
            let Ok(normalized) = case.parts.gate.normalize(&request) else { continue };
            assert!(!normalized.idempotency.is_empty(), "{}/{}", spec.name, case.name);
            match case.name.strip_suffix("_again") {
                Some(first) => repetitions.push((first.to_owned(), normalized.idempotency)),
                None => {
                    let before = keys.insert(normalized.idempotency, case.name.clone());
                    assert_eq!(None, before, "{}/{} repeats another case", spec.name, case.name);
                }
            }
        }
        assert!(!repetitions.is_empty(), "{}: no case ends in `_again`", spec.name);
        for (first, key) in repetitions {
            assert_eq!(Some(&first), keys.get(&key), "{}/{first}_again", spec.name);
        }
    }
}

#[test]
fn every_frame_can_be_told_anything() {
    for spec in registry().iter() {
        let parts = connect(spec, Map::new());
        let actions = accepted_actions(spec);
        let unreadable = FrameSpec::gate("unreadable", &[]);
        for frame in parts.frames.iter().chain([&unreadable]) {
            for reason in ["", REASON, &"é\u{1F512}".repeat(20_000)] {
                for action in [None].into_iter().chain(actions.iter().map(Some)) {
                    let tell = |expressed| {
                        reply(&parts, spec, frame.name, &[said(action, Verdict::Deny, expressed, reason)])
                    };
                    let [allow, deny] = [Expressed::Allow, Expressed::Deny].map(&tell);
                    for expressed in [Expressed::Modify, Expressed::StepUp, Expressed::Defer, Expressed::Held]
                    {
                        tell(expressed);
                    }
                    if frame.gates && !frame.held && frame.name != "unreadable" {
                        assert_ne!(allow, deny, "{} {} says the same to both", spec.name, frame.name);
                    }
                }
            }
            let silence = reply(&parts, spec, frame.name, &[]);
            let allow = said(None, Verdict::Allow, Expressed::Allow, REASON);
            if frame.gates && !frame.held && frame.name != "unreadable" {
                assert_ne!(
                    reply(&parts, spec, frame.name, &[allow]),
                    silence,
                    "{} {}",
                    spec.name,
                    frame.name
                );
            }
        }
    }
}

#[test]
fn configured_frames_are_among_those_of_the_manifest() {
    for spec in registry().iter() {
        let manifest = (spec.manifest)();
        assert_eq!(spec.name, manifest.name);
        assert!(manifest.margin_ms < manifest.vendor_window_ms, "{}", spec.name);
        for frame in connect(spec, Map::new()).frames {
            let known = manifest.frame(frame.name).unwrap_or_else(|| panic!("{}: {}", spec.name, frame.name));
            assert!(frame.native.iter().all(|verdict| known.native.contains(verdict)), "{}", frame.name);
        }
    }
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    for spec in registry().iter() {
        let unknown = Map::from_iter([("no_such_setting".to_owned(), json!(1))]);
        let error = try_connect(spec, unknown).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("no_such_setting")), "{}", spec.name);
    }
}

#[test]
fn setup_texts_name_the_url_and_every_setting_is_documented() {
    for spec in registry().iter() {
        let site = Site {
            instance: "an-instance".to_owned(),
            public_url: "https://countersign.example.com".to_owned(),
            settings: Value::Null,
        };
        let text = (spec.setup)(&site);
        assert!(text.starts_with("1. ") && text.contains(&site.hook_url()), "{}: {text}", spec.name);
        let schema = (spec.schema)().to_value();
        for (key, property) in schema["properties"].as_object().unwrap() {
            assert!(property.get("description").is_some(), "{}: `{key}` has no description", spec.name);
        }
        assert_eq!(Some(&json!(false)), schema.get("additionalProperties"), "{}", spec.name);
    }
}

#[test]
fn captured_requests_lose_nothing_but_what_is_listed() {
    for spec in registry().iter() {
        let folder = fixtures(spec).join("captures");
        if !folder.exists() {
            continue;
        }
        let parts = connect(spec, Map::new());
        let listed: BTreeMap<String, BTreeMap<String, String>> = read_json(&folder.join("loss.json"));
        let mut lost_somewhere: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in entries(&folder).filter(|path| !path.ends_with("loss.json")) {
            let capture: Capture = read_json(&path);
            let event = path.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
            let request = capture.request().assume_verified(Caller::default());
            let normalized = parts.gate.normalize(&request);
            let normalized = normalized.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut kept = Vec::new();
            leaves("", &json!(normalized.events), &mut kept);
            let mut sent = Vec::new();
            leaves("", &serde_json::from_str(&capture.body_raw).unwrap(), &mut sent);
            for (field, leaf) in sent {
                if kept.iter().any(|(place, kept)| keeps(place, kept, &field, &leaf)) {
                    continue;
                }
                let mut list = listed.get(&event).into_iter().flat_map(BTreeMap::keys);
                let name = list.find(|name| format!("{field}.").starts_with(&format!("{name}.")));
                let name = name.unwrap_or_else(|| panic!("{}: `{field}` is lost", path.display()));
                lost_somewhere.entry(event.clone()).or_default().push(name.clone());
            }
        }
        for (event, fields) in &listed {
            for field in fields.keys() {
                let lost = lost_somewhere.get(event).is_some_and(|lost| lost.contains(field));
                assert!(lost, "{}: {event} `{field}` is listed as lost and is not", spec.name);
            }
        }
    }
}

/// A text or number may be kept under any name; a truth value only under its own.
fn keeps(place: &str, kept: &Value, field: &str, leaf: &Value) -> bool {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    kept == leaf && (leaf.is_string() || leaf.is_number() || last(place) == last(field))
}

/// Dotted paths of all leaves; `*` for a place in a list.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| leaves(&below(key), value, found));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter().for_each(|value| leaves(&below("*"), value, found));
        }
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

#[derive(Deserialize)]
struct Capture {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body_raw: String,
    #[serde(default)]
    path: String,
}

impl Capture {
    fn request(&self) -> Inbound {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let body = self.body_raw.clone().into_bytes().into();
        Inbound::new(self.path.clone(), String::new(), headers, body, NOW.parse().unwrap())
    }
}

struct Case {
    folder: PathBuf,
    name: String,
    now: Timestamp,
    parts: Parts,
    reason: String,
    request: Inbound,
}

impl Case {
    fn verify(&self) -> Result<Inbound<Verified>, VerifyError> {
        self.request.clone().verified_by(|request| self.parts.gate.verify(request, self.now))
    }
}

/// `case.json`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaseSettings {
    now: Option<Timestamp>,
    /// For people.
    #[serde(rename = "note")]
    _note: Option<String>,
    /// What is said to the vendor, when that is what the case is about.
    reason: Option<String>,
    /// How often `reason` is repeated.
    times: Option<usize>,
    /// Put over those of `settings.toml`.
    settings: Map<String, Value>,
}

fn fixtures(spec: &ConnectorSpec) -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join("fixtures").exists());
    root.unwrap().join("fixtures").join(spec.name)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let list = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = list.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_toml(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cases(spec: &ConnectorSpec) -> Vec<Case> {
    entries(&fixtures(spec))
        .filter(|path| path.join("request.http").exists())
        .map(|path| case(spec, path))
        .collect()
}

fn case(spec: &ConnectorSpec, folder: PathBuf) -> Case {
    let settings = folder.join("case.json");
    let settings: CaseSettings =
        if settings.exists() { read_json(&settings) } else { CaseSettings::default() };
    let now = settings.now.unwrap_or_else(|| NOW.parse().unwrap());
    let request = request(spec, &fs::read(folder.join("request.http")).unwrap(), now);
    let reason = settings.reason.unwrap_or_else(|| REASON.to_owned()).repeat(settings.times.unwrap_or(1));
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    Case { parts: connect(spec, settings.settings), folder, name, now, reason, request }
}

pub(crate) fn request(spec: &ConnectorSpec, raw: &[u8], now: Timestamp) -> Inbound {
    let end =
        |mark: &[u8]| raw.windows(mark.len()).position(|found| found == mark).map(|at| (at, at + mark.len()));
    let (head, body) = end(b"\r\n\r\n").into_iter().chain(end(b"\n\n")).min().expect("no empty line");
    let mut lines = std::str::from_utf8(&raw[..head]).unwrap().lines();
    let target = lines.next().unwrap().split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix(&format!("/hooks/{}", spec.name)).expect("path of another instance");
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let value = HeaderValue::from_str(value.trim()).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    let body = raw[body..].to_vec().into();
    Inbound::new(path.trim_start_matches('/').to_owned(), query.to_owned(), headers, body, now)
}

/// Builds the connector as its fixtures configure it, with some settings changed.
pub(crate) fn connect(spec: &ConnectorSpec, changed: Map<String, Value>) -> Parts {
    try_connect(spec, changed).unwrap_or_else(|error| panic!("{}: {error}", spec.name))
}

fn try_connect(spec: &ConnectorSpec, changed: Map<String, Value>) -> Result<Parts, ConnectError> {
    let folder = fixtures(spec);
    let mut settings = serde_json::to_value(read_toml(&folder.join("settings.toml"))).unwrap();
    settings.as_object_mut().unwrap().extend(changed);
    let secrets = folder.join("secrets.toml");
    let secrets = if secrets.exists() { read_toml(&secrets) } else { toml::Table::new() };
    let lookup = |name: &str| match secrets.get(name) {
        Some(secret) => secret.as_str().map(str::to_owned),
        None => fs::read_to_string(folder.join(name)).ok(),
    };
    let keys = KeySets::default();
    let jwks = folder.join("jwks.json");
    let sets: Map<String, Value> = if jwks.exists() { read_json(&jwks) } else { Map::new() };
    for (url, set) in sets {
        keys.preset(&url, serde_json::from_value(set).unwrap());
    }
    let env = Env {
        egress: &Egress::new(allowed_hosts(&settings)).unwrap(),
        instance: spec.name,
        keys: &keys,
        lookup: &lookup,
        public_url: "https://countersign.example.com",
    };
    (spec.connect)(settings, &env)
}

/// Every host that the settings name.
fn allowed_hosts(settings: &Value) -> Vec<String> {
    let mut found = Vec::new();
    leaves("", settings, &mut found);
    let urls = found.iter().filter_map(|(_, leaf)| url::Url::parse(leaf.as_str()?).ok());
    urls.filter_map(|url| url.host_str().map(str::to_owned)).collect()
}

/// All that the connector makes of a case.
fn outcome(case: &Case) -> Value {
    let request = match case.verify() {
        Ok(request) => request,
        Err(refusal) => return json!({"refused": refusal.to_string(), "code": refusal.code()}),
    };
    let caller = request.caller();
    let caller = json!({
        "assurance": caller.assurance,
        "claims": caller.claims,
        "name": caller.name,
        "verifiedBy": caller.verified_by,
    });
    match case.parts.gate.normalize(&request) {
        Ok(normalized) => json!({
            "caller": caller,
            "frame": normalized.frame,
            "idempotency": normalized.idempotency,
            "events": normalized.events,
            "answers": answers(case, &normalized.frame, &actions(&normalized)),
        }),
        Err(NormalizeError { frame, reason }) => {
            let frame = frame.unwrap_or_else(Frame::unreadable);
            json!({
                "caller": caller,
                "unreadable": reason,
                "frame": frame,
                "answer": answer(case, &frame, &[], Verdict::Deny, Expressed::Deny),
            })
        }
    }
}

fn actions(normalized: &Normalized) -> Vec<Action> {
    let action = |event: &Event| match event {
        Event::Action(action) => Some(action.as_ref().clone()),
        _ => None,
    };
    normalized.events.iter().filter_map(action).collect()
}

fn accepted_actions(spec: &ConnectorSpec) -> Vec<Action> {
    let normalized =
        cases(spec).into_iter().filter_map(|case| case.parts.gate.normalize(&case.verify().ok()?).ok());
    normalized.flat_map(|normalized| actions(&normalized)).take(3).collect()
}

/// One answer for each decision: natively where the frame can, else as a denial, or held where it is held.
fn answers(case: &Case, frame: &Frame, actions: &[Action]) -> Value {
    let spec = case.parts.frames.iter().find(|spec| spec.name == frame.name);
    let answer = |verdict| answer(case, frame, actions, verdict, expressed(spec, verdict));
    VERDICTS.into_iter().map(|verdict| (verdict.to_string(), answer(verdict))).collect()
}

fn answer(case: &Case, frame: &Frame, actions: &[Action], verdict: Verdict, expressed: Expressed) -> Value {
    let about: Vec<Option<&Action>> =
        if actions.is_empty() { vec![None] } else { actions.iter().map(Some).collect() };
    let said: Vec<Said> =
        about.into_iter().map(|action| said(action, verdict, expressed, &case.reason)).collect();
    let Reply { body, content_type, status } = case.parts.gate.answer(frame, &said);
    let body = String::from_utf8(body).unwrap();
    let body = if body.len() > BODY_BYTES_MAX {
        json!({"bytes": body.len(), "sha256": parse::sha256_hex(body.as_bytes())})
    } else {
        json!(body)
    };
    json!({"expressed": expressed, "status": status, "contentType": content_type, "body": body})
}

fn expressed(spec: Option<&FrameSpec>, verdict: Verdict) -> Expressed {
    let native = spec.is_some_and(|spec| spec.native.contains(&verdict));
    match verdict {
        _ if spec.is_some_and(|spec| spec.held) => Expressed::Held,
        Verdict::Allow if native => Expressed::Allow,
        Verdict::Modify if native => Expressed::Modify,
        Verdict::StepUp if native => Expressed::StepUp,
        Verdict::Defer if native => Expressed::Defer,
        _ => Expressed::Deny,
    }
}

fn said<'a>(action: Option<&'a Action>, verdict: Verdict, expressed: Expressed, reason: &str) -> Said<'a> {
    let modified = || Map::from_iter([("changed".to_owned(), json!(true))]);
    Said {
        action,
        expression: Expression { degraded: None, expressed, reason: reason.to_owned() },
        modified: (expressed == Expressed::Modify).then(modified),
        receipt_id: Some(ReceiptId::derived(&["fixture"])),
        ticket: matches!(verdict, Verdict::StepUp | Verdict::Defer)
            .then(|| ApprovalId::derived(&["fixture"])),
        verdict,
    }
}

/// The answer's body; it is always a success and JSON.
fn reply(parts: &Parts, spec: &ConnectorSpec, frame: &str, said: &[Said<'_>]) -> Value {
    let reply = parts.gate.answer(&Frame::named(frame), said);
    assert!((200..300).contains(&reply.status), "{} {frame}: {}", spec.name, reply.status);
    serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{} {frame}: {error}", spec.name))
}
