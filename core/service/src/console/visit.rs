//! Who is signed in: sessions of browsers, kept in memory. A restart signs everybody out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_schemas::Timestamp;
use sha2::{Digest, Sha256};

use crate::approval::Approver;
use crate::config::Role;

/// Sessions at once. Beyond it the one that was idle longest ends: only people who can sign in can fill it.
const VISITS_MAX: usize = 2_000;
/// Names the channel in receipts.
const CHANNEL: &str = "console";

/// A person, as they proved themselves at sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// How they proved it: `password`, `oidc` or `oidc+mfa`.
    pub(crate) assurance: &'static str,
    pub(crate) groups: Vec<String>,
    /// Their own ids at the vendors.
    pub(crate) identities: Vec<String>,
    /// As receipts have it.
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    /// As the page shows it.
    pub(crate) shown: String,
}

impl Person {
    pub(crate) fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The person as the one pipeline knows approvers.
    pub(crate) fn approver(&self) -> Approver {
        Approver {
            assurance: self.assurance.into(),
            channel: CHANNEL.into(),
            groups: self.groups.clone(),
            identities: self.identities.clone(),
            name: self.name.clone(),
        }
    }
}

/// A browser's session.
#[derive(Clone)]
pub(crate) struct Visit {
    began: Timestamp,
    /// What every form of this session carries.
    pub(crate) csrf: String,
    pub(crate) key: VisitKey,
    pub(crate) person: Arc<Person>,
    seen: Timestamp,
}

/// SHA-256 of a session's id: what is kept, so that looking one up tells nothing about the others.
pub(crate) type VisitKey = [u8; 32];

/// The sessions.
pub(crate) struct Visits {
    idle: Duration,
    life: Duration,
    open: Mutex<HashMap<VisitKey, Visit>>,
}

impl Visits {
    pub(crate) fn new(idle: Duration, life: Duration) -> Self {
        Self { idle, life, open: Mutex::default() }
    }

    /// Begins a session. The text is its id, for the cookie alone; `None` when the system gives no randomness.
    pub(crate) fn begin(&self, person: Person, now: Timestamp) -> Option<String> {
        let id = random()?;
        let key = key(&id);
        let visit = Visit { began: now, csrf: random()?, key, person: Arc::new(person), seen: now };
        let mut open = self.open();
        open.retain(|_, visit| self.is_open(visit, now));
        if open.len() >= VISITS_MAX {
            let idlest = open.values().min_by_key(|visit| visit.seen).map(|visit| visit.key);
            idlest.map(|key| open.remove(&key));
        }
        open.insert(key, visit);
        Some(id)
    }

    /// The session of this id. `active` means that a person did something, as opposed to a page refreshing itself.
    pub(crate) fn find(&self, id: &str, now: Timestamp, active: bool) -> Option<Visit> {
        self.look(&key(id), now, active)
    }

    /// Whether the session still lasts.
    pub(crate) fn lasts(&self, key: &VisitKey, now: Timestamp) -> bool {
        self.look(key, now, false).is_some()
    }

    /// Ends a session.
    pub(crate) fn end(&self, key: &VisitKey) {
        self.open().remove(key);
    }

    fn look(&self, key: &VisitKey, now: Timestamp, active: bool) -> Option<Visit> {
        let mut open = self.open();
        let visit = open.get_mut(key)?;
        if !self.is_open(visit, now) {
            open.remove(key);
            return None;
        }
        if active {
            visit.seen = now;
        }
        Some(visit.clone())
    }

    fn is_open(&self, visit: &Visit, now: Timestamp) -> bool {
        visit.seen.until(now) < self.idle && visit.began.until(now) < self.life
    }

    fn open(&self) -> MutexGuard<'_, HashMap<VisitKey, Visit>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 256 random bits as text.
pub(crate) fn random() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a secret text.
pub(crate) fn key(id: &str) -> VisitKey {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str) -> Person {
        Person {
            assurance: "password",
            groups: Vec::new(),
            identities: Vec::new(),
            name: name.into(),
            roles: vec![Role::Viewer],
            shown: name.into(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn a_session_ends_when_it_idles_and_a_refresh_does_not_keep_it() {
        let visits = Visits::new(Duration::from_secs(100), Duration::from_secs(250));
        let id = visits.begin(person("ann"), at(0)).unwrap();
        assert!(visits.find(&id, at(99), true).is_some());
        assert!(visits.find(&id, at(198), false).is_some());
        assert!(visits.find(&id, at(199), false).is_none(), "nobody clicked for 100 s");
    }

    #[test]
    fn a_session_ends_however_busy_it_is() {
        let visits = Visits::new(Duration::from_secs(100), Duration::from_secs(250));
        let id = visits.begin(person("ann"), at(0)).unwrap();
        for seconds in [90, 180, 249] {
            assert!(visits.find(&id, at(seconds), true).is_some());
        }
        assert!(visits.find(&id, at(250), true).is_none());
    }

    #[test]
    fn an_id_that_was_signed_out_or_never_given_opens_nothing() {
        let visits = Visits::new(Duration::from_secs(100), Duration::from_secs(250));
        let id = visits.begin(person("ann"), at(0)).unwrap();
        let visit = visits.find(&id, at(1), true).unwrap();
        assert!(visits.find(&format!("{id}x"), at(1), true).is_none());
        visits.end(&visit.key);
        assert!(visits.find(&id, at(1), true).is_none());
    }

    #[test]
    fn the_sessions_are_bounded_and_the_idlest_goes_first() {
        let visits = Visits::new(Duration::from_secs(10_000), Duration::from_secs(10_000));
        let ids: Vec<_> =
            (0..=VISITS_MAX).map(|n| visits.begin(person("ann"), at(n as i64)).unwrap()).collect();
        assert!(visits.find(&ids[0], at(3_000), true).is_none());
        assert!(visits.find(&ids[1], at(3_000), true).is_some());
    }
}
