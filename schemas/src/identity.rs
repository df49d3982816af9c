//! Who asks: AARM R6's human, service, agent, session and role, and how far each claim can be believed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How far an identity claim can be believed, best first. Policies see it as `context.assurance`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Assurance {
    /// Nothing vouches for it.
    #[default]
    None,
    /// The client says so, over a channel that proves only that it holds a shared token.
    ClientAsserted,
    /// A client certificate bound to the device.
    MtlsDevice,
    /// A token whose signature, issuer, audience and life we checked.
    OauthVerified,
    /// The vendor signed the whole request.
    VendorSigned,
}

impl Assurance {
    /// The wire name, as policies compare it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientAsserted => "client_asserted",
            Self::MtlsDevice => "mtls_device",
            Self::OauthVerified => "oauth_verified",
            Self::VendorSigned => "vendor_signed",
        }
    }
}

/// Everyone an action is bound to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// The agent that acts.
    pub agent: Agent,
    /// How far the claims below can be believed.
    pub assurance: Assurance,
    /// Who handed the work to whom, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegation: Vec<Delegation>,
    /// The device the client runs on, when it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The person on whose behalf the agent acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<Human>,
    /// Role or privilege scope by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Scopes the credential carries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// The service or application the agent runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The customer organisation, as the vendor numbers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What checked the claims, for example `standard-webhooks` or `entra-jwt`.
    pub verified_by: String,
}

/// The agent that acts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Agent {
    /// Stable within the connector, for example `claude-code` or an agent GUID.
    pub id: String,
    /// The kind of agent or subagent, when the vendor says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The model behind it, when the vendor says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A person. `email` and `name` are personal data: they go into the disclosure, never into a leaf.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Human {
    /// E-mail address, when the vendor gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The vendor's opaque id.
    pub id: String,
    /// Display name, when the vendor gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One link of a delegation chain. Scope may only narrow and expiry may only shorten along it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delegation {
    /// Who received the work.
    pub delegatee: String,
    /// Who handed it over.
    pub delegator: String,
    /// When the delegation ends, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was made, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// What was delegated.
    #[serde(default)]
    pub scope: Vec<String>,
}
