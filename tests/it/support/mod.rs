//! A whole service in this process: real connectors, real policies, real store, a clock that the test moves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use countersign_connectors::rehearsal::{Rehearsal, Scene};
use countersign_receipt::generate_key_pem;
use countersign_schemas::{Timestamp, Verdict};
use countersign_sdk::{ConnectorSpec, Inbound, Registry, Reply, VerifyError};
use countersign_service::Service;
use countersign_service::approval::Approver;
use countersign_service::clock::{Clock, FixedClock};
use countersign_service::config::Config;
use countersign_store::{Query, StoredLeaf};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The moment at which tests begin.
pub(crate) const NOON: Timestamp = Timestamp(1_795_521_600_000);

/// A service and the means to call it as its vendors would.
pub(crate) struct Site {
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) dir: TempDir,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) service: Service,
}

/// How a site differs from the ordinary.
#[derive(Default)]
pub(crate) struct Plan {
    /// Merged over the configuration's top-level tables.
    pub(crate) config: BTreeMap<&'static str, Value>,
    /// Added to the registry and the configuration, without settings.
    pub(crate) extra: Option<ConnectorSpec>,
    /// Instead of the base set.
    pub(crate) policies: Option<&'static str>,
}

impl Site {
    pub(crate) async fn ordinary() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rehearsal = Rehearsal::new("http://127.0.0.1:9").unwrap();
        let policies = dir.path().join("policies");
        match plan.policies {
            Some(text) => {
                std::fs::create_dir(&policies).unwrap();
                std::fs::write(policies.join("all.cedar"), text).unwrap();
            }
            None => copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/base")), &policies),
        }
        let mut connectors = rehearsal.connectors();
        let mut specs: Vec<_> = countersign_connectors::registry().iter().copied().collect();
        if let Some(spec) = plan.extra {
            connectors[spec.name] = json!({});
            specs.push(spec);
        }
        let mut config = json!({
            "store": {"kind": "memory"},
            "keys": {"origin": "test.example/log", "receipt": {"env": "RECEIPT"}, "log": {"env": "LOG"}},
            "policies": {"dir": policies},
            "egress": {"allow_hosts": ["127.0.0.1:9"]},
            "connectors": connectors,
        });
        for (table, value) in plan.config {
            config[table] = value;
        }
        let config: Config = serde_json::from_value(config).unwrap();
        let (receipt, log) = (generate_key_pem().unwrap(), generate_key_pem().unwrap());
        let lookup = |name: &str| match name {
            "RECEIPT" => Some(receipt.clone()),
            "LOG" => Some(log.clone()),
            _ => rehearsal.lookup(name),
        };
        let clock = Arc::new(FixedClock::at(NOON));
        let service = Service::start(config, &Registry::new(specs), clock.clone(), &lookup).await.unwrap();
        Self { clock, dir, rehearsal, service }
    }

    /// A request of the generic connector, signed and sent.
    pub(crate) async fn ask(&self, id: &str, body: Value) -> Value {
        let scene = scene("generic", body);
        let reply = self.send(&scene, id).await.unwrap();
        assert_eq!(200, reply.status, "every verified call is answered in the success format");
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// A request of any vendor, signed and sent.
    pub(crate) async fn send(&self, scene: &Scene, id: &str) -> Result<Reply, VerifyError> {
        self.send_at(scene, id, Instant::now()).await
    }

    /// The same, as if its first byte had come at `received`.
    pub(crate) async fn send_at(&self, scene: &Scene, id: &str, received: Instant) -> Result<Reply, VerifyError> {
        let signed = self.rehearsal.sign(scene, id, self.clock.now()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in &signed.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let inbound = Inbound::new(scene.path.clone(), String::new(), headers, Bytes::from(signed.body), self.clock.now());
        let route = self.service.routes().get(&scene.connector).unwrap();
        self.service.pipeline().answer(route, inbound, received).await
    }

    /// Every receipt so far, oldest first.
    pub(crate) async fn receipts(&self) -> Vec<StoredLeaf> {
        let query = Query { limit: 1_000, ..Query::default() };
        let mut found = self.service.pipeline().store.find(&query).await.unwrap();
        found.reverse();
        found
    }

    /// Decisions about actions so far, oldest first.
    pub(crate) async fn verdicts(&self) -> Vec<Verdict> {
        self.receipts().await.iter().filter(|leaf| leaf.summary.tool.is_some()).filter_map(|leaf| leaf.summary.verdict).collect()
    }
}

/// A scene of a connector.
pub(crate) fn scene(connector: &str, body: Value) -> Scene {
    Scene {
        body,
        connector: connector.into(),
        event: String::new(),
        path: String::new(),
        query: String::new(),
        title: String::new(),
    }
}

/// A request of the generic connector.
pub(crate) fn action(id: &str, session: &str, effect: &str, parameters: Value) -> Value {
    json!({
        "version": 1, "id": id, "type": "action", "session": {"id": session}, "agent": {"id": "bot"},
        "human": {"id": "u-bob", "email": "bob@acme.example"}, "tool": {"namespace": "warehouse", "name": "query"},
        "effect": effect, "parameters": parameters,
    })
}

/// Somebody of the groups that the base set names.
pub(crate) fn approver(name: &str) -> Approver {
    Approver {
        channel: "test".into(),
        groups: ["finance", "security", "oncall", "maintainers"].map(str::to_owned).to_vec(),
        identities: Vec::new(),
        name: name.into(),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
