//! How each vendor's hook does: when it last called, how fast it was answered, how it fails, how to set it up.

use std::time::Duration;

use axum::extract::State;
use countersign_sdk::{FailMode, GateClass};
use countersign_store::Query;
use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{Event, Options, Parser};

use super::guard::Visitor;
use super::layout::{self, Here};
use super::refusal::Refusal;
use super::{Desk, plot, words};
use crate::connect::Route;
use crate::metrics::{BOUNDS_MS, Figures};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The page.
pub(crate) async fn page(State(desk): State<Desk>, visitor: Visitor) -> Result<Markup, Refusal> {
    let mut cards = Vec::new();
    for route in desk.app.routes.values() {
        cards.push(card(&desk, route).await?);
    }
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Connectors,
        "Connectors",
        html! {
            div class="head" { h1 { "Connectors" } p class="muted" { (cards.len()) " configured; counts are since the last start" } }
            div id="connectors" data-live="log" { @for card in &cards { (card) } }
            @if cards.is_empty() { p class="empty" { "None is configured: see `countersign connectors`." } }
        },
    ))
}

async fn card(desk: &Desk, route: &Route) -> Result<Markup, Refusal> {
    let query = Query { connector: Some(route.name.clone()), limit: 1, ..Query::default() };
    let last = desk.app.pipeline.store.find(&query).await?.first().map(|leaf| leaf.summary.decided_at);
    let figures = route.metrics.figures();
    let now = desk.now();
    let within = |span| desk.console.traffic.within(&route.name, span, figures.answered, now);
    let budget_ms = u64::try_from(route.budget.as_millis()).unwrap_or(u64::MAX);
    Ok(html! {
        section class="card connector" id=(route.name) aria-label=(route.name) {
            div class="policy-head" {
                h2 { (route.name) }
                p class="muted" { (route.manifest.vendor) " · " (class(route.manifest.class)) }
            }
            div class="figures" {
                (figure("Last call", html! { @match last { Some(at) => (words::ago(at, now)), None => "never" } }))
                (figure("In a minute", html! { (within(MINUTE)) }))
                (figure("In an hour", html! { (within(HOUR)) }))
                (figure("Late", html! { (share(figures.late, figures.answered)) }))
                (figure("Shed", html! { (share(figures.shed, figures.answered)) }))
                (figure("Failed inside", html! { (share(figures.faults, figures.answered)) }))
                (figure("Not verified", html! { (figures.refused) }))
                (figure("Time allowed", html! { (budget_ms) " ms" }))
            }
            (fail_open(route))
            (latency(&figures, budget_ms))
            details {
                summary { "What it cannot see, and what proves the sender" }
                ul { @for limit in &route.manifest.limits { li { (prose(limit)) } } }
                dl {
                    dt { "Sender" } dd { (prose(route.manifest.authentication)) }
                    dt { "Identity" } dd { (route.manifest.assurance.as_str().replace('_', " ")) }
                    dt { "Repetition" } dd { (prose(route.manifest.idempotency)) }
                    dt { "Results" } dd { (prose(route.manifest.result_feed)) }
                }
            }
            @if let Some(guide) = desk.console.guides.get(&route.name) {
                details { summary { "Setup steps, with this site’s values" } div class="guide" { (PreEscaped(guide)) } }
            }
        }
    })
}

fn class(class: GateClass) -> &'static str {
    match class {
        GateClass::Sync => "the answer decides",
        GateClass::Held => "decided by callback",
        GateClass::SyncOrHeld => "the answer decides, or a callback",
    }
}

fn figure(name: &str, value: Markup) -> Markup {
    html! { div { p class="label" { (name) } p class="value" { (value) } } }
}

fn share(part: u64, whole: u64) -> Markup {
    html! {
        (part)
        @if part > 0 && whole > 0 { " " span class="small muted" { "(" (format!("{:.1} %", part as f64 * 100.0 / whole as f64)) ")" } }
    }
}

/// What happens when the vendor gets no answer from us: the risk that nobody sees until it happens.
fn fail_open(route: &Route) -> Markup {
    let of = &route.manifest;
    html! {
        @match (of.fail_mode_default, of.fail_mode_best) {
            (FailMode::Closed, _) => { p class="notice good" { strong { "Fails closed." } " Without our answer the action does not run." } }
            (FailMode::Open, FailMode::Closed) => { div class="notice" { strong { "Fails open unless configured." } (prose(of.fail_mode_how)) } }
            (FailMode::Open, FailMode::Open) => { div class="notice bad" { strong { "Fails open." } " Without our answer the action runs, and nothing at the vendor changes that. " (of.fail_mode_how) } }
        }
    }
}

fn latency(figures: &Figures, budget_ms: u64) -> Markup {
    let Some(picture) = plot::latency(figures, budget_ms) else { return html! {} };
    html! {
        figure class="plot" {
            div aria-hidden="true" { (PreEscaped(picture)) }
            details {
                summary { "The same as a table" }
                table class="rows" {
                    thead { tr { th { "Answered in" } th { "Answers" } } }
                    tbody { @for (at, count) in figures.buckets.iter().enumerate() {
                        tr { td data-label="Answered in" {
                            @match BOUNDS_MS.get(at) { Some(ms) => { "less than " (ms) " ms" } None => "longer" }
                        } td data-label="Answers" { (count) } }
                    } }
                }
            }
        }
    }
}

/// A sentence with code in it.
fn prose(text: &str) -> PreEscaped<String> {
    PreEscaped(markdown(text))
}

/// Markdown as HTML. HTML in it is shown as text.
pub(crate) fn markdown(text: &str) -> String {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).map(|event| match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        other => other,
    });
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_in_a_guide_is_only_text() {
        let html = markdown("1. `x` <script>alert(1)</script>\n\n<img src=x onerror=y>\n");
        assert!(html.contains("<code>x</code>"), "{html}");
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    }
}
