//! One error enum per stage of a connector.

use crate::{Frame, SecretError};

/// The request does not prove where it came from. It is answered 401, counted, and leaves no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header that must be there is not.
    #[error("missing header `{0}`")]
    MissingHeader(&'static str),
    /// A header is not of the form the vendor documents.
    #[error("malformed header `{0}`")]
    MalformedHeader(&'static str),
    /// No configured secret or key made this signature.
    #[error("signature does not match")]
    Mismatch,
    /// The signed time is too far from ours.
    #[error("signed {age_s} s away from our clock, more than {max_s} s")]
    Stale {
        /// How far, in seconds.
        age_s: u64,
        /// How far it may be.
        max_s: u64,
    },
    /// The token is not acceptable; the text never holds the token.
    #[error("token refused: {0}")]
    Token(String),
    /// We hold no key to check the token with (the key endpoint may be down).
    #[error("no key `{0}` to check the token with")]
    NoKey(String),
    /// The caller is genuine but not on the allow list.
    #[error("caller is not allowed: {0}")]
    NotAllowed(String),
}

impl VerifyError {
    /// A short stable word, for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::MalformedHeader(_) => "malformed_header",
            Self::Mismatch => "mismatch",
            Self::Stale { .. } => "stale",
            Self::Token(_) => "token",
            Self::NoKey(_) => "no_key",
            Self::NotAllowed(_) => "not_allowed",
        }
    }
}

/// A verified request that we cannot read. It is answered DENY, in `frame`'s form where that much could be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct NormalizeError {
    /// What kind of answer the vendor waits for, if the request says.
    pub frame: Option<Frame>,
    /// Lower case, no full stop, never the content itself.
    pub reason: String,
}

impl NormalizeError {
    /// Nothing could be read.
    #[must_use]
    pub fn unreadable(reason: impl Into<String>) -> Self {
        Self { frame: None, reason: reason.into() }
    }

    /// The kind of frame is known, its content is not readable.
    #[must_use]
    pub fn in_frame(frame: Frame, reason: impl Into<String>) -> Self {
        Self { frame: Some(frame), reason: reason.into() }
    }
}

/// A connector cannot be built from its settings.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings do not parse: unknown key, wrong type, missing key.
    #[error("{0}")]
    Settings(String),
    /// A secret cannot be read.
    #[error("`{key}`: {source}")]
    Secret {
        /// The settings key.
        key: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// A value parses but makes no sense.
    #[error("`{key}`: {problem}")]
    Value {
        /// The settings key.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// A fetch from a vendor failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host is not on the allow list.
    #[error("host `{0}` is not one we may call; add it to `[egress] allow_hosts`")]
    HostNotAllowed(String),
    /// The URL is not usable.
    #[error("`{0}` is not a usable URL")]
    Url(String),
    /// The exchange failed.
    #[error("{0}")]
    Transport(String),
    /// The answer was not a success.
    #[error("answered {0}")]
    Status(u16),
    /// The answer was not readable.
    #[error("unreadable answer: {0}")]
    Body(String),
}

/// A callback did not go through.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Trying again may help.
    #[error("{0}")]
    Retry(String),
    /// Trying again cannot help; it goes to the dead letters, visibly.
    #[error("{0}")]
    Permanent(String),
}
