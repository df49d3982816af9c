//! Every transcript of `docs/recipes.md` is taken by the connector that it is written for.

use countersign_sdk::schemas::{ApprovalId, Event, Expression, ReceiptId, Verdict};
use countersign_sdk::{Said, parse};
use serde_json::{Map, Value, json};

use crate::connectors::{NOW, connect, request};

const RECIPES: &str = include_str!("../../docs/recipes.md");

/// The fenced blocks of a kind, in their order.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    RECIPES.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn every_recipe_asks_and_is_answered_as_it_says() {
    let registry = countersign_connectors::registry();
    let spec = registry.get("generic").unwrap();
    let parts = connect(spec, Map::new());
    let (asked, answered) = (blocks("http"), blocks("json"));
    assert_eq!((5, 5), (asked.len(), answered.len()));
    for (asked, answered) in asked.into_iter().zip(answered) {
        let now = NOW.parse().unwrap();
        let sent = request(spec, asked.as_bytes(), now);
        let sent = sent.verified_by(|sent| parts.gate.verify(sent, now)).unwrap();
        let read = parts.gate.normalize(&sent).unwrap_or_else(|error| panic!("{error}: {asked}"));
        let Some(Event::Action(action)) = read.events.first() else { panic!("asks about nothing: {asked}") };
        let body = parse::object(&sent.body).unwrap();
        assert_eq!(body.get("parameters"), Some(&json!(action.parameters)), "{asked}");
        let mut want: Value = serde_json::from_str(answered).unwrap();
        let ticket = want.get("ticket").map(|_| ApprovalId::derived(&["fixture"]));
        if let Some(ticket) = &ticket {
            want["ticket"] = json!(ticket);
        }
        let said = Said {
            action: Some(action),
            expression: Expression {
                degraded: None,
                expressed: serde_json::from_value(want["decision"].clone()).unwrap(),
                reason: want["reason"].as_str().unwrap().to_owned(),
            },
            modified: None,
            receipt_id: Some(ReceiptId::derived(&["fixture"])),
            ticket,
            verdict: Verdict::Allow,
        };
        let told: Value = serde_json::from_slice(&parts.gate.answer(&read.frame, &[said]).body).unwrap();
        assert_eq!(want, told, "{asked}");
    }
}
