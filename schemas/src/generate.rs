//! The list of published schemas.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::{
    Action, Approval, Context, Decision, Disclosed, Event, Expression, Identity, Predicate, Statement,
};

fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

/// Every published type: file stem under `schemas/json/`, and its JSON Schema (draft 2020-12).
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("action", of::<Action>()),
        ("approval", of::<Approval>()),
        ("context", of::<Context>()),
        ("decision", of::<Decision>()),
        ("disclosed", of::<Disclosed>()),
        ("event", of::<Event>()),
        ("expression", of::<Expression>()),
        ("identity", of::<Identity>()),
        ("receipt-predicate", of::<Predicate>()),
        ("statement", of::<Statement>()),
    ]
}
