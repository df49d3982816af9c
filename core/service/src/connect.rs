//! Builds the configured connectors and gives each its route.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use countersign_schemas::{Expressed, Expression, Timestamp, Verdict};
use countersign_sdk::jwks::KeySets;
use countersign_sdk::{
    Caller, ConnectorSpec, Env, Frame, FrameSpec, Gate, GateClass, Held, Inbound, Manifest, NormalizeError,
    Normalized, Registry, Reply, Said, Verified, VerifyError,
};
use serde_json::Value;

use crate::config::{Config, Problem, connector_kind, settings_of};
use crate::metrics::RouteMetrics;

/// The share of the vendor's window that is ours when a setting shrinks the window below the documented one.
const MARGIN_SHARE_MAX: u32 = 2;

/// One configured connector.
pub struct Route {
    /// The instance name, which is also the last part of the URL.
    pub name: String,
    /// What is known about the vendor.
    pub manifest: Manifest,
    /// The vendor's window minus the margin.
    pub budget: Duration,
    /// The frames as configured.
    pub frames: Vec<FrameSpec>,
    /// Counts.
    pub metrics: RouteMetrics,
    gate: Box<dyn Gate>,
    held: Option<Arc<dyn Held>>,
    /// A DENY that was made at start, for when the connector itself cannot make one any more.
    last_resort: Reply,
}

/// All configured connectors, by instance name.
pub type Routes = BTreeMap<String, Arc<Route>>;

/// Builds every configured connector.
///
/// # Errors
///
/// Every [`Problem`] that any of them has.
pub fn connect(
    config: &Config,
    registry: &Registry,
    egress: &countersign_sdk::http::Egress,
    keys: &KeySets,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Routes, Vec<Problem>> {
    let mut routes = Routes::new();
    let mut problems = Vec::new();
    for (name, section) in &config.connectors {
        let env = Env { egress, instance: name, keys, lookup, public_url: &config.server.public_url };
        match registry.get(connector_kind(name, section)).map(|spec| Route::build(spec, name, section, &env))
        {
            Some(Ok(route)) => {
                routes.insert(name.clone(), Arc::new(route));
            }
            Some(Err(problem)) => problems.push(Problem { at: format!("connectors.{name}"), problem }),
            None => {}
        }
    }
    if problems.is_empty() { Ok(routes) } else { Err(problems) }
}

impl Route {
    fn build(spec: &ConnectorSpec, name: &str, section: &Value, env: &Env<'_>) -> Result<Self, String> {
        let settings = section.as_object().map(settings_of).unwrap_or_default();
        let parts = (spec.connect)(Value::Object(settings), env).map_err(|error| error.to_string())?;
        let manifest = (spec.manifest)();
        let margin = Duration::from_millis(manifest.margin_ms).min(parts.deadline / MARGIN_SHARE_MAX);
        let mut route = Self {
            name: name.to_owned(),
            budget: parts.deadline.saturating_sub(margin),
            frames: parts.frames,
            metrics: RouteMetrics::default(),
            gate: parts.gate,
            held: parts.held.map(Arc::from),
            last_resort: Reply { body: Vec::new(), content_type: "application/json".into(), status: 200 },
            manifest,
        };
        // Arming proves that the connector can say DENY without having read anything.
        let deny = route.deny(&Frame::unreadable(), "countersign cannot answer");
        if deny.status >= 300 || deny.body.is_empty() {
            return Err("the connector cannot express DENY for an unreadable request".into());
        }
        route.last_resort = deny;
        Ok(route)
    }

    /// The connector's kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.manifest.name
    }

    /// What the frame can be told. A frame that the manifest does not list can be told DENY and nothing else.
    #[must_use]
    pub fn frame(&self, name: &str) -> FrameSpec {
        let listed = self.frames.iter().find(|frame| frame.name == name);
        listed.cloned().unwrap_or_else(|| FrameSpec::gate("unlisted", &[]))
    }

    /// See [`Gate::verify`]. A panic is a refusal.
    ///
    /// # Errors
    ///
    /// [`VerifyError`].
    pub fn verify(&self, request: &Inbound, now: Timestamp) -> Result<Caller, VerifyError> {
        catch_unwind(AssertUnwindSafe(|| self.gate.verify(request, now)))
            .unwrap_or_else(|_| Err(VerifyError::Token("the check failed".into())))
    }

    /// See [`Gate::normalize`]. A panic is an unreadable request.
    ///
    /// # Errors
    ///
    /// [`NormalizeError`].
    pub fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        catch_unwind(AssertUnwindSafe(|| self.gate.normalize(request)))
            .unwrap_or_else(|_| Err(NormalizeError::unreadable("the connector failed on this request")))
    }

    /// See [`Gate::answer`]. A panic is the DENY that was made at start.
    #[must_use]
    pub fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        catch_unwind(AssertUnwindSafe(|| self.gate.answer(frame, said)))
            .unwrap_or_else(|_| self.last_resort.clone())
    }

    /// DENY without an action.
    #[must_use]
    pub fn deny(&self, frame: &Frame, reason: &str) -> Reply {
        self.answer(frame, &[bare(Expressed::Deny, Verdict::Deny, reason)])
    }

    /// DENY of a request of which not even the sender could be checked. A vendor that takes an error status as leave
    /// to go on is not given one; one that is called back later is, so that it delivers again.
    #[must_use]
    pub fn deny_unread(&self, reason: &str) -> Reply {
        let deny = self.deny(&Frame::unreadable(), reason);
        if self.manifest.class == GateClass::Held { Reply { status: 503, ..deny } } else { deny }
    }

    /// No objection without an action: for frames that only tell us something.
    #[must_use]
    pub fn pass(&self, frame: &Frame) -> Reply {
        self.answer(frame, &[bare(Expressed::Allow, Verdict::Allow, "noted")])
    }

    /// The part that calls back, if the vendor works that way.
    #[must_use]
    pub fn held(&self) -> Option<&Arc<dyn Held>> {
        self.held.as_ref()
    }
}

/// Something said about a frame that has no action.
pub(crate) fn bare(expressed: Expressed, verdict: Verdict, reason: &str) -> Said<'static> {
    Said {
        action: None,
        expression: Expression { degraded: None, expressed, reason: reason.to_owned() },
        modified: None,
        receipt_id: None,
        ticket: None,
        verdict,
    }
}
