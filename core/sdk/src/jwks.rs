//! Keys of token issuers (RFC 7517). They are fetched in the background, never while a request is verified: our
//! own outage must not become the vendor's "no answer".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::http::Egress;

/// How often keys are fetched when nothing asks for more.
const REFRESH_EVERY: Duration = Duration::from_secs(15 * 60);
/// How soon after a failure, or after a token with a key we do not know, they are fetched again.
const RETRY_AFTER: Duration = Duration::from_secs(20);

/// The keys of one issuer. Cheap to clone.
#[derive(Clone)]
pub struct KeySet {
    keys: Arc<RwLock<Option<JwkSet>>>,
    wanted: Arc<Notify>,
}

impl KeySet {
    /// Keys that are known beforehand and never fetched.
    #[must_use]
    pub fn fixed(keys: JwkSet) -> Self {
        Self { keys: Arc::new(RwLock::new(Some(keys))), wanted: Arc::new(Notify::new()) }
    }

    /// The key of this id. When it is not known, a refresh is asked for, and this call does not wait for it.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<Jwk> {
        let found = self.keys.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.find(kid).cloned();
        if found.is_none() {
            self.wanted.notify_one();
        }
        found
    }

    /// Whether keys have been fetched at least once.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn keep_fresh(self, url: String, egress: Egress) {
        loop {
            let wait = match egress.get_json::<JwkSet>(&url).await {
                Ok(keys) if !keys.keys.is_empty() => {
                    info!(jwks.url = %url, jwks.keys = keys.keys.len(), "fetched signing keys from {url}");
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                    REFRESH_EVERY
                }
                Ok(_) => {
                    warn!(jwks.url = %url, "{url} has no signing keys; the last good ones stay in use");
                    RETRY_AFTER
                }
                Err(error) => {
                    warn!(jwks.url = %url, %error, "cannot fetch signing keys from {url}; the last good ones stay in use");
                    RETRY_AFTER
                }
            };
            tokio::time::sleep(RETRY_AFTER).await;
            let rest = wait.saturating_sub(RETRY_AFTER);
            tokio::select! { () = tokio::time::sleep(rest) => {}, () = self.wanted.notified() => {} }
        }
    }
}

/// All key sets that connectors asked for, one per URL.
#[derive(Default)]
pub struct KeySets(Mutex<BTreeMap<String, KeySet>>);

impl KeySets {
    /// The keys published at `url`. Call while connecting; they stay empty until [`KeySets::start`].
    #[must_use]
    pub fn at(&self, url: &str) -> KeySet {
        let empty = || KeySet { keys: Arc::default(), wanted: Arc::new(Notify::new()) };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(url.to_owned())
            .or_insert_with(empty)
            .clone()
    }

    /// Takes the keys at `url` as known beforehand, for connectors that ask for them afterwards.
    pub fn preset(&self, url: &str, keys: JwkSet) {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _replaced = sets.insert(url.to_owned(), KeySet::fixed(keys));
    }

    /// Begins to fetch every set and to keep it fresh. Returns the tasks, which never end by themselves.
    pub fn start(&self, egress: &Egress) -> Vec<tokio::task::JoinHandle<()>> {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = |(url, set): (&String, &KeySet)| {
            tokio::spawn(set.clone().keep_fresh(url.clone(), egress.clone()))
        };
        sets.iter().map(start).collect()
    }

    /// URLs whose keys have not arrived yet, for `/readyz`.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sets.iter().filter(|(_, set)| !set.ready()).map(|(url, _)| url.clone()).collect()
    }
}
