//! National identifiers of people. Those without a form or check digit that tells them need a word near by.

use crate::checksum::{digits, luhn, mod_11_10, modulo, verhoeff, weighted};
use crate::contact::is_date;
use crate::detector::{Detector, Found};
use crate::findings::PII;
use crate::payment::OTHER_NUMBERS;

const SSN_WORDS: &[&str] =
    &["ssn", "social security", "social security number", "social security no", "soc sec", "itin", "tin"];

/// An identifier by its digits, or letters and digits, alone.
const fn of(
    kind: &'static str,
    gate: &'static str,
    pattern: &'static str,
    check: fn(&Found<'_>) -> Option<usize>,
) -> Detector {
    Detector::of(kind, PII, gate, pattern, check)
}

/// The detectors of this module.
pub(crate) const DETECTORS: &[Detector] = &[
    of("us_ssn", "", r"\b[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}\b", us_ssn).near(SSN_WORDS),
    of("us_ssn", "[0-9]{3}-[0-9]{2}-[0-9]{4}", r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", us_ssn)
        .unless(OTHER_NUMBERS),
    of(
        "uk_nino",
        "",
        r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
        uk_nino,
    )
    .near(&[
        "nino",
        "ni number",
        "ni no",
        "national insurance",
        "national insurance number",
        "national insurance no",
    ]),
    of(
        "uk_nino",
        "[A-Z]{2} [0-9]{2} [0-9]{2}",
        r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] [0-9]{2} [0-9]{2} [0-9]{2} [A-D]\b",
        uk_nino,
    ),
    of("uk_nhs", "", r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}\b", uk_nhs).near(&[
        "nhs",
        "nhs number",
        "nhs no",
    ]),
    of("de_steuer_id", "", r"\b[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}\b", de_steuer_id).near(&[
        "steuer id",
        "steueridentifikationsnummer",
        "steuerliche identifikationsnummer",
        "steuernummer",
        "idnr",
        "tin",
        "tax id",
        "identifikationsnummer",
        "steuer identifikationsnummer",
    ]),
    of(
        "fr_nir",
        "[12] [0-9]{2} [0-9]{2}",
        r"\b[12] [0-9]{2} (?:0[1-9]|1[0-2]|[2-9][0-9]) (?:[0-9]{2}|2[AB]) [0-9]{3} [0-9]{3} [0-9]{2}\b",
        fr_nir,
    ),
    of(
        "fr_nir",
        "",
        r"\b[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
        fr_nir,
    )
    .near(&[
        "nir",
        "sécurité sociale",
        "securite sociale",
        "insee",
        "assuré",
        "assurée",
        "numéro de sécurité sociale",
    ]),
    of("es_dni", "", r"\b(?:[0-9]{8}|[XYZ]-?[0-9]{7})-?[A-Z]\b", es_dni).near(&[
        "dni",
        "nif",
        "nie",
        "documento",
        "documento nacional de identidad",
        "identidad",
        "identificaci",
    ]),
    of(
        "it_codice_fiscale",
        "[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z]",
        r"\b[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]\b",
        it_codice_fiscale,
    ),
    of("nl_bsn", "", r"\b[0-9]{8,9}\b|\b[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}\b", nl_bsn).near(&[
        "bsn",
        "burgerservicenummer",
        "sofinummer",
        "sofi nummer",
    ]),
    of("pl_pesel", "", r"\b[0-9]{11}\b", pl_pesel).near(&["pesel"]),
    of("in_aadhaar", "", r"\b[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}\b", in_aadhaar)
        .near(&["aadhaar", "aadhar", "adhaar", "uidai", "uid"]),
    of("br_cpf", "[0-9]{3}[.][0-9]{3}[.][0-9]{3}-", r"\b[0-9]{3}[.][0-9]{3}[.][0-9]{3}-[0-9]{2}\b", br_cpf),
    of("br_cpf", "", r"\b[0-9]{11}\b", br_cpf).near(&["cpf"]),
    of("ch_ahv", "756[.]", r"\b756[.][0-9]{4}[.][0-9]{4}[.][0-9]{2}\b", ch_ahv),
    of("ch_ahv", "", r"\b756[ .]?[0-9]{4}[ .]?[0-9]{4}[ .]?[0-9]{2}\b", ch_ahv).near(&[
        "ahv",
        "avs",
        "ahv nr",
        "ahv nummer",
        "sozialversicherungsnummer",
        "navs",
    ]),
    of("ca_sin", "", r"\b[1-79][0-9]{2}[ -]?[0-9]{3}[ -]?[0-9]{3}\b", |found| {
        found.if_so(found.is_alone() && luhn(&digits(found.value())))
    })
    .near(&["sin", "social insurance", "social insurance number", "numéro d'assurance sociale"]),
    of("passport", "", r"\b[A-Z]{0,2}[0-9]{6,9}\b", |found| found.if_so(found.is_alone())).near(&[
        "passport no",
        "passport number",
        "passport nr",
        "reisepass",
        "reisepassnummer",
        "passeport",
        "pasaporte",
        "passaporto",
    ]),
];

/// Areas 000, 666 and 900–999, group 00 and serial 0000 were never issued; two numbers became famous in advertising.
///
/// Source: SSA, "Social Security Number Randomization", and POMS RM 10201.
fn us_ssn(found: &Found<'_>) -> Option<usize> {
    let digits = digits(found.value());
    let part = |from: usize, count: usize| {
        digits.iter().skip(from).take(count).fold(0_u32, |n, digit| n * 10 + u32::from(*digit))
    };
    let (area, group, serial) = (part(0, 3), part(3, 2), part(5, 4));
    let issued = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    let famous = matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999));
    found.if_so(found.is_alone() && issued && !famous)
}

/// Prefixes that are not used. There is no check digit.
///
/// Source: HMRC, National Insurance Manual NIM39110.
fn uk_nino(found: &Found<'_>) -> Option<usize> {
    let unused =
        ["BG", "GB", "NK", "KN", "TN", "NT", "ZZ"].iter().any(|prefix| found.value().starts_with(prefix));
    found.if_so(found.is_alone() && !unused)
}

/// Modulus 11, weights 10 to 2.
///
/// Source: NHS Data Dictionary, "NHS Number".
fn uk_nhs(found: &Found<'_>) -> Option<usize> {
    let digits = digits(found.value());
    let check = (11 - weighted(&digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    found.if_so(found.is_alone() && check < 10 && digits.last().is_some_and(|last| i32::from(*last) == check))
}

/// MOD 11,10; among the first ten digits exactly one occurs twice or thrice.
///
/// Source: Bundeszentralamt für Steuern, section 139b AO and its check digit procedure.
fn de_steuer_id(found: &Found<'_>) -> Option<usize> {
    let digits = digits(found.value());
    let times = |digit: u8| digits.iter().take(10).filter(|other| **other == digit).count();
    let repeated: Vec<usize> = (0..10).map(times).filter(|times| *times > 1).collect();
    let once = matches!(repeated.as_slice(), [2 | 3]);
    found.if_so(found.is_alone() && digits.first() != Some(&0) && once && mod_11_10(&digits))
}

/// The key is 97 minus the number modulo 97; Corsica's departments 2A and 2B count as 19 and 18.
///
/// Source: INSEE, "Numéro d'inscription au répertoire".
fn fr_nir(found: &Found<'_>) -> Option<usize> {
    let number = digits(&found.value().replace("2A", "19").replace("2B", "18"));
    let (body, key) = number.split_at_checked(13)?;
    found.if_so(found.is_alone() && 97 - modulo(body, 97) == modulo(key, 100))
}

/// The letter is the number modulo 23; X, Y and Z of a foreigner's number count as 0, 1 and 2.
///
/// Source: Real Decreto 1553/2005 and Orden INT/2058/2008.
fn es_dni(found: &Found<'_>) -> Option<usize> {
    const LETTERS: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let value = found.value();
    let number = digits(&value.replace('X', "0").replace('Y', "1").replace('Z', "2"));
    // A final X, Y or Z was replaced too: the number is the first eight digits.
    let number = number.get(..8)?;
    let letter = usize::try_from(modulo(number, 23)).ok().and_then(|place| LETTERS.get(place));
    found.if_so(found.is_alone() && value.bytes().next_back() == letter.copied())
}

/// Odd places count by a table of their own; the sum modulo 26 is the last letter.
///
/// Source: Decreto Ministeriale 23 December 1976, number 13813.
fn it_codice_fiscale(found: &Found<'_>) -> Option<usize> {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let (body, check) = found.value().split_at_checked(15)?;
    let sum: u32 = body
        .bytes()
        .enumerate()
        .map(|(place, byte)| {
            let value = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' };
            if place % 2 == 0 {
                ODD.get(usize::from(value)).copied().unwrap_or_default()
            } else {
                u32::from(value)
            }
        })
        .sum();
    found.if_so(
        found.is_alone() && check.bytes().next().is_some_and(|letter| u32::from(letter - b'A') == sum % 26),
    )
}

/// The eleven-test: weights 9 to 2, then −1.
///
/// Source: Rijksdienst voor Identiteitsgegevens, Logisch Ontwerp BSN.
fn nl_bsn(found: &Found<'_>) -> Option<usize> {
    let mut digits = digits(found.value());
    if digits.len() == 8 {
        digits.insert(0, 0);
    }
    let sum = weighted(&digits, &[9, 8, 7, 6, 5, 4, 3, 2, -1]);
    found.if_so(found.is_alone() && sum > 0 && sum % 11 == 0)
}

/// Weights 1, 3, 7, 9; it begins with the date of birth, whose month also tells the century.
///
/// Source: Ustawa o ewidencji ludności, article 15.
fn pl_pesel(found: &Found<'_>) -> Option<usize> {
    let digits = digits(found.value());
    let two =
        |from: usize| digits.iter().skip(from).take(2).fold(0_u32, |n, digit| n * 10 + u32::from(*digit));
    let sum = weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    found.if_so(found.is_alone() && is_date(1900 + two(0), two(2) % 20, two(4)) && sum % 10 == 0)
}

/// Verhoeff.
///
/// Source: UIDAI, "Aadhaar numbering scheme".
fn in_aadhaar(found: &Found<'_>) -> Option<usize> {
    found.if_so(found.is_alone() && verhoeff(&digits(found.value())))
}

/// Two check digits modulo 11. Eleven equal digits pass and are not issued.
///
/// Source: Receita Federal, Cadastro de Pessoas Físicas.
fn br_cpf(found: &Found<'_>) -> Option<usize> {
    let digits = digits(found.value());
    let check = |weights: &[i32]| weighted(&digits, weights) * 10 % 11 % 10;
    let first = check(&[10, 9, 8, 7, 6, 5, 4, 3, 2]);
    let second = check(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    let varied = digits.iter().any(|digit| Some(digit) != digits.first());
    let is_one =
        digits.get(9..11).is_some_and(|last| [i32::from(last[0]), i32::from(last[1])] == [first, second]);
    found.if_so(found.is_alone() && varied && is_one)
}

/// The check digit of EAN-13.
///
/// Source: Zentrale Ausgleichsstelle, "Die 13-stellige AHV-Nummer".
fn ch_ahv(found: &Found<'_>) -> Option<usize> {
    let sum = weighted(&digits(found.value()), &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    found.if_so(found.is_alone() && sum % 10 == 0)
}
