//! Identifiers: a prefix that says what it names, and 26 Crockford base32 digits.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;
/// Every prefix has three letters.
const LENGTH: usize = 3 + 1 + DIGITS;

/// The text is not an identifier of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an identifier of the form {prefix}_ and 26 base32 digits")]
pub struct IdError {
    prefix: &'static str,
    text: String,
}

/// The text of an identifier, in place: decisions handle dozens of them.
type Text = [u8; LENGTH];

fn encode(prefix: &str, mut bits: u128) -> Text {
    let mut text = [b'_'; LENGTH];
    text[..3].copy_from_slice(&prefix.as_bytes()[..3]);
    for digit in text[4..].iter_mut().rev() {
        *digit = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    text
}

/// Whether it is one of [`ALPHABET`]. Contexts hold dozens of ids and are read for every decision.
fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z') && !matches!(byte, b'i' | b'l' | b'o' | b'u')
}

fn check(prefix: &'static str, text: &str) -> Result<Text, IdError> {
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    match digits {
        Some(digits) if digits.bytes().all(is_digit) => text.as_bytes().try_into().ok(),
        _ => None,
    }
    .ok_or_else(|| IdError { prefix, text: text.to_owned() })
}

/// 128 bits that only these inputs give, in this order. Each part is length-prefixed, so `["ab", "c"]` and
/// `["a", "bc"]` differ.
fn derive(parts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    digest.iter().take(16).fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
}

macro_rules! id {
    ($(#[doc = $doc:literal])* $name:ident, $prefix:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            /// What every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new identifier that sorts by time: UUIDv7 bits (RFC 9562), so that indexes over it grow at one end.
            #[must_use]
            pub fn at(now: Timestamp) -> Self {
                let ms = u64::try_from(now.0).unwrap_or(0);
                let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
                let time = uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, nanos);
                Self(encode($prefix, uuid::Uuid::new_v7(time).as_u128()))
            }

            /// The identifier that these parts always give.
            #[must_use]
            pub fn derived(parts: &[&str]) -> Self {
                Self(encode($prefix, derive(parts)))
            }

            /// The text form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // Digits and a prefix: never anything but ASCII.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.as_str()).finish()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                false
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                schemars::json_schema!({
                    "description": concat!($($doc),*).trim(),
                    "type": "string",
                    "pattern": format!("^{}_[0-9a-hjkmnp-tv-z]{{{DIGITS}}}$", $prefix),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check($prefix, text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Names one attempted action. Derived from connector, tenant, session and call id, so that the hook
    /// before a call and the report after it name the same action.
    ActionId,
    "act"
);
id!(
    /// Names one receipt.
    ReceiptId,
    "rcp"
);
id!(
    /// Names one session of one agent. Derived from connector, tenant and the vendor's own session id.
    SessionId,
    "ses"
);
id!(
    /// Names one question put to a person, or one deferral. It is the ticket an agent is told.
    ApprovalId,
    "apr"
);
id!(
    /// Names one permission to retry one exact action.
    GrantId,
    "grt"
);
id!(
    /// Names one break-glass.
    BreakGlassId,
    "bgl"
);
id!(
    /// Names one callback that has to reach a vendor.
    OutboxId,
    "out"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = ReceiptId::at(Timestamp(1_795_451_000_123));
        assert_eq!(Ok(id.clone()), id.as_str().parse());
        for wrong in [
            "",
            "rcp_",
            "act_00000000000000000000000000",
            "rcp_0000000000000000000000000U",
            &id.as_str()[..29],
        ] {
            assert!(wrong.parse::<ReceiptId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_digits_are_the_alphabet() {
        assert!((0..=u8::MAX).all(|byte| is_digit(byte) == ALPHABET.contains(&byte)));
    }

    #[test]
    fn later_ids_sort_later() {
        assert!(ReceiptId::at(Timestamp(1_000)) < ReceiptId::at(Timestamp(2_000)));
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(ActionId::derived(&["ab", "c"]), ActionId::derived(&["a", "bc"]));
        assert_eq!(ActionId::derived(&["ab", "c"]), ActionId::derived(&["ab", "c"]));
    }
}
