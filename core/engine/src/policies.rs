//! A policy set: loaded whole, validated whole, never changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    Entities, Policy, PolicyId, PolicySet, Schema, ValidationMode, ValidationWarning, Validator,
};
use countersign_schemas::{Action, Facets, Verdict};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::annotations::{self, Annotations};
use crate::index::{Index, Member, Scope};
use crate::problem::{Code, Level, PolicyErrors, PolicyProblem};
use crate::reads::Reads;
use crate::request::{Builder, wanted};
use crate::rule::{PolicyInfo, Rule};

/// Policies are text that people write; a file this large is something else.
const SOURCE_BYTES_MAX: usize = 8 << 20;
/// Loading takes about 0.3 ms a policy.
const POLICIES_MAX: usize = 50_000;
/// Cedar's parser and validator recurse: a bracket costs up to 50 KiB of stack, a link of a chain up to 20 KiB.
const DEPTH_MAX: usize = 64;
const LINKS_MAX: usize = 2_000;
/// Enough for both limits at once. Only what is used of it is ever backed by memory.
const DEEP_STACK_BYTES: usize = 128 << 20;
/// Every request looks at policies that name no effect, resource or principal.
const OPEN_POLICIES_WORTH_A_WARNING: usize = 200;
const SLICE_WORTH_A_WARNING: usize = 500;

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// Its name, as problems are reported under.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// What is decided when no policy matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Posture {
    /// ALLOW: policies only restrict.
    Allow,
    /// DENY: policies have to permit.
    #[default]
    Deny,
}

/// Makes the facets of an action anew from its parameters, after a MODIFY changed them. It must be pure.
pub type Refacet = fn(&Action) -> Facets;

/// How a policy set is evaluated.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long an approval is waited for when the policy has no `@timeout`. 15 minutes by default.
    pub approval_timeout: Duration,
    /// What is decided when no policy matches.
    pub default: Posture,
    /// How long a deferral waits when the policy has no `@timeout`. 5 minutes by default.
    pub deferral_timeout: Duration,
    /// Makes the facets of a modified action. Without it they are unknown there, so that every policy which
    /// reads one is undecidable and turns the MODIFY into a DENY.
    pub refacet: Option<Refacet>,
    /// Defers whenever a policy whose scope admits the action relies on context that is missing, even if that
    /// could not change the answer (AARM R3, read to the letter).
    pub strict_reference: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            approval_timeout: Duration::from_secs(15 * 60),
            default: Posture::Deny,
            deferral_timeout: Duration::from_secs(5 * 60),
            refacet: None,
            strict_reference: false,
        }
    }
}

/// Name and version of the engine, as receipts carry it: `cedar-policy 4.14.1`.
#[must_use]
pub fn engine_version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("cedar-policy {}", cedar_policy::get_sdk_version()));
    &VERSION
}

/// An immutable policy set, in the order of the policies' ids.
#[derive(Debug)]
pub struct Policies {
    builder: Builder,
    bundle_sha256: String,
    cedar: Vec<Policy>,
    index: Index,
    numbers: HashMap<PolicyId, usize>,
    options: Options,
    rules: Vec<Rule>,
    warnings: Vec<PolicyProblem>,
}

impl Policies {
    /// Loads a policy set: parses, validates strictly against [`crate::SCHEMA`], reads the annotations. Works on a
    /// thread of its own, whose stack is deep enough for whatever the limits on nesting let pass.
    ///
    /// # Errors
    ///
    /// [`PolicyErrors`] with everything that is wrong, when anything is.
    pub fn load(sources: &[PolicySource], options: Options) -> Result<Self, PolicyErrors> {
        deep(|| Self::load_here(sources, options))?
    }

    fn load_here(sources: &[PolicySource], options: Options) -> Result<Self, PolicyErrors> {
        let vocabulary = VOCABULARY.as_ref().map_err(PolicyErrors::clone)?;
        let mut loader = Loader { vocabulary, options, problems: Vec::new(), warnings: Vec::new() };
        let mut parsed: Vec<Parsed<'_>> = sources.iter().flat_map(|source| loader.parse(source)).collect();
        if parsed.len() > POLICIES_MAX {
            let message = format!("{} policies are more than {POLICIES_MAX}", parsed.len());
            return Err(PolicyProblem::new("", message).into());
        }
        loader.check_unique(&parsed);
        loader.validate(&parsed);
        parsed.sort_by(|a, b| a.id.cmp(&b.id));
        let members: Vec<(Rule, Policy)> =
            parsed.into_iter().filter_map(|parsed| loader.rule(parsed)).collect();
        loader.finish(members)
    }

    /// SHA-256, in lower hex, over one line per policy, `<id>:<sha256>` in the order of the ids, then the line
    /// `schema:<SHA-256 of the schema's text>` and the line `engine:<engine and version>`, each ended by a
    /// newline.
    #[must_use]
    pub fn bundle_sha256(&self) -> &str {
        &self.bundle_sha256
    }

    /// How many policies it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The policies, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyInfo> {
        self.rules.iter().map(|rule| &rule.info)
    }

    /// The Cedar text of a policy, as its author wrote it.
    #[must_use]
    pub fn text(&self, id: &str) -> Option<String> {
        self.cedar.get(self.number(&PolicyId::new(id))?)?.to_cedar()
    }

    /// The policies with what Cedar does not know about them, in the order of their ids.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Rule, &Policy)> {
        self.rules.iter().zip(&self.cedar)
    }

    /// What is worth a look but no error.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }

    /// The same policies without the index: they decide the same and every one is looked at every time. What the
    /// index is tested and measured against.
    ///
    /// # Errors
    ///
    /// [`PolicyErrors`] when Cedar refuses the set, which it did not when it was loaded.
    pub fn unindexed(self) -> Result<Self, PolicyErrors> {
        let members = self.rules.iter().zip(&self.cedar).enumerate();
        let members: Vec<Member> =
            members.map(|(number, (rule, policy))| member(number, rule, policy)).collect();
        let index = Index::flat(&members).map_err(|error| PolicyProblem::new("", error))?;
        Ok(Self { index, ..self })
    }

    pub(crate) fn builder(&self) -> &Builder {
        &self.builder
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn number(&self, id: &PolicyId) -> Option<usize> {
        self.numbers.get(id).copied()
    }

    /// Numbers come from this set, so there is a rule for each.
    pub(crate) fn rule(&self, number: usize) -> &Rule {
        &self.rules[number]
    }
}

fn member(rule: usize, of: &Rule, policy: &Policy) -> Member {
    Member { policy: policy.clone(), rule, wanted: wanted(of.reads.paths()) }
}

/// Does `work` on a thread whose stack is deep enough for whatever the limits on nesting let pass.
pub(crate) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, PolicyErrors> {
    std::thread::scope(|scope| {
        let working = std::thread::Builder::new()
            .name("policies".to_owned())
            .stack_size(DEEP_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| PolicyProblem::new("", format!("no thread for policies: {error}")))?;
        Ok(working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn bundle_sha256(rules: &[Rule]) -> String {
    let mut text = String::new();
    for PolicyInfo { id, sha256, .. } in rules.iter().map(|rule| &rule.info) {
        text.push_str(&format!("{id}:{sha256}\n"));
    }
    text.push_str(&format!("schema:{}\n", hex::encode(Sha256::digest(crate::SCHEMA))));
    text.push_str(&format!("engine:{}\n", engine_version()));
    hex::encode(Sha256::digest(text))
}

/// A policy as it stands in its file.
struct Parsed<'a> {
    id: String,
    /// Byte offset in the source.
    offset: usize,
    policy: Policy,
    source: &'a PolicySource,
}

impl Parsed<'_> {
    fn problem(&self, message: impl Into<String>, advice: Option<String>) -> PolicyProblem {
        PolicyProblem {
            advice,
            policy: Some(self.id.clone()),
            ..PolicyProblem::new(&self.source.name, message)
        }
        .at(&self.source.text, self.offset)
    }
}

/// What the schema gives: the same for every set, and slow to make.
struct Vocabulary {
    actions: Entities,
    validator: Validator,
}

static VOCABULARY: LazyLock<Result<Vocabulary, PolicyErrors>> = LazyLock::new(|| {
    let problem = |message: String| PolicyErrors::from(PolicyProblem::new("schema.cedarschema", message));
    let (schema, _) =
        Schema::from_cedarschema_str(crate::SCHEMA).map_err(|error| problem(error.to_string()))?;
    let actions = schema.action_entities().map_err(|error| problem(error.to_string()))?;
    Ok(Vocabulary { actions, validator: Validator::new(schema) })
});

/// Collects problems while the sources are read.
struct Loader<'v> {
    options: Options,
    problems: Vec<PolicyProblem>,
    vocabulary: &'v Vocabulary,
    warnings: Vec<PolicyProblem>,
}

impl Loader<'_> {
    /// The policies of a source that have a usable id.
    fn parse<'a>(&mut self, source: &'a PolicySource) -> Vec<Parsed<'a>> {
        if source.text.len() > SOURCE_BYTES_MAX {
            let message = format!("the file is larger than {SOURCE_BYTES_MAX} bytes");
            self.problems.push(PolicyProblem::new(&source.name, message));
            return Vec::new();
        }
        let statements = statements(&source.text);
        if let Some(nested) = statements.iter().find(|statement| statement.is_too_nested()) {
            let advice = format!("at most {DEPTH_MAX} open brackets and {LINKS_MAX} operators; split it");
            let message = "the policy is nested too deeply";
            let problem = PolicyProblem { advice: Some(advice), ..PolicyProblem::new(&source.name, message) };
            self.problems.push(problem.at(&source.text, nested.start));
            return Vec::new();
        }
        let set = match source.text.parse::<PolicySet>() {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    let error = DetailedError::from(error);
                    self.problems.push(PolicyProblem::from_cedar(&source.name, &source.text, error));
                }
                return Vec::new();
            }
        };
        // Cedar numbers the statements of a text: `policy0`, `policy1`, …
        let offset = |id: &PolicyId| {
            let id: &str = id.as_ref();
            let number = id.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok());
            number.and_then(|number| statements.get(number)).map_or(0, |statement| statement.start)
        };
        for template in set.templates() {
            let advice = "write the policy once for each principal or resource, or name a group".to_owned();
            let message = "templates are not supported, because nothing here links them";
            let problem = PolicyProblem { advice: Some(advice), ..PolicyProblem::new(&source.name, message) };
            self.problems.push(problem.at(&source.text, offset(template.id())));
        }
        let mut parsed = Vec::new();
        for policy in set.policies() {
            let offset = offset(policy.id());
            match annotations::id(policy) {
                Ok(id) => {
                    let policy = policy.new_id(PolicyId::new(&id));
                    parsed.push(Parsed { id, offset, policy, source });
                }
                Err(complaint) => {
                    let problem = PolicyProblem {
                        advice: complaint.advice,
                        code: Code::Annotation,
                        ..PolicyProblem::new(&source.name, complaint.message)
                    };
                    self.problems.push(problem.at(&source.text, offset));
                }
            }
        }
        parsed.sort_by_key(|parsed| parsed.offset);
        parsed
    }

    fn check_unique(&mut self, parsed: &[Parsed<'_>]) {
        let mut first: BTreeMap<&str, &Parsed<'_>> = BTreeMap::new();
        for policy in parsed {
            if let Some(first) = first.insert(&policy.id, policy) {
                let place = first.problem("", None);
                let line = place.line.unwrap_or_default();
                let message = format!("the id is taken by the policy at {}:{line}", place.file);
                let advice = Some("ids are unique in the whole set".to_owned());
                let problem = policy.problem(message, advice);
                self.problems.push(PolicyProblem { code: Code::DuplicateId, ..problem });
            }
        }
    }

    /// Strict validation. A policy that can never match is an error too: whoever wrote it believes that it is in
    /// force, and Cedar does not check the types of what it can never reach.
    fn validate(&mut self, parsed: &[Parsed<'_>]) {
        let by_id: BTreeMap<&str, &Parsed<'_>> =
            parsed.iter().map(|parsed| (parsed.id.as_str(), parsed)).collect();
        let Ok(set) = PolicySet::from_policies(by_id.values().map(|parsed| parsed.policy.clone())) else {
            self.problems.push(PolicyProblem::new("", "Cedar refuses to put the policies into one set"));
            return;
        };
        let result = self.vocabulary.validator.validate(&set, ValidationMode::Strict);
        let problem = |id: &PolicyId, error: DetailedError| {
            let parsed = by_id.get::<str>(id.as_ref())?;
            let mut problem = PolicyProblem::from_cedar(&parsed.source.name, &parsed.source.text, error);
            let prefix = format!("for policy `{id}`, ");
            problem.message = problem.message.strip_prefix(&prefix).unwrap_or(&problem.message).to_owned();
            if problem.line.is_none() {
                problem = problem.at(&parsed.source.text, parsed.offset);
            }
            Some(PolicyProblem { policy: Some(parsed.id.clone()), ..problem })
        };
        for error in result.validation_errors() {
            let found = problem(error.policy_id(), DetailedError::from(error));
            self.problems.extend(found.map(vanishing));
        }
        for warning in result.validation_warnings() {
            let found = problem(warning.policy_id(), DetailedError::from(warning));
            match warning {
                ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
                    let advice = "it can never match; to ask whether a request is known, read \
                                  `context.session.hasRequest`";
                    let advice = Some(advice.to_owned());
                    let unreachable =
                        found.map(|found| PolicyProblem { advice, code: Code::Unreachable, ..found });
                    self.problems.extend(unreachable);
                }
                _ => {
                    let odd =
                        |found| PolicyProblem { code: Code::Suspicious, level: Level::Warning, ..found };
                    self.warnings.extend(found.map(odd));
                }
            }
        }
    }

    fn rule(&mut self, parsed: Parsed<'_>) -> Option<(Rule, Policy)> {
        let Annotations { class, outcome, priority, reason, severity, version } =
            match annotations::read(&parsed.policy, &self.options) {
                Ok(annotations) => annotations,
                Err(complaints) => {
                    let problems = complaints.into_iter().map(|c| parsed.problem(c.message, c.advice));
                    let problems =
                        problems.map(|problem| PolicyProblem { code: Code::Annotation, ..problem });
                    self.problems.extend(problems);
                    return None;
                }
            };
        let (json, sha256) = match canonical(&parsed.policy) {
            Ok(canonical) => canonical,
            Err(message) => {
                self.problems.push(parsed.problem(message, None));
                return None;
            }
        };
        let reads = Reads::of(&json);
        let info = PolicyInfo {
            class,
            file: parsed.source.name.clone(),
            line: parsed.problem("", None).line.unwrap_or_default(),
            priority,
            reads: reads.paths().map(str::to_owned).collect(),
            reason,
            severity,
            sha256,
            verdict: outcome.verdict(),
            version,
            id: parsed.id,
        };
        let scope = Scope::of(&parsed.policy, &self.vocabulary.actions);
        Some((Rule { info, outcome, reads, scope }, parsed.policy))
    }

    fn finish(mut self, members: Vec<(Rule, Policy)>) -> Result<Policies, PolicyErrors> {
        if !self.problems.is_empty() {
            return Err(PolicyErrors(self.problems));
        }
        let rules = || members.iter().map(|(rule, _)| rule);
        if self.options.default == Posture::Deny && rules().all(|rule| rule.info.verdict != Verdict::Allow) {
            self.warn(Code::NothingPermitted, "no policy permits anything, so everything is denied");
        }
        let open = rules().filter(|rule| rule.scope.is_open()).count();
        let (rules, cedar): (Vec<Rule>, Vec<Policy>) = members.into_iter().unzip();
        let literals = cedar.iter().flat_map(Policy::entity_literals).collect();
        let filed = rules.iter().zip(&cedar).enumerate();
        let filed =
            filed.map(|(number, (rule, policy))| (&rule.scope, member(number, rule, policy))).collect();
        let index = Index::new(filed).map_err(|error| PolicyProblem::new("", error))?;
        if open > OPEN_POLICIES_WORTH_A_WARNING {
            self.warn(
                Code::Broad,
                format!("{open} policies name no action, principal or resource: every request asks them"),
            );
        }
        if index.largest() > SLICE_WORTH_A_WARNING {
            self.warn(
                Code::Crowded,
                format!("{} policies have one and the same scope: a request asks them all", index.largest()),
            );
        }
        Ok(Policies {
            builder: Builder::new(literals, &self.vocabulary.actions)?,
            bundle_sha256: bundle_sha256(&rules),
            index,
            numbers: cedar.iter().map(|policy| policy.id().clone()).zip(0..).collect(),
            options: self.options,
            warnings: self.warnings,
            cedar,
            rules,
        })
    }

    fn warn(&mut self, code: Code, message: impl Into<String>) {
        self.warnings.push(PolicyProblem { code, level: Level::Warning, ..PolicyProblem::new("", message) });
    }
}

/// Says what a type error does to whoever does not look for it.
fn vanishing(found: PolicyProblem) -> PolicyProblem {
    let consequence =
        "Cedar passes over a policy that fails, and a forbid that is passed over protects nothing";
    let prefix = format!("for policy `{}`, ", found.policy.as_deref().unwrap_or_default());
    let advice = match found.advice {
        Some(help) => format!("{}; {consequence}", help.strip_prefix(&prefix).unwrap_or(&help)),
        None => format!("correct it: {consequence}"),
    };
    PolicyProblem { advice: Some(advice), code: Code::TypeErrorVanishes, ..found }
}

/// The policy's JSON form and the SHA-256 of its RFC 8785 text, lower hex.
fn canonical(policy: &Policy) -> Result<(Value, String), String> {
    let json = policy.to_json().map_err(|error| error.to_string())?;
    let text = serde_json_canonicalizer::to_string(&json).map_err(|error| error.to_string())?;
    Ok((json, hex::encode(Sha256::digest(text))))
}

/// A statement of a Cedar text, seen from far off.
#[derive(Debug, Default, PartialEq, Eq)]
struct Statement {
    /// How many brackets are open at most.
    depth: usize,
    /// Operators and `else`s: the longest chain it can hold.
    links: usize,
    /// Byte offset.
    start: usize,
}

impl Statement {
    fn is_too_nested(&self) -> bool {
        self.depth > DEPTH_MAX || self.links > LINKS_MAX
    }
}

/// Statements end with `;`; strings and comments may contain any character.
fn statements(text: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let (mut inside, mut open) = (false, 0_usize);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((offset, byte)) = bytes.next() {
        if byte.is_ascii_whitespace() {
            continue;
        }
        if byte == b'/' && bytes.peek().is_some_and(|(_, next)| *next == b'/') {
            while bytes.next_if(|(_, byte)| *byte != b'\n').is_some() {}
            continue;
        }
        if !inside {
            statements.push(Statement { start: offset, ..Statement::default() });
            open = 0;
        }
        inside = byte != b';';
        let Some(statement) = statements.last_mut() else { continue };
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'&' | b'|' | b'+' | b'-' | b'*' | b'.' | b'<' | b'>' | b'=' | b'!' => statement.links += 1,
            b'e' if text.as_bytes()[offset..].starts_with(b"else") => statement.links += 1,
            b'"' => {
                while let Some((_, byte)) = bytes.next_if(|(_, byte)| *byte != b'"') {
                    if byte == b'\\' {
                        let _escaped = bytes.next();
                    }
                }
                let _closing = bytes.next();
            }
            _ => {}
        }
        statement.depth = statement.depth.max(open);
    }
    statements
}
