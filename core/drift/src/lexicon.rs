//! The word lists of `data/`, read once. They are compiled in, so they are part of the crate's version.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::deed::{Deed, Deeds};
use crate::words::{hash, stem};

/// A word that begins like a verb and ends so is a noun, or an English participle: `Überweisung`, `remboursement`.
const NOUN_ENDINGS: &[&str] =
    &["ung", "ungen", "nis", "nisse", "ion", "ions", "cion", "ciones", "ment", "ments", "ory", "ee", "ed"];

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon {
    verbs: Verbs::parse(include_str!("../data/verbs.txt")),
    programs: entries(include_str!("../data/programs.txt"))
        .flat_map(|(deed, programs)| programs.split_whitespace().map(move |program| (program, deed)))
        .filter_map(|(program, deed)| Some((program, Deed::named(deed)?)))
        .collect(),
    meanings: meanings(include_str!("../data/thesaurus.txt")),
    stopwords: lines(include_str!("../data/stopwords.txt")).flat_map(str::split_whitespace).collect(),
});

/// Everything the word lists say.
pub(crate) struct Lexicon {
    /// What the verbs of a request grant.
    pub(crate) verbs: Verbs,
    /// What a program of a shell command does; a subcommand follows after `_`.
    pub(crate) programs: HashMap<&'static str, Deed>,
    meanings: HashMap<&'static str, Vec<u64>>,
    stopwords: HashSet<&'static str>,
}

impl Lexicon {
    /// The one that is compiled in.
    pub(crate) fn get() -> &'static Self {
        &LEXICON
    }

    /// Whether the word says nothing about the topic.
    pub(crate) fn is_stopword(&self, word: &str) -> bool {
        self.stopwords.contains(word)
    }

    /// What the word stands for: hashes of its concepts and topics. Empty for an unknown word.
    pub(crate) fn meanings(&self, word: &str) -> &[u64] {
        self.meanings.get(stem(word)).map_or(&[], Vec::as_slice)
    }
}

/// What grants what.
#[derive(Default)]
pub(crate) struct Verbs {
    english: HashMap<&'static str, Deeds>,
    foreign: HashMap<&'static str, Deeds>,
    foreign_beginnings: HashMap<&'static str, Deeds>,
    /// By their first word, the longest first.
    phrases: HashMap<&'static str, Vec<(Vec<&'static str>, Deeds)>>,
}

impl Verbs {
    fn parse(text: &'static str) -> Self {
        let mut verbs = Self::default();
        for (deeds, rest) in entries(text) {
            let Some((language, forms)) = rest.split_once(':') else { continue };
            let deeds = Deeds::parse(deeds);
            for form in forms.split_whitespace() {
                verbs.add(language.trim() == "en", form, deeds);
            }
        }
        for phrases in verbs.phrases.values_mut() {
            phrases.sort_by_key(|(rest, _)| std::cmp::Reverse(rest.len()));
        }
        verbs
    }

    fn add(&mut self, is_english: bool, form: &'static str, deeds: Deeds) {
        let mut parts = form.split("..");
        let first = parts.next().unwrap_or_default();
        let rest: Vec<_> = parts.collect();
        let known = match first.strip_suffix('*') {
            _ if !rest.is_empty() => {
                self.phrases.entry(first).or_default().push((rest, deeds));
                return;
            }
            Some(beginning) => self.foreign_beginnings.entry(beginning),
            None if is_english => self.english.entry(first),
            None => self.foreign.entry(first),
        };
        let known = known.or_default();
        *known = known.and(deeds);
    }

    /// An English verb, as it stands in a request or, with `-ing`, describes one.
    pub(crate) fn english(&self, word: &str) -> Option<Deeds> {
        self.english.get(word).copied().or_else(|| {
            let trunk = word.strip_suffix("ing").filter(|trunk| trunk.len() > 2)?;
            let undoubled = match trunk.as_bytes() {
                [.., last, doubled] if last == doubled && last.is_ascii() => trunk.get(..trunk.len() - 1),
                _ => None,
            };
            let mut with_e = String::from(trunk);
            with_e.push('e');
            [Some(trunk), Some(with_e.as_str()), undoubled]
                .into_iter()
                .flatten()
                .find_map(|form| self.english.get(form).copied())
        })
    }

    /// A German, French or Spanish verb.
    pub(crate) fn foreign(&self, word: &str) -> Option<Deeds> {
        let whole = self.foreign.get(word).or_else(|| self.foreign_beginnings.get(word));
        whole.copied().or_else(|| {
            if NOUN_ENDINGS.iter().any(|ending| word.ends_with(ending)) {
                return None;
            }
            (3..word.len())
                .rev()
                .filter_map(|end| word.get(..end))
                .find_map(|beginning| self.foreign_beginnings.get(beginning).copied())
        })
    }

    /// The phrases that begin with the word, the longest first: what must follow, and what it grants.
    pub(crate) fn phrases(&self, first: &str) -> &[(Vec<&'static str>, Deeds)] {
        self.phrases.get(first).map_or(&[], Vec::as_slice)
    }
}

fn meanings(text: &'static str) -> HashMap<&'static str, Vec<u64>> {
    let mut meanings: HashMap<&str, Vec<u64>> = HashMap::new();
    let mut topic = "";
    for line in lines(text) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            topic = name;
        } else if let Some((concept, words)) = line.split_once(':') {
            let concept = hash(format!("concept {topic} {}", concept.trim()).bytes());
            let topic = hash(format!("topic {topic}").bytes());
            for word in words.split_whitespace() {
                let known = meanings.entry(stem(word)).or_default();
                known.extend(
                    [concept, topic]
                        .into_iter()
                        .filter(|meaning| !known.contains(meaning))
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
    meanings
}

fn entries(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    lines(text).filter_map(|line| line.split_once(':')).map(|(key, rest)| (key.trim(), rest.trim()))
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::each_word;

    /// An entry with a capital, an accent, a blank or an unknown deed would silently never match.
    #[test]
    fn every_entry_of_the_word_lists_can_match() {
        let verbs: Vec<_> = entries(include_str!("../data/verbs.txt")).collect();
        for (deeds, rest) in &verbs {
            assert!(deeds.split(',').all(|deed| Deed::named(deed).is_some()), "{deeds}");
            assert!(
                matches!(rest.split(':').next().map(str::trim), Some("en" | "de" | "fr" | "es")),
                "{rest}"
            );
        }
        for (deed, _) in entries(include_str!("../data/programs.txt")) {
            assert!(Deed::named(deed).is_some(), "{deed}");
        }
        let forms = verbs.iter().flat_map(|(_, rest)| rest.split(':').nth(1)).flat_map(str::split_whitespace);
        let parts = forms.flat_map(|form| form.split("..")).map(|part| part.trim_end_matches('*'));
        let synonyms = lines(include_str!("../data/thesaurus.txt"))
            .filter_map(|line| line.split_once(':'))
            .flat_map(|(_, words)| words.split_whitespace());
        for word in parts.chain(synonyms) {
            let mut seen = Vec::new();
            each_word(word, |part| seen.push(part.to_owned()));
            assert_eq!(vec![word.to_owned()], seen);
        }
    }

    #[test]
    fn verbs_are_known_in_their_forms() {
        let verbs = &Lexicon::get().verbs;
        for form in ["delete", "deleting", "dropping", "wipe", "wiping"] {
            assert!(verbs.english(form).is_some_and(|deeds| deeds.has(Deed::Delete)), "{form}");
        }
        for form in ["losche", "supprime", "supprimer", "elimina"] {
            assert!(verbs.foreign(form).is_some_and(|deeds| deeds.has(Deed::Delete)), "{form}");
        }
        for noun in ["uberweisung", "bezahlung", "publication", "remboursement"] {
            assert_eq!(None, verbs.foreign(noun), "{noun}");
        }
        assert_eq!(None, verbs.english("x漢ying"), "letters of several bytes before an ending");
    }

    #[test]
    fn synonyms_share_a_meaning() {
        let lexicon = Lexicon::get();
        let shared = |a: &str, b: &str| {
            lexicon.meanings(a).iter().any(|meaning| lexicon.meanings(b).contains(meaning))
        };
        assert!(shared("invoices", "rechnung") && shared("gmail", "message"));
        assert!(!shared("pod", "payroll") && lexicon.meanings("xylophone").is_empty());
    }
}
