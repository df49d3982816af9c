//! Asks a running server. The token goes to that server and nowhere else: no redirect is followed, and plain HTTP is
//! for loopback only.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use countersign_sdk::{Secret, SecretRef};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{Globals, Remote};
use crate::site;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pieces of an answer. An export as a whole may take long.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest list that the server gives is a thousand receipts.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const TOKEN_VARIABLE: &str = "COUNTERSIGN_TOKEN";

/// A server, and who we are to it.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Secret,
}

impl Client {
    /// The server and token that the arguments, the environment or the configuration name.
    ///
    /// # Errors
    ///
    /// When none of them does, or what they name cannot be used.
    pub(crate) fn new(remote: &Remote, globals: &Globals) -> anyhow::Result<Self> {
        let server = match &remote.server {
            Some(server) => server.clone(),
            None => own_server(&site::load(&globals.config)?.server.listen)?,
        };
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, server: check(&server)?, token: token(remote, globals)? })
    }

    /// Gets JSON.
    ///
    /// # Errors
    ///
    /// What the server said, or why it could not be asked.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> anyhow::Result<T> {
        read(self.send(self.request(Method::GET, path)?.query(query)).await?).await
    }

    /// Posts JSON and gets JSON.
    ///
    /// # Errors
    ///
    /// Like [`Client::get`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        read(self.send(self.request(Method::POST, path)?.json(body)).await?).await
    }

    /// Gets an answer of any length, piece by piece, into `out`. An answer that was cut is an error.
    ///
    /// # Errors
    ///
    /// Like [`Client::get`], or when `out` cannot be written to.
    pub(crate) async fn download(
        &self,
        path: &[&str],
        query: &impl Serialize,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let mut response = self.send(self.request(Method::GET, path)?.query(query)).await?;
        while let Some(piece) = response.chunk().await.context("the answer was cut off")? {
            out.write_all(&piece)?;
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &[&str]) -> anyhow::Result<RequestBuilder> {
        let mut url = self.server.clone();
        let segments = url.path_segments_mut();
        segments.map_err(|()| anyhow!("`{}` cannot have a path", self.server))?.pop_if_empty().extend(path);
        Ok(self.http.request(method, url).bearer_auth(self.token.expose()))
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(reqwest::Error::without_url);
        let response = response.with_context(|| format!("cannot ask the server at {}", self.server))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body: Value = serde_json::from_slice(&bytes(response).await?).unwrap_or_default();
        let said =
            |key: &str| body.pointer(&format!("/error/{key}")).and_then(Value::as_str).map(str::to_owned);
        match (said("message"), said("code")) {
            (Some(message), Some(code)) => bail!("{message} ({code}, HTTP {})", status.as_u16()),
            _ => bail!(
                "the server answered HTTP {}; is {} a Countersign server?",
                status.as_u16(),
                self.server
            ),
        }
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    serde_json::from_slice(&bytes(response).await?)
        .context("the server's answer is not what this version knows")
}

async fn bytes(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.context("the answer was cut off")? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            bail!("the server's answer is longer than {ANSWER_BYTES_MAX} bytes");
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Where a server with this `server.listen` is reached from the same machine.
fn own_server(listen: &str) -> anyhow::Result<String> {
    let Ok(mut address) = listen.parse::<SocketAddr>() else { return Ok(format!("http://{listen}")) };
    if address.port() == 0 {
        bail!("`server.listen` leaves the port to the system: say which with --server");
    }
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    Ok(format!("http://{address}"))
}

fn check(server: &str) -> anyhow::Result<Url> {
    let url = Url::parse(server).with_context(|| format!("`{server}` is not a URL"))?;
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => bail!("`{server}`: a token is sent to another machine over https only"),
        _ => bail!("`{server}` is neither http nor https"),
    }
}

fn token(remote: &Remote, globals: &Globals) -> anyhow::Result<Secret> {
    let beside = || SecretRef::File(site::folder(&globals.config).join("keys/operator.token"));
    let reference = match &remote.token_file {
        Some(file) => SecretRef::File(file.clone()),
        None if site::environment(TOKEN_VARIABLE).is_some() => SecretRef::Env(TOKEN_VARIABLE.into()),
        None => beside(),
    };
    let hint = format!("no API token: give --token-file or {TOKEN_VARIABLE}");
    reference.read(&site::environment).context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leaves_the_machine_over_https_only() {
        for (server, allowed) in [
            ("https://countersign.example.com", true),
            ("http://127.0.0.1:8787", true),
            ("http://[::1]:8787", true),
            ("http://10.0.0.1:8787", false),
            ("http://127.0.0.1.evil.example", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(allowed, check(server).is_ok(), "{server}");
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        assert_eq!("http://127.0.0.1:8787", own_server("0.0.0.0:8787").unwrap());
        assert_eq!("http://[::1]:8787", own_server("[::]:8787").unwrap());
        assert_eq!("http://localhost:1", own_server("localhost:1").unwrap());
        assert!(own_server("127.0.0.1:0").is_err());
    }
}
