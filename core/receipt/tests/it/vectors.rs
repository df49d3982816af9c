//! Published vectors; `fixtures/vectors/README.md` says whose.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_receipt::{LeafHash, pae, verify_consistency, verify_inclusion};
use serde::Deserialize;
use serde_json::Value;

/// Some probes have hashes of the wrong length, which cannot be expressed here: short ones are filled up with zeros,
/// so that equal ones stay equal; empty and long ones are none.
fn hash(base64: &str) -> Option<LeafHash> {
    let mut bytes = STANDARD.decode(base64).ok().filter(|bytes| !bytes.is_empty())?;
    bytes.resize(bytes.len().max(32), 0);
    bytes.try_into().ok()
}

fn path(proof: Option<Vec<String>>) -> Option<Vec<LeafHash>> {
    proof.unwrap_or_default().iter().map(|text| hash(text)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    file: String,
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[test]
fn inclusion_probes_hold_or_fail_as_published() {
    let probes = include_str!("../../../../fixtures/vectors/merkle/inclusion.json");
    for probe in serde_json::from_str::<Vec<Inclusion>>(probes).unwrap() {
        let holds = match (hash(&probe.leaf_hash), path(probe.proof), hash(&probe.root)) {
            (Some(leaf), Some(path), Some(root)) => {
                verify_inclusion(&leaf, probe.leaf_idx, probe.tree_size, &path, &root).is_ok()
            }
            _ => false,
        };
        assert_eq!(!probe.want_err, holds, "{}", probe.file);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    file: String,
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[test]
fn consistency_probes_hold_or_fail_as_published() {
    let probes = include_str!("../../../../fixtures/vectors/merkle/consistency.json");
    for probe in serde_json::from_str::<Vec<Consistency>>(probes).unwrap() {
        let holds = match (hash(&probe.root1), hash(&probe.root2), path(probe.proof)) {
            (Some(old), Some(new), Some(path)) => {
                verify_consistency(probe.size1, &old, probe.size2, &new, &path).is_ok()
            }
            _ => false,
        };
        assert_eq!(!probe.want_err, holds, "{}", probe.file);
    }
}

#[test]
fn pae_is_as_published() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../fixtures/vectors/dsse/pae.json")).unwrap();
    for vector in vectors.as_array().unwrap() {
        let text = |key: &str| vector[key].as_str().unwrap();
        assert_eq!(text("pae").as_bytes(), pae(text("payloadType"), text("payload").as_bytes()));
    }
}

#[test]
fn the_canonicaliser_that_judges_us_is_judged_by_the_published_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/vectors/jcs");
    for name in ["arrays", "french", "structures", "unicode", "values", "weird"] {
        let read = |side: &str| std::fs::read(format!("{folder}/{side}/{name}.json")).unwrap();
        let value: Value = serde_json::from_slice(&read("input")).unwrap();
        let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
        assert_eq!(
            String::from_utf8(read("output")).unwrap().trim_end(),
            String::from_utf8(canonical).unwrap()
        );
    }
}
