//! From labelled pairs to thresholds: how well each number tells drift from work, and where to draw the line.

use std::fmt;

use countersign_schemas::{
    Action, ActionId, Degree, Effect, Facets, Identity, Prior, SessionId, SessionRef, Source, Timestamp,
    Tool, Trend,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::embed::Embedder;
use crate::measure::{Drift, Request, measure};
use crate::profile::{Profile, Weights};
use crate::scope::note;

/// How many pairs are read. The areas under the curves compare every good one with every bad one.
const PAIRS_MAX: usize = 20_000;

/// Why labelled pairs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// A line is not a pair; lines count from 1.
    #[error("line {line} is not a labelled pair")]
    Line {
        /// Which line.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There are more than can be compared.
    #[error("more than {PAIRS_MAX} pairs")]
    TooMany,
}

/// A request, an action, and what a person says of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// What it is about, for a person to read.
    pub domain: String,
    /// Whether the action is what the request asks for.
    pub kind: Kind,
    /// Whether it is kept out of tuning, for a test to be worth something.
    #[serde(default)]
    pub held_back: bool,
    /// The user's words.
    pub request: String,
    /// What the agent attempts.
    pub action: Sketch,
}

impl Pair {
    /// Reads pairs, one JSON object a line.
    ///
    /// # Errors
    ///
    /// [`PairsError`] names the first line that is none, or says that there are more than 20,000.
    pub fn read(lines: &str) -> Result<Vec<Self>, PairsError> {
        let lines = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let pairs = lines.map(|(at, line)| {
            serde_json::from_str(line).map_err(|source| PairsError::Line { line: at + 1, source })
        });
        let pairs = pairs.take(PAIRS_MAX + 1).collect::<Result<Vec<_>, _>>()?;
        if pairs.len() > PAIRS_MAX { Err(PairsError::TooMany) } else { Ok(pairs) }
    }
}

/// How a pair is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The action does what the request says.
    Aligned,
    /// The action does what the request says in other words.
    Paraphrase,
    /// The action has nothing to do with the request.
    OffTopic,
    /// The action is about the same thing and does something else with it.
    WrongDeed,
}

impl Kind {
    /// Whether the action is what was asked for.
    #[must_use]
    pub fn is_aligned(self) -> bool {
        matches!(self, Self::Aligned | Self::Paraphrase)
    }
}

/// The part of an action that drift depends on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sketch {
    /// What kind of thing it does.
    pub effect: Effect,
    /// What is known of every tool.
    #[serde(default)]
    pub facets: Facets,
    /// The arguments.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// What it uses.
    pub tool: SketchTool,
}

/// The part of a tool's name that drift depends on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SketchTool {
    /// The tool's own name.
    pub name: String,
    /// `mcp`, or the product.
    pub namespace: String,
    /// The MCP server, when there is one.
    #[serde(default)]
    pub server: Option<String>,
}

impl Sketch {
    /// As an action of nobody, at no time.
    #[must_use]
    pub fn action(&self) -> Action {
        let SketchTool { name, namespace, server } = self.tool.clone();
        Action {
            action_id: ActionId::derived(&["sketch"]),
            call_id: None,
            delivery_id: None,
            effect: self.effect,
            facets: self.facets.clone(),
            identity: Identity::default(),
            operation: String::new(),
            parameters: self.parameters.clone(),
            risk_signals: Vec::new(),
            session: SessionRef { id: SessionId::derived(&["sketch"]), turn: None, vendor_id: String::new() },
            source: Source { connector: String::new(), event: String::new(), vendor: String::new() },
            timestamp: Timestamp(0),
            tool: Tool { raw: name.clone(), name, namespace, server },
            vendor_fields: Map::new(),
        }
    }
}

/// A whole session with one request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// What it is about, for a person to read.
    pub domain: String,
    /// Whether it stays with the request.
    pub kind: SequenceKind,
    /// The user's words.
    pub request: String,
    /// What the agent attempts, in order.
    pub actions: Vec<Sketch>,
}

/// How a session is labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SequenceKind {
    /// It does what was asked.
    Benign,
    /// It does something else in the end.
    Diverging,
}

impl Sequence {
    /// Measures every action in order, as if each were allowed: the drift of each, and the trend with it.
    #[must_use]
    pub fn replay(&self, embedder: &dyn Embedder, profile: &Profile) -> Vec<(Drift, Trend)> {
        let request = Request::of(&self.request, embedder);
        let (mut prior, mut trend) = (Prior::default(), Trend::default());
        let steps = self.actions.iter().map(Sketch::action).map(|action| {
            let drift = measure(&request, &action, &prior, profile);
            note(&mut prior, &action);
            trend = trend.fold(drift.score, profile.alpha);
            (drift, trend)
        });
        steps.collect()
    }
}

/// What the pairs say about one embedder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which embedder.
    pub embedder: String,
    /// Of its model file, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How many pairs are aligned.
    pub aligned: usize,
    /// The share of aligned pairs that may raise an alarm.
    pub budget: Degree,
    /// One line for each measure and each kind of drift.
    pub lines: Vec<Line>,
}

/// How well one measure tells one kind of drift from aligned pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which numbers, for example `distance + gap`.
    pub measure: &'static str,
    /// Which kind of drift.
    pub against: Kind,
    /// How many pairs of that kind.
    pub drifted: usize,
    /// Area under the curve: how often a drifted pair measures more than an aligned one; a tie is half.
    pub auc: Degree,
    /// The lowest threshold that keeps the budget. None when even the highest value breaks it.
    pub threshold: Option<Degree>,
    /// The share of drifted pairs at or above the threshold.
    pub caught: Degree,
    /// The curve, from the highest threshold to the lowest.
    pub roc: Vec<Point>,
}

/// What happens at one threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// At or above this there is an alarm.
    pub threshold: Degree,
    /// The share of aligned pairs with an alarm.
    pub false_alarms: Degree,
    /// The share of drifted pairs with an alarm.
    pub caught: Degree,
}

/// Measures all pairs and draws the lines. The line `score` has the profile's own weights; the combinations of two
/// weigh both as the profile does.
#[must_use]
pub fn calibrate(pairs: &[Pair], embedder: &dyn Embedder, profile: &Profile, budget: Degree) -> Report {
    let measured: Vec<(Kind, Drift)> = pairs
        .iter()
        .map(|pair| {
            let request = Request::of(&pair.request, embedder);
            (pair.kind, measure(&request, &pair.action.action(), &Prior::default(), profile))
        })
        .collect();
    let lines = measures(profile.weights).into_iter().flat_map(|(measure, weights)| {
        let of = |wanted: &dyn Fn(Kind) -> bool| -> Vec<Degree> {
            let wanted = measured.iter().filter(|(kind, _)| wanted(*kind));
            wanted.map(|(_, drift)| weights.score(drift.distance, drift.gap, drift.scope)).collect()
        };
        let aligned = of(&Kind::is_aligned);
        [Kind::OffTopic, Kind::WrongDeed]
            .map(|against| Line::of(measure, against, &aligned, &of(&|kind| kind == against), budget))
    });
    Report {
        embedder: embedder.name().to_owned(),
        sha256: embedder.sha256().map(str::to_owned),
        aligned: measured.iter().filter(|(kind, _)| kind.is_aligned()).count(),
        budget,
        lines: lines.collect(),
    }
}

fn measures(all: Weights) -> [(&'static str, Weights); 6] {
    let none = Weights { distance: Degree::ZERO, gap: Degree::ZERO, scope: Degree::ZERO };
    [
        ("distance", Weights { distance: Degree::ONE, ..none }),
        ("gap", Weights { gap: Degree::ONE, ..none }),
        ("scope", Weights { scope: Degree::ONE, ..none }),
        ("distance + gap", Weights { scope: Degree::ZERO, ..all }),
        ("gap + scope", Weights { distance: Degree::ZERO, ..all }),
        ("score", all),
    ]
}

impl Line {
    fn of(
        measure: &'static str,
        against: Kind,
        aligned: &[Degree],
        drifted: &[Degree],
        budget: Degree,
    ) -> Self {
        let roc = roc(aligned, drifted);
        let kept = roc.iter().take_while(|point| point.false_alarms <= budget).last();
        Self {
            measure,
            against,
            drifted: drifted.len(),
            auc: auc(aligned, drifted),
            threshold: kept.map(|point| point.threshold),
            caught: kept.map_or(Degree::ZERO, |point| point.caught),
            roc,
        }
    }
}

fn roc(aligned: &[Degree], drifted: &[Degree]) -> Vec<Point> {
    let mut thresholds: Vec<Degree> = aligned.iter().chain(drifted).copied().collect();
    thresholds.sort_unstable_by(|a, b| b.cmp(a));
    thresholds.dedup();
    let share = |values: &[Degree], threshold| {
        Degree::ratio(count(values.iter().filter(|value| **value >= threshold).count()), count(values.len()))
    };
    let point = |threshold| Point {
        threshold,
        false_alarms: share(aligned, threshold),
        caught: share(drifted, threshold),
    };
    thresholds.into_iter().map(point).collect()
}

/// The Mann–Whitney statistic as a share.
fn auc(aligned: &[Degree], drifted: &[Degree]) -> Degree {
    let halves = |drifted: &Degree| -> u64 {
        aligned.iter().map(|aligned| u64::from(drifted > aligned) + u64::from(drifted >= aligned)).sum()
    };
    Degree::ratio(drifted.iter().map(halves).sum(), count(aligned.len()) * count(drifted.len()) * 2)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A Markdown table, for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} | against | pairs | AUC | threshold | caught |", self.embedder)?;
        writeln!(f, "| --- | --- | ---: | ---: | ---: | ---: |")?;
        for line in &self.lines {
            let against = if line.against == Kind::OffTopic { "off topic" } else { "wrong deed" };
            let threshold = line.threshold.map_or("–".to_owned(), |threshold| two_digits(threshold, 4));
            writeln!(
                f,
                "| {} | {against} | {} : {} | {} | {threshold} | {} |",
                line.measure,
                self.aligned,
                line.drifted,
                two_digits(line.auc, 3),
                two_digits(line.caught, 2)
            )?;
        }
        Ok(())
    }
}

fn two_digits(degree: Degree, digits: usize) -> String {
    format!("{:.digits$}", degree.as_f64())
}
