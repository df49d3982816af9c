//! What a scan says: names and counts, never the text itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The highest label. Detectors never give it: callers do, for a read that nothing classified and for one that was
/// not scanned whole. An operator's rule may.
pub const RESTRICTED: &str = "RESTRICTED";
/// Keys, tokens, passwords: what lets its holder act as someone.
pub const SECRET: &str = "SECRET";
/// Card numbers (PCI DSS 4.0.1, "cardholder data").
pub const PCI: &str = "PCI";
/// Data about a person that can be told from others (GDPR, article 4(1)).
pub const PII: &str = "PII";
/// Bank accounts.
pub const FINANCIAL: &str = "FINANCIAL";

/// Every label with a meaning of its own, the most sensitive first. An operator's own labels come after them.
pub const LABELS: [&str; 5] = [RESTRICTED, SECRET, PCI, PII, FINANCIAL];

/// Counts stop here: more says nothing more, and a hostile text must not buy work with it.
pub(crate) const COUNT_MAX: u32 = 1_000;

/// The name of what was found, for example `github_token`; or the name of an operator's rule.
///
/// `[a-z][a-z0-9_]*`, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub(crate) Cow<'static, str>);

impl Kind {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a scan found. Holds no part of the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Each kind and how often it was found, by name; a count of 1,000 means "at least".
    pub kinds: Vec<(Kind, u32)>,
    /// What the kinds amount to, the most sensitive first, in the order of [`LABELS`]; then others by name.
    pub labels: Vec<String>,
    /// Signs of instructions meant for an agent, by name: `injection:exfil_link`, `injection:hidden_text`,
    /// `injection:mention`, `injection:override`, `injection:role`.
    pub signals: Vec<String>,
    /// How likely the text carries such instructions, from 0 (no sign) to 1.
    ///
    /// `1 - (1 - w1)(1 - w2)…` over the weights of the signals found: override 0.7, exfil_link 0.6, hidden_text 0.6,
    /// role 0.5, mention 0.2. It is an order, not a probability: the weights were chosen, not measured. What it
    /// misses is any wording that no pattern knows; see `docs/classification.md`.
    pub injection_score: f64,
    /// Part of the input was not read. What is missing is then not known to be harmless: treat it as unclassified.
    pub truncated: bool,
}

/// Findings in the making.
#[derive(Default)]
pub(crate) struct Tally {
    kinds: BTreeMap<Kind, u32>,
    labels: BTreeMap<usize, Vec<String>>,
    pub(crate) signals: BTreeMap<&'static str, f64>,
    pub(crate) truncated: bool,
}

impl Tally {
    /// Counts one more, and says whether more need be looked for.
    pub(crate) fn add(&mut self, kind: &Kind, label: &str) -> bool {
        let place = LABELS.iter().position(|known| *known == label).unwrap_or(LABELS.len());
        let labels = self.labels.entry(place).or_default();
        if !labels.iter().any(|known| known == label) {
            labels.push(label.to_owned());
        }
        let count = self.kinds.entry(kind.clone()).or_default();
        *count = (*count + 1).min(COUNT_MAX);
        *count < COUNT_MAX
    }

    pub(crate) fn finish(mut self) -> Findings {
        self.labels.values_mut().for_each(|labels| labels.sort());
        let missing: f64 = self.signals.values().map(|weight| 1.0 - weight).product();
        Findings {
            kinds: self.kinds.into_iter().collect(),
            labels: self.labels.into_values().flatten().collect(),
            injection_score: if self.signals.is_empty() { 0.0 } else { 1.0 - missing },
            signals: self.signals.into_keys().map(str::to_owned).collect(),
            truncated: self.truncated,
        }
    }
}
