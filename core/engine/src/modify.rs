//! `@modify`: RFC 6902 patches on an action's parameters.

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::{Map, Value};

/// More operations than this in one patch belong in the tool, not in a policy.
const OPERATIONS_MAX: usize = 32;

/// A patch and what it touches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Edit {
    patch: Patch,
    paths: Vec<Vec<String>>,
}

impl Edit {
    /// Reads a JSON Patch document. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let patch: Patch =
            serde_json::from_str(text).map_err(|error| format!("is not an RFC 6902 patch: {error}"))?;
        if patch.0.is_empty() || patch.0.len() > OPERATIONS_MAX {
            return Err(format!("must have 1 to {OPERATIONS_MAX} operations, not {}", patch.0.len()));
        }
        let paths: Vec<Vec<String>> =
            patch.0.iter().flat_map(|operation| touched(operation).map(tokens)).collect();
        if paths.iter().any(Vec::is_empty) {
            return Err("must name members of the parameters, not the parameters as a whole".to_owned());
        }
        Ok(Self { patch, paths })
    }

    /// The parameters after the patch. The error never repeats a parameter's value.
    pub(crate) fn apply(&self, parameters: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut changed = Value::Object(parameters.clone());
        json_patch::patch(&mut changed, &self.patch)
            .map_err(|error| format!("operation {} of its patch does not apply", error.operation))?;
        match changed {
            Value::Object(changed) => Ok(changed),
            _ => Err("its patch leaves no object".to_owned()),
        }
    }

    /// Whether the parameters are already as the patch wants them.
    pub(crate) fn is_fulfilled_by(&self, parameters: &Map<String, Value>) -> bool {
        self.apply(parameters).is_ok_and(|changed| changed == *parameters)
    }

    /// Whether the two touch nothing in common, so that their order does not matter.
    pub(crate) fn is_disjoint_from(&self, other: &Self) -> bool {
        self.paths.iter().all(|path| other.paths.iter().all(|other| !overlap(path, other)))
    }
}

fn touched(operation: &PatchOperation) -> impl Iterator<Item = &Pointer> {
    let from = match operation {
        PatchOperation::Move(operation) => Some(&*operation.from),
        PatchOperation::Copy(operation) => Some(&*operation.from),
        _ => None,
    };
    [Some(operation.path()), from].into_iter().flatten()
}

fn tokens(pointer: &Pointer) -> Vec<String> {
    pointer.tokens().map(|token| token.decoded().into_owned()).collect()
}

/// Whether one path contains the other. Two places of one array overlap as well, because adding or removing an
/// element moves the ones behind it.
fn overlap(a: &[String], b: &[String]) -> bool {
    let index = |token: &str| token == "-" || token.bytes().all(|byte| byte.is_ascii_digit());
    match a.iter().zip(b).find(|(a, b)| a != b) {
        None => true,
        Some((a, b)) => index(a) && index(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(path: &str) -> Edit {
        Edit::parse(&format!(r#"[{{"op":"add","path":"{path}","value":1}}]"#)).unwrap()
    }

    #[test]
    fn patches_overlap_when_one_contains_the_other_or_both_are_in_one_array() {
        for (a, b, disjoint) in [
            ("/a", "/b", true),
            ("/a/x", "/a/y", true),
            ("/a", "/a/x", false),
            ("/a", "/ab", true),
            ("/a/0", "/a/1", false),
            ("/a/-", "/a/7/x", false),
            ("/a~1b", "/a/b", true),
        ] {
            assert_eq!(disjoint, edit(a).is_disjoint_from(&edit(b)), "{a} {b}");
            assert_eq!(disjoint, edit(b).is_disjoint_from(&edit(a)), "{b} {a}");
        }
    }

    #[test]
    fn a_move_touches_where_it_comes_from() {
        let moved = Edit::parse(r#"[{"op":"move","from":"/a","path":"/b"}]"#).unwrap();
        assert!(!moved.is_disjoint_from(&edit("/a")) && !moved.is_disjoint_from(&edit("/b")));
    }

    #[test]
    fn a_patch_that_does_not_apply_changes_nothing() {
        let parameters = serde_json::json!({"limit": "secret"}).as_object().unwrap().clone();
        let edit = Edit::parse(r#"[{"op":"replace","path":"/limit","value":1},{"op":"remove","path":"/x"}]"#);
        let error = edit.unwrap().apply(&parameters).unwrap_err();
        assert_eq!("operation 1 of its patch does not apply", error);
    }

    #[test]
    fn bad_patches_are_refused() {
        for bad in
            ["", "{}", "[]", r#"[{"op":"replace","path":"","value":{}}]"#, r#"[{"op":"set","path":"/a"}]"#]
        {
            assert!(Edit::parse(bad).is_err(), "{bad}");
        }
    }
}
