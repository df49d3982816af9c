//! Signs receipts.

use countersign_schemas::{PAYLOAD_TYPE, Statement};

use crate::key::{KeyError, PrivateKey, key_id, public_pem};
use crate::{Envelope, LeafHash, leaf_hash, pae};

/// C2SP tlog-tiles entry bundles have 16-bit lengths.
pub(crate) const LEAF_BYTES_MAX: usize = 65_535;

/// The largest integer that RFC 8785 writes as itself: it knows numbers as IEEE 754 doubles only.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Room for a usual statement, so that writing one allocates once.
const STATEMENT_BYTES: usize = 4096;

/// A receipt cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A leaf of this length does not fit into the log.
    #[error("a receipt of {0} bytes is too long: a leaf has at most 65535")]
    TooLong(usize),
    /// A number that RFC 8785 cannot write exactly.
    #[error("`{0}` is above 2^53 - 1, which canonical JSON cannot write")]
    Number(&'static str),
    /// The statement is not JSON.
    #[error("the statement cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// The signing library failed.
    #[error("cannot sign")]
    Sign,
}

/// A receipt, ready for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The exact leaf bytes: RFC 8785 form of the DSSE envelope.
    pub bytes: Vec<u8>,
    /// SHA-256(0x00 || bytes).
    pub hash: LeafHash,
}

/// Signs receipts. Another key than the log's, so that the thief of one cannot do the other's work.
#[derive(Debug)]
pub struct ReceiptKey {
    key: PrivateKey,
    key_id: String,
    public_pem: String,
    epoch: u32,
}

impl ReceiptKey {
    /// Reads a private key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`] when it is not an Ed25519 key in PKCS#8 PEM form.
    pub fn from_pkcs8_pem(pem: &str, epoch: u32) -> Result<Self, KeyError> {
        let key = PrivateKey::from_pkcs8_pem(pem)?;
        let (key_id, public_pem) = (key_id(key.public()), public_pem(key.public())?);
        Ok(Self { key, key_id, public_pem, epoch })
    }

    /// Lower-hex SHA-256 of the raw 32-byte public key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Which of the service's successive receipt keys this is.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The public key, as SPKI PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.public_pem.clone()
    }

    /// Signs a statement, whose `signerEpoch` the caller has set to [`ReceiptKey::epoch`].
    ///
    /// # Errors
    ///
    /// [`SealError`]; nothing was signed that could be used.
    pub fn seal(&self, statement: &Statement) -> Result<Sealed, SealError> {
        check_numbers(statement)?;
        // The schema declares its fields in RFC 8785 order, so this is the canonical form; a property test holds it.
        let mut payload = Vec::with_capacity(STATEMENT_BYTES);
        serde_json::to_writer(&mut payload, statement).map_err(SealError::Json)?;
        let signature = self.key.sign(&pae(PAYLOAD_TYPE, &payload)).ok_or(SealError::Sign)?;
        let bytes = Envelope { payload, key_id: self.key_id.clone(), signature }.to_leaf();
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(SealError::TooLong(bytes.len()));
        }
        Ok(Sealed { hash: leaf_hash(&bytes), bytes })
    }
}

fn check_numbers(statement: &Statement) -> Result<(), SealError> {
    let predicate = &statement.predicate;
    let outcome = predicate.outcome.as_ref();
    let numbers = [
        ("context.actionCount", predicate.context.as_ref().map(|context| context.action_count)),
        ("decision.budgetMs", predicate.decision.as_ref().map(|decision| decision.budget_ms)),
        ("gap.count", predicate.gap.as_ref().map(|gap| gap.count)),
        ("outcome.durationMs", outcome.and_then(|outcome| outcome.duration_ms)),
        ("outcome.outputBytes", outcome.map(|outcome| outcome.output_bytes)),
        ("policyChange.policies", predicate.policy_change.as_ref().map(|change| change.policies)),
        ("session.seq", Some(predicate.session.seq)),
    ];
    let above = numbers.iter().find(|(_, number)| number.is_some_and(|number| number > INTEGER_MAX));
    above.map_or(Ok(()), |(name, _)| Err(SealError::Number(name)))
}
