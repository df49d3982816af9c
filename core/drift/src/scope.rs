//! Scope expansion: the share of an action's resources that neither the request nor an earlier action named.
//!
//! Resources are hosts, folders, recipients, tables, the repository, the environment and the tool's server. The
//! request names a resource with any word of it that tells it apart; a server also with a word for what it is for
//! ("mail" names `gmail`).

use std::collections::HashSet;

use countersign_schemas::{Action, Degree, Prior};

use crate::lexicon::Lexicon;
use crate::words::{each_word, hash, stem};

/// How many resources a session may have named. One that touches more keeps counting as expanding.
const SEEN_MAX: usize = 128;
/// A folder is told apart by so many leading parts: `/home/ana/reports`.
const FOLDER_PARTS: usize = 3;
/// Parts of paths and hosts that tell nothing apart.
const COMMON: &[&str] = &[
    "home", "usr", "var", "etc", "srv", "tmp", "opt", "src", "lib", "www", "com", "org", "net", "example",
    "http", "https", "index", "main",
];

/// Adds what the action uses. Note only actions that were allowed: what was refused widened nothing.
pub fn note(prior: &mut Prior, action: &Action) {
    for resource in resources(action) {
        if prior.0.len() < SEEN_MAX {
            prior.0.insert(resource.key());
        }
    }
}

/// The words of a request that can name a resource, and what they stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    words: HashSet<Box<str>>,
    meanings: HashSet<u64>,
}

impl Names {
    /// All of a request.
    pub(crate) fn of(request: &str) -> Self {
        let mut names = Self::default();
        each_word(request, |word| {
            names.words.insert(stem(word).into());
            names.meanings.extend(Lexicon::get().meanings(word));
        });
        names
    }

    fn name(&self, resource: &Resource<'_>) -> bool {
        let mut named = false;
        each_word(resource.text(), |word| {
            named |= word.len() > 2 && !COMMON.contains(&word) && self.words.contains(stem(word));
            if let Resource::Server(_) = resource {
                named |= Lexicon::get().meanings(word).iter().any(|meaning| self.meanings.contains(meaning));
            }
        });
        named
    }
}

/// What part of the action's resources is new. None when it uses none.
pub(crate) fn expansion(names: &Names, action: &Action, prior: &Prior) -> Degree {
    let all = resources(action);
    let new =
        all.iter().filter(|resource| !prior.0.contains(&resource.key()) && !names.name(resource)).count();
    Degree::ratio(count(new), count(all.len()))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[derive(Debug, PartialEq, Eq)]
enum Resource<'a> {
    Environment(&'a str),
    Folder { path: &'a str, folder: &'a str },
    Host(&'a str),
    Recipient(&'a str),
    Repository(&'a str),
    Server(&'a str),
    Table(&'a str),
}

impl Resource<'_> {
    /// What a request may name it by.
    fn text(&self) -> &str {
        match self {
            Self::Folder { path, .. } => path,
            // The last label names no organisation.
            Self::Host(host) => host.rsplit_once('.').map_or(*host, |(labels, _)| labels),
            Self::Repository(name) => name.rsplit('/').next().unwrap_or(name),
            Self::Environment(text) | Self::Recipient(text) | Self::Server(text) | Self::Table(text) => text,
        }
    }

    /// 52 bits, because signed payloads hold no larger number.
    fn key(&self) -> u64 {
        let (kind, text) = match self {
            Self::Environment(text) => (0, *text),
            Self::Folder { folder, .. } => (1, *folder),
            Self::Host(text) => (2, *text),
            Self::Recipient(text) => (3, *text),
            Self::Repository(text) => (4, *text),
            Self::Server(text) => (5, *text),
            Self::Table(text) => (6, *text),
        };
        hash(std::iter::once(kind).chain(text.bytes().map(|byte| byte.to_ascii_lowercase()))) >> 12
    }
}

fn resources(action: &Action) -> Vec<Resource<'_>> {
    let facets = &action.facets;
    let folders = facets.paths.iter().map(|path| Resource::Folder { path, folder: folder(path) });
    let hosts = facets.hosts.iter().map(|host| Resource::Host(host));
    let recipients = facets.recipients.iter().map(|recipient| Resource::Recipient(recipient));
    let tables = facets.tables.iter().map(|table| Resource::Table(table));
    let singles = [
        facets.environment.as_deref().map(Resource::Environment),
        facets.repository.as_deref().map(Resource::Repository),
        // A product's own tools are where the agent lives; only a server is somewhere else.
        action.tool.server.as_deref().map(Resource::Server),
    ];
    singles.into_iter().flatten().chain(folders).chain(hosts).chain(recipients).chain(tables).collect()
}

fn folder(path: &str) -> &str {
    let mut slashes = path.match_indices('/').skip(usize::from(path.starts_with('/')));
    let parent = path.rfind('/').unwrap_or(0);
    slashes.nth(FOLDER_PARTS - 1).map_or(&path[..parent], |(at, _)| &path[..at.min(parent)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_first_three_parts() {
        for (path, want) in [
            ("/home/ana/reports/2026/q3.md", "/home/ana/reports"),
            ("/home/ana/.bashrc", "/home/ana"),
            ("src/api/v1/deep/list.rs", "src/api/v1"),
            ("README.md", ""),
            ("/etc/passwd", "/etc"),
        ] {
            assert_eq!(want, folder(path), "{path}");
        }
    }

    #[test]
    fn names_of_resources_cannot_be_read_from_the_prior() {
        let mut prior = Prior::default();
        prior.0.insert(Resource::Recipient("ann@acme.example").key());
        let text = serde_json::to_string(&prior).unwrap();
        assert!(text.chars().all(|c| c.is_ascii_digit() || "[],".contains(c)), "{text}");
        assert!(
            prior.0.contains(&Resource::Recipient("Ann@acme.example").key())
                && !prior.0.contains(&Resource::Table("ann@acme.example").key())
        );
    }
}
