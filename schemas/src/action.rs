//! The action: what an agent wants to do, the same for every vendor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{ActionId, Identity, SessionId, Timestamp};

/// The closed vocabulary that lets one policy cover all vendors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Looks at one thing.
    Read,
    /// Enumerates things.
    List,
    /// Makes something new.
    Create,
    /// Changes something.
    Update,
    /// Removes something.
    Delete,
    /// Lets data leave: mail, post, upload.
    Send,
    /// Runs code or a command.
    Execute,
    /// Changes what runs in an environment.
    Deploy,
    /// Moves money.
    Pay,
    /// Gives somebody rights.
    Grant,
    /// Obtains a session or credential.
    Login,
    /// Nobody knows better.
    #[default]
    Invoke,
}

impl Effect {
    /// Every effect, in the order of the vocabulary.
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::List,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Send,
        Self::Execute,
        Self::Deploy,
        Self::Pay,
        Self::Grant,
        Self::Login,
        Self::Invoke,
    ];

    /// The wire name, also the Cedar action id.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Send => "send",
            Self::Execute => "execute",
            Self::Deploy => "deploy",
            Self::Pay => "pay",
            Self::Grant => "grant",
            Self::Login => "login",
            Self::Invoke => "invoke",
        }
    }
}

/// One attempted action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Names this attempt; the same for the hook before the call and the report after it.
    pub action_id: ActionId,
    /// The vendor's id of the call, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The vendor's id of the delivery, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<String>,
    /// What kind of thing it does.
    pub effect: Effect,
    /// What policies can ask of every tool.
    #[serde(default)]
    pub facets: Facets,
    /// Who asks.
    pub identity: Identity,
    /// The vendor's word for the operation, for example `PreToolUse` or `requested`.
    pub operation: String,
    /// The arguments, as the vendor sent them.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Named findings of detectors; policies see them as `context.signals`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risk_signals: Vec<String>,
    /// The session it belongs to.
    pub session: SessionRef,
    /// Where it came from.
    pub source: Source,
    /// When we received it.
    pub timestamp: Timestamp,
    /// What it uses.
    pub tool: Tool,
    /// Vendor fields that have no place above, kept as they came.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub vendor_fields: Map<String, Value>,
}

/// A tool, canonical: `mcp__github__create_issue` is namespace `mcp`, server `github`, name `create_issue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// The tool's own name.
    pub name: String,
    /// `mcp` for MCP tools, else the product whose tool it is, for example `claude-code`.
    pub namespace: String,
    /// The name exactly as the vendor sent it.
    pub raw: String,
    /// The MCP server or tool set, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

impl Tool {
    /// The canonical text form: `namespace/server/name`, with `-` for no server. Also the Cedar resource id.
    #[must_use]
    pub fn canonical(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.server.as_deref().unwrap_or("-"), self.name)
    }

    /// The tool of a canonical name; its raw name is its own name, since nobody knows the vendor's.
    #[must_use]
    pub fn of_canonical(text: &str) -> Self {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (namespace, server, name) = (part(), part(), part());
        Self { raw: name.clone(), name, namespace, server: Some(server).filter(|server| server != "-") }
    }
}

/// The session an action belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionRef {
    /// Ours.
    pub id: SessionId,
    /// The turn or prompt within the session, when the vendor says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// The vendor's.
    pub vendor_id: String,
}

/// Which connector, vendor and event an action came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The configured instance, which is also the last part of the hook's URL.
    pub connector: String,
    /// The vendor's name of the event.
    pub event: String,
    /// The connector's kind, for example `claude-code`.
    pub vendor: String,
}

/// What a policy can ask of any tool, whoever made it. Empty means that the tool has no such thing, not that
/// nobody looked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Facets {
    /// Money, in minor units of `currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_minor: Option<i64>,
    /// Names of programs that a shell command starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// ISO 4217, lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The environment that is deployed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether data goes to a party outside the organisation, when that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<bool>,
    /// Hosts that are contacted, lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Data labels that the vendor or the operator put on the call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Files and folders that are touched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// People or addresses that receive something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Database tables that are touched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
}

/// SHA-256 of the canonical JSON of {connector, parameters, principal, tenant, tool}, in lower hex: what a
/// grant is bound to. The principal is the human where one is known, else the agent.
///
/// `canonical_parameters` is the RFC 8785 form of the parameters; the caller has it anyway, and this crate
/// canonicalises nothing.
#[must_use]
pub fn action_hash(action: &Action, canonical_parameters: &str) -> String {
    let principal = action.identity.human.as_ref().map_or(&action.identity.agent.id, |human| &human.id);
    let tenant = action.identity.tenant.as_deref().unwrap_or_default();
    let head = serde_json::json!(action.source.connector).to_string();
    let tail = format!(
        "\"principal\":{},\"tenant\":{},\"tool\":{}}}",
        serde_json::json!(principal),
        serde_json::json!(tenant),
        serde_json::json!(action.tool.canonical())
    );
    let mut hash = Sha256::new();
    hash.update(b"{\"connector\":");
    hash.update(head.as_bytes());
    hash.update(b",\"parameters\":");
    hash.update(canonical_parameters.as_bytes());
    hash.update(b",");
    hash.update(tail.as_bytes());
    hex::encode(hash.finalize())
}
