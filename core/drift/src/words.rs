//! Text to words: without case, accents and punctuation.

/// Calls `each` with every word of the text, in order. A word is a run of letters and digits; a camel-case one
/// gives its parts and then itself (`UserStore`: `user`, `store`, `userstore`).
pub(crate) fn each_word(text: &str, mut each: impl FnMut(&str)) {
    let mut part = String::with_capacity(32);
    for run in text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
        part.clear();
        let (mut was_lower, mut parts) = (false, 0);
        for c in run.chars() {
            if was_lower && c.is_uppercase() {
                each(&part);
                part.clear();
                parts += 1;
            }
            was_lower = c.is_lowercase();
            fold(c, &mut part);
        }
        if !part.is_empty() {
            each(&part);
        }
        if parts > 0 {
            part.clear();
            run.chars().for_each(|c| fold(c, &mut part));
            each(&part);
        }
    }
}

/// Appends the letter in lower case and without its accent, as far as German, French and Spanish have one.
fn fold(c: char, to: &mut String) {
    if c.is_ascii() {
        to.push(c.to_ascii_lowercase());
        return;
    }
    for lower in c.to_lowercase() {
        match lower {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' => to.push('a'),
            'ç' => to.push('c'),
            'è' | 'é' | 'ê' | 'ë' => to.push('e'),
            'ì' | 'í' | 'î' | 'ï' => to.push('i'),
            'ñ' => to.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' => to.push('o'),
            'ù' | 'ú' | 'û' | 'ü' => to.push('u'),
            'ß' => to.push_str("ss"),
            'œ' => to.push_str("oe"),
            other => to.push(other),
        }
    }
}

/// The word without a plural ending, so that `ticket` and `tickets`, `category` and `categories` are one.
pub(crate) fn stem(word: &str) -> &str {
    if word.len() > 4
        && let Some(rest) = word.strip_suffix("ies").or_else(|| word.strip_suffix('y'))
    {
        return rest;
    }
    match word.strip_suffix('s') {
        Some(rest) if word.len() > 3 && !rest.ends_with(['s', 'u', 'i']) => rest,
        _ => word,
    }
}

/// FNV-1a, 64 bits: stable across versions and machines, which the standard library's hasher does not promise.
///
/// Source: draft-eastlake-fnv, section 2.
pub(crate) fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(FNV_OFFSET, hash_step)
}

/// Where [`hash`] begins.
pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// One byte more.
pub(crate) fn hash_step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let mut words = Vec::new();
        each_word(text, |word| words.push(word.to_owned()));
        assert_eq!(want, words);
    }

    #[test]
    fn words_have_no_case_accents_or_punctuation() {
        check("Räum bitte die Straße auf!", &["raum", "bitte", "die", "strasse", "auf"]);
        check("mcp__drive/create_file.v2", &["mcp", "drive", "create", "file", "v2"]);
        check("SendEmail to UserStore", &["send", "email", "sendemail", "to", "user", "store", "userstore"]);
        check("  -- ", &[]);
    }

    #[test]
    fn singular_and_plural_have_one_stem() {
        for (one, many) in [("ticket", "tickets"), ("category", "categories"), ("query", "queries")] {
            assert_eq!(stem(one), stem(many));
        }
        for word in ["status", "access", "redis", "aws"] {
            assert_eq!(word, stem(word), "ends like a plural and is none");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of draft-eastlake-fnv, appendix C.
        assert_eq!(0xcbf2_9ce4_8422_2325, hash(*b""));
        assert_eq!(0xaf63_dc4c_8601_ec8c, hash(*b"a"));
        assert_eq!(0x8594_4171_f739_67e8, hash(*b"foobar"));
    }
}
