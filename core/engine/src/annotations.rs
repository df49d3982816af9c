//! Annotations: plain strings to Cedar, typed here. Whatever does not parse, does not fit the policy's decision or
//! has no meaning is an error, because an annotation that is ignored is a rule that is not in force.

use cedar_policy::{Effect as CedarEffect, Policy};
use countersign_schemas::{ApprovalRule, Escalation, GrantLimit, Severity, Verdict};

use crate::modify::Edit;
use crate::policies::Options;
use crate::rule::{Outcome, PolicyClass, Wait};

/// What a policy has when its author said nothing.
const PRIORITY_DEFAULT: u32 = 100;
const PRIORITY_MAX: u32 = 1_000_000;
/// Ids go into every receipt.
const ID_BYTES_MAX: usize = 128;
/// Reasons are shown by vendors' consoles and chat clients.
const REASON_BYTES_MAX: usize = 512;
const LIST_ENTRIES_MAX: usize = 32;
/// Nobody answers a question after a month.
const TIMEOUT_SECONDS_MAX: u64 = 31 * 24 * 3600;

/// Every annotation there is, and the decisions it has a meaning for.
const KNOWN: [(&str, &[Verdict]); 15] = [
    ("approvers", &[Verdict::StepUp, Verdict::Defer]),
    ("class", &EVERY),
    ("decision", &EVERY),
    ("defer_needs", &[Verdict::Defer]),
    ("escalate", &[Verdict::StepUp, Verdict::Defer]),
    ("grant", &[Verdict::StepUp, Verdict::Defer]),
    ("id", &EVERY),
    ("modify", &[Verdict::Modify]),
    ("on_timeout", &[Verdict::StepUp, Verdict::Defer]),
    ("priority", &EVERY),
    ("quorum", &[Verdict::StepUp, Verdict::Defer]),
    ("reason", &EVERY),
    ("severity", &EVERY),
    ("timeout", &[Verdict::StepUp, Verdict::Defer]),
    ("version", &EVERY),
];
const EVERY: [Verdict; 5] = [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer];

/// A policy's annotations, read.
#[derive(Debug)]
pub(crate) struct Annotations {
    pub(crate) class: PolicyClass,
    pub(crate) outcome: Outcome,
    pub(crate) priority: u32,
    pub(crate) reason: String,
    pub(crate) severity: Severity,
    pub(crate) version: Option<String>,
}

/// What is wrong, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) advice: Option<String>,
}

/// Reads the `@id`, which is checked apart because everything else is reported under it.
pub(crate) fn id(policy: &Policy) -> Result<String, Complaint> {
    let advice = Some("add @id(\"a-name-of-its-own\"), which receipts will carry".to_owned());
    let id = policy
        .annotation("id")
        .ok_or_else(|| Complaint { message: "`@id` is missing".to_owned(), advice: advice.clone() })?;
    let sound = (1..=ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte));
    if sound {
        return Ok(id.to_owned());
    }
    let message = format!(
        "`@id` must be 1 to {ID_BYTES_MAX} of the characters a-z, A-Z, 0-9, `-`, `_`, `.`, `/` and `:`"
    );
    Err(Complaint { message, advice: None })
}

/// Reads all annotations but `@id`.
pub(crate) fn read(policy: &Policy, options: &Options) -> Result<Annotations, Vec<Complaint>> {
    let mut reader = Reader { policy, complaints: Vec::new() };
    let verdict = reader.verdict();
    reader.check_names(verdict);
    let class = reader.class(verdict);
    let priority = reader.parsed("priority", priority).unwrap_or(PRIORITY_DEFAULT);
    let severity = reader.parsed("severity", severity).unwrap_or_default();
    let version = reader.parsed("version", |text| bounded(text, ID_BYTES_MAX));
    let reason = reader.reason(verdict);
    let outcome = reader.outcome(verdict, options);
    match outcome {
        Some(outcome) if reader.complaints.is_empty() => {
            Ok(Annotations { class, outcome, priority, reason, severity, version })
        }
        _ => Err(reader.complaints),
    }
}

struct Reader<'a> {
    policy: &'a Policy,
    complaints: Vec<Complaint>,
}

impl Reader<'_> {
    fn complain(&mut self, message: impl Into<String>, advice: Option<String>) {
        self.complaints.push(Complaint { message: message.into(), advice });
    }

    /// The annotation's value; a complaint when `parse` refuses it.
    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.policy.annotation(name)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.complain(format!("`@{name}` {why}"), None);
                None
            }
        }
    }

    fn verdict(&mut self) -> Verdict {
        let decision = self.policy.annotation("decision").unwrap_or_default();
        match (self.policy.effect(), decision) {
            (CedarEffect::Permit, "" | "allow") => Verdict::Allow,
            (CedarEffect::Forbid, "" | "deny") => Verdict::Deny,
            (CedarEffect::Forbid, "modify") => Verdict::Modify,
            (CedarEffect::Forbid, "step_up") => Verdict::StepUp,
            (CedarEffect::Forbid, "defer") => Verdict::Defer,
            (CedarEffect::Permit, other) => {
                let advice = "a permit means ALLOW; write `forbid` for every other decision".to_owned();
                self.complain(format!("`@decision(\"{other}\")` does not fit a permit"), Some(advice));
                Verdict::Allow
            }
            (CedarEffect::Forbid, other) => {
                let advice = "a forbid takes \"deny\", \"modify\", \"step_up\" or \"defer\"".to_owned();
                self.complain(format!("`@decision(\"{other}\")` does not fit a forbid"), Some(advice));
                Verdict::Deny
            }
        }
    }

    fn check_names(&mut self, verdict: Verdict) {
        let names: Vec<String> = self.policy.annotations().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            match KNOWN.iter().find(|(known, _)| *known == name) {
                Some((_, verdicts)) if verdicts.contains(&verdict) => {}
                Some(_) => self.complain(format!("`@{name}` has no meaning for {verdict}"), None),
                None if name == "threshold" => self.complain(
                    "`@threshold` is not supported: signals carry no confidence to compare with it",
                    Some("test the signal itself with `context.signals.contains(...)`".to_owned()),
                ),
                None => {
                    let nearest = KNOWN.iter().map(|(known, _)| known).max_by(|a, b| {
                        strsim::jaro_winkler(a, &name).total_cmp(&strsim::jaro_winkler(b, &name))
                    });
                    let advice = nearest.map(|nearest| format!("did you mean `@{nearest}`?"));
                    self.complain(format!("`@{name}` is not an annotation of ours"), advice);
                }
            }
        }
    }

    fn class(&mut self, verdict: Verdict) -> PolicyClass {
        let class = self.parsed("class", |text| match text {
            "forbidden" => Ok(PolicyClass::Forbidden),
            "context" => Ok(PolicyClass::Context),
            _ => Err("must be \"forbidden\" or \"context\"".to_owned()),
        });
        if class == Some(PolicyClass::Forbidden) && verdict != Verdict::Deny {
            self.complain(format!("`@class(\"forbidden\")` means DENY and does not fit {verdict}"), None);
        }
        class.unwrap_or_default()
    }

    fn reason(&mut self, verdict: Verdict) -> String {
        let reason = self.parsed("reason", |text| bounded(text, REASON_BYTES_MAX));
        if verdict != Verdict::Allow && self.policy.annotation("reason").is_none() {
            let advice = "say in @reason what people and agents are told".to_owned();
            self.complain("`@reason` is missing", Some(advice));
        }
        reason.unwrap_or_default()
    }

    /// `None` only together with a complaint.
    fn outcome(&mut self, verdict: Verdict, options: &Options) -> Option<Outcome> {
        match verdict {
            Verdict::Allow => Some(Outcome::Allow),
            Verdict::Deny => Some(Outcome::Deny),
            Verdict::Modify => {
                if self.policy.annotation("modify").is_none() {
                    self.complain("`@modify` is missing", Some("give an RFC 6902 patch".to_owned()));
                }
                self.parsed("modify", Edit::parse).map(Outcome::Modify)
            }
            Verdict::StepUp => {
                if self.policy.annotation("on_timeout").is_some_and(|then| then != "deny") {
                    self.complain("`@on_timeout` of a STEP_UP can only be \"deny\"", None);
                }
                let seconds = self.timeout(options.approval_timeout.as_secs())?;
                self.approval(seconds, Verdict::Deny).map(Outcome::StepUp)
            }
            Verdict::Defer => self.wait(options).map(Outcome::Defer),
        }
    }

    fn wait(&mut self, options: &Options) -> Option<Wait> {
        let needs = self.parsed("defer_needs", list).unwrap_or_default();
        let timeout_seconds = self.timeout(options.deferral_timeout.as_secs())?;
        let escalation = match self.policy.annotation("on_timeout") {
            None | Some("deny") => {
                for name in ["approvers", "quorum", "escalate", "grant"] {
                    if self.policy.annotation(name).is_some() {
                        let advice = Some("add @on_timeout(\"step_up\")".to_owned());
                        self.complain(format!("`@{name}` of a DEFER is for its escalation"), advice);
                    }
                }
                None
            }
            Some("step_up") => Some(self.approval(options.approval_timeout.as_secs(), Verdict::StepUp)?),
            Some(_) => {
                self.complain("`@on_timeout` must be \"deny\" or \"step_up\"", None);
                None
            }
        };
        Some(Wait { escalation, needs, timeout_seconds })
    }

    fn timeout(&mut self, default_seconds: u64) -> Option<u64> {
        match self.policy.annotation("timeout") {
            None => Some(default_seconds),
            Some(_) => self.parsed("timeout", duration_seconds),
        }
    }

    fn approval(&mut self, timeout_seconds: u64, on_timeout: Verdict) -> Option<ApprovalRule> {
        if self.policy.annotation("approvers").is_none() {
            let advice = "name people or groups, for example @approvers(\"group:oncall\")".to_owned();
            self.complain("`@approvers` is missing", Some(advice));
        }
        let approvers = self.parsed("approvers", approvers);
        let quorum = match self.policy.annotation("quorum") {
            None => Some(1),
            Some(_) => self.parsed("quorum", quorum),
        };
        let escalation = self.escalation(timeout_seconds);
        let grant = self.parsed("grant", grant_limit).unwrap_or_default();
        let (approvers, quorum) = (approvers?, quorum?);
        // How many people a group has is not known here.
        let further = escalation.iter().flat_map(|escalation| &escalation.approvers);
        let only_people = !approvers.iter().chain(further).any(|approver| approver.starts_with("group:"));
        if only_people && usize::try_from(quorum).is_ok_and(|quorum| quorum > approvers.len()) {
            let message = format!("`@quorum` wants {quorum} but `@approvers` names {}", approvers.len());
            self.complain(message, Some("name more approvers or a group".to_owned()));
            return None;
        }
        Some(ApprovalRule { approvers, escalation, grant, on_timeout, quorum, timeout_seconds })
    }

    /// An escalation that would come after the end of the wait is a mistake.
    fn escalation(&mut self, timeout_seconds: u64) -> Option<Escalation> {
        let escalation = self.parsed("escalate", escalation)?;
        if escalation.after_seconds >= timeout_seconds {
            let message = format!("`@escalate` comes after {timeout_seconds} seconds, when the wait is over");
            self.complain(message, Some("escalate sooner, or give a longer @timeout".to_owned()));
        }
        Some(escalation)
    }
}

fn bounded(text: &str, bytes_max: usize) -> Result<String, String> {
    match text.trim().len() {
        0 => Err("is empty".to_owned()),
        length if length > bytes_max => Err(format!("is longer than {bytes_max} bytes")),
        _ => Ok(text.trim().to_owned()),
    }
}

fn priority(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|priority| *priority <= PRIORITY_MAX)
        .ok_or_else(|| format!("must be a whole number from 0 to {PRIORITY_MAX}"))
}

fn quorum(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|quorum| (1..=LIST_ENTRIES_MAX as u32).contains(quorum))
        .ok_or_else(|| format!("must be a whole number from 1 to {LIST_ENTRIES_MAX}"))
}

fn severity(text: &str) -> Result<Severity, String> {
    [
        ("info", Severity::Info),
        ("low", Severity::Low),
        ("medium", Severity::Medium),
        ("high", Severity::High),
        ("critical", Severity::Critical),
    ]
    .into_iter()
    .find_map(|(name, severity)| (name == text).then_some(severity))
    .ok_or_else(|| "must be \"info\", \"low\", \"medium\", \"high\" or \"critical\"".to_owned())
}

/// Entries between commas, sorted, each once.
fn list(text: &str) -> Result<Vec<String>, String> {
    let mut entries: Vec<String> = text.split(',').map(|entry| entry.trim().to_owned()).collect();
    entries.sort();
    entries.dedup();
    if entries.len() > LIST_ENTRIES_MAX {
        return Err(format!("has more than {LIST_ENTRIES_MAX} entries"));
    }
    match entries.iter().any(|entry| entry.is_empty() || entry.contains(char::is_whitespace)) {
        true => Err("must be names without spaces, with commas between them".to_owned()),
        false => Ok(entries),
    }
}

fn approvers(text: &str) -> Result<Vec<String>, String> {
    let approvers = list(text)?;
    match approvers.iter().find(|approver| approver.as_str() == "group:") {
        Some(_) => Err("names a group without a name".to_owned()),
        None => Ok(approvers),
    }
}

/// `15m: group:managers`: how long after the question, and who is asked besides.
fn escalation(text: &str) -> Result<Escalation, String> {
    let bad = || "must be a time and approvers, such as \"15m: group:managers\"".to_owned();
    let (after, names) = text.split_once(':').ok_or_else(bad)?;
    Ok(Escalation { after_seconds: short_duration(after.trim())?, approvers: approvers(names.trim())? })
}

/// Scopes between commas; `once` always is one of them.
fn grant_limit(text: &str) -> Result<GrantLimit, String> {
    let mut limit = GrantLimit::default();
    for scope in list(text)? {
        match scope.split_once(':') {
            None if scope == "once" => {}
            None if scope == "session" => limit.session = true,
            Some(("window", duration)) => limit.window_seconds = Some(short_duration(duration)?),
            _ => {
                return Err(
                    "takes \"once\", \"session\" and \"window:<time>\", such as \"window:8h\"".to_owned()
                );
            }
        }
    }
    Ok(limit)
}

/// `30s`, `15m`, `8h`, `2d` or an ISO 8601 duration; in whole seconds.
fn short_duration(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    match upper.chars().last() {
        _ if upper.starts_with('P') => duration_seconds(&upper),
        Some('S' | 'M' | 'H') => duration_seconds(&format!("PT{upper}")),
        _ => duration_seconds(&format!("P{upper}")),
    }
    .map_err(|_| format!("has `{text}` where a time such as \"15m\" or \"PT15M\" must be"))
}

/// An ISO 8601 duration of weeks, or of days, hours, minutes and seconds; in whole seconds. Years and months are
/// refused: how long they are depends on when they begin.
fn duration_seconds(text: &str) -> Result<u64, String> {
    let bad = || {
        format!(
            "must be an ISO 8601 duration of at most {} days, such as \"PT30M\"",
            TIMEOUT_SECONDS_MAX / 86_400
        )
    };
    let rest = text.strip_prefix('P').ok_or_else(bad)?;
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return Err(bad()),
        None => (rest, ""),
    };
    let date_units: &[(char, u64)] =
        if date.ends_with('W') && time.is_empty() { &[('W', 604_800)] } else { &[('D', 86_400)] };
    let days = components(date, date_units).ok_or_else(bad)?;
    let clock = components(time, &[('H', 3_600), ('M', 60), ('S', 1)]).ok_or_else(bad)?;
    let seconds = days.checked_add(clock).ok_or_else(bad)?;
    if (1..=TIMEOUT_SECONDS_MAX).contains(&seconds) { Ok(seconds) } else { Err(bad()) }
}

/// Sums `<digits><unit>` components whose units come in the given order, each at most once.
fn components(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut sum: u64 = 0;
    let mut units = units.iter();
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, rest) = text.split_at(digits);
        let unit = rest.chars().next()?;
        let (_, seconds) = units.find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*seconds)?)?;
        text = rest.get(unit.len_utf8()..)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_lists_scopes_and_an_escalation_has_a_time_and_names() {
        let limit = |session, window_seconds| GrantLimit { session, window_seconds };
        for (text, want) in [
            ("once", Some(limit(false, None))),
            ("once, session", Some(limit(true, None))),
            ("session,window:8h", Some(limit(true, Some(28_800)))),
            ("window:P1D", Some(limit(false, Some(86_400)))),
            ("window", None),
            ("window:32d", None),
            ("always", None),
            ("", None),
        ] {
            assert_eq!(want, grant_limit(text).ok(), "{text}");
        }
        let read = escalation("15m: group:managers, ann").unwrap();
        assert_eq!((900, 2), (read.after_seconds, read.approvers.len()));
        for wrong in ["15m", "15m:", "group:managers", "soon: ann", "15m: group:"] {
            assert!(escalation(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_read_as_iso_8601_has_them() {
        for (text, want) in [
            ("PT30M", Some(1_800)),
            ("P1DT2H3M4S", Some(93_784)),
            ("P2W", Some(1_209_600)),
            ("P31D", Some(2_678_400)),
            ("P32D", None),
            ("PT0S", None),
            ("P", None),
            ("PT", None),
            ("P1M", None),
            ("P1Y", None),
            ("PT1S1M", None),
            ("PT1M1M", None),
            ("PTM", None),
            ("P1WT1H", None),
            ("30M", None),
            ("PT1.5S", None),
            ("PT99999999999999999999H", None),
        ] {
            assert_eq!(want, duration_seconds(text).ok(), "{text}");
        }
    }
}
