//! Recorded requests: `.http` files, to the byte, and JSON as our recorder writes it.

use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use countersign_schemas::Timestamp;
use countersign_sdk::Inbound;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::site;

/// Twice what the vendors' protocols allow, so that a request that is too large can be looked at too.
const REQUEST_BYTES_MAX: u64 = 128 << 20;

/// JSON form. `body_raw` is the body to the byte; without it the body is `body`, written anew, so that signatures over
/// it do not hold any more.
#[derive(Deserialize)]
struct Recording {
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    path: String,
    body_raw: Option<String>,
    body: Option<Value>,
}

/// Reads a recorded request.
///
/// # Errors
///
/// When the file cannot be read or is in neither form.
pub(crate) fn read(file: &Path, now: Timestamp) -> anyhow::Result<Inbound> {
    let bytes = site::read_file(file, REQUEST_BYTES_MAX)?;
    let json = file.extension().is_some_and(|extension| extension == "json");
    let request = if json { from_json(&bytes, now) } else { from_http(bytes, now) };
    request.with_context(|| format!("`{}` is not a recorded request", file.display()))
}

fn from_json(bytes: &[u8], now: Timestamp) -> anyhow::Result<Inbound> {
    let recording: Recording = serde_json::from_slice(bytes)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &recording.headers {
        add(&mut headers, name, value.as_str().with_context(|| format!("header `{name}` is not text"))?)?;
    }
    let body = match (recording.body_raw, recording.body) {
        (Some(raw), _) => raw,
        (None, Some(body)) => body.to_string(),
        (None, None) => bail!("it has neither `body_raw` nor `body`"),
    };
    let (path, query) = below_the_hook(&recording.path);
    Ok(Inbound::new(path, query, headers, body.into(), now))
}

fn from_http(bytes: Vec<u8>, now: Timestamp) -> anyhow::Result<Inbound> {
    let bytes = Bytes::from(bytes);
    let end = |mark: &[u8]| {
        bytes.windows(mark.len()).position(|found| found == mark).map(|at| (at, at + mark.len()))
    };
    let ends = end(b"\r\n\r\n").into_iter().chain(end(b"\n\n"));
    let (head_end, body_start) = ends.min().context("no empty line ends its head")?;
    let head = std::str::from_utf8(&bytes[..head_end]).context("its head is not text")?;
    let mut lines = head.lines();
    let request_line = lines.next().unwrap_or_default();
    let target = request_line.split(' ').nth(1).context("its first line is not `METHOD path HTTP/1.1`")?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("`{line}` is not a header"))?;
        add(&mut headers, name, value.trim())?;
    }
    let (path, query) = below_the_hook(target);
    Ok(Inbound::new(path, query, headers, bytes.slice(body_start..), now))
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> anyhow::Result<()> {
    let parsed = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
    let (Ok(key), Ok(value)) = parsed else { bail!("`{name}` is not a header") };
    headers.append(key, value);
    Ok(())
}

/// What follows `/hooks/<instance>`, whatever the instance is called, and the query.
fn below_the_hook(target: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let below = path.strip_prefix("/hooks/").and_then(|rest| rest.split_once('/'));
    (below.map(|(_, below)| below.to_owned()).unwrap_or_default(), query.to_owned())
}
