//! Tells random text from written text.

/// Shannon entropy in bits per byte: 0 for one byte repeated, at most 4 for hex digits, about 4.5 for 36 random
/// letters and digits.
///
/// Source: Shannon, "A Mathematical Theory of Communication", section 6.
pub(crate) fn bits_per_byte(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let whole = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / whole)
        .map(|p| -p * p.log2())
        .sum()
}

/// How often, per byte, the kind of character changes between lower case, upper case, digit and other. About 0.6 for
/// random letters and digits, below 0.35 for names that people write.
pub(crate) fn changes_per_byte(text: &str) -> f64 {
    let class = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let changes = text.as_bytes().windows(2).filter(|pair| class(pair[0]) != class(pair[1])).count();
    changes as f64 / text.len().max(1) as f64
}

/// Words that stand where a secret will be put.
const PLACEHOLDERS: [&str; 20] = [
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "your",
    "xxxx",
    "****",
    "....",
    "redacted",
    "dummy",
    "sample",
    "insert",
    "replace",
    "abcdefgh",
    "12345678",
    "<",
    "${",
    "{{",
    "%(",
];

/// Whether the value stands for a secret and is none: documentation, templates, masked output.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

/// Only hexadecimal digits and dashes: a digest, a commit, a UUID; or a secret that cannot be told from them.
pub(crate) fn is_hex(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_that_of_the_alphabet() {
        assert_eq!(0.0, bits_per_byte("aaaa"));
        assert_eq!(4.0, bits_per_byte("0123456789abcdef"));
        assert_eq!(0.0, bits_per_byte(""));
    }

    #[test]
    fn a_written_name_changes_less_often_than_random_text() {
        assert!(changes_per_byte("getUserAccessTokenFromHttpRequest2") < 0.4);
        assert!(changes_per_byte("k3Jx9Qw0Zt7Lb2Vn5Rm8Yc1P") > 0.5);
    }
}
