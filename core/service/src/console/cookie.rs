//! The console's two cookies: the session, and what binds a sign-in to the browser that began it.

use axum::http::{HeaderMap, HeaderValue, header};

/// With https, the prefix makes browsers refuse the cookie from a subdomain or over plain http (RFC 6265bis 4.1.3).
const HOST_PREFIX: &str = "__Host-";
const SESSION: &str = "countersign-session";
const SIGN_IN: &str = "countersign-sign-in";

/// How long a sign-in may take, in seconds.
const SIGN_IN_S: u32 = 600;

/// The session's id.
pub(crate) fn session(headers: &HeaderMap, https: bool) -> Option<String> {
    read(headers, SESSION, https)
}

/// What binds a sign-in to its browser.
pub(crate) fn sign_in(headers: &HeaderMap, https: bool) -> Option<String> {
    read(headers, SIGN_IN, https)
}

/// Keeps the session until the browser is closed or the server ends it.
pub(crate) fn set_session(id: &str, https: bool) -> HeaderValue {
    make(SESSION, id, "", https)
}

/// Keeps the binding for as long as a sign-in takes.
pub(crate) fn set_sign_in(id: &str, https: bool) -> HeaderValue {
    make(SIGN_IN, id, &format!("; Max-Age={SIGN_IN_S}"), https)
}

/// Drops the session.
pub(crate) fn drop_session(https: bool) -> HeaderValue {
    make(SESSION, "", "; Max-Age=0", https)
}

fn make(name: &str, value: &str, life: &str, https: bool) -> HeaderValue {
    let (prefix, secure) = if https { (HOST_PREFIX, "; Secure") } else { ("", "") };
    let text = format!("{prefix}{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{life}");
    // Names and values are ours: base64url and ASCII words.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// With https only the prefixed cookie counts: another host of the domain could set one without.
fn read(headers: &HeaderMap, name: &str, https: bool) -> Option<String> {
    let name = format!("{}{name}", if https { HOST_PREFIX } else { "" });
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}
