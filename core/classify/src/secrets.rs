//! Keys, tokens and passwords.
//!
//! Tokens with a published form are told by that form and by being random; everything else needs a word that says
//! what it is, and has to look like a secret rather than like code, a placeholder or a digest. Forms are those of the
//! vendors' own pages on their tokens, where there is one, and of the default rules of gitleaks 8 (MIT) otherwise.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::detector::{Detector, Found};
use crate::entropy::{bits_per_byte, changes_per_byte, is_hex, is_placeholder};
use crate::findings::SECRET;
use crate::json::VALUE_MARK;

/// Bits per byte that a token of a published form has at least. Random hexadecimal digits have about 3.6.
const TOKEN_BITS_MIN: f64 = 3.0;
/// The same for text of which nothing is known but a word near it.
const UNKNOWN_BITS_MIN: f64 = 4.0;

/// A token of a vendor.
const fn token(kind: &'static str, gate: &'static str, pattern: &'static str) -> Detector {
    Detector::of(kind, SECRET, gate, pattern, |found| found.if_so(is_random(found.value())))
}

/// The detectors, the particular before the general.
pub(crate) const DETECTORS: &[Detector] = &[
    // RFC 7468, RFC 9580 section 6.2. Without a body it is only spoken of.
    Detector::of(
        "private_key",
        SECRET,
        "-----BEGIN",
        r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[rn]){1,8}(?:[A-Za-z-]{1,20}: ?[ -~]{1,100}(?:\s|\\[rn]){1,8}){0,4}(?P<v>[A-Za-z0-9+/]{24,64})",
        |found| found.if_so(is_random(found.value())),
    ),
    token("private_key", "AGE-SECRET-KEY-1", r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b"),
    token("anthropic_key", "sk-ant-", r"\bsk-ant-[a-z]{2,8}[0-9]{2}-[A-Za-z0-9_-]{80,120}"),
    token(
        "openai_key",
        "sk-",
        r"\bsk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,200}|[A-Za-z0-9]{32,64}\b)",
    ),
    token("aws_access_key", "AKIA|ASIA", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    Detector::of(
        "aws_secret_key",
        SECRET,
        "",
        r"(?:^|(?u:[^A-Za-z0-9+/]))(?P<v>[A-Za-z0-9+/]{40})(?:$|(?u:[^A-Za-z0-9+/=]))",
        |found| {
            found.if_so(
                is_random(found.value()) && !is_hex(found.value()) && changes_per_byte(found.value()) > 0.4,
            )
        },
    )
    .near(&["aws", "secret access key", "aws secret access key", "amazon"]),
    token(
        "github_token",
        "gh[pousr]_|github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b",
    ),
    token(
        "gitlab_token",
        "gl[a-z]{2,7}-",
        r"\bgl(?:pat|dt|ptt|rt|cbt|ft|imt|agent|soat|oas|ffct)-[A-Za-z0-9_=-]{20,64}",
    ),
    token(
        "slack_token",
        "xox|xapp-|hooks[.]slack",
        r"\b(?:xox[abeoprs]-(?:[0-9]{6,14}-){1,3}[A-Za-z0-9-]{16,64}|xapp-[0-9]-[A-Z0-9]{1,16}-[0-9]{6,14}-[a-z0-9]{40,64})",
    ),
    token(
        "slack_token",
        "hooks[.]slack",
        r"\bhooks[.]slack[.]com/(?:services|workflows)/(?P<v>T[A-Z0-9]{8,12}/[A-Z0-9]{8,12}/[A-Za-z0-9]{23,25})",
    ),
    token(
        "stripe_key",
        "[sr]k_(?:live|test)_|whsec_",
        r"\b(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,247}|whsec_[A-Za-z0-9+/]{32,64})",
    ),
    token(
        "google_key",
        "AIza|GOCSPX-|ya29[.]",
        r"\b(?:AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}|ya29[.][A-Za-z0-9_-]{20,400})",
    ),
    token(
        "azure_key",
        "AccountKey|SharedAccessKey|sig=",
        r"(?:\bAccountKey=(?P<v>[A-Za-z0-9+/]{86}==)|\bSharedAccessKey=[A-Za-z0-9+/]{43}=|\bs[vrpet]=[A-Za-z0-9%:&=_-]{8,200}&sig=[A-Za-z0-9%+/]{43,70})",
    ),
    token(
        "azure_key",
        "[0-9]Q~",
        r"(?:^|(?u:[^A-Za-z0-9_~.-]))(?P<v>[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34})",
    ),
    token("npm_token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    token("pypi_token", "pypi-", r"\bpypi-AgE[A-Za-z0-9_-]{50,250}"),
    token("twilio_key", "SK[0-9a-f]{32}", r"\bSK[0-9a-f]{32}\b"),
    token("sendgrid_key", "SG[.]", r"\bSG[.][A-Za-z0-9_-]{22}[.][A-Za-z0-9_-]{43}\b"),
    // DigitalOcean, Shopify, Databricks, HashiCorp Vault, Hugging Face, Telegram, Linear, Atlassian, Grafana.
    token(
        "vendor_token",
        "dop_v1_|shp|dapi|hvs[.]|hf_|:AA|lin_api_|ATATT|glsa_",
        r"\b(?:dop_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|dapi[0-9a-f]{32}|hvs[.][A-Za-z0-9_-]{24,120}|hf_[A-Za-z]{34}|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}|lin_api_[A-Za-z0-9]{40}|ATATT3[A-Za-z0-9_=-]{60,240}|glsa_[A-Za-z0-9]{32}_[0-9a-f]{8})",
    ),
    // RFC 7519, section 3.1: the header is JSON with `alg`.
    Detector::of(
        "jwt",
        SECRET,
        "eyJ",
        r"\beyJ[A-Za-z0-9_-]{10,}[.]eyJ[A-Za-z0-9_-]{10,}[.][A-Za-z0-9_-]{20,}",
        |found| found.if_so(has_jwt_header(found.value())),
    ),
    Detector::of(
        "connection_string",
        SECRET,
        "://",
        r"(?i)\b(?:postgres(?:ql)?|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|oracle|clickhouse|cockroachdb|snowflake|ldaps?|nats|kafka)(?:[+][a-z0-9]{1,16})?://[A-Za-z0-9._%+~-]{0,64}:(?P<v>[!-?A-~][!-.0-?A-~]{2,127})@[A-Za-z0-9_\[.-]",
        |found| found.if_so(is_login(found)),
    ),
    Detector::of(
        "connection_string",
        SECRET,
        "(?i)(?:password|pwd)[ ]?=",
        r"(?i)\b(?:server|data source|host|user id|uid|username)[ ]?=[ -~]{1,160};[ ]?(?:password|pwd)[ ]?=[ ]?(?P<v>[!-:<-~]{4,128})",
        |found| found.if_so(!is_placeholder(found.value()) && !is_stock(found.value())),
    ),
    // RFC 3986, section 3.2.1.
    Detector::of(
        "url_password",
        SECRET,
        "://",
        r"(?i)\b[a-z][a-z0-9+-]{1,12}://[A-Za-z0-9._%+~-]{1,64}:(?P<v>[!-.0-?A-~]{3,128})@[A-Za-z0-9_\[.-]",
        |found| found.if_so(is_login(found)),
    ),
    // crypt(5), and the PHC string format of Argon2.
    Detector::of(
        "password_hash",
        SECRET,
        "[$](?:2[aby]|argon2|6|5|y)",
        r"[$](?:2[aby][$][0-9]{2}[$][./A-Za-z0-9]{53}|argon2(?:id|i|d)[$]v=[0-9]{1,3}[$][a-z0-9=,]{3,40}[$][A-Za-z0-9+/]{8,90}[$][A-Za-z0-9+/]{16,90}|[56y][$][./A-Za-z0-9=$]{1,40}[$][./A-Za-z0-9]{43,86})",
        |found| found.if_so(!is_placeholder(found.value())),
    ),
    // RFC 6750, section 2.1; RFC 7617.
    Detector::of(
        "bearer_token",
        SECRET,
        "(?i)bearer",
        r"(?i)\bbearer[ ]{1,4}(?P<v>[A-Za-z0-9._~+/-]{20,512})",
        |found| found.if_so(is_token(found.value())),
    ),
    Detector::of(
        "basic_login",
        SECRET,
        "(?i)authorization",
        r#"(?i)\bauthorization["']?[ ]{0,4}[:=][ ]{0,4}["'\x01]?basic[ ]{1,4}(?P<v>[A-Za-z0-9+/]{8,400}={0,2})"#,
        |found| {
            let login = STANDARD.decode(found.value()).unwrap_or_default();
            found.if_so(login.contains(&b':') && login.is_ascii())
        },
    ),
    Detector::of(
        "password",
        SECRET,
        "(?i)pass|pwd|senha|kennwort|contrase",
        r#"(?i)(?:pass[ _-]?(?:word|wort|phrase|code)|passwd|pwd|senha|kennwort|contrase(?:n|ñ)a|mot de passe)(?:\\?["'\]])?[ \t]{0,4}(?:=>|:=|=|:|[ ]is[ ]|[ ]ist[ ])[ \t]{0,4}(?:\\?["'`\x01])?(?P<v>[!-~][ -~]{3,255})"#,
        password,
    ),
    Detector::of(
        "api_secret",
        SECRET,
        "(?i)secret|key|token|credential",
        r#"(?i)(?:secret(?:[ _-]?(?:access[ _-]?)?key|[ _-]?token)?|(?:api|access|auth|app|account|encryption|signing|private|master|license|service|webhook)[ _-]?key|token|credentials?)(?:\\?["'\]])?[ \t]{0,4}(?:=>|:=|=|:)[ \t]{0,4}(?:\\?["'`\x01])?(?P<v>[!-~][ -~]{7,511})"#,
        api_secret,
    ),
    Detector::of("high_entropy", SECRET, "", r"[A-Za-z0-9+/_-]{24,128}={0,2}", |found| {
        let value = found.value().trim_end_matches('=');
        found
            .if_so(found.is_alone() && !is_hex(value) && !is_written(found, value) && !is_encoded_text(value))
    })
    .near(&[
        "api key",
        "secret",
        "secret key",
        "token",
        "access key",
        "credential",
        "auth key",
        "passphrase",
        "bearer",
    ])
    .unless(&[
        "sha",
        "sha1",
        "sha256",
        "sha384",
        "sha512",
        "digest",
        "integrity",
        "checksum",
        "commit",
        "etag",
        "hash",
        "fingerprint",
        "nonce",
        "csp",
        "base64",
        "public key",
        "page token",
        "next page token",
        "csrf token",
        "data",
    ]),
];

fn is_random(token: &str) -> bool {
    !is_placeholder(token) && bits_per_byte(token) >= TOKEN_BITS_MIN
}

/// Long, random, with letters and digits, and no name that a program would use.
fn is_token(value: &str) -> bool {
    let both = value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_alphabetic());
    value.len() >= 16 && both && is_random(value)
}

fn is_written(found: &Found<'_>, value: &str) -> bool {
    let has = |is: fn(&u8) -> bool| value.bytes().filter(is).count();
    let mixed =
        has(u8::is_ascii_lowercase) > 1 && has(u8::is_ascii_uppercase) > 1 && has(u8::is_ascii_digit) > 1;
    let leads_on = found.before().ends_with(['/', '\\', '@', '#', '?', '&', '%']);
    !mixed
        || leads_on
        || is_placeholder(value)
        || changes_per_byte(value) < 0.4
        || bits_per_byte(value) < UNKNOWN_BITS_MIN
}

/// Base64 of something to read, or of an image: it holds what it holds, but is no key.
fn is_encoded_text(value: &str) -> bool {
    let whole = value.get(..value.len() / 4 * 4).unwrap_or_default();
    STANDARD.decode(whole).is_ok_and(|bytes| {
        let starts =
            [b"\x89PNG".as_slice(), b"\xff\xd8\xff", b"GIF8", b"RIFF", b"wOF", b"%PDF", b"PK\x03\x04"];
        starts.iter().any(|start| bytes.starts_with(start))
            || bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
    })
}

fn has_jwt_header(jwt: &str) -> bool {
    let header = jwt.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    header
        .and_then(|header| serde_json::from_slice::<Value>(&header).ok())
        .is_some_and(|header| header.get("alg").is_some())
}

/// Passwords of local databases and tutorials. They open nothing that is not open.
fn is_stock(password: &str) -> bool {
    const STOCK: [&str; 20] = [
        "password",
        "passwd",
        "pass",
        "pwd",
        "postgres",
        "root",
        "admin",
        "secret",
        "test",
        "guest",
        "user",
        "mysql",
        "mongo",
        "redis",
        "token",
        "hunter",
        "foobar",
        "none",
        "null",
        "undefined",
    ];
    STOCK.contains(&password.to_ascii_lowercase().as_str())
}

/// Whether a URL's password is one: not a variable, not a stock word, not the user's name again.
fn is_login(found: &Found<'_>) -> bool {
    let password = found.value();
    let user = found.key().rsplit_once(':').and_then(|(head, _)| head.rsplit('/').next()).unwrap_or_default();
    let is_masked = password.bytes().all(|byte| byte == b'*' || byte == b'x');
    !(is_placeholder(password)
        || is_stock(password)
        || is_masked
        || password == user
        || password.starts_with(['$', '{', '%', '[']))
}

/// Where an assigned value ends: at its own quote, else at what ends a word. In bytes.
fn assigned<'a>(found: &Found<'a>) -> Option<&'a str> {
    let value = found.value();
    let end = match found.key().chars().next_back() {
        Some(VALUE_MARK) => value.len(),
        Some(quote @ ('"' | '\'' | '`')) => value.find(quote)?,
        _ => value.find([' ', ',', ';', '&', '"', '\'', '`', ')', ']', '}', '\\']).unwrap_or(value.len()),
    };
    value.get(..end).map(|value| value.strip_suffix('\\').unwrap_or(value))
}

/// Code that names a secret instead of holding it: `settings.password`, `env("X")`, `$X`.
fn is_reference(value: &str) -> bool {
    const CALLS: [&str; 12] = [
        "env",
        "getenv",
        "process.",
        "config",
        "settings.",
        "self.",
        "this.",
        "secrets.",
        "vault",
        "ssm:",
        "arn:",
        "file:",
    ];
    let lower = value.to_ascii_lowercase();
    let dotted =
        value.contains('.') && value.bytes().all(|byte| byte.is_ascii_alphabetic() || b"._".contains(&byte));
    value.starts_with(['$', '%', '@', '&', '*', '(', '{', '/', '-', '|', '!'])
        || value.contains('(')
        || dotted
        || CALLS.iter().any(|call| lower.starts_with(call))
}

/// A password has two kinds of characters and is no sentence. Without quotes it is no type, call or index either.
fn password(found: &Found<'_>) -> Option<usize> {
    let value = assigned(found)?;
    let has = |is: fn(&u8) -> bool| value.bytes().any(|byte| is(&byte));
    let is_bare = !found.key().ends_with(['"', '\'', '`', VALUE_MARK]);
    let looks_like_code = value.contains(['[', ']', '<', '>', '{', '}']) || value.contains("::");
    let symbol = value.bytes().any(|byte| byte.is_ascii_punctuation() && !b"-_./:".contains(&byte));
    let strong = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        || symbol && has(u8::is_ascii_alphanumeric)
        || !is_bare
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && changes_per_byte(value) > 0.3;
    let is_sentence = value.matches(' ').count() > 1 || value.ends_with(['.', ':']) && value.contains(' ');
    let is_one = value.len() >= 6
        && strong
        && !(is_bare && looks_like_code)
        && !(is_sentence || is_placeholder(value) || is_stock(value) || is_reference(value));
    is_one.then_some(value.len())
}

/// A key or token is random; a `token` is also what many harmless things are called.
fn api_secret(found: &Found<'_>) -> Option<usize> {
    const HARMLESS: [&str; 18] = [
        "page",
        "next",
        "prev",
        "csrf",
        "xsrf",
        "cursor",
        "continuation",
        "sync",
        "cancel",
        "public",
        "stop",
        "pad",
        "eos",
        "bos",
        "mask",
        "sort",
        "idempotency",
        "cache",
    ];
    let value = assigned(found)?;
    let before = found.before().to_ascii_lowercase();
    let tail = before.get(before.floor_char_boundary(before.len().saturating_sub(16))..).unwrap_or_default();
    let is_uuid = value.len() == 36 && is_hex(value) && value.matches('-').count() == 4;
    let is_bare_token = found.key().to_ascii_lowercase().starts_with("token");
    let changes_min = if value.contains(['_', '.']) { 0.4 } else { 0.25 };
    let looks_like_code = value.contains([' ', '[', ']', '{', '}', '(']) || is_reference(value);
    let is_harmless = is_uuid && is_bare_token || HARMLESS.iter().any(|word| tail.contains(word));
    let is_one = is_token(value)
        && (changes_per_byte(value) > changes_min || is_hex(value))
        && !(looks_like_code || is_harmless);
    is_one.then_some(value.len())
}
