//! What a condition always is, told from its JSON form alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Counts that the schema calls `Long` and that are never negative, with the highest value that they can have.
const COUNTS: [(&str, i64); 13] = [
    ("assuranceLevel", 4),
    ("delegationDepth", i64::MAX),
    ("person.deniedCount", i64::MAX),
    ("person.sessions", i64::MAX),
    ("risk.escalation", 4),
    ("session.actionCount", i64::MAX),
    ("session.chainLength", i64::MAX),
    ("session.deniedCount", i64::MAX),
    ("session.failedCount", i64::MAX),
    ("session.lastMinute", i64::MAX),
    ("session.recentDenied", 16),
    ("session.requests", i64::MAX),
    ("session.secondsSinceStart", i64::MAX),
];

/// The parts of a policy's condition that must all hold: what stands between the `&&`s of its `when`s, and the
/// opposite of what stands between the `||`s of its `unless`es.
pub(crate) fn conjuncts(policy: &Value) -> Vec<Value> {
    let conditions = policy.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let mut parts = Vec::new();
    for condition in conditions {
        let Some(body) = condition.get("body") else { continue };
        if condition.get("kind").and_then(Value::as_str) == Some("unless") {
            parts.extend(flat(body, "||").into_iter().map(negated));
        } else {
            parts.extend(flat(body, "&&").into_iter().cloned());
        }
    }
    parts
}

/// The one value that an expression has whenever it can be evaluated; `None` when there may be several.
pub(crate) fn constant(node: &Value) -> Option<Value> {
    if let Some(value) = node.get("Value") {
        return (!value.is_object()).then(|| value.clone());
    }
    let (operator, operands) = node.as_object()?.iter().next()?;
    let side = |name: &str| operands.get(name);
    match operator.as_str() {
        "!" => Some(json!(!constant(side("arg")?)?.as_bool()?)),
        "neg" => Some(json!(constant(side("arg")?)?.as_i64()?.checked_neg()?)),
        "&&" => all(&flat(node, "&&").into_iter().cloned().collect::<Vec<_>>()).map(Value::Bool),
        "||" => {
            let opposites: Vec<Value> = flat(node, "||").into_iter().map(negated).collect();
            all(&opposites).map(|none| json!(!none))
        }
        "if-then-else" => {
            let (then, otherwise) = (side("then")?, side("else")?);
            match constant(side("if")?).and_then(|test| test.as_bool()) {
                Some(true) => constant(then),
                Some(false) => constant(otherwise),
                None => constant(then).filter(|value| Some(value) == constant(otherwise).as_ref()),
            }
        }
        "==" => equal(side("left")?, side("right")?).map(Value::Bool),
        "!=" => equal(side("left")?, side("right")?).map(|equal| json!(!equal)),
        "<" => below(side("left")?, side("right")?).map(Value::Bool),
        ">" => below(side("right")?, side("left")?).map(Value::Bool),
        "<=" => below(side("right")?, side("left")?).map(|above| json!(!above)),
        ">=" => below(side("left")?, side("right")?).map(|below| json!(!below)),
        "like" => matches_all(side("pattern")?).then_some(json!(true)),
        "contains" => contains(side("left")?, side("right")?).map(Value::Bool),
        _ => None,
    }
}

/// Whether all of `parts` hold: `Some(true)` when each does, `Some(false)` when one cannot, or two contradict each
/// other.
pub(crate) fn all(parts: &[Value]) -> Option<bool> {
    let constants: Vec<Option<bool>> =
        parts.iter().map(|part| constant(part).and_then(|value| value.as_bool())).collect();
    if constants.contains(&Some(false)) || contradict(parts) {
        return Some(false);
    }
    constants.iter().all(|constant| *constant == Some(true)).then_some(true)
}

/// Whether one part is the opposite of another, or one thing should equal two literals.
fn contradict(parts: &[Value]) -> bool {
    let texts: BTreeSet<String> = parts.iter().map(Value::to_string).collect();
    let opposed = parts.iter().any(|part| texts.contains(&negated(part).to_string()));
    let equalities: Vec<(&Value, Value)> = parts.iter().filter_map(equality).collect();
    opposed
        || equalities.iter().enumerate().any(|(at, (subject, literal))| {
            equalities.iter().take(at).any(|(other, another)| other == subject && another != literal)
        })
}

/// `subject == literal`, whichever side the literal is on.
fn equality(part: &Value) -> Option<(&Value, Value)> {
    let sides = part.get("==")?;
    let (left, right) = (sides.get("left")?, sides.get("right")?);
    match (constant(left), constant(right)) {
        (None, Some(literal)) => Some((left, literal)),
        (Some(literal), None) => Some((right, literal)),
        _ => None,
    }
}

/// The opposite, in the form in which an author would write it.
fn negated(node: &Value) -> Value {
    const OPPOSITES: [(&str, &str); 6] =
        [("==", "!="), ("!=", "=="), ("<", ">="), (">=", "<"), (">", "<="), ("<=", ">")];
    if let Some(inner) = node.get("!").and_then(|operands| operands.get("arg")) {
        return inner.clone();
    }
    let opposite = OPPOSITES.iter().find_map(|(operator, opposite)| Some((*opposite, node.get(operator)?)));
    match opposite {
        Some((opposite, operands)) => {
            Value::Object([(opposite.to_owned(), operands.clone())].into_iter().collect())
        }
        None => json!({"!": {"arg": node}}),
    }
}

/// What stands between the operators of a chain, in order. The walk keeps its own stack: chains nest deeply.
fn flat<'a>(node: &'a Value, operator: &str) -> Vec<&'a Value> {
    let (mut parts, mut stack) = (Vec::new(), vec![node]);
    while let Some(node) = stack.pop() {
        let sides = node.get(operator).and_then(|sides| Some((sides.get("left")?, sides.get("right")?)));
        match sides {
            Some((left, right)) => stack.extend([right, left]),
            None => parts.push(node),
        }
    }
    parts
}

fn equal(left: &Value, right: &Value) -> Option<bool> {
    if left == right {
        return Some(true);
    }
    if let (Some(left), Some(right)) = (constant(left), constant(right)) {
        return Some(left == right);
    }
    let (left, right) = (range(left)?, range(right)?);
    (left.1 < right.0 || right.1 < left.0).then_some(false)
}

fn below(left: &Value, right: &Value) -> Option<bool> {
    let (left, right) = (range(left)?, range(right)?);
    if left.1 < right.0 { Some(true) } else { (left.0 >= right.1).then_some(false) }
}

/// The lowest and the highest value that a number can have.
fn range(node: &Value) -> Option<(i64, i64)> {
    if let Some(number) = constant(node) {
        return number.as_i64().map(|number| (number, number));
    }
    let path = path(node)?;
    COUNTS.iter().find(|(count, _)| *count == path).map(|(_, max)| (0, *max))
}

/// `context.a.b` as `a.b`.
fn path(mut node: &Value) -> Option<String> {
    let mut names = Vec::new();
    while let Some(access) = node.get(".") {
        names.push(access.get("attr")?.as_str()?);
        node = access.get("left")?;
    }
    names.reverse();
    (node.get("Var")?.as_str() == Some("context")).then(|| names.join("."))
}

fn matches_all(pattern: &Value) -> bool {
    let pieces = pattern.as_array();
    pieces.is_some_and(|pieces| {
        !pieces.is_empty() && pieces.iter().all(|piece| piece.as_str() == Some("Wildcard"))
    })
}

fn contains(set: &Value, wanted: &Value) -> Option<bool> {
    let members: Option<Vec<Value>> = set.get("Set")?.as_array()?.iter().map(constant).collect();
    Some(members?.contains(&constant(wanted)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(condition: &str, want: Option<bool>) {
        let text = format!("forbid (principal, action, resource) when {{ {condition} }};");
        let policy = cedar_policy::Policy::parse(None, text).unwrap().to_json().unwrap();
        assert_eq!(want, all(&conjuncts(&policy)), "{condition}");
    }

    #[test]
    fn what_no_request_can_change_is_told() {
        for (condition, want) in [
            ("true", Some(true)),
            ("1 == 1 && !false", Some(true)),
            ("context.toolName == context.toolName", Some(true)),
            ("context.toolName like \"*\"", Some(true)),
            ("context.toolName == \"a\" || context.toolName != \"a\"", Some(true)),
            ("context.assuranceLevel >= 0 && context.assuranceLevel <= 4", Some(true)),
            ("if context.facets.external then 1 < 2 else true", Some(true)),
            ("[\"a\", \"b\"].contains(\"b\")", Some(true)),
            ("context.facets.external && !context.facets.external", Some(false)),
            ("context.toolName == \"a\" && \"b\" == context.toolName", Some(false)),
            ("context.session.recentDenied > 16", Some(false)),
            ("context.assuranceLevel == 5", Some(false)),
            ("context.assuranceLevel > -1", Some(true)),
        ] {
            check(condition, want);
        }
    }

    #[test]
    fn what_a_request_can_change_is_not() {
        for condition in [
            "context.assuranceLevel > 0",
            "context.toolName like \"*a\"",
            "context.toolName == \"a\" || context.toolName == \"b\"",
            "context.facets.amountMinor >= 0",
            "context.facets.external || true == context.session.ended",
            "if context.facets.external then true else false",
            "[context.toolName].contains(\"b\")",
        ] {
            check(condition, None);
        }
    }

    #[test]
    fn an_unless_is_the_opposite_of_a_when() {
        let of = |text: &str| {
            let policy = cedar_policy::Policy::parse(None, text).unwrap().to_json().unwrap();
            let mut parts: Vec<String> = conjuncts(&policy).iter().map(Value::to_string).collect();
            parts.sort();
            parts
        };
        assert_eq!(
            of(
                "forbid (principal, action, resource) unless { context.session.ended || context.human != \"\" };"
            ),
            of(
                "forbid (principal, action, resource) when { !context.session.ended && context.human == \"\" };"
            )
        );
    }
}
