//! Any text is scanned without a panic, as text and as a string in JSON; what comes out is bounded and in order.
//!
//! From this folder: `cargo +nightly fuzz run scan ../../../fixtures/classification`.
#![no_main]

use std::sync::LazyLock;

use countersign_classify::Detectors;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static DETECTORS: LazyLock<Detectors> = LazyLock::new(Detectors::builtin);

fuzz_target!(|text: &str| {
    for findings in [DETECTORS.scan(text), DETECTORS.scan_json(&json!({ text: text, "password": [text, 7] }))] {
        assert!(findings.kinds.is_sorted() && findings.signals.is_sorted());
        assert!(findings.kinds.iter().all(|(_, count)| (1..=1_000).contains(count)));
        assert_eq!(findings.kinds.is_empty(), findings.labels.is_empty());
        assert!((0.0..=1.0).contains(&findings.injection_score));
    }
});
