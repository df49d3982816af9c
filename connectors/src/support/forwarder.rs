//! Who forwards for a cloud that calls only its own functions: a few lines of the customer's, which sign with a shared
//! secret, or show a token that the cloud gave to the function's role.
//!
//! Source: Standard Webhooks 1.0.0; AWS, "IAM outbound identity federation" and `sts:GetWebIdentityToken` (read
//! 2026-11-24): a JSON Web Token of an account's own issuer, whose `sub` is the role's ARN.

use std::collections::BTreeSet;

use countersign_sdk::jwks::KeySet;
use countersign_sdk::schemas::{Assurance, Timestamp};
use countersign_sdk::{
    Caller, ConnectError, Env, Inbound, SecretRef, Unverified, VerifyError, parse, signature,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{webhook_keys, wrong};

/// How far clocks may differ, in seconds.
const LEEWAY_S: i64 = 60;

/// Tokens of the forwarder's role.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StsSettings {
    /// The account's issuer, `https://….tokens.sts.global.api.aws`. Its host must be in `[egress] allow_hosts`.
    pub issuer: String,
    /// The audience that the forwarder asks for.
    pub audience: String,
    /// ARNs of the roles that may forward.
    pub roles: Vec<String>,
    /// Where the issuer's keys are, if not at its `/.well-known/jwks.json`.
    #[serde(default)]
    pub jwks_url: Option<String>,
}

/// Proves the forwarder.
pub(crate) struct Forwarder {
    keys: Vec<Vec<u8>>,
    sts: Option<Sts>,
}

struct Sts {
    audience: String,
    issuer: String,
    keys: KeySet,
    roles: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    nbf: Option<i64>,
    sub: String,
}

impl Forwarder {
    /// From the settings keys `secrets` and `sts`, of which at least one must be given.
    pub(crate) fn connect(
        env: &Env<'_>,
        secrets: &[SecretRef],
        sts: Option<StsSettings>,
    ) -> Result<Self, ConnectError> {
        if secrets.is_empty() && sts.is_none() {
            return Err(wrong("secrets", "give at least one of `secrets` and `sts`"));
        }
        let keys = if secrets.is_empty() { Vec::new() } else { webhook_keys(env, secrets)? };
        Ok(Self { keys, sts: sts.map(|sts| Sts::connect(env, sts)).transpose()? })
    }

    /// Who forwards. A signature that can be checked must be right, whatever else is sent.
    pub(crate) fn verify(
        &self,
        request: &Inbound<Unverified>,
        now: Timestamp,
    ) -> Result<Caller, VerifyError> {
        let signed = request.headers.contains_key("webhook-signature");
        match &self.sts {
            Some(sts) if self.keys.is_empty() || !signed => sts.verify(request, now),
            _ => {
                signature::standard_webhooks(request, &self.keys, now)?;
                // Signed by the customer's forwarder and not by the cloud: what it passes on is its word.
                Ok(Caller {
                    assurance: Assurance::ClientAsserted,
                    verified_by: "standard-webhooks",
                    ..Caller::default()
                })
            }
        }
    }
}

impl Sts {
    fn connect(env: &Env<'_>, settings: StsSettings) -> Result<Self, ConnectError> {
        if settings.roles.is_empty() {
            return Err(wrong("sts.roles", "give at least one role's ARN"));
        }
        if settings.audience.is_empty() {
            return Err(wrong("sts.audience", "give the audience that the forwarder asks for"));
        }
        let issuer = settings.issuer.trim_end_matches('/').to_owned();
        let url = settings.jwks_url.unwrap_or_else(|| format!("{issuer}/.well-known/jwks.json"));
        env.egress.check(&url).map_err(|error| wrong("sts.issuer", error.to_string()))?;
        Ok(Self {
            audience: settings.audience,
            issuer,
            keys: env.keys.at(&url),
            roles: settings.roles.into_iter().collect(),
        })
    }

    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        let token = signature::bearer(request)?;
        let refused = |problem: &str| VerifyError::Token(problem.to_owned());
        // Read before it is proved, to find the key; what is read is proved by that key below.
        let claimed = jsonwebtoken::dangerous::insecure_decode::<Claims>(token)
            .map_err(|_| refused("not a JSON Web Token with the claims of AWS STS"))?;
        let algorithm = claimed.header.alg;
        if !matches!(algorithm, Algorithm::RS256 | Algorithm::ES384) {
            return Err(refused("signed with neither RS256 nor ES384"));
        }
        let kid = claimed.header.kid.as_deref().ok_or_else(|| refused("names no key"))?;
        let key = self.keys.find(kid).ok_or_else(|| VerifyError::NoKey(parse::cut(kid, 100).to_owned()))?;
        let key = DecodingKey::from_jwk(&key).map_err(|_| refused("its key is not usable"))?;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
        // Life is checked below, against the time that was given.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims: Map<String, Value> = jsonwebtoken::decode(token, &key, &validation)
            .map_err(|error| VerifyError::Token(error.to_string()))?
            .claims;
        let now = now.unix_seconds();
        if now >= claimed.claims.exp.saturating_add(LEEWAY_S) {
            return Err(refused("expired"));
        }
        if claimed.claims.nbf.is_some_and(|nbf| now < nbf.saturating_sub(LEEWAY_S)) {
            return Err(refused("not valid yet"));
        }
        let role = claimed.claims.sub;
        if !self.roles.contains(&role) {
            return Err(VerifyError::NotAllowed(parse::cut(&role, 200).to_owned()));
        }
        Ok(Caller {
            assurance: Assurance::OauthVerified,
            claims,
            name: Some(role),
            verified_by: "aws-sts-web-identity",
        })
    }
}
