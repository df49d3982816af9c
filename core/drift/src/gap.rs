//! The effect gap: how much more the action does than the verbs of the request grant.
//!
//! Levels: read and list 0; create, update, send, execute, login and invoke 1; delete, deploy, pay, grant and
//! reveal 2. To send to an outside party unasked, and to read credentials, is to reveal. The gap is
//!
//! - 1 when the request forbids the deed ("but do not send it") and nowhere asks for it;
//! - 0 when a verb of the request names the deed, or the deed only looks; create and update stand for each other;
//! - else half a level's worth per level above the gravest verb, and at least 1/4 for a change and 1/2 for a deed
//!   that stands for itself (send, delete, deploy, pay, grant, login, reveal).
//!
//! A request without a known verb that is no question could mean anything, so the gap says little: it is half of
//! what it would be to a request that only asks to look.
//!
//! Every verb of the request counts. Verbs come from `data/verbs.txt`; a word that stands like a noun ("the
//! deploy", "of mail") or is somebody else's deed ("so that I can approve it") does not count. This reads words,
//! not sentences: irony, "as agreed", and what is meant but not said are beyond it.

use crate::deed::{Deed, Deeds};
use crate::lexicon::Lexicon;
use crate::words::each_word;
use countersign_schemas::Degree;

/// How many words of a request are read.
const WORDS_MAX: usize = 600;
/// How many words may stand between two parts of a phrase.
const PHRASE_GAP_MAX: usize = 6;
/// How many words a negation reaches, if no comma or "but" ends it.
const NEGATION_REACH: usize = 4;

const NEGATIONS: &[&str] = &[
    "not", "don", "dont", "never", "without", "nothing", "nicht", "ohne", "niemals", "ne", "sans", "jamais",
    "sin", "nunca", "neither",
];
const NEGATION_ENDS: &[&str] = &["but", "only", "just", "sondern", "aber", "mais", "pero", "solo"];
const NEGATION_GOES_ON: &[&str] = &["or", "nor", "and", "oder", "noch", "ni", "ou"];
/// After these stands a noun.
const BEFORE_NOUN: &[&str] = &[
    "the", "a", "an", "this", "that", "these", "those", "my", "our", "your", "his", "her", "their", "its",
    "s", "of", "about", "for", "in", "on", "with", "from", "by", "at", "per", "via", "into", "no", "any",
    "some", "each", "every", "all", "last", "next", "new", "open", "which", "what", "whose",
];
/// Of these, the ones that still make a noun of the word after next ("the nightly load").
const ARTICLES: &[&str] = &[
    "the", "a", "an", "this", "these", "those", "my", "our", "your", "his", "her", "their", "its", "s", "of",
    "each",
];
const SOMEBODY_ELSE: &[&str] = &["i", "we", "he", "she", "they", "ich", "wir", "er", "ils"];
const MODALS: &[&str] = &["can", "could", "will", "would", "may", "might", "must", "should", "did", "do"];
const POLITE: &[&str] = &[
    "can", "could", "would", "will", "may", "please", "kannst", "konntest", "konnen", "wurdest", "peux",
    "pouvez", "pourrais", "puedes", "podrias",
];
const QUESTION_WORDS: &[&str] = &[
    "who", "what", "which", "why", "how", "where", "when", "whose", "is", "are", "was", "were", "does",
    "did", "has", "have", "do", "wer", "was", "welche", "welcher", "welches", "warum", "wie", "wo", "wann",
    "ist", "sind", "hat", "qui", "que", "quoi", "quel", "quelle", "quels", "quelles", "pourquoi", "comment",
    "combien", "quien", "cual", "cuales", "cuanto", "cuantos",
];

/// What a request grants and forbids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    named: Deeds,
    forbidden: Deeds,
    is_understood: bool,
}

impl Granted {
    /// Reads the verbs of a request.
    pub(crate) fn by(request: &str) -> Self {
        let words = Word::all(request);
        let mut granted = Self { is_understood: is_question(request, &words), ..Self::default() };
        let mut taken = vec![false; words.len()];
        let mut negated_until = 0;
        for at in 0..words.len() {
            let text = words[at].text.as_str();
            if words[at].begins_clause || NEGATION_ENDS.contains(&text) {
                negated_until = at;
            }
            if NEGATIONS.contains(&text) {
                negated_until = at + 1 + NEGATION_REACH;
            }
            if taken[at] {
                continue;
            }
            let Some(deeds) = deeds_at(&words, at, &mut taken) else { continue };
            granted.is_understood = true;
            if at < negated_until {
                granted.forbidden = granted.forbidden.and(deeds.only_first());
                if words.get(at + 1).is_some_and(|next| NEGATION_GOES_ON.contains(&next.text.as_str())) {
                    negated_until = at + 1 + NEGATION_REACH;
                }
            } else {
                granted.named = granted.named.and(deeds);
            }
        }
        granted
    }

    /// How much more than this the deed is. `leaves` says that data goes to an outside party.
    pub(crate) fn gap_to(&self, deed: Deed, leaves: bool) -> Degree {
        if self.covers(deed) {
            return Degree::ZERO;
        }
        if self.forbidden.has(deed) {
            return Degree::ONE;
        }
        let deed = if leaves && deed == Deed::Send { Deed::Reveal } else { deed };
        if deed.level() == 0 {
            return Degree::ZERO;
        }
        if !self.is_understood {
            return Degree::ratio(u64::from(deed.level()), 4);
        }
        let rise = deed.level().saturating_sub(self.named.level()) * 2;
        let floor = match deed {
            Deed::Create | Deed::Update | Deed::Execute => 1,
            Deed::Invoke => 0,
            _ => 2,
        };
        Degree::ratio(u64::from(rise.max(floor)), 4)
    }

    fn covers(&self, deed: Deed) -> bool {
        self.named.has(deed)
            || match deed {
                Deed::Create => self.named.has(Deed::Update),
                Deed::Update => self.named.has(Deed::Create),
                _ => false,
            }
    }
}

struct Word {
    text: String,
    begins_clause: bool,
}

impl Word {
    fn all(request: &str) -> Vec<Self> {
        let mut words: Vec<Self> = Vec::new();
        for clause in request.split(['.', ',', ';', ':', '!', '?', '\n', '(', ')', '–', '—']) {
            let mut begins_clause = true;
            for run in clause.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
                if words.len() == WORDS_MAX {
                    return words;
                }
                // Only the last word of a run: a name in camel case is no verb, and stays one word.
                let mut text = String::new();
                each_word(run, |word| word.clone_into(&mut text));
                words.push(Self { text, begins_clause });
                begins_clause = false;
            }
        }
        words
    }
}

fn deeds_at(words: &[Word], at: usize, taken: &mut [bool]) -> Option<Deeds> {
    let verbs = &Lexicon::get().verbs;
    let text = words[at].text.as_str();
    if is_somebody_elses(words, at) {
        return None;
    }
    let noun = stands_like_a_noun(words, at);
    if !noun {
        for (rest, deeds) in verbs.phrases(text) {
            if let Some(found) = find_rest(words, at, rest) {
                found.into_iter().for_each(|position| taken[position] = true);
                return Some(*deeds);
            }
        }
    }
    match verbs.english(text) {
        Some(deeds) => Some(deeds).filter(|_| !noun),
        None => verbs.foreign(text),
    }
}

/// Where the other words of a phrase stand, each at most [`PHRASE_GAP_MAX`] words behind the one before.
fn find_rest(words: &[Word], first: usize, rest: &[&str]) -> Option<Vec<usize>> {
    let mut found = Vec::with_capacity(rest.len());
    let mut last = first;
    for wanted in rest {
        let reach = words.len().min(last + 2 + PHRASE_GAP_MAX);
        let same_clause = (last + 1..reach).take_while(|at| !words[*at].begins_clause);
        last = same_clause.into_iter().find(|at| words[*at].text == *wanted)?;
        found.push(last);
    }
    Some(found)
}

fn stands_like_a_noun(words: &[Word], at: usize) -> bool {
    if words[at].begins_clause || at == 0 {
        return false;
    }
    let before = words[at - 1].text.as_str();
    if BEFORE_NOUN.contains(&before) {
        return !(words[at].text.ends_with("ing")
            && ["of", "for", "by", "in", "on", "from", "with"].contains(&before));
    }
    let is_joined = ["and", "or", "then", "to", "please", "also", "you", "me", "us", "it"].contains(&before);
    at >= 2 && !is_joined && !words[at - 1].begins_clause && ARTICLES.contains(&words[at - 2].text.as_str())
}

fn is_somebody_elses(words: &[Word], at: usize) -> bool {
    let earlier = |back: usize| at.checked_sub(back).map_or("", |position| words[position].text.as_str());
    if words[at].begins_clause {
        return false;
    }
    SOMEBODY_ELSE.contains(&earlier(1))
        || (MODALS.contains(&earlier(1)) && SOMEBODY_ELSE.contains(&earlier(2)))
}

fn is_question(request: &str, words: &[Word]) -> bool {
    let first = words.first().map_or("", |word| word.text.as_str());
    // "Could you …?" asks for a deed, in the form of a question.
    let is_polite = POLITE.contains(&first);
    (request.contains('?') && !is_polite) || QUESTION_WORDS.contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &str, deed: Deed, want: &str) {
        assert_eq!(want, Granted::by(request).gap_to(deed, false).to_string(), "{request}: {deed:?}");
    }

    #[test]
    fn a_deed_that_a_verb_names_has_no_gap() {
        check("Delete the old exports", Deed::Delete, "0.0000");
        check("Summarise the thread, then mail it to Ann", Deed::Send, "0.0000");
        check("We should start deleting what is expired", Deed::Delete, "0.0000");
        check("Kannst du die Rechnung bezahlen?", Deed::Pay, "0.0000");
        check("Supprime les anciens fichiers", Deed::Delete, "0.0000");
        check("Elimina los registros duplicados", Deed::Delete, "0.0000");
        check("Get the broken index out of the way and get rid of it", Deed::Delete, "0.0000");
    }

    #[test]
    fn the_gap_grows_with_the_level_of_the_deed() {
        for (deed, want) in [(Deed::Read, "0.0000"), (Deed::Update, "0.5000"), (Deed::Pay, "1.0000")] {
            check("Show me the open invoices", deed, want);
        }
        check("Correct the invoice", Deed::Pay, "0.5000");
        check("Pay the invoice", Deed::Delete, "0.5000");
        check("Run the import", Deed::Update, "0.2500");
    }

    #[test]
    fn what_the_request_forbids_is_the_widest_gap() {
        check("Draft the answer but do not send it", Deed::Send, "1.0000");
        check("Rebuild the index without deleting or moving anything", Deed::Delete, "1.0000");
        check("Plan the change, don't apply it", Deed::Deploy, "1.0000");
        check("Prüfe die Datei, aber lösche sie nicht und sende nichts", Deed::Read, "0.0000");
        check("Do not wait, delete it", Deed::Delete, "0.0000");
        check("Don't just read it, update it", Deed::Update, "0.0000");
    }

    #[test]
    fn a_noun_or_somebody_elses_deed_grants_nothing() {
        check("Explain the deploy script", Deed::Deploy, "1.0000");
        check("What was the last transfer about?", Deed::Pay, "1.0000");
        check("Prepare it so that I can approve the refund", Deed::Pay, "0.5000");
        check("Read Julia's mail", Deed::Send, "0.5000");
    }

    #[test]
    fn a_request_without_a_known_verb_halves_the_gap() {
        check("Frobnicate the widgets", Deed::Update, "0.2500");
        check("Frobnicate the widgets", Deed::Delete, "0.5000");
    }

    #[test]
    fn to_send_outside_unasked_is_to_reveal() {
        let granted = Granted::by("Translate the contract");
        assert_eq!("0.5000", granted.gap_to(Deed::Send, false).to_string());
        assert_eq!("0.5000", granted.gap_to(Deed::Reveal, true).to_string());
        let granted = Granted::by("Look at the contract");
        assert_eq!("1.0000", granted.gap_to(Deed::Send, true).to_string());
        assert_eq!(
            "0.0000",
            Granted::by("Send the contract to the lawyer").gap_to(Deed::Send, true).to_string()
        );
    }
}
