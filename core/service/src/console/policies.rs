//! The policies in force, with their source and what is worth a look in them.

use axum::extract::State;
use countersign_engine::{Policies, PolicyClass, PolicyInfo, PolicyProblem, lint};
use maud::{Markup, html};

use super::guard::Visitor;
use super::layout::{self, Here};
use super::refusal::Refusal;
use super::{Desk, words};

/// The page.
pub(crate) async fn page(State(desk): State<Desk>, visitor: Visitor) -> Result<Markup, Refusal> {
    let policies = desk.app.pipeline.policies.load_full();
    let linted = policies.clone();
    // Cheap for the sets that people write (milliseconds), but not for the thousands that the engine takes.
    let found = tokio::task::spawn_blocking(move || lint(&linted)).await;
    let found = found.ok().and_then(Result::ok);
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Policies,
        "Policies",
        html! {
            div class="head" {
                h1 { "Policies" }
                p class="muted" { (policies.len()) " in force · set " (words::short(policies.bundle_sha256())) }
            }
            (lints(found.as_deref()))
            @for info in policies.iter() { (policy(&policies, info)) }
        },
    ))
}

fn lints(found: Option<&[PolicyProblem]>) -> Markup {
    html! {
        section class="card" aria-labelledby="lint" {
            h2 id="lint" { "Worth a look" }
            @match found {
                None => { p class="muted" { "Could not be looked for now." } }
                Some([]) => { p class="muted" { "Nothing found." } }
                Some(found) => { ul class="plain" {
                    @for problem in found {
                        li {
                            span class="tag" { (problem.level.as_str()) } " "
                            @if let Some(policy) = &problem.policy { a href={ "#" (policy) } { code { (policy) } } " " }
                            (problem.message)
                        }
                    }
                } }
            }
            p class="muted small" {
                "A candidate set is compared, replayed and tested on the command line before it is put in force: "
                code { "countersign policy diff" } ", " code { "policy replay" } ", " code { "policy test" } "."
            }
        }
    }
}

fn policy(policies: &Policies, info: &PolicyInfo) -> Markup {
    html! {
        section class="card policy" id=(info.id) {
            div class="policy-head" {
                h2 { code { (info.id) } }
                p { (words::verdict(info.verdict)) " "
                    @if info.class == PolicyClass::Forbidden { span class="tag bad" { "forbidden: nothing overrides it" } " " }
                    span class={ "sev " (words::severity(info.severity)) } { (words::severity(info.severity)) }
                }
            }
            @if !info.reason.is_empty() { p { (info.reason) } }
            details {
                summary { "Source: " (info.file) ", line " (info.line) }
                pre class="source" tabindex="0" { (policies.text(&info.id).unwrap_or_default()) }
                dl {
                    dt { "SHA-256" } dd { code { (info.sha256) } }
                    dt { "Priority" } dd { (info.priority) }
                    @if !info.reads.is_empty() { dt { "Reads" } dd { @for path in &info.reads { code { (path) } " " } } }
                }
            }
        }
    }
}
