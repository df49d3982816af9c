//! One delivery. Whether it was verified is in its type, so an unverified one cannot be normalised.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

use crate::VerifyError;
use crate::schemas::{Assurance, Timestamp};

/// Marks a delivery that nothing is known about.
#[derive(Clone, Copy, Debug)]
pub struct Unverified;

/// Marks a delivery whose sender was verified, and says who it is.
#[derive(Clone, Debug)]
pub struct Verified(Caller);

/// The verified sender.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caller {
    /// How far the identity in the request can be believed.
    pub assurance: Assurance,
    /// Claims of a verified token, else empty.
    pub claims: Map<String, Value>,
    /// The name of the credential that matched, for example a device or team, never the credential.
    pub name: Option<String>,
    /// What checked it, for example `standard-webhooks`.
    pub verified_by: &'static str,
}

/// One inbound HTTP request.
#[derive(Clone, Debug)]
pub struct Inbound<State = Unverified> {
    /// The raw body: signatures are over these bytes.
    pub body: Bytes,
    /// The headers.
    pub headers: HeaderMap,
    /// What follows `/hooks/<instance>` in the path, without a leading slash; empty for the bare URL.
    pub path: String,
    /// The query string, without `?`; empty when there is none.
    pub query: String,
    /// When the request was received.
    pub received_at: Timestamp,
    state: State,
}

impl Inbound<Unverified> {
    /// A request as it came off the wire.
    #[must_use]
    pub fn new(path: String, query: String, headers: HeaderMap, body: Bytes, received_at: Timestamp) -> Self {
        Self { body, headers, path, query, received_at, state: Unverified }
    }

    /// The same request, verified.
    ///
    /// # Errors
    ///
    /// What `check` says.
    pub fn verified_by(
        self,
        check: impl FnOnce(&Self) -> Result<Caller, VerifyError>,
    ) -> Result<Inbound<Verified>, VerifyError> {
        let caller = check(&self)?;
        Ok(self.with(Verified(caller)))
    }

    /// Takes the sender on trust: for looking at recorded requests offline, whose signatures are long stale.
    #[must_use]
    pub fn assume_verified(self, caller: Caller) -> Inbound<Verified> {
        self.with(Verified(caller))
    }
}

impl<State> Inbound<State> {
    fn with<Next>(self, state: Next) -> Inbound<Next> {
        let Self { body, headers, path, query, received_at, state: _ } = self;
        Inbound { body, headers, path, query, received_at, state }
    }

    /// A header's text, or `None` when it is absent or not visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A header's text.
    ///
    /// # Errors
    ///
    /// [`VerifyError::MissingHeader`] when it is absent, [`VerifyError::MalformedHeader`] when it is not visible
    /// ASCII or given more than once.
    pub fn require_header(&self, name: &'static str) -> Result<&str, VerifyError> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().ok_or(VerifyError::MissingHeader(name))?;
        if values.next().is_some() {
            return Err(VerifyError::MalformedHeader(name));
        }
        value.to_str().map_err(|_| VerifyError::MalformedHeader(name))
    }
}

impl Inbound<Verified> {
    /// Asks again whether the sender is to be believed: it may not be any more by the time of a late answer.
    ///
    /// # Errors
    ///
    /// What `check` says.
    pub fn check_again(
        &self,
        check: impl FnOnce(&Inbound<Unverified>) -> Result<Caller, VerifyError>,
    ) -> Result<Caller, VerifyError> {
        check(&self.clone().with(Unverified))
    }

    /// The same delivery with what it left out.
    #[must_use]
    pub fn completed(&self, body: Vec<u8>) -> Self {
        Self { body: body.into(), ..self.clone() }
    }

    /// Who sent it.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.state.0
    }
}
