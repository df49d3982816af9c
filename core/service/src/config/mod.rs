//! The configuration: one struct per concern, as written by the operator, all checked together.
//!
//! Connector settings stay JSON until their own connector parses them, so nothing here lists the vendors.

mod check;
mod shape;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use countersign_classify::Rule;
use countersign_drift::Profile;
use countersign_schemas::{DisclosureMode, Verdict};
use countersign_sdk::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::console::ConsoleSettings;

pub use check::{Problem, check, connector_kind};
pub(crate) use check::{channel_settings_of, rooms_of, settings_of};

/// The whole file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who may use the API and the command line's remote commands.
    #[serde(default)]
    pub api: ApiSettings,
    /// Who answers questions in channels.
    #[serde(default)]
    pub approvers: BTreeMap<String, ApproverSettings>,
    /// Where approvers are asked, by name. The name is the last part of the channel's URL.
    #[serde(default)]
    pub channels: BTreeMap<String, Value>,
    /// The vendors, by instance name. The name is the last part of the hook's URL.
    #[serde(default)]
    pub connectors: BTreeMap<String, Value>,
    /// The web console.
    #[serde(default)]
    pub console: ConsoleSettings,
    /// What is known of tools, data and drift.
    #[serde(default)]
    pub context: ContextSettings,
    /// Where we may call out to.
    #[serde(default)]
    pub egress: EgressSettings,
    /// Signing keys.
    pub keys: KeySettings,
    /// Bounds.
    #[serde(default)]
    pub limits: LimitSettings,
    /// Policies.
    pub policies: PolicySettings,
    /// What receipts hold.
    #[serde(default)]
    pub receipts: ReceiptSettings,
    /// Where we listen.
    #[serde(default)]
    pub server: ServerSettings,
    /// Where receipts are kept.
    #[serde(default)]
    pub store: StoreSettings,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address and port. TLS ends in front of us.
    pub listen: String,
    /// How vendors reach us, without a trailing slash.
    pub public_url: String,
    /// How long a shutdown waits for calls in flight, in milliseconds.
    pub drain_ms: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8787".into(),
            public_url: "https://countersign.example.com".into(),
            drain_ms: 10_000,
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Which store.
    pub kind: StoreKind,
    /// Folder of the journal and its index.
    pub dir: PathBuf,
    /// The last signed checkpoint, kept outside `dir` (and outside its backups) so that an old copy of the
    /// database is noticed. Default: `<dir>.checkpoint`.
    pub checkpoint_file: Option<PathBuf>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { kind: StoreKind::Sqlite, dir: "data".into(), checkpoint_file: None }
    }
}

impl StoreSettings {
    /// The checkpoint file, default applied.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.checkpoint_file.clone().unwrap_or_else(|| {
            let mut name = self.dir.clone().into_os_string();
            name.push(".checkpoint");
            name.into()
        })
    }
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Journal and SQLite index on disk.
    Sqlite,
    /// The same, in memory: everything is gone when the program ends.
    Memory,
}

/// `[keys]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// Names the log in checkpoints, for example `countersign.example.com/log`. Never change it.
    pub origin: String,
    /// Ed25519 key (PKCS#8 PEM) that signs receipts.
    pub receipt: SecretRef,
    /// Ed25519 key (PKCS#8 PEM) that signs checkpoints. Not the same as `receipt`.
    pub log: SecretRef,
    /// Which epoch of the receipt key this is.
    #[serde(default = "first_epoch")]
    pub epoch: u32,
}

fn first_epoch() -> u32 {
    1
}

/// `[policies]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    /// Folder of `*.cedar` files, read with its subfolders. Watched: a good change comes into force, a bad one never.
    pub dir: PathBuf,
    /// What happens when no policy matches: `DENY` (default) or `ALLOW`.
    #[serde(default = "deny")]
    pub default: Verdict,
    /// How long an approval waits when its policy says nothing, in seconds.
    #[serde(default = "approval_timeout_s")]
    pub approval_timeout_s: u64,
    /// How long a deferral waits when its policy says nothing, in seconds.
    #[serde(default = "deferral_timeout_s")]
    pub deferral_timeout_s: u64,
}

fn deny() -> Verdict {
    Verdict::Deny
}

fn approval_timeout_s() -> u64 {
    900
}

fn deferral_timeout_s() -> u64 {
    300
}

/// `[receipts]`
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptSettings {
    /// Where parameters and personal data go: `committed` (default: beside the log, bound by a salted digest),
    /// `inline` (into the log itself) or `hashed` (digest only, content not kept).
    pub disclosure: DisclosureMode,
}

/// `[context]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextSettings {
    /// Files that add to the built-in tool catalogue; an entry replaces the built-in one of the same name.
    pub catalogue: Vec<PathBuf>,
    /// Detectors of your own, besides the built-in ones.
    pub detectors: Vec<Rule>,
    /// How drift is measured.
    pub drift: Profile,
}

/// `[egress]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EgressSettings {
    /// Hosts that may be called, `host` or `host:port`. Nothing else is.
    pub allow_hosts: Vec<String>,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Decisions in flight at once, and calls that may wait for a processor besides; what comes on top is denied at
    /// once, explicitly, and receipted in bulk.
    pub in_flight: usize,
    /// Bytes of a request's body. Anthropic's protocol maximum is 64 MiB.
    pub body_bytes: usize,
    /// Open approvals and deferrals; beyond it STEP_UP and DEFER become DENY.
    pub open_approvals: usize,
    /// Calls that are kept waiting for a person at once; beyond it they are denied with a ticket.
    pub held: usize,
    /// How long a repeated request gets its recorded answer, in seconds.
    pub idempotency_s: u64,
    /// How long a grant waits for the retry, in seconds.
    pub grant_s: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            in_flight: 256,
            body_bytes: 64 << 20,
            open_approvals: 10_000,
            held: 10_000,
            idempotency_s: 86_400,
            grant_s: 900,
        }
    }
}

impl LimitSettings {
    /// How long a repeated request gets its recorded answer.
    #[must_use]
    pub fn idempotency(&self) -> Duration {
        Duration::from_secs(self.idempotency_s)
    }

    /// How long a grant waits for the retry.
    #[must_use]
    pub fn grant(&self) -> Duration {
        Duration::from_secs(self.grant_s)
    }
}

/// `[approvers.<name>]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApproverSettings {
    /// The approver's id in each channel, by the channel's name: how they are reached, and how their answer is known.
    pub channels: BTreeMap<String, String>,
    /// Groups the approver is in, as policies name them without `group:`, for example `oncall`.
    pub groups: Vec<String>,
    /// The approver's ids at the vendors (opaque ids or e-mail addresses): nobody approves their own agent.
    pub identities: Vec<String>,
}

/// `[api]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    /// Callers by name. Without any, the API answers nobody.
    pub callers: BTreeMap<String, CallerSettings>,
}

/// `[api.callers.<name>]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerSettings {
    /// The bearer token.
    pub token: SecretRef,
    /// What the caller may do.
    pub roles: Vec<Role>,
    /// Groups the caller is in, as policies name them without `group:`, for example `oncall`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The caller's ids at the vendors (opaque ids or e-mail addresses): nobody approves their own agent.
    #[serde(default)]
    pub identities: Vec<String>,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read receipts, approvals and figures.
    Viewer,
    /// Answer approvals.
    Approver,
    /// Halt, lift, reload.
    Operator,
}
