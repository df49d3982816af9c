//! Any text is loaded or refused with a reason; what was loaded decides without a panic.
//!
//! From this folder: `cargo +nightly fuzz run load ../../../policies/base`.
#![no_main]

use countersign_engine::cases::{Cases, run};
use countersign_engine::{Options, Policies, PolicySource};
use libfuzzer_sys::fuzz_target;

const CASES: &str = r#"{"cases": [
    {"name": "n", "action": {"effect": "execute", "tool": "a/-/b"}, "expect": {"verdict": "DENY"}}
]}"#;

fuzz_target!(|text: &str| {
    let source = PolicySource { name: "fuzz.cedar".to_owned(), text: text.to_owned() };
    match Policies::load(&[source], Options::default()) {
        Err(errors) => assert!(!errors.0.is_empty() && !errors.to_string().is_empty()),
        Ok(policies) => {
            let cases: Cases = serde_json::from_str(CASES).expect("the cases are well formed");
            let _report = run(&policies, &cases);
        }
    }
});
