//! Which of two effects is the stricter one.

use countersign_schemas::Effect;

/// From what every policy set lets a known agent do to what it hardly lets anybody do, in the order of the base
/// policies: looking; what nobody knows better; working; what needs a verified agent or approval. An action that is
/// several of these at once is asked about as the last of them.
///
/// `execute` stays below `send` and `delete`: a shell command is asked about as `execute`, for which there are policies
/// that look at its programs; what it sends or deletes shows as facets and signals.
const STRICTNESS: [Effect; 12] = [
    Effect::List,
    Effect::Read,
    Effect::Invoke,
    Effect::Create,
    Effect::Update,
    Effect::Execute,
    Effect::Login,
    Effect::Send,
    Effect::Delete,
    Effect::Deploy,
    Effect::Grant,
    Effect::Pay,
];

/// The stricter of two effects: the one that stands later in this list: `list`, `read`, `invoke`, `create`, `update`,
/// `execute`, `login`, `send`, `delete`, `deploy`, `grant`, `pay`.
#[must_use]
pub fn stricter(one: Effect, other: Effect) -> Effect {
    let place = |effect| STRICTNESS.iter().position(|listed| *listed == effect);
    if place(one) >= place(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effect_has_a_place_of_its_own() {
        for effect in Effect::ALL {
            assert_eq!(1, STRICTNESS.iter().filter(|listed| **listed == effect).count(), "{effect:?}");
        }
    }
}
