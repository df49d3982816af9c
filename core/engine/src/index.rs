//! Which policies can match at all, found without looking at the others.
//!
//! A policy's scope names an effect or a group of them, perhaps a resource and perhaps a principal. Policies with
//! the same three are one slice; a request looks up the slices of its own names, a few dozen hash look-ups
//! whatever the number of policies.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, Entities, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};
use countersign_schemas::Effect;

use crate::request::Wanted;
use crate::rule::{bit, slot};

/// What a request's principal and resource are and lie in, each name once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The principal comes first.
    pub(crate) principals: Vec<EntityUid>,
    /// The resource comes first.
    pub(crate) resources: Vec<EntityUid>,
}

/// What a policy's scope asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    effects: u16,
    principal: Option<EntityUid>,
    resource: Option<EntityUid>,
}

const EVERY_EFFECT: u16 = (1 << Effect::ALL.len()) - 1;

impl Scope {
    /// `actions` is the schema's action hierarchy.
    pub(crate) fn of(policy: &Policy, actions: &Entities) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::In(uid)
            | PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(uid),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
            ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                Some(uid)
            }
        };
        let effects = match policy.action_constraint() {
            ActionConstraint::Any => EVERY_EFFECT,
            ActionConstraint::Eq(uid) => effects_in(&[uid], actions),
            ActionConstraint::In(uids) => effects_in(&uids, actions),
        };
        Self { effects, principal, resource }
    }

    /// Whether an action is within the scope.
    pub(crate) fn admits(&self, effect: Effect, names: &Names) -> bool {
        let named =
            |uid: &Option<EntityUid>, among: &[EntityUid]| uid.as_ref().is_none_or(|uid| among.contains(uid));
        self.effects & bit(effect) != 0
            && named(&self.principal, &names.principals)
            && named(&self.resource, &names.resources)
    }

    /// Whether it is certain that whatever `other` admits is admitted here too.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let wider = |own: &Option<EntityUid>, other: &Option<EntityUid>| own.is_none() || own == other;
        self.effects & other.effects == other.effects
            && wider(&self.principal, &other.principal)
            && wider(&self.resource, &other.resource)
    }

    /// Principal and resource that it names.
    pub(crate) fn entities(&self) -> (Option<&EntityUid>, Option<&EntityUid>) {
        (self.principal.as_ref(), self.resource.as_ref())
    }

    /// Whether it admits nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.effects == 0
    }

    /// Whether it names neither effect nor resource nor principal.
    pub(crate) fn is_open(&self) -> bool {
        self.effects == EVERY_EFFECT && self.principal.is_none() && self.resource.is_none()
    }

    /// The effects it is filed under: the twelve as one, else each.
    fn slots(&self) -> Vec<u8> {
        if self.effects == EVERY_EFFECT {
            return vec![ANY_EFFECT];
        }
        Effect::ALL.into_iter().filter(|effect| self.effects & bit(*effect) != 0).map(slot).collect()
    }
}

fn effects_in(uids: &[EntityUid], actions: &Entities) -> u16 {
    let within = |action: &EntityUid| {
        uids.contains(action)
            || actions.ancestors(action).is_some_and(|mut ancestors| ancestors.any(|uid| uids.contains(uid)))
    };
    actions
        .iter()
        .map(|entity| entity.uid())
        .filter(within)
        .filter_map(|uid| Effect::ALL.into_iter().find(|effect| effect.as_str() == uid.id().unescaped()))
        .fold(0, |effects, effect| effects | bit(effect))
}

/// A policy, as it is filed.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) policy: Policy,
    /// Index of its rule.
    pub(crate) rule: usize,
    /// What it reads.
    pub(crate) wanted: Wanted,
}

/// Policies with the same scope, permits and forbids apart: Cedar reports only the policies that determined its
/// answer, so all that are satisfied are told only by sets of one effect.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Indices of the rules in it.
    pub(crate) rules: Vec<usize>,
    /// One or two sets, none of them empty.
    pub(crate) sets: Vec<PolicySet>,
    /// What any of them reads.
    pub(crate) wanted: Wanted,
}

impl Slice {
    fn new(members: &[Member]) -> Result<Self, String> {
        let mut slice = Self {
            rules: members.iter().map(|member| member.rule).collect(),
            sets: Vec::new(),
            wanted: members.iter().fold(0, |wanted, member| wanted | member.wanted),
        };
        for effect in [CedarEffect::Permit, CedarEffect::Forbid] {
            let policies =
                members.iter().map(|member| &member.policy).filter(|policy| policy.effect() == effect);
            let set = PolicySet::from_policies(policies.cloned()).map_err(|error| error.to_string())?;
            if !set.is_empty() {
                slice.sets.push(set);
            }
        }
        Ok(slice)
    }
}

/// Stands for "whatever it is" in a key.
const ANY_EFFECT: u8 = u8::MAX;
const ANY_ENTITY: u32 = 0;

/// Effect, resource, principal.
type Key = (u8, u32, u32);

#[derive(Debug, Default)]
pub(crate) struct Index {
    numbers: HashMap<EntityUid, u32>,
    slices: HashMap<Key, Slice>,
    /// Looked at for every request; filled only by [`Index::flat`].
    flat: Option<Slice>,
}

impl Index {
    /// Files policies by their scopes. The error is Cedar's word for why it puts them into no set.
    pub(crate) fn new(members: Vec<(&Scope, Member)>) -> Result<Self, String> {
        let mut index = Self::default();
        let mut filed: HashMap<Key, Vec<Member>> = HashMap::new();
        for (scope, member) in members {
            let resource = index.number(scope.resource.as_ref());
            let principal = index.number(scope.principal.as_ref());
            for slot in scope.slots() {
                filed.entry((slot, resource, principal)).or_default().push(member.clone());
            }
        }
        for (key, members) in filed {
            index.slices.insert(key, Slice::new(&members)?);
        }
        Ok(index)
    }

    /// One slice with everything in it: what the index is measured and tested against.
    pub(crate) fn flat(members: &[Member]) -> Result<Self, String> {
        Ok(Self { flat: Some(Slice::new(members)?), ..Self::default() })
    }

    /// The slices that a request can match.
    pub(crate) fn slices(&self, effect: Effect, names: &Names) -> Vec<&Slice> {
        let numbers = |uids: &[EntityUid]| -> Vec<u32> {
            let known = uids.iter().filter_map(|uid| self.numbers.get(uid).copied());
            std::iter::once(ANY_ENTITY).chain(known).collect()
        };
        let (principals, resources) = (numbers(&names.principals), numbers(&names.resources));
        let mut found: Vec<&Slice> = self.flat.iter().collect();
        for effect in [ANY_EFFECT, slot(effect)] {
            for resource in &resources {
                for principal in &principals {
                    found.extend(self.slices.get(&(effect, *resource, *principal)));
                }
            }
        }
        found
    }

    pub(crate) fn largest(&self) -> usize {
        self.slices.values().map(|slice| slice.rules.len()).max().unwrap_or(0)
    }

    fn number(&mut self, uid: Option<&EntityUid>) -> u32 {
        let next = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        uid.map_or(ANY_ENTITY, |uid| *self.numbers.entry(uid.clone()).or_insert(next))
    }
}
