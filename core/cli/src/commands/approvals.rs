//! `countersign approvals`

use clap::Subcommand;
use countersign_schemas::{Approval, GrantScope};
use countersign_service::fatigue::FatigueFigures;
use serde_json::{Value, json};

use crate::args::{Globals, Remote};
use crate::client::Client;
use crate::exit::Exit;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  countersign approvals list
  countersign approvals show apr_01h…        with every parameter: look before you approve
  countersign approvals approve apr_01h… --comment 'checked with Ann'
  countersign approvals deny apr_01h…

An approval lets that exact action run once, in that session, or as far as --scope says and the policy permits. Silence is DENY. Nobody approves their own agent.";
const REASON_CHARS: usize = 60;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print what waits, oldest first.
    List(Remote),
    /// Print one ticket, with the action's parameters.
    Show {
        /// The ticket (`apr_…`).
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Approve.
    Approve(Answer),
    /// Refuse.
    Deny(Answer),
    /// Print how much each approver was asked in the last thirty days, and how soon they answered.
    Figures(Remote),
}

#[derive(Debug, clap::Args)]
struct Answer {
    /// The ticket (`apr_…`).
    id: String,
    /// How far an approval reaches, if the policy's `@grant` permits more than one run.
    #[arg(long, value_enum, default_value_t = Scope::Once)]
    scope: Scope,
    /// What you want to say about it. It is kept beside the receipt.
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// How far an approval reaches.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Scope {
    /// One run of the exact action, in that session.
    Once,
    /// The exact action for the rest of the session.
    Session,
    /// The exact action in any session of the same requester, for the policy's window.
    Window,
}

impl Scope {
    fn grant(self) -> GrantScope {
        match self {
            Self::Once => GrantScope::Once,
            Self::Session => GrantScope::Session,
            Self::Window => GrantScope::Window,
        }
    }
}

/// Lists, shows or answers approvals.
///
/// # Errors
///
/// What the server said, or why it could not be asked.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    match args.what {
        What::List(remote) => list(&remote, globals).await?,
        What::Show { id, remote } => {
            let approval: Approval =
                Client::new(&remote, globals)?.get(&["v1", "approvals", &id], &()).await?;
            if globals.json { output::json(&approval)? } else { show(&approval)? }
        }
        What::Approve(answer) => settle(answer, "approve", globals).await?,
        What::Deny(answer) => settle(answer, "deny", globals).await?,
        What::Figures(remote) => figures(&remote, globals).await?,
    }
    Ok(Exit::Done)
}

async fn list(remote: &Remote, globals: &Globals) -> anyhow::Result<()> {
    let approvals: Vec<Approval> = Client::new(remote, globals)?.get(&["v1", "approvals"], &()).await?;
    if globals.json {
        return output::json(&approvals);
    }
    let mut table = output::table(["ticket", "expires", "who", "tool", "approvers", "reason"]);
    for approval in &approvals {
        table.add_row([
            approval.approval_id.to_string(),
            approval.expires_at.to_string(),
            who(approval),
            approval.action.tool.canonical(),
            approvers(approval),
            output::cut(&approval.decision.reason, REASON_CHARS),
        ]);
    }
    Ok(output::line(table)?)
}

async fn figures(remote: &Remote, globals: &Globals) -> anyhow::Result<()> {
    let figures: FatigueFigures =
        Client::new(remote, globals)?.get(&["v1", "approvals", "figures"], &()).await?;
    if globals.json {
        return output::json(&figures);
    }
    let mut table = output::table(["approver", "yes", "no", "a day", "median", "yes in under 3 s"]);
    for of in &figures.approvers {
        table.add_row([
            of.approver.clone(),
            of.approved.to_string(),
            of.refused.to_string(),
            format!("{:.1}", of.per_day),
            format!("{:.1} s", std::time::Duration::from_millis(of.median_ms).as_secs_f64()),
            format!("{:.0} %", of.hasty_share * 100.0),
        ]);
    }
    output::line(table)?;
    let FatigueFigures { timed_out, withdrawn, .. } = figures;
    Ok(output::line(format_args!(
        "{timed_out} nobody answered in time, {withdrawn} ended with their session"
    ))?)
}

fn who(approval: &Approval) -> String {
    let identity = &approval.action.identity;
    let human = identity.human.as_ref().map(|human| human.email.as_ref().unwrap_or(&human.id));
    human.map_or_else(|| identity.agent.id.clone(), |human| format!("{} for {human}", identity.agent.id))
}

fn approvers(approval: &Approval) -> String {
    let rule = approval.rule.as_ref();
    let names = rule.map(|rule| rule.approvers.join(", ")).filter(|names| !names.is_empty());
    let names = names.unwrap_or_else(|| "any approver".to_owned());
    let quorum = rule.map_or(1, |rule| rule.quorum.max(1));
    if quorum > 1 { format!("{names} ({} of {quorum})", approval.approved_by.len()) } else { names }
}

fn show(approval: &Approval) -> anyhow::Result<()> {
    let action = &approval.action;
    let policies: Vec<_> = approval.decision.policies.iter().map(|policy| policy.id.clone()).collect();
    let parameters = serde_json::to_string_pretty(&action.parameters)?;
    // What a vendor sent is shown as JSON, which escapes what could play tricks on a terminal.
    for (name, value) in [
        ("ticket", approval.approval_id.to_string()),
        ("opened", approval.opened_at.to_string()),
        ("expires", approval.expires_at.to_string()),
        ("approvers", approvers(approval)),
        ("who", output::cut(&who(approval), usize::MAX)),
        ("connector", action.source.connector.clone()),
        ("session", output::cut(&action.session.vendor_id, usize::MAX)),
        ("tool", output::cut(&action.tool.canonical(), usize::MAX)),
        ("effect", action.effect.as_str().to_owned()),
        ("reason", output::cut(&approval.decision.reason, usize::MAX)),
        ("policies", policies.join(", ")),
        ("receipt", approval.receipt_id.to_string()),
        ("parameters", parameters),
    ] {
        output::line(format_args!("{name:<11} {value}"))?;
    }
    Ok(())
}

async fn settle(answer: Answer, verb: &str, globals: &Globals) -> anyhow::Result<()> {
    let client = Client::new(&answer.remote, globals)?;
    let body = json!({"comment": answer.comment, "scope": answer.scope.grant()});
    let settled: Value = client.post(&["v1", "approvals", &answer.id, verb], &body).await?;
    if globals.json {
        return output::json(&settled);
    }
    let text = |key: &str| settled.get(key).map(Value::to_string).unwrap_or_default();
    if settled.get("settled") == Some(&Value::Bool(true)) {
        output::line(format_args!("settled (receipt {})", text("receiptId").trim_matches('"')))?;
    } else {
        output::line(format_args!("counted: {} of {} have approved", text("approved"), text("quorum")))?;
    }
    Ok(())
}
