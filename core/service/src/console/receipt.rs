//! One receipt: what was asked, what was decided and told, why, and the proof.

use axum::extract::{Path, State};
use countersign_receipt::open_disclosure;
use countersign_schemas::{
    DecisionView, Disclosed, DisclosureMode, Facets, IdentityView, PolicyView, Predicate, ReceiptId, Risk,
};
use countersign_store::{Query, StoredLeaf};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::guard::Visitor;
use super::layout::{self, Here};
use super::receipts::{read, what};
use super::refusal::Refusal;
use super::{Desk, proof, words};

/// Receipts of the same action that a page lists: its decision, resolution, outcome and retries.
const SAME_ACTION_MAX: usize = 20;

/// The page.
pub(crate) async fn page(
    State(desk): State<Desk>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Markup, Refusal> {
    let not_found = || Refusal::NotFound(format!("there is no receipt `{}`", words::cut(&id)));
    let parsed: ReceiptId = id.parse().map_err(|_| not_found())?;
    let leaf = desk.app.pipeline.store.receipt(&parsed).await?.ok_or_else(not_found)?;
    let statement = read(&leaf);
    let predicate = statement.as_ref().map(|statement| &statement.predicate);
    let checks = proof::check(&desk, &leaf, predicate).await?;
    let related = related(&desk, &leaf).await?;
    let disclosed = disclosed(&leaf, predicate);
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Receipts,
        "Receipt",
        html! {
            p class="crumbs" { a href="/console/receipts" { "Receipts" } " / " code { (leaf.summary.receipt_id) } }
            (heading(&leaf, predicate))
            div class="columns" {
                div {
                    @if let Some(predicate) = predicate { (decision(predicate, disclosed.as_ref())) }
                    @if let Some(predicate) = predicate { (events(predicate, disclosed.as_ref())) }
                    (asked(predicate, disclosed.as_ref()))
                    @if let Some(policy) = predicate.and_then(|of| of.policy.as_ref()) { (policies(&desk, policy)) }
                }
                div {
                    (proof::list(&checks))
                    @if let Some(identity) = predicate.and_then(|of| of.identity.as_ref()) {
                        (who(identity, disclosed.as_ref()))
                    }
                    @if let Some(predicate) = predicate { (context(predicate)) }
                    (chain(&leaf, predicate, &related, &desk))
                }
            }
            (raw(&leaf, statement.as_ref().and_then(|of| serde_json::to_value(of).ok())))
        },
    ))
}

/// Other receipts about the same action, oldest first.
async fn related(desk: &Desk, leaf: &StoredLeaf) -> Result<Vec<StoredLeaf>, Refusal> {
    let Some(action_id) = leaf.summary.action_id.clone() else { return Ok(Vec::new()) };
    let query = Query { action_id: Some(action_id), limit: SAME_ACTION_MAX, ..Query::default() };
    let mut found = desk.app.pipeline.store.find(&query).await?;
    found.retain(|other| other.index != leaf.index);
    found.reverse();
    Ok(found)
}

/// The personal part, from beside the log or from the leaf itself.
fn disclosed(leaf: &StoredLeaf, predicate: Option<&Predicate>) -> Option<Disclosed> {
    let inline = || {
        let content = predicate?.disclosure.as_ref()?.content.as_deref()?;
        serde_json::from_str(content).ok()
    };
    leaf.disclosure.as_deref().and_then(|text| open_disclosure(text).ok()).or_else(inline)
}

fn heading(leaf: &StoredLeaf, predicate: Option<&Predicate>) -> Markup {
    let of = &leaf.summary;
    html! {
        div class="head" {
            h1 { (what(of, predicate)) }
            p class="muted" { (words::clock(of.decided_at)) " through " (of.connector) }
        }
    }
}

/// What was decided against what the vendor was told.
fn decision(predicate: &Predicate, disclosed: Option<&Disclosed>) -> Markup {
    let Some(view) = &predicate.decision else { return html! {} };
    let differs = view.expressed.as_str() != view.verdict.as_str();
    html! {
        section class="card" aria-labelledby="decision" {
            h2 id="decision" { "Decision" }
            div class="versus" {
                div { p class="label" { "Decided" } p { (words::verdict(view.verdict)) } }
                div class=[differs.then_some("differs")] {
                    p class="label" { "The vendor was told" }
                    p { (words::told(view.expressed.as_str())) }
                }
            }
            p class="reason" { (view.reason) }
            (degraded(view))
            @if let Some(told) = disclosed.and_then(|of| of.told.as_ref()) {
                p class="label" { "In these words" } blockquote { (told) }
            }
            dl {
                (words::row("Severity", Some(html! { (words::severity(view.severity)) })))
                (words::row("Time allowed", Some(html! { (view.budget_ms) " ms" })))
                (words::row("New parameters", view.modified_sha256.as_deref().map(words::short)))
            }
        }
    }
}

fn degraded(view: &DecisionView) -> Markup {
    html! { @if let Some(why) = &view.degraded { p class="notice" { "Told something else: " (why) } } }
}

/// Everything that is not a decision: answers, deferrals, outcomes, halts, policy changes, gaps.
fn events(predicate: &Predicate, disclosed: Option<&Disclosed>) -> Markup {
    let entries = [
        ("Approval", predicate.approval.as_ref().and_then(|of| serde_json::to_value(of).ok())),
        ("Deferral", predicate.deferral.as_ref().and_then(|of| serde_json::to_value(of).ok())),
        ("Outcome", predicate.outcome.as_ref().and_then(|of| serde_json::to_value(of).ok())),
        ("Halt", predicate.halt.as_ref().and_then(|of| serde_json::to_value(of).ok())),
        ("Policy change", predicate.policy_change.as_ref().and_then(|of| serde_json::to_value(of).ok())),
        ("Denied in bulk", predicate.gap.as_ref().and_then(|of| serde_json::to_value(of).ok())),
    ];
    html! {
        @for (name, view) in entries {
            @if let Some(Value::Object(view)) = view { section class="card" { h2 { (name) } (fields(&view)) } }
        }
        @if let Some(comment) = disclosed.and_then(|of| of.comment.as_ref()) {
            section class="card" { h2 { "What the approver wrote" } blockquote { (comment) } }
        }
        @if let Some(error) = disclosed.and_then(|of| of.error.as_ref()) {
            section class="card" { h2 { "Error" } pre tabindex="0" { (error) } }
        }
        @if let Some(request) = disclosed.and_then(|of| of.request.as_ref()) {
            section class="card" { h2 { "What the user asked for" } blockquote { (request) } }
        }
    }
}

fn fields(view: &Map<String, Value>) -> Markup {
    html! { dl { (rows(view)) } }
}

/// A flat object as names and values, with the names in words.
fn rows(view: &Map<String, Value>) -> Markup {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list
            .iter()
            .map(|of| of.as_str().map_or_else(|| of.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    };
    html! { @for (name, of) in view { dt { (spaced(name)) } dd { (value(of)) } } }
}

/// `approvedBy` as `approved by`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn asked(predicate: Option<&Predicate>, of: Option<&Disclosed>) -> Markup {
    let mode = predicate.and_then(|predicate| predicate.disclosure.as_ref()).map(|of| of.mode);
    html! {
        @if let Some(parameters) = of.and_then(|of| of.parameters.as_ref()) {
            section class="card" aria-labelledby="asked" {
                h2 id="asked" { "What was asked for" }
                pre tabindex="0" { (pretty(parameters)) }
                @if let Some(changed) = of.and_then(|of| of.modified.as_ref()) {
                    h3 { "What it may run with instead" }
                    pre tabindex="0" { (pretty(changed)) }
                }
                @if let Some(facets) = of.and_then(|of| of.facets.as_ref()) { (facet_list(facets)) }
            }
        } @else if mode == Some(DisclosureMode::Hashed) {
            p class="muted" { "Parameters and personal data are not kept, only their digest." }
        }
    }
}

fn facet_list(facets: &Facets) -> Markup {
    let rows = facet_rows(facets);
    html! { @if !rows.0.is_empty() { h3 { "Read from it" } dl { (rows) } } }
}

/// What policies could ask of the action, but its labels, as rows of a list.
pub(crate) fn facet_rows(facets: &Facets) -> Markup {
    let facets = Facets { labels: Vec::new(), ..facets.clone() };
    match serde_json::to_value(facets) {
        Ok(Value::Object(facets)) => rows(&facets),
        _ => html! {},
    }
}

/// JSON as people read it.
pub(crate) fn pretty(value: &Map<String, Value>) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The policies that decided, with their source: as it was if it still is, else said so.
fn policies(desk: &Desk, view: &PolicyView) -> Markup {
    let in_force = desk.app.pipeline.policies.load();
    html! {
        section class="card" aria-labelledby="policies" {
            h2 id="policies" { "Policies that decided" }
            @if view.matched.is_empty() { p class="muted" { "None matched: the default decided." } }
            @for matched in &view.matched {
                @let now = in_force.iter().find(|info| info.id == matched.id);
                h3 { a href={ "/console/policies#" (matched.id) } { code { (matched.id) } }
                    @if let Some(version) = &matched.version { " " span class="tag" { "version " (version) } }
                }
                @match now {
                    Some(info) if info.sha256 == matched.sha256 => {
                        pre class="source" tabindex="0" { (in_force.text(&matched.id).unwrap_or_default()) }
                    }
                    Some(_) => { p class="notice" { "It has changed since this was decided. As it was: SHA-256 " code { (matched.sha256) } } }
                    None => { p class="notice" { "It is no longer in force. As it was: SHA-256 " code { (matched.sha256) } } }
                }
            }
            dl {
                dt { "Set" } dd { (words::short(&view.bundle_sha256))
                    @if view.bundle_sha256 == in_force.bundle_sha256() { " " span class="tag" { "in force" } }
                }
                dt { "Engine" } dd { (view.engine) }
            }
        }
    }
}

fn who(identity: &IdentityView, disclosed: Option<&Disclosed>) -> Markup {
    let text = |of: Option<&String>| of.map(|of| html! { (of) });
    html! {
        section class="card" aria-labelledby="who" {
            h2 id="who" { "Who" }
            dl {
                (words::row("Person", text(disclosed.and_then(|of| of.human_name.as_ref()).or(identity.human.as_ref()))))
                (words::row("E-mail", text(disclosed.and_then(|of| of.human_email.as_ref()))))
                (words::row("Agent", Some(html! { (identity.agent) })))
                (words::row("Kind", text(identity.agent_kind.as_ref())))
                (words::row("Model", text(identity.model.as_ref())))
                (words::row("Service", text(identity.service.as_ref())))
                (words::row("Device", text(identity.device.as_ref())))
                (words::row("Role", text(identity.role.as_ref())))
                (words::row("Organisation", text(identity.tenant.as_ref())))
                (words::row("Believed because", Some(html! { (identity.assurance.as_str().replace('_', " ")) " (" (identity.verified_by) ")" })))
            }
            (delegation(&identity.delegation))
        }
    }
}

/// Who handed the work to whom.
pub(crate) fn delegation(links: &[countersign_schemas::Delegation]) -> Markup {
    html! {
        @if !links.is_empty() {
            h3 { "Handed on" }
            ol class="plain" {
                @for link in links {
                    li { (link.delegator) " → " (link.delegatee)
                        @if !link.scope.is_empty() { " " span class="muted" { "for " (link.scope.join(", ")) } }
                    }
                }
            }
        }
    }
}

fn context(predicate: &Predicate) -> Markup {
    let action = predicate.action.as_ref();
    let signals = action.map(|action| action.risk_signals.as_slice()).unwrap_or_default();
    html! {
        @if action.is_some() || predicate.context.is_some() {
            section class="card" aria-labelledby="risk" {
                h2 id="risk" { "Risk and context" }
                @if let Some(risk) = action.and_then(|action| action.risk.as_ref()) { (risk_list(risk)) }
                dl {
                    @if !signals.is_empty() { dt { "Signals" } dd { @for signal in signals { span class="tag bad" { (signal) } " " } } }
                    @if let Some(context) = &predicate.context {
                        dt { "Data touched before" } dd { (words::labels(&context.labels, context.untrusted)) }
                        dt { "Decisions before" } dd { (context.action_count) }
                    }
                }
            }
        }
    }
}

/// What was measured about an action.
pub(crate) fn risk_list(risk: &Risk) -> Markup {
    let degree = |of: Option<countersign_schemas::Degree>| of.map(words::degree);
    html! {
        dl {
            (words::row("Drift", degree(risk.drift)))
            (words::row("Semantic distance", degree(risk.distance)))
            (words::row("Beyond the request’s verbs", degree(risk.effect_gap)))
            (words::row("New resources", degree(risk.scope_expansion)))
            (words::row("Confidence", Some(words::degree(risk.confidence))))
            (words::row("Data escalation", (risk.escalation > 0).then(|| html! { (risk.escalation) " levels" })))
            (words::row("Unusual order", risk.unusual.then(|| html! { "yes" })))
        }
    }
}

fn chain(leaf: &StoredLeaf, predicate: Option<&Predicate>, related: &[StoredLeaf], desk: &Desk) -> Markup {
    let of = &leaf.summary;
    let parent = predicate.and_then(|predicate| predicate.parent.as_ref());
    html! {
        section class="card" aria-labelledby="chain" {
            h2 id="chain" { "Its place" }
            dl {
                dt { "Leaf" } dd { (leaf.index) }
                dt { "Session" } dd {
                    a href={ "/console/sessions/" (of.session_id) } { (words::short(of.session_id.as_str())) }
                    " receipt " (of.session_seq)
                }
                (words::row("Follows", parent.map(|id| html! { a href={ "/console/receipts/" (id) } { (words::short(id.as_str())) } })))
            }
            @if !related.is_empty() {
                h3 { "The same action" }
                ul class="plain" {
                    @for other in related {
                        li {
                            a href={ "/console/receipts/" (other.summary.receipt_id) } { (other.summary.kind.as_str().replace('_', " ")) }
                            " " @if let Some(verdict) = other.summary.verdict { (words::verdict(verdict)) } " "
                            span class="muted" { (words::ago(other.summary.decided_at, desk.now())) }
                        }
                    }
                }
            }
        }
    }
}

fn raw(leaf: &StoredLeaf, statement: Option<Value>) -> Markup {
    html! {
        details class="card" {
            summary { "The signed statement and its envelope" }
            @if let Some(statement) = statement { pre tabindex="0" { (serde_json::to_string_pretty(&statement).unwrap_or_default()) } }
            h3 { "The leaf, to the byte" }
            pre class="wrap" tabindex="0" { (String::from_utf8_lossy(&leaf.bytes)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_told_in_words() {
        assert_eq!("approved by", spaced("approvedBy"));
        assert_eq!("at", spaced("at"));
    }
}
