//! What clients report besides their hooks: results join their decisions, and what went past a gate is told.

use std::collections::BTreeMap;
use std::time::Instant;

use countersign_connectors::rehearsal::Signed;
use countersign_schemas::ReceiptKind;
use countersign_service::export::statement_of;
use countersign_service::metrics;
use serde_json::{Value, json};

use crate::support::{Plan, Site};

/// A hook failed, and the tool `toolu_1` ran.
const HOOK_FAILED: &str = include_str!("../../fixtures/otlp/hook_failed/request.http");
const SESSION: &str = "3b1c0f6e-0000-4000-8000-000000000001";

async fn site() -> Site {
    let tokens = json!({"laptop-7": {"env": "REHEARSAL_TOKEN"}});
    let connectors = json!({"claude-code": {"tokens": tokens}, "otlp": {"tokens": tokens}});
    Site::with(Plan { config: BTreeMap::from([("connectors", connectors)]), ..Plan::default() }).await
}

async fn send(site: &Site, connector: &str, below: &str, body: Vec<u8>) {
    let token = site.rehearsal.lookup("REHEARSAL_TOKEN").unwrap();
    let signed = Signed {
        body,
        headers: vec![("authorization", format!("Bearer {token}"))],
        target: format!("/hooks/{connector}{below}"),
    };
    site.deliver(connector, signed, Instant::now()).await.unwrap();
}

async fn report(site: &Site) {
    let (_, body) = HOOK_FAILED.split_once("\n\n").unwrap();
    send(site, "otlp", "/v1/logs", body.as_bytes().to_vec()).await;
}

fn count(site: &Site, what: &str) -> Option<u64> {
    let pipeline = site.service.pipeline();
    let text = metrics::render(site.service.routes(), &pipeline.store.health(), pipeline.load());
    let name = format!("countersign_{what}_total{{connector=\"otlp\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

#[tokio::test]
async fn a_gate_that_failed_open_and_a_session_without_one_are_told() {
    let site = site().await;
    report(&site).await;
    assert_eq!((Some(1), Some(1)), (count(&site, "fail_open_seen"), count(&site, "unprotected")));
}

#[tokio::test]
async fn a_reported_result_joins_the_decision_of_the_hook() {
    let site = site().await;
    let hook = json!({
        "session_id": SESSION, "hook_event_name": "PreToolUse", "tool_name": "Bash",
        "tool_input": {"command": "ls"}, "tool_use_id": "toolu_1", "cwd": "/repo", "permission_mode": "default",
    });
    send(&site, "claude-code", "", hook.to_string().into_bytes()).await;
    report(&site).await;
    assert_eq!(Some(0), count(&site, "unprotected"));
    let receipts = site.receipts().await;
    let of = |kind| {
        let leaf = receipts.iter().find(|leaf| leaf.summary.kind == kind).unwrap();
        statement_of(&leaf.bytes)["predicate"].clone()
    };
    let (decision, outcome) = (of(ReceiptKind::Decision), of(ReceiptKind::Outcome));
    assert_ne!(Value::Null, outcome["parent"]);
    assert_eq!(decision["receiptId"], outcome["parent"]);
}
