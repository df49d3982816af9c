//! Whom the offline check believes. Given out of band only: a key that comes with an export proves nothing.

use std::collections::HashMap;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::Vkey;
use crate::key::{KeyError, key_id, read_public_pem};

/// A trust file is a few keys.
const TRUST_BYTES_MAX: usize = 1 << 20;

/// A trust file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Longer than 1 MiB.
    #[error("the trust file is longer than 1 MiB")]
    TooLong,
    /// Not JSON of this shape.
    #[error("not a trust file: {0}")]
    Json(#[source] serde_json::Error),
    /// The log's key is not a verifier key.
    #[error("the log's `vkey` is not a verifier key of the form name+hash+base64")]
    Vkey,
    /// A receipt key is not a public key.
    #[error("the receipt key `{id}` cannot be used: {source}")]
    Key {
        /// Its `keyId`.
        id: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A receipt key is named wrongly: `keyId` must be the lower-hex SHA-256 of the raw public key.
    #[error("the receipt key `{stated}` is in truth `{found}`")]
    KeyId {
        /// The name in the file.
        stated: String,
        /// The name that follows from the key.
        found: String,
    },
    /// The same key or epoch appears twice.
    #[error("the receipt key `{0}` or its epoch appears twice")]
    Twice(String),
}

/// The trust file, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustFile {
    /// The log.
    pub log: TrustedLog,
    /// The keys that sign receipts, one per epoch.
    pub receipt_keys: Vec<TrustedReceiptKey>,
}

/// The log, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedLog {
    /// Name and key, as [`crate::LogKey::vkey`] gives them.
    pub vkey: String,
}

/// A key that signs receipts, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedReceiptKey {
    /// Lower-hex SHA-256 of the raw public key.
    pub key_id: String,
    /// The `signerEpoch` of receipts that it signs.
    pub epoch: u32,
    /// SPKI PEM.
    pub public_key_pem: String,
    /// Leaves from this index on are not believed under this key: for a key that was withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_below: Option<u64>,
}

/// Whom the offline check believes.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(crate) vkey: Vkey,
    pub(crate) keys: HashMap<String, TrustedKey>,
}

#[derive(Clone, Debug)]
pub(crate) struct TrustedKey {
    pub(crate) key: VerifyingKey,
    pub(crate) epoch: u32,
    pub(crate) valid_below: Option<u64>,
}

impl Trust {
    /// Reads a trust file.
    ///
    /// # Errors
    ///
    /// [`TrustError`]
    pub fn from_json(text: &str) -> Result<Self, TrustError> {
        if text.len() > TRUST_BYTES_MAX {
            return Err(TrustError::TooLong);
        }
        serde_json::from_str::<TrustFile>(text).map_err(TrustError::Json)?.check()
    }

    /// The name of the log that is believed.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.vkey.name()
    }
}

impl TrustFile {
    /// Turns what was written into what the check uses.
    ///
    /// # Errors
    ///
    /// [`TrustError`]
    pub fn check(&self) -> Result<Trust, TrustError> {
        let vkey = self.log.vkey.parse().map_err(|_| TrustError::Vkey)?;
        let mut keys = HashMap::new();
        for written in &self.receipt_keys {
            let key = written.check()?;
            let epoch_taken = keys.values().any(|other: &TrustedKey| other.epoch == key.epoch);
            if epoch_taken || keys.insert(written.key_id.clone(), key).is_some() {
                return Err(TrustError::Twice(written.key_id.clone()));
            }
        }
        Ok(Trust { vkey, keys })
    }
}

impl TrustedReceiptKey {
    fn check(&self) -> Result<TrustedKey, TrustError> {
        let fail = |source| TrustError::Key { id: self.key_id.clone(), source };
        let public = read_public_pem(&self.public_key_pem).map_err(fail)?;
        let key = VerifyingKey::from_bytes(&public).map_err(|_| fail(KeyError::Public))?;
        // A key of small order would accept the same signature for many messages.
        if key.is_weak() {
            return Err(fail(KeyError::Public));
        }
        let found = key_id(&public);
        if found != self.key_id {
            return Err(TrustError::KeyId { stated: self.key_id.clone(), found });
        }
        Ok(TrustedKey { key, epoch: self.epoch, valid_below: self.valid_below })
    }
}
