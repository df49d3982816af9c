//! Contexts of recent sessions as values, so that a session that goes on is not read from its JSON for every decision.
//!
//! The store's bytes are the truth: a context is taken from here only for the very version of the session that it was
//! written with.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_schemas::{Context, SessionId};
use countersign_store::SessionState;

use crate::appraise::Asked;

/// Contexts of one generation. There are two; a context takes about 8 KiB.
const GENERATION_MAX: usize = 2_000;

/// The recent contexts. When the young generation is full it becomes the old one, which is dropped.
#[derive(Default)]
pub(crate) struct Contexts(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<SessionId, Kept>,
    old: HashMap<SessionId, Kept>,
}

struct Kept {
    asked: Option<Asked>,
    context: Context,
    version: u64,
}

impl Contexts {
    /// The context of a session in this state. One that is not here is read from its JSON; one that cannot be read is
    /// treated as one in which nothing is populated, so that policies defer or deny.
    pub(crate) fn take(&self, id: &SessionId, state: &SessionState) -> (Context, Option<Asked>) {
        let kept = {
            let mut generations = self.lock();
            generations.young.remove(id).or_else(|| generations.old.remove(id))
        };
        match kept {
            Some(kept) if kept.version == state.version => (kept.context, kept.asked),
            _ => (serde_json::from_slice(&state.context).unwrap_or_default(), None),
        }
    }

    /// Keeps the context that was committed as `version` of its session, and what was asked for in it.
    pub(crate) fn put(&self, id: SessionId, version: u64, context: Context, asked: Option<Asked>) {
        let mut generations = self.lock();
        if generations.young.len() >= GENERATION_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(id, Kept { asked, context, version });
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(action_count: u64) -> Context {
        Context { action_count, ..Context::default() }
    }

    fn state(version: u64, action_count: u64) -> SessionState {
        let json = serde_json::to_vec(&context(action_count)).unwrap();
        SessionState { version, context: json.into(), ..SessionState::default() }
    }

    #[test]
    fn only_the_version_that_was_committed_is_used() {
        let (contexts, id) = (Contexts::default(), SessionId::derived(&["one"]));
        contexts.put(id.clone(), 3, context(30), None);
        assert_eq!(context(30), contexts.take(&id, &state(3, 0)).0);
        assert_eq!(context(1), contexts.take(&id, &state(3, 1)).0, "it was taken out");
        contexts.put(id.clone(), 3, context(30), None);
        assert_eq!(context(41), contexts.take(&id, &state(4, 41)).0, "somebody else went on");
    }

    #[test]
    fn the_number_of_contexts_is_bounded_and_the_youngest_stay() {
        let contexts = Contexts::default();
        let id = |number: usize| SessionId::derived(&[&number.to_string()]);
        for number in 0..=3 * GENERATION_MAX {
            contexts.put(id(number), 1, context(7), None);
        }
        assert_eq!(context(0), contexts.take(&id(0), &state(1, 0)).0);
        assert_eq!(context(7), contexts.take(&id(3 * GENERATION_MAX), &state(1, 0)).0);
        assert_eq!(context(7), contexts.take(&id(3 * GENERATION_MAX - 1), &state(1, 0)).0);
        let kept = contexts.lock();
        assert!(kept.young.len() + kept.old.len() <= 2 * GENERATION_MAX);
    }
}
