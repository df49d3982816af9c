//! Microsoft Copilot Studio's external threat detection webhooks.
//!
//! Source: Microsoft, "Build a runtime threat detection system for Copilot Studio agents" (page of 2026-01-23, preview,
//! api-version 2025-05-01), and differences seen in live traffic by others. There is no modify and no ask: an action
//! is blocked or it is not, and nobody but our own log is shown the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_sdk::jwks::KeySet;
use countersign_sdk::schemas::{
    Action, Agent, Assurance, Effect, Event, Expressed, Facets, Human, Identity, Intent, SessionId,
    SessionRef, Source, Timestamp, Tool, Verdict,
};
use countersign_sdk::{
    Caller, ConnectError, Connector, Env, Evidence, FailMode, Frame, FrameSpec, Gate, GateClass, Inbound,
    Manifest, NormalizeError, Normalized, Parts, Reply, Said, Site, Unverified, Verified, VerifyError, parse,
    signature,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Microsoft's window. Without an answer in it, the agent goes on.
const WINDOW: Duration = Duration::from_millis(1_000);
/// How far Entra's clock may differ from ours, either way.
const LEEWAY_S: i64 = 60;
/// Nothing limits the field, but an endpoint has no use for more, and logs have.
const REASON_CHARS_MAX: usize = 1_000;

const VALIDATE: &str = "validate";
const ANALYZE: &str = "analyze-tool-execution";

/// Settings of a `copilot-studio` connector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Entra tenant ids (GUIDs) whose agents may ask.
    pub tenants: Vec<String>,
    /// The token's `aud`: the application id, or the identifier URI, of your app registration.
    pub audience: String,
    /// Application ids that may call, as in the token's `azp` or `appid`. Usually the id of your app registration.
    pub allowed_apps: Vec<String>,
    /// Who issues version 2 tokens. Another one for sovereign clouds.
    #[serde(default = "default_authority")]
    pub authority: String,
    /// Where the signing keys of all tenants are, when not at `<authority>/<tenant>/discovery/v2.0/keys`.
    #[serde(default)]
    pub jwks_url: Option<String>,
}

fn default_authority() -> String {
    "https://login.microsoftonline.com".to_owned()
}

/// The connector.
pub struct CopilotStudio;

impl Connector for CopilotStudio {
    const NAME: &'static str = "copilot-studio";
    type Settings = Settings;

    fn manifest() -> Manifest {
        Manifest {
            name: Self::NAME,
            vendor: "Microsoft Copilot Studio (external threat detection)",
            class: GateClass::Sync,
            vendor_window_ms: 1_000,
            margin_ms: 300,
            fail_mode_default: FailMode::Open,
            fail_mode_best: FailMode::Closed,
            fail_mode_how: "set Error behavior to \"Block the query\" in every environment; whether that covers \
                            time-outs is not documented: test it",
            frames: frames(),
            result_feed: "none; outputs of earlier calls come with the next request, without call ids",
            authentication: "Entra ID access token (RS256), caller application on an allow list",
            assurance: Assurance::OauthVerified,
            idempotency: "planStepId and SHA-256 of the body",
            verified: Evidence::VendorDocs,
            limits: vec![
                "only agents with generative orchestration ask; classic agents do not",
                "a time-out lets the tool run, also in some environments that block on errors",
                "the reason reaches neither the user nor the model: only the log here has it",
                "switched on for each environment; an environment without it is not seen",
                "the body is not signed: within its life a stolen token can carry any body of its tenant",
                "whether and how a call ended is not reported",
            ],
        }
    }

    fn setup(site: &Site) -> String {
        let url = site.hook_url();
        format!(
            "1. In Entra ID, register a single-tenant application. Its identifier URI must be on a verified custom \
             domain of the tenant. Put its application id under `audience` and `allowed_apps` of connector \
             `{instance}`, and the tenant id under `tenants`.\n\
             2. Add a federated credential to it: issuer `https://login.microsoftonline.com/<tenant>/v2.0`, audience \
             `api://AzureADTokenExchange`, subject \
             `/eid1/c/pub/t/<tenant>/a/m1WPnYRZpEaQKq1Cceg--g/<endpoint>`, where `<tenant>` is the base64url of the \
             tenant GUID's 16 bytes as .NET writes them, and `<endpoint>` is `{endpoint}` (the base64url of `{url}`). \
             Microsoft's script `Create-CopilotWebhookApp` from the PowerShell Gallery does both steps.\n\
             3. Allow Countersign to fetch the signing keys: add `login.microsoftonline.com` to \
             `[egress] allow_hosts`.\n\
             4. In the Power Platform admin center, open Security, Threat detection, \"Additional threat detection and \
             protection for Copilot Studio agents\". For **every** environment, tick \"Allow Copilot Studio to share \
             data with threat detection partner\" and enter the application id and the endpoint `{url}`, without a \
             slash at its end and without `/validate`.\n\
             5. Set Error behavior to \"Block the query\". With \"Allow the agent to respond\" every fault between \
             Microsoft and Countersign lets the tool run.\n\
             6. Save. Microsoft calls `{url}/validate`; \"not properly configured\" means that step 2 is wrong.\n\
             7. Let an agent call a tool and find the receipt with `countersign receipt list`. Then stop Countersign \
             and try again: the agent must not run the tool. Repeat this with a delay instead of a stop, since what a \
             time-out does is not documented.\n",
            instance = site.instance,
            endpoint = URL_SAFE_NO_PAD.encode(&url),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Parts, ConnectError> {
        let value = |key: &str, problem: &str| ConnectError::Value {
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        if settings.tenants.is_empty() {
            return Err(value("tenants", "give at least one tenant id"));
        }
        if settings.audience.is_empty() {
            return Err(value("audience", "give the application id of your app registration"));
        }
        if settings.allowed_apps.is_empty() {
            return Err(value("allowed_apps", "give at least one application id"));
        }
        let mut tenants = BTreeMap::new();
        for tenant in settings.tenants.iter().map(|tenant| tenant.to_ascii_lowercase()) {
            if !is_guid(&tenant) {
                return Err(value(
                    "tenants",
                    "a tenant id is a GUID, such as 72f988bf-86f1-41af-91ab-2d7cd011db47",
                ));
            }
            let authority = settings.authority.trim_end_matches('/');
            let url = settings
                .jwks_url
                .clone()
                .unwrap_or_else(|| format!("{authority}/{tenant}/discovery/v2.0/keys"));
            env.egress.check(&url).map_err(|error| value("jwks_url", &error.to_string()))?;
            let issuers =
                [format!("{authority}/{tenant}/v2.0"), format!("https://sts.windows.net/{tenant}/")];
            tenants.insert(tenant, Tenant { issuers, keys: env.keys.at(&url) });
        }
        let gate = Webhooks {
            allowed_apps: settings.allowed_apps.iter().map(|app| app.to_ascii_lowercase()).collect(),
            audience: settings.audience,
            instance: env.instance.to_owned(),
            tenants,
        };
        Ok(Parts { deadline: WINDOW, frames: frames(), gate: Box::new(gate), held: None })
    }
}

fn frames() -> Vec<FrameSpec> {
    vec![FrameSpec::gate(ANALYZE, &[Verdict::Allow]), FrameSpec::notice(VALIDATE)]
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, digit)| match at {
            8 | 13 | 18 | 23 => digit == '-',
            _ => digit.is_ascii_hexdigit(),
        })
}

/// The gate.
struct Webhooks {
    /// Lower case.
    allowed_apps: BTreeSet<String>,
    audience: String,
    instance: String,
    /// By tenant id in lower case.
    tenants: BTreeMap<String, Tenant>,
}

struct Tenant {
    /// As version 2 and version 1 tokens spell it.
    issuers: [String; 2],
    keys: KeySet,
}

impl Gate for Webhooks {
    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        let token = signature::bearer(request)?;
        let refused = |problem: &str| VerifyError::Token(problem.to_owned());
        // Read before it is proved, to find the key; what is read is proved by that key below.
        let claimed = jsonwebtoken::dangerous::insecure_decode::<Claims>(token)
            .map_err(|_| refused("not a JSON Web Token with the claims of Entra ID"))?;
        if claimed.header.alg != Algorithm::RS256 {
            return Err(refused("not signed with RS256"));
        }
        let kid = claimed.header.kid.as_deref().ok_or_else(|| refused("names no key"))?;
        let tenant = self
            .tenants
            .get(&claimed.claims.tid.to_ascii_lowercase())
            .ok_or_else(|| refused("of a tenant that is not ours"))?;
        let key = tenant.keys.find(kid).ok_or_else(|| VerifyError::NoKey(parse::cut(kid, 100).to_owned()))?;
        let key = DecodingKey::from_jwk(&key).map_err(|_| refused("its key is not usable"))?;
        let claims: Map<String, Value> =
            jsonwebtoken::decode(token, &key, &validation(&self.audience, tenant))
                .map_err(|error| VerifyError::Token(error.to_string()))?
                .claims;
        check_life(&claimed.claims, now)?;
        let app = claimed.claims.azp.or(claimed.claims.appid).unwrap_or_default().to_ascii_lowercase();
        if !self.allowed_apps.contains(&app) {
            return Err(VerifyError::NotAllowed(parse::cut(&app, 100).to_owned()));
        }
        Ok(Caller { assurance: Assurance::OauthVerified, claims, name: Some(app), verified_by: "entra-jwt" })
    }

    fn normalize(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        match request.path.as_str() {
            VALIDATE => Ok(Normalized {
                events: vec![Event::Ping],
                frame: Frame::named(VALIDATE),
                // Every call is the same call.
                idempotency: VALIDATE.to_owned(),
            }),
            ANALYZE => self
                .analysis(request)
                .map_err(|error| NormalizeError::in_frame(Frame::named(ANALYZE), error.reason)),
            _ => Err(NormalizeError::unreadable("no such operation")),
        }
    }

    fn answer(&self, frame: &Frame, said: &[Said<'_>]) -> Reply {
        if frame.name == VALIDATE {
            return Reply::json(&json!({"isSuccessful": true, "status": "OK"}));
        }
        let allowed = |said: &Said| said.expression.expressed == Expressed::Allow;
        if frame.name == ANALYZE && !said.is_empty() && said.iter().all(allowed) {
            return Reply::json(&json!({"blockAction": false}));
        }
        let Some(said) = said.iter().find(|said| !allowed(said)).or(said.first()) else {
            return Reply::json(&json!({"blockAction": true}));
        };
        let diagnostics =
            json!({"receiptId": said.receipt_id, "ticket": said.ticket, "verdict": said.verdict});
        Reply::json(&json!({
            "blockAction": true,
            "reasonCode": reason_code(said.verdict),
            "reason": parse::cut(&said.expression.reason, REASON_CHARS_MAX),
            "diagnostics": diagnostics.to_string(),
        }))
    }
}

impl Webhooks {
    fn analysis(&self, request: &Inbound<Verified>) -> Result<Normalized, NormalizeError> {
        let mut rest = parse::object(&request.body)?;
        // serde's own message would repeat the content.
        let read = Analysis::deserialize(&rest)
            .map_err(|_| NormalizeError::unreadable("a field we need is missing or of another type"))?;
        let metadata = read.conversation_metadata;
        let user = metadata.user.unwrap_or_default();
        let parameters = read.input_values.unwrap_or_default();
        let caller = request.caller();
        let tenant =
            caller.claims.get("tid").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        let claimed = [&metadata.agent.tenant_id, &user.tenant_id];
        if claimed.into_iter().flatten().any(|claimed| !claimed.eq_ignore_ascii_case(&tenant)) {
            return Err(NormalizeError::unreadable("the body is of another tenant than the token"));
        }
        let body_sha256 = parse::sha256_hex(&request.body);
        let call = metadata.plan_step_id.clone().unwrap_or_else(|| body_sha256.clone());
        let session = metadata
            .conversation_id
            .or_else(|| metadata.plan_id.clone())
            .ok_or_else(|| NormalizeError::unreadable("neither `conversationId` nor `planId`"))?;
        let identity = Identity {
            agent: Agent { id: metadata.agent.id, kind: None, model: None },
            assurance: caller.assurance,
            human: user.id.map(|id| Human { id, ..Human::default() }),
            service: metadata.agent.environment_id,
            tenant: Some(tenant.clone()),
            verified_by: caller.verified_by.to_owned(),
            ..Identity::default()
        };
        let session = SessionRef {
            id: SessionId::derived(&[&self.instance, &tenant, &session]),
            turn: metadata.plan_id,
            vendor_id: session,
        };
        let source = Source {
            connector: self.instance.clone(),
            event: ANALYZE.to_owned(),
            vendor: CopilotStudio::NAME.to_owned(),
        };
        // These have places of their own; all else of the body is kept beside the action.
        rest.shift_remove("inputValues");
        if let Some(Value::Object(context)) = rest.get_mut("plannerContext") {
            context.shift_remove("userMessage");
        }
        let mut events = Vec::with_capacity(2);
        if let Some(text) =
            read.planner_context.and_then(|context| context.user_message).filter(|text| !text.is_empty())
        {
            events.push(Event::Intent(Intent {
                identity: identity.clone(),
                by_human: true,
                session: session.clone(),
                source: source.clone(),
                text,
                timestamp: request.received_at,
            }));
        }
        let idempotency = format!("{call} {body_sha256}");
        events.push(Event::Action(Box::new(Action {
            action_id: Env::action_id(&self.instance, Some(&tenant), &session.vendor_id, &call),
            call_id: metadata.plan_step_id,
            delivery_id: request.header("x-ms-correlation-id").map(str::to_owned),
            effect: Effect::Invoke,
            facets: Facets::default(),
            identity,
            operation: ANALYZE.to_owned(),
            parameters,
            risk_signals: Vec::new(),
            session,
            source,
            timestamp: request.received_at,
            tool: tool(&read.tool_definition.id),
            vendor_fields: rest,
        })));
        Ok(Normalized { events, frame: Frame::named(ANALYZE), idempotency })
    }
}

/// Signature, algorithm, audience and issuer. Life is checked by [`check_life`], against the time that was given.
fn validation(audience: &str, tenant: &Tenant) -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience]);
    validation.set_issuer(&tenant.issuers);
    validation.set_required_spec_claims(&["aud", "exp", "iss"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn check_life(claims: &Claims, now: Timestamp) -> Result<(), VerifyError> {
    let now = now.unix_seconds();
    if now >= claims.exp.saturating_add(LEEWAY_S) {
        return Err(VerifyError::Token("expired".to_owned()));
    }
    if claims.nbf.is_some_and(|nbf| now < nbf.saturating_sub(LEEWAY_S)) {
        return Err(VerifyError::Token("not valid yet".to_owned()));
    }
    Ok(())
}

/// Ours to choose; one for each decision, so that the vendor's logs can be counted.
fn reason_code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => 1000,
        Verdict::Deny => 1001,
        Verdict::Modify => 1002,
        Verdict::StepUp => 1003,
        Verdict::Defer => 1004,
    }
}

/// `prefix.action.slug`: the agent's solution prefix is the server, the slug the name. The display name is for people
/// and can be the same for two tools.
fn tool(id: &str) -> Tool {
    let (server, name) = match id.split_once(".action.") {
        Some((prefix, slug)) if !prefix.is_empty() && !slug.is_empty() => (Some(prefix.to_owned()), slug),
        _ => (None, id),
    };
    Tool { name: name.to_owned(), namespace: CopilotStudio::NAME.to_owned(), raw: id.to_owned(), server }
}

/// What is read of the token. Version 2 tokens name the caller `azp`, version 1 tokens `appid`.
#[derive(Deserialize)]
struct Claims {
    appid: Option<String>,
    azp: Option<String>,
    exp: i64,
    nbf: Option<i64>,
    tid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Analysis {
    conversation_metadata: Metadata,
    input_values: Option<Map<String, Value>>,
    planner_context: Option<PlannerContext>,
    tool_definition: ToolDefinition,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlannerContext {
    user_message: Option<String>,
}

#[derive(Deserialize)]
struct ToolDefinition {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    agent: AgentMetadata,
    conversation_id: Option<String>,
    plan_id: Option<String>,
    plan_step_id: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentMetadata {
    environment_id: Option<String>,
    id: String,
    tenant_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: Option<String>,
    tenant_id: Option<String>,
}
