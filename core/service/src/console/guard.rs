//! What stands before every page: headers, the session, and for forms the proof that one of our pages sent them.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use countersign_sdk::signature::equal;
use url::Url;

use super::refusal::Refusal;
use super::visit::Visit;
use super::{Desk, cookie};
use crate::config::Role;

/// No form of ours is longer, comments included.
const FORM_BYTES_MAX: usize = 64 << 10;
/// Sent by the page's own script when it refreshes itself.
const REFRESH: &str = "x-countersign-refresh";

/// On every answer of the console. Nothing is loaded from elsewhere, no inline script or style runs, nobody frames it.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types countersign",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    // Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("x-robots-tag", "noindex"),
];

/// Adds [`HEADERS`]. Pages hold what not everybody may see, so nothing is cached unless its handler says otherwise.
pub(crate) async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Somebody who is signed in.
pub(crate) struct Visitor(pub(crate) Visit);

impl Visitor {
    /// # Errors
    ///
    /// [`Refusal::Role`] when the person does not have it.
    pub(crate) fn require(&self, role: Role) -> Result<(), Refusal> {
        if self.may(role) { Ok(()) } else { Err(Refusal::role(role)) }
    }

    pub(crate) fn may(&self, role: Role) -> bool {
        self.0.person.may(role)
    }
}

impl FromRequestParts<Desk> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Refusal> {
        let active = !parts.headers.contains_key(REFRESH);
        let id = cookie::session(&parts.headers, desk.https());
        let visit = id.and_then(|id| desk.console.visits.find(&id, desk.now(), active));
        let visit = visit.ok_or_else(|| match parts.method {
            Method::GET => Refusal::SignIn { next: parts.uri.to_string() },
            _ => Refusal::Ended,
        })?;
        let visitor = Self(visit);
        visitor.require(Role::Viewer)?;
        Ok(visitor)
    }
}

/// A form that somebody who is signed in sent from one of our pages.
pub(crate) struct Posted {
    pub(crate) form: Form,
    pub(crate) visitor: Visitor,
}

impl FromRequest<Desk> for Posted {
    type Rejection = Refusal;

    async fn from_request(request: Request, desk: &Desk) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, desk).await?;
        let form = Form::read(&parts.headers, body, desk).await?;
        form.require(&visitor.0.csrf)?;
        Ok(Self { form, visitor })
    }
}

/// A form's fields, in the order in which they were sent.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form that came from this origin.
    ///
    /// # Errors
    ///
    /// [`Refusal::Forged`] when another site sent it, [`Refusal::Malformed`] when it is too long.
    pub(crate) async fn read(headers: &HeaderMap, body: Body, desk: &Desk) -> Result<Self, Refusal> {
        if !is_of_this_origin(headers, &desk.app.config.server.public_url) {
            return Err(Refusal::Forged);
        }
        let bytes = to_bytes(body, FORM_BYTES_MAX).await;
        let bytes = bytes.map_err(|_| Refusal::Malformed("the form is longer than 64 KiB".into()))?;
        Ok(Self(url::form_urlencoded::parse(&bytes).into_owned().collect()))
    }

    /// # Errors
    ///
    /// [`Refusal::Forged`] unless the form's `csrf` is this token.
    pub(crate) fn require(&self, token: &str) -> Result<(), Refusal> {
        if equal(self.text("csrf").as_bytes(), token.as_bytes()) { Ok(()) } else { Err(Refusal::Forged) }
    }

    /// A field, without the white space around it; empty when it was not sent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default().trim()
    }

    /// Every field of this name.
    pub(crate) fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f str> + use<'f> {
        let name = name.to_owned();
        self.0.iter().filter(move |(of, _)| *of == name).map(|(_, value)| value.as_str())
    }
}

/// Fetch metadata and the origin, which no page can set itself. A browser sends at least one of them with a form.
fn is_of_this_origin(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (site, origin) = (text("sec-fetch-site"), text("origin"));
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    let Some(origin) = origin else { return site.is_some() };
    let Ok(origin) = Url::parse(origin) else { return false };
    let public = Url::parse(public_url).is_ok_and(|url| url.origin() == origin.origin());
    let authority = match (origin.host_str(), origin.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return false,
    };
    public || text("host").is_some_and(|host| host.eq_ignore_ascii_case(&authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], ours: bool) {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        assert_eq!(ours, is_of_this_origin(&headers.collect(), "https://cs.example"));
    }

    #[test]
    fn only_forms_of_our_own_pages_are_taken() {
        check(&[("origin", "https://cs.example"), ("sec-fetch-site", "same-origin")], true);
        check(&[("origin", "https://cs.example")], true);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("origin", "http://127.0.0.1:8787"), ("host", "127.0.0.1:8787")], true);
        check(&[("origin", "https://evil.example"), ("host", "cs.example")], false);
        check(&[("origin", "https://cs.example"), ("sec-fetch-site", "cross-site")], false);
        check(&[("origin", "https://cs.example.evil.example")], false);
        check(&[("origin", "null"), ("host", "cs.example")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[], false);
    }
}
