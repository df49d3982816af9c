//! The vendors.
