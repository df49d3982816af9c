//! What the crate shows to its callers, over files that anybody can extend.
#![expect(clippy::unwrap_used, reason = "clippy.toml allows it in tests, which does not cover their helpers")]

mod catalogue;
mod corpus;
mod properties;
