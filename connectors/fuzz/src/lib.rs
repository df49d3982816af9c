//! What the targets share: every connector as its fixtures configure it, and requests as fixtures write them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use countersign_connectors::registry;
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::Timestamp;
use countersign_sdk::{ConnectorSpec, Env, Inbound, Parts};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// The time of every fixture that names no other: 2026-11-24T05:00:00Z.
pub const NOW: Timestamp = Timestamp(1_795_496_400_000);

/// Every connector, in the order of the registry.
pub static CONNECTORS: LazyLock<Vec<Configured>> =
    LazyLock::new(|| registry().iter().map(Configured::new).collect());

/// A connector as its fixtures configure it. Keys that others publish are preset, so that nothing is fetched.
pub struct Configured {
    /// Its name, which is also its instance.
    pub name: &'static str,
    /// What was built.
    pub parts: Parts,
    folder: PathBuf,
}

impl Configured {
    fn new(spec: &ConnectorSpec) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(spec.name);
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let settings: toml::Table = read("settings.toml").parse().unwrap();
        let settings = serde_json::to_value(settings).unwrap();
        let keys = KeySets::default();
        let sets: Value = serde_json::from_str(&read("jwks.json")).unwrap_or_default();
        for (url, set) in sets.as_object().into_iter().flatten() {
            keys.preset(url, serde_json::from_value(set.clone()).unwrap());
        }
        let env = Env {
            egress: &Egress::new(hosts(&settings)).unwrap(),
            instance: spec.name,
            keys: &keys,
            lookup: &|name| secret(&folder, name),
            public_url: "https://countersign.example.com",
        };
        let parts = (spec.connect)(settings, &env).unwrap();
        Self { name: spec.name, parts, folder }
    }

    /// What `{ env = "NAME" }` stands for in its fixtures.
    pub fn secret(&self, name: &str) -> Option<String> {
        secret(&self.folder, name)
    }

    /// Its recorded requests that were made at [`NOW`], genuine and forged.
    pub fn recorded(&self) -> Vec<Request> {
        let mut folders: Vec<_> =
            fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        let texts = folders.iter().filter_map(|folder| fs::read(folder.join("request.http")).ok());
        texts.filter_map(|text| Request::parse(&text)).collect()
    }
}

fn secret(folder: &Path, name: &str) -> Option<String> {
    let secrets = fs::read_to_string(folder.join("secrets.toml")).unwrap_or_default();
    let secrets: toml::Table = secrets.parse().unwrap();
    match secrets.get(name) {
        Some(secret) => secret.as_str().map(str::to_owned),
        None => fs::read_to_string(folder.join(name)).ok(),
    }
}

fn hosts(settings: &Value) -> Vec<String> {
    match settings {
        Value::String(text) => text.split('/').nth(2).map(str::to_owned).into_iter().collect(),
        Value::Array(list) => list.iter().flat_map(hosts).collect(),
        Value::Object(map) => map.values().flat_map(hosts).collect(),
        _ => Vec::new(),
    }
}

/// An HTTP request in parts that a target can change, as a `request.http` of the fixtures has it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The instance in its path.
    pub instance: String,
    /// What follows the instance in the path.
    pub path: String,
    /// The headers, in order. Values are bytes: what a server lets through is more than ASCII.
    pub headers: Vec<(HeaderName, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads `POST /hooks/<instance>/<path>?<query> …`, headers, an empty line, the body. A header that HTTP does not
    /// have is left out.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let end = |mark: &[u8]| {
            text.windows(mark.len()).position(|found| found == mark).map(|at| (at, at + mark.len()))
        };
        let (head, body) = end(b"\r\n\r\n").into_iter().chain(end(b"\n\n")).min()?;
        let mut lines = text[..head].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let target = std::str::from_utf8(lines.next()?).ok()?.strip_prefix("POST /hooks/")?;
        let target = target.split(' ').next()?.split('?').next()?;
        let (instance, path) = target.split_once('/').unwrap_or((target, ""));
        let header = |line: &[u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii().to_vec()))
        };
        Some(Self {
            instance: instance.to_owned(),
            path: path.to_owned(),
            headers: lines.filter_map(header).collect(),
            body: text[body..].to_vec(),
        })
    }

    /// The connector that it is for.
    pub fn connector(&self) -> Option<&'static Configured> {
        CONNECTORS.iter().find(|connector| connector.name == self.instance)
    }

    /// As the service gets it from HTTP: without the headers whose values HTTP refuses.
    pub fn inbound(&self) -> Inbound {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(name.clone(), value);
            }
        }
        Inbound::new(self.path.clone(), String::new(), headers, Bytes::from(self.body.clone()), NOW)
    }
}
