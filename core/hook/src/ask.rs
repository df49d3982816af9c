//! The question to the server, and a look at its answer.

use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::aws_lc_rs;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::client;
use crate::server::{Server, ServerError};

/// Answers are a few hundred bytes; a changed file content may be in one.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Why there is no answer. None of these texts holds anything of the event.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The command line is wrong.
    #[error("`{0}` is not understood after `countersign hook`; see `countersign hook --help`")]
    Argument(String),
    /// No such client.
    #[error("no client is called `{0}`; see `countersign hook --help`")]
    Dialect(String),
    /// Standard input cannot be read.
    #[error("standard input cannot be read: {0}")]
    Input(#[source] std::io::Error),
    /// The event is too large.
    #[error("the event is larger than {0} bytes")]
    Large(u64),
    /// It took too long.
    #[error("there was no answer in time")]
    Late,
    /// Standard input holds no event.
    #[error("there is no event on standard input")]
    NoEvent,
    /// It is not known where the server is.
    #[error("{0}")]
    Server(#[from] ServerError),
    /// The server answered with an error.
    #[error("the server answered {0}{hint}", hint = hint(*.0))]
    Status(u16),
    /// The server cannot be reached.
    #[error("the server at {host} cannot be reached: {why}")]
    Unreachable {
        /// Where it was looked for.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// What came is not an answer of this program to this client.
    #[error(
        "what came is no answer for this client; does the URL lead to Countersign, and to this client's connector?"
    )]
    NotAnswer,
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => ": the token is not one of the connector's `tokens`",
        404 => ": it has no connector of this name",
        413 => ": the event is larger than it takes",
        _ => "",
    }
}

/// What is asked.
pub(crate) struct Question {
    /// The event, to the byte.
    pub(crate) event: Vec<u8>,
    /// The fields that may be at the top of the answer.
    pub(crate) fields: &'static [&'static str],
    /// The event's name, where the command line gives it.
    pub(crate) name: Option<String>,
    /// When an answer is of no use any more.
    pub(crate) until: Instant,
}

/// Asks, once: a question that is repeated could be answered twice.
pub(crate) fn ask(server: &Server, question: &Question) -> Result<String, AskError> {
    let unreachable = |error: ureq::Error| match error {
        ureq::Error::Timeout(_) => AskError::Late,
        other => AskError::Unreachable { host: server.host.clone(), why: other.to_string() },
    };
    let agent = agent(server, question.until)?;
    let mut url = server.hook.clone();
    if let Some(name) = &question.name {
        url.push('/');
        url.extend(url::form_urlencoded::byte_serialize(name.as_bytes()));
    }
    let mut request = agent
        .post(&url)
        .header("authorization", format!("Bearer {}", server.token.expose()))
        .header("content-type", "application/json");
    for (name, value) in client::headers(server.device.as_deref()) {
        request = request.header(name, value);
    }
    let mut response = request.send(question.event.as_slice()).map_err(unreachable)?;
    if response.status() != 200 {
        return Err(AskError::Status(response.status().as_u16()));
    }
    let body =
        response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
    answer(&body, question.fields)
}

/// Prints nothing that the client does not know: some clients run the tool on one unknown field, and an answer of
/// somebody else's server must not pass for ours.
fn answer(body: &[u8], fields: &[&str]) -> Result<String, AskError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(answer)) if answer.keys().all(|key| fields.contains(&key.as_str())) => {
            Ok(Value::Object(answer).to_string())
        }
        _ => Err(AskError::NotAnswer),
    }
}

/// No redirects, no answer that is not ours: the token goes to the configured server and nowhere else.
fn agent(server: &Server, until: Instant) -> Result<Agent, AskError> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(until.saturating_duration_since(Instant::now())))
        .user_agent(concat!("countersign-hook/", env!("CARGO_PKG_VERSION")));
    if server.is_plain {
        // Loopback: neither a proxy nor certificates are looked for.
        return Ok(config.proxy(None).build().new_agent());
    }
    let roots = match &server.ca_pem {
        Some(pem) => RootCerts::new_with_certs(&certificates(pem)?),
        None => RootCerts::PlatformVerifier,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    config = config.https_only(true).proxy(Proxy::try_from_env()).tls_config(tls);
    Ok(config.build().new_agent())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, AskError> {
    let found: Result<Vec<_>, _> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(AskError::Server(ServerError::Certificates)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_in_the_clients_words_is_passed_on() {
        let fields = ["decision", "reason"];
        let read = |body: &str| answer(body.as_bytes(), &fields).ok();
        assert_eq!(Some("{}".to_owned()), read(" {} "));
        assert_eq!(Some(r#"{"decision":"deny"}"#.to_owned()), read("{\"decision\":\n\"deny\"}\n"));
        for foreign in
            ["", "[]", "null", "<html>", r#"{"status":"ok"}"#, r#"{"decision":"deny","id":1}"#, "{} {}"]
        {
            assert_eq!(None, read(foreign), "{foreign}");
        }
    }
}
