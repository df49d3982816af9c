//! Words, their parts and their meanings, hashed: no model file, microseconds, the same everywhere.

use crate::embed::{Embedder, Embedding};
use crate::lexicon::Lexicon;
use crate::words::{FNV_OFFSET, each_word, hash, hash_step, stem};

/// Enough that some hundred features seldom meet, few enough to multiply in a microsecond.
const DIMENSIONS: usize = 1_024;
/// How much text is read.
const TEXT_BYTES_MAX: usize = 8_192;
/// Parts of words have so many letters.
const PART_LETTERS: std::ops::RangeInclusive<usize> = 3..=5;

/// What one occurrence weighs. Meanings are few and words are fewer than parts, so they weigh more.
const WORD_WEIGHT: i32 = 6;
const MEANING_WEIGHT: i32 = 5;
const PART_WEIGHT: i32 = 1;

/// Hashes words, their 3- to 5-letter parts (Weinberger et al., "Feature hashing", ICML 2009) and the meanings
/// that `data/thesaurus.txt` gives them into 1,024 signed counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lexical;

impl Embedder for Lexical {
    fn name(&self) -> &str {
        "lexical"
    }

    fn sha256(&self) -> Option<&str> {
        None
    }

    fn embed(&self, text: &str) -> Embedding {
        let mut values = vec![0; DIMENSIONS];
        let lexicon = Lexicon::get();
        each_word(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)], |word| {
            if lexicon.is_stopword(word) {
                return;
            }
            let trunk = stem(word);
            add(&mut values, hash(trunk.bytes()), WORD_WEIGHT);
            for meaning in lexicon.meanings(word) {
                add(&mut values, *meaning, MEANING_WEIGHT);
            }
            each_part(trunk, |part| add(&mut values, part, PART_WEIGHT));
        });
        Embedding::of(values)
    }
}

/// Adds to the counter of a feature, with the sign that its hash gives: so features that meet cancel out on
/// average.
fn add(values: &mut [i32], feature: u64, weight: i32) {
    let at = usize::try_from(feature >> 32).unwrap_or(0) % DIMENSIONS;
    values[at] = values[at].saturating_add(if feature & 1 == 0 { weight } else { -weight });
}

/// Hashes of the parts of `<word>`, where the brackets tell beginning and end.
fn each_part(word: &str, mut each: impl FnMut(u64)) {
    if word.len() < *PART_LETTERS.start() || word.bytes().all(|byte| byte.is_ascii_digit()) {
        return;
    }
    let letter = |at: usize| match at {
        0 => b'<',
        at if at == word.len() + 1 => b'>',
        at => word.as_bytes()[at - 1],
    };
    let end = word.len() + 2;
    for start in 0..end {
        let mut part = FNV_OFFSET;
        for at in start..end.min(start + PART_LETTERS.end()) {
            part = hash_step(part, letter(at));
            if PART_LETTERS.contains(&(at + 1 - start)) {
                each(part);
            }
        }
    }
}
