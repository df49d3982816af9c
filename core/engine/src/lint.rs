//! What is no error and yet hardly what the author meant. Nothing is guessed: every finding can be proven from the
//! policies alone, so a set without findings may still be wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use cedar_policy::EntityUid;
use countersign_schemas::{Context, Timestamp};
use serde_json::Value;

use crate::fold::{all, conjuncts, constant};
use crate::policies::deep;
use crate::problem::{Code, Level, PolicyErrors, PolicyProblem};
use crate::resolve::relies_on;
use crate::rule::{Outcome, PolicyClass, Rule};
use crate::{Options, Policies, PolicySource, cases, explain};

/// Annotations that change nothing that is decided.
const WORDS: [&str; 4] = ["id", "reason", "severity", "version"];

/// Everything worth a look in a set that loaded, what [`Policies::warnings`] has included: in the order of level, file
/// and line.
///
/// # Errors
///
/// [`PolicyErrors`] when there is no thread to work on.
pub fn lint(policies: &Policies) -> Result<Vec<PolicyProblem>, PolicyErrors> {
    let mut found = deep(|| Linter::new(policies).run())?;
    found.extend(policies.warnings().iter().cloned());
    found.sort_by(|a, b| {
        (a.level, &a.file, a.line, a.code, &a.policy).cmp(&(b.level, &b.file, b.line, b.code, &b.policy))
    });
    Ok(found)
}

/// A policy as it is compared with others.
struct Form<'a> {
    /// Its JSON form without the words in it.
    body: String,
    /// The parts of its condition that a request can change, as texts.
    condition: BTreeSet<String>,
    /// The parts of its condition as they stand.
    parts: Vec<Value>,
    rule: &'a Rule,
}

impl<'a> Form<'a> {
    fn of(rule: &'a Rule, json: &Value) -> Self {
        let parts = conjuncts(json);
        let changing = parts.iter().filter(|part| constant(part) != Some(Value::Bool(true)));
        let mut body = json.clone();
        if let Some(annotations) = body.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| !WORDS.contains(&name.as_str()));
        }
        Self {
            body: serde_json_canonicalizer::to_string(&body).unwrap_or_default(),
            condition: changing.map(Value::to_string).collect(),
            parts,
            rule,
        }
    }

    /// Whether this one matches whenever `other` does.
    fn includes(&self, other: &Self) -> bool {
        self.rule.scope.includes(&other.rule.scope) && self.condition.is_subset(&other.condition)
    }

    /// Whether `other`, where both match, has no say or only in a conflict.
    fn outranks(&self, other: &Self) -> bool {
        // A MODIFY that would change nothing counts as not satisfied, so it cannot be relied on.
        if matches!(self.rule.outcome, Outcome::Modify(_)) || other.class() == PolicyClass::Forbidden {
            return false;
        }
        let (own, others) = (self.rule.info.priority, other.rule.info.priority);
        self.class() == PolicyClass::Forbidden
            || own < others
            || own == others && self.rule.outcome != Outcome::Allow && self.rule.outcome != other.rule.outcome
    }

    fn class(&self) -> PolicyClass {
        self.rule.info.class
    }

    fn problem(&self, level: Level, code: Code, message: String, advice: &str) -> PolicyProblem {
        let info = &self.rule.info;
        PolicyProblem {
            advice: Some(advice.to_owned()),
            code,
            level,
            line: Some(info.line),
            policy: Some(info.id.clone()),
            ..PolicyProblem::new(&info.file, message)
        }
    }

    fn place(&self) -> String {
        let info = &self.rule.info;
        format!("`{}` ({}:{})", info.id, info.file, info.line)
    }
}

/// Under what a policy is filed: a part of its condition, what its scope names.
type Key<'a> = (Option<&'a str>, Option<&'a EntityUid>, Option<&'a EntityUid>);

struct Linter<'a> {
    forms: Vec<Form<'a>>,
}

impl<'a> Linter<'a> {
    fn new(policies: &'a Policies) -> Self {
        let form = |(rule, policy): (&'a Rule, &cedar_policy::Policy)| {
            policy.to_json().ok().map(|json| Form::of(rule, &json))
        };
        Self { forms: policies.members().filter_map(form).collect() }
    }

    fn run(&self) -> Vec<PolicyProblem> {
        let mut found = Vec::new();
        for form in &self.forms {
            found.extend(reach(form));
            found.extend(always_true(form));
            found.extend(missing_reason(form));
            found.extend(relies_on_unpopulated(form));
        }
        found.extend(self.duplicates());
        found.extend(self.shadows());
        found
    }

    fn duplicates(&self) -> Vec<PolicyProblem> {
        let mut first: BTreeMap<&str, &Form<'_>> = BTreeMap::new();
        let mut found = Vec::new();
        for form in &self.forms {
            match first.get(form.body.as_str()) {
                Some(first) => found.push(form.problem(
                    Level::Warning,
                    Code::Duplicate,
                    format!("it says the same as {}", first.place()),
                    "remove one of them",
                )),
                None => {
                    first.insert(&form.body, form);
                }
            }
        }
        found
    }

    /// For each policy that another one always outranks, the best such one.
    fn shadows(&self) -> Vec<PolicyProblem> {
        let filed = self.filed();
        let mut found = Vec::new();
        for (at, form) in self.forms.iter().enumerate() {
            let candidates = keys(form).into_iter().filter_map(|key| filed.get(&key)).flatten().copied();
            let above = candidates.filter(|other| *other != at && self.beats(*other, at));
            let best = above.min_by_key(|other| {
                let info = &self.forms[*other].rule.info;
                (info.class != PolicyClass::Forbidden, info.priority, &info.id)
            });
            found.extend(best.and_then(|other| shadowed(&self.forms[other], form)));
        }
        found
    }

    /// Every policy under one part of its condition, or under none if it has no condition.
    fn filed(&self) -> HashMap<Key<'_>, Vec<usize>> {
        let mut filed: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
        for (at, form) in self.forms.iter().enumerate() {
            let (principal, resource) = form.rule.scope.entities();
            let part = form.condition.first().map(String::as_str);
            filed.entry((part, principal, resource)).or_default().push(at);
        }
        filed
    }

    fn beats(&self, other: usize, at: usize) -> bool {
        let (above, below) = (&self.forms[other], &self.forms[at]);
        // Two that contradict each other everywhere are reported once.
        let mutual = || below.includes(above) && below.outranks(above);
        above.includes(below) && above.outranks(below) && (other < at || !mutual())
    }
}

/// Where a policy that includes `form` can be filed.
fn keys<'a>(form: &'a Form<'_>) -> Vec<Key<'a>> {
    let (principal, resource) = form.rule.scope.entities();
    let parts = form.condition.iter().map(|part| Some(part.as_str())).chain([None]);
    let principals = BTreeSet::from([principal, None]);
    let resources = BTreeSet::from([resource, None]);
    let mut keys = Vec::new();
    for part in parts {
        for principal in &principals {
            keys.extend(resources.iter().map(|resource| (part, *principal, *resource)));
        }
    }
    keys
}

fn shadowed(above: &Form<'_>, below: &Form<'_>) -> Option<PolicyProblem> {
    let info = &above.rule.info;
    let whatever = above.condition.is_empty();
    let tie = info.class != PolicyClass::Forbidden && info.priority == below.rule.info.priority;
    if tie && below.rule.outcome != Outcome::Allow {
        let message =
            format!("wherever it matches, {} wants {} at the same priority", above.place(), info.verdict);
        let advice = "together they only ever defer as a conflict; give one of them a better @priority";
        return Some(below.problem(Level::Warning, Code::Shadowed, message, advice));
    }
    let advice = match info.class {
        PolicyClass::Forbidden => "remove it or narrow the other one, which nothing overrides",
        PolicyClass::Context if whatever => {
            "remove it, narrow the other one, or give this one a better @priority"
        }
        PolicyClass::Context => "give this one a better @priority, or a condition of its own",
    };
    if whatever {
        let message = format!("it never decides: {} comes first in the whole of its scope", above.place());
        return Some(below.problem(Level::Warning, Code::Unreachable, message, advice));
    }
    if above.rule.outcome == below.rule.outcome {
        return None;
    }
    let message =
        format!("wherever it matches, {} matches too and comes first with {}", above.place(), info.verdict);
    Some(below.problem(Level::Warning, Code::Shadowed, message, advice))
}

/// A policy that can match nothing.
fn reach(form: &Form<'_>) -> Option<PolicyProblem> {
    let why = if form.rule.scope.is_empty() {
        "its scope admits no effect"
    } else if all(&form.parts) == Some(false) {
        "its condition contradicts itself"
    } else {
        return None;
    };
    let advice = "whoever wrote it believes that it is in force: correct it or remove it";
    Some(form.problem(Level::Warning, Code::Unreachable, why.to_owned(), advice))
}

fn always_true(form: &Form<'_>) -> Option<PolicyProblem> {
    let constant = form.parts.iter().filter(|part| constant(part) == Some(Value::Bool(true))).count();
    let whole = !form.parts.is_empty() && all(&form.parts) == Some(true);
    let message = match (whole, constant) {
        (true, _) => "its condition cannot be false".to_owned(),
        (false, 0) => return None,
        (false, count) => {
            format!("{count} of the {} parts of its condition cannot be false", form.parts.len())
        }
    };
    let advice = "if that is meant, leave it out; else compare with something that a request can change";
    Some(form.problem(Level::Warning, Code::AlwaysTrue, message, advice))
}

fn missing_reason(form: &Form<'_>) -> Option<PolicyProblem> {
    let silent = form.rule.outcome == Outcome::Allow && form.rule.info.reason.is_empty();
    let advice = "say in @reason what the receipts of what it allows should tell";
    let message = "the permit has no @reason".to_owned();
    silent.then(|| form.problem(Level::Info, Code::MissingReason, message, advice))
}

fn relies_on_unpopulated(form: &Form<'_>) -> Option<PolicyProblem> {
    let relied: Vec<String> = UNPOPULATED
        .iter()
        .filter(|path| relies_on(form.rule, path))
        .map(|path| format!("`{path}`"))
        .collect();
    let message = format!("it reads {} without `has`", relied.join(", "));
    let advice =
        "while nobody knows that, the action is deferred; test with `has` first to decide for yourself";
    (!relied.is_empty()).then(|| form.problem(Level::Info, Code::ReliesOnUnpopulated, message, advice))
}

/// Attributes that can be left out of a request: what an action of which nothing is known leaves out.
static UNPOPULATED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = "@id(\"all\") @reason(\"reads everything\") forbid (principal, action, resource) \
                when { context == context };";
    let source = PolicySource { name: String::new(), text: text.to_owned() };
    let Ok(policies) = Policies::load(&[source], Options::default()) else { return Vec::new() };
    let nothing = serde_json::json!({"effect": "invoke", "tool": "-/-/-"});
    let Ok(action) = serde_json::from_value::<cases::CaseAction>(nothing) else { return Vec::new() };
    let action = action.to_action(Timestamp::default());
    explain(&policies, &action, &Context::default(), Timestamp::default()).unpopulated
});

#[cfg(test)]
mod tests {
    use countersign_schemas::{Action, Verdict};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{Finding, evaluate};

    /// Small sets in which policies often overlap.
    fn a_set() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec![
            "permit",
            "@decision(\"step_up\") @approvers(\"a\") forbid",
            "@decision(\"defer\") forbid",
            "@class(\"forbidden\") forbid",
            "forbid",
        ]);
        let action =
            prop::sample::select(vec!["action", "action == Action::\"pay\"", "action in Action::\"egress\""]);
        let resource = prop::sample::select(vec![
            "resource",
            "resource in Server::\"s\"",
            "resource == Tool::\"mcp/s/t\"",
        ]);
        let part = prop::sample::select(vec![
            "context.human == \"h\"",
            "context.human != \"h\"",
            "context.session.ended",
            "context.facets.external",
            "context.assuranceLevel >= 0",
            "context.assuranceLevel > 2",
        ]);
        let parts = prop::collection::vec(part, 0..4);
        let policy = (kind, action, resource, parts, 1..4_u8, any::<bool>());
        prop::collection::vec(policy, 1..7).prop_map(|policies| {
            let policy = |(at, (kind, action, resource, parts, priority, unless)): (
                usize,
                (&str, _, _, Vec<&str>, _, _),
            )| {
                let condition = match (parts.is_empty(), unless) {
                    (true, _) => String::new(),
                    (false, false) => format!("when {{ {} }}", parts.join(" && ")),
                    (false, true) => format!("unless {{ {} }}", parts.join(" || ")),
                };
                let (annotations, effect) = kind.rsplit_once(' ').unwrap_or(("", kind));
                format!(
                    "@id(\"p{at}\") @priority(\"{priority}\") @reason(\"r\") {annotations}\n\
                     {effect} (principal, {action}, {resource}) {condition};\n"
                )
            };
            policies.into_iter().enumerate().map(policy).collect()
        })
    }

    fn an_action() -> impl Strategy<Value = (Action, Context)> {
        let effect = prop::sample::select(vec!["pay", "send", "read"]);
        let tool = prop::sample::select(vec!["mcp/s/t", "mcp/s/u", "mcp/o/t"]);
        let external = prop::option::of(any::<bool>());
        let level = prop::sample::select(vec!["none", "oauth_verified"]);
        (effect, tool, external, level, any::<bool>(), any::<bool>()).prop_map(
            |(effect, tool, external, level, human, ended)| {
                let human = if human { "h" } else { "i" };
                let mut action = json!({
                    "effect": effect, "tool": tool, "identity": {"assurance": level, "human": {"id": human}},
                });
                if let Some(external) = external {
                    action["facets"] = json!({"external": external});
                }
                let action =
                    serde_json::from_value::<cases::CaseAction>(action).unwrap().to_action(Timestamp(0));
                (action, Context { ended_at: ended.then_some(Timestamp(0)), ..Context::default() })
            },
        )
    }

    proptest! {
        /// Nothing is guessed: what is called unreachable or shadowed decides nothing, whatever is asked.
        #[test]
        fn a_finding_is_never_wrong(set in a_set(), asked in prop::collection::vec(an_action(), 40)) {
            // Where Cedar itself sees that a policy can never match, the set is refused.
            let source = PolicySource { name: "a.cedar".to_owned(), text: set.clone() };
            let Ok(policies) = Policies::load(&[source], Options::default()) else { return Ok(()) };
            let found = lint(&policies).unwrap();
            for (action, context) in &asked {
                let decision = evaluate(&policies, action, context, Timestamp(0));
                let considered = explain(&policies, action, context, Timestamp(0)).considered;
                for problem in &found {
                    let id = problem.policy.clone().unwrap_or_default();
                    let decides = decision.policies.iter().any(|policy| policy.id == id);
                    let finding = considered.iter().find(|of| of.id == id).map(|of| of.finding);
                    match problem.code {
                        Code::Unreachable | Code::Shadowed => prop_assert!(
                            !decides || decision.verdict == Verdict::Defer, "{problem}\n{set}\n{decision:?}"
                        ),
                        Code::AlwaysTrue if problem.message == "its condition cannot be false" => {
                            prop_assert_ne!(finding, Some(Finding::NotSatisfied), "{}\n{}", problem, set);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn what_can_be_left_out_of_a_request_is_what_the_schema_says() {
        let schema: String = crate::SCHEMA.lines().filter_map(|line| line.strip_prefix("// ")).collect();
        for path in UNPOPULATED.iter() {
            let (record, name) = path.split_once('.').unwrap();
            assert!(record == "person" || record == "risk" || schema.contains(name), "{path}");
        }
        for path in ["facets.environment", "session.request", "person.labels", "risk.drift"] {
            assert!(UNPOPULATED.iter().any(|left_out| left_out == path), "{path}: {:?}", *UNPOPULATED);
        }
        assert!(!UNPOPULATED.iter().any(|path| path == "session.labels"));
    }
}
