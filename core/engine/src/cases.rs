//! Test cases for policy sets: an action, a context, what must be decided; and which policies no case reaches.

use std::collections::BTreeMap;
use std::fmt;

use countersign_schemas::{
    Action, ActionId, Context, Decision, Effect, Facets, Identity, SessionId, SessionRef, Source, Timestamp,
    Tool, Verdict,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Finding, Policies, explain};

/// A file of cases.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// The action.
    pub action: CaseAction,
    /// What the session did before; nothing, if left out.
    #[serde(default)]
    pub context: Context,
    /// What must be decided.
    pub expect: Expectation,
    /// A sentence about behaviour.
    pub name: String,
    /// When it is decided; the Unix epoch, if left out.
    #[serde(default)]
    pub now: Timestamp,
}

/// The parts of an action that policies can read. All but effect and tool may be left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CaseAction {
    /// The configured instance; `test`, if left out.
    #[serde(default = "test")]
    pub connector: String,
    /// What kind of thing it does.
    pub effect: Effect,
    /// The vendor's name of the event.
    #[serde(default)]
    pub event: String,
    /// What the normaliser told of it.
    #[serde(default)]
    pub facets: Facets,
    /// Who asks.
    #[serde(default)]
    pub identity: Identity,
    /// The vendor's word for the operation.
    #[serde(default)]
    pub operation: String,
    /// The arguments.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Findings of detectors.
    #[serde(default)]
    pub signals: Vec<String>,
    /// Canonical: `namespace/server/name`, with `-` for no server.
    pub tool: String,
    /// The connector's kind; `test`, if left out.
    #[serde(default = "test")]
    pub vendor: String,
}

fn test() -> String {
    "test".to_owned()
}

impl CaseAction {
    /// The whole action, decided at `now`.
    #[must_use]
    pub fn to_action(&self, now: Timestamp) -> Action {
        Action {
            action_id: ActionId::derived(&["case"]),
            call_id: None,
            delivery_id: None,
            effect: self.effect,
            facets: self.facets.clone(),
            identity: self.identity.clone(),
            operation: self.operation.clone(),
            parameters: self.parameters.clone(),
            risk_signals: self.signals.clone(),
            session: SessionRef {
                id: SessionId::derived(&["case"]),
                turn: None,
                vendor_id: "case".to_owned(),
            },
            source: Source {
                connector: self.connector.clone(),
                event: self.event.clone(),
                vendor: self.vendor.clone(),
            },
            timestamp: now,
            tool: Tool::of_canonical(&self.tool),
            vendor_fields: Map::new(),
        }
    }
}

/// What must be decided. What is left out may be anything.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// The parameters it may run with, when the verdict is MODIFY.
    #[serde(default)]
    pub modified: Option<Map<String, Value>>,
    /// What is missing, when the verdict is DEFER.
    #[serde(default)]
    pub needs: Option<Vec<String>>,
    /// Ids of the policies that decide, in order.
    #[serde(default)]
    pub policies: Option<Vec<String>>,
    /// The decision.
    pub verdict: Verdict,
}

impl Expectation {
    /// Every way in which `decision` is not what is expected.
    fn differences(&self, decision: &Decision) -> Vec<String> {
        let mut differences = Vec::new();
        compare("verdict", Some(&self.verdict), &decision.verdict, &mut differences);
        let policies = decision.policies.iter().map(|policy| policy.id.clone()).collect();
        compare("policies", self.policies.as_ref(), &policies, &mut differences);
        let needs = decision.deferral.as_ref().map(|deferral| deferral.needs.clone()).unwrap_or_default();
        compare("needs", self.needs.as_ref(), &needs, &mut differences);
        let modified = decision.modified.clone().unwrap_or_default();
        compare("modified", self.modified.as_ref(), &modified, &mut differences);
        differences
    }
}

fn compare<T: PartialEq + fmt::Debug>(what: &str, want: Option<&T>, got: &T, differences: &mut Vec<String>) {
    if let Some(want) = want.filter(|want| *want != got) {
        differences.push(format!("{what}: expected {want:?}, got {got:?}"));
    }
}

/// How the cases went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseReport {
    /// The cases that failed, in their order.
    pub failures: Vec<CaseFailure>,
    /// How many cases each policy decided, by id.
    pub hits: BTreeMap<String, u64>,
    /// Policies that decided no case, in the order of their ids.
    pub never_hit: Vec<String>,
    /// Policies that no case within their scope leaves unsatisfied: nothing shows that they ever stay silent. Only
    /// policies with a condition are meant, and a condition is what reads the context.
    pub never_passed: Vec<String>,
    /// How many cases passed.
    pub passed: u64,
}

impl CaseReport {
    /// Whether no case failed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }
}

/// A case that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseFailure {
    /// What differs.
    pub differences: Vec<String>,
    /// The case's name.
    pub name: String,
    /// The reason that the decision gave.
    pub reason: String,
}

/// Runs all cases.
#[must_use]
pub fn run(policies: &Policies, cases: &Cases) -> CaseReport {
    let mut report = CaseReport::default();
    let mut passes: BTreeMap<String, u64> = BTreeMap::new();
    for case in &cases.cases {
        let action = case.action.to_action(case.now);
        let explanation = explain(policies, &action, &case.context, case.now);
        let decision = &explanation.decision;
        for policy in &decision.policies {
            *report.hits.entry(policy.id.clone()).or_default() += 1;
        }
        for considered in explanation.considered.iter().filter(|c| c.finding == Finding::NotSatisfied) {
            *passes.entry(considered.id.clone()).or_default() += 1;
        }
        let differences = case.expect.differences(decision);
        if differences.is_empty() {
            report.passed += 1;
        } else {
            let (name, reason) = (case.name.clone(), decision.reason.clone());
            report.failures.push(CaseFailure { differences, name, reason });
        }
    }
    let missing = |counts: &BTreeMap<String, u64>, conditional: bool| {
        let infos = policies.iter().filter(|info| !conditional || !info.reads.is_empty());
        infos.map(|info| info.id.clone()).filter(|id| !counts.contains_key(id)).collect()
    };
    report.never_hit = missing(&report.hits, false);
    report.never_passed = missing(&passes, true);
    report
}
