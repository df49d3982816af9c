//! The kill switch.

use axum::extract::State;
use axum::response::Redirect;
use countersign_schemas::{Halt, HaltScope};
use maud::{Markup, html};

use super::guard::{Form, Posted, Visitor};
use super::layout::{self, Here, scope};
use super::refusal::Refusal;
use super::{Desk, words};
use crate::config::Role;

const REASON_CHARS_MAX: usize = 500;
const NAME_CHARS_MAX: usize = 200;

/// The page.
pub(crate) async fn page(State(desk): State<Desk>, visitor: Visitor) -> Result<Markup, Refusal> {
    let halts = desk.app.pipeline.store.halts().await?;
    let operator = visitor.may(Role::Operator);
    Ok(layout::page(
        &desk,
        &visitor,
        Here::Halt,
        "Halt",
        html! {
            div class="head" { h1 { "Halt" } p class="muted" { "A halt denies everything it covers within a second, and is receipted." } }
            section class="card" aria-labelledby="in-force" {
                h2 id="in-force" { "In force" }
                @if halts.is_empty() { p class="muted" { "None." } }
                @for halt in &halts { (entry(&desk, &visitor, halt, operator)) }
            }
            @if operator { (give_form(&desk, &visitor)) }
            @else { p class="notice" { "Giving and lifting halts takes the role operator." } }
        },
    ))
}

fn entry(desk: &Desk, visitor: &Visitor, halt: &Halt, operator: bool) -> Markup {
    let (kind, name) = parts(&halt.what);
    html! {
        div class="halt" {
            div {
                p { strong { (scope(&halt.what)) } " " span class="muted" { "by " (halt.by) ", " (words::ago(halt.at, desk.now())) } }
                p { (halt.reason) }
            }
            @if operator {
                form method="post" action="/console/halt/lift" class="inline" {
                    (layout::csrf(visitor))
                    input type="hidden" name="kind" value=(kind);
                    input type="hidden" name="name" value=(name);
                    label { "Why it can be lifted" input name="reason" required maxlength=(REASON_CHARS_MAX) autocomplete="off"; }
                    button { "Lift" }
                }
            }
        }
    }
}

fn give_form(desk: &Desk, visitor: &Visitor) -> Markup {
    html! {
        section class="card" aria-labelledby="give" {
            h2 id="give" { "Give a halt" }
            form method="post" action="/console/halt" class="stack narrow" {
                (layout::csrf(visitor))
                fieldset {
                    legend { "What it stops" }
                    label class="check" { input type="radio" name="kind" value="agent" required; span { "one agent, named " code { "connector/agent" } } }
                    label class="check" { input type="radio" name="kind" value="human"; span { "all agents of one person, by id or e-mail address" } }
                    label class="check" { input type="radio" name="kind" value="connector"; span { "one connector" } }
                    label class="check" { input type="radio" name="kind" value="all"; span { "everything" } }
                }
                label { "Name" input name="name" list="connectors" maxlength=(NAME_CHARS_MAX) autocomplete="off" placeholder="not needed for everything"; }
                datalist id="connectors" { @for name in desk.app.routes.keys() { option value=(name) {} } }
                label { "Reason" input name="reason" required maxlength=(REASON_CHARS_MAX) autocomplete="off"; }
                button class="danger" { "Halt" }
            }
        }
    }
}

/// Gives a halt.
pub(crate) async fn give(State(desk): State<Desk>, posted: Posted) -> Result<Redirect, Refusal> {
    let (what, by, reason) = order(&posted)?;
    let halt = Halt { at: desk.now(), by, reason, what };
    desk.app.pipeline.halt(halt).await.map_err(Refusal::Write)?;
    Ok(Redirect::to("/console/halt"))
}

/// Lifts one.
pub(crate) async fn lift(State(desk): State<Desk>, posted: Posted) -> Result<Redirect, Refusal> {
    let (what, by, reason) = order(&posted)?;
    if !desk.app.pipeline.store.halts().await?.iter().any(|halt| halt.what == what) {
        return Err(Refusal::NotFound(format!("there is no halt of {}", scope(&what))));
    }
    desk.app.pipeline.lift(what, by, reason).await.map_err(Refusal::Write)?;
    Ok(Redirect::to("/console/halt"))
}

/// What to do, who says so and why.
fn order(posted: &Posted) -> Result<(HaltScope, String, String), Refusal> {
    let Posted { form, visitor } = posted;
    visitor.require(Role::Operator)?;
    let reason: String = form.text("reason").chars().take(REASON_CHARS_MAX).collect();
    if reason.is_empty() {
        return Err(Refusal::Malformed("say why".into()));
    }
    Ok((what(form)?, visitor.0.person.name.clone(), reason))
}

fn what(form: &Form) -> Result<HaltScope, Refusal> {
    let name: String = form.text("name").chars().take(NAME_CHARS_MAX).collect();
    let what = match form.text("kind") {
        "all" => return Ok(HaltScope::All),
        "agent" if name.contains('/') => HaltScope::Agent(name.clone()),
        "agent" => return Err(Refusal::Malformed("name the agent as connector/agent".into())),
        "connector" => HaltScope::Connector(name.clone()),
        "human" => HaltScope::Human(name.clone()),
        _ => return Err(Refusal::Malformed("say what to halt".into())),
    };
    if name.is_empty() { Err(Refusal::Malformed("name what to halt".into())) } else { Ok(what) }
}

fn parts(what: &HaltScope) -> (&'static str, &str) {
    match what {
        HaltScope::All => ("all", ""),
        HaltScope::Agent(name) => ("agent", name),
        HaltScope::Connector(name) => ("connector", name),
        HaltScope::Human(name) => ("human", name),
    }
}
