//! Times, verdicts and numbers, the same on every page. Nothing is told by colour alone.

use std::time::Duration;

use countersign_schemas::{Degree, Severity, Timestamp, Verdict};
use maud::{Markup, html};

/// How much of a long text a list shows.
const SHOWN_CHARS: usize = 80;

/// A moment, as the time since then, with the moment itself for machines and on hover.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let text = match at.until(now) {
        since if since < Duration::from_secs(5) => "just now".to_owned(),
        since => format!("{} ago", span(since)),
    };
    html! { time datetime=(at) title=(at) data-since=(at) { (text) } }
}

/// How long is left. The page's script counts it down; without it the text is as of when the page was made.
pub(crate) fn left(until: Timestamp, now: Timestamp) -> Markup {
    let text = match now.until(until) {
        Duration::ZERO => "time is up".to_owned(),
        left => format!("{} left", span(left)),
    };
    html! { time datetime=(until) title=(until) data-until=(until) { (text) } }
}

/// A moment as a clock shows it.
pub(crate) fn clock(at: Timestamp) -> Markup {
    let text = at.to_string();
    let shown = text.replace('T', " ");
    let seconds = shown.split('.').next().unwrap_or(&shown).trim_end_matches('Z');
    html! { time datetime=(text) { (seconds) " UTC" } }
}

/// The same without its day, which is on hover.
pub(crate) fn time_of_day(at: Timestamp) -> Markup {
    let text = at.to_string();
    let time = text.split('T').nth(1).and_then(|time| time.get(..8)).unwrap_or(&text);
    html! { time datetime=(text) title=(text) { (time) } }
}

/// A span in its two largest units.
pub(crate) fn span(of: Duration) -> String {
    let s = of.as_secs();
    match (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) if m < 10 => format!("{m} min {s} s"),
        (0, 0, m, _) => format!("{m} min"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// A decision.
pub(crate) fn verdict(verdict: Verdict) -> Markup {
    let kind = verdict.as_str().to_ascii_lowercase();
    html! { span class={ "badge " (kind) } { (verdict.as_str().replace('_', " ")) } }
}

/// What the vendor was told: the same words, and `HELD`.
pub(crate) fn told(expressed: &str) -> Markup {
    let kind = expressed.to_ascii_lowercase();
    html! { span class={ "badge " (kind) } { (expressed.replace('_', " ")) } }
}

/// How bad it would be.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// A share of one with its bar. The number is the statement, the bar only its picture.
pub(crate) fn degree(degree: Degree) -> Markup {
    html! {
        span class="degree" {
            meter min="0" max="10000" value=(degree.ten_thousandths()) aria-hidden="true" {}
            " " (format!("{:.2}", degree.as_f64()))
        }
    }
}

/// A long text, cut for a list.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A digest or id, short enough to be read aloud; the whole is on hover.
pub(crate) fn short(text: &str) -> Markup {
    let head: String = text.chars().take(12).collect();
    html! { code title=(text) { (head) @if head.len() < text.len() { "…" } } }
}

/// A name on the left and what it is on the right; nothing when there is nothing.
pub(crate) fn row(name: &str, value: Option<Markup>) -> Markup {
    html! { @if let Some(value) = value { dt { (name) } dd { (value) } } }
}

/// Labels of data, the worst of them marked in words and colour.
pub(crate) fn labels(labels: &[String], untrusted: bool) -> Markup {
    html! {
        @for label in labels { span class="tag" { (label) } " " }
        @if untrusted { span class="tag bad" { "untrusted input read" } }
        @if labels.is_empty() && !untrusted { span class="muted" { "none" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_two_largest_units() {
        for (seconds, text) in
            [(0, "0 s"), (61, "1 min 1 s"), (660, "11 min"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(text, span(Duration::from_secs(seconds)));
        }
    }
}
