//! The personal part of a receipt, and its salted digest.
//!
//! Source: RFC 9901 section 4.2.1. A disclosure text is base64url of the JSON array `[salt, name, value]`; the leaf
//! carries only base64url of the SHA-256 of that text.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_schemas::{Disclosed, Disclosure, DisclosureMode};
use sha2::{Digest, Sha256};

/// The claim name of every disclosure.
const NAME: &str = "disclosed";

/// A disclosure text cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DisclosureError {
    /// Not base64url without padding.
    #[error("the disclosure is not base64url")]
    Base64,
    /// Not a JSON array of salt, name and content.
    #[error("the disclosure is not a JSON array of salt, `disclosed` and content")]
    Json(#[source] Option<serde_json::Error>),
}

/// Binds `content` to a receipt: what goes into the leaf, and, in mode `committed` only, the disclosure text to keep
/// beside the log. In mode `hashed` nobody can open the digest any more, because the salt is gone with the text.
///
/// `salt` must be fresh randomness, and secret until the content is disclosed; without it, short contents could be
/// guessed. Mode `inline` has no secret to keep: its salt is the empty string, so that everybody can check the digest.
#[must_use]
pub fn disclose(content: &Disclosed, mode: DisclosureMode, salt: [u8; 16]) -> (Disclosure, Option<String>) {
    #[expect(
        clippy::expect_used,
        reason = "maps with text keys always become JSON text; no content, no receipt"
    )]
    let content = serde_json::to_string(content).expect("a disclosed content is JSON");
    if mode == DisclosureMode::Inline {
        let digest = inline_digest(&content);
        return (Disclosure { content: Some(content), digest, mode }, None);
    }
    let text = disclosure_text(&URL_SAFE_NO_PAD.encode(salt), &content);
    let disclosure = Disclosure { content: None, digest: disclosure_digest(&text), mode };
    (disclosure, (mode == DisclosureMode::Committed).then_some(text))
}

/// The digest that a leaf carries for this disclosure text.
#[must_use]
pub fn disclosure_digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

/// Reads the content of a disclosure text. Compare [`disclosure_digest`] with the leaf's first.
///
/// # Errors
///
/// [`DisclosureError`]
pub fn open_disclosure(text: &str) -> Result<Disclosed, DisclosureError> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| DisclosureError::Base64)?;
    let (_, name, content): (String, String, Disclosed) =
        serde_json::from_slice(&json).map_err(|error| DisclosureError::Json(Some(error)))?;
    if name == NAME { Ok(content) } else { Err(DisclosureError::Json(None)) }
}

/// The digest of a content that stands in the leaf itself.
pub(crate) fn inline_digest(content: &str) -> String {
    disclosure_digest(&disclosure_text("", content))
}

fn disclosure_text(salt: &str, content: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("[\"{salt}\",\"{NAME}\",{content}]"))
}
