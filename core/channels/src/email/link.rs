//! Signed links: whom they are for, what they answer and when they end, under an HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_sdk::channel::Ask;
use countersign_sdk::schemas::Timestamp;
use countersign_sdk::signature::{equal, hmac_sha256};
use countersign_sdk::{Secret, VerifyError};

/// So that the key's other uses, if it ever gets any, cannot make a link.
const PURPOSE: &[u8] = b"countersign approval link v1\n";
/// A link is a few hundred characters.
const TOKEN_CHARS_MAX: usize = 2_000;

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// When it ends.
    pub(super) expires_at: Timestamp,
    /// What it answers. The reference holds a digest of every question's id and action hash.
    pub(super) reference: String,
    /// The approver's address.
    pub(super) who: String,
}

impl Link {
    pub(super) fn of(ask: &Ask<'_>) -> Self {
        Self {
            expires_at: ask.question.expires_at,
            reference: ask.reference.to_owned(),
            who: ask.to.address.clone(),
        }
    }
}

/// Makes and reads links.
pub(super) struct Links {
    secret: Secret,
    url: String,
}

impl Links {
    pub(super) fn new(secret: Secret, url: String) -> Self {
        Self { secret, url }
    }

    pub(super) fn url(&self, link: &Link) -> String {
        format!("{}/{}", self.url, self.token(link))
    }

    pub(super) fn token(&self, link: &Link) -> String {
        let claims = format!("{}\n{}\n{}", link.expires_at.0, link.reference, link.who);
        let tag = self.tag(claims.as_bytes());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(tag))
    }

    pub(super) fn read(&self, token: &str, now: Timestamp) -> Result<Link, VerifyError> {
        let malformed = || VerifyError::Token("it is not a link of ours".into());
        let parts = token.split_once('.').filter(|_| token.len() <= TOKEN_CHARS_MAX);
        let (claims, tag) = parts.ok_or_else(malformed)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| malformed())?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| malformed())?;
        if !equal(&tag, &self.tag(&claims)) {
            return Err(VerifyError::Mismatch);
        }
        let claims = String::from_utf8(claims).map_err(|_| malformed())?;
        let mut lines = claims.splitn(3, '\n');
        let (Some(until), Some(reference), Some(who)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed());
        };
        let expires_at = Timestamp(until.parse().map_err(|_| malformed())?);
        if expires_at <= now {
            return Err(VerifyError::Token(
                "the link has ended; without an answer the action was denied".into(),
            ));
        }
        Ok(Link { expires_at, reference: reference.to_owned(), who: who.to_owned() })
    }

    fn tag(&self, claims: &[u8]) -> [u8; 32] {
        hmac_sha256(self.secret.expose().as_bytes(), &[PURPOSE, claims])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_until_it_ends_and_no_character_of_it_can_be_changed() {
        let links = Links::new(Secret::new("k".repeat(32)), "https://c.example/channels/email".into());
        let link =
            Link { expires_at: Timestamp(2_000), reference: "obx_1.1.ab".into(), who: "a\nb@x".into() };
        let token = links.token(&link);
        assert_eq!(Ok(link), links.read(&token, Timestamp(1_999)));
        assert!(links.read(&token, Timestamp(2_000)).is_err());
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(links.read(&forged, Timestamp(0)).is_err(), "{forged}");
        }
        let other = Links::new(Secret::new("j".repeat(32)), String::new());
        assert_eq!(Err(VerifyError::Mismatch), other.read(&token, Timestamp(0)));
    }
}
