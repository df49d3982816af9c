//! What is measured about an action before policy sees it, and about an outcome once it is known: AARM R2 and R7.
//!
//! Nothing here decides. The tool catalogue says what a call does, detectors say what its data is, drift says how far
//! it is from what the user asked for; policies compare.

use countersign_classify::{Detectors, LABELS};
use countersign_drift::{Lexical, Profile, Request, measure, note};
use countersign_engine::ledger::{self, Found};
use countersign_facets::{Catalogue, CatalogueErrors, CatalogueSource, enrich};
use countersign_schemas::{Action, Assurance, Context, Degree, Effect, Facets, Outcome, Risk, Tool, Verdict};
use serde_json::Value;

use crate::config::ContextSettings;

/// Signals that say that not everything could be read of a call.
const UNCERTAIN: [&str; 3] = ["shell_dynamic", "shell_unparsed", "sql_unparsed"];
/// How much each thing that is not known takes from the confidence, in ten-thousandths.
const UNKNOWN_COSTS: u16 = 2_500;

/// The context cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AppraiseError {
    /// An operator's catalogue cannot be read.
    #[error("cannot read `{path}`: {problem}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        problem: std::io::Error,
    },
    /// An operator's catalogue is wrong.
    #[error(transparent)]
    Catalogue(#[from] CatalogueErrors),
    /// An operator's detector is wrong.
    #[error("{0}")]
    Rules(String),
}

/// What the user of a session has asked for, made ready to be compared; kept because it is the same for many actions.
#[derive(Debug)]
pub struct Asked {
    request: Request<'static>,
    /// How many requests it is made of.
    requests: u64,
}

impl Asked {
    /// `None` while no request is known.
    fn of(context: &Context) -> Option<Self> {
        let first = context.request.as_ref()?;
        let text = format!("{first}\n{}", context.later_requests);
        Some(Self { request: Request::of(&text, &Lexical), requests: context.requests })
    }
}

/// Measures.
pub struct Appraiser {
    catalogue: Catalogue,
    detectors: Detectors,
    profile: Profile,
}

impl Appraiser {
    /// With what is built in and what the operator adds.
    ///
    /// # Errors
    ///
    /// [`AppraiseError`].
    pub fn new(settings: &ContextSettings) -> Result<Self, AppraiseError> {
        let read = |path: &std::path::PathBuf| {
            let name = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => Ok(CatalogueSource { name, text }),
                Err(problem) => Err(AppraiseError::Read { path: name, problem }),
            }
        };
        let sources = settings.catalogue.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let detectors = Detectors::builtin()
            .with_rules(&settings.detectors)
            .map_err(|errors| AppraiseError::Rules(errors.to_string()))?;
        Ok(Self { catalogue: Catalogue::load(&sources)?, detectors, profile: settings.drift })
    }

    /// Fills in what can be told of an action by itself: its effect, facets, labels and signals.
    pub fn complete(&self, action: &mut Action) {
        enrich(&self.catalogue, action);
        if let Some(label) = self.catalogue.lookup(&action.tool).and_then(|entry| entry.sensitivity.clone()) {
            push(&mut action.facets.labels, label);
        }
        let parameters = Value::Object(std::mem::take(&mut action.parameters));
        let findings = self.detectors.scan_json(&parameters);
        if let Value::Object(parameters) = parameters {
            action.parameters = parameters;
        }
        findings.labels.into_iter().for_each(|label| push(&mut action.facets.labels, label));
        findings.signals.into_iter().for_each(|signal| push(&mut action.risk_signals, signal));
    }

    /// The facets of an action whose parameters were changed: what they show now, on top of what was known before.
    pub(crate) fn facets(&self, changed: &Action) -> Facets {
        let mut changed = changed.clone();
        self.complete(&mut changed);
        changed.facets
    }

    /// Measures an action against its session, and moves the session's drift on. `asked` is made anew when it is not
    /// of this session's requests.
    pub fn risk(&self, action: &Action, context: &mut Context, asked: &mut Option<Asked>) -> Risk {
        let touched = context.labels.iter().map(|label| rank(label)).max().unwrap_or(0);
        let own = action.facets.labels.iter().map(|label| rank(label)).max().unwrap_or(0);
        let mut risk = Risk {
            confidence: confidence(action, context),
            escalation: own.saturating_sub(touched),
            unusual: ledger::is_unusual(context, action.effect),
            ..Risk::default()
        };
        if asked.as_ref().is_none_or(|asked| asked.requests != context.requests) {
            *asked = Asked::of(context);
        }
        let Some(asked) = asked else { return risk };
        let drift = measure(&asked.request, action, &context.named, &self.profile);
        context.drift = Some(context.drift.unwrap_or_default().fold(drift.score, self.profile.alpha));
        risk.distance = Some(drift.distance);
        risk.drift = Some(drift.score);
        risk.effect_gap = Some(drift.gap);
        risk.scope_expansion = Some(drift.scope);
        risk
    }

    /// Notes what an action used, once it is allowed.
    pub(crate) fn note(&self, action: &Action, verdict: Verdict, context: &mut Context) {
        if matches!(verdict, Verdict::Allow | Verdict::Modify) {
            note(&mut context.named, action);
        }
    }

    /// What is dangerous about an outcome.
    pub(crate) fn outcome(&self, outcome: &Outcome, context: &Context) -> Found {
        let mut found = Found::default();
        let prior = context.recent.iter().rev().find(|prior| prior.action_id == outcome.action_id);
        if let Some(tool) = prior.map(|prior| Tool::of_canonical(&prior.tool)) {
            let entry = self.catalogue.lookup(&tool);
            found.untrusted = entry.is_some_and(|entry| entry.untrusted);
        }
        let Some(output) = &outcome.output else { return found };
        let findings = self.detectors.scan_json(output);
        found.labels = findings.labels;
        // Between 0 and 1 by its definition.
        found.injection = Degree::try_from(findings.injection_score).unwrap_or(Degree::ONE);
        found
    }
}

fn push(list: &mut Vec<String>, entry: String) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}

/// How sensitive a label is: 0 for one that nobody ranked.
fn rank(label: &str) -> u32 {
    let place = LABELS.iter().rev().position(|known| *known == label);
    place.and_then(|place| u32::try_from(place).ok()).unwrap_or(0)
}

/// Four things that a decision should know: what was asked for, what the tool does, what the call will do, and who
/// asks.
fn confidence(action: &Action, context: &Context) -> Degree {
    let unknown = [
        context.request.is_none(),
        action.effect == Effect::Invoke,
        action.risk_signals.iter().any(|signal| UNCERTAIN.contains(&signal.as_str())),
        action.identity.assurance <= Assurance::ClientAsserted,
    ];
    let cost = unknown.iter().map(|unknown| u16::from(*unknown) * UNKNOWN_COSTS).sum();
    Degree::of_ten_thousandths(cost).complement()
}
