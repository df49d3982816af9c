//! What GitHub sends: the few fields that we read, all of them optional, because GitHub's own description makes them
//! so and recorded deliveries differ from it. Everything else stays JSON.
//!
//! Source: `@octokit/openapi-webhooks` 12.1.0, `deployment-protection-rule-requested`, and a trimmed recorded delivery
//! in a public repository.

use countersign_sdk::parse;
use countersign_sdk::schemas::{Agent, Human};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

/// GitHub allows 255 characters in an environment's name.
const ENVIRONMENT_CHARS_MAX: usize = 255;

/// Fields that any event may have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Payload {
    pub(super) deployment: Option<Deployment>,
    pub(super) deployment_callback_url: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) installation: Option<Numbered>,
    pub(super) organization: Option<Numbered>,
    pub(super) repository: Option<Repository>,
    pub(super) sender: Option<Account>,
    pub(super) workflow_run: Option<Numbered>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Deployment {
    pub(super) creator: Option<Account>,
    pub(super) id: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Numbered {
    pub(super) id: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Repository {
    pub(super) full_name: String,
    pub(super) id: u64,
}

/// A user or a bot.
#[derive(Debug, Deserialize)]
pub(super) struct Account {
    pub(super) id: u64,
    pub(super) login: String,
    /// `User`, `Bot` or `Organization`; trimmed deliveries leave it out.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

impl Account {
    fn is_bot(&self) -> bool {
        self.kind.as_deref() == Some("Bot") || self.login.ends_with("[bot]")
    }

    fn is_person(&self) -> bool {
        !self.is_bot() && matches!(self.kind.as_deref(), Some("User") | None)
    }
}

impl Payload {
    /// Reads the fields; what is of another type than GitHub documents is an error.
    pub(super) fn read(body: &Map<String, Value>) -> Result<Self, String> {
        // Cloned, because the whole body is kept beside it.
        serde_path_to_error::deserialize(Value::Object(body.clone()))
            .map_err(|error| format!("`{}` is not what GitHub documents", error.path()))
    }

    /// The person behind it: who sent the event, else who made the deployment, whichever is a person.
    pub(super) fn human(&self) -> Option<Human> {
        let person = self.accounts().into_iter().flatten().find(|account| account.is_person())?;
        Some(Human { email: None, id: person.id.to_string(), name: Some(person.login.clone()) })
    }

    /// The bot that acts: who made the deployment, else who sent the event; without a bot, the workflow itself.
    pub(super) fn agent(&self) -> Agent {
        let [sender, creator] = self.accounts();
        let bot = [creator, sender].into_iter().flatten().find(|account| account.is_bot());
        match bot {
            Some(bot) => Agent { id: bot.login.clone(), kind: Some("bot".to_owned()), model: None },
            None => Agent { id: "github-actions".to_owned(), kind: Some("workflow".to_owned()), model: None },
        }
    }

    fn accounts(&self) -> [Option<&Account>; 2] {
        let creator = self.deployment.as_ref().and_then(|deployment| deployment.creator.as_ref());
        [self.sender.as_ref(), creator]
    }
}

/// A deployment that waits for us: everything that the answer needs is there and fits together.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) deployment_id: Option<u64>,
    pub(super) environment: String,
    pub(super) repository: String,
    pub(super) repository_id: u64,
    pub(super) run_id: u64,
}

impl Waiting {
    /// Checks a request against itself and against `api_base`. The URL in it is only compared, never called: whoever
    /// could choose it would get our token.
    pub(super) fn read(payload: &Payload, api_base: &str) -> Result<Self, String> {
        let repository = payload.repository.as_ref().ok_or("`repository` is missing")?;
        if !is_full_name(&repository.full_name) {
            return Err("`repository.full_name` is not owner and name".to_owned());
        }
        let environment = payload.environment.clone().ok_or("`environment` is missing")?;
        if environment.is_empty() || parse::cut(&environment, ENVIRONMENT_CHARS_MAX) != environment {
            return Err("`environment` is not 1 to 255 characters long".to_owned());
        }
        // The one field that no other event has. The event's name is in a header, and headers are not signed.
        let url = payload.deployment_callback_url.as_deref().ok_or("`deployment_callback_url` is missing")?;
        let run_id = run_of(url).ok_or("`deployment_callback_url` names no run")?;
        let expected = format!("{api_base}{}", rule_path(&repository.full_name, run_id));
        if Url::parse(url).ok() != Url::parse(&expected).ok() {
            return Err(
                "`deployment_callback_url` is not this repository's at the configured `api_base`".to_owned()
            );
        }
        if payload.workflow_run.as_ref().is_some_and(|run| run.id != run_id) {
            return Err("`workflow_run` and `deployment_callback_url` name different runs".to_owned());
        }
        if payload.installation.is_none() {
            return Err("`installation` is missing".to_owned());
        }
        Ok(Self {
            deployment_id: payload.deployment.as_ref().and_then(|deployment| deployment.id),
            environment,
            repository: repository.full_name.clone(),
            repository_id: repository.id,
            run_id,
        })
    }
}

/// Path of a run below the API base.
pub(super) fn run_path(repository: &str, run_id: u64) -> String {
    format!("/repos/{repository}/actions/runs/{run_id}")
}

/// Path that takes the answer for a run.
pub(super) fn rule_path(repository: &str, run_id: u64) -> String {
    format!("{}/deployment_protection_rule", run_path(repository, run_id))
}

fn run_of(url: &str) -> Option<u64> {
    url.strip_suffix("/deployment_protection_rule")?.rsplit('/').next()?.parse().ok()
}

/// Whether it is `owner/name` of characters that need no escaping in a path.
pub(super) fn is_full_name(text: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= 100
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}
