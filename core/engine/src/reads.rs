//! Which parts of the context a policy reads, told from its JSON form.

use std::collections::BTreeMap;

use serde_json::Value;

/// Dotted context paths, for example `session.labels`, and whether the policy tests the path with `has`. The
/// empty path means that the policy reads the context as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads(BTreeMap<String, bool>);

impl Reads {
    /// Walks a policy's JSON form. The walk keeps its own stack: long chains of `&&` nest deeply.
    pub(crate) fn of(policy: &Value) -> Self {
        let mut reads = Self::default();
        let mut stack: Vec<&Value> = policy.get("conditions").into_iter().collect();
        while let Some(node) = stack.pop() {
            match node {
                Value::Array(items) => stack.extend(items),
                Value::Object(map) => match Access::of(node) {
                    Some((access, Some(mut path))) => {
                        for attribute in access.attributes {
                            path = join(&path, attribute);
                            *reads.0.entry(path.clone()).or_default() |= access.tested;
                        }
                    }
                    Some((access, None)) => stack.push(access.left),
                    None if is_context(node) => {
                        reads.0.insert(String::new(), false);
                    }
                    None => match map.get("Record") {
                        Some(Value::Object(fields)) => stack.extend(fields.values()),
                        _ if map.contains_key("Value") => {}
                        _ => stack.extend(map.values()),
                    },
                },
                _ => {}
            }
        }
        reads
    }

    /// Every path, in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Paths that the policy relies on without a `has`.
    pub(crate) fn relied_on(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, tested)| !**tested).map(|(path, _)| path.as_str())
    }
}

fn join(path: &str, attribute: &str) -> String {
    if path.is_empty() { attribute.to_owned() } else { format!("{path}.{attribute}") }
}

/// Whether reading `path` makes a policy read `attribute`: they are the same, or one lies within the other.
pub(crate) fn covers(path: &str, attribute: &str) -> bool {
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    path.is_empty() || within(path, attribute) || within(attribute, path)
}

/// `left.attribute`, `left has attribute` or `left has attribute.attribute`.
struct Access<'a> {
    attributes: Vec<&'a str>,
    left: &'a Value,
    tested: bool,
}

impl<'a> Access<'a> {
    /// The access that `node` is, if it is one, and the path of its left side, if that begins at the context.
    fn of(node: &'a Value) -> Option<(Self, Option<String>)> {
        let access = Self::shallow(node)?;
        let mut names = Vec::new();
        let mut left = access.left;
        while let Some(inner) = Self::shallow(left).filter(|inner| !inner.tested) {
            names.extend(inner.attributes);
            left = inner.left;
        }
        names.reverse();
        Some((access, is_context(left).then(|| names.join("."))))
    }

    fn shallow(node: &'a Value) -> Option<Self> {
        let (parts, tested) = match (node.get("."), node.get("has")) {
            (Some(parts), None) => (parts, false),
            (None, Some(parts)) => (parts, true),
            _ => return None,
        };
        let attributes: Option<Vec<&str>> = match parts.get("attr")? {
            Value::Array(names) => names.iter().map(Value::as_str).collect(),
            name => name.as_str().map(|name| vec![name]),
        };
        Some(Self { attributes: attributes?, left: parts.get("left")?, tested })
    }
}

fn is_context(node: &Value) -> bool {
    node.get("Var").and_then(Value::as_str) == Some("context")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(condition: &str, want: &[(&str, bool)]) {
        let text = format!("forbid (principal, action, resource) when {{ {condition} }};");
        let policy = cedar_policy::Policy::parse(None, text).unwrap().to_json().unwrap();
        let want: BTreeMap<String, bool> = want.iter().map(|(path, t)| ((*path).to_owned(), *t)).collect();
        assert_eq!(Reads(want), Reads::of(&policy), "{condition}");
    }

    #[test]
    fn every_path_is_found_wherever_it_hides() {
        check("context.session.actionCount > 3", &[("session.actionCount", false)]);
        check("{Value: context.a}.Value && {\".\": context.b}[\".\"]", &[("a", false), ("b", false)]);
        check(
            "if context.a then [context.b].contains(1) else context.c like \"x*\"",
            &[("a", false), ("b", false), ("c", false)],
        );
        check("ip(\"::1\").isInRange(ip(\"::1\")) && \"context.a\" == \"b\"", &[]);
    }

    #[test]
    fn a_has_marks_the_path_as_tested() {
        check(
            "context.session has request && context.session.request == \"x\"",
            &[("session.request", true)],
        );
        check("context has session.request", &[("session", true), ("session.request", true)]);
    }

    #[test]
    fn the_bare_context_reads_everything() {
        check("context == {a: 1}", &[("", false)]);
        assert!(covers("", "session.labels") && covers("session", "session.labels"));
        assert!(!covers("session", "sessions.labels") && !covers("facets.host", "facets.hosts"));
    }
}
