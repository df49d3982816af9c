//! From an action to a Cedar request: typed values only, never through JSON, and only what the loaded policies read.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression,
};
use countersign_schemas::{Action, Context, Degree, Effect, Facets, Timestamp, Verdict};
use serde_json::Value;

use crate::index::Names;
use crate::ledger;
use crate::problem::{PolicyErrors, PolicyProblem};
use crate::reads::covers;
use crate::rule::slot;

/// What a request is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) action: &'a Action,
    /// `None` while nobody knows them: every policy that reads one is then undecidable.
    pub(crate) facets: Option<&'a Facets>,
    pub(crate) now: Timestamp,
    pub(crate) session: &'a Context,
}

/// An attribute's value.
enum Attr {
    Flag(bool),
    Number(i64),
    Text(String),
    Texts(Vec<String>),
    Degree(Degree),
    Moment(Timestamp),
}

impl Attr {
    fn count(count: u64) -> Option<Self> {
        Some(Self::Number(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    fn text(text: &str) -> Option<Self> {
        Some(Self::Text(text.to_owned()))
    }

    fn texts<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Option<Self> {
        Some(Self::Texts(texts.into_iter().map(|text| text.as_ref().to_owned()).collect()))
    }

    fn into_expression(self) -> RestrictedExpression {
        match self {
            Self::Flag(flag) => RestrictedExpression::new_bool(flag),
            Self::Number(number) => RestrictedExpression::new_long(number),
            Self::Text(text) => RestrictedExpression::new_string(text),
            Self::Texts(texts) => {
                RestrictedExpression::new_set(texts.into_iter().map(RestrictedExpression::new_string))
            }
            Self::Degree(degree) => RestrictedExpression::new_decimal(degree.to_string()),
            Self::Moment(moment) => RestrictedExpression::new_datetime(moment.to_string()),
        }
    }
}

/// One attribute of the schema's records: its dotted path and how its value is found, `None` while unknown.
type Attribute = (&'static str, fn(&Subject<'_>) -> Option<Attr>);

const CONTEXT: [Attribute; 19] = [
    ("agentKind", |s| Attr::text(s.action.identity.agent.kind.as_deref().unwrap_or_default())),
    ("assurance", |s| Attr::text(s.action.identity.assurance.as_str())),
    ("assuranceLevel", |s| Some(Attr::Number(s.action.identity.assurance as i64))),
    ("connector", |s| Attr::text(&s.action.source.connector)),
    ("delegationDepth", |s| Attr::count(s.action.identity.delegation.len() as u64)),
    ("device", |s| Attr::text(s.action.identity.device.as_deref().unwrap_or_default())),
    ("event", |s| Attr::text(&s.action.source.event)),
    ("human", |s| Attr::text(s.action.identity.human.as_ref().map_or("", |human| &human.id))),
    ("model", |s| Attr::text(s.action.identity.agent.model.as_deref().unwrap_or_default())),
    ("now", |s| Some(Attr::Moment(s.now))),
    ("operation", |s| Attr::text(&s.action.operation)),
    ("rawTool", |s| Attr::text(&s.action.tool.raw)),
    ("role", |s| Attr::text(s.action.identity.role.as_deref().unwrap_or_default())),
    ("scopes", |s| Attr::texts(&s.action.identity.scope)),
    ("service", |s| Attr::text(s.action.identity.service.as_deref().unwrap_or_default())),
    ("signals", |s| Attr::texts(signals(s.action))),
    ("tenant", |s| Attr::text(s.action.identity.tenant.as_deref().unwrap_or_default())),
    ("toolName", |s| Attr::text(&s.action.tool.name)),
    ("vendor", |s| Attr::text(&s.action.source.vendor)),
];

const FACETS: [Attribute; 14] = [
    ("facets.amountMinor", |s| s.facets?.amount_minor.map(Attr::Number)),
    ("facets.commands", |s| Attr::texts(&s.facets?.commands)),
    ("facets.currency", |s| s.facets?.currency.clone().map(Attr::Text)),
    ("facets.domains", |s| Some(Attr::Texts(domains(&s.facets?.hosts)))),
    ("facets.environment", |s| s.facets?.environment.clone().map(Attr::Text)),
    ("facets.external", |s| s.facets?.external.map(Attr::Flag)),
    ("facets.hosts", |s| Attr::texts(&s.facets?.hosts)),
    ("facets.labels", |s| Attr::texts(&s.facets?.labels)),
    ("facets.pathEnds", |s| Some(Attr::Texts(path_ends(&s.facets?.paths)))),
    ("facets.pathParts", |s| Attr::texts(s.facets?.paths.iter().flat_map(|path| path_parts(path)))),
    ("facets.paths", |s| Attr::texts(&s.facets?.paths)),
    ("facets.recipients", |s| Attr::texts(&s.facets?.recipients)),
    ("facets.repository", |s| s.facets?.repository.clone().map(Attr::Text)),
    ("facets.tables", |s| Attr::texts(&s.facets?.tables)),
];

const PERSON: [Attribute; 5] = [
    ("person.deniedCount", |s| Attr::count(s.session.person.as_ref()?.denied_count)),
    ("person.labels", |s| Attr::texts(&s.session.person.as_ref()?.labels)),
    ("person.sessions", |s| Attr::count(s.session.person.as_ref()?.sessions)),
    ("person.untrusted", |s| Some(Attr::Flag(s.session.person.as_ref()?.untrusted))),
    ("person.vendors", |s| Attr::texts(&s.session.person.as_ref()?.vendors)),
];

const RISK: [Attribute; 7] = [
    ("risk.confidence", |s| Some(Attr::Degree(s.session.risk.as_ref()?.confidence))),
    ("risk.distance", |s| s.session.risk.as_ref()?.distance.map(Attr::Degree)),
    ("risk.drift", |s| s.session.risk.as_ref()?.drift.map(Attr::Degree)),
    ("risk.effectGap", |s| s.session.risk.as_ref()?.effect_gap.map(Attr::Degree)),
    ("risk.escalation", |s| Some(Attr::Number(i64::from(s.session.risk.as_ref()?.escalation)))),
    ("risk.scopeExpansion", |s| s.session.risk.as_ref()?.scope_expansion.map(Attr::Degree)),
    ("risk.unusual", |s| Some(Attr::Flag(s.session.risk.as_ref()?.unusual))),
];

const SESSION: [Attribute; 19] = [
    ("session.actionCount", |s| Attr::count(s.session.action_count)),
    ("session.chainLength", |s| Attr::count(s.session.chain)),
    ("session.delegated", |s| Some(Attr::Flag(s.session.parent.is_some()))),
    ("session.deniedCount", |s| Attr::count(s.session.denied_count)),
    ("session.driftAverage", |s| s.session.drift.map(|drift| Attr::Degree(drift.ema))),
    ("session.driftMax", |s| s.session.drift.map(|drift| Attr::Degree(drift.max))),
    ("session.effects", |s| Attr::texts(s.session.effects.keys())),
    ("session.ended", |s| Some(Attr::Flag(s.session.ended_at.is_some()))),
    ("session.failedCount", |s| Attr::count(s.session.failed_count)),
    ("session.hasRequest", |s| Some(Attr::Flag(s.session.request.is_some()))),
    ("session.injection", |s| Some(Attr::Degree(s.session.injection))),
    ("session.labels", |s| Attr::texts(&s.session.labels)),
    ("session.lastMinute", |s| Attr::count(ledger::last_minute(s.session, s.now))),
    ("session.recentDenied", |s| {
        Attr::count(s.session.recent.iter().filter(|prior| prior.verdict == Verdict::Deny).count() as u64)
    }),
    ("session.recentTools", |s| Attr::texts(s.session.recent.iter().map(|prior| &prior.tool))),
    ("session.request", |s| s.session.request.clone().map(Attr::Text)),
    ("session.requests", |s| Attr::count(s.session.requests)),
    ("session.secondsSinceStart", |s| Attr::count(s.session.started_at?.until(s.now).as_secs())),
    ("session.untrusted", |s| Some(Attr::Flag(s.session.untrusted))),
];

/// Attributes of a request, one bit each: the tables one after the other, the parameters last.
pub(crate) type Wanted = u128;

const FACETS_AT: usize = CONTEXT.len();
const PERSON_AT: usize = FACETS_AT + FACETS.len();
const RISK_AT: usize = PERSON_AT + PERSON.len();
const SESSION_AT: usize = RISK_AT + RISK.len();
const PARAMS_AT: usize = SESSION_AT + SESSION.len();
const _: () = assert!(PARAMS_AT + PARAMS.len() <= Wanted::BITS as usize);

/// The attributes that are populated for whoever reads `paths`.
pub(crate) fn wanted<'p>(paths: impl Iterator<Item = &'p str>) -> Wanted {
    let attributes = CONTEXT
        .iter()
        .chain(&FACETS)
        .chain(&PERSON)
        .chain(&RISK)
        .chain(&SESSION)
        .map(|(path, _)| (*path).to_owned());
    let params = PARAMS.iter().map(|(name, _)| format!("params.{name}"));
    let attributes: Vec<String> = attributes.chain(params).collect();
    let mut wanted = 0;
    for path in paths {
        let covered = attributes.iter().enumerate().filter(|(_, attribute)| covers(path, attribute));
        wanted |= covered.fold(0, |wanted, (at, _)| wanted | 1 << at);
    }
    wanted
}

/// What type the schema gives a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParamType {
    Bool,
    Long,
    String,
    Strings,
}

impl ParamType {
    /// The value, if it is of this type.
    fn read(self, value: &Value) -> Option<Attr> {
        match self {
            Self::Bool => value.as_bool().map(Attr::Flag),
            Self::Long => value.as_i64().map(Attr::Number),
            Self::String => value.as_str().and_then(Attr::text),
            Self::Strings => {
                let texts: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
                texts.and_then(Attr::texts)
            }
        }
    }

    /// The same without making a copy.
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Bool => value.is_boolean(),
            Self::Long => value.is_i64() || value.as_i64().is_some(),
            Self::String => value.is_string(),
            Self::Strings => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        }
    }
}

/// The schema's `Params`, sorted.
const PARAMS: [(&str, ParamType); 34] = [
    ("amount", ParamType::Long),
    ("base", ParamType::String),
    ("body", ParamType::String),
    ("branch", ParamType::String),
    ("cmd", ParamType::String),
    ("command", ParamType::String),
    ("content", ParamType::String),
    ("currency", ParamType::String),
    ("customer", ParamType::String),
    ("directory", ParamType::String),
    ("environment", ParamType::String),
    ("file_path", ParamType::String),
    ("force", ParamType::Bool),
    ("limit", ParamType::Long),
    ("message", ParamType::String),
    ("method", ParamType::String),
    ("name", ParamType::String),
    ("owner", ParamType::String),
    ("path", ParamType::String),
    ("pattern", ParamType::String),
    ("prompt", ParamType::String),
    ("query", ParamType::String),
    ("recursive", ParamType::Bool),
    ("repo", ParamType::String),
    ("role", ParamType::String),
    ("run_in_background", ParamType::Bool),
    ("sandbox", ParamType::Bool),
    ("subject", ParamType::String),
    ("table", ParamType::String),
    ("timeout", ParamType::Long),
    ("title", ParamType::String),
    ("to", ParamType::Strings),
    ("tty", ParamType::Bool),
    ("url", ParamType::String),
];

/// The vendor's signals, and one for every parameter that is present with a type the schema does not give it. A
/// null counts as absent.
fn signals(action: &Action) -> Vec<String> {
    let wrong = action.parameters.iter().filter(|(name, value)| {
        PARAMS
            .binary_search_by_key(&name.as_str(), |(param, _)| param)
            .ok()
            .and_then(|found| PARAMS.get(found))
            .is_some_and(|(_, kind)| !value.is_null() && !kind.fits(value))
    });
    let wrong = wrong.map(|(name, _)| format!("param_type:{name}"));
    action.risk_signals.iter().cloned().chain(wrong).collect()
}

/// Every host and the domains above it. Addresses have no domains that mean anything, and harm nobody.
fn domains(hosts: &[String]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for host in hosts {
        let mut rest = host.trim_end_matches('.');
        while !rest.is_empty() && found.insert(rest.to_owned()) {
            rest = rest.split_once('.').map_or("", |(_, above)| above);
        }
    }
    found.into_iter().collect()
}

/// Names of a path in order, lower case because some file systems do not tell the cases apart, with `.`, `..` and
/// doubled separators resolved. A `..` beyond the beginning is dropped.
fn path_parts(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part.to_lowercase()),
        }
    }
    parts
}

/// The last one, two and three names of every path.
fn path_ends(paths: &[String]) -> Vec<String> {
    let mut ends = Vec::new();
    for path in paths {
        let parts = path_parts(path);
        let tails = (1..=3).filter_map(|length| parts.get(parts.len().checked_sub(length)?..));
        ends.extend(tails.map(|tail| tail.join("/")));
    }
    ends
}

/// How requests are built for one policy set.
#[derive(Debug)]
pub(crate) struct Builder {
    actions: Vec<ActionNode>,
    /// Entities that some policy names. Nothing can lie `in` another one, so the others are not put into requests:
    /// Cedar's transitive closure of a request's entities would cost a quarter of a decision.
    literals: HashSet<EntityUid>,
    names: TypeNames,
}

/// An action of the schema.
#[derive(Debug)]
struct ActionNode {
    entity: Entity,
    /// Nothing but the entity: all that most requests need.
    entities: Entities,
    uid: EntityUid,
}

#[derive(Debug)]
struct TypeNames {
    agent: EntityTypeName,
    connector: EntityTypeName,
    human: EntityTypeName,
    role: EntityTypeName,
    server: EntityTypeName,
    service: EntityTypeName,
    tool: EntityTypeName,
    vendor: EntityTypeName,
}

impl TypeNames {
    fn new() -> Result<Self, PolicyErrors> {
        let name = |text: &str| {
            let bad = || PolicyProblem::new("", format!("`{text}` is not an entity type"));
            text.parse().map_err(|_| PolicyErrors::from(bad()))
        };
        Ok(Self {
            agent: name("Agent")?,
            connector: name("Connector")?,
            human: name("Human")?,
            role: name("Role")?,
            server: name("Server")?,
            service: name("Service")?,
            tool: name("Tool")?,
            vendor: name("Vendor")?,
        })
    }
}

/// A request, and what was left out of it.
#[derive(Debug)]
pub(crate) struct Built<'a> {
    pub(crate) entities: Cow<'a, Entities>,
    pub(crate) request: Request,
    /// Dotted paths that are wanted and nobody knows.
    pub(crate) unpopulated: Vec<&'static str>,
}

impl Builder {
    /// Prepares for policies that name `literals`. `actions` is the schema's action hierarchy.
    pub(crate) fn new(literals: HashSet<EntityUid>, actions: &Entities) -> Result<Self, PolicyErrors> {
        let action = |effect: Effect| {
            let found = actions.iter().find(|entity| entity.uid().id().unescaped() == effect.as_str());
            let uid = found.map(Entity::uid).ok_or_else(|| {
                PolicyProblem::new(
                    "schema.cedarschema",
                    format!("the schema has no action `{}`", effect.as_str()),
                )
            })?;
            let ancestors = actions.ancestors(&uid).into_iter().flatten();
            let ancestors = ancestors.filter(|uid| literals.contains(uid)).cloned().collect();
            let entity = Entity::new_no_attrs(uid.clone(), ancestors);
            let entities = Entities::from_entities([entity.clone()], None)
                .map_err(|error| PolicyProblem::new("schema.cedarschema", error.to_string()))?;
            Ok(ActionNode { entity, entities, uid })
        };
        Ok(Self {
            actions: Effect::ALL.into_iter().map(action).collect::<Result<_, PolicyErrors>>()?,
            literals,
            names: TypeNames::new()?,
        })
    }

    /// Builds the request of what `names` names, with the attributes that are `wanted`; `None` when Cedar refuses a
    /// value, which happens only for times that its `datetime` cannot hold.
    pub(crate) fn build(&self, subject: &Subject<'_>, names: &Names, wanted: Wanted) -> Option<Built<'_>> {
        let mut unpopulated = Vec::new();
        let mut fill = |table: &[Attribute], prefix: &str, at: usize| {
            let mut fields = Vec::new();
            for (path, value) in chosen(table, wanted, at) {
                match value(subject) {
                    Some(value) => {
                        let name = path.strip_prefix(prefix).unwrap_or(path);
                        fields.push((name.to_owned(), value.into_expression()));
                    }
                    None => unpopulated.push(*path),
                }
            }
            fields
        };
        let mut pairs = fill(&CONTEXT, "", 0);
        let facets = fill(&FACETS, "facets.", FACETS_AT);
        let person = fill(&PERSON, "person.", PERSON_AT);
        let risk = fill(&RISK, "risk.", RISK_AT);
        let session = fill(&SESSION, "session.", SESSION_AT);
        let params = chosen(&PARAMS, wanted, PARAMS_AT).filter_map(|(name, kind)| {
            let value = kind.read(subject.action.parameters.get(*name)?)?;
            Some(((*name).to_owned(), value.into_expression()))
        });
        let records = [
            ("facets", facets),
            ("params", params.collect()),
            ("person", person),
            ("risk", risk),
            ("session", session),
        ];
        for (name, fields) in records {
            let record = RestrictedExpression::new_record(fields).ok()?;
            pairs.push((name.to_owned(), record));
        }
        let context = CedarContext::from_pairs(pairs).ok()?;
        let action = self.actions.get(usize::from(slot(subject.action.effect)))?;
        let (principal, resource) = (names.principals.first()?, names.resources.first()?);
        let entities = self.entities(action, names)?;
        // No schema here: what is not populated is left out, and Cedar then reports who missed it.
        let request =
            Request::new(principal.clone(), action.uid.clone(), resource.clone(), context, None).ok()?;
        Some(Built { entities, request, unpopulated })
    }

    fn entities<'a>(&self, action: &'a ActionNode, names: &Names) -> Option<Cow<'a, Entities>> {
        let mut entities = Vec::new();
        for uids in [&names.principals, &names.resources] {
            let (uid, within) = uids.split_first()?;
            let within: HashSet<EntityUid> =
                within.iter().filter(|uid| self.literals.contains(uid)).cloned().collect();
            // One that lies in nothing that a policy names is as good as unknown.
            if !within.is_empty() {
                entities.push(Entity::new_no_attrs(uid.clone(), within));
            }
        }
        if entities.is_empty() {
            return Some(Cow::Borrowed(&action.entities));
        }
        entities.push(action.entity.clone());
        Entities::from_entities(entities, None).ok().map(Cow::Owned)
    }

    /// What a request for `action` names.
    pub(crate) fn names(&self, action: &Action) -> Names {
        let uid = |name: &EntityTypeName, id: &str| {
            EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
        };
        let identity = &action.identity;
        let agent = format!("{}/{}", action.source.connector, identity.agent.id);
        let mut principals =
            vec![uid(&self.names.agent, &agent), uid(&self.names.connector, &action.source.connector)];
        if let Some(human) = &identity.human {
            principals.push(uid(&self.names.human, &human.id));
            // A human whose id is the address is named once.
            if let Some(email) = human.email.as_deref().filter(|email| *email != human.id) {
                principals.push(uid(&self.names.human, email));
            }
        }
        principals.extend(identity.service.as_deref().map(|service| uid(&self.names.service, service)));
        principals.extend(identity.role.as_deref().map(|role| uid(&self.names.role, role)));
        let mut resources = vec![
            uid(&self.names.tool, &action.tool.canonical()),
            uid(&self.names.vendor, &action.source.vendor),
        ];
        resources.extend(action.tool.server.as_deref().map(|server| uid(&self.names.server, server)));
        Names { principals, resources }
    }
}

/// The entries of `table` that are wanted; the first has the bit `at`.
fn chosen<T>(table: &[T], wanted: Wanted, at: usize) -> impl Iterator<Item = &T> {
    table.iter().enumerate().filter(move |(entry, _)| wanted >> (at + entry) & 1 == 1).map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cedar_policy::SchemaFragment;

    use super::*;

    /// The attributes of a common type, and whether each is required and of which type.
    fn declared(name: &str) -> BTreeMap<String, Value> {
        let (fragment, _) = SchemaFragment::from_cedarschema_str(crate::SCHEMA).unwrap();
        let json = fragment.to_json_value().unwrap();
        let attributes = json[""]["commonTypes"][name]["attributes"].as_object().unwrap();
        attributes.iter().map(|(name, kind)| (name.clone(), kind.clone())).collect()
    }

    #[track_caller]
    fn check(name: &str, prefix: &str, table: &[Attribute], records: &[&str]) {
        let declared: Vec<String> = declared(name).into_keys().collect();
        let mut ours: Vec<String> =
            table.iter().map(|(path, _)| path.strip_prefix(prefix).unwrap().to_owned()).collect();
        ours.extend(records.iter().map(|record| (*record).to_owned()));
        ours.sort();
        assert_eq!(declared, ours, "{name}");
    }

    #[test]
    fn every_attribute_of_the_schema_is_filled_and_no_other() {
        check("ActionContext", "", &CONTEXT, &["facets", "params", "person", "risk", "session"]);
        check("Person", "person.", &PERSON, &[]);
        check("Risk", "risk.", &RISK, &[]);
        check("Facets", "facets.", &FACETS, &[]);
        check("Session", "session.", &SESSION, &[]);
    }

    #[test]
    fn parameters_are_typed_as_the_schema_has_them_and_sorted() {
        let of = |kind: &Value| match (kind["name"].as_str(), kind["type"].as_str()) {
            (Some("Bool"), _) => ParamType::Bool,
            (Some("Long"), _) => ParamType::Long,
            (Some("String"), _) => ParamType::String,
            (_, Some("Set")) if kind["element"]["name"] == "String" => ParamType::Strings,
            _ => panic!("{kind}"),
        };
        let declared = declared("Params");
        assert!(declared.values().all(|kind| kind["required"] == false));
        let declared: Vec<(&str, ParamType)> =
            declared.iter().map(|(name, kind)| (name.as_str(), of(kind))).collect();
        assert_eq!(declared, PARAMS);
    }

    /// A request with everything known must be one that Cedar's own checker accepts.
    #[test]
    fn a_whole_request_conforms_to_the_schema() {
        let (schema, _) = cedar_policy::Schema::from_cedarschema_str(crate::SCHEMA).unwrap();
        let actions = schema.action_entities().unwrap();
        let mut literals: HashSet<EntityUid> = actions.iter().map(Entity::uid).collect();
        literals.insert("Vendor::\"test\"".parse().unwrap());
        let builder = Builder::new(literals, &actions).unwrap();
        let cases = serde_json::json!({"cases": [{
            "name": "whole",
            "action": {
                "effect": "pay", "tool": "mcp/s/t",
                "facets": {"amountMinor": 1, "currency": "eur", "environment": "e", "external": true, "repository": "a/b", "paths": ["/a/b"], "hosts": ["a.b"]},
                "parameters": {"limit": 1, "to": ["a"], "url": "u", "force": true},
            },
            "expect": {"verdict": "ALLOW"},
        }]});
        let cases: crate::cases::Cases = serde_json::from_value(cases).unwrap();
        let action = cases.cases[0].action.to_action(Timestamp(0));
        let session = Context {
            drift: Some(countersign_schemas::Trend::default()),
            risk: Some(countersign_schemas::Risk {
                distance: Some(Degree::ZERO),
                drift: Some(Degree::ZERO),
                effect_gap: Some(Degree::ZERO),
                scope_expansion: Some(Degree::ONE),
                ..countersign_schemas::Risk::default()
            }),
            person: Some(countersign_schemas::Person::default()),
            request: Some("r".to_owned()),
            started_at: Some(Timestamp(0)),
            ..Context::default()
        };
        let subject =
            Subject { action: &action, facets: Some(&action.facets), now: Timestamp(0), session: &session };
        let names = builder.names(subject.action);
        let built = builder.build(&subject, &names, wanted([""].into_iter())).unwrap();
        assert!(built.unpopulated.is_empty(), "{:?}", built.unpopulated);
        let request = &built.request;
        let (Some(principal), Some(action), Some(resource), Some(context)) =
            (request.principal(), request.action(), request.resource(), request.context())
        else {
            panic!("the request is partial")
        };
        let (principal, action, resource) = (principal.clone(), action.clone(), resource.clone());
        Request::new(principal, action, resource, context.clone(), Some(&schema)).unwrap();
        let entities: Vec<Entity> = built.entities.iter().cloned().collect();
        Entities::from_entities(entities, Some(&schema)).unwrap();
    }
}
