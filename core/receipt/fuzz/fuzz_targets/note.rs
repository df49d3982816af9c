//! No text makes the note parsers panic, and none is a checkpoint by a key whose owner never signed one.
#![no_main]

use countersign_receipt::{Checkpoint, Vkey};
use libfuzzer_sys::fuzz_target;

/// Published with Go's note package; its private half signed one sentence about cryptography.
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fuzz_target!(|text: &str| {
    let vkey: Vkey = VKEY.parse().expect("a published key");
    assert!(Checkpoint::open(text, &vkey).is_err());
    if let Ok(checkpoint) = Checkpoint::parse_unverified(text) {
        assert!(text.starts_with(&format!("{}\n{}\n", checkpoint.origin, checkpoint.size)));
    }
    if let Ok(key) = text.parse::<Vkey>() {
        assert_eq!(text, key.to_string());
    }
});
