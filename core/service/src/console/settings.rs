//! `[console]`: who may sign in, and what they may do then.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_sdk::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Role;

/// `[console]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleSettings {
    /// Whether the web console is served, below `/console`.
    pub enabled: bool,
    /// One account with a password, for the first steps. Switch it off once `oidc` works.
    pub bootstrap: Option<BootstrapSettings>,
    /// Sign-in at your identity provider.
    pub oidc: Option<OidcSettings>,
    /// How long a session lasts without a click, in seconds.
    pub idle_s: u64,
    /// How long a session lasts at most, in seconds.
    pub session_s: u64,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self { enabled: false, bootstrap: None, oidc: None, idle_s: 1_800, session_s: 28_800 }
    }
}

impl ConsoleSettings {
    /// How long a session lasts without a click.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s)
    }

    /// How long a session lasts at most.
    #[must_use]
    pub fn life(&self) -> Duration {
        Duration::from_secs(self.session_s)
    }
}

/// `[console.bootstrap]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSettings {
    /// The password, or its Argon2 hash in PHC form (`$argon2id$…`).
    pub password: SecretRef,
    /// The account's name; receipts carry it.
    #[serde(default = "admin")]
    pub name: String,
    /// What it may do.
    #[serde(default = "every_role")]
    pub roles: Vec<Role>,
    /// Groups it is in, as policies name them without `group:`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The person's ids at the vendors: nobody approves their own agent.
    #[serde(default)]
    pub identities: Vec<String>,
}

fn admin() -> String {
    "admin".into()
}

fn every_role() -> Vec<Role> {
    vec![Role::Viewer, Role::Approver, Role::Operator]
}

/// `[console.oidc]`: OpenID Connect Core 1.0, authorization code flow with PKCE (RFC 7636).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// The issuer, exactly as its discovery document states it. Its host must be in `egress.allow_hosts`.
    pub issuer: String,
    /// How the provider knows us.
    pub client_id: String,
    /// The client's secret; none for a public client.
    #[serde(default)]
    pub client_secret: Option<SecretRef>,
    /// What the button says, for example `Contoso`.
    #[serde(default = "single_sign_on")]
    pub label: String,
    /// Scopes to ask for, besides `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim that lists the person's groups. Policies name them as `group:<value>`.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// The claim that names the person in receipts and in `user:<name>` of policies. One that the person can change
    /// would let them approve twice.
    #[serde(default = "name_claim")]
    pub name_claim: String,
    /// Claims that hold the person's ids at the vendors: nobody approves their own agent.
    #[serde(default = "identity_claims")]
    pub identity_claims: Vec<String>,
    /// What the members of each group may do. Who is in none of these groups may not sign in.
    pub roles: BTreeMap<String, Vec<Role>>,
}

fn single_sign_on() -> String {
    "single sign-on".into()
}

fn scopes() -> Vec<String> {
    ["email", "profile"].map(String::from).into()
}

fn groups_claim() -> String {
    "groups".into()
}

fn name_claim() -> String {
    "sub".into()
}

fn identity_claims() -> Vec<String> {
    ["sub", "email", "preferred_username", "upn", "oid"].map(String::from).into()
}
