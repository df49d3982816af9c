//! Arbitrary bytes as a request to every kind of channel: without proof it is refused, and reading what was proved
//! never panics and always has an answer.
//!
//! The first byte of the input picks the kind; what follows up to a NUL is the path behind the name, the rest the body.

#![no_main]

use std::sync::LazyLock;

use countersign_sdk::channel::{Channel, Told};
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::schemas::Timestamp;
use countersign_sdk::{Caller, Env, Inbound};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static CHANNELS: LazyLock<Vec<Box<dyn Channel>>> = LazyLock::new(|| {
    let egress = Egress::new(["127.0.0.1".to_owned()]).unwrap();
    let keys = KeySets::default();
    let lookup = |name: &str| Some(format!("whsec_{}", if name == "A" { "QQ".repeat(22) } else { "Qk".repeat(22) }));
    let env = Env { egress: &egress, instance: "c", keys: &keys, lookup: &lookup, public_url: "https://c.example" };
    let (a, b, url) = (json!({"env": "A"}), json!({"env": "B"}), "http://127.0.0.1:9/");
    let settings = |kind: &str| match kind {
        "slack" => json!({"bot_token": a, "signing_secret": b}),
        "teams" => json!({"app_id": "app", "app_secret": a}),
        "email" => json!({"host": "127.0.0.1", "tls": "none", "from": "c@c.example", "link_secret": a}),
        "webhook" => json!({"url": url, "secret": a, "answer_secrets": [b]}),
        _ => json!({"issuer": url, "authorize_url": url, "token_url": url, "jwks_url": url, "client_id": "c",
                    "client_secret": a, "notification_token": b}),
    };
    let specs = countersign_channels::all();
    specs.iter().map(|spec| (spec.connect)(settings(spec.name), &env).unwrap()).collect()
});

fuzz_target!(|input: &[u8]| {
    let Some((&pick, input)) = input.split_first() else { return };
    let channel = &CHANNELS[usize::from(pick) % CHANNELS.len()];
    let end = input.iter().position(|byte| *byte == 0);
    let (path, body) = end.map_or((&[][..], input), |end| (&input[..end], &input[end + 1..]));
    let text = String::from_utf8_lossy(path).into_owned();
    let mut headers = HeaderMap::new();
    for name in ["x-slack-signature", "x-slack-request-timestamp", "authorization", "webhook-id",
                 "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, HeaderValue::from_bytes(path).unwrap_or(HeaderValue::from_static("v0=00")));
    }
    let request = Inbound::new(text, String::new(), headers, body.to_vec().into(), Timestamp(0));
    assert!(channel.verify(&request, Timestamp(0)).is_err(), "nobody proved anything");
    let claims = json!({"reference": "r", "who": "w", "id": "i"});
    let Value::Object(claims) = claims else { return };
    let request = request.assume_verified(Caller { claims, ..Caller::default() });
    if let Ok(heard) = channel.read(&request, Timestamp(0)) {
        let reply = channel.answer(&heard, &Told::Refused("no"), Timestamp(0));
        assert!((200..500).contains(&reply.status));
    }
});
