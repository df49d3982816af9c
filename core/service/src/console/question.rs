//! One question: everything an approver must see on one screen, and the answer. What is seen is what is signed: the
//! form carries the hash of the action that was shown, and an answer to another one is not taken.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use countersign_schemas::{
    Approval, ApprovalContext, ApprovalId, GrantLimit, GrantScope, PendingKind, PriorAction, ReceiptKind,
    Timestamp,
};
use countersign_sdk::signature::equal;
use countersign_store::Query;
use maud::{Markup, html};

use super::board::Group;
use super::guard::{Posted, Visitor};
use super::receipts::read;
use super::refusal::Refusal;
use super::{Desk, layout, receipt, words};
use crate::approval::{Answer, AnswerError, Resolved};
use crate::config::Role;

/// Earlier actions that an approver sees; the session's page has them all.
const PRIOR: usize = 5;
/// Alike questions that can be answered at once: as many as a person can look through.
const ALIKE_MAX: usize = 20;
/// The newest resolutions, among which that of a question is looked for.
const SETTLED_LOOKED_AT_MAX: usize = 200;
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
pub(crate) async fn detail(
    desk: &Desk,
    visitor: &Visitor,
    looked: &Looked,
    group: Option<&Group>,
) -> Result<Markup, Refusal> {
    let (version, body) = match looked {
        Looked::Nothing => ("nothing".to_owned(), html! { p class="empty muted" { "No question is open." } }),
        Looked::Settled(id) => (format!("settled {id}"), settled(desk, id).await?),
        Looked::Open(approval) => {
            let version =
                format!("{} {} {:?}", approval.approval_id, approval.approved_by.len(), approval.kind);
            (version, open(desk, visitor, approval, group).await?)
        }
    };
    Ok(html! {
        section id="detail" class="detail" data-live="log" data-version=(version) data-question=[looked.open().map(|of| &of.approval_id)] aria-label="Question" { (body) }
    })
}

/// A question that nobody can answer any more.
async fn settled(desk: &Desk, id: &ApprovalId) -> Result<Markup, Refusal> {
    let query =
        Query { kind: Some(ReceiptKind::Resolution), limit: SETTLED_LOOKED_AT_MAX, ..Query::default() };
    let found = desk.app.pipeline.store.find(&query).await?;
    let of_this = found.iter().find(|leaf| {
        let Some(predicate) = read(leaf).map(|statement| statement.predicate) else { return false };
        let approval = predicate.approval.map(|of| of.approval_id);
        let deferral = predicate.deferral.map(|of| of.approval_id);
        [approval, deferral].iter().flatten().any(|of| of == id)
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

async fn open(
    desk: &Desk,
    visitor: &Visitor,
    approval: &Approval,
    group: Option<&Group>,
) -> Result<Markup, Refusal> {
    let alike = others(desk, approval, group).await?;
    let more = group.map_or(0, |group| group.members.len().saturating_sub(1));
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
                @if approval.held { " · the vendor waits for a callback" }
                @if let Some(until) = approval.holds_until { " · the agent’s call waits, " (words::left(until, desk.now())) }
            }
            h2 { code { (action.tool.canonical()) } " " span class="tag" { (action.effect.as_str()) } }
            p class="reason" { (approval.decision.reason) }
        }
        section class="run" { h3 { "What it would run" } pre class="params" tabindex="0" aria-label="Parameters" { (receipt::pretty(&action.parameters)) } }
        div class="facts" {
            div {
                section { h3 { "The user asked" } (request(&approval.context)) }
                section { h3 { "Data and risk" } (risk(approval)) }
                section { h3 { "Policy" } (policy(desk, approval)) }
            }
            div {
                section { h3 { "Who" } (who(approval)) }
                section { h3 { "Before, in this session" } (prior(approval)) }
            }
        }
        (form(visitor, approval, &alike, more, desk.now()))
    })
}

/// Open questions that are alike, without this one.
async fn others(desk: &Desk, approval: &Approval, group: Option<&Group>) -> Result<Vec<Approval>, Refusal> {
    let members = group.into_iter().flat_map(|group| &group.members);
    let mut open = Vec::new();
    for id in members.filter(|id| **id != approval.approval_id).take(ALIKE_MAX) {
        open.extend(desk.app.pipeline.store.approval(id).await?);
    }
    Ok(open)
}

fn request(context: &ApprovalContext) -> Markup {
    html! {
        @match &context.request {
            Some(request) => {
                blockquote class="clip" tabindex="0" { (request) }
                @if !context.later_requests.is_empty() { p class="small muted" { "later: " (tail(&context.later_requests)) } }
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
            dt { "Identity" } dd { (identity.assurance.as_str().replace('_', " ")) }
            (words::row("Role", identity.role.as_ref().map(|role| html! { (role) })))
        }
        (receipt::delegation(&identity.delegation))
    }
}

fn risk(approval: &Approval) -> Markup {
    let (action, context) = (&approval.action, &approval.context);
    html! {
        dl class="tight" {
            dt { "Session has read" } dd { (words::labels(&context.labels, context.untrusted)) }
            @if !action.facets.labels.is_empty() { dt { "This call" } dd { (words::labels(&action.facets.labels, false)) } }
            @if let Some(of) = &approval.risk {
                (words::row("Distance", of.distance.map(words::degree)))
                (words::row("Drift", of.drift.map(words::degree)))
                (words::row("Confidence", Some(words::degree(of.confidence))))
                (words::row("Data escalation", (of.escalation > 0).then(|| html! { (of.escalation) " levels" })))
            }
            @if !action.risk_signals.is_empty() {
                dt { "Signals" } dd { @for signal in &action.risk_signals { span class="tag bad" { (signal) } " " } }
            }
            (receipt::facet_rows(&action.facets))
        }
    }
}

fn prior(approval: &Approval) -> Markup {
    let context = &approval.context;
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
                pre class="source" tabindex="0" { (in_force.text(&policy.id).unwrap_or_else(|| "no longer in force".into())) } }
        }
        @if let Some(deferral) = &approval.deferral { p class="small" { "Missing: " (deferral.needs.join(", ")) } }
        @if let Some(rule) = &approval.rule {
            p class="small muted" {
                "Answered by " (rule.approvers.join(", "))
                @if rule.quorum > 1 { ", " (rule.quorum) " of them" }
                @if let Some(more) = &rule.escalation {
                    @if approval.escalated_at.is_some() { "; escalated to " } @else { "; later also " }
                    (more.approvers.join(", "))
                }
                @if !approval.approved_by.is_empty() { "; so far: " (approval.approved_by.join(", ")) }
            }
        }
    }
}

fn form(visitor: &Visitor, approval: &Approval, alike: &[Approval], more: usize, now: Timestamp) -> Markup {
    if !visitor.may(Role::Approver) {
        return html! { p class="notice" { "You may look at this question, but answering it takes the role approver." } };
    }
    html! {
        form id="answer" class="answer" method="post" action="/console/queue/answer" {
            (layout::csrf(visitor))
            input type="hidden" name="question" value=(stamp(approval));
            input type="hidden" name="shown" value=(now);
            @if !alike.is_empty() {
                details class="alike" {
                    summary { (more) " more like this" }
                    p class="small muted" { "Each one that is ticked gets this answer and its own receipt; later ones do not." @if more > alike.len() { " The first " (alike.len()) " are listed." } }
                    @for other in alike {
                        label class="check" {
                            input type="checkbox" name="question" value=(stamp(other));
                            span { code { (words::cut(&serde_json::to_string(&other.action.parameters).unwrap_or_default())) } " " (words::left(other.expires_at, now)) }
                        }
                    }
                }
            }
            div class="answer-line" {
                label class="grow" { span { "Reason" } input id="reason" name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off" placeholder="Kept with the receipt"; }
                (scopes(approval.rule.as_ref().map(|rule| rule.grant).unwrap_or_default()))
                button id="approve" name="answer" value="approve" class="primary" { "Approve" }
                button id="deny" name="answer" value="deny" class="danger" { "Deny" }
            }
        }
    }
}

/// How far a yes may reach, when the policy leaves a choice.
fn scopes(limit: GrantLimit) -> Markup {
    let window = limit.window_seconds.map(|seconds| words::span(std::time::Duration::from_secs(seconds)));
    html! {
        @if !limit.is_once() {
            label { span { "If approved" } select name="scope" {
                option value="once" { "once" }
                @if limit.session { option value="session" { "for this session" } }
                @if let Some(window) = window { option value="window" { "for " (window) } }
            } }
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
    let scope = GrantScope::ALL.into_iter().find(|scope| scope.as_str() == form.text("scope"));
    let given = Answer {
        approved,
        asked_at: form.text("shown").parse().ok().filter(|shown: &Timestamp| *shown <= desk.now()),
        comment: Some(comment).filter(|text| !text.is_empty()),
        scope: scope.filter(|_| approved).unwrap_or_default(),
    };
    let mut questions = Vec::new();
    for stamp in form.all("question").take(1 + ALIKE_MAX) {
        questions.push(shown(&desk, stamp).await?);
    }
    let approver = visitor.0.person.approver();
    let results = desk.app.pipeline.resolve_alike(&desk.app.routes, &questions, &approver, &given).await;
    let (mut receipts, mut counted, mut refused) = (Vec::new(), None, Vec::new());
    for (id, result) in results {
        match result {
            Ok(Resolved::Settled(receipt)) => receipts.push(receipt.to_string()),
            Ok(Resolved::Counted { .. }) => counted = Some(id.to_string()),
            Err(error) => refused.push(error),
        }
    }
    // Where some were answered, what is left stands in the list, open as before.
    let left = !refused.is_empty();
    if let Some(error) = refused.pop().filter(|_| receipts.is_empty() && counted.is_none()) {
        return Err(error.into());
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !receipts.is_empty() {
        query.append_pair("answered", &receipts.join(","));
    }
    if let Some(id) = counted {
        query.append_pair("counted", &id).append_pair("at", &id);
    }
    if left {
        query.append_pair("left", "some");
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
