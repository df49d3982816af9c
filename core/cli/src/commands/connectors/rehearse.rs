//! `countersign connectors test`: a recorded request through the real request path, with a store that is thrown away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use countersign_receipt::generate_key_pem;
use countersign_schemas::{ReceiptKind, Timestamp};
use countersign_sdk::{Caller, Frame, Inbound, Reply, SecretRef, Verified};
use countersign_service::Service;
use countersign_service::clock::{Clock as _, FixedClock, SystemClock};
use countersign_service::config::{
    ApiSettings, Config, ContextSettings, EgressSettings, KeySettings, StoreKind, StoreSettings,
};
use countersign_service::connect::Route;
use countersign_service::console::ConsoleSettings;
use countersign_service::http::receipt_view;
use countersign_store::Query;
use reqwest::Url;
use serde_json::{Map, Value, json};

use crate::args::Globals;
use crate::commands::policy;
use crate::exit::Exit;
use crate::{output, recorded, site};

const EXAMPLES: &str = "\
FILE is a recorded request: `.http` (request line, headers, empty line, body to the byte) or `.json` with `headers`
and `body_raw` (to the byte) or `body`. Nothing is sent anywhere and nothing is kept; halts, earlier actions of the
session and open approvals of the running server are not known here.

Examples:
  countersign connectors test generic request.http --now 2026-11-24T05:00:00Z
  countersign connectors test claude-code captured.json --skip-verify
  countersign connectors test github request.http --settings settings.toml --policies policies/base

Exit codes: 0 it was answered, 1 it was refused or could not be read, 3 wrong use.";
/// Names under which the throw-away keys are looked up. No variable can have them.
const RECEIPT_KEY: &str = "=receipt";
const LOG_KEY: &str = "=log";
/// One request makes fewer receipts.
const RECEIPTS_MAX: usize = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The configured instance; with --settings, the connector.
    name: String,
    /// The recorded request.
    file: PathBuf,
    /// Take the sender on trust: for recordings whose signatures are stale, or whose secrets you do not have.
    #[arg(long)]
    skip_verify: bool,
    /// When it is received (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
    /// The connector's settings, TOML, instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Folder of `*.cedar` files. Default: the configured one.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

/// Shows what becomes of a recorded request.
///
/// # Errors
///
/// When the request, the settings or the policies cannot be used.
pub(crate) async fn run(args: &Args, globals: &Globals) -> anyhow::Result<Exit> {
    let now = args.now.unwrap_or_else(|| SystemClock.now());
    let request = recorded::read(&args.file, now)?;
    let (receipt, log) = (generate_key_pem()?, generate_key_pem()?);
    let lookup = |name: &str| match name {
        RECEIPT_KEY => Some(receipt.clone()),
        LOG_KEY => Some(log.clone()),
        name => site::environment(name),
    };
    let registry = countersign_connectors::registry();
    let clock = Arc::new(FixedClock::at(now));
    let service = Service::start(config(args, globals)?, &registry, clock, &lookup).await?;
    let route = service.routes().get(&args.name).context("the connector was not built")?;
    let request = match verify(route, request, args.skip_verify, now) {
        Ok(request) => request,
        Err(refusal) => {
            let refused = json!({"refused": {"code": refusal.code(), "message": refusal.to_string()}});
            return if globals.json {
                output::json(&refused).map(|()| Exit::No)
            } else {
                output::line(format_args!("refused (HTTP 401): {refusal}"))?;
                Ok(Exit::No)
            };
        }
    };
    let caller = request.caller().clone();
    let read = route.normalize(&request);
    let reply = service.pipeline().answer_verified(route, request, Instant::now()).await;
    let receipts = receipts(&service).await?;
    let readable = read.is_ok();
    let result = json!({
        "caller": {
            "assurance": caller.assurance,
            "name": caller.name,
            "verifiedBy": caller.verified_by,
            "claims": caller.claims,
        },
        "read": match read {
            Ok(read) => json!({"frame": read.frame, "idempotency": read.idempotency, "events": read.events}),
            Err(error) => json!({"unreadable": error.reason, "frame": error.frame.unwrap_or_else(Frame::unreadable)}),
        },
        "receipts": receipts,
        "reply": reply_json(&reply),
    });
    if globals.json {
        output::json(&result)?
    } else {
        describe(&result, &reply)?
    }
    Ok(Exit::when(readable))
}

fn verify(
    route: &Route,
    request: Inbound,
    skip: bool,
    now: Timestamp,
) -> Result<Inbound<Verified>, countersign_sdk::VerifyError> {
    if skip {
        let caller = Caller {
            assurance: route.manifest.assurance,
            verified_by: "nothing: taken on trust",
            ..Caller::default()
        };
        return Ok(request.assume_verified(caller));
    }
    request.verified_by(|request| route.verify(request, now))
}

/// The configuration with this one connector, a store in memory, and keys that sign nothing that lasts.
fn config(args: &Args, globals: &Globals) -> anyhow::Result<Config> {
    let configured = match args.settings {
        Some(_) => site::load_if_there(&globals.config)?,
        None => Some(site::load(&globals.config).context("give --settings, or configure the connector")?),
    };
    let section = match (&args.settings, &configured) {
        (Some(file), _) => settings(file)?,
        (None, Some(config)) => config.connectors.get(&args.name).cloned().with_context(|| {
            let known: Vec<_> = config.connectors.keys().map(String::as_str).collect();
            format!("`{}` is not configured; configured are {}", args.name, known.join(", "))
        })?,
        (None, None) => Value::Null,
    };
    if args.settings.is_some() && countersign_connectors::registry().get(&args.name).is_none() {
        return Err(super::unknown(&args.name));
    }
    let egress = match (&args.settings, &configured) {
        (None, Some(config)) => config.egress.clone(),
        _ => EgressSettings { allow_hosts: hosts(&section) },
    };
    let server = configured.as_ref().map(|config| config.server.clone()).unwrap_or_default();
    let limits = configured.as_ref().map(|config| config.limits.clone()).unwrap_or_default();
    let receipts = configured.as_ref().map(|config| config.receipts).unwrap_or_default();
    Ok(Config {
        context: ContextSettings::default(),
        console: ConsoleSettings::default(),
        api: ApiSettings::default(),
        approvers: BTreeMap::new(),
        channels: BTreeMap::new(),
        connectors: BTreeMap::from([(args.name.clone(), section)]),
        egress,
        keys: KeySettings {
            origin: "test.invalid/log".to_owned(),
            receipt: SecretRef::Env(RECEIPT_KEY.to_owned()),
            log: SecretRef::Env(LOG_KEY.to_owned()),
            epoch: 1,
        },
        limits,
        policies: policy::settings(args.policies.as_deref(), globals)?,
        receipts,
        server,
        store: StoreSettings { kind: StoreKind::Memory, ..StoreSettings::default() },
    })
}

fn settings(file: &Path) -> anyhow::Result<Value> {
    const SETTINGS_BYTES_MAX: u64 = 1 << 20;
    let text = String::from_utf8(site::read_file(file, SETTINGS_BYTES_MAX)?)?;
    let table: toml::Table = text.parse().with_context(|| format!("`{}` is not TOML", file.display()))?;
    Ok(serde_json::to_value(table)?)
}

/// Every host that settings name: nothing is called here, but connectors refuse settings whose hosts are not allowed.
fn hosts(settings: &Value) -> Vec<String> {
    match settings {
        Value::String(text) => {
            let url = Url::parse(text).ok();
            url.and_then(|url| url.host_str().map(str::to_owned)).into_iter().collect()
        }
        Value::Object(map) => map.values().flat_map(hosts).collect(),
        Value::Array(list) => list.iter().flat_map(hosts).collect(),
        _ => Vec::new(),
    }
}

/// The receipts of the request, oldest first: all but the one that the start made.
async fn receipts(service: &Service) -> anyhow::Result<Vec<Value>> {
    let query = Query { limit: RECEIPTS_MAX, ..Query::default() };
    let mut found = service.pipeline().store.find(&query).await?;
    found.retain(|leaf| leaf.summary.kind != ReceiptKind::PolicyChange);
    found.reverse();
    let part = |leaf| {
        let view = receipt_view(leaf, true);
        let predicate = view.statement.get("predicate").cloned().unwrap_or_default();
        json!({"predicate": predicate, "disclosed": view.disclosed})
    };
    Ok(found.iter().map(part).collect())
}

fn reply_json(reply: &Reply) -> Value {
    let body = serde_json::from_slice(&reply.body);
    let body: Value = body.unwrap_or_else(|_| json!(String::from_utf8_lossy(&reply.body)));
    json!({"status": reply.status, "contentType": reply.content_type, "body": body})
}

fn describe(result: &Value, reply: &Reply) -> anyhow::Result<()> {
    let text = |pointer: &str| result.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    output::line(format_args!("verify     {} ({})", text("/caller/verifiedBy"), text("/caller/assurance")))?;
    match result.pointer("/read/unreadable") {
        Some(why) => {
            output::line(format_args!("normalise  unreadable: {}", why.as_str().unwrap_or_default()))?
        }
        None => output::line(format_args!("normalise  frame `{}`", text("/read/frame/name")))?,
    }
    for event in result.pointer("/read/events").and_then(Value::as_array).into_iter().flatten() {
        output::line(format_args!("{event:#}"))?;
    }
    for receipt in result.pointer("/receipts").and_then(Value::as_array).into_iter().flatten() {
        decision(receipt.get("predicate").and_then(Value::as_object))?;
    }
    output::line(format_args!("answer     HTTP {} {}", reply.status, reply.content_type))?;
    Ok(output::line(format_args!("{:#}", result.pointer("/reply/body").unwrap_or(&Value::Null)))?)
}

fn decision(predicate: Option<&Map<String, Value>>) -> anyhow::Result<()> {
    let whole = predicate.cloned().map(Value::Object).unwrap_or_default();
    let text = |pointer: &str| whole.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    if whole.get("decision").is_none() {
        return Ok(output::line(format_args!("receipt    {kind}"))?);
    }
    let told = text("/decision/expressed");
    let degraded = whole.pointer("/decision/degraded").and_then(Value::as_str);
    let degraded = degraded.map(|why| format!(" ({why})")).unwrap_or_default();
    output::line(format_args!("policy     {}: {}", text("/decision/verdict"), text("/decision/reason")))?;
    let matched = whole.pointer("/policy/matched").and_then(Value::as_array).into_iter().flatten();
    let matched: Vec<_> = matched.filter_map(|policy| policy.get("id").and_then(Value::as_str)).collect();
    if !matched.is_empty() {
        output::line(format_args!("           by {}", matched.join(", ")))?;
    }
    Ok(output::line(format_args!("told       {told}{degraded}"))?)
}
