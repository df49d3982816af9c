//! What is published is what the program has: schemas, the OpenAPI document, the routes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use countersign_service::http::openapi;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::cli::{expect, repository};
use crate::support::Site;

#[test]
fn the_published_schemas_are_those_of_the_program() {
    let made = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_countersign");
    assert!(Command::new(program).arg("schema").arg(made.path()).output().unwrap().status.success());
    let published = repository("schemas/json");
    fs::create_dir_all(&published).unwrap();
    let names =
        |dir| -> BTreeSet<_> { fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    for name in names(made.path().to_owned()) {
        expect(&published.join(&name), &fs::read_to_string(made.path().join(&name)).unwrap());
    }
    assert_eq!(names(made.path().to_owned()), names(published), "and no other");
}

#[test]
fn every_reference_within_a_schema_leads_somewhere() {
    for entry in fs::read_dir(repository("schemas/json")).unwrap() {
        let path = entry.unwrap().path();
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut dangling = Vec::new();
        follow(&document, &document, &mut dangling);
        assert!(dangling.is_empty(), "{}: {dangling:?}", path.display());
    }
}

#[test]
fn the_page_about_the_context_lists_every_attribute() {
    let schema = fs::read_to_string(repository("policies/schema.cedarschema")).unwrap();
    let mut table = String::from("\n| Attribute | Type | What it is |\n|---|---|---|\n");
    for (record, prefix) in [
        ("ActionContext", "context"),
        ("Facets", "context.facets"),
        ("Params", "context.params"),
        ("Person", "context.person"),
        ("Risk", "context.risk"),
        ("Session", "context.session"),
    ] {
        let body = schema.split(&format!("type {record} = {{\n")).nth(1).unwrap().split("};").next().unwrap();
        let mut comment = Vec::new();
        for line in body.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("// ") {
                comment.push(text);
                continue;
            }
            let (name, kind) = line.trim_end_matches(',').split_once(": ").unwrap();
            let optional = if name.ends_with('?') { ", if present" } else { "" };
            let name = name.trim_end_matches('?').trim_matches('"');
            table.push_str(&format!("| `{prefix}.{name}` | {kind}{optional} | {} |\n", comment.join(" ")));
            comment.clear();
        }
    }
    let page = repository("docs/context.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- attributes -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    expect(&page, &format!("{before}<!-- attributes -->\n{table}\n<!-- end -->{after}"));
}

/// `#` is the nearest thing around that has an id of its own (JSON Schema 2020-12, section 8.2.1).
fn follow(value: &Value, root: &Value, dangling: &mut Vec<String>) {
    let root = if value.get("$id").is_some_and(Value::is_string) { value } else { root };
    match value {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            let target = reference.and_then(|text| text.strip_prefix('#'));
            dangling.extend(target.filter(|target| root.pointer(target).is_none()).map(str::to_owned));
            map.values().for_each(|value| follow(value, root, dangling));
        }
        Value::Array(list) => list.iter().for_each(|value| follow(value, root, dangling)),
        _ => {}
    }
}

#[test]
fn the_openapi_document_lists_the_routes_and_no_others() {
    let router = fs::read_to_string(repository("core/service/src/http/mod.rs")).unwrap();
    let routes = router.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let routes: BTreeSet<_> = routes.map(|route| route.replace("{*", "{")).collect();
    let document = openapi();
    let listed: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(routes, listed);
}

#[tokio::test]
async fn every_operation_of_the_openapi_document_is_served() {
    let Site { service, dir: _kept, .. } = Site::ordinary().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(service.run(listener, async { stopped.await.unwrap() }));
    let client = reqwest::Client::builder().build().unwrap();
    for (path, operations) in openapi()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let url =
                format!("http://{address}{}", path.replace("{instance}", "generic").replace(['{', '}'], ""));
            let request = client.request(method.to_uppercase().parse().unwrap(), url);
            let status =
                request.body("{}").header("content-type", "application/json").send().await.unwrap().status();
            // What wants proof of the caller says so; everything else answers, if only that it is not ready.
            let wanted = if operation["responses"].get("401").is_some() { vec![401] } else { vec![200, 503] };
            assert!(wanted.contains(&status.as_u16()), "{method} {path}: {status}");
        }
    }
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
