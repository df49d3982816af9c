//! No text makes the trust file's parser panic, and what it accepts names a log.
#![no_main]

use countersign_receipt::Trust;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(trust) = Trust::from_json(text) {
        assert!(!trust.origin().is_empty());
    }
});
