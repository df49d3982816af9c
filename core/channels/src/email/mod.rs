//! E-mail with a signed link. The link shows the question; only the form on that page answers it, because mail
//! scanners follow links. A link is for one approver and the questions it names, and ends with them.

mod link;
mod page;

use std::time::Duration;

use async_trait::async_trait;
use countersign_sdk::channel::{
    Ask, Channel, ChannelKind, ChannelTraits, Click, HearError, Heard, Message, Outcome, Sent, Told,
};
use countersign_sdk::parse::{cut, sha256_hex};
use countersign_sdk::schemas::{Assurance, Timestamp};
use countersign_sdk::{
    CallError, Caller, ConnectError, Env, Inbound, Reply, SecretRef, Site, Unverified, Verified, VerifyError,
};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::wrong;
use link::{Link, Links};

const TIMEOUT: Duration = Duration::from_secs(10);
const COMMENT_CHARS: usize = 1_000;

/// Settings of an `email` channel. Addresses are e-mail addresses of people: a link to many could not tell who
/// answered.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The SMTP server.
    pub host: String,
    /// Its port; 465 for TLS from the start, 587 for STARTTLS.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// The user name, when the server wants one.
    #[serde(default)]
    pub username: Option<String>,
    /// The password, when the server wants one.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// The sender, for example `Countersign <countersign@example.com>`.
    pub from: String,
    /// Signs the links; at least 32 characters. Changing it ends every link.
    pub link_secret: SecretRef,
}

/// How the connection to the SMTP server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// From the start.
    #[default]
    Wrapper,
    /// Begun by STARTTLS, which the server must offer.
    Starttls,
    /// Not at all: only for a server on this machine.
    None,
}

/// The kind.
pub struct Email;

impl ChannelKind for Email {
    const NAME: &'static str = "email";
    type Settings = Settings;

    fn traits() -> ChannelTraits {
        ChannelTraits { assurance: "mail_link", rooms: false, changes: true }
    }

    fn setup(site: &Site) -> String {
        format!(
            "1. Make an account for sending at your mail provider; put its SMTP server under `host`, its name under \
             `username`, its password where `password` of channel `{name}` points.\n\
             2. Put at least 32 random characters where `link_secret` points.\n\
             3. Give every approver their address: `[approvers.NAME.channels]` `{name} = \"ann@example.com\"`.\n\
             4. Allow the connection: add the server's name to `[egress] allow_hosts`.\n\
             5. Links lead to `{url}/…`, so approvers' browsers must reach it. Tell your mail scanner that it need \
             not: a link that is only followed decides nothing, but it shows the question.\n\
             6. Whoever reads an approver's mail can answer for them: let grave policies ask in a stronger channel.\n",
            name = site.instance,
            url = site.channel_url(),
        )
    }

    fn connect(settings: Settings, env: &Env<'_>) -> Result<Box<dyn Channel>, ConnectError> {
        let from: Mailbox = settings.from.parse().map_err(|_| wrong("from", "is not an e-mail address"))?;
        let secret = env.secret("link_secret", &settings.link_secret)?;
        if secret.expose().chars().count() < 32 {
            return Err(wrong("link_secret", "holds fewer than 32 characters"));
        }
        let links = Links::new(secret, format!("{}/channels/{}", env.public_url, env.instance));
        Ok(Box::new(Connected { from, links, transport: transport(&settings, env)? }))
    }
}

fn transport(settings: &Settings, env: &Env<'_>) -> Result<AsyncSmtpTransport<Tokio1Executor>, ConnectError> {
    let host = settings.host.as_str();
    let local = matches!(host, "127.0.0.1" | "localhost" | "::1");
    if settings.tls == Tls::None && !local {
        return Err(wrong("tls", "`none` is for a server on this machine"));
    }
    let builder = match settings.tls {
        Tls::Wrapper => AsyncSmtpTransport::<Tokio1Executor>::relay(host),
        Tls::Starttls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host),
        Tls::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)),
    };
    let mut builder = builder.map_err(|error| wrong("host", error.to_string()))?;
    let port = settings.port.unwrap_or(match settings.tls {
        Tls::Wrapper => 465,
        Tls::Starttls => 587,
        Tls::None => 25,
    });
    // The list is of hosts, whatever is spoken with them.
    env.egress.check(&format!("https://{host}:{port}")).map_err(|error| wrong("host", error.to_string()))?;
    builder = builder.port(port).timeout(Some(TIMEOUT));
    if let (Some(name), Some(password)) = (&settings.username, &settings.password) {
        let password = env.secret("password", password)?;
        builder = builder.credentials(Credentials::new(name.clone(), password.expose().to_owned()));
    }
    let name = env.public_url.split("://").nth(1).and_then(|rest| rest.split([':', '/']).next());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        builder = builder.hello_name(ClientId::Domain(name.to_owned()));
    }
    Ok(builder.build())
}

struct Connected {
    from: Mailbox,
    links: Links,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

#[async_trait]
impl Channel for Connected {
    async fn ask(&self, ask: &Ask<'_>, _now: Timestamp) -> Result<Sent, CallError> {
        let to: Mailbox = ask
            .to
            .address
            .parse()
            .map_err(|_| CallError::Permanent("an approver's e-mail address is not one".into()))?;
        let url = self.links.url(&Link::of(ask));
        let parts =
            MultiPart::alternative_plain_html(page::text(ask.question, &url), page::mail(ask.question, &url));
        // The same for a repetition of the same mail, so that a reader's client can tell.
        let id = format!(
            "<{}@{}>",
            &sha256_hex(format!("{} {to}", ask.reference).as_bytes())[..32],
            self.from.email.domain()
        );
        let mail = lettre::Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(format!("Approval needed: {}", ask.question.title))
            .message_id(Some(id.clone()))
            .multipart(parts)
            .map_err(|error| CallError::Permanent(error.to_string()))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(Sent { message: Message(json!({"id": id})), poll_at: None }),
            Err(error) if error.is_permanent() => Err(CallError::Permanent(format!("SMTP: {error}"))),
            Err(error) => Err(CallError::Retry(format!("SMTP: {error}"))),
        }
    }

    /// A mail cannot be changed; its link shows what is so now.
    async fn update(&self, _message: &Message, _ask: &Ask<'_>, _now: Timestamp) -> Result<(), CallError> {
        Ok(())
    }

    /// A mail cannot be changed; its link says that the question is closed.
    async fn replace(
        &self,
        _message: &Message,
        _outcome: &Outcome,
        _now: Timestamp,
    ) -> Result<(), CallError> {
        Ok(())
    }

    fn verify(&self, request: &Inbound<Unverified>, now: Timestamp) -> Result<Caller, VerifyError> {
        let link = self.links.read(&token(&request.path, &request.body)?, now)?;
        let claims = json!({"reference": link.reference, "who": link.who});
        let Value::Object(claims) = claims else { return Err(VerifyError::Mismatch) };
        let assurance = Assurance::OauthVerified;
        Ok(Caller { assurance, claims, verified_by: "signed-link", ..Caller::default() })
    }

    fn read(&self, request: &Inbound<Verified>, _now: Timestamp) -> Result<Heard, HearError> {
        let claim = |name: &str| {
            let value = request.caller().claims.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| HearError(format!("the link has no {name}")))
        };
        let (reference, who) = (claim("reference")?, claim("who")?);
        // A link that is followed has no body; the form's POST has.
        if request.body.is_empty() {
            return Ok(Heard::Look { reference, who });
        }
        let field = |name: &str| {
            form_urlencoded::parse(&request.body)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let approved = match field("answer").as_deref() {
            Some("approve") => true,
            Some("deny") => false,
            _ => return Err(HearError("the form has no `answer`".into())),
        };
        let comment = field("comment").filter(|comment| !comment.trim().is_empty());
        let comment = comment.map(|comment| cut(&comment, COMMENT_CHARS).to_owned());
        Ok(Heard::Click(Click { approved, comment, reference, who, ..Click::default() }))
    }

    fn answer(&self, _heard: &Heard, told: &Told<'_>, _now: Timestamp) -> Reply {
        let html = match told {
            Told::Asked(ask) => page::question(ask.question, &self.links.token(&Link::of(ask))),
            Told::Settled { approved: true } => page::notice("Approved", "Your answer is on record."),
            Told::Settled { approved: false } => page::notice("Denied", "Your answer is on record."),
            Told::Counted { approved, quorum } => {
                page::notice("Counted", &format!("{approved} of {quorum} approvals so far."))
            }
            Told::Taken => page::notice("Taken", "Your answer is being put on record."),
            Told::Refused(why) => page::notice("Not taken", why),
        };
        let status = if matches!(told, Told::Refused(_)) { 409 } else { 200 };
        Reply { body: html.into_bytes(), content_type: "text/html; charset=utf-8".into(), status }
    }
}

/// The link's token is the path; the form's is a field, made when the page was.
fn token(path: &str, body: &[u8]) -> Result<String, VerifyError> {
    if body.is_empty() {
        return Ok(path.to_owned());
    }
    let field = form_urlencoded::parse(body).find(|(name, _)| name == "token");
    field.map(|(_, value)| value.into_owned()).ok_or_else(|| VerifyError::Token("the form has none".into()))
}
