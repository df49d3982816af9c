//! Makes and checks evidence.

/// RFC 6962 leaf hash or node hash.
pub type LeafHash = [u8; 32];
