//! A whole service in this process: real connectors, real policies, real store, a clock that the test moves.

pub(crate) mod provider;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use countersign_connectors::rehearsal::{Rehearsal, Scene, Signed};
use countersign_receipt::{
    LogKey, ReceiptKey, Report, Trust, TrustFile, TrustedLog, TrustedReceiptKey, VerifyOptions,
    generate_key_pem, verify,
};
use countersign_schemas::{Timestamp, Verdict};
use countersign_sdk::{ConnectorSpec, Inbound, Registry, Reply, VerifyError};
use countersign_service::Service;
use countersign_service::approval::Approver;
use countersign_service::clock::{Clock, FixedClock};
use countersign_service::config::Config;
use countersign_service::export::{self, Filter};
use countersign_store::{Query, StoredLeaf};
use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The moment at which tests begin.
pub(crate) const NOON: Timestamp = Timestamp(1_795_521_600_000);

/// A service and the means to call it as its vendors would.
pub(crate) struct Site {
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) dir: TempDir,
    pub(crate) rehearsal: Arc<Rehearsal>,
    pub(crate) service: Service,
    build: Build,
    trust: Trust,
}

/// What a service is started with.
struct Build {
    config: Value,
    log_pem: String,
    receipt_pem: String,
    specs: Vec<ConnectorSpec>,
}

impl Build {
    async fn start(&self, clock: &Arc<FixedClock>, rehearsal: &Rehearsal) -> Service {
        let config: Config = serde_json::from_value(self.config.clone()).unwrap();
        let lookup = |name: &str| match name {
            "RECEIPT" => Some(self.receipt_pem.clone()),
            "LOG" => Some(self.log_pem.clone()),
            _ => rehearsal.lookup(name),
        };
        let registry = Registry::new(self.specs.clone()).with_channels(countersign_channels::all());
        Service::start(config, &registry, clock.clone(), &lookup).await.unwrap()
    }
}

/// How a site differs from the ordinary.
#[derive(Default)]
pub(crate) struct Plan {
    /// Merged over the configuration's top-level tables.
    pub(crate) config: BTreeMap<&'static str, Value>,
    /// Where the vendors' own servers are; by default nobody is there.
    pub(crate) far_side: Option<SocketAddr>,
    /// Added to the registry and the configuration, without settings.
    pub(crate) extra: Option<ConnectorSpec>,
    /// Kept on disk, for [`Site::restarted`].
    pub(crate) on_disk: bool,
    /// Instead of the base set.
    pub(crate) policies: Option<&'static str>,
}

impl Site {
    pub(crate) async fn ordinary() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let far_side = plan.far_side.map_or_else(|| "127.0.0.1:9".to_owned(), |address| address.to_string());
        let rehearsal = Arc::new(Rehearsal::new(&format!("http://{far_side}")).unwrap());
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
            "store": {"kind": if plan.on_disk { "sqlite" } else { "memory" }, "dir": dir.path().join("store")},
            "keys": {"origin": "test.example/log", "receipt": {"env": "RECEIPT"}, "log": {"env": "LOG"}},
            "policies": {"dir": policies},
            "egress": {"allow_hosts": []},
            "connectors": connectors,
        });
        for (table, value) in plan.config {
            config[table] = value;
        }
        if let Some(hosts) = config["egress"]["allow_hosts"].as_array_mut() {
            hosts.push(far_side.into());
        }
        let (receipt_pem, log_pem) =
            (generate_key_pem().unwrap().to_string(), generate_key_pem().unwrap().to_string());
        let trust = trust(&receipt_pem, &log_pem);
        let build = Build { config, log_pem, receipt_pem, specs };
        let clock = Arc::new(FixedClock::at(NOON));
        let service = build.start(&clock, &rehearsal).await;
        Self { clock, dir, rehearsal, service, build, trust }
    }

    /// The same site after a stop and a start. Needs [`Plan::on_disk`].
    pub(crate) async fn restarted(self) -> Self {
        self.service.pipeline().store.close().await.unwrap();
        drop(self.service);
        let service = self.build.start(&self.clock, &self.rehearsal).await;
        Self { service, ..self }
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
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
    pub(crate) async fn send_at(
        &self,
        scene: &Scene,
        id: &str,
        received: Instant,
    ) -> Result<Reply, VerifyError> {
        self.deliver(&scene.connector, self.signed(scene, id), received).await
    }

    /// A request as its vendor would sign it now.
    pub(crate) fn signed(&self, scene: &Scene, id: &str) -> Signed {
        self.rehearsal.sign(scene, id, self.clock.now()).unwrap()
    }

    /// Hands a signed request to the pipeline.
    pub(crate) async fn deliver(
        &self,
        connector: &str,
        signed: Signed,
        received: Instant,
    ) -> Result<Reply, VerifyError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &signed.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let below = signed.target.strip_prefix(&format!("/hooks/{connector}")).unwrap();
        let path = below.split('?').next().unwrap().trim_start_matches('/').to_owned();
        let inbound = Inbound::new(path, String::new(), headers, Bytes::from(signed.body), self.clock.now());
        let route = self.service.routes().get(connector).unwrap();
        self.service.pipeline().answer(route, inbound, received).await
    }

    /// The vendors' own servers, from now on.
    pub(crate) async fn serve_far_side(&self, address: SocketAddr) -> tokio::task::JoinHandle<()> {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let (rehearsal, clock) = (self.rehearsal.clone(), self.clock.clone());
        let answer = move |method: axum::http::Method, uri: axum::http::Uri| async move {
            let (status, body) = rehearsal.far_side(method.as_str(), uri.path(), clock.now());
            (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(body))
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
    }

    /// What an auditor finds in an export of everything.
    pub(crate) async fn audit(&self) -> Report {
        let lines = export::stream(self.service.pipeline().store.clone(), Filter::default()).await.unwrap();
        let bytes: Vec<Bytes> = lines.try_collect().await.unwrap();
        let options = VerifyOptions { kept_checkpoints: &[], threads: 1, progress: &|_| {} };
        verify(bytes.concat().as_slice(), &self.trust, &options)
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
        self.receipts()
            .await
            .iter()
            .filter(|leaf| leaf.summary.tool.is_some())
            .filter_map(|leaf| leaf.summary.verdict)
            .collect()
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
        assurance: "test".into(),
        channel: "test".into(),
        groups: ["finance", "security", "oncall", "maintainers"].map(str::to_owned).to_vec(),
        identities: Vec::new(),
        name: name.into(),
    }
}

/// What auditors of these keys believe.
pub(crate) fn trust(receipt_pem: &str, log_pem: &str) -> Trust {
    let receipt = ReceiptKey::from_pkcs8_pem(receipt_pem, 1).unwrap();
    let log = LogKey::from_pkcs8_pem("test.example/log", log_pem).unwrap();
    let key = TrustedReceiptKey {
        epoch: 1,
        key_id: receipt.key_id().to_owned(),
        public_key_pem: receipt.public_pem(),
        valid_below: None,
    };
    TrustFile { log: TrustedLog { vkey: log.vkey() }, receipt_keys: vec![key] }.check().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
