//! The base policies and their test cases, as `countersign init` writes them.

/// Path under `policies/`, and content.
pub(crate) const BASE: &[(&str, &str)] = &[
    ("base/allow.cedar", include_str!("../../../policies/base/allow.cedar")),
    ("base/deploy.cedar", include_str!("../../../policies/base/deploy.cedar")),
    ("base/egress.cedar", include_str!("../../../policies/base/egress.cedar")),
    ("base/hooks.cedar", include_str!("../../../policies/base/hooks.cedar")),
    ("base/identity.cedar", include_str!("../../../policies/base/identity.cedar")),
    ("base/limits.cedar", include_str!("../../../policies/base/limits.cedar")),
    ("base/money.cedar", include_str!("../../../policies/base/money.cedar")),
    ("base/secrets.cedar", include_str!("../../../policies/base/secrets.cedar")),
    ("base/shell.cedar", include_str!("../../../policies/base/shell.cedar")),
    ("tests/allow.json", include_str!("../../../policies/tests/allow.json")),
    ("tests/deploy.json", include_str!("../../../policies/tests/deploy.json")),
    ("tests/egress.json", include_str!("../../../policies/tests/egress.json")),
    ("tests/hooks.json", include_str!("../../../policies/tests/hooks.json")),
    ("tests/identity.json", include_str!("../../../policies/tests/identity.json")),
    ("tests/limits.json", include_str!("../../../policies/tests/limits.json")),
    ("tests/money.json", include_str!("../../../policies/tests/money.json")),
    ("tests/secrets.json", include_str!("../../../policies/tests/secrets.json")),
    ("tests/shell.json", include_str!("../../../policies/tests/shell.json")),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_base_policy_and_case_is_built_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
        let mut there = BTreeSet::new();
        for (folder, extension) in [("base", "cedar"), ("tests", "json")] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|found| found == extension) {
                    there.insert(format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap()));
                }
            }
        }
        let built_in: BTreeSet<String> = BASE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(there, built_in);
    }
}
