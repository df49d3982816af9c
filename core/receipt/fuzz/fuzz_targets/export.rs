//! No file makes the offline check panic, and none is verified with keys that never signed anything.
#![no_main]

use countersign_receipt::{Outcome, Trust, VerifyOptions, verify};
use libfuzzer_sys::fuzz_target;

const TRUST: &str = r#"{
  "log": { "vkey": "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW" },
  "receiptKeys": []
}"#;

fuzz_target!(|bytes: &[u8]| {
    let trust = Trust::from_json(TRUST).expect("a published key");
    let kept = [String::from_utf8_lossy(bytes).into_owned()];
    let options = VerifyOptions { kept_checkpoints: &kept, ..VerifyOptions::default() };
    assert_eq!(Outcome::Refuted, verify(bytes, &trust, &options).verdict);
});
