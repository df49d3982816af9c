//! Any text is a configuration or is refused with a bounded list of problems, each in one line; what is accepted can be
//! shown, and has the connectors that it names.
//!
//! From `core/service/`: `cargo +nightly fuzz run config fuzz/corpus/config ../../fixtures/config`.

#![no_main]

use std::sync::LazyLock;

use countersign_connectors::registry;
use countersign_sdk::Registry;
use countersign_service::config::{check, connector_kind};
use libfuzzer_sys::fuzz_target;

/// A hundred, and one that says that there are more.
const PROBLEMS_MAX: usize = 101;

static REGISTRY: LazyLock<Registry> = LazyLock::new(registry);

fuzz_target!(|text: &str| {
    match check(text, &REGISTRY) {
        Ok(config) => {
            assert!(!format!("{config:?}").is_empty());
            for (name, section) in &config.connectors {
                assert!(REGISTRY.get(connector_kind(name, section)).is_some());
            }
        }
        Err(problems) => {
            assert!((1..=PROBLEMS_MAX).contains(&problems.len()));
            for problem in problems {
                let line = problem.to_string();
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
});
