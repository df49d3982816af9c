//! Nothing that a stranger sends makes `Gate::verify` panic, and nothing passes it without a proof that was given by
//! somebody who has the secret: with a changed body or a changed signed header, a genuine request is refused.
//!
//! The input's first byte says what it is: `P` begins a whole request as fixtures write them, so the fixtures are its
//! seeds; below 64 it is an edit of a genuine request; otherwise it is something to sign with the true key, a webhook or
//! a token's claims, which leads to what is checked behind the signature.
//!
//! From `connectors/`: `cargo +nightly fuzz run verify fuzz/corpus/verify ../fixtures`.

#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_connectors_fuzz::{CONNECTORS, Configured, NOW, Request};
use countersign_sdk::signature::{STANDARD_WEBHOOKS_TOLERANCE, hmac_sha256, standard_webhooks_key};
use countersign_sdk::{Caller, Inbound, Secret};
use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// What the fixtures have of genuine requests.
struct Genuine {
    /// By connector.
    requests: Vec<Vec<Request>>,
    /// Each with the name of the connector that takes it.
    proofs: HashSet<(&'static str, Vec<u8>)>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let mut genuine = Genuine { requests: Vec::new(), proofs: HashSet::new() };
    for connector in CONNECTORS.iter() {
        let mut requests = connector.recorded();
        requests.retain(|request| verify(connector, request).is_some());
        assert!(!requests.is_empty(), "{} has no genuine fixture", connector.name);
        for request in &requests {
            let caller = verify(connector, request).unwrap();
            let proofs = proofs(&request.inbound(), &caller).into_iter();
            genuine.proofs.extend(proofs.map(|proof| (connector.name, proof)));
        }
        genuine.requests.push(requests);
    }
    genuine
});

/// The key that signs tokens in the fixtures of `copilot-studio`.
static TOKEN_KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
    let pem = named("copilot-studio").secret("test-only-key.pem").unwrap();
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
});

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((b'P', _)) => stranger(input),
        Some((0..=63, edit)) => edited(edit),
        Some((64..=127, content)) => signed_webhook(content),
        Some((_, claims)) => serde_json::from_slice(claims).map(signed_token).unwrap_or_default(),
        None => {}
    }
});

/// A request from anybody.
fn stranger(text: &[u8]) {
    let Some(request) = Request::parse(text) else { return };
    if let Some(connector) = request.connector() {
        check(connector, &request);
    }
}

/// A genuine request with one part of one header, or of the body, replaced.
fn edited(edit: &[u8]) {
    let [connector, request, part, at_high, at_low, removed, inserted @ ..] = edit else { return };
    let nth = |byte: u8, length: usize| usize::from(byte) % length;
    let connector = nth(*connector, CONNECTORS.len());
    let recorded = &GENUINE.requests[connector];
    let recorded = &recorded[nth(*request, recorded.len())];
    let mut request = recorded.clone();
    let part = nth(*part, request.headers.len() + 1);
    let bytes = request.headers.get_mut(part).map_or(&mut request.body, |(_, value)| value);
    let at = usize::from(u16::from_be_bytes([*at_high, *at_low])) % (bytes.len() + 1);
    let end = bytes.len().min(at + usize::from(*removed));
    bytes.splice(at..end, inserted.iter().copied());
    let accepted = check(&CONNECTORS[connector], &request);
    let unchanged = request.body == recorded.body && request.headers == recorded.headers;
    assert!(accepted || !unchanged, "a genuine request was refused");
}

/// Verifies, and asserts that what is accepted has one of the proofs that were recorded.
fn check(connector: &Configured, request: &Request) -> bool {
    let Some(caller) = verify(connector, request) else { return false };
    let mut proofs = proofs(&request.inbound(), &caller).into_iter();
    let known = proofs.any(|proof| GENUINE.proofs.contains(&(connector.name, proof)));
    assert!(known, "{} was accepted as {caller:?} without proof", connector.name);
    true
}

fn verify(connector: &Configured, request: &Request) -> Option<Caller> {
    connector.parts.gate.verify(&request.inbound(), NOW).ok()
}

/// What in a request proves, in the way that the caller was verified by, who sent it: everything that is signed and the
/// signature, or the token.
fn proofs(request: &Inbound, caller: &Caller) -> Vec<Vec<u8>> {
    let header = |name: &str| request.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    match caller.verified_by {
        "standard-webhooks" => {
            let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
            let signatures = header("webhook-signature").split(|byte| *byte == b' ');
            signatures.map(|signature| join(&[id, time, signature, &request.body])).collect()
        }
        // Hexadecimal digits may be of either case.
        "hub-signature-256" => {
            vec![join(&[&header("x-hub-signature-256").to_ascii_lowercase(), &request.body])]
        }
        // A token may come in a header of the vendor's own choice.
        "bearer-token" if request.headers.contains_key("x-api-key") => vec![join(&[header("x-api-key")])],
        "bearer-token" | "entra-jwt" | "aws-sts-web-identity" => {
            let value = header("authorization");
            let scheme = value.iter().position(|byte| *byte == b' ').unwrap_or_default();
            vec![join(&[value[scheme..].trim_ascii()])]
        }
        other => panic!("`{other}` proves a sender in a way that is not known here"),
    }
}

/// The lengths keep one part from passing for the end of another.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&part.len().to_be_bytes()[..], part].concat()).collect()
}

/// A webhook of eight bytes for the time, a length and the id, and the body. Accepted just when the id is usable and the
/// time near.
fn signed_webhook(content: &[u8]) {
    let Some((seconds, [length, rest @ ..])) = content.split_first_chunk() else { return };
    let seconds = i64::from_be_bytes(*seconds);
    let (id, body) = rest.split_at(usize::from(*length).min(rest.len()));
    for (connector, secret) in [("anthropic", "ANTHROPIC_SECRET"), ("generic", "WEBHOOK_SECRET")] {
        let connector = named(connector);
        let secret = Secret::new(connector.secret(secret).unwrap());
        let request = webhook(connector, &standard_webhooks_key(&secret).unwrap(), id, seconds, body);
        let text = HeaderValue::from_bytes(id).ok().and_then(|id| id.to_str().map(str::to_owned).ok());
        let usable = text.is_some_and(|id| !id.is_empty() && id.len() <= 256 && !id.contains('.'));
        let near = NOW.unix_seconds().abs_diff(seconds) <= STANDARD_WEBHOOKS_TOLERANCE.as_secs();
        assert_eq!(usable && near, verify(connector, &request).is_some());
    }
}

fn webhook(connector: &Configured, key: &[u8], id: &[u8], seconds: i64, body: &[u8]) -> Request {
    let time = seconds.to_string();
    let tag = hmac_sha256(key, &[id, b".", time.as_bytes(), b".", body]);
    let signature = format!("v1,{}", STANDARD.encode(tag));
    let headers = [
        ("webhook-id", id.to_vec()),
        ("webhook-timestamp", time.into_bytes()),
        ("webhook-signature", signature.into_bytes()),
    ];
    Request {
        instance: connector.name.to_owned(),
        path: String::new(),
        headers: headers.map(|(name, value)| (HeaderName::from_static(name), value)).to_vec(),
        body: body.to_vec(),
    }
}

/// Accepted only when its claims say that it is ours, alive, and of an application that may call.
fn signed_token(changed: Map<String, Value>) {
    let now = NOW.unix_seconds();
    let tenant = "aaaabbbb-0000-1111-2222-333344445555";
    let app = "99998888-0000-1111-2222-333344445555";
    let mut claims = json!({
        "iss": format!("https://login.microsoftonline.com/{tenant}/v2.0"),
        "aud": "api://countersign.example.com", "tid": tenant, "azp": app, "exp": now + 60, "nbf": now,
    });
    let plain = changed.is_empty();
    claims.as_object_mut().unwrap().extend(changed);
    let header = Header { kid: Some("test-only-1".to_owned()), ..Header::new(Algorithm::RS256) };
    let token = jsonwebtoken::encode(&header, &claims, &TOKEN_KEY).unwrap();
    let connector = named("copilot-studio");
    let request = Request {
        instance: connector.name.to_owned(),
        path: "validate".to_owned(),
        headers: vec![(http::header::AUTHORIZATION, format!("Bearer {token}").into_bytes())],
        body: Vec::new(),
    };
    let Some(caller) = verify(connector, &request) else {
        assert!(!plain, "a good token was refused");
        return;
    };
    let is =
        |claim: &str, wanted: &str| claims[claim].as_str().is_some_and(|is| is.eq_ignore_ascii_case(wanted));
    assert!(is("tid", tenant) && (is("azp", app) || is("appid", app)), "{claims}");
    assert!(claims["exp"].as_i64().is_some_and(|exp| now < exp.saturating_add(60)), "{claims}");
    assert!(claims["nbf"].as_i64().is_none_or(|nbf| now >= nbf.saturating_sub(60)), "{claims}");
    assert_eq!(caller.claims, *claims.as_object().unwrap());
}

fn named(name: &str) -> &'static Configured {
    CONNECTORS.iter().find(|connector| connector.name == name).unwrap()
}
