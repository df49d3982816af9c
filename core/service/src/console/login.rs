//! Signing in and out.

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_sdk::Secret;
use maud::{Markup, html};
use serde::Deserialize;
use tracing::info;

use super::guard::{Form, Posted};
use super::oidc::Returned;
use super::refusal::Refusal;
use super::visit::{self, Person};
use super::{Desk, cookie, layout};

const HOME: &str = "/console/";

/// Where to go on after signing in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Next {
    next: Option<String>,
}

/// The sign-in page.
pub(crate) async fn page(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Query(next): Query<Next>,
) -> Result<Response, Refusal> {
    show(&desk, &headers, next.next.as_deref(), None)
}

/// Takes name and password.
pub(crate) async fn password(State(desk): State<Desk>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let form = Form::read(&parts.headers, body, &desk).await?;
    let binding = cookie::sign_in(&parts.headers, desk.https()).ok_or(Refusal::Forged)?;
    form.require(&token_of(&binding))?;
    let account = desk.console.account.as_ref().ok_or(Refusal::Forged)?;
    let password = Secret::new(form.all("password").next().unwrap_or_default());
    match account.check(form.text("name"), password, desk.now()).await? {
        Some(person) => enter(&desk, person, form.text("next")),
        None => {
            info!("a sign-in to the console was refused: wrong name or password");
            show(&desk, &parts.headers, Some(form.text("next")), Some("Name or password is wrong."))
        }
    }
}

/// Goes to the identity provider. A link rather than a form: `form-action 'self'` also holds for redirects.
pub(crate) async fn oidc(State(desk): State<Desk>, Query(next): Query<Next>) -> Result<Response, Refusal> {
    let not_found = || Refusal::NotFound("there is no single sign-on here".into());
    let provider = desk.console.oidc.as_ref().ok_or_else(not_found)?;
    let binding = visit::random().ok_or_else(no_randomness)?;
    let next = local(next.next.as_deref()).to_owned();
    let url = provider.begin(&binding, next, desk.now()).await;
    let url = url.map_err(|error| Refusal::Write(error.to_string()))?;
    let cookie = cookie::set_sign_in(&binding, desk.https());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(url.as_str())).into_response())
}

/// Comes back from the identity provider.
pub(crate) async fn callback(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Result<Response, Refusal> {
    let not_found = || Refusal::NotFound("there is no single sign-on here".into());
    let provider = desk.console.oidc.as_ref().ok_or_else(not_found)?;
    let binding = cookie::sign_in(&headers, desk.https());
    match provider.finish(binding.as_deref(), returned, desk.now()).await {
        Ok((person, next)) => enter(&desk, person, &next),
        Err(error) => {
            info!(%error, "a sign-in to the console was refused: {error}");
            show(&desk, &headers, None, Some(&format!("Not signed in: {error}.")))
        }
    }
}

/// Ends the session, here and in the browser.
pub(crate) async fn sign_out(State(desk): State<Desk>, posted: Posted) -> Response {
    desk.console.visits.end(&posted.visitor.0.key);
    let cookie = cookie::drop_session(desk.https());
    ([(header::SET_COOKIE, cookie)], Redirect::to("/console/login")).into_response()
}

fn enter(desk: &Desk, person: Person, next: &str) -> Result<Response, Refusal> {
    info!(how = person.assurance, "somebody signed in to the console");
    let id = desk.console.visits.begin(person, desk.now()).ok_or_else(no_randomness)?;
    let cookie = cookie::set_session(&id, desk.https());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(local(Some(next)))).into_response())
}

fn show(
    desk: &Desk,
    headers: &HeaderMap,
    next: Option<&str>,
    problem: Option<&str>,
) -> Result<Response, Refusal> {
    let known = cookie::sign_in(headers, desk.https()).filter(|binding| !binding.is_empty());
    let binding = known.map_or_else(|| visit::random().ok_or_else(no_randomness), Ok)?;
    let page = form(desk, local(next), &token_of(&binding), problem);
    let cookie = cookie::set_sign_in(&binding, desk.https());
    let status = if problem.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    Ok((status, [(header::SET_COOKIE, cookie)], page).into_response())
}

fn form(desk: &Desk, next: &str, token: &str, problem: Option<&str>) -> Markup {
    let Desk { console, .. } = desk;
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    layout::bare(
        "Sign in",
        html! {
            h1 { "Sign in" }
            p class="muted" { "Approvals, receipts and halts of " (console.site) }
            @if let Some(problem) = problem { p class="notice bad" role="alert" { (problem) } }
            @if let Some(oidc) = &console.oidc {
                p { a class="button primary wide" href={ "/console/login/oidc?" (query) } { "Continue with " (oidc.settings.label) } }
            }
            @if console.account.is_some() {
                @if console.oidc.is_some() { p class="or" { span { "or" } } }
                form method="post" action="/console/login" class="stack" {
                    input type="hidden" name="csrf" value=(token);
                    input type="hidden" name="next" value=(next);
                    label { "Name" input name="name" autocomplete="username" required autocapitalize="none" spellcheck="false"; }
                    label { "Password" input name="password" type="password" autocomplete="current-password" required; }
                    button class={ "wide" @if console.oidc.is_none() { " primary" } } { "Sign in" }
                }
            }
        },
    )
}

/// A path of the console; anything else would let a link send people elsewhere.
fn local(next: Option<&str>) -> &str {
    next.filter(|next| {
        let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        plain && next.starts_with(HOME) && !next.starts_with("/console/login")
    })
    .unwrap_or(HOME)
}

/// The token of a form that is shown before there is a session; it gives nothing of the cookie away.
fn token_of(binding: &str) -> String {
    URL_SAFE_NO_PAD.encode(visit::key(&format!("form:{binding}")))
}

fn no_randomness() -> Refusal {
    Refusal::Write("the system gives no randomness".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere_after_signing_in() {
        for elsewhere in
            ["https://evil.example", "//evil.example", "/\\evil.example", "/v1/receipts", "/console/login?x"]
        {
            assert_eq!(HOME, local(Some(elsewhere)), "{elsewhere}");
        }
        assert_eq!("/console/receipts?verdict=DENY", local(Some("/console/receipts?verdict=DENY")));
    }
}
