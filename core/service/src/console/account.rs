//! The one account with a password. Its hash is kept, never the password; attempts are few and checked two at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::{
    Error as HashError, PasswordHash, PasswordHashString, PasswordHasher as _, SaltString,
};
use argon2::{Argon2, PasswordVerifier as _};
use countersign_schemas::Timestamp;
use countersign_sdk::{Secret, SecretError};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::refusal::Refusal;
use super::settings::BootstrapSettings;
use super::visit::Person;

/// Guesses that anybody may make in a minute: a person needs a few, a guesser needs millions.
const ATTEMPTS_MAX: usize = 10;
const ATTEMPTS_IN: Duration = Duration::from_secs(60);
/// A check takes 19 MiB and a processor for some ten milliseconds.
const CHECKS_AT_ONCE: usize = 2;
/// A shorter password is guessed.
const PASSWORD_BYTES_MIN: usize = 12;
const PASSWORD_BYTES_MAX: usize = 1_024;

/// The account cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the password is shorter than {PASSWORD_BYTES_MIN} bytes: give a longer one, or its Argon2 hash")]
    Short,
    #[error("the hash cannot be used: {0}")]
    Hash(HashError),
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// The account.
pub(crate) struct Account {
    attempts: Mutex<VecDeque<Timestamp>>,
    checks: Semaphore,
    hash: Arc<PasswordHashString>,
    person: Person,
}

impl Account {
    /// # Errors
    ///
    /// [`AccountError`] when the password is missing, too short or not a usable hash.
    pub(crate) fn new(
        settings: &BootstrapSettings,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, AccountError> {
        let password = settings.password.read(lookup)?;
        let hash =
            if password.expose().starts_with("$argon2") { given(&password)? } else { hash(&password)? };
        let person = Person {
            assurance: "password",
            groups: settings.groups.clone(),
            identities: settings.identities.clone(),
            name: settings.name.clone(),
            roles: settings.roles.clone(),
            shown: settings.name.clone(),
        };
        let attempts = Mutex::default();
        Ok(Self { attempts, checks: Semaphore::new(CHECKS_AT_ONCE), hash: Arc::new(hash), person })
    }

    /// The person, when name and password are right. Takes as long when the name is wrong.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooMany`] when somebody tries too often.
    pub(crate) async fn check(
        &self,
        name: &str,
        password: Secret,
        now: Timestamp,
    ) -> Result<Option<Person>, Refusal> {
        self.count(now)?;
        if password.expose().len() > PASSWORD_BYTES_MAX {
            return Ok(None);
        }
        let _turn = self.checks.try_acquire().map_err(|_| Refusal::TooMany)?;
        let hash = self.hash.clone();
        let verify = move || {
            Argon2::default().verify_password(password.expose().as_bytes(), &hash.password_hash()).is_ok()
        };
        let right = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
        let named = bool::from(name.as_bytes().ct_eq(self.person.name.as_bytes()));
        Ok((right && named).then(|| self.person.clone()))
    }

    fn count(&self, now: Timestamp) -> Result<(), Refusal> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        while attempts.front().is_some_and(|at| at.until(now) >= ATTEMPTS_IN) {
            attempts.pop_front();
        }
        if attempts.len() >= ATTEMPTS_MAX {
            return Err(Refusal::TooMany);
        }
        attempts.push_back(now);
        Ok(())
    }
}

/// A hash that was made elsewhere. One without its last part parses, and no password would ever fit it.
fn given(hash: &Secret) -> Result<PasswordHashString, AccountError> {
    let parsed = PasswordHash::new(hash.expose()).map_err(AccountError::Hash)?;
    let complete = parsed.salt.is_some() && parsed.hash.is_some();
    if complete { Ok(parsed.serialize()) } else { Err(AccountError::Hash(HashError::PhcStringField)) }
}

fn hash(password: &Secret) -> Result<PasswordHashString, AccountError> {
    if password.expose().len() < PASSWORD_BYTES_MIN {
        return Err(AccountError::Short);
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(AccountError::Randomness)?;
    let salt = SaltString::encode_b64(&salt).map_err(AccountError::Hash)?;
    let hash: PasswordHash<'_> =
        Argon2::default().hash_password(password.expose().as_bytes(), &salt).map_err(AccountError::Hash)?;
    Ok(hash.serialize())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made for `countersign rocks` by argon2-cffi 25.1.0 (PyPI), which wraps the reference implementation.
    const HASH: &str =
        "$argon2id$v=19$m=64,t=1,p=1$MiHbraQGkztfWHi3r4LBwQ$lDy1Npu2Nf36BIUhHPEEvGUqv/kcXAhmxvWlaWhXoqE";

    fn account(password: &str) -> Result<Account, AccountError> {
        let settings = serde_json::from_value(json!({"password": {"env": "P"}})).unwrap();
        let password = password.to_owned();
        Account::new(&settings, &move |_| Some(password.clone()))
    }

    async fn signs_in(account: &Account, name: &str, password: &str) -> bool {
        account.check(name, Secret::new(password), Timestamp(0)).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn only_the_right_name_with_the_right_password_signs_in() {
        let account = account("correct horse battery").unwrap();
        assert!(signs_in(&account, "admin", "correct horse battery").await);
        assert!(!signs_in(&account, "admin", "correct horse batterz").await);
        assert!(!signs_in(&account, "root", "correct horse battery").await);
        assert!(!signs_in(&account, "admin", "").await);
    }

    #[tokio::test]
    async fn the_eleventh_guess_in_a_minute_is_not_even_checked() {
        let account = account("correct horse battery").unwrap();
        for _ in 0..ATTEMPTS_MAX {
            assert!(account.check("admin", Secret::new("x"), Timestamp(0)).await.unwrap().is_none());
        }
        let right = || Secret::new("correct horse battery");
        assert!(account.check("admin", right(), Timestamp(59_999)).await.is_err());
        assert!(account.check("admin", right(), Timestamp(60_000)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_hash_made_elsewhere_is_taken_instead_of_the_password() {
        let account = account(HASH).unwrap();
        assert!(signs_in(&account, "admin", "countersign rocks").await);
        assert!(!signs_in(&account, "admin", HASH).await);
    }

    #[test]
    fn a_password_that_is_short_or_a_hash_that_is_none_stops_the_start() {
        assert!(matches!(account("short"), Err(AccountError::Short)));
        assert!(matches!(account("$argon2id$nonsense"), Err(AccountError::Hash(_))));
    }
}
