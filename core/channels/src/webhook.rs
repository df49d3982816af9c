//! A webhook of your own: every question is posted to one URL, and answers come back to ours; both signed as the
//! Standard Webhooks specification 1.0.0 says.
//!
//! ```text
//! we post   {"type":"approval.asked","reference":"…","to":"…","question":{…}}
//!           {"type":"approval.updated",…}  {"type":"approval.closed","title":"…","outcome":["…"]}
//! you post  {"reference":"…","approved":true,"who":"…","comment":"…"}
//! ```

use async_trait::async_trait;
use countersign_sdk::channel::{
    Ask, Channel, ChannelKind, ChannelTraits, Click, HearError, Heard, Message, Outcome, Sent, Told,
};
use countersign_sdk::http::Egress;
use countersign_sdk::parse::{cut, sha256_hex};
use countersign_sdk::schemas::{Assurance, Timestamp};
use countersign_sdk::signature::{sign_standard_webhooks, standard_webhooks, standard_webhooks_key};
use countersign_sdk::{
    CallError, Caller, ConnectError, Env, Inbound, Reply, SecretRef, Site, Unverified, Verified, VerifyError,
};
use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{accepted, unreached, wrong};

const COMMENT_CHARS: usize = 1_000;

/// Settings of a `webhook` channel. Addresses are your own names of people or rooms; you get them back as `to`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where questions are posted.
    pub url: String,
    /// Signs what we post: `whsec_` and base64.
    pub secret: SecretRef,
    /// Signs the answers you post, one or, during a rotation, two. Not the same as `secret`, or our own posts could be
    /// sent back to us.
    pub answer_secrets: Vec<SecretRef>,
}

/// The kind.
pub struct Webhook;

impl ChannelKind for Webhook {
    const NAME: &'static str = "webhook";
    type Settings = Settings;

    fn traits() -> ChannelTraits {
        ChannelTraits { assurance: "webhook", rooms: true, changes: true }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Make two secrets, each `whsec_` and the base64 of 32 random bytes: one where `secret` of channel \
             `{name}` points (it signs our posts), one for `answer_secrets` (it signs yours).\n\
             2. Serve `url`: verify `webhook-signature` over the raw body, keep `webhook-id` for five minutes and \
             ignore repetitions, answer 2xx.\n\
             3. Post answers to `{url}`, signed the same way: `{{\"reference\": …, \"approved\": true, \"who\": …}}`. \
             `who` is the id you gave the approver under `[approvers.NAME.channels]`; who may say it is yours to \
             prove.\n\
             4. Allow the calls: add the host of `url` to `[egress] allow_hosts`.\n",
            name = site.instance,
            url = site.channel_url(),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Box<dyn Channel>, ConnectError> {
        let key = |name: &str, reference: &SecretRef| {
            standard_webhooks_key(&env.secret(name, reference)?).map_err(|problem| wrong(name, problem))
        };
        let answer_keys = settings.answer_secrets.iter().map(|one| key("answer_secrets", one));
        let answer_keys = answer_keys.collect::<Result<Vec<_>, _>>()?;
        let key = key("secret", &settings.secret)?;
        if answer_keys.is_empty() || answer_keys.contains(&key) {
            return Err(wrong("answer_secrets", "give at least one, and none that is also `secret`"));
        }
        env.egress.check(&settings.url).map_err(|error| wrong("url", error.to_string()))?;
        Ok(Box::new(Connected { answer_keys, egress: env.egress.clone(), key, url: settings.url }))
    }
}

struct Connected {
    answer_keys: Vec<Vec<u8>>,
    egress: Egress,
    key: Vec<u8>,
    url: String,
}

#[async_trait]
impl Channel for Connected {
    async fn ask(&self, ask: &Ask<'_>, now: Timestamp) -> Result<Sent, CallError> {
        self.post(&body("approval.asked", ask), now).await?;
        let message = Message(json!({"reference": ask.reference, "to": ask.to.address}));
        Ok(Sent { message, poll_at: None })
    }

    async fn update(&self, _message: &Message, ask: &Ask<'_>, now: Timestamp) -> Result<(), CallError> {
        self.post(&body("approval.updated", ask), now).await
    }

    async fn replace(&self, message: &Message, outcome: &Outcome, now: Timestamp) -> Result<(), CallError> {
        let mut body = json!({"type": "approval.closed", "title": outcome.title, "outcome": outcome.lines});
        body["reference"] = message.0["reference"].clone();
        body["to"] = message.0["to"].clone();
        self.post(&body, now).await
    }

    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        let id = standard_webhooks(request, &self.answer_keys, now)?;
        let claims = Map::from_iter([("id".to_owned(), json!(id))]);
        let assurance = Assurance::VendorSigned;
        Ok(Caller { assurance, claims, verified_by: "standard-webhooks", ..Caller::default() })
    }

    fn read(&self, request: &Inbound<Verified>, _now: Timestamp) -> Result<Heard, HearError> {
        let answer: Answered = serde_json::from_slice(&request.body).map_err(|error| {
            let problem = "the body is not {\"reference\", \"approved\", \"who\"}";
            HearError(format!("{problem} (line {} column {})", error.line(), error.column()))
        })?;
        Ok(Heard::Click(Click {
            approved: answer.approved,
            comment: answer.comment.map(|comment| cut(&comment, COMMENT_CHARS).to_owned()),
            delivery: request
                .caller()
                .claims
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            reference: answer.reference,
            who: answer.who,
            ..Click::default()
        }))
    }

    fn answer(&self, _heard: &Heard, told: &Told<'_>, _now: Timestamp) -> Reply {
        match told {
            Told::Settled { approved } => {
                Reply::json(&json!({"taken": true, "settled": true, "approved": approved}))
            }
            Told::Counted { approved, quorum } => Reply::json(
                &json!({"taken": true, "settled": false, "approvals": approved, "quorum": quorum}),
            ),
            Told::Taken | Told::Asked(_) => Reply::json(&json!({"taken": true})),
            Told::Refused(why) => Reply::json_with_status(409, &json!({"taken": false, "reason": why})),
        }
    }
}

#[derive(Deserialize)]
struct Answered {
    approved: bool,
    #[serde(default)]
    comment: Option<String>,
    reference: String,
    who: String,
}

impl Connected {
    async fn post(&self, body: &Value, now: Timestamp) -> Result<(), CallError> {
        let body = body.to_string().into_bytes();
        // Made of the content, so that a repetition of the same message has the same id.
        let id = format!("msg_{}", &sha256_hex(&body)[..32]);
        let signed = sign_standard_webhooks(&self.key, &id, now, &body);
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(signed.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = self.egress.call(Method::POST, &self.url, &headers, body).await.map_err(unreached)?;
        accepted(&answer).map(|_| ())
    }
}

fn body(kind: &str, ask: &Ask<'_>) -> Value {
    let question = ask.question;
    let facts = question.facts.iter().map(|fact| (fact.label.to_owned(), json!(fact.text)));
    json!({
        "type": kind,
        "reference": ask.reference,
        "to": ask.to.address,
        "question": {
            "title": question.title,
            "count": question.count,
            "expiresAt": question.expires_at,
            "severity": question.severity,
            "facts": facts.collect::<Map<_, _>>(),
            "parameters": question.parameters,
            "prior": question.prior,
        },
    })
}
