//! Reading bodies: bounded depth, kept unknown fields.

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::NormalizeError;
use crate::schemas::Human;

/// Reads a JSON object. serde_json refuses nesting beyond 128, so depth is bounded; the service bounds the size.
///
/// # Errors
///
/// [`NormalizeError`] when it is not a JSON object; the text never repeats the content.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, NormalizeError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(NormalizeError::unreadable("the body is JSON but not an object")),
        Err(error) => Err(NormalizeError::unreadable(format!(
            "the body is not JSON: {:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ))),
    }
}

/// Takes a string field out of `map`; `None` when it is absent, null or not a string.
#[must_use]
pub fn take_string(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.get(key) {
        Some(Value::String(_)) => match map.shift_remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        Some(Value::Null) => {
            let _null = map.shift_remove(key);
            None
        }
        _ => None,
    }
}

/// RFC 8785 text of a JSON value.
#[must_use]
pub fn canonical(value: &impl Serialize) -> String {
    // Fails only for non-finite numbers, which serde_json's Value cannot hold.
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// SHA-256 in lower hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Digest (SHA-256, lower hex) and size in bytes of a tool's output: a text as its UTF-8 bytes, anything else in its
/// RFC 8785 form, so that whoever holds the output can compute both again.
#[must_use]
pub fn output_digest(output: &Value) -> (String, u64) {
    let structured;
    let text = match output {
        Value::String(text) => text,
        other => {
            structured = canonical(other);
            &structured
        }
    };
    (sha256_hex(text.as_bytes()), u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// The longest beginning of `text` that has at most `chars_max` characters.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

/// A person whom somebody calls `name`. An e-mail address is personal data and must not become an id, which goes into
/// the log: then the id is `email-` and the SHA-256 of the address in lower case.
#[must_use]
pub fn human(name: &str) -> Human {
    if name.contains('@') {
        let email = name.to_lowercase();
        Human { id: format!("email-{}", sha256_hex(email.as_bytes())), email: Some(email), name: None }
    } else {
        Human { id: name.to_owned(), email: None, name: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (chars_max, want) in
            [(0, ""), (1, "é"), (2, "é\u{1F512}"), (3, "é\u{1F512}x"), (4, "é\u{1F512}x")]
        {
            assert_eq!(want, cut("é\u{1F512}x", chars_max));
        }
    }

    #[test]
    fn an_address_never_becomes_an_id() {
        let ann = human("Ann@Example.com");
        assert_eq!(ann, human("ann@example.com"));
        assert_eq!(Some("ann@example.com"), ann.email.as_deref());
        assert!(!ann.id.contains("example"), "{}", ann.id);
        assert_eq!("u-1", human("u-1").id);
    }

    #[test]
    fn an_output_is_digested_as_text_or_in_its_canonical_form() {
        assert_eq!((sha256_hex(b"ok"), 2), output_digest(&Value::from("ok")));
        let written: Value = serde_json::from_str("{\"b\": 1.0, \"a\": null}").unwrap();
        assert_eq!((sha256_hex(b"{\"a\":null,\"b\":1}"), 16), output_digest(&written));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(deep.as_bytes()).is_err());
    }
}
