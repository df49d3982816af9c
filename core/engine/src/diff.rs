//! How one policy set differs from another.

use std::collections::BTreeMap;

use cedar_policy::Policy;
use serde::Serialize;

use crate::Policies;
use crate::policies::deep;
use crate::problem::PolicyErrors;
use crate::rule::{PolicyInfo, Rule};

/// How the new set differs from the old one, by policy ids. Layout and comments do not count.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Policies that only the new set has.
    pub added: Vec<PolicyInfo>,
    /// Policies that both have, and that say something else.
    pub changed: Vec<Change>,
    /// Digest of the new set.
    pub new_bundle_sha256: String,
    /// Digest of the old set.
    pub old_bundle_sha256: String,
    /// Policies that only the old set has.
    pub removed: Vec<PolicyInfo>,
}

impl Difference {
    /// Whether both sets say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// A policy that says something else now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `@id`.
    pub id: String,
    /// As it is.
    pub new: PolicyInfo,
    /// Its Cedar text now.
    pub new_text: String,
    /// As it was.
    pub old: PolicyInfo,
    /// Its Cedar text before.
    pub old_text: String,
    /// What changed.
    pub parts: Vec<Part>,
}

/// A part of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Which actions it is about.
    Scope,
    /// When it matches.
    Condition,
    /// What it wants: decision, patch, approvers, times.
    Outcome,
    /// `@class`.
    Class,
    /// `@priority`.
    Priority,
    /// `@reason`, `@severity`, `@version`; or only how it is written.
    Words,
}

impl Part {
    /// The wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::Condition => "condition",
            Self::Outcome => "outcome",
            Self::Class => "class",
            Self::Priority => "priority",
            Self::Words => "words",
        }
    }
}

/// Compares two sets.
///
/// # Errors
///
/// [`PolicyErrors`] when there is no thread to work on.
pub fn diff(old: &Policies, new: &Policies) -> Result<Difference, PolicyErrors> {
    let (before, after) = (by_id(old), by_id(new));
    let only = |here: &BTreeMap<&str, (&Rule, &Policy)>, there: &BTreeMap<&str, (&Rule, &Policy)>| {
        let alone = here.iter().filter(|(id, _)| !there.contains_key(*id));
        alone.map(|(_, (rule, _))| rule.info.clone()).collect()
    };
    let both = before.iter().filter_map(|(id, old)| Some((old, after.get(id)?)));
    let changed = both.filter(|(old, new)| old.0.info.sha256 != new.0.info.sha256);
    Ok(Difference {
        added: only(&after, &before),
        changed: deep(|| changed.map(|(old, new)| change(*old, *new)).collect())?,
        new_bundle_sha256: new.bundle_sha256().to_owned(),
        old_bundle_sha256: old.bundle_sha256().to_owned(),
        removed: only(&before, &after),
    })
}

fn by_id(policies: &Policies) -> BTreeMap<&str, (&Rule, &Policy)> {
    policies.members().map(|(rule, policy)| (rule.info.id.as_str(), (rule, policy))).collect()
}

fn change(old: (&Rule, &Policy), new: (&Rule, &Policy)) -> Change {
    let text = |policy: &Policy| policy.to_cedar().unwrap_or_default();
    let json = |policy: &Policy| policy.to_json().unwrap_or_default();
    let (before, after) = (json(old.1), json(new.1));
    let differs = |names: &[&str]| names.iter().any(|name| before.get(name) != after.get(name));
    let words = |info: &PolicyInfo| (info.reason.clone(), info.severity, info.version.clone());
    let (was, is) = (&old.0.info, &new.0.info);
    let parts = [
        (Part::Scope, differs(&["principal", "action", "resource"])),
        (Part::Condition, differs(&["conditions"])),
        (Part::Outcome, old.0.outcome != new.0.outcome),
        (Part::Class, was.class != is.class),
        (Part::Priority, was.priority != is.priority),
        (Part::Words, words(was) != words(is)),
    ];
    let mut parts: Vec<Part> =
        parts.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect();
    if parts.is_empty() {
        parts.push(Part::Words);
    }
    Change {
        id: is.id.clone(),
        new: is.clone(),
        new_text: text(new.1),
        old: was.clone(),
        old_text: text(old.1),
        parts,
    }
}
