//! All that a connector author imports. Start at [`Connector`]; `connectors/README.md` walks through one.
//!
//! A connector translates: it verifies a vendor's request, turns it into [`schemas::Event`]s, and turns what was
//! decided back into the vendor's words. It cannot decide, store, or read the clock, because nothing here lets it.

pub mod channel;
mod connector;
pub mod dialect;
mod error;
pub mod http;
mod inbound;
pub mod jwks;
pub mod naming;
pub mod oauth;
pub mod parse;
pub mod question;
mod registry;
mod secret;
pub mod signature;

pub use connector::{
    CallOutcome, Callback, Connector, Env, Evidence, FAIL_OPEN_SEEN, FailMode, Frame, FrameSpec, Gate,
    GateClass, Held, Manifest, Normalized, Parts, Reply, Said, Site,
};
pub use countersign_schemas as schemas;
pub use dialect::Dialect;
pub use error::{CallError, ConnectError, FetchError, NormalizeError, VerifyError};
pub use inbound::{Caller, Inbound, Unverified, Verified};
pub use registry::{ConnectorSpec, Registry};
pub use secret::{Secret, SecretError, SecretRef};
