//! `countersign decide`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args as ClapArgs;
use countersign_engine::{Explanation, explain};
use countersign_schemas::{Action, Assurance, Context, Event, Timestamp, Verdict};
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::{Caller, Env, Inbound};
use countersign_service::appraise::Appraiser;
use countersign_service::clock::{Clock as _, SystemClock};
use countersign_service::config::ContextSettings;
use countersign_service::policies;
use http::HeaderMap;
use serde_json::{Value, json};

use super::policy;
use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign decide action.json
  countersign decide request.json --policies policies/candidate --json

FILE is an action (schemas/json/action.schema.json) or a request of the generic hook
(schemas/json/generic-request.schema.json), which is then taken as signed. Nothing is recorded.

Exit codes: 0 ALLOW or MODIFY, 1 DENY, STEP_UP or DEFER, 3 it could not be decided.";
/// Stands in for a configured connector when a request of the generic hook is read.
const GENERIC: &str = "generic";

#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The action or request, JSON.
    file: PathBuf,
    /// Folder of `*.cedar` files. Default: the configured one.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// What the session did before (schemas/json/context.schema.json). Default: nothing.
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// When it is decided (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
}

/// Decides and explains.
///
/// # Errors
///
/// When a file cannot be read or the policies cannot be used.
pub(crate) fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let now = args.now.unwrap_or_else(|| SystemClock.now());
    let policies = policies::load(&policy::settings(args.policies.as_deref(), globals)?)?;
    let mut context: Context = args.context.as_deref().map(site::read_json).transpose()?.unwrap_or_default();
    let appraiser = Appraiser::new(&ContextSettings::default())?;
    let mut action = read_action(&args.file, now)?;
    appraiser.complete(&mut action);
    context.risk = Some(appraiser.risk(&action, &mut context, &mut None));
    let explanation = explain(&policies, &action, &context, now);
    if globals.json {
        output::json(&json!({"action": action, "explanation": explanation}))?;
    } else {
        describe(&action, &explanation)?;
    }
    Ok(Exit::when(matches!(explanation.decision.verdict, Verdict::Allow | Verdict::Modify)))
}

fn read_action(file: &Path, now: Timestamp) -> anyhow::Result<Action> {
    let value: Value = site::read_json(file)?;
    if value.get("actionId").is_some() {
        return serde_json::from_value(value)
            .with_context(|| format!("`{}` is not an action", file.display()));
    }
    let normalized = read_generic(&value, now).with_context(|| format!("`{}`", file.display()))?;
    let action = normalized.into_iter().find_map(|event| match event {
        Event::Action(action) => Some(*action),
        _ => None,
    });
    action.with_context(|| format!("`{}` asks for no action", file.display()))
}

/// Reads a request as the generic connector does, taking it as signed.
fn read_generic(request: &Value, now: Timestamp) -> anyhow::Result<Vec<Event>> {
    let registry = countersign_connectors::registry();
    let spec = registry.get(GENERIC).context("this program has no generic connector")?;
    let env = Env {
        egress: &Egress::new([])?,
        instance: GENERIC,
        keys: &KeySets::default(),
        lookup: &|_| Some("not used, nothing is verified".to_owned()),
        public_url: "",
    };
    let parts = (spec.connect)(json!({"tokens": {"file": {"env": "unused"}}}), &env)?;
    let body = Bytes::from(request.to_string());
    let inbound = Inbound::new(String::new(), String::new(), HeaderMap::new(), body, now);
    let caller =
        Caller { assurance: Assurance::VendorSigned, verified_by: "standard-webhooks", ..Caller::default() };
    let normalized = parts.gate.normalize(&inbound.assume_verified(caller));
    normalized.map(|normalized| normalized.events).map_err(|error| anyhow::anyhow!("{}", error.reason))
}

fn describe(action: &Action, explanation: &Explanation) -> anyhow::Result<()> {
    let decision = &explanation.decision;
    output::line(format_args!("{}: {}", decision.verdict, decision.reason))?;
    output::line(format_args!("{} {}", action.effect.as_str(), action.tool.canonical()))?;
    if let Some(modified) = &decision.modified {
        output::line(format_args!("runs with {}", Value::Object(modified.clone())))?;
    }
    if let Some(deferral) = &decision.deferral {
        output::line(format_args!("waits for {}", deferral.needs.join(", ")))?;
    }
    if let Some(rule) = &decision.approval {
        output::line(format_args!("asks {} of {}", rule.quorum, rule.approvers.join(", ")))?;
    }
    let mut table = output::table(["policy", "would", "found", "priority", "place", "reason"]);
    for policy in &explanation.considered {
        let found = serde_json::to_value(policy.finding)?;
        table.add_row([
            policy.id.clone(),
            policy.verdict.to_string(),
            found.as_str().unwrap_or_default().replace('_', " "),
            policy.priority.to_string(),
            format!("{}:{}", policy.file, policy.line),
            policy.reason.clone(),
        ]);
    }
    output::line(table)?;
    if !explanation.unpopulated.is_empty() {
        output::line(format_args!("not known here: {}", explanation.unpopulated.join(", ")))?;
    }
    Ok(())
}
