//! The kill switch: halts in force, read on every decision without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_schemas::{Halt, HaltScope, Identity};

/// Halts in force.
#[derive(Debug, Default)]
pub struct HaltBoard(ArcSwap<Vec<Halt>>);

impl HaltBoard {
    /// These are in force.
    #[must_use]
    pub fn new(halts: Vec<Halt>) -> Self {
        Self(ArcSwap::from_pointee(halts))
    }

    /// From now on, this one is in force too.
    pub fn give(&self, halt: &Halt) {
        self.0.rcu(|halts| halts.iter().chain([halt]).cloned().collect::<Vec<_>>());
    }

    /// From now on, these are in force.
    pub fn set(&self, halts: Vec<Halt>) {
        self.0.store(halts.into());
    }

    /// All that are in force.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Halt>> {
        self.0.load_full()
    }

    /// The halt that stops this caller, if one does.
    #[must_use]
    pub fn stops(&self, connector: &str, identity: &Identity) -> Option<Halt> {
        self.0.load().iter().find(|halt| covers(&halt.what, connector, identity)).cloned()
    }
}

/// Whether a halt, or a break-glass, of this kind is about this caller.
pub(crate) fn covers(what: &HaltScope, connector: &str, identity: &Identity) -> bool {
    match what {
        HaltScope::All => true,
        HaltScope::Connector(name) => name == connector,
        HaltScope::Agent(name) => {
            name.split_once('/').is_some_and(|(c, agent)| c == connector && agent == identity.agent.id)
        }
        HaltScope::Human(name) => identity.human.as_ref().is_some_and(|human| {
            human.id == *name || human.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(name))
        }),
    }
}

#[cfg(test)]
mod tests {
    use countersign_schemas::{Agent, Human, Timestamp};

    use super::*;

    #[track_caller]
    fn check(what: HaltScope, want: bool) {
        let halt = Halt { at: Timestamp(0), by: "ann".into(), reason: "drill".into(), what };
        let human = Human { email: Some("Bob@a.example".into()), id: "user_1".into(), name: None };
        let agent = Agent { id: "agent-7".into(), ..Agent::default() };
        let identity = Identity { agent, human: Some(human), ..Identity::default() };
        assert_eq!(want, HaltBoard::new(vec![halt]).stops("claude-code", &identity).is_some());
    }

    #[test]
    fn a_further_halt_leaves_the_others_in_force() {
        let halt = |what| Halt { at: Timestamp(0), by: "ann".into(), reason: "drill".into(), what };
        let board = HaltBoard::new(vec![halt(HaltScope::Connector("a".into()))]);
        board.give(&halt(HaltScope::Connector("b".into())));
        assert!(["a", "b"].iter().all(|name| board.stops(name, &Identity::default()).is_some()));
    }

    #[test]
    fn a_halt_stops_what_it_names_and_nothing_else() {
        check(HaltScope::All, true);
        check(HaltScope::Connector("claude-code".into()), true);
        check(HaltScope::Connector("github".into()), false);
        check(HaltScope::Agent("claude-code/agent-7".into()), true);
        check(HaltScope::Agent("github/agent-7".into()), false);
        check(HaltScope::Human("user_1".into()), true);
        check(HaltScope::Human("bob@a.example".into()), true);
        check(HaltScope::Human("user_2".into()), false);
    }
}
