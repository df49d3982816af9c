//! A session from its beginning, with what the same person's other sessions did meanwhile, at any vendor.

use axum::extract::{Path, Query, State};
use countersign_schemas::{Context, Predicate, SessionId, Timestamp};
use countersign_store::{Query as Wanted, StoredLeaf};
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;

use super::guard::Visitor;
use super::layout::{self, Here};
use super::receipts::{read, what};
use super::refusal::Refusal;
use super::{Desk, plot, proof, words};
use crate::people;

/// Receipts of the session on one page.
const ROWS: usize = 200;
/// Receipts that are looked at for the person's other sessions.
const OTHERS_LOOKED_AT_MAX: usize = 2_000;

/// Where in the session the reader is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    below: Option<u64>,
}

/// A receipt, read.
struct Entry {
    leaf: StoredLeaf,
    predicate: Option<Predicate>,
    /// Whether it is of this session, as opposed to another one of the same person.
    own: bool,
}

/// The page.
pub(crate) async fn page(
    State(desk): State<Desk>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> Result<Markup, Refusal> {
    let not_found = || Refusal::NotFound(format!("nothing is known of a session `{}`", words::cut(&id)));
    let session: SessionId = id.parse().map_err(|_| not_found())?;
    let store = &desk.app.pipeline.store;
    let query =
        Wanted { below: place.below, limit: ROWS, session_id: Some(session.clone()), ..Wanted::default() };
    let mut leaves = store.find(&query).await?;
    let older = leaves.last().filter(|leaf| leaf.summary.session_seq > 0).map(|leaf| leaf.index);
    leaves.reverse();
    if leaves.is_empty() {
        return Err(not_found());
    }
    let context = store.session(&session).await?.context;
    let context: Context = serde_json::from_slice(&context).unwrap_or_default();
    let chain = chain(&leaves);
    let others = others(&desk, &leaves).await?;
    let entries = merged(leaves, others);
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Receipts,
        "Session",
        html! {
            p class="crumbs" { a href="/console/receipts" { "Receipts" } " / session " code { (session) } }
            div class="head" { h1 { "Session" } (head(&entries, desk.now())) }
            div class="columns" { (drift(&entries)) div { (summary(&context, chain)) } }
            (timeline(&entries, older, &session))
        },
    ))
}

/// Whether each receipt names the one before it, over what the page shows.
fn chain(leaves: &[StoredLeaf]) -> Result<usize, String> {
    for pair in leaves.windows(2) {
        let [before, leaf] = pair else { continue };
        let view = read(leaf).map(|statement| statement.predicate.session);
        let view = view.ok_or_else(|| format!("leaf {} cannot be read", leaf.index))?;
        proof::chained(Some(before), &view.prev, view.seq)
            .map_err(|why| format!("leaf {}: {why}", leaf.index))?;
    }
    Ok(leaves.len())
}

/// Decisions of the same person's other sessions from an hour before this one's first receipt on this page.
async fn others(desk: &Desk, leaves: &[StoredLeaf]) -> Result<Vec<StoredLeaf>, Refusal> {
    let Some((key, _)) = leaves.iter().find_map(people::owner) else { return Ok(Vec::new()) };
    let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else { return Ok(Vec::new()) };
    let window = i64::try_from(people::WINDOW.as_millis()).unwrap_or(0);
    let query = Wanted {
        kind: Some(countersign_schemas::ReceiptKind::Decision),
        limit: OTHERS_LOOKED_AT_MAX,
        since: Some(Timestamp(first.summary.decided_at.0 - window)),
        until: Some(last.summary.decided_at.after(people::WINDOW)),
        ..Wanted::default()
    };
    let mut found = desk.app.pipeline.store.find(&query).await?;
    let session = &first.summary.session_id;
    found.retain(|leaf| {
        leaf.summary.session_id != *session && people::owner(leaf).is_some_and(|(of, _)| of == key)
    });
    Ok(found)
}

fn merged(own: Vec<StoredLeaf>, others: Vec<StoredLeaf>) -> Vec<Entry> {
    let entry = |own| {
        move |leaf: StoredLeaf| {
            let predicate = read(&leaf).map(|statement| statement.predicate);
            Entry { leaf, predicate, own }
        }
    };
    let mut all: Vec<_> =
        own.into_iter().map(entry(true)).chain(others.into_iter().map(entry(false))).collect();
    all.sort_by_key(|entry| entry.leaf.index);
    all
}

fn head(entries: &[Entry], now: Timestamp) -> Markup {
    let own = entries.iter().find(|entry| entry.own);
    html! {
        @if let Some(entry) = own {
            p class="muted" {
                (entry.leaf.summary.agent.as_deref().unwrap_or("an agent"))
                @if let Some(human) = &entry.leaf.summary.human { " for " (human) }
                " through " (entry.leaf.summary.connector) ", since " (words::ago(entry.leaf.summary.decided_at, now))
            }
        }
    }
}

fn summary(context: &Context, chain: Result<usize, String>) -> Markup {
    html! {
        section class={ "card proof" @if chain.is_err() { " broken" } } {
            h2 { @if chain.is_ok() { "Chain verified" } @else { "Chain broken" } }
            p { @match &chain {
                Ok(count) => { "Each of the " (count) " receipts shown names the one before it by its hash." }
                Err(why) => { (why) }
            } }
        }
        section class="card" {
            h2 { "What the session knows" }
            dl {
                dt { "Data touched" } dd { (words::labels(&context.labels, context.untrusted)) }
                dt { "Decisions" } dd { (context.action_count) ", " (context.denied_count) " denied" }
                (words::row("Failed", (context.failed_count > 0).then(|| html! { (context.failed_count) })))
                (words::row("Drift, highest", context.drift.map(|drift| words::degree(drift.max))))
                (words::row("Drift, mean", context.drift.map(|drift| words::degree(drift.ema))))
                (words::row("Hidden instructions", (context.injection.ten_thousandths() > 0).then(|| words::degree(context.injection))))
                (words::row("Handed on by", context.parent.as_ref().map(|id| html! { a href={ "/console/sessions/" (id) } { (words::short(id.as_str())) } })))
            }
            @if let Some(request) = &context.request { h3 { "The user asked" } blockquote { (request) } }
        }
    }
}

fn drift(entries: &[Entry]) -> Markup {
    let points: Vec<plot::Drift> = entries
        .iter()
        .filter(|entry| entry.own)
        .filter_map(|entry| {
            let score = entry.predicate.as_ref()?.action.as_ref()?.risk.as_ref()?.drift?;
            Some((entry.leaf.summary.session_seq, score.as_f64()))
        })
        .collect();
    let picture = plot::drift(&points);
    html! {
        section class="card" aria-labelledby="drift" {
            h2 id="drift" { "Drift from the request" }
            @if picture.is_none() { p class="muted" { "Fewer than two actions were measured against a request." } }
            @if let Some(picture) = picture { figure class="plot" {
                div aria-hidden="true" { (PreEscaped(picture)) }
                figcaption class="small muted" { "Each action (dots) and the moving mean. The same numbers stand in the timeline." }
            } }
        }
    }
}

fn timeline(entries: &[Entry], older: Option<u64>, session: &SessionId) -> Markup {
    let elsewhere = entries.iter().filter(|entry| !entry.own).count();
    html! {
        section aria-labelledby="timeline" {
            h2 id="timeline" { "Timeline" }
            @if elsewhere > 0 { p class="muted" { (elsewhere) " of these are the same person’s other sessions." } }
            @if let Some(older) = older { p { a class="button" href={ "/console/sessions/" (session) "?below=" (older) } { "Older" } } }
            div class="scroll" tabindex="0" role="region" aria-label="Receipts" {
                table class="rows" {
                    thead { tr { th { "When" } th { "Through" } th { "Decision" } th { "What" } th { "Data before" } th { "Drift" } } }
                    tbody { @for entry in entries { (row(entry)) } }
                }
            }
        }
    }
}

fn row(entry: &Entry) -> Markup {
    let of = &entry.leaf.summary;
    let action = entry.predicate.as_ref().and_then(|predicate| predicate.action.as_ref());
    let context = entry.predicate.as_ref().and_then(|predicate| predicate.context.as_ref());
    let drift = action.and_then(|action| action.risk.as_ref()).and_then(|risk| risk.drift);
    let outcome = entry.predicate.as_ref().and_then(|predicate| predicate.outcome.as_ref());
    html! {
        tr class=[(!entry.own).then_some("elsewhere")] {
            td data-label="When" { (words::time_of_day(of.decided_at)) }
            td data-label="Through" {
                (of.connector)
                @if !entry.own { div { a class="tag" href={ "/console/sessions/" (of.session_id) } { "other session" } } }
            }
            td data-label="Decision" { @if let Some(verdict) = of.verdict { (words::verdict(verdict)) } @else { "–" } }
            td data-label="What" { a class="row-link" href={ "/console/receipts/" (of.receipt_id) } { (what(of, entry.predicate.as_ref())) } }
            td data-label="Data" {
                @if let Some(outcome) = outcome { (words::labels(&outcome.labels, false)) }
                @else if let Some(context) = context { (words::labels(&context.labels, context.untrusted)) }
                @else { "–" }
            }
            td data-label="Drift" { @if let Some(drift) = drift { (words::degree(drift)) } @else { "–" } }
        }
    }
}
