//! What a person's agents did lately, whichever vendor they came through.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_engine::ledger::Found;
use countersign_receipt::open_disclosure;
use countersign_schemas::{
    Assurance, Context, Human, Identity, Person, Predicate, SessionId, Statement, Timestamp,
};
use countersign_store::StoredLeaf;

use crate::export::statement_of;

/// How far back it is remembered.
pub(crate) const WINDOW: Duration = Duration::from_secs(60 * 60);
/// Sessions of one person; the oldest is forgotten first.
const SESSIONS_MAX: usize = 32;
/// People; beyond it, those who did nothing for [`WINDOW`] are forgotten, and new ones are not remembered.
const PEOPLE_MAX: usize = 50_000;

/// The people.
#[derive(Default)]
pub(crate) struct People(Mutex<HashMap<String, VecDeque<Session>>>);

struct Session {
    at: Timestamp,
    denied_count: u64,
    found: Found,
    id: SessionId,
    vendor: String,
}

impl People {
    /// Who this is: by e-mail address or directory id (a GUID, as Entra gives) across vendors; by any other id within
    /// its vendor, where alone it means one person. Nobody, unless something better than the client's own word
    /// vouches for it.
    pub(crate) fn key(identity: &Identity, vendor: &str) -> Option<String> {
        let human = identity.human.as_ref().filter(|_| identity.assurance > Assurance::ClientAsserted)?;
        let id = match human.email.as_deref() {
            Some(email) => countersign_sdk::parse::human(email).id,
            None => human.id.clone(),
        };
        match id.as_str() {
            "" => None,
            everywhere if everywhere.starts_with("email-") || is_guid(everywhere) => Some(id),
            of_vendor => Some(format!("{vendor}/{of_vendor}")),
        }
    }

    /// What the other sessions of `key` did.
    pub(crate) fn others(&self, key: &str, than: &SessionId, now: Timestamp) -> Person {
        let people = self.lock();
        let mut person = Person::default();
        let (mut labels, mut vendors) = (BTreeSet::new(), BTreeSet::new());
        for session in people.get(key).into_iter().flatten().filter(|session| is_recent(session, now)) {
            if session.id == *than {
                continue;
            }
            person.sessions += 1;
            person.denied_count += session.denied_count;
            person.untrusted |= session.found.untrusted;
            labels.extend(session.found.labels.iter().cloned());
            vendors.insert(session.vendor.clone());
        }
        person.labels = labels.into_iter().collect();
        person.vendors = vendors.into_iter().collect();
        person
    }

    /// The newest other session of `key`, and what it touched: where handed-on work comes from.
    pub(crate) fn newest_other(
        &self,
        key: &str,
        than: &SessionId,
        now: Timestamp,
    ) -> Option<(SessionId, Found)> {
        let people = self.lock();
        let others = people.get(key)?.iter().filter(|session| session.id != *than && is_recent(session, now));
        let newest = others.max_by_key(|session| session.at)?;
        Some((newest.id.clone(), newest.found.clone()))
    }

    /// Notes how far a session of `key` has come.
    pub(crate) fn note(&self, key: String, id: &SessionId, vendor: &str, context: &Context, now: Timestamp) {
        let mut people = self.lock();
        if people.len() >= PEOPLE_MAX && !people.contains_key(&key) {
            people.retain(|_, sessions| sessions.iter().any(|session| is_recent(session, now)));
            if people.len() >= PEOPLE_MAX {
                return;
            }
        }
        let sessions = people.entry(key).or_default();
        sessions.retain(|session| session.id != *id && is_recent(session, now));
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(Session {
            at: now,
            denied_count: context.denied_count,
            found: Found {
                injection: context.injection,
                labels: context.labels.clone(),
                untrusted: context.untrusted,
            },
            id: id.clone(),
            vendor: vendor.to_owned(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose session a decision's receipt is of, at which vendor.
pub(crate) fn owner(leaf: &StoredLeaf) -> Option<(String, String)> {
    let statement: Statement = serde_json::from_value(statement_of(&leaf.bytes)).ok()?;
    let Predicate { identity, vendor, .. } = statement.predicate;
    let view = identity?;
    let disclosed = leaf.disclosure.as_deref().and_then(|text| open_disclosure(text).ok());
    let email = disclosed.and_then(|disclosed| disclosed.human_email);
    let human = view.human.map(|id| Human { email, id, name: None });
    let identity = Identity { assurance: view.assurance, human, ..Identity::default() };
    Some((People::key(&identity, &vendor.name)?, vendor.name))
}

/// RFC 9562's text form.
fn is_guid(id: &str) -> bool {
    let at = |place: usize, byte: u8| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(|(place, byte)| at(place, byte))
}

fn is_recent(session: &Session, now: Timestamp) -> bool {
    session.at.until(now) <= WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> SessionId {
        SessionId::derived(&[name])
    }

    fn touched(labels: &[&str]) -> Context {
        Context { labels: labels.iter().map(ToString::to_string).collect(), ..Context::default() }
    }

    #[test]
    fn a_person_is_the_same_at_every_vendor_and_nobody_on_their_own_word() {
        let identity = |assurance, id: &str, email: Option<&str>| Identity {
            assurance,
            human: Some(Human { id: id.to_owned(), email: email.map(str::to_owned), name: None }),
            ..Identity::default()
        };
        let key = |assurance, id, email, vendor| People::key(&identity(assurance, id, email), vendor);
        let by_id = countersign_sdk::parse::human("Ann@example.com").id;
        let ann = key(Assurance::VendorSigned, "guid-1", Some("ann@Example.com"), "anthropic");
        assert!(ann.is_some());
        assert_eq!(ann, key(Assurance::OauthVerified, &by_id, None, "copilot-studio"));
        assert_eq!(None, key(Assurance::ClientAsserted, "guid-1", Some("ann@example.com"), "anthropic"));
        let forty_one = |vendor| key(Assurance::VendorSigned, "41", None, vendor);
        assert_ne!(forty_one("github"), forty_one("generic"), "one number, two people");
        let guid =
            |vendor| key(Assurance::VendorSigned, "11112222-0000-1111-2222-333344445555", None, vendor);
        assert_eq!(guid("copilot-studio"), guid("generic"), "one directory entry, one person");
    }

    #[test]
    fn other_sessions_are_seen_for_an_hour_and_ones_own_is_not_among_them() {
        let people = People::default();
        people.note("ann".into(), &session("one"), "copilot-studio", &touched(&["PII"]), Timestamp(0));
        people.note("ann".into(), &session("two"), "claude-code", &touched(&["SECRET"]), Timestamp(1));
        people.note("bob".into(), &session("three"), "generic", &touched(&["PCI"]), Timestamp(1));
        let seen = people.others("ann", &session("two"), Timestamp(2));
        assert_eq!((1, ["PII".to_owned()].as_slice()), (seen.sessions, seen.labels.as_slice()));
        let both = people.others("ann", &session("new"), Timestamp(2));
        assert_eq!(["claude-code", "copilot-studio"], both.vendors.as_slice());
        assert_eq!(
            Some(session("two")),
            people.newest_other("ann", &session("new"), Timestamp(2)).map(|(id, _)| id)
        );
        let later = Timestamp(i64::try_from(WINDOW.as_millis()).unwrap() + 1);
        assert_eq!(1, people.others("ann", &session("new"), later).sessions);
    }

    #[test]
    fn sessions_of_a_person_are_bounded_and_the_oldest_goes_first() {
        let people = People::default();
        for number in 0..=SESSIONS_MAX {
            let name = number.to_string();
            people.note("ann".into(), &session(&name), "generic", &touched(&[&name]), Timestamp(0));
        }
        let seen = people.others("ann", &session("new"), Timestamp(0));
        assert_eq!(SESSIONS_MAX as u64, seen.sessions);
        assert!(!seen.labels.contains(&"0".to_owned()));
    }
}
