//! What waits for a person, the worst first, and the one question that is looked at.

use axum::extract::{Query, State};
use countersign_schemas::{Approval, ApprovalId, PendingKind, ReceiptId, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;

use super::board::Group;
use super::guard::Visitor;
use super::layout::{self, Here};
use super::refusal::Refusal;
use super::{Desk, question, words};

/// Groups of alike questions that the list shows at once; nobody reads further before the first are answered.
const GROUPS: usize = 40;
/// Receipts of answers that a page names.
const ANSWERED_MAX: usize = 50;

/// Where the reader is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    /// The question that is looked at.
    at: Option<String>,
    /// Receipts of what was just answered, with commas between.
    answered: Option<String>,
    /// The question that was just approved and waits for more approvals.
    counted: Option<String>,
    /// Whether some of the alike questions could not be answered.
    left: Option<String>,
    /// The question that a page which refreshes itself has been showing: a worse one must not take its place under the
    /// reader's eyes.
    seen: Option<String>,
    /// How many groups come before those that are shown.
    skip: usize,
}

/// The page.
pub(crate) async fn page(
    State(desk): State<Desk>,
    visitor: Visitor,
    Query(place): Query<Place>,
) -> Result<Markup, Refusal> {
    let store = &desk.app.pipeline.store;
    let groups = desk.console.board.groups(&**store).await?;
    let chosen = place.at.is_some();
    let shown = match (place.at.as_deref().or(place.seen.as_deref()), groups.first()) {
        (Some(id), _) => look(&desk, id).await?,
        (None, Some(_)) => first(&desk, &groups).await?,
        (None, None) => question::Looked::Nothing,
    };
    let group = group_of(&groups, shown.open());
    let detail = question::detail(&desk, &visitor, &shown, group).await?;
    let list = list(&desk, &groups, &place, group).await?;
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Queue,
        "Queue",
        html! {
            (answered(&desk, &place).await?)
            div class={ "queue" @if chosen { " chosen" } } {
                section id="list" class="list" data-live="log" aria-label="Open questions" {
                    div class="head" { h1 { "Queue" } p class="muted" { (count(store.health().approvals)) } }
                    (list)
                }
                (detail)
            }
            (help())
        },
    ))
}

fn count(total: usize) -> String {
    match total {
        0 => "nothing waits".into(),
        1 => "1 question".into(),
        n => format!("{n} questions"),
    }
}

async fn look(desk: &Desk, id: &str) -> Result<question::Looked, Refusal> {
    let not_found = |_| Refusal::NotFound(format!("there is no question `{}`", words::cut(id)));
    let id: ApprovalId = id.parse().map_err(not_found)?;
    Ok(match desk.app.pipeline.store.approval(&id).await? {
        Some(open) => question::Looked::Open(Box::new(open)),
        None => question::Looked::Settled(id),
    })
}

/// The worst question that is still open.
async fn first(desk: &Desk, groups: &[Group]) -> Result<question::Looked, Refusal> {
    for id in groups.iter().take(GROUPS).flat_map(|group| &group.members) {
        if let Some(open) = desk.app.pipeline.store.approval(id).await? {
            return Ok(question::Looked::Open(Box::new(open)));
        }
    }
    Ok(question::Looked::Nothing)
}

/// The group that a question is in; none when it came after the order was made.
fn group_of<'g>(groups: &'g [Group], shown: Option<&Approval>) -> Option<&'g Group> {
    let id = &shown?.approval_id;
    groups.iter().find(|group| group.members.contains(id))
}

async fn list(
    desk: &Desk,
    groups: &[Group],
    place: &Place,
    current: Option<&Group>,
) -> Result<Markup, Refusal> {
    let mut cards = Vec::new();
    for group in groups.iter().skip(place.skip).take(GROUPS) {
        let Some(id) = group.first() else { continue };
        // A question that was settled since the order was made is left out.
        if let Some(open) = desk.app.pipeline.store.approval(id).await? {
            cards.push(card(&open, group.members.len(), current == Some(group), desk.now()));
        }
    }
    Ok(html! {
        @if cards.is_empty() {
            div class="empty" {
                p { strong { "Nothing waits for you." } }
                p { "New questions appear here by themselves." }
            }
        }
        ol class="cards" { @for card in &cards { li { (card) } } }
        nav class="pager" aria-label="Pages of the queue" {
            @if place.skip > 0 {
                a class="button" href={ "/console/queue?skip=" (place.skip.saturating_sub(GROUPS)) } { "Before" }
            }
            @if groups.len() > place.skip + GROUPS {
                a class="button" href={ "/console/queue?skip=" (place.skip + GROUPS) } { "More (" (groups.len() - place.skip - GROUPS) ")" }
            }
        }
    })
}

fn card(of: &Approval, size: usize, current: bool, now: Timestamp) -> Markup {
    let action = &of.action;
    let severity = words::severity(of.decision.severity);
    html! {
        a class={ "card-link severity-" (severity) } data-row id={ "row-" (of.approval_id) }
            href={ "/console/queue?at=" (of.approval_id) } aria-current=[current.then_some("true")] {
            span class="card-top" {
                span class="card-tool" { (action.tool.name) }
                @if size > 1 { span class="count" { "×" (size) } }
            }
            span class="small" { (words::cut(&of.decision.reason)) }
            span class="card-foot small muted" {
                span class={ "sev " (severity) } { (severity) }
                span { (who(of)) }
                @if action.identity.human.is_some() { span { (action.identity.agent.id) } }
                span { (words::left(of.expires_at, now)) }
            }
            @if of.kind == PendingKind::Deferral { span class="small muted" { "waits for context" } }
        }
    }
}

/// On whose behalf.
fn who(approval: &Approval) -> String {
    let identity = &approval.action.identity;
    match &identity.human {
        Some(human) => human.name.as_ref().or(human.email.as_ref()).unwrap_or(&human.id).clone(),
        None => identity.agent.id.clone(),
    }
}

/// What was just done, from its receipts.
async fn answered(desk: &Desk, place: &Place) -> Result<Markup, Refusal> {
    let mut receipts = Vec::new();
    for id in place.answered.as_deref().unwrap_or_default().split(',').take(ANSWERED_MAX) {
        let Ok(id) = id.parse::<ReceiptId>() else { continue };
        receipts.extend(desk.app.pipeline.store.receipt(&id).await?);
    }
    let counted = place.counted.as_deref().and_then(|id| id.parse::<ApprovalId>().ok());
    let counted = match counted {
        Some(id) => desk.app.pipeline.store.approval(&id).await?,
        None => None,
    };
    Ok(html! {
        @if !receipts.is_empty() {
            div class="notice good" role="status" {
                @for leaf in &receipts {
                    p {
                        @if leaf.summary.verdict == Some(countersign_schemas::Verdict::Allow) { "Approved. " } @else { "Denied. " }
                        a href={ "/console/receipts/" (leaf.summary.receipt_id) } { "See the receipt" }
                    }
                }
            }
        }
        @if place.left.is_some() { p class="notice" role="status" { "Some could not be answered; what is still open is in the list." } }
        @if let Some(open) = counted {
            p class="notice good" role="status" {
                "Your approval counts: " (open.approved_by.len()) " of "
                (open.rule.as_ref().map_or(1, |rule| rule.quorum)) " so far."
            }
        }
    })
}

fn help() -> Markup {
    html! {
        dialog id="help" aria-labelledby="help-title" {
            h2 id="help-title" { "Keys" }
            dl {
                dt { kbd { "j" } " " kbd { "k" } } dd { "next and previous question" }
                dt { kbd { "a" } } dd { "go to Approve; Enter then approves" }
                dt { kbd { "d" } } dd { "go to the reason; Deny is the button after it" }
                dt { kbd { "?" } } dd { "this list" }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}
