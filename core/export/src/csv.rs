//! CSV: one line per receipt, for people with a spreadsheet.
//!
//! Source: RFC 4180. Lines end with CR LF; a cell that holds a comma, a quote or a line break is quoted.
//!
//! A spreadsheet runs a cell that begins with one of `=`, `+`, `-`, `@`, tab, carriage return or line feed. Agents
//! choose some of this text, so such a cell gets a leading apostrophe (OWASP, "CSV Injection").

use countersign_schemas::{Disclosed, HaltScope, OutcomeStatus, Severity};
use serde_json::Value;

use crate::Projection;

/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

type Cell = fn(&Projection) -> Option<String>;

/// The columns. A new one goes to the end; none is ever renamed, moved or removed.
const COLUMNS: [(&str, Cell); 38] = [
    ("index", |of| Some(of.index.to_string())),
    ("receipt_id", |of| text(&of.predicate.receipt_id)),
    ("kind", |of| text(of.predicate.kind.as_str())),
    ("decided_at", |of| text(&of.predicate.decided_at)),
    ("parent", |of| of.predicate.parent.as_ref().and_then(text)),
    ("session_id", |of| text(&of.predicate.session.id)),
    ("session_seq", |of| text(&of.predicate.session.seq)),
    ("connector", |of| text(&of.predicate.vendor.connector)),
    ("vendor", |of| text(&of.predicate.vendor.name)),
    ("event", |of| text(&of.predicate.vendor.event)),
    ("action_id", |of| of.action_id().and_then(text)),
    ("call_id", |of| of.call_id().and_then(text)),
    ("tool", |of| of.predicate.action.as_ref().map(|action| action.tool.canonical())),
    ("effect", |of| of.predicate.action.as_ref().and_then(|action| text(action.effect.as_str()))),
    ("operation", |of| of.predicate.action.as_ref().and_then(|action| text(&action.operation))),
    ("verdict", |of| of.predicate.decision.as_ref().and_then(|decision| text(&decision.verdict))),
    ("expressed", |of| of.predicate.decision.as_ref().and_then(|decision| text(decision.expressed.as_str()))),
    ("degraded", |of| of.predicate.decision.as_ref().and_then(|decision| decision.degraded.clone())),
    ("severity", |of| of.predicate.decision.as_ref().and_then(|decision| text(severity(decision.severity)))),
    ("reason", |of| of.reason().and_then(text)),
    ("policies", |of| {
        Some(of.matched().iter().map(|policy| policy.id.as_str()).collect::<Vec<_>>().join(" "))
    }),
    ("bundle_sha256", bundle),
    ("agent", |of| of.predicate.identity.as_ref().and_then(|identity| text(&identity.agent))),
    ("human", |of| of.predicate.identity.as_ref().and_then(|identity| identity.human.clone())),
    ("tenant", |of| of.predicate.identity.as_ref().and_then(|identity| identity.tenant.clone())),
    ("assurance", |of| of.predicate.identity.as_ref().and_then(|identity| text(identity.assurance.as_str()))),
    ("ticket", ticket),
    ("approved", |of| {
        of.predicate.approval.as_ref().and_then(|approval| approval.approved.as_ref().and_then(text))
    }),
    ("approver", |of| of.predicate.approval.as_ref().and_then(|approval| approval.approver.clone())),
    ("outcome", |of| of.predicate.outcome.as_ref().and_then(|outcome| text(status(outcome.status)))),
    ("gap_count", |of| of.predicate.gap.as_ref().and_then(|gap| text(&gap.count))),
    ("halt", halt),
    ("parameters_sha256", |of| {
        of.predicate.decision.as_ref().and_then(|decision| text(&decision.parameters_sha256))
    }),
    ("action_hash", |of| of.predicate.action.as_ref().and_then(|action| text(&action.action_hash))),
    ("leaf_hash", |of| Some(of.leaf_hash())),
    ("human_email", |of| of.disclosed.and_then(|disclosed| disclosed.human_email.clone())),
    ("human_name", |of| of.disclosed.and_then(|disclosed| disclosed.human_name.clone())),
    ("disclosed", disclosed),
];

/// The first line, with its line end.
#[must_use]
pub fn header() -> String {
    line(COLUMNS.iter().map(|(name, _)| (*name).to_owned()))
}

/// The line of one receipt, with its line end. The cells are those of [`header`]; what a receipt does not have is
/// empty.
#[must_use]
pub fn row(of: &Projection) -> String {
    line(COLUMNS.iter().map(|(_, cell)| cell(of).unwrap_or_default()))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|cell| quoted(disarmed(cell))).collect();
    cells.join(",") + "\r\n"
}

fn disarmed(cell: String) -> String {
    if cell.starts_with(FORMULA) { format!("'{cell}") } else { cell }
}

fn quoted(cell: String) -> String {
    if cell.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

fn text<T: ToString + ?Sized>(value: &T) -> Option<String> {
    Some(value.to_string())
}

fn bundle(of: &Projection) -> Option<String> {
    let decided = of.predicate.policy.as_ref().map(|policy| &policy.bundle_sha256);
    decided.or(of.predicate.policy_change.as_ref().map(|change| &change.bundle_sha256)).cloned()
}

fn ticket(of: &Projection) -> Option<String> {
    let approval = of.predicate.approval.as_ref().map(|approval| &approval.approval_id);
    approval.or(of.predicate.deferral.as_ref().map(|deferral| &deferral.approval_id)).and_then(text)
}

fn halt(of: &Projection) -> Option<String> {
    of.predicate.halt.as_ref().map(|halt| {
        let what = match &halt.what {
            HaltScope::All => "all".to_owned(),
            HaltScope::Agent(name) => format!("agent {name}"),
            HaltScope::Connector(name) => format!("connector {name}"),
            HaltScope::Human(name) => format!("human {name}"),
        };
        format!("{} {what}", if halt.active { "given" } else { "lifted" })
    })
}

/// Everything disclosed, as JSON text: parameters, facets, error texts, comments.
fn disclosed(of: &Projection) -> Option<String> {
    let disclosed: &Disclosed = of.disclosed?;
    serde_json::to_value(disclosed).ok().map(|value: Value| value.to_string())
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

fn status(status: OutcomeStatus) -> &'static str {
    match status {
        OutcomeStatus::Succeeded => "succeeded",
        OutcomeStatus::Failed => "failed",
        OutcomeStatus::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Vec<String> {
        let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
        let records: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(1, records.len(), "{line:?}");
        records[0].iter().map(str::to_owned).collect()
    }

    proptest! {
        /// Read back by an independent reader.
        #[test]
        fn any_cells_are_read_back_as_they_were_and_none_is_a_formula(
            cells in proptest::collection::vec("[=+@,\"'\r\n\ta-c-]{0,8}|\\PC{0,8}", 2..6),
        ) {
            let back = read(&line(cells.clone().into_iter()));
            prop_assert_eq!(cells.len(), back.len());
            for (cell, back) in cells.iter().zip(back) {
                prop_assert!(!back.starts_with(FORMULA));
                let marked = cell.starts_with(FORMULA).then(|| format!("'{cell}"));
                prop_assert_eq!(marked.unwrap_or_else(|| cell.clone()), back);
            }
        }
    }
}
