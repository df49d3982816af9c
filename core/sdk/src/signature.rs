//! Signature checks, each over raw bytes and in constant time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::schemas::Timestamp;
use crate::{Inbound, Secret, Unverified, VerifyError};

/// How far a Standard Webhooks timestamp may be from our clock, either way.
/// Source: Standard Webhooks 1.0.0, "Verifying webhook authenticity"; Anthropic's inference hooks use the same.
pub const STANDARD_WEBHOOKS_TOLERANCE: Duration = Duration::from_secs(300);

/// Refuses a signature made too long ago, or too far ahead. `signed_at` is the vendor's own claim, so check the
/// signature over it first.
///
/// # Errors
///
/// [`VerifyError::Stale`] when the two times differ by more than `tolerance`.
pub fn check_age(signed_at: Timestamp, now: Timestamp, tolerance: Duration) -> Result<(), VerifyError> {
    let age = signed_at.until(now).max(now.until(signed_at));
    if age > tolerance {
        return Err(VerifyError::Stale { age_s: age.as_secs(), max_s: tolerance.as_secs() });
    }
    Ok(())
}

/// HMAC-SHA256 of `parts`, one after the other.
#[must_use]
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length (RFC 2104 section 2); the error type exists for other MACs.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The key bytes of a Standard Webhooks secret: `whsec_` and standard base64.
///
/// # Errors
///
/// A sentence that says what is wrong with it, without the secret.
pub fn standard_webhooks_key(secret: &Secret) -> Result<Vec<u8>, String> {
    let text = secret.expose().strip_prefix("whsec_").unwrap_or(secret.expose());
    let key = STANDARD.decode(text).map_err(|_| "is not `whsec_` followed by standard base64".to_owned())?;
    // The specification asks for 24 to 64 bytes; an empty key would accept anybody.
    if key.len() < 16 { Err("holds fewer than 16 bytes of key".to_owned()) } else { Ok(key) }
}

/// Checks the Standard Webhooks headers against any of `keys` (two during a rotation), then the age.
/// Returns `webhook-id`, which is signed and so may serve as idempotency key.
///
/// # Errors
///
/// [`VerifyError`] for a missing or malformed header, a signature that none of the keys made, or a stale time.
pub fn standard_webhooks<'r>(
    request: &'r Inbound<Unverified>,
    keys: &[Vec<u8>],
    now: Timestamp,
) -> Result<&'r str, VerifyError> {
    let id = request.require_header("webhook-id")?;
    let time = request.require_header("webhook-timestamp")?;
    let signatures = request.require_header("webhook-signature")?;
    let seconds: i64 = time.parse().map_err(|_| VerifyError::MalformedHeader("webhook-timestamp"))?;
    if id.is_empty() || id.contains('.') || id.len() > 256 {
        return Err(VerifyError::MalformedHeader("webhook-id"));
    }
    let mut genuine = false;
    for key in keys {
        let want = hmac_sha256(key, &[id.as_bytes(), b".", time.as_bytes(), b".", &request.body]);
        for signature in signatures.split(' ').filter_map(|entry| entry.strip_prefix("v1,")) {
            let given = STANDARD.decode(signature).unwrap_or_default();
            genuine |= equal(&given, &want);
        }
    }
    if !genuine {
        return Err(VerifyError::Mismatch);
    }
    check_age(Timestamp::from_unix_seconds(seconds), now, STANDARD_WEBHOOKS_TOLERANCE)?;
    Ok(id)
}

/// The three Standard Webhooks headers for a body that we send or record.
#[must_use]
pub fn sign_standard_webhooks(
    key: &[u8],
    id: &str,
    now: Timestamp,
    body: &[u8],
) -> [(&'static str, String); 3] {
    let time = now.unix_seconds().to_string();
    let tag = hmac_sha256(key, &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", time),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(tag))),
    ]
}

/// Checks `sha256=<lower hex>` of HMAC-SHA256 over the body, as GitHub's `X-Hub-Signature-256` has it.
///
/// # Errors
///
/// [`VerifyError`] for a missing or malformed header, or a signature that none of the secrets made.
pub fn hub_sha256(
    request: &Inbound<Unverified>,
    header: &'static str,
    secrets: &[Secret],
) -> Result<(), VerifyError> {
    let value = request.require_header(header)?;
    let given = value.strip_prefix("sha256=").ok_or(VerifyError::MalformedHeader(header))?;
    let given = hex::decode(given).map_err(|_| VerifyError::MalformedHeader(header))?;
    let mut genuine = false;
    for secret in secrets {
        genuine |= equal(&given, &hmac_sha256(secret.expose().as_bytes(), &[&request.body]));
    }
    if genuine { Ok(()) } else { Err(VerifyError::Mismatch) }
}

/// Static bearer tokens by name. They are compared by digest, so the time tells nothing about their content.
pub struct Bearers(Vec<(String, [u8; 32])>);

impl Bearers {
    /// From names and tokens.
    #[must_use]
    pub fn new(tokens: impl IntoIterator<Item = (String, Secret)>) -> Self {
        let digest = |secret: Secret| Sha256::digest(secret.expose().as_bytes()).into();
        Self(tokens.into_iter().map(|(name, secret)| (name, digest(secret))).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the token in `Authorization: Bearer`.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] when the header is missing or malformed, or the token is none of these.
    pub fn check(&self, request: &Inbound<Unverified>) -> Result<&str, VerifyError> {
        self.name_of(bearer(request)?)
    }

    /// The name of this token, which came in a header of the vendor's own choice.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Mismatch`] when the token is none of these.
    pub fn name_of(&self, token: &str) -> Result<&str, VerifyError> {
        let given: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for (name, want) in &self.0 {
            if equal(&given, want) {
                found = Some(name.as_str());
            }
        }
        found.ok_or(VerifyError::Mismatch)
    }
}

/// The token in `Authorization: Bearer`.
///
/// # Errors
///
/// [`VerifyError`] when the header is missing or of another scheme.
pub fn bearer(request: &Inbound<Unverified>) -> Result<&str, VerifyError> {
    let value = request.require_header("authorization")?;
    let (scheme, token) = value.split_once(' ').ok_or(VerifyError::MalformedHeader("authorization"))?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(VerifyError::MalformedHeader("authorization"));
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn request(headers: &[(&'static str, &str)], body: &'static [u8]) -> Inbound {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Inbound::new(String::new(), String::new(), map, Bytes::from_static(body), Timestamp(0))
    }

    /// Vector of the Standard Webhooks repository, `libraries/*/test*`.
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const HEADERS: [(&str, &str); 3] = [
        ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
        ("webhook-timestamp", "1649367553"),
        ("webhook-signature", "v1a,AAAA v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
    ];

    #[track_caller]
    fn check(secrets: &[&str], now_s: i64, body: &'static [u8], want: Result<&str, VerifyError>) {
        let keys: Vec<_> = secrets.iter().map(|s| standard_webhooks_key(&Secret::new(*s)).unwrap()).collect();
        assert_eq!(
            want,
            standard_webhooks(&request(&HEADERS, body), &keys, Timestamp::from_unix_seconds(now_s))
        );
    }

    #[test]
    fn the_published_standard_webhooks_vector_is_accepted() {
        check(&[SECRET], 1_649_367_553, BODY, Ok("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"));
    }

    #[test]
    fn either_secret_is_accepted_during_a_rotation() {
        let other = "whsec_ZHVtbXktdGVzdC1zZWNyZXQtMzItYnl0ZXMtbG9uZyEh";
        check(&[other, SECRET], 1_649_367_553, BODY, Ok("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"));
        check(&[other], 1_649_367_553, BODY, Err(VerifyError::Mismatch));
    }

    #[test]
    fn one_byte_more_is_forged_and_one_second_more_is_stale() {
        check(&[SECRET], 1_649_367_553, b"x", Err(VerifyError::Mismatch));
        check(&[SECRET], 1_649_367_853, BODY, Ok("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"));
        check(&[SECRET], 1_649_367_854, BODY, Err(VerifyError::Stale { age_s: 301, max_s: 300 }));
        check(&[SECRET], 1_649_367_252, BODY, Err(VerifyError::Stale { age_s: 301, max_s: 300 }));
    }

    #[test]
    fn what_we_sign_we_accept() {
        let key = standard_webhooks_key(&Secret::new(SECRET)).unwrap();
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let signed = sign_standard_webhooks(&key, "msg_1", now, b"hello");
        let headers: Vec<_> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(Ok("msg_1"), standard_webhooks(&request(&headers, b"hello"), &[key], now));
    }

    /// Vector of GitHub's "Validating webhook deliveries".
    #[test]
    fn the_published_github_vector_is_accepted() {
        let tag = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let secrets = [Secret::new("old"), Secret::new("It's a Secret to Everybody")];
        let header = "x-hub-signature-256";
        assert_eq!(Ok(()), hub_sha256(&request(&[(header, tag)], b"Hello, World!"), header, &secrets));
        assert_eq!(
            Err(VerifyError::Mismatch),
            hub_sha256(&request(&[(header, tag)], b"Hello, World?"), header, &secrets)
        );
    }

    #[test]
    fn a_bearer_token_is_known_by_its_name() {
        let bearers = Bearers::new([("team-a".to_owned(), Secret::new("s3cret"))]);
        assert_eq!(Ok("team-a"), bearers.check(&request(&[("authorization", "Bearer s3cret")], b"")));
        assert_eq!(
            Err(VerifyError::Mismatch),
            bearers.check(&request(&[("authorization", "bearer s3creT")], b""))
        );
        assert_eq!(
            Err(VerifyError::MalformedHeader("authorization")),
            bearers.check(&request(&[("authorization", "Basic s3cret")], b""))
        );
        assert_eq!(Err(VerifyError::MissingHeader("authorization")), bearers.check(&request(&[], b"")));
    }
}
