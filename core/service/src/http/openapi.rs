//! The OpenAPI 3.1 document, assembled from the same types that the handlers use.

use axum::Json;
use countersign_schemas::{Approval, BreakGlass, Halt};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::api::{AnswerBody, AnswerView, DoneView, HaltBody, ReceiptView};
use super::break_glass::BreakGlassBody;
use crate::export::Filter;
use crate::fatigue::FatigueFigures;

/// One route of the API.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    auth: bool,
    request: Option<Schema>,
    response: Option<Schema>,
    /// The response's media type, when it is not JSON.
    media: &'static str,
    query: bool,
}

/// The document. [`super::router`] serves exactly these paths; a test holds that.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations(&mut generator) {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(entry) = entry {
            entry.insert(operation.method.to_owned(), operation.describe());
        }
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Countersign",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Vendors call /hooks/<instance> in their own dialect; operators call /v1 with a bearer token.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"caller": {"type": "http", "scheme": "bearer", "description": "A token of [api.callers]"}}
        }
    })
}

/// Serves the document.
pub(crate) async fn serve() -> Json<Value> {
    Json(document())
}

fn operations(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let mut list = Vec::new();
    let mut add = |method, path, summary| {
        list.push(Operation {
            method,
            path,
            summary,
            auth: path.starts_with("/v1/"),
            request: None,
            response: None,
            media: "application/json",
            query: false,
        });
        list.len() - 1
    };
    let hooks = [
        add("post", "/hooks/{instance}", "A vendor's hook, in the vendor's dialect"),
        add("post", "/hooks/{instance}/{path}", "A vendor's hook with a path of its own"),
    ];
    let channels = [
        add("post", "/channels/{name}", "An approver's answer, in the channel's dialect"),
        add("get", "/channels/{name}/{path}", "The page behind an approver's link"),
        add("post", "/channels/{name}/{path}", "The form on that page"),
    ];
    let texts = [
        add("get", "/healthz", "The process answers"),
        add("get", "/metrics", "Prometheus text"),
        add("get", "/v1/checkpoint", "The newest signed checkpoint (C2SP signed note)"),
    ];
    let ready = add("get", "/readyz", "Whether calls are decided, and what is in the way");
    let document = add("get", "/openapi.json", "This document");
    let approvals = add("get", "/v1/approvals", "Open approvals and deferrals");
    let figures =
        add("get", "/v1/approvals/figures", "How much each approver is asked, and how soon they answer");
    let approval = add("get", "/v1/approvals/{id}", "One open approval or deferral");
    let approve = add("post", "/v1/approvals/{id}/approve", "Approve");
    let deny = add("post", "/v1/approvals/{id}/deny", "Refuse");
    let glasses = add("get", "/v1/break-glass", "Break-glasses that are open");
    let open = add("post", "/v1/break-glass", "Answer questions with yes for a while");
    let end = add("post", "/v1/break-glass/{id}/end", "End a break-glass before its time");
    let callbacks = add("get", "/v1/callbacks", "Callbacks owed to vendors, dead letters included");
    let export = add("get", "/v1/export", "The log, or a part of it, as `countersign verify` takes it");
    let halts = add("get", "/v1/halts", "Halts in force");
    let halt = add("post", "/v1/halts", "Halt");
    let lift = add("post", "/v1/halts/lift", "Lift a halt");
    let reload = add("post", "/v1/policies/reload", "Load the policies again");
    let receipts = add("get", "/v1/receipts", "The newest receipts that match");
    let receipt = add("get", "/v1/receipts/{id}", "One receipt, with its personal part when that is kept");
    for at in texts {
        list[at].media = "text/plain";
    }
    list[export].media = "application/x-ndjson";
    let any = || Some(Schema::from(true));
    for at in hooks.into_iter().chain(channels).chain([ready, document, callbacks, reload]) {
        list[at].response = any();
    }
    for at in hooks {
        list[at].request = any();
    }
    list[approvals].response = Some(of::<Vec<Approval>>(generator));
    list[figures].response = Some(of::<FatigueFigures>(generator));
    list[approval].response = Some(of::<Approval>(generator));
    for at in [approve, deny] {
        list[at].request = Some(of::<AnswerBody>(generator));
        list[at].response = Some(of::<AnswerView>(generator));
    }
    list[glasses].response = Some(of::<Vec<BreakGlass>>(generator));
    list[open].request = Some(of::<BreakGlassBody>(generator));
    for at in [open, end] {
        list[at].response = Some(of::<DoneView>(generator));
    }
    list[halts].response = Some(of::<Vec<Halt>>(generator));
    for at in [halt, lift] {
        list[at].request = Some(of::<HaltBody>(generator));
        list[at].response = Some(of::<DoneView>(generator));
    }
    list[receipts].response = Some(of::<Vec<ReceiptView>>(generator));
    list[receipt].response = Some(of::<ReceiptView>(generator));
    for at in [receipts, export] {
        list[at].query = true;
    }
    list
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Operation {
    fn describe(&self) -> Value {
        let mut parameters: Vec<Value> = self
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        if self.query {
            parameters.extend(query_parameters());
        }
        let content = match &self.response {
            Some(schema) => json!({self.media: {"schema": schema}}),
            None => json!({self.media: {"schema": {"type": "string"}}}),
        };
        let mut operation = json!({
            "summary": self.summary,
            "parameters": parameters,
            "responses": {"200": {"description": "Done", "content": content}}
        });
        if let Some(schema) = &self.request {
            let required = !self.path.contains("/approvals/");
            operation["requestBody"] =
                json!({"required": required, "content": {"application/json": {"schema": schema}}});
        }
        if self.auth {
            operation["security"] = json!([{"caller": []}]);
            operation["responses"]["401"] = json!({"description": "No bearer token of a configured caller"});
            operation["responses"]["403"] = json!({"description": "The caller lacks the role"});
        }
        if self.path.starts_with("/hooks/") || self.path.starts_with("/channels/") {
            operation["responses"]["401"] =
                json!({"description": "The request does not prove where it came from"});
        }
        operation
    }
}

fn query_parameters() -> Vec<Value> {
    let schema = SchemaGenerator::default().into_root_schema_for::<Filter>();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, schema): (String, Value)| json!({"name": name, "in": "query", "required": false, "schema": schema});
    properties.into_iter().map(parameter).collect()
}
