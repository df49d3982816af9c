//! What an approver must see (AARM, "Approval"), made once from the open question; every channel writes the same facts
//! in its own format.
//!
//! All text is plain, bounded and without control or direction-changing characters, so that what a channel shows is
//! what was asked. What looks like a secret is not shown.

use serde_json::{Map, Value};

use crate::parse::cut;
use crate::schemas::{Approval, PendingKind, PriorAction, Severity, Timestamp};

const TITLE_CHARS: usize = 140;
const TEXT_CHARS: usize = 500;
/// Slack's sections end at 3,000 characters and a Teams card at 28 KB; this leaves both room.
const PARAMETERS_CHARS: usize = 2_000;
const VALUE_CHARS: usize = 400;
const PRIOR_MAX: usize = 8;

/// Says why a text must not be shown, for example `aws_access_key`; `None` when it may be.
pub type Mask<'m> = dyn Fn(&str) -> Option<String> + 'm;

/// What an approver is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How many alike requests one answer covers.
    pub count: usize,
    /// When silence becomes DENY.
    pub expires_at: Timestamp,
    /// One named fact each, the most important first.
    pub facts: Vec<Fact>,
    /// The arguments of each request, as indented JSON.
    pub parameters: Vec<String>,
    /// What the session did before, oldest first, one line each.
    pub prior: Vec<String>,
    /// How bad it would be.
    pub severity: Severity,
    /// What the agent wants, in one line.
    pub title: String,
}

/// A named fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub label: &'static str,
    /// What is so.
    pub text: String,
}

impl Question {
    /// From alike open questions, the oldest first. `None` when there is none.
    #[must_use]
    pub fn of(approvals: &[Approval], mask: &Mask<'_>) -> Option<Self> {
        let first = approvals.first()?;
        let shown = |text: &str| mask(text).map_or_else(|| clean(text, TEXT_CHARS), |kind| hidden(&kind));
        let facts = facts(first).into_iter();
        Some(Self {
            count: approvals.len(),
            expires_at: approvals.iter().map(|open| open.expires_at).min().unwrap_or(first.expires_at),
            facts: facts.map(|(label, text)| Fact { label, text: shown(&text) }).collect(),
            parameters: approvals.iter().map(|open| parameters(&open.action.parameters, mask)).collect(),
            prior: prior(&first.context.recent),
            severity: first.decision.severity,
            title: title(first),
        })
    }
}

/// What is asked, in one line.
#[must_use]
pub fn title(approval: &Approval) -> String {
    let action = &approval.action;
    let agent = &action.identity.agent.id;
    clean(&format!("{agent} asks to {} {}", action.effect.as_str(), action.tool.canonical()), TITLE_CHARS)
}

fn facts(approval: &Approval) -> Vec<(&'static str, String)> {
    let (action, context, decision) = (&approval.action, &approval.context, &approval.decision);
    let policies: Vec<_> = decision.policies.iter().map(|policy| policy.id.as_str()).collect();
    let waits = match approval.kind {
        PendingKind::Approval if approval.deferral.is_some() => "a deferral that nothing resolved".to_owned(),
        PendingKind::Approval => "a policy asks for a person".to_owned(),
        PendingKind::Deferral => "a deferral: more context is missing".to_owned(),
    };
    let mut facts = vec![
        ("Why", decision.reason.clone()),
        ("Request", context.request.clone().unwrap_or_else(|| "not known".to_owned())),
        ("Identity", identity(approval)),
        ("Policies", policies.join(", ")),
        ("Asked because", waits),
        ("Data of this action", list(&action.facets.labels)),
        ("Data of the session", list(&context.labels)),
        ("Risk", risk(approval)),
    ];
    if let Some(deferral) = &approval.deferral {
        facts.push(("Missing", list(&deferral.needs)));
    }
    if let Some(rule) = approval.rule.as_ref().filter(|rule| rule.quorum > 1) {
        let so_far = list(&approval.approved_by);
        facts.push(("Approvals needed", format!("{}, so far: {so_far}", rule.quorum)));
    }
    facts.push(("Ticket", approval.approval_id.to_string()));
    facts
}

fn identity(approval: &Approval) -> String {
    let identity = &approval.action.identity;
    let human = identity.human.as_ref().map(|human| {
        let name = human.name.as_ref().or(human.email.as_ref()).unwrap_or(&human.id);
        format!("for {name}")
    });
    let service = identity.service.as_ref().map(|service| format!("in {service}"));
    let role = identity.role.as_ref().map(|role| format!("as {role}"));
    let chain = identity.delegation.iter().map(|link| format!("{} to {}", link.delegator, link.delegatee));
    let chain: Vec<_> = chain.collect();
    let chain = (!chain.is_empty()).then(|| format!("delegated {}", chain.join(", ")));
    let agent = Some(format!("agent {}", identity.agent.id));
    let at = Some(format!("at {}", approval.action.source.connector));
    let known = Some(format!("({})", identity.assurance.as_str()));
    let parts: Vec<_> = [agent, human, service, role, at, chain, known].into_iter().flatten().collect();
    parts.join(" ")
}

fn risk(approval: &Approval) -> String {
    let context = &approval.context;
    let mut parts = vec![format!("severity {:?}", approval.decision.severity).to_lowercase()];
    if let Some(risk) = &approval.risk {
        parts.extend(risk.distance.map(|distance| format!("distance from the request {distance}")));
        parts.push(format!("confidence {}", risk.confidence));
    }
    parts.extend(
        context
            .drift
            .map(|drift| format!("drift of the session so far {} (highest {})", drift.ema, drift.max)),
    );
    if context.untrusted {
        parts.push("the session has read content from outside".to_owned());
    }
    if !approval.action.risk_signals.is_empty() {
        parts.push(format!("signals {}", list(&approval.action.risk_signals)));
    }
    parts.join("; ")
}

fn prior(recent: &[PriorAction]) -> Vec<String> {
    let last = &recent[recent.len().saturating_sub(PRIOR_MAX)..];
    last.iter().map(|one| clean(&format!("{} {} {}", one.at, one.verdict, one.tool), TITLE_CHARS)).collect()
}

/// The arguments, every text in them bounded and looked at by itself.
fn parameters(parameters: &Map<String, Value>, mask: &Mask<'_>) -> String {
    let shown = shown(&Value::Object(parameters.clone()), mask);
    let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
    let bounded = cut(&text, PARAMETERS_CHARS);
    if bounded.len() < text.len() {
        format!("{bounded}\n… (cut; all of it is in the receipt)")
    } else {
        text
    }
}

fn shown(value: &Value, mask: &Mask<'_>) -> Value {
    match value {
        Value::String(text) => {
            mask(text).map_or_else(|| clean_lines(text, VALUE_CHARS).into(), |kind| hidden(&kind).into())
        }
        Value::Array(list) => list.iter().map(|one| shown(one, mask)).collect(),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                // `{"password": "x"}` is a secret only together with its key.
                let pair = value.as_str().and_then(|text| mask(&format!("{key}={text}")));
                let value = pair.map_or_else(|| shown(value, mask), |kind| hidden(&kind).into());
                (clean(key, TITLE_CHARS), value)
            };
            Value::Object(map.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

fn hidden(kind: &str) -> String {
    format!("(not shown: {kind})")
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// One line of at most `chars_max` characters.
#[must_use]
pub fn clean(text: &str, chars_max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    clean_lines(&line, chars_max)
}

fn clean_lines(text: &str, chars_max: usize) -> String {
    let kept = text.chars().filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || turns_direction(*c)));
    let kept: String = kept.take(chars_max.saturating_add(1)).collect();
    let bounded = cut(&kept, chars_max);
    if bounded.len() < kept.len() { format!("{bounded}…") } else { kept }
}

/// Characters that make a text look like another one (Unicode bidirectional controls, zero width).
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_reads_as_it_was_sent() {
        assert_eq!("rm gpj.exe", clean("rm \u{202e}gpj\u{202c}.\u{200b}exe", 20));
        assert_eq!("a b…", clean("a\nb\u{7}cd", 3));
    }

    #[test]
    fn a_secret_is_not_shown_whether_its_text_or_its_key_tells() {
        let mask =
            |text: &str| (text.contains("sk-") || text.contains("password=")).then(|| "key".to_owned());
        let sent = json!({"command": "curl -H sk-1", "login": {"password": "hunter2"}, "n": [1, "ok"]});
        let text = parameters(sent.as_object().unwrap(), &mask);
        let shown: Value = serde_json::from_str(&text).unwrap();
        let want =
            json!({"command": "(not shown: key)", "login": {"password": "(not shown: key)"}, "n": [1, "ok"]});
        assert_eq!(want, shown);
    }

    #[test]
    fn arguments_of_any_size_are_cut() {
        let many: Map<String, Value> =
            (0..1_000).map(|n| (format!("k{n}"), json!("x".repeat(9_000)))).collect();
        assert!(parameters(&many, &|_| None).chars().count() < PARAMETERS_CHARS + 60);
    }
}
