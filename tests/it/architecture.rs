//! Which way things may point. The arrows are in docs/ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may know of ours.
const MAY_KNOW: [(&str, &[&str]); 14] = [
    ("schemas", &[]),
    ("sdk", &["schemas"]),
    ("classify", &[]),
    ("drift", &["schemas"]),
    ("facets", &["schemas"]),
    ("engine", &["schemas"]),
    ("receipt", &["schemas"]),
    ("store", &["receipt", "schemas"]),
    ("export", &["receipt", "schemas"]),
    ("hook", &["sdk"]),
    ("connectors", &["schemas", "sdk"]),
    ("channels", &["schemas", "sdk"]),
    ("service", &["classify", "drift", "engine", "facets", "receipt", "schemas", "sdk", "store"]),
    (
        "cli",
        &[
            "channels",
            "connectors",
            "engine",
            "export",
            "hook",
            "receipt",
            "schemas",
            "sdk",
            "service",
            "store",
        ],
    ),
];

/// Crates of others that only one of ours may use.
const OWNED: [(&str, &[&str]); 8] = [
    ("rusqlite", &["store"]),
    ("cedar-policy", &["engine"]),
    ("lettre", &["channels"]),
    ("octocrab", &["connectors"]),
    ("hyper-util", &["service"]),
    ("reqwest", &["sdk", "connectors", "service", "cli"]),
    ("clap", &["cli"]),
    ("ureq", &["hook"]),
];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |package: &Value| {
        let name = package["name"].as_str().unwrap().trim_start_matches("countersign-").to_owned();
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|of| of["kind"].is_null());
        (name, normal.map(|of| of["name"].as_str().unwrap().to_owned()).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[test]
fn no_crate_knows_what_it_must_not() {
    for (name, known) in dependencies() {
        let Some((_, may)) = MAY_KNOW.iter().find(|(of, _)| *of == name) else {
            panic!("`{name}` has no arrows yet")
        };
        let ours: Vec<_> = known.iter().filter_map(|other| other.strip_prefix("countersign-")).collect();
        let wrong: Vec<_> = ours.iter().filter(|other| !may.contains(other)).collect();
        assert!(wrong.is_empty(), "`{name}` must not know {wrong:?}");
    }
}

#[test]
fn what_one_crate_is_for_no_other_uses() {
    let all = dependencies();
    for (theirs, ours) in OWNED {
        let users: Vec<_> =
            all.iter().filter(|(_, known)| known.contains(theirs)).map(|(name, _)| name.as_str()).collect();
        let wrong: Vec<_> = users.iter().filter(|user| !ours.contains(user)).collect();
        assert!(wrong.is_empty(), "{wrong:?} must not use `{theirs}`");
    }
}
