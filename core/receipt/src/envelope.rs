//! DSSE v1 envelopes in the one form that a leaf has.
//!
//! Source: secure-systems-lab/dsse, envelope.md and protocol.md, version 1.0.2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_schemas::PAYLOAD_TYPE;

const HEAD: &str = "{\"payload\":\"";
const MIDDLE: &str = "\",\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{\"keyid\":\"";
const SIG: &str = "\",\"sig\":\"";
const TAIL: &str = "\"}]}";
const KEY_ID_CHARS: usize = 64;
const SIGNATURE_CHARS: usize = 88;

/// The bytes that a DSSE signature is over: the type and the payload, each with its length.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let mut bytes = Vec::with_capacity(head.len() + payload.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A leaf is not an envelope in the one form that a leaf has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the RFC 8785 form of an envelope with one signature.
    #[error("not the canonical form of an envelope with one signature")]
    Form,
    /// The payload or the signature is not canonical base64.
    #[error("the payload or the signature is not canonical base64")]
    Base64,
}

/// What a leaf holds. Nothing of it has been checked against a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The statement, in RFC 8785 form.
    pub payload: Vec<u8>,
    /// Lower-hex SHA-256 of the public key that is said to have signed.
    pub key_id: String,
    /// Ed25519, over the [`pae`] of the payload.
    pub signature: [u8; 64],
}

impl Envelope {
    /// Reads a leaf. Its form is fixed to the byte, so it is read by position: whatever this accepts,
    /// [`Envelope::to_leaf`] writes the same again.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`]
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(leaf).map_err(|_| EnvelopeError::Form)?;
        let inner = text.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
        let (rest, sig) = inner.and_then(|rest| rest.rsplit_once(SIG)).ok_or(EnvelopeError::Form)?;
        let (payload, key_id) = rest.rsplit_once(MIDDLE).ok_or(EnvelopeError::Form)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if key_id.len() != KEY_ID_CHARS || !key_id.bytes().all(hex) {
            return Err(EnvelopeError::Form);
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| EnvelopeError::Base64);
        let signature = decode(sig)?.try_into().map_err(|_| EnvelopeError::Base64)?;
        Ok(Self { payload: decode(payload)?, key_id: key_id.to_owned(), signature })
    }

    /// The exact bytes of the leaf: RFC 8785 form of
    /// `{"payload":…,"payloadType":…,"signatures":[{"keyid":…,"sig":…}]}`.
    #[must_use]
    pub fn to_leaf(&self) -> Vec<u8> {
        let fixed = HEAD.len() + MIDDLE.len() + KEY_ID_CHARS + SIG.len() + SIGNATURE_CHARS + TAIL.len();
        let mut leaf = String::with_capacity(fixed + self.payload.len().div_ceil(3) * 4);
        leaf.push_str(HEAD);
        STANDARD.encode_string(&self.payload, &mut leaf);
        leaf.push_str(MIDDLE);
        leaf.push_str(&self.key_id);
        leaf.push_str(SIG);
        STANDARD.encode_string(self.signature, &mut leaf);
        leaf.push_str(TAIL);
        leaf.into_bytes()
    }

    /// The bytes that the signature is over.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        pae(PAYLOAD_TYPE, &self.payload)
    }
}
