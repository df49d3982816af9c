//! One question: everything an approver must see on one screen, and the answer. What is seen is what is signed: the
//! form carries the hash of the action that was shown, and an answer to another one is not taken.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use countersign_schemas::{Approval, ApprovalId, Context, PendingKind, PriorAction, ReceiptKind};
use countersign_sdk::signature::equal;
use countersign_store::Query;
use maud::{Markup, html};

use super::guard::{Posted, Visitor};
use super::queue::alike;
use super::refusal::Refusal;
use super::{Desk, layout, receipt, words};
use crate::approval::{Answer, AnswerError, Resolved};
use crate::config::Role;

/// Earlier actions that an approver sees; the session's page has them all.
const PRIOR: usize = 6;
/// Alike questions that can be answered at once: as many as a person can look through.
const ALIKE_MAX: usize = 20;
/// No reason is longer.
const REASON_CHARS_MAX: usize = 2_000;

/// What there is to look at.
pub(crate) enum Looked {
    Nothing,
    Open(Box<Approval>),
    /// It was open once, or never.
    Settled(ApprovalId),
}

impl Looked {
    pub(crate) fn open(&self) -> Option<&Approval> {
        match self {
            Self::Open(approval) => Some(approval),
            _ => None,
        }
    }
}

/// The right-hand side of the queue. Its `data-version` changes when the question does, so that a refresh leaves a
/// half-written reason alone.
pub(crate) async fn detail(desk: &Desk, visitor: &Visitor, looked: &Looked) -> Result<Markup, Refusal> {
    let (version, body) = match looked {
        Looked::Nothing => ("nothing".to_owned(), html! { p class="empty muted" { "No question is open." } }),
        Looked::Settled(id) => (format!("settled {id}"), settled(desk, id).await?),
        Looked::Open(approval) => {
            let version =
                format!("{} {} {:?}", approval.approval_id, approval.approved_by.len(), approval.kind);
            (version, open(desk, visitor, approval).await?)
        }
    };
    Ok(html! {
        section id="detail" class="detail" data-live="log" data-version=(version) data-question=[looked.open().map(|of| &of.approval_id)] aria-label="Question" { (body) }
    })
}

/// A question that nobody can answer any more.
async fn settled(desk: &Desk, id: &ApprovalId) -> Result<Markup, Refusal> {
    let query = Query { kind: Some(ReceiptKind::Resolution), limit: 200, ..Query::default() };
    let found = desk.app.pipeline.store.find(&query).await?;
    let of_this = found.iter().find(|leaf| {
        let text = std::str::from_utf8(&leaf.bytes).unwrap_or_default();
        let statement = super::receipts::read(leaf);
        let predicate = statement.map(|statement| statement.predicate);
        let ids =
            predicate.map(|of| (of.approval.map(|of| of.approval_id), of.deferral.map(|of| of.approval_id)));
        !text.is_empty() && ids.is_some_and(|(a, d)| a.as_ref() == Some(id) || d.as_ref() == Some(id))
    });
    Ok(html! {
        p class="back" { a href="/console/queue" { "Back to the list" } }
        h2 { "This question is settled" }
        p { "It was answered, timed out or was withdrawn, so nobody can answer it any more." }
        @if let Some(leaf) = of_this {
            p { @if let Some(verdict) = leaf.summary.verdict { (words::verdict(verdict)) " " }
                a href={ "/console/receipts/" (leaf.summary.receipt_id) } { "See how, in its receipt" } }
        }
    })
}

async fn open(desk: &Desk, visitor: &Visitor, approval: &Approval) -> Result<Markup, Refusal> {
    let state = desk.app.pipeline.store.session(&approval.action.session.id).await?;
    let context: Context = serde_json::from_slice(&state.context).unwrap_or_default();
    let group = others(desk, approval).await?;
    let action = &approval.action;
    let severity = words::severity(approval.decision.severity);
    Ok(html! {
        p class="back" { a href="/console/queue" { "Back to the list" } }
        header class="question" {
            p class="small muted" {
                span class={ "sev " (severity) } { (severity) } " · "
                @match (approval.kind, approval.deferral.is_some()) {
                    (PendingKind::Deferral, _) => { "deferred: waits for context" }
                    (PendingKind::Approval, true) => { "a deferral that escalated to people" }
                    (PendingKind::Approval, false) => { "a policy asks for a person" }
                }
                " · " (words::left(approval.expires_at, desk.now())) " until it is denied"
                @if approval.held { " · the vendor waits" }
            }
            h2 { code { (action.tool.canonical()) } " " span class="tag" { (action.effect.as_str()) } }
            p class="reason" { (approval.decision.reason) }
        }
        div class="facts" {
            section class="wide" { h3 { "What it would run" } pre class="params" tabindex="0" aria-label="Parameters" { (receipt::pretty(&action.parameters)) } }
            section { h3 { "The user asked" } (request(&context)) }
            section { h3 { "Who" } (who(approval)) }
            section { h3 { "Data and risk" } (risk(approval, &context)) }
            section { h3 { "Before, in this session" } (prior(approval, &context)) }
            section { h3 { "Policy" } (policy(desk, approval)) }
        }
        (form(visitor, approval, &group, &desk.now()))
    })
}

/// Open questions that are alike, without this one.
async fn others(desk: &Desk, approval: &Approval) -> Result<Vec<Approval>, Refusal> {
    let key = alike(approval);
    let mut open = desk.app.pipeline.store.approvals().await?;
    open.retain(|other| other.approval_id != approval.approval_id && alike(other) == key);
    Ok(open)
}

fn request(context: &Context) -> Markup {
    html! {
        @match &context.request {
            Some(request) => {
                blockquote class="clip" { (request) }
                @if context.requests > 1 { p class="small muted" { "and " (context.requests - 1) " more; the last: " (tail(&context.later_requests)) } }
            }
            None => { p class="muted" { "Unknown: no prompt of this session was seen." } }
        }
    }
}

/// The end of a long text.
fn tail(text: &str) -> String {
    let from = text.char_indices().rev().nth(120).map_or(0, |(at, _)| at);
    if from == 0 { text.to_owned() } else { format!("…{}", &text[from..]) }
}

fn who(approval: &Approval) -> Markup {
    let identity = &approval.action.identity;
    html! {
        dl class="tight" {
            @if let Some(human) = &identity.human {
                dt { "Person" } dd {
                    (human.name.as_deref().or(human.email.as_deref()).unwrap_or(&human.id))
                    @if let (Some(_), Some(email)) = (&human.name, &human.email) { " (" (email) ")" }
                }
            }
            dt { "Agent" } dd { (identity.agent.id)
                @if let Some(kind) = &identity.agent.kind { " · " (kind) }
                @if let Some(model) = &identity.agent.model { " · " (model) }
            }
            dt { "Through" } dd { (approval.action.source.connector) }
            dt { "Believed" } dd { (identity.assurance.as_str().replace('_', " ")) }
            (words::row("Role", identity.role.as_ref().map(|role| html! { (role) })))
        }
        (receipt::delegation(&identity.delegation))
    }
}

fn risk(approval: &Approval, context: &Context) -> Markup {
    let action = &approval.action;
    html! {
        dl class="tight" {
            dt { "Session has read" } dd { (words::labels(&context.labels, context.untrusted)) }
            @if !action.facets.labels.is_empty() { dt { "This call" } dd { (words::labels(&action.facets.labels, false)) } }
            @if let Some(drift) = context.drift { dt { "Drift, highest" } dd { (words::degree(drift.max)) } }
            @if !action.risk_signals.is_empty() {
                dt { "Signals" } dd { @for signal in &action.risk_signals { span class="tag bad" { (signal) } " " } }
            }
        }
        (receipt::facet_list(&action.facets))
    }
}

fn prior(approval: &Approval, context: &Context) -> Markup {
    let earlier = |prior: &&PriorAction| prior.action_id != approval.action.action_id;
    let recent: Vec<_> = context.recent.iter().rev().filter(earlier).take(PRIOR).collect();
    html! {
        @if recent.is_empty() { p class="muted" { "Nothing: this is its first action." } }
        ol class="plain small" {
            @for prior in recent { li { (words::verdict(prior.verdict)) " " (prior.tool) } }
        }
        p class="small" { a href={ "/console/sessions/" (approval.action.session.id) } { "All " (context.action_count) " in the session" } }
    }
}

fn policy(desk: &Desk, approval: &Approval) -> Markup {
    let in_force = desk.app.pipeline.policies.load();
    html! {
        @for policy in &approval.decision.policies {
            details { summary { code { (policy.id) } }
                pre class="source" { (in_force.text(&policy.id).unwrap_or_else(|| "no longer in force".into())) } }
        }
        @if let Some(deferral) = &approval.deferral { p class="small" { "Missing: " (deferral.needs.join(", ")) } }
        @if let Some(rule) = &approval.rule {
            p class="small muted" {
                "Answered by " (rule.approvers.join(", "))
                @if rule.quorum > 1 { ", " (rule.quorum) " of them" }
                @if !approval.approved_by.is_empty() { "; so far: " (approval.approved_by.join(", ")) }
            }
        }
    }
}

fn form(
    visitor: &Visitor,
    approval: &Approval,
    group: &[Approval],
    now: &countersign_schemas::Timestamp,
) -> Markup {
    if !visitor.may(Role::Approver) {
        return html! { p class="notice" { "You may look at this question, but answering it takes the role approver." } };
    }
    html! {
        form id="answer" class="answer" method="post" action="/console/queue/answer" {
            (layout::csrf(visitor))
            input type="hidden" name="question" value=(stamp(approval));
            @if !group.is_empty() {
                details class="alike" {
                    summary { (group.len()) " more like this" }
                    p class="small muted" { "Each one that is ticked gets this answer and its own receipt; later ones do not." }
                    @for other in group.iter().take(ALIKE_MAX) {
                        label class="check" {
                            input type="checkbox" name="question" value=(stamp(other));
                            span { code { (words::cut(&serde_json::to_string(&other.action.parameters).unwrap_or_default())) } " " (words::left(other.expires_at, *now)) }
                        }
                    }
                }
            }
            div class="answer-line" {
                label class="grow" { span { "Reason" } input id="reason" name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off" placeholder="Kept with the receipt; a denied agent is told"; }
                button id="approve" name="answer" value="approve" class="primary" { "Approve" }
                button id="deny" name="answer" value="deny" class="danger" { "Deny" }
            }
        }
    }
}

/// Names a question and the action that was shown.
fn stamp(approval: &Approval) -> String {
    format!("{} {}", approval.approval_id, approval.action_hash)
}

/// Takes an answer to one question, or to several that were ticked.
pub(crate) async fn answer(State(desk): State<Desk>, posted: Posted) -> Result<Response, Refusal> {
    let Posted { form, visitor } = posted;
    visitor.require(Role::Approver)?;
    let approved = match form.text("answer") {
        "approve" => true,
        "deny" => false,
        _ => return Err(Refusal::Malformed("say `approve` or `deny`".into())),
    };
    let comment: String = form.text("reason").chars().take(REASON_CHARS_MAX).collect();
    let comment = Some(comment).filter(|text| !text.is_empty());
    let mut questions = Vec::new();
    for stamp in form.all("question").take(1 + ALIKE_MAX) {
        questions.push(shown(&desk, stamp).await?);
    }
    let approver = visitor.0.person.approver();
    let given = Answer { approved, comment, ..Answer::default() };
    let (mut receipts, mut counted) = (Vec::new(), None);
    for id in questions {
        let pipeline = &desk.app.pipeline;
        match pipeline.resolve(&desk.app.routes, &id, &approver, &given).await? {
            Resolved::Settled(receipt) => receipts.push(receipt.to_string()),
            Resolved::Counted { .. } => counted = Some(id.to_string()),
        }
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !receipts.is_empty() {
        query.append_pair("answered", &receipts.join(","));
    }
    if let Some(id) = counted {
        query.append_pair("counted", &id).append_pair("at", &id);
    }
    Ok(Redirect::to(&format!("/console/queue?{}", query.finish())).into_response())
}

/// The open question of a stamp, if its action is the one that was shown.
async fn shown(desk: &Desk, stamp: &str) -> Result<ApprovalId, Refusal> {
    let malformed = || Refusal::Malformed("the form names no question".into());
    let (id, hash) = stamp.split_once(' ').ok_or_else(malformed)?;
    let id: ApprovalId = id.parse().map_err(|_| malformed())?;
    let open = desk.app.pipeline.store.approval(&id).await?;
    let open = open.ok_or_else(|| AnswerError::NotOpen(id.clone()))?;
    if equal(open.action_hash.as_bytes(), hash.as_bytes()) { Ok(id) } else { Err(Refusal::Changed) }
}
