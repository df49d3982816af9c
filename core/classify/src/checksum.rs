//! Check digits of card numbers and national identifiers. Each takes the digits without separators.

/// The digits of a text; other characters are left out.
pub(crate) fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect()
}

/// The Luhn algorithm: ISO/IEC 7812-1, annex B.
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The sum of each digit by its weight; digits beyond the weights are left out.
pub(crate) fn weighted(digits: &[u8], weights: &[i32]) -> i32 {
    digits.iter().zip(weights).map(|(digit, weight)| i32::from(*digit) * weight).sum()
}

/// The whole number modulo `modulus`, which must be below 2^32.
pub(crate) fn modulo(digits: &[u8], modulus: u64) -> u64 {
    digits.iter().fold(0, |rest, digit| (rest * 10 + u64::from(*digit)) % modulus)
}

/// ISO/IEC 7064, MOD 11,10; the last digit is the check digit.
pub(crate) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, digits)) = digits.split_last() else { return false };
    let product = digits.iter().fold(10, |product, digit| {
        let sum = (product + u32::from(*digit)) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// Verhoeff's algorithm over the dihedral group of order ten; the last digit is the check digit.
///
/// Source: Verhoeff, "Error Detecting Decimal Codes", 1969.
pub(crate) fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTATION: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let permuted = |digit: u8, times: usize| {
        (0..times % 8).fold(digit, |digit, _| PERMUTATION.get(usize::from(digit)).copied().unwrap_or(digit))
    };
    let check = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |check, (place, digit)| dihedral(check, permuted(*digit, place)));
    check == 0
}

/// The product of two elements of the dihedral group of order ten: 0–4 turn, 5–9 turn and reflect.
fn dihedral(left: u8, right: u8) -> u8 {
    match (left < 5, right < 5) {
        (true, true) => (left + right) % 5,
        (true, false) => (left + right - 5) % 5 + 5,
        (false, true) => (left - right) % 5 + 5,
        (false, false) => (left + 5 - right) % 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_examples_are_valid() {
        assert!(luhn(&digits("4111 1111 1111 1111")), "ISO/IEC 7812-1");
        assert!(verhoeff(&digits("2363")), "Verhoeff's 236 with the check digit 3");
        assert!(mod_11_10(&digits("86095742719")), "German tax office's sample of an identification number");
        assert_eq!(1_234_567 % 97, modulo(&digits("1 234 567"), 97));
    }

    proptest! {
        #[test]
        fn luhn_verhoeff_and_mod_11_10_notice_every_single_wrong_digit(
            number in proptest::collection::vec(0..10_u8, 8..18), place in 0..8_usize, by in 1..10_u8,
        ) {
            for check in [luhn, verhoeff, mod_11_10] {
                let completed = (0..10).map(|digit| [number.as_slice(), &[digit]].concat()).find(|whole| check(whole));
                let mut whole = completed.expect("some digit completes it");
                whole[place] = (whole[place] + by) % 10;
                prop_assert!(!check(&whole));
            }
        }
    }
}
