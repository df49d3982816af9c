//! What holds for every policy set and every action.

use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Context as CedarContext, Entities, PolicySet, Request, Schema};
use countersign_engine::{
    Considered, Explanation, Finding, Policies, PolicyClass, PolicySource, SCHEMA, explain,
};
use countersign_schemas::{Action, Context, Effect, Timestamp, Verdict};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::{NOW, action, options};

const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal == Agent::\"c0/a\"",
    "principal in Connector::\"c0\"",
    "principal in Connector::\"c1\"",
    "principal in Human::\"h\"",
    "principal is Agent in Role::\"r\"",
];
const ACTIONS: [&str; 6] = [
    "action",
    "action == Action::\"read\"",
    "action == Action::\"pay\"",
    "action in Action::\"mutate\"",
    "action in [Action::\"egress\", Action::\"list\"]",
    "action in Action::\"any\"",
];
const RESOURCES: [&str; 6] = [
    "resource",
    "resource == Tool::\"mcp/s0/t\"",
    "resource in Server::\"s0\"",
    "resource in Server::\"s1\"",
    "resource in Vendor::\"v\"",
    "resource is Tool",
];
const CONDITIONS: [&str; 9] = [
    "true",
    "context.params has limit && context.params.limit > 5",
    "context.params has limit && context.params.limit * 2 > 5",
    "context.session.request == \"x\"",
    "context.facets.external",
    "context.session.labels.contains(\"L\") || context.facets.external",
    "context.signals.contains(\"param_type:limit\")",
    "action in Action::\"egress\" && principal in Human::\"h\" || context.session.actionCount > 4",
    "resource in Server::\"s1\" || context.session.actionCount > 3",
];
const OUTCOMES: [&str; 8] = [
    "",
    "@class(\"forbidden\")",
    "@decision(\"step_up\") @approvers(\"ann\")",
    "@decision(\"step_up\") @approvers(\"bob\")",
    "@decision(\"defer\")",
    "@decision(\"modify\") @modify(\"[{\\\"op\\\":\\\"add\\\",\\\"path\\\":\\\"/limit\\\",\\\"value\\\":5}]\")",
    "@decision(\"modify\") @modify(\"[{\\\"op\\\":\\\"add\\\",\\\"path\\\":\\\"/x\\\",\\\"value\\\":1}]\")",
    "@decision(\"modify\") @modify(\"[{\\\"op\\\":\\\"remove\\\",\\\"path\\\":\\\"/limit\\\"}]\")",
];

fn body() -> impl Strategy<Value = String> {
    (select(&PRINCIPALS), select(&ACTIONS), select(&RESOURCES), select(&CONDITIONS))
        .prop_map(|(p, a, r, condition)| format!("({p}, {a}, {r}) when {{ {condition} }};"))
}

fn permit() -> impl Strategy<Value = String> {
    (body(), 1..4).prop_map(|(body, tier)| format!("@priority(\"{tier}\") permit {body}"))
}

fn forbid() -> impl Strategy<Value = String> {
    (body(), 1..4, select(&OUTCOMES)).prop_map(|(body, tier, outcome)| {
        format!("@reason(\"r\") @priority(\"{tier}\") {outcome} forbid {body}")
    })
}

/// A policy about a tool that nobody uses.
fn elsewhere() -> impl Strategy<Value = String> {
    (select(&PRINCIPALS), select(&ACTIONS), select(&CONDITIONS), 1..4, proptest::option::of(select(&OUTCOMES))).prop_map(
        |(p, a, condition, tier, outcome)| {
            let (kind, outcome) = outcome.map_or(("permit", ""), |outcome| ("forbid", outcome));
            format!(
                "@reason(\"r\") @priority(\"{tier}\") {outcome} {kind} ({p}, {a}, resource == Tool::\"other/-/tool\") when {{ {condition} }};"
            )
        },
    )
}

fn set() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(prop_oneof![permit(), forbid()], 0..10)
}

fn sources(policies: &[String]) -> Vec<PolicySource> {
    let source = |(number, text): (usize, &String)| PolicySource {
        name: format!("{number}.cedar"),
        text: format!("@id(\"p{number}\") {text}"),
    };
    policies.iter().enumerate().map(source).collect()
}

fn load(policies: &[String]) -> Policies {
    Policies::load(&sources(policies), options()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// An action and the session it comes in.
type Asked = (Action, Context);

fn asked() -> impl Strategy<Value = Asked> {
    let effects =
        select(&[Effect::Read, Effect::List, Effect::Pay, Effect::Send, Effect::Update, Effect::Invoke]);
    let limits = select(vec![
        json!({}),
        json!({"limit": 3}),
        json!({"limit": 9}),
        json!({"limit": i64::MAX}),
        json!({"limit": "9"}),
    ]);
    let session = (any::<bool>(), any::<bool>(), 0..6_u64);
    (effects, limits, 0..2, 0..2, any::<Option<bool>>(), any::<bool>(), session).prop_map(
        |(effect, parameters, connector, server, external, human, (request, label, action_count))| {
            let mut asked = action(effect, parameters);
            asked.source.connector = format!("c{connector}");
            asked.tool.server = Some(format!("s{server}"));
            asked.identity.agent.id = "a".to_owned();
            asked.facets.external = external;
            if human {
                asked.identity.human = Some(serde_json::from_value(json!({"id": "h"})).unwrap());
                asked.identity.role = Some("r".to_owned());
            }
            let labels = if label { vec!["L".to_owned()] } else { Vec::new() };
            let request = request.then(|| "x".to_owned());
            (asked, Context { action_count, labels, request, ..Context::default() })
        },
    )
}

fn judged(policies: &Policies, (action, context): &Asked) -> Explanation {
    explain(policies, action, context, NOW)
}

fn verdict(policies: &Policies, asked: &Asked) -> Verdict {
    judged(policies, asked).decision.verdict
}

/// What policies want together.
#[derive(Debug, PartialEq)]
enum Naive {
    /// They want different things.
    Conflict,
    /// The verdict, and the annotations that it comes from.
    Wants(Verdict, Vec<String>),
}

/// What is decided when nothing matches is what a plain forbid wants.
fn nothing() -> Naive {
    Naive::Wants(Verdict::Deny, vec![String::new()])
}

/// What the best tier of `satisfied` wants. In one tier a forbid beats a permit; forbids agree when they say the same,
/// or are MODIFYs of different parameters.
fn naive(policies: &[String], satisfied: &[&Considered]) -> Naive {
    let Some(best) = satisfied.iter().map(|c| c.priority).min() else { return nothing() };
    let tier = satisfied.iter().filter(|c| c.priority == best);
    let forbids: Vec<&&Considered> = tier.filter(|c| c.verdict != Verdict::Allow).collect();
    let Some(first) = forbids.first() else {
        return Naive::Wants(Verdict::Allow, Vec::new());
    };
    let says = |c: &&Considered| {
        let text = &policies[c.id[1..].parse::<usize>().unwrap()];
        text.split("forbid").next().unwrap().split(')').skip(2).collect::<String>().trim().to_owned()
    };
    let mut said: Vec<String> = forbids.iter().map(|c| says(c)).collect();
    said.sort();
    let alike = said.iter().all(|one| *one == said[0]);
    let of_x = |one: &String| one.contains("/x");
    let agree = match first.verdict {
        Verdict::Modify => {
            let all = forbids.iter().all(|c| c.verdict == Verdict::Modify);
            said.len() == 1 || all && said.len() == 2 && of_x(&said[0]) != of_x(&said[1])
        }
        _ => alike,
    };
    if !agree {
        return Naive::Conflict;
    }
    said.dedup();
    Naive::Wants(first.verdict, said)
}

/// Asks plain Cedar, with a request made from JSON and checked by nobody: a second road from an action to Cedar.
struct Plain {
    entities: Entities,
    request: Request,
}

impl Plain {
    fn new((action, session): &Asked) -> Self {
        let agent = json!({"type": "Agent", "id": format!("{}/a", action.source.connector)});
        let tool = json!({"type": "Tool", "id": action.tool.canonical()});
        let parent = |kind: &str, id: &str| json!({"type": kind, "id": id});
        let mut parents = vec![parent("Connector", &action.source.connector)];
        if action.identity.human.is_some() {
            parents.extend([parent("Human", "h"), parent("Role", "r")]);
        }
        let server = action.tool.server.as_deref().unwrap();
        let entities = json!([
            {"uid": agent, "attrs": {}, "parents": parents},
            {"uid": tool, "attrs": {}, "parents": [parent("Server", server), parent("Vendor", "v")]},
        ]);
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        let uid = |value: &Value| cedar_policy::EntityUid::from_json(value.clone()).unwrap();
        let effect = parent("Action", action.effect.as_str());
        let context = CedarContext::from_json_value(Self::context(action, session), None).unwrap();
        Self {
            entities: Entities::from_json_value(entities, Some(&schema)).unwrap(),
            request: Request::new(uid(&agent), uid(&effect), uid(&tool), context, None).unwrap(),
        }
    }

    fn context(action: &Action, session: &Context) -> Value {
        let limit = action.parameters.get("limit");
        let mut context = json!({
            "facets": {},
            "params": {},
            "session": {"actionCount": session.action_count, "labels": session.labels},
            "signals": if limit.is_some_and(Value::is_string) { json!(["param_type:limit"]) } else { json!([]) },
        });
        if let Some(limit) = limit.filter(|limit| limit.is_i64()) {
            context["params"]["limit"] = limit.clone();
        }
        if let Some(external) = action.facets.external {
            context["facets"]["external"] = json!(external);
        }
        if let Some(request) = &session.request {
            context["session"]["request"] = json!(request);
        }
        context
    }

    /// Cedar's answer over the whole text, annotations and all, and whether a policy failed.
    fn allows(&self, policies: &[String]) -> (bool, bool) {
        let set: PolicySet = policies.concat().parse().unwrap();
        let response = Authorizer::new().is_authorized(&self.request, &set, &self.entities);
        let failed = response.diagnostics().errors().next().is_some();
        (response.decision() == cedar_policy::Decision::Allow, failed)
    }

    /// Whether a policy is satisfied, asked alone; `None` when it fails.
    fn satisfies(&self, policy: &str) -> Option<bool> {
        let set: PolicySet = policy.parse().unwrap();
        let response = Authorizer::new().is_authorized(&self.request, &set, &self.entities);
        let diagnostics = response.diagnostics();
        diagnostics.errors().next().is_none().then(|| diagnostics.reason().next().is_some())
    }
}

fn satisfied(considered: &Considered) -> bool {
    considered.finding == Finding::Satisfied
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_index_changes_nothing(policies in set(), asked in proptest::collection::vec(asked(), 6)) {
        let indexed = load(&policies);
        let flat = load(&policies).unindexed().unwrap();
        for asked in &asked {
            prop_assert_eq!(judged(&indexed, asked), judged(&flat, asked));
        }
    }

    #[test]
    fn the_order_of_the_sources_changes_nothing(policies in set(), asked in asked()) {
        let mut reversed = sources(&policies);
        reversed.reverse();
        let reversed = Policies::load(&reversed, options()).unwrap();
        let policies = load(&policies);
        prop_assert_eq!(policies.bundle_sha256(), reversed.bundle_sha256());
        prop_assert_eq!(judged(&policies, &asked), judged(&reversed, &asked));
    }

    #[test]
    fn every_policy_is_found_as_plain_cedar_finds_it_alone(policies in set(), asked in asked()) {
        let plain = Plain::new(&asked);
        let explanation = judged(&load(&policies), &asked);
        let found: BTreeMap<&str, Finding> =
            explanation.considered.iter().map(|c| (c.id.as_str(), c.finding)).collect();
        for (number, policy) in policies.iter().enumerate() {
            let want = match found.get(format!("p{number}").as_str()) {
                Some(Finding::Satisfied | Finding::Fulfilled) => Some(true),
                Some(Finding::NotSatisfied) | None => Some(false),
                Some(Finding::Undecidable | Finding::Fault) => None,
            };
            prop_assert_eq!(want, plain.satisfies(policy), "p{}: {}", number, policy);
        }
    }

    /// The order of resolution, read naively: what each policy wants is taken from its text, and whether one that
    /// cannot be evaluated could change the outcome is found by trying.
    #[test]
    fn the_answer_is_that_of_a_naive_reading(policies in set(), asked in asked()) {
        let explanation = judged(&load(&policies), &asked);
        let with = |finding: Finding| -> Vec<&Considered> {
            explanation.considered.iter().filter(|c| c.finding == finding).collect()
        };
        let (satisfied, undecidable) = (with(Finding::Satisfied), with(Finding::Undecidable));
        let forbidden = |list: &[&Considered]| list.iter().any(|c| c.class == PolicyClass::Forbidden);
        let wanted = naive(&policies, &satisfied);
        let changes = |c: &&Considered| naive(&policies, &[satisfied.clone(), vec![*c]].concat()) != wanted;
        let allowed: &[Verdict] = if forbidden(&satisfied) || !with(Finding::Fault).is_empty() {
            &[Verdict::Deny]
        } else if forbidden(&undecidable) || undecidable.iter().any(changes) {
            &[Verdict::Defer]
        } else {
            match wanted {
                Naive::Conflict => &[Verdict::Defer],
                // Two patches are never taken for the same, which may defer for nothing.
                Naive::Wants(Verdict::Modify, _) if undecidable.iter().any(|c| c.verdict == Verdict::Modify) => {
                    &[Verdict::Modify, Verdict::Deny, Verdict::Defer]
                }
                // Judged once more with the changed parameters, and then ALLOW or nothing.
                Naive::Wants(Verdict::Modify, _) => &[Verdict::Modify, Verdict::Deny],
                Naive::Wants(Verdict::Allow, _) => &[Verdict::Allow],
                Naive::Wants(Verdict::Deny, _) => &[Verdict::Deny],
                Naive::Wants(Verdict::StepUp, _) => &[Verdict::StepUp],
                Naive::Wants(Verdict::Defer, _) => &[Verdict::Defer],
            }
        };
        prop_assert!(allowed.contains(&explanation.decision.verdict), "{:?} {}", allowed, explanation.decision.verdict);
    }

    #[test]
    fn a_policy_about_something_else_changes_nothing(policies in set(), other in elsewhere(), asked in asked()) {
        let before = judged(&load(&policies), &asked).decision;
        let after = judged(&load(&[policies, vec![other]].concat()), &asked).decision;
        let apart_from_the_set = countersign_schemas::Decision { bundle_sha256: before.bundle_sha256.clone(), ..after };
        prop_assert_eq!(before, apart_from_the_set);
    }

    /// Whoever reads the file without our annotations is at least as strict, but for what cannot be evaluated,
    /// which plain Cedar passes over; and is stricter only where a permit has the better priority or a
    /// MODIFY is fulfilled.
    #[test]
    fn plain_cedar_is_never_laxer_when_nothing_is_missing(policies in set(), asked in asked()) {
        let (allows, failed) = Plain::new(&asked).allows(&policies);
        let explanation = judged(&load(&policies), &asked);
        let ours = explanation.decision.verdict == Verdict::Allow;
        prop_assert!(ours || !allows || failed);
        let best_permit = explanation.considered.iter().filter(|c| satisfied(c) && c.verdict == Verdict::Allow);
        let best_permit = best_permit.map(|c| c.priority).min();
        let outranked = explanation.considered.iter().all(|c| match c.finding {
            Finding::Satisfied if c.verdict != Verdict::Allow => best_permit.is_some_and(|best| best < c.priority),
            _ => true,
        });
        prop_assert!(!ours || allows || outranked);
    }

    #[test]
    fn another_forbid_never_allows_more(policies in set(), forbid in forbid(), asked in asked()) {
        let before = verdict(&load(&policies), &asked);
        let after = verdict(&load(&[policies, vec![forbid]].concat()), &asked);
        prop_assert!(before == Verdict::Allow || after != Verdict::Allow);
    }

    #[test]
    fn nothing_runs_without_a_permit(policies in proptest::collection::vec(forbid(), 0..8), asked in asked()) {
        let verdict = verdict(&load(&policies), &asked);
        prop_assert!(!matches!(verdict, Verdict::Allow | Verdict::Modify), "{}", verdict);
    }

    #[test]
    fn a_satisfied_forbidden_policy_denies(policies in set(), body in body(), asked in asked()) {
        let veto = format!("@reason(\"r\") @class(\"forbidden\") @priority(\"1000\") forbid {body}");
        let policies = [policies, vec![veto]].concat();
        let explanation = judged(&load(&policies), &asked);
        let veto = |c: &Considered| satisfied(c) && c.class == PolicyClass::Forbidden;
        if explanation.considered.iter().any(veto) {
            prop_assert_eq!(Verdict::Deny, explanation.decision.verdict);
        }
    }

    /// What is not known yet never carries an ALLOW.
    #[test]
    fn an_allow_stays_whatever_is_learnt(policies in set(), asked in asked(), request in "[xy]", external: bool) {
        let policies = load(&policies);
        if verdict(&policies, &asked) == Verdict::Allow {
            let (mut action, mut context) = asked;
            action.facets.external.get_or_insert(external);
            context.request.get_or_insert(request);
            prop_assert_eq!(Verdict::Allow, verdict(&policies, &(action, context)));
        }
    }
}

#[test]
fn time_is_an_argument() {
    let policy =
        "permit (principal, action, resource) when { context.now < datetime(\"2026-12-01\") };".to_owned();
    let policies = load(&[policy]);
    let at = |now| countersign_engine::evaluate(&policies, &crate::read(), &Context::default(), now).verdict;
    assert_eq!(Verdict::Allow, at(NOW));
    assert_eq!(Verdict::Deny, at(Timestamp(NOW.0 + 10_000_000_000)));
}
