//! Card numbers and bank accounts.

use iban::Iban;

use crate::checksum::{digits, luhn};
use crate::detector::{Detector, Found};
use crate::findings::{FINANCIAL, PCI};

/// What stands before numbers that are none of ours.
pub(crate) const OTHER_NUMBERS: &[&str] = &[
    "order",
    "order no",
    "order id",
    "order number",
    "tracking",
    "tracking number",
    "trace",
    "trace id",
    "span id",
    "request id",
    "invoice",
    "invoice no",
    "serial",
    "serial no",
    "serial number",
    "sku",
    "part",
    "part no",
    "part number",
    "isbn",
    "imei",
    "ticket",
    "case",
    "ref",
    "reference",
    "version",
    "build",
    "timestamp",
    "message id",
    "commit",
    "hash",
    "bestellung",
    "bestellnummer",
    "sendungsnummer",
    "rechnung",
    "rechnungsnummer",
    "commande",
    "pedido",
    "factura",
    "barcode",
    "ean",
    "gtin",
    "upc",
    "seed",
    "offset",
    "size",
    "bytes",
    "user id",
    "account id",
    "snowflake",
];

const CARD_WORDS: &[&str] = &[
    "card",
    "card number",
    "card no",
    "credit card",
    "debit card",
    "pan",
    "visa",
    "mastercard",
    "amex",
    "american express",
    "discover",
    "jcb",
    "unionpay",
    "maestro",
    "diners",
    "cc",
    "cc number",
    "kreditkarte",
    "kartennummer",
    "karte",
    "carte",
    "carte bancaire",
    "tarjeta",
    "carta di credito",
    "creditcard",
    "payment method",
    "cvv",
    "cvc",
    "expires",
    "exp",
];

/// The detectors of this module.
pub(crate) const DETECTORS: &[Detector] = &[
    Detector::of(
        "payment_card",
        PCI,
        "",
        r"\b(?:[0-9]{12,19}|[0-9]{4}(?:[ -][0-9]{4}){3}(?:[ -][0-9]{3})?|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5})\b",
        |found| found.if_so(found.is_alone() && is_card(found.value())),
    )
    .near(CARD_WORDS),
    // ISO/IEC 7812-1 numbers in the form that is printed on cards need no word. Runs of 16 or 15 digits neither, but
    // one in ten passes the check by chance, so no word may say that they are something else.
    Detector::of(
        "payment_card",
        PCI,
        "[0-9]{4}[ -]?[0-9]{4}",
        r"\b(?:[0-9]{15,16}|[0-9]{4}(?:[ -][0-9]{4}){3}|3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5})\b",
        |found| found.if_so(found.is_alone() && is_card(found.value()) && !is_maestro_only(found.value())),
    )
    .unless(OTHER_NUMBERS),
    Detector::of(
        "iban",
        FINANCIAL,
        "[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}",
        r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
        iban,
    ),
    Detector::of("bank_account", FINANCIAL, "", r"\b[0-9]{6,17}\b", |found| found.if_so(found.is_alone())).near(&[
        "bank account", "bank account number", "bank account no", "sort code", "routing number", "kontonummer",
        "checking account", "savings account", "compte bancaire", "cuenta bancaria", "conto corrente",
    ]),
];

/// Luhn, and a number that some network issues, by its length.
///
/// Source: the networks' published ranges of issuer identification numbers.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let lead =
        |count: usize| digits.iter().take(count).fold(0_u32, |lead, digit| lead * 10 + u32::from(*digit));
    let issued = match digits.len() {
        13 => lead(1) == 4,
        14 => matches!(lead(3), 300..=305 | 309) || matches!(lead(2), 36 | 38 | 39),
        15 => matches!(lead(2), 34 | 37),
        16 => {
            lead(1) == 4
                || matches!(lead(2), 51..=55 | 62 | 65)
                || matches!(lead(3), 644..=649)
                || matches!(lead(4), 2221..=2720 | 3528..=3589 | 6011)
                || is_maestro(lead(2))
        }
        18 => lead(2) == 62 || is_maestro(lead(2)),
        17 | 19 => lead(1) == 4 && digits.len() == 19 || matches!(lead(2), 62 | 65) || is_maestro(lead(2)),
        12 => is_maestro(lead(2)),
        _ => false,
    };
    // Zeros and other single digits pass Luhn too often in made-up numbers.
    let varied = digits.iter().any(|digit| Some(digit) != digits.last());
    issued && varied && luhn(&digits)
}

fn is_maestro(lead: u32) -> bool {
    matches!(lead, 50 | 56..=58 | 61 | 63 | 66..=69)
}

/// Maestro takes a tenth of all numbers, so it does not say much.
fn is_maestro_only(text: &str) -> bool {
    is_maestro(digits(text).iter().take(2).fold(0, |lead, digit| lead * 10 + u32::from(*digit)))
}

/// ISO 13616: the country's length and form, and MOD 97-10. Words behind a spaced number are left off.
fn iban(found: &Found<'_>) -> Option<usize> {
    let mut end = found.value().len();
    loop {
        let candidate = found.value().get(..end)?;
        if candidate.split(' ').collect::<String>().parse::<Iban>().is_ok() {
            return Some(end);
        }
        end = candidate.rfind(' ')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_no_network_issues_is_no_card() {
        for card in [
            "4111 1111 1111 1111",
            "5555-5555-5555-4444",
            "378282246310005",
            "6011000990139424",
            "30569309025904",
        ] {
            assert!(is_card(card), "{card}");
            let wrong = format!("{}0", &card[..card.len() - 1]);
            assert!(wrong == card || !is_card(&wrong), "{wrong}");
        }
        for other in ["0000000000000000", "9111111111111119", "1795451000123", "49015420323751"] {
            assert!(!is_card(other), "{other}");
        }
    }
}
