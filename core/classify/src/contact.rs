//! How a person is reached, and when they were born.

use std::net::Ipv4Addr;

use crate::checksum::digits;
use crate::detector::{Detector, Found};
use crate::findings::PII;

/// The detectors of this module.
pub(crate) const DETECTORS: &[Detector] = &[
    Detector::of(
        "email_address",
        PII,
        "@",
        r"[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[.]){1,5}[A-Za-z]{2,24}\b",
        |found| found.if_so(is_personal(found)),
    ),
    Detector::of(
        "phone_number",
        PII,
        "",
        r"(?:[+]|\b00)[1-9][0-9]{0,2}[ .-]?(?:[(]0?[)][ ]?)?[(]?[0-9]{1,4}[)]?(?:[ .-]?[0-9]{2,5}){1,5}\b|[(][0-9]{2,5}[)][ ]?[0-9]{3,5}(?:[ -]?[0-9]{2,5}){1,2}\b|\b0?[0-9]{2,5}(?:[ ./-][0-9]{2,5}){2,4}\b|\b0[1-9][0-9]{8,10}\b|\b0[1-9][0-9]{1,4}[ /-][0-9]{5,9}\b",
        |found| found.if_so(is_phone(found)),
    )
    .near(&[
        "phone", "phone number", "phone no", "tel", "telephone", "mobile", "mobile number", "cell", "cell phone", "call me",
        "call", "reach me", "whatsapp", "sms", "text me", "fax", "telefon", "telefonnummer", "handy", "handynummer", "mobil",
        "téléphone", "portable", "teléfono", "móvil", "telefone", "celular", "telefono", "cellulare", "contact number",
    ]),
    Detector::of(
        "date_of_birth",
        PII,
        "",
        r"(?i)\b(?:[12][0-9]{3}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/. ]{1,2}[0-9]{1,2}[-/. ]{1,2}[12][0-9]{3}|[0-9]{1,2}(?:st|nd|rd|th|[.])? ?(?:of )?[a-z]{3,9}[.,]? [12][0-9]{3}|[a-z]{3,9}[.]? [0-9]{1,2}(?:st|nd|rd|th)?,? [12][0-9]{3})\b",
        |found| found.if_so(is_birthday(found.value())),
    )
    .near(&[
        "date of birth", "dob", "d.o.b", "birth date", "birthdate", "birthday", "born", "born on", "geboren", "geburtsdatum",
        "geburtstag", "né le", "née le", "date de naissance", "fecha de nacimiento", "nacido", "nacida", "data di nascita",
        "nato il", "nata il", "data de nascimento", "geb.",
    ]),
];

/// Addresses of a function, of the domains of RFC 2606, and file names with an `@` are about nobody.
fn is_personal(found: &Found<'_>) -> bool {
    const ROLES: [&str; 28] = [
        "abuse",
        "admin",
        "billing",
        "contact",
        "deploy",
        "dev",
        "ec2-user",
        "git",
        "hello",
        "help",
        "hostmaster",
        "hr",
        "info",
        "legal",
        "mailer-daemon",
        "marketing",
        "news",
        "newsletter",
        "noc",
        "office",
        "postmaster",
        "press",
        "root",
        "sales",
        "security",
        "support",
        "ubuntu",
        "webmaster",
    ];
    const FILES: [&str; 16] = [
        "png", "jpg", "jpeg", "gif", "svg", "webp", "js", "ts", "css", "py", "rs", "go", "html", "json",
        "yaml", "local",
    ];
    let address = found.value().to_ascii_lowercase();
    let Some((user, domain)) = address.rsplit_once('@') else { return false };
    // The pattern also finds the rest of an address that was refused.
    let before = found.text.get(..found.value.0).unwrap_or_default();
    let is_rest = before.ends_with(|c: char| c.is_alphanumeric() || "._%+-".contains(c));
    let top = domain.rsplit('.').next().unwrap_or_default();
    let reserved = ["example", "test", "invalid", "localhost"].contains(&top)
        || ["example.com", "example.org", "example.net"]
            .iter()
            .any(|name| domain.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    let is_role = ROLES.contains(&user)
        || ["noreply", "no-reply", "donotreply", "do-not-reply", "notifications"]
            .iter()
            .any(|role| user.starts_with(role));
    // `git@host:path` and `ssh://git@host:22` are places.
    let mut after = found.text.get(found.value.1..).unwrap_or_default().chars();
    let is_place = after.next() == Some(':') && after.next().is_some_and(|next| !next.is_whitespace());
    !(reserved || is_rest || is_role || is_place || FILES.contains(&top))
}

/// E.164 allows up to 15 digits; national numbers have at least 7.
fn is_phone(found: &Found<'_>) -> bool {
    let value = found.value();
    let before = found.text.get(..found.value.0).unwrap_or_default();
    let is_part = before.ends_with(|c: char| c.is_alphanumeric() || "+-./_#".contains(c));
    (8..=15).contains(&digits(value).len())
        && !(is_part || begins_with_date(value) || value.parse::<Ipv4Addr>().is_ok())
}

/// `2026-11-24 …` or `24.11.2026 …`.
fn begins_with_date(value: &str) -> bool {
    let parts: Vec<&str> = value.splitn(4, ['-', '/', '.', ' ']).take(3).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let year = parts
        .iter()
        .find(|part| part.len() == 4)
        .is_some_and(|part| part.starts_with("19") || part.starts_with("20"));
    year && matches!(lengths.as_slice(), [4, 2, 2] | [2, 2, 4])
}

/// Whether the Gregorian calendar has the day. Leap years are not looked at.
pub(crate) fn is_date(year: u32, month: u32, day: u32) -> bool {
    let days = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day) && (1900..2100).contains(&year)
}

/// A date that exists; day and month in either order.
fn is_birthday(text: &str) -> bool {
    let numbers: Vec<u32> =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        [year, month, day] if *year > 31 => is_date(*year, *month, *day),
        [one, two, year] => is_date(*year, *one, *two) || is_date(*year, *two, *one),
        [day, year] => is_date(*year, 1, *day) && is_month(text),
        _ => false,
    }
}

/// Whether a word of the text begins like a month in one of six languages.
fn is_month(text: &str) -> bool {
    const MONTHS: [&str; 30] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "ja", "mai",
        "okt", "dez", "jui", "avr", "fev", "ene", "abr", "ago", "dic", "gen", "mag", "giu", "lug", "set",
        "ott", "out",
    ];
    let lower = text.to_ascii_lowercase();
    lower
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| word.len() > 2 && MONTHS.iter().any(|month| word.starts_with(month)))
}
