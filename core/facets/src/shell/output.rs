//! Programs whose standard output the text tells: how commands are put together out of harmless pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Input;
use super::expand::Field;
use super::tables::base_name;

/// The standard output of programs whose output the text tells.
pub(super) fn output(fields: &[Field], input: &Input) -> Option<String> {
    let (first, arguments) = fields.split_first()?;
    if !fields.iter().all(|field| field.sure && !field.either) {
        return None;
    }
    let words = || arguments.iter().map(|field| field.text.as_str());
    let plain = || words().filter(|word| !word.starts_with('-'));
    let given = || match input {
        Input::Text { text, sure: true } => Some(text.clone()),
        _ => None,
    };
    match base_name(&first.text) {
        "echo" => {
            let options = words().take_while(|word| {
                word.len() > 1 && word.starts_with('-') && word[1..].bytes().all(|b| b"neE".contains(&b))
            });
            let text = words().skip(options.count()).collect::<Vec<_>>().join(" ");
            Some(unescaped(&text))
        }
        "printf" => {
            let mut words = words().skip_while(|word| *word == "--");
            let format = unescaped(words.next()?);
            let values: Vec<String> = words.map(unescaped).collect();
            Some(formatted(&format, &values))
        }
        "cat" | "tee" if plain().next().is_none() => given(),
        "which" | "command" | "type" if plain().count() == 1 => plain().next().map(str::to_owned),
        "base64" | "base32"
            if words().any(|word| matches!(word, "-d" | "-D" | "--decode" | "-di" | "-id")) =>
        {
            let compact: String = given()?.split_whitespace().collect();
            String::from_utf8(BASE64.decode(compact).ok()?).ok()
        }
        "xxd" if words().any(|word| word.contains('r')) && words().any(|word| word.contains('p')) => {
            let compact: Vec<u8> = given()?.bytes().filter(u8::is_ascii_hexdigit).collect();
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let bytes =
                compact.chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok());
            String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
        }
        "rev" => given().map(|text| {
            text.lines().map(|line| line.chars().rev().collect::<String>()).collect::<Vec<_>>().join("\n")
        }),
        _ => None,
    }
}

/// `%s` and `%b` of printf; another directive becomes nothing.
fn formatted(format: &str, values: &[String]) -> String {
    let mut text = String::new();
    let mut left = values.iter();
    let mut parts = format.split('%');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.strip_prefix(['s', 'b']) {
            Some(rest) => {
                text.push_str(left.next().map_or("", String::as_str));
                text.push_str(rest);
            }
            None => text.push_str(part),
        }
    }
    // The format is used again for what is left.
    for value in left {
        text.push_str(value);
        text.push(' ');
    }
    text
}

/// Escapes of `echo -e` and printf. Reading them where echo would not finds more programs, not fewer.
fn unescaped(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let Some((escape, behind)) = rest.split_first().filter(|_| *byte == b'\\') else {
            bytes.push(*byte);
            continue;
        };
        rest = behind;
        let (radix, digits_max) = match escape {
            b'x' => (16, 2),
            b'0'..=b'7' => (8, 3),
            b'n' | b't' => {
                bytes.push(if *escape == b'n' { b'\n' } else { b'\t' });
                continue;
            }
            other => {
                bytes.push(*other);
                continue;
            }
        };
        let digits = if radix == 8 && *escape != b'0' {
            &text.as_bytes()[text.len() - rest.len() - 1..]
        } else {
            rest
        };
        let mut value = 0_u32;
        let mut used = 0;
        for digit in digits.iter().take(digits_max).map_while(|byte| char::from(*byte).to_digit(radix)) {
            value = value * radix + digit;
            used += 1;
        }
        rest = &digits[used..];
        bytes.push(u8::try_from(value & 0xff).unwrap_or_default());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
