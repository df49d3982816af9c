//! The words of the contract: what a client sends and what it is told. `docs/reference/generic-hook.md` explains them;
//! the JSON Schemas are generated from here.
//!
//! Unknown keys at the top of a request are kept. Unknown keys inside the contract's own objects are refused: a
//! misspelt `serevr` would otherwise change which policy applies, in silence.

use countersign_sdk::parse;
use countersign_sdk::schemas::{
    ApprovalId, Delegation, Effect, Expressed, Facets, OutcomeStatus, ReceiptId, Timestamp,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the contract that this program speaks.
pub(super) const VERSION: u32 = 1;

/// Longer than any id that platforms are known to use; ids end up in keys and indexes.
const ID_BYTES_MAX: usize = 256;

/// A request, `POST`ed as JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct GenericRequest {
    /// Version of the contract: 1.
    pub version: u32,
    /// Names this request, 1 to 256 bytes. The same request sent again under the same id is answered the same.
    pub id: String,
    /// What the request is about.
    #[serde(rename = "type")]
    pub kind: GenericKind,
    /// The session it belongs to.
    pub session: GenericSession,
    /// The agent that acts.
    pub agent: GenericAgent,
    /// The person on whose behalf the agent acts.
    pub human: Option<GenericHuman>,
    /// Who handed the work to whom, oldest first. Scope may only narrow and expiry may only shorten along it.
    #[serde(default)]
    pub delegation: Vec<GenericDelegation>,
    /// The customer organisation, for platforms that serve several.
    pub tenant: Option<String>,
    /// `action`, required: the tool that the agent wants to use.
    pub tool: Option<GenericTool>,
    /// `action`: the platform's word for what the tool does, for example `create_invoice`. The effect if absent.
    pub operation: Option<String>,
    /// `action`: what kind of thing it does. `invoke` if absent, which policies should treat as the most dangerous.
    pub effect: Option<Effect>,
    /// `action`: the arguments, exactly as the tool would get them.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// `action`: data labels on the call, for example `PII`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// `action`: what policies can ask of every tool. What is not given here is looked for in the parameters.
    pub facets: Option<GenericFacets>,
    /// Names the call within the session. `action`: the request's id if absent. `outcome`, required: the call that
    /// ended.
    pub call_id: Option<String>,
    /// `action`: answer 202 at once and send the decision here later. Must lie below a URL that the operator listed.
    pub callback_url: Option<String>,
    /// `outcome`, required: how the call ended.
    pub status: Option<OutcomeStatus>,
    /// `outcome`: how long the call ran, in milliseconds.
    pub duration_ms: Option<u64>,
    /// `outcome`: the output. Only its digest and size are kept.
    pub output: Option<Value>,
    /// `outcome`: the error text.
    pub error: Option<String>,
    /// `intent`, required: what the user asked for.
    pub text: Option<String>,
    /// `intent`: false when a machine wrote the text in the user's place. True if absent.
    pub by_human: Option<bool>,
    /// `session_end`: why the session ended.
    pub reason: Option<String>,
    /// Anything else. Kept as it came, visible to policies.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GenericKind {
    /// May this action run? The client waits for the answer, and does not act without it.
    Action,
    /// An action ended.
    Outcome,
    /// The user asked for something.
    Intent,
    /// A session ended.
    SessionEnd,
}

impl GenericKind {
    /// The wire name, also the name of the frame.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Outcome => "outcome",
            Self::Intent => "intent",
            Self::SessionEnd => "session_end",
        }
    }
}

/// A session of an agent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericSession {
    /// The platform's id of the session, 1 to 256 bytes.
    pub id: String,
    /// The turn or prompt within the session.
    pub turn: Option<String>,
}

/// An agent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericAgent {
    /// Stable id of the agent, 1 to 256 bytes.
    pub id: String,
    /// The kind of agent or subagent.
    pub kind: Option<String>,
    /// The model behind it.
    pub model: Option<String>,
}

/// A person. An id that is an e-mail address is hashed before it is logged.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericHuman {
    /// The platform's id of the person, 1 to 256 bytes.
    pub id: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Display name.
    pub name: Option<String>,
}

/// One link of a delegation chain. Names that are e-mail addresses are hashed before they are logged.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericDelegation {
    /// Who handed the work over.
    pub delegator: String,
    /// Who received it.
    pub delegatee: String,
    /// What was delegated.
    #[serde(default)]
    pub scope: Vec<String>,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl From<GenericDelegation> for Delegation {
    fn from(link: GenericDelegation) -> Self {
        let GenericDelegation { delegator, delegatee, scope, issued_at, expires_at } = link;
        // The chain is logged as it stands, so e-mail addresses must not be in it.
        let id = |name: String| parse::human(&name).id;
        Self { delegatee: id(delegatee), delegator: id(delegator), expires_at, issued_at, scope }
    }
}

/// A tool. A bare `mcp__server__tool` is taken apart; otherwise say server and namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericTool {
    /// The tool's name.
    pub name: String,
    /// The MCP server or tool set that it belongs to.
    pub server: Option<String>,
    /// `mcp` for MCP tools, else the product whose tool it is. With a server `mcp` if absent, else `generic`.
    pub namespace: Option<String>,
}

/// What policies can ask of every tool.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenericFacets {
    /// Money, in minor units of `currency`.
    pub amount_minor: Option<i64>,
    /// Names of programs that a shell command starts.
    pub commands: Vec<String>,
    /// ISO 4217, lower case.
    pub currency: Option<String>,
    /// The environment that is deployed to.
    pub environment: Option<String>,
    /// Whether data goes to a party outside the organisation.
    pub external: Option<bool>,
    /// Hosts that are contacted, lower case.
    pub hosts: Vec<String>,
    /// Files and folders that are touched.
    pub paths: Vec<String>,
    /// People or addresses that receive something.
    pub recipients: Vec<String>,
    /// `owner/name`.
    pub repository: Option<String>,
    /// Database tables that are touched.
    pub tables: Vec<String>,
}

impl From<GenericFacets> for Facets {
    fn from(facets: GenericFacets) -> Self {
        Self {
            amount_minor: facets.amount_minor,
            commands: facets.commands,
            currency: facets.currency,
            environment: facets.environment,
            external: facets.external,
            hosts: facets.hosts,
            labels: Vec::new(),
            paths: facets.paths,
            recipients: facets.recipients,
            repository: facets.repository,
            tables: facets.tables,
        }
    }
}

/// An answer: the body of the response, and of the callback when one was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GenericAnswer {
    /// The id of the request that is answered; in callbacks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What to do. Anything but ALLOW and MODIFY means: do not act.
    pub decision: Expressed,
    /// Why, for people and for the agent.
    pub reason: String,
    /// The receipt that proves the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<ReceiptId>,
    /// MODIFY: the parameters to run with, in place of all those that were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// What is waited for: an approval or more context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<ApprovalId>,
    /// True: send the same request again once the ticket is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
}

/// The JSON Schemas (draft 2020-12) of request and answer, by file stem.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Schema)> {
    fn of<T: JsonSchema>() -> Schema {
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
    }
    vec![("generic-answer", of::<GenericAnswer>()), ("generic-request", of::<GenericRequest>())]
}

impl GenericRequest {
    /// Reads a request whose types are right and which has what its kind needs.
    ///
    /// # Errors
    ///
    /// A sentence that names the key and repeats nothing of the content.
    pub(super) fn read(body: Map<String, Value>) -> Result<Self, String> {
        let request: Self = serde_path_to_error::deserialize(Value::Object(body)).map_err(|error| {
            let (path, text) = (error.path().to_string(), error.inner().to_string());
            // Only this message of serde's is made of names alone; the others may quote the content.
            let missing = text.strip_prefix("missing field ").map(str::to_owned);
            match missing {
                Some(key) if path == "." => format!("{key} is missing"),
                Some(key) => format!("`{path}` has no {key}"),
                None => format!("`{path}` is not what the contract says"),
            }
        })?;
        request.checked()
    }

    /// The request, when it has what every kind needs.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub(super) fn checked(self) -> Result<Self, String> {
        if self.version != VERSION {
            return Err(format!("`version` is not {VERSION}"));
        }
        let ids = [
            ("id", Some(&self.id)),
            ("session.id", Some(&self.session.id)),
            ("agent.id", Some(&self.agent.id)),
            ("human.id", self.human.as_ref().map(|human| &human.id)),
            ("call_id", self.call_id.as_ref()),
            ("tenant", self.tenant.as_ref()),
            ("tool.name", self.tool.as_ref().map(|tool| &tool.name)),
        ];
        for (key, id) in ids {
            if id.is_some_and(|id| id.is_empty() || id.len() > ID_BYTES_MAX) {
                return Err(format!("`{key}` is not 1 to {ID_BYTES_MAX} bytes long"));
            }
        }
        Ok(self)
    }
}
