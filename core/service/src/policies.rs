//! Policies from a folder: loaded whole, tested, swapped whole. A bad set never replaces a good one.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use countersign_engine::{Options, Policies, PolicyErrors, PolicySource, Posture, evaluate};
use countersign_schemas::{
    Action, ActionId, Context, Effect, Facets, Identity, PolicyChangeView, SessionId, SessionRef, Source,
    Timestamp, Tool, Verdict,
};
use tracing::{error, info};

use crate::appraise::Appraiser;
use crate::config::{ContextSettings, PolicySettings};
use crate::pipeline::Pipeline;

/// Part of every set: an action that nobody may ever take, so that start and reload can prove that the engine
/// denies what it must.
const CANARY: &str = r#"@id("countersign-canary")
@class("forbidden")
@reason("start-up self-test")
forbid (principal, action, resource == Tool::"countersign/-/canary");
"#;

/// A policy set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`: {problem}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        problem: std::io::Error,
    },
    /// There is no policy in the folder.
    #[error("`{0}` holds no *.cedar file")]
    Empty(String),
    /// Something is wrong with the policies.
    #[error(transparent)]
    Policies(#[from] PolicyErrors),
    /// The set does not deny what it must.
    #[error("self-test failed: a forbidden action got {0}; the set is not armed")]
    SelfTest(Verdict),
}

/// Reads every `*.cedar` file under `dir`, in the order of their names.
///
/// # Errors
///
/// [`LoadError::Read`] or [`LoadError::Empty`].
pub fn sources(dir: &Path) -> Result<Vec<PolicySource>, LoadError> {
    let mut files = Vec::new();
    collect(dir, &mut files)?;
    files.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(dir).unwrap_or(path).display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(PolicySource { name, text }),
            Err(problem) => Err(LoadError::Read { path: path.display().to_string(), problem }),
        }
    };
    let sources: Vec<_> = files.iter().map(read).collect::<Result<_, _>>()?;
    if sources.is_empty() { Err(LoadError::Empty(dir.display().to_string())) } else { Ok(sources) }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let failed = |problem| LoadError::Read { path: dir.display().to_string(), problem };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "cedar") {
            files.push(path);
        }
    }
    Ok(())
}

/// How a set is to be read.
#[must_use]
pub fn options(settings: &PolicySettings) -> Options {
    Options {
        approval_timeout: Duration::from_secs(settings.approval_timeout_s),
        default: if settings.default == Verdict::Allow { Posture::Allow } else { Posture::Deny },
        deferral_timeout: Duration::from_secs(settings.deferral_timeout_s),
        refacet: Some(refacet),
        ..Options::default()
    }
}

/// Facets of an action whose parameters were changed: what the new parameters show, on top of what was known before.
/// Not only the former, because a connector may know of a host or recipient that no parameter names.
fn refacet(changed: &Action) -> Facets {
    static BUILTIN: LazyLock<Option<Appraiser>> =
        LazyLock::new(|| Appraiser::new(&ContextSettings::default()).ok());
    BUILTIN.as_ref().map_or_else(|| changed.facets.clone(), |appraiser| appraiser.facets(changed))
}

/// Loads the configured folder and proves that the set denies what it must.
///
/// # Errors
///
/// [`LoadError`]; nothing of the set is used then.
pub fn load(settings: &PolicySettings) -> Result<Policies, LoadError> {
    arm(sources(&settings.dir)?, options(settings))
}

/// Makes a set of `sources` and proves that it denies what it must.
///
/// # Errors
///
/// [`LoadError`].
pub fn arm(mut sources: Vec<PolicySource>, options: Options) -> Result<Policies, LoadError> {
    sources.push(PolicySource { name: "canary (built in)".into(), text: CANARY.into() });
    let policies = Policies::load(&sources, options)?;
    let verdict = evaluate(&policies, &canary(), &Context::default(), Timestamp(0)).verdict;
    if verdict == Verdict::Deny { Ok(policies) } else { Err(LoadError::SelfTest(verdict)) }
}

fn canary() -> Action {
    Action {
        action_id: ActionId::derived(&["canary"]),
        call_id: None,
        delivery_id: None,
        effect: Effect::Read,
        facets: Facets::default(),
        identity: Identity::default(),
        operation: "self-test".into(),
        parameters: serde_json::Map::new(),
        risk_signals: Vec::new(),
        session: SessionRef { id: SessionId::derived(&["canary"]), turn: None, vendor_id: "canary".into() },
        source: Source {
            connector: "countersign".into(),
            event: "self-test".into(),
            vendor: "countersign".into(),
        },
        timestamp: Timestamp(0),
        tool: Tool {
            name: "canary".into(),
            namespace: "countersign".into(),
            raw: "canary".into(),
            server: None,
        },
        vendor_fields: serde_json::Map::new(),
    }
}

impl Pipeline {
    /// Loads the folder again. A good set comes into force and is receipted; a bad one is refused, receipted and
    /// logged, and the old one stays. A set with the same digest changes nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with the new set, for people.
    pub async fn reload(&self, settings: &PolicySettings) -> Result<PolicyChangeView, String> {
        let of = settings.clone();
        let loaded =
            tokio::task::spawn_blocking(move || load(&of)).await.map_err(|error| error.to_string())?;
        let in_force = self.policies.load_full();
        match loaded {
            Ok(new) if new.bundle_sha256() == in_force.bundle_sha256() => Ok(view(&in_force, false, None)),
            Ok(new) => {
                let change = view(&new, true, None);
                self.policies.store(new.into());
                info!(policy.bundle = %change.bundle_sha256, policy.count = change.policies, "a new policy set is in force");
                self.receipt_change(change.clone()).await;
                Ok(change)
            }
            Err(problem) => {
                error!(%problem, "the new policy set is refused, the old one stays in force: {problem}");
                self.receipt_change(view(&in_force, false, Some(problem.to_string()))).await;
                Err(problem.to_string())
            }
        }
    }

    /// Receipts the set that is in force at start.
    pub async fn receipt_start(&self) {
        let change = view(&self.policies.load(), true, None);
        self.receipt_change(change).await;
    }

    async fn receipt_change(&self, change: PolicyChangeView) {
        if let Err(problem) = self.record_policy_change(change).await {
            error!(%problem, "cannot receipt the policy change: {problem}");
        }
    }
}

fn view(policies: &Policies, applied: bool, error: Option<String>) -> PolicyChangeView {
    PolicyChangeView {
        applied,
        bundle_sha256: policies.bundle_sha256().to_owned(),
        error,
        policies: policies.len() as u64,
    }
}
