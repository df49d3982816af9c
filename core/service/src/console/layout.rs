//! The frame of every page.

use countersign_schemas::HaltScope;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Desk;
use super::guard::Visitor;

/// Where a page stands in the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Here {
    Queue,
    Receipts,
    Connectors,
    Policies,
    Halt,
}

const PAGES: [(Here, &str, &str); 5] = [
    (Here::Queue, "/console/queue", "Queue"),
    (Here::Receipts, "/console/receipts", "Receipts"),
    (Here::Connectors, "/console/connectors", "Connectors"),
    (Here::Policies, "/console/policies", "Policies"),
    (Here::Halt, "/console/halt", "Halt"),
];

/// A page for somebody who is signed in. `title` is also the page's heading for those who hear it.
pub(crate) fn page(desk: &Desk, visitor: &Visitor, here: Here, title: &str, body: Markup) -> Markup {
    let person = &visitor.0.person;
    let roles: Vec<_> = person.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
    document(
        title,
        html! {
            body class="app" {
                a class="skip" href="#main" { "Skip to content" }
                header class="side" {
                    a class="brand" href="/console/queue" { (mark()) span { "Countersign" } }
                    nav aria-label="Pages" {
                        @for (at, path, name) in PAGES {
                            a href=(path) aria-current=[(at == here).then_some("page")] {
                                (name)
                                @if at == Here::Queue { (counter(desk)) }
                            }
                        }
                    }
                    div class="who" {
                        p { strong { (person.shown) } br; span class="muted" { (roles.join(", ")) } }
                        form method="post" action="/console/logout" {
                            (csrf(visitor))
                            button class="quiet" { "Sign out" }
                        }
                    }
                }
                main id="main" tabindex="-1" { (alarms(desk)) (body) }
                p id="announcer" class="unseen" role="status" aria-live="polite" {}
            }
        },
    )
}

/// A page for nobody in particular.
pub(crate) fn bare(title: &str, body: Markup) -> Markup {
    document(
        title,
        html! {
            body class="bare" {
                main id="main" {
                    div class="brand" { (mark()) span { "Countersign" } }
                    (body)
                }
            }
        },
    )
}

/// The field that proves that a form is from one of this session's pages.
pub(crate) fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.0.csrf); }
}

/// How many questions are open.
fn counter(desk: &Desk) -> Markup {
    let open = desk.app.pipeline.store.health().approvals;
    html! { span id="open-count" class="count" data-live hidden[open == 0] { (open) span class="unseen" { " open" } } }
}

/// What everybody must know, whatever page they are on.
fn alarms(desk: &Desk) -> Markup {
    let pipeline = &desk.app.pipeline;
    html! {
        div id="alarms" data-live {
            @if let Some(why) = pipeline.store.health().stopped {
                p class="notice bad" role="alert" { strong { "Everything is denied." } " The store has stopped: " (why) }
            }
            @for halt in pipeline.halts.list().iter() {
                p class="notice bad" {
                    strong { "Halted: " (scope(&halt.what)) "." } " " (halt.reason) " (" (halt.by) ") "
                    a href="/console/halt" { "Halts" }
                }
            }
        }
    }
}

/// What a halt stops, in words.
pub(crate) fn scope(what: &HaltScope) -> String {
    match what {
        HaltScope::All => "everything".into(),
        HaltScope::Agent(name) => format!("agent {name}"),
        HaltScope::Connector(name) => format!("connector {name}"),
        HaltScope::Human(name) => format!("person {name}"),
    }
}

fn document(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Countersign" }
                link rel="icon" type="image/svg+xml" href="/console/static/mark.svg";
                link rel="stylesheet" href="/console/static/console.css";
                script type="module" src="/console/static/console.js" {}
            }
            (body)
        }
    }
}

/// Two strokes of a pen under one line: a signature and its counterpart.
fn mark() -> PreEscaped<&'static str> {
    PreEscaped(
        r#"<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect class="mark-ground" width="32" height="32" rx="8"/><path class="mark-pen" d="M7 19c3-8 6-9 6-4s1 5 3 1 3-5 3-1 2 4 6-2M7 25h18"/></svg>"#,
    )
}
