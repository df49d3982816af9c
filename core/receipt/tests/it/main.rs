//! What a receipt, a log and an export must hold, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test's helper fails by panicking")]

mod disclosure;
mod seal;
mod support;
mod tamper;
mod tree;
mod vectors;
mod verify;
