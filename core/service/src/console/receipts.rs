//! The log as a list, newest first.

use axum::extract::{Query, State};
use countersign_schemas::{Predicate, ReceiptKind, Statement, Timestamp, Verdict};
use countersign_store::{Query as Wanted, StoredLeaf, Summary};
use maud::{Markup, html};
use serde::Deserialize;

use super::guard::Visitor;
use super::layout::{self, Here};
use super::refusal::Refusal;
use super::{Desk, words};
use crate::export::statement_of;

/// Rows of a page.
const ROWS: usize = 50;
/// The log has no index over people, agents and tools: one page looks at this many receipts for them, then says so.
const LOOKED_AT_MAX: usize = 4_096;
const CHUNK: usize = 512;

/// The filter, as the form sends it; an empty text is no wish.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    agent: String,
    below: Option<u64>,
    connector: String,
    human: String,
    kind: String,
    since: String,
    tool: String,
    until: String,
    verdict: String,
}

/// What a page shows.
struct Found {
    leaves: Vec<StoredLeaf>,
    /// Where the next page begins, when there is one.
    next: Option<u64>,
    /// How many receipts were looked at.
    looked_at: usize,
}

/// The page.
pub(crate) async fn page(
    State(desk): State<Desk>,
    visitor: Visitor,
    Query(filter): Query<Filter>,
) -> Result<Markup, Refusal> {
    let found = find(&desk, &filter).await?;
    let size = desk.app.pipeline.store.health().size;
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Receipts,
        "Receipts",
        html! {
            div class="head" { h1 { "Receipts" } p class="muted" { (size) " in the log" } }
            (form(&desk, &filter))
            div id="receipts" data-live=[filter.below.is_none().then_some("log")] {
                (table(&found.leaves, desk.now()))
                (pager(&filter, &found))
            }
        },
    ))
}

async fn find(desk: &Desk, filter: &Filter) -> Result<Found, Refusal> {
    let mut wanted = filter.wanted()?;
    let narrow = [&filter.agent, &filter.human, &filter.tool].iter().any(|text| !text.trim().is_empty());
    wanted.limit = if narrow { CHUNK } else { ROWS + 1 };
    let mut found = Found { leaves: Vec::new(), next: None, looked_at: 0 };
    loop {
        let leaves = desk.app.pipeline.store.find(&wanted).await?;
        let last = leaves.len() < wanted.limit;
        for leaf in leaves {
            if found.leaves.len() == ROWS {
                found.next = Some(leaf.index + 1);
                return Ok(found);
            }
            found.looked_at += 1;
            wanted.below = Some(leaf.index);
            if filter.fits(&leaf.summary) {
                found.leaves.push(leaf);
            }
        }
        if last {
            return Ok(found);
        }
        if found.looked_at >= LOOKED_AT_MAX {
            found.next = wanted.below;
            return Ok(found);
        }
    }
}

impl Filter {
    /// What the store's index can tell.
    fn wanted(&self) -> Result<Wanted, Refusal> {
        let word = |name: &str, text: &str| {
            Refusal::Malformed(format!("`{}` is not a {name} we know", words::cut(text)))
        };
        let verdict = some(&self.verdict).map(|text| {
            Verdict::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| word("decision", text))
        });
        let kind = some(&self.kind).map(|text| {
            ReceiptKind::ALL.into_iter().find(|k| k.as_str() == text).ok_or_else(|| word("kind", text))
        });
        Ok(Wanted {
            below: self.below,
            connector: some(&self.connector).map(str::to_owned),
            kind: kind.transpose()?,
            since: some(&self.since).map(|text| moment("from", text)).transpose()?,
            until: some(&self.until).map(|text| moment("until", text)).transpose()?,
            verdict: verdict.transpose()?,
            ..Wanted::default()
        })
    }

    /// What it cannot.
    fn fits(&self, of: &Summary) -> bool {
        let has = |wanted: &str, have: Option<&str>| match some(wanted) {
            None => true,
            Some(wanted) => have.is_some_and(|have| have.to_lowercase().contains(&wanted.to_lowercase())),
        };
        has(&self.agent, of.agent.as_deref())
            && has(&self.human, of.human.as_deref())
            && has(&self.tool, of.tool.as_deref())
    }

    /// The same filter, from there on.
    fn query(&self, below: u64) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("agent", &self.agent),
            ("connector", &self.connector),
            ("human", &self.human),
            ("kind", &self.kind),
            ("since", &self.since),
            ("tool", &self.tool),
            ("until", &self.until),
            ("verdict", &self.verdict),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        query.append_pair("below", &below.to_string()).finish()
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// RFC 3339, or what `<input type="datetime-local">` sends, which is meant in UTC.
fn moment(name: &str, text: &str) -> Result<Timestamp, Refusal> {
    let completed = match text.len() {
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let wrong = |_| Refusal::Malformed(format!("`{name}` is not a time like 2026-11-24T12:00"));
    completed.parse().map_err(wrong)
}

fn form(desk: &Desk, filter: &Filter) -> Markup {
    let advanced = [&filter.human, &filter.agent, &filter.kind, &filter.since, &filter.until];
    html! {
        form class="filter" method="get" action="/console/receipts" {
            label { "Decision" select name="verdict" {
                option value="" { "any" }
                @for verdict in Verdict::ALL {
                    option value=(verdict) selected[filter.verdict == verdict.as_str()] { (verdict.as_str().replace('_', " ")) }
                }
            } }
            label { "Connector" select name="connector" {
                option value="" { "any" }
                @for name in desk.app.routes.keys() { option value=(name) selected[filter.connector == *name] { (name) } }
            } }
            label { "Tool" input name="tool" value=(filter.tool) placeholder="contains…"; }
            details open[advanced.iter().any(|text| !text.is_empty())] {
                summary { "More filters" }
                div class="filter" {
                    label { "Person" input name="human" value=(filter.human) placeholder="id contains…"; }
                    label { "Agent" input name="agent" value=(filter.agent) placeholder="contains…"; }
                    label { "Kind" select name="kind" {
                        option value="" { "any" }
                        @for kind in ReceiptKind::ALL {
                            option value=(kind.as_str()) selected[filter.kind == kind.as_str()] { (kind.as_str().replace('_', " ")) }
                        }
                    } }
                    label { "From (UTC)" input type="datetime-local" name="since" value=(filter.since); }
                    label { "Until (UTC)" input type="datetime-local" name="until" value=(filter.until); }
                }
            }
            button class="primary" { "Filter" }
            a class="button quiet" href="/console/receipts" { "Clear" }
        }
    }
}

/// Receipts as rows; the timeline of a session shows the same.
pub(crate) fn table(leaves: &[StoredLeaf], now: Timestamp) -> Markup {
    html! {
        @if leaves.is_empty() { p class="empty" { "No receipt matches." } } @else {
            div class="scroll" tabindex="0" role="region" aria-label="Receipts" {
                table class="rows" {
                    thead { tr { th { "When" } th { "Decision" } th { "What" } th { "Who" } th { "Through" } } }
                    tbody { @for leaf in leaves { (line(leaf, now)) } }
                }
            }
        }
    }
}

fn line(leaf: &StoredLeaf, now: Timestamp) -> Markup {
    let of = &leaf.summary;
    let statement = read(leaf);
    let predicate = statement.as_ref().map(|statement| &statement.predicate);
    let reason = predicate.and_then(|predicate| predicate.decision.as_ref()).map(|of| of.reason.as_str());
    let decided = of.verdict.map(Verdict::as_str);
    html! {
        tr {
            td data-label="When" { (words::ago(of.decided_at, now)) }
            td data-label="Decision" {
                @if let Some(verdict) = of.verdict { (words::verdict(verdict)) } @else { span class="muted" { "–" } }
                @if let Some(told) = of.expressed.as_deref().filter(|told| Some(*told) != decided) {
                    div class="small muted" { "told " (told.replace('_', " ")) }
                }
            }
            td data-label="What" {
                a class="row-link" href={ "/console/receipts/" (of.receipt_id) } { (what(of, predicate)) }
                @if let Some(reason) = reason { div class="small muted" { (words::cut(reason)) } }
            }
            td data-label="Who" {
                (of.agent.as_deref().unwrap_or("–"))
                @if let Some(human) = &of.human { " " div class="small muted" { "for " (human) } }
            }
            td data-label="Through" { (of.connector) }
        }
    }
}

/// What a receipt is about, in a few words.
pub(crate) fn what(of: &Summary, predicate: Option<&Predicate>) -> Markup {
    let effect =
        predicate.and_then(|predicate| predicate.action.as_ref()).map(|action| action.effect.as_str());
    let kind = of.kind.as_str().replace('_', " ");
    html! {
        @if of.kind != ReceiptKind::Decision { span class="tag" { (kind) } " " }
        @if let Some(tool) = &of.tool { code { (tool) } }
        @if let Some(effect) = effect { " " span class="tag" { (effect) } }
        @if of.tool.is_none() && of.kind == ReceiptKind::Decision { "a request that could not be read" }
        @else if of.tool.is_none() { (words::short(of.receipt_id.as_str())) }
    }
}

fn pager(filter: &Filter, found: &Found) -> Markup {
    html! {
        nav class="pager" aria-label="Pages of receipts" {
            @if filter.below.is_some() { a class="button" href={ "/console/receipts?" (filter.query(u64::MAX >> 1)) } { "Newest" } }
            @if let Some(next) = found.next { a class="button" rel="next" href={ "/console/receipts?" (filter.query(next)) } { "Older" } }
            @if found.next.is_some() && found.leaves.len() < ROWS {
                span class="muted" { "Looked at " (found.looked_at) " receipts; “Older” looks further." }
            }
        }
    }
}

/// The signed statement of a leaf, if it is one of ours.
pub(crate) fn read(leaf: &StoredLeaf) -> Option<Statement> {
    serde_json::from_value(statement_of(&leaf.bytes)).ok()
}
