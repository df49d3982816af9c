//! One action against one request.

use countersign_schemas::{Action, Prior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deed::Deed;
use crate::embed::{Embedder, Embedding};
use crate::gap::Granted;
use crate::profile::Profile;
use crate::scope::{Names, expansion};
use crate::verbalize::verbalize;
use countersign_schemas::Degree;

/// How much of a request is read.
const REQUEST_BYTES_MAX: usize = 8_192;

/// What the user asked for, made ready to be compared.
#[derive(Clone, Debug)]
pub struct Request<'e> {
    embedder: &'e dyn Embedder,
    embedding: Embedding,
    granted: Granted,
    names: Names,
}

impl<'e> Request<'e> {
    /// Reads a request, once per session. Of a session with several requests pass them all, with line breaks
    /// between them: each grants what it grants. At most 8,192 bytes are read.
    #[must_use]
    pub fn of(text: &str, embedder: &'e dyn Embedder) -> Self {
        let text = &text[..text.floor_char_boundary(REQUEST_BYTES_MAX)];
        Self { embedder, embedding: embedder.embed(text), granted: Granted::by(text), names: Names::of(text) }
    }
}

/// How far one action is from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// 1 − cosine between the request and the action in words.
    pub distance: Degree,
    /// How much more the action does than the verbs of the request grant.
    pub gap: Degree,
    /// The share of the action's resources that nobody named.
    pub scope: Degree,
    /// The weighted mean of the three.
    pub score: Degree,
}

/// Measures an action. `prior` holds what earlier actions of the session used.
#[must_use]
pub fn measure(request: &Request<'_>, action: &Action, prior: &Prior, profile: &Profile) -> Drift {
    let distance = request.embedding.distance(&request.embedder.embed(&verbalize(action)));
    let gap = request.granted.gap_to(Deed::of(action), action.facets.external == Some(true));
    let scope = expansion(&request.names, action, prior);
    Drift { distance, gap, scope, score: profile.weights.score(distance, gap, scope) }
}
