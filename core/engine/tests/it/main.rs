//! The engine from outside: policies as text, actions, decisions.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may panic")]

mod base;
mod decisions;
mod loading;
mod properties;

use countersign_engine::{Options, Policies, PolicyErrors, PolicySource};
use countersign_schemas::{
    Action, ActionId, Context, Decision, Effect, Facets, Identity, SessionId, SessionRef, Source, Timestamp,
    Tool,
};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_795_451_000_123);

fn options() -> Options {
    Options { refacet: Some(|action| action.facets.clone()), ..Options::default() }
}

fn try_load(text: &str, options: Options) -> Result<Policies, PolicyErrors> {
    Policies::load(&[PolicySource { name: "a.cedar".to_owned(), text: text.to_owned() }], options)
}

#[track_caller]
fn load(text: &str) -> Policies {
    try_load(text, options()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn action(effect: Effect, parameters: Value) -> Action {
    Action {
        action_id: ActionId::derived(&["a"]),
        call_id: None,
        delivery_id: None,
        effect,
        facets: Facets::default(),
        identity: Identity::default(),
        operation: "call".to_owned(),
        parameters: parameters.as_object().unwrap().clone(),
        risk_signals: Vec::new(),
        session: SessionRef { id: SessionId::derived(&["s"]), turn: None, vendor_id: "s".to_owned() },
        source: Source { connector: "c".to_owned(), event: "e".to_owned(), vendor: "v".to_owned() },
        timestamp: NOW,
        tool: Tool {
            name: "t".to_owned(),
            namespace: "mcp".to_owned(),
            raw: "t".to_owned(),
            server: Some("s".to_owned()),
        },
        vendor_fields: serde_json::Map::new(),
    }
}

fn read() -> Action {
    action(Effect::Read, json!({}))
}

fn evaluate(policies: &Policies, action: &Action) -> Decision {
    countersign_engine::evaluate(policies, action, &Context::default(), NOW)
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|policy| policy.id.as_str()).collect()
}
