//! Signs that a text carries instructions meant for the agent that reads it.
//!
//! Patterns over a normal form of the text: lower case, single spaces, hidden characters left out or, where they stand
//! for letters, written out. The families are those of OWASP LLM01:2025 and of published attacks: phrases that set
//! earlier instructions aside, forged turns of a conversation, text that people do not see, and links that carry data
//! away. A text that quotes such a phrase in order to talk about it has the weaker signal `injection:mention`.

use std::cell::LazyCell;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::findings::Tally;
use crate::scan::constant;

const OVERRIDE: (&str, f64) = ("injection:override", 0.7);
const ROLE: (&str, f64) = ("injection:role", 0.5);
const HIDDEN_TEXT: (&str, f64) = ("injection:hidden_text", 0.6);
const EXFIL_LINK: (&str, f64) = ("injection:exfil_link", 0.6);
const MENTION: (&str, f64) = ("injection:mention", 0.2);

/// How many phrases of one signal are looked at for quotes around them. Nobody who talks about them needs more.
const QUOTED_MAX: usize = 32;
/// How much of a comment or of an invisible element is read, in bytes.
const UNSEEN_BYTES_MAX: usize = 600;
/// Hidden characters in a row that no writing system needs.
const INVISIBLE_RUN_MIN: usize = 3;

/// Up to that many words of one sentence.
macro_rules! words {
    ($max:literal) => {
        concat!(r"(?:[^\s.!?;<>]{1,24}\s){0,", $max, "}")
    };
}

/// Each with a few literals without which it cannot match.
const OVERRIDES: &[(&str, &str)] = &[
    (
        "ignor|disregard|forget|overrid|bypass|neglect|discard|overlook|attention to|follow",
        concat!(
            r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?: about)?|overrid(?:e|ing)|bypass|neglect|discard|overlook|pay no attention to|(?:do not|don't|stop) follow(?:ing)?)\s",
            words!("4"),
            r"(?:(?:previous|prior|above|earlier|preceding|foregoing|former|original|existing|initial|system|developer|safety|your|current)\s",
            words!("3"),
            r"(?:i[a-z]{1,5}ruction|prompt|guideline|directive|programming|training\b|safeguard|guardrail)|(?:previous|prior|above|earlier|preceding|foregoing|your|system|safety)\s",
            words!("1"),
            r"(?:rules|directions|commands|orders|policies|restrictions)\b)",
        ),
    ),
    (
        "ignor|disregard|forget|overrid|bypass|discard",
        concat!(
            r"\b(?:ignore|disregard|forget|override|bypass|discard)\s(?:about\s)?(?:all|any|every|everything|what)\s",
            r"(?:(?:of\s)?(?:the\s|your\s|these\s|those\s|other\s)?",
            words!("1"),
            r"(?:instructions|prompts|guidelines|programming|directives)\b|(?:that\s)?(?:you (?:were|have been|are|know)|i (?:said|told)|we (?:said|told)|(?:was|is|were)\s?(?:said|told|above|written)|above|before (?:this|now)|said (?:so far|before|above)|so far)\b)",
        ),
    ),
    (
        "instruction|prompt|guideline",
        r"\b(?:instructions?|prompts?|guidelines) (?:above|before this|you (?:were|have been) given|given (?:above|earlier|before|to you)) (?:are|is|were|was|have been|has been) (?:now )?(?:void|obsolete|invalid|outdated|cancel|supersed|wrong|no longer|revoked|null|replaced)",
    ),
    (
        "you are|mode|restrictions|no rules|pretend|act as",
        r"\b(?:you are now (?:dan\b|in (?:developer|debug|god|admin|jailbreak|unrestricted|root) mode|an? (?:unrestricted|uncensored|unfiltered|evil|new ai|different ai|ai|hacker))|you are no longer (?:bound|restricted|an? (?:ai|assistant|helpful)|limited by|required to follow)|(?:enter|enable|activate) (?:jailbreak|god|dan|unrestricted) mode|(?:act|respond|answer) as (?:if|though) you (?:have|had) no (?:restrictions|rules|guidelines|filters)|pretend (?:that )?you (?:have|had) no (?:restrictions|rules|guidelines|filters))",
    ),
    (
        "your new|your real|your actual|your true|instruction",
        r"\b(?:your (?:new|real|actual|true) (?:task|instructions?|goal|objective|mission|purpose|orders?) (?:is|are)\b|new (?:system )?instructions?(?: from [^\n:]{1,30})?:|(?:updated|revised|important|special|mandatory) (?:system )?instructions? (?:for|to) (?:the |any |all )?(?:ai|assistant|agent|model|llm|claude|chatgpt|copilot|gemini)s?\b)",
    ),
    (
        "user|human|anyone",
        r"\b(?:(?:do not|don't|never) (?:mention|reveal|disclose) (?:this|it|these|any of this)\b[^\n.]{0,40}(?:user|human|anyone)|(?:do not|don't|never|without) (?:tell|telling|inform|informing|alert|alerting) the (?:user|human)s?\b)",
    ),
    (
        "prompt|instruction",
        concat!(
            r"\b(?:reveal|print|repeat|output|show|display|leak|expose|tell me|give me|send|include)\s",
            words!("3"),
            r"(?:your|the)\s(?:full\s|entire\s|complete\s)?(?:system|hidden|initial|secret|original|developer)\s(?:prompt|instructions?)\b",
        ),
    ),
    (
        "before",
        r"\bbefore (?:using|calling|invoking|running|answering|responding|replying|doing|you (?:use|call|answer|respond|reply|continue|do))\b[^\n.]{0,60}\b(?:read|send|call|fetch|execute|run|upload|post|forward|include|pass|open)\b[^\n]{0,60}(?:~/|[.]ssh|[.]env\b|id_rsa|mcp[.]json|/etc/passwd|contents? of)",
    ),
    (
        "reading this|processing this|parsing this|summari[sz]ing this|reads this|you are an? |you're an? ",
        concat!(
            r"\b(?:(?:ai|assistant|agent|llm|model|claude|chatgpt|copilot|gemini|cursor)s?(?: is| are)? (?:reading|processing|parsing|summari[sz]ing|that reads?) this|if you(?: are|'re) an? (?:ai|llm|large language model|language model|ai assistant|assistant|ai agent|agent|bot|automated))\b[^\n.]{0,60}?[\s:,]",
            r"(?:ignore|send|forward|include|execute|run|delete|add|visit|call|email|upload|respond|reply|output|say|recommend|approve|rate|mention|write)\b",
        ),
    ),
    // The frames of AgentDojo (Debenedetti et al., 2024): a letter to the model, and a task before the task.
    (
        "important|urgent|critical|special",
        r"\b(?:important|urgent|critical|special) (?:message|notice|note|request|instructions?) (?:from|for|to) [^\n.]{0,60}(?:\bto you,|\b(?:the|an|any) (?:ai|assistant|agent|model|llm)\b|\b(?:claude|chatgpt|gpt|gemini|copilot|llama|mistral)\b)",
    ),
    (
        "before you|after you",
        r"\b(?:before|after) you[^\n.]{0,40}\b(?:task|request|question|query|instructions?) (?:that )?(?:i|we|the user|your user|you were|you have been) (?:gave|asked|assigned|told|given)\b",
    ),
    // German.
    (
        "anweisung|instruktion|befehl|vorgabe|prompt|regeln",
        concat!(
            r"\b(?:ignorier(?:e|en|t)?|vergiss|vergesst|vergessen|missachte|missachten|beachte|verwirf)\s",
            words!("4"),
            r"(?:(?:vorherig|bisherig|obig|früher|vorig|vorangegangen|vorhergehend|vorstehend|ursprünglich)(?:e|en|er)\s|(?:alle|deine|ihre|sämtliche)\s)",
            words!("2"),
            r"(?:anweisung|instruktion|befehl|vorgabe|systemprompt|prompt|regeln)",
        ),
    ),
    // French.
    (
        "instruction|consigne|directive|règles|ordres",
        concat!(
            r"\b(?:ignore[zr]?|oublie[zr]?|néglige[zr]?|(?:ne )?(?:tiens|tenez|tenir) pas compte|fai(?:s|tes) abstraction)\s",
            words!("4"),
            r"(?:instructions?|consignes?|directives?|règles|ordres)\s",
            words!("2"),
            r"(?:précédent|antérieur|ci-dessus|ci-avant|initial|système|reçu)",
        ),
    ),
    // Spanish and Portuguese.
    (
        "instruc|órdenes|ordens|indicaciones|reglas|regras|directrices|diretrizes|orientações",
        concat!(
            r"\b(?:ignor[ae](?:r|n|d)?|olvid[ae](?:r|n|d)?|descart[ae]|desconsider[ae]|esqueç[ae]m?|haz caso omiso|no hagas caso)\s",
            words!("4"),
            r"(?:(?:anteriores|previas|prévias)\s)?(?:instrucciones|instruções|órdenes|ordens|indicaciones|reglas|regras|directrices|diretrizes|orientações)(?:\s",
            words!("2"),
            r"(?:anteriores|previas|prévias|de arriba|acima|del sistema|do sistema|recibidas|recebidas)|\s?[.,:;!])",
        ),
    ),
    // Italian.
    (
        "istruzioni|indicazioni|regole|direttive|ordini",
        concat!(
            r"\b(?:ignora(?:re|te)?|dimentica(?:re|te)?|trascura(?:re|te)?|non seguire)\s",
            words!("4"),
            r"(?:(?:precedenti|tutte le|tue|sue)\s)",
            words!("1"),
            r"(?:istruzioni|indicazioni|regole|direttive|ordini)|\b(?:ignora|dimentica|trascura)(?:re|te)?\s",
            words!("3"),
            r"(?:istruzioni|indicazioni|regole|direttive|ordini)\s(?:precedenti|di cui sopra|di sistema|ricevute)",
        ),
    ),
    // Chinese and Japanese.
    (
        "忽略|无视|忘记|忽視|無視|忘れ",
        r"(?:忽略|无视|忘记)[^\n。]{0,12}(?:指令|指示|提示|说明|规则|命令)|(?:これまで|以前|上記|前|今まで)[^\n。]{0,8}(?:指示|命令|指令|ルール|プロンプト)[^\n。]{0,6}(?:無視|忘れ)",
    ),
];

/// Forged turns and tags of conversations.
const ROLES: &[(&str, &str)] = &[
    (
        "<[|]",
        r"<[|](?:im_start|im_end|im_sep|system|assistant|user|end_of_turn|start_header_id|end_header_id|eot_id|endoftext|endofprompt|channel)[|]>",
    ),
    ("inst]|sys>>|_of_turn>", r"\[/inst\]|\[inst\]\s|<</?sys>>|<(?:start|end)_of_turn>"),
    (
        "<",
        r"</?(?:system[-_ ]?(?:prompt|reminder|message|instructions?|override|note)|assistant|function_(?:results?|calls?)|tool_(?:results?|response|output|calls?)|important|critical|user_(?:query|message|request)|antml:[a-z_]{1,20})>",
    ),
    (
        "system",
        r"[#*=-]{2,} ?[\[(<]system[ _-]?(?:message|prompt|override|instructions?|note|notice|alert|command)s?[\])>]|[#=]{2,} ?system[ _-]?(?:message|prompt|override|instructions?|note|notice|alert|command)s? ?[#=]{2,}",
    ),
    ("<system>", r"<system>[^<]{0,200}\b(?:you|ignore|must|assistant|instructions?)\b"),
    (
        "system|assistant",
        r"(?:^|\n) ?(?:[#*\[(=>-]{1,6} ?)?(?:system|assistant|system (?:message|override|prompt|instructions?|note|notice|alert|update|command))(?: ?[\])*]{1,4})?:(?: ?[\])*]{1,4})? ?[^\n]{0,80}\b(?:you (?:are (?:now|an? )|must|should|will now)|ignore|disregard|new instructions?|your (?:task|goal|instructions?)|the assistant (?:must|should|will))\b",
    ),
    (
        "end of",
        r"[-=*#\[<]{2,}\s?end of (?:the )?(?:document|tool|function|web ?page|page|e-?mail|user|search|context|file|data|input|article|results?)[^\n]{0,30}\n?(?s:.{0,120}?)\b(?:system|new (?:task|instructions?)|you must|instructions? for)\b",
    ),
];

/// Data on its way out: in the query of an image that is loaded on sight, or on request.
const EXFILS: &[(&str, &str)] = &[
    (
        "send|post|upload|forward|transmit|exfiltrate|submit|curl",
        concat!(
            r"\b(?:send|post|upload|forward|transmit|exfiltrate|submit|curl)\s",
            words!("6"),
            r"(?:conversation|chat (?:history|log)|system prompt|environment variables|[.]env|id_rsa|ssh keys?|private keys?|~/[.][a-z/_]{2,20}|/etc/[a-z]{2,12}|previous messages|all (?:e-?mails|messages|files|secrets|credentials))\b[^\n]{0,80}\bto\s[^\n]{0,40}(?:https?://|[a-z0-9._-]{1,40}@[a-z0-9-]{1,40}[.])",
        ),
    ),
    (
        "append|include|encode|insert|replace|add |put ",
        r"\b(?:append|add|include|encode|put|insert|replace)\b[^\n.]{0,80}\b(?:conversation|chat history|user'?s? (?:data|messages?|e-?mail|name|question|api)|previous messages?|secrets? you|what the user)\b[^\n]{0,80}\b(?:url|query (?:string|parameter)|image (?:link|url|tag)|link)\b",
    ),
];

static IMAGE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?:!\[[^\]\n]{0,200}\] ?\( ?<?|<img\s[^>]{0,120}?src ?= ?["']?|\n\[[^\]\n]{1,40}\]: ?)(?P<url>https?://[^\s"'>]{1,600})"#,
    )
});
static UNSEEN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?:display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|opacity ?: ?0[;"' ]|color ?: ?(?:white|#fff(?:fff)?)\b|left ?: ?-[0-9]{3,5}px|hidden)[^<>]{0,80}>"#,
    )
});
static ADDRESSED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:ai|assistant|agent|llm|language model|model|claude|chatgpt|gpt|copilot|gemini|cursor|bot)s?\b[^\n]{0,60}?(?::|,|\bmust\b|\bshould\b|\bplease\b|\byou\b|\bneeds? to\b)[^\n]{0,80}?\b(?:ignore|send|forward|include|execute|run|fetch|curl|upload|reveal|post|e-?mail|delete|approve|recommend|visit|call|rate|say|do not|don't)\b",
    )
});
static DISCUSSION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"prompt[ -]injection|jailbreak|attack|adversar|malicious|payload|untrusted|red[ -]team|owasp|guardrail|classifier|exploit|vulnerab|detect|chat template|tokenizer|special token|phrases? (?:like|such as)|injected|e[.]g[.]|for example",
    )
});
static ENCODED: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9+/_-]{32,4096}"));
static PHRASES: LazyLock<[Phrases; 3]> =
    LazyLock::new(|| [Phrases::of(OVERRIDES), Phrases::of(ROLES), Phrases::of(EXFILS)]);

/// Without padding, and with stray bits at the end: whoever hides text need not be tidy.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Patterns of one signal, and the literals that open them.
struct Phrases {
    gates: RegexSet,
    patterns: Vec<Regex>,
}

impl Phrases {
    #[expect(clippy::expect_used, reason = "the literals are written above, and a test compiles them")]
    fn of(phrases: &[(&str, &str)]) -> Self {
        Self {
            gates: RegexSetBuilder::new(phrases.iter().map(|(gate, _)| gate))
                .unicode(false)
                .build()
                .expect("gates compile"),
            patterns: phrases.iter().map(|(_, phrase)| pattern(phrase)).collect(),
        }
    }

    /// Where one of them stands.
    fn places<'a>(&'a self, normal: &'a str) -> impl Iterator<Item = usize> + 'a {
        let open: Vec<usize> = self.gates.matches(normal).iter().collect();
        open.into_iter()
            .filter_map(|place| self.patterns.get(place))
            .flat_map(move |phrase| phrase.find_iter(normal).map(|found| found.start()))
    }

    fn is_in(&self, normal: &str) -> bool {
        self.places(normal).next().is_some()
    }
}

/// Compiles a pattern over normal form, whose only spaces are two. Word boundaries are those of ASCII: with others the
/// fast automaton gives up at the first letter with an accent.
fn pattern(text: &str) -> Regex {
    let text = text.replace(r"\b", r"(?-u:\b)").replace(r"\s", r"[ \n]");
    constant(RegexBuilder::new(&text).size_limit(8 << 20))
}

/// Adds the signals of a text.
pub(crate) fn look(text: &str, tally: &mut Tally) {
    let [overrides, roles, exfils] = &*PHRASES;
    let normal = normal_form(text);
    let talks_about_it = LazyCell::new(|| DISCUSSION.is_match(&normal));
    let mut is_spoken_of = false;
    let mut note = |(signal, weight): (&'static str, f64), places: &mut dyn Iterator<Item = usize>| {
        for (count, place) in places.enumerate() {
            if count == QUOTED_MAX || !is_quoted(&normal, place) || !*talks_about_it {
                tally.signals.insert(signal, weight);
                return;
            }
            is_spoken_of = true;
        }
    };
    note(OVERRIDE, &mut overrides.places(&normal));
    note(ROLE, &mut roles.places(&normal));
    note(EXFIL_LINK, &mut exfils.places(&normal).chain(leaking_images(&normal)));
    note(HIDDEN_TEXT, &mut addressed_comments(&normal));
    if has_hidden_characters(text) {
        tally.signals.insert(HIDDEN_TEXT.0, HIDDEN_TEXT.1);
    }
    for decoded in encoded(text) {
        if overrides.is_in(&decoded) || roles.is_in(&decoded) {
            tally.signals.insert(OVERRIDE.0, OVERRIDE.1);
            tally.signals.insert(HIDDEN_TEXT.0, HIDDEN_TEXT.1);
        }
    }
    if is_spoken_of {
        tally.signals.insert(MENTION.0, MENTION.1);
    }
}

/// Lower case; runs of white space are one space, or one line end if they held one; letters written as Unicode tags are
/// letters, other invisible characters are gone; curly quotes are straight.
fn normal_form(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut last = '\n';
    for letter in text.chars() {
        let letter = match letter {
            '!'..='~' => letter.to_ascii_lowercase(),
            '\u{e0020}'..='\u{e007e}' => {
                u32::from(letter).checked_sub(0xe_0000).and_then(char::from_u32).unwrap_or(' ')
            }
            '“' | '”' | '„' | '«' | '»' => '"',
            '‘' | '’' => '\'',
            '\n' => '\n',
            letter if letter.is_whitespace() => ' ',
            letter if letter.is_control() || is_invisible(letter) => continue,
            letter => letter,
        };
        match (letter, last) {
            ('\n', ' ') => {
                normal.pop();
                normal.push('\n');
            }
            ('\n' | ' ', '\n') | (' ', ' ') => continue,
            (letter, _) if letter.is_ascii() => normal.push(letter.to_ascii_lowercase()),
            (letter, _) => normal.extend(letter.to_lowercase()),
        }
        last = letter;
    }
    normal
}

/// Characters of no width: joiners, tags, variation selectors, direction marks.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e01ef}')
}

/// Whether the text hides something: text in tag characters (other than flags), forced direction, or invisible
/// characters in a row or between the letters of Latin words. Emoji, Arabic and Indic scripts use single ones.
///
/// Source: Unicode Technical Standard 51, section 5.1, for flags; CVE-2021-42574 for direction.
fn has_hidden_characters(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let mut in_row = 0;
    let mut in_words = 0;
    let mut is_flag = false;
    let mut last_seen = ' ';
    let mut last = ' ';
    for letter in text.chars() {
        match letter {
            '\u{202d}' | '\u{202e}' => return true,
            '\u{1f3f4}' => is_flag = true,
            '\u{e0020}'..='\u{e007f}' if is_flag => {}
            // How a sign is shown, as text or as an emoji.
            '\u{fe0e}' | '\u{fe0f}' => {}
            letter if is_invisible(letter) => {
                in_row += 1;
                if in_row >= INVISIBLE_RUN_MIN {
                    return true;
                }
            }
            letter => {
                let zero_width = matches!(last, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}');
                in_words += usize::from(
                    zero_width && last_seen.is_ascii_alphanumeric() && letter.is_ascii_alphanumeric(),
                );
                (in_row, is_flag, last_seen) = (0, false, letter);
            }
        }
        last = letter;
    }
    in_words >= INVISIBLE_RUN_MIN
}

/// Whether a phrase stands in quotes or in code.
fn is_quoted(normal: &str, place: usize) -> bool {
    let (before, behind) = normal.split_at_checked(place).unwrap_or((normal, ""));
    let line_before = before.rsplit('\n').next().unwrap_or_default();
    let line_behind = behind.split('\n').next().unwrap_or_default();
    let within = |quote: char| line_before.matches(quote).count() % 2 == 1 && line_behind.contains(quote);
    let is_fenced = || before.matches("```").count() % 2 == 1 && behind.contains("```");
    within('"') || within('`') || within('\'') || is_fenced()
}

/// Images and link targets whose query waits for data.
fn leaking_images(normal: &str) -> impl Iterator<Item = usize> {
    IMAGE.captures_iter(normal).filter_map(|found| {
        let (whole, url) = (found.get(0)?, found.name("url")?.as_str());
        leaks(url).then(|| whole.start())
    })
}

/// Whether a parameter asks for data; or could carry text, and is empty, a placeholder, or long.
fn leaks(url: &str) -> bool {
    const CARRIERS: &str = "q data payload exfil leak content secret secrets prompt context conversation history chat \
        message messages msg info d c p key password summary log s text";
    const FILLERS: [&str; 7] = ["your", "insert", "base64", "conversation", "summary", "user_", "..."];
    /// A word or an identifier is shorter; a sentence is longer.
    const TEXT_BYTES_MIN: usize = 48;
    let query =
        url.split_once('?').or_else(|| url.rsplit_once('/')).map(|(_, query)| query.trim_end_matches(')'));
    query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        let asks_for_data = value.starts_with(['[', '<']);
        let is_placeholder = value.is_empty()
            || value.starts_with(['{', '$', '%'])
            || FILLERS.iter().any(|filler| value.contains(filler));
        let is_text = value.len() >= TEXT_BYTES_MIN && name != "text";
        asks_for_data || CARRIERS.split(' ').any(|carrier| carrier == name) && (is_placeholder || is_text)
    })
}

/// Comments and invisible elements that tell an assistant what to do.
fn addressed_comments(normal: &str) -> impl Iterator<Item = usize> {
    let comments = normal.match_indices("<!--").map(|(start, mark)| (start, start + mark.len()));
    let elements = UNSEEN.find_iter(normal).map(|found| (found.start(), found.end()));
    addressed(normal, comments, "-->").chain(addressed(normal, elements, "<"))
}

/// Those of the openings, each where it begins and where its text does, whose text speaks to an assistant.
fn addressed<'a>(
    normal: &'a str,
    openings: impl Iterator<Item = (usize, usize)> + 'a,
    closing: &'static str,
) -> impl Iterator<Item = usize> + 'a {
    let mut read_until = 0;
    openings.filter_map(move |(start, from)| {
        // Nothing is read twice, or the work would grow with the square of the openings.
        if start < read_until {
            return None;
        }
        let rest = normal.get(from..normal.floor_char_boundary(from + UNSEEN_BYTES_MAX)).unwrap_or_default();
        let inner = rest.split(closing).next().unwrap_or_default();
        read_until = from + inner.len();
        let is_addressed = ADDRESSED.is_match(inner) || PHRASES.iter().any(|phrases| phrases.is_in(inner));
        is_addressed.then_some(start)
    })
}

/// Runs of Base64 that are text, in normal form.
fn encoded(text: &str) -> impl Iterator<Item = String> {
    ENCODED.find_iter(text).filter_map(|run| {
        let bytes = TOLERANT.decode(run.as_str().replace('-', "+").replace('_', "/")).ok()?;
        let decoded = String::from_utf8(bytes).ok()?;
        Some(normal_form(&decoded))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writing_that_needs_invisible_characters_hides_nothing() {
        for text in [
            "👨‍👩‍👧‍👦 family",
            "🏴󠁧󠁢󠁥󠁮󠁧󠁿 England",
            "❤️ heart",
            "☠️ \u{fe0f}\u{fe0f}\u{fe0f}DANGER",
            "می‌خواهم",
            "क्‍ष",
            "\u{feff}byte order mark",
            "soft\u{ad}hyphen",
            "{ $name }: \u{2068}Bob\u{2069}",
        ] {
            assert!(!has_hidden_characters(text), "{text}");
        }
        for text in [
            "a\u{200b}\u{200b}\u{200b}b",
            "i\u{200b}g\u{200b}n\u{200b}ore",
            "x\u{202e}cod.exe",
            "\u{e0069}\u{e0067}\u{e006e}",
        ] {
            assert!(has_hidden_characters(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(text in any::<String>()) {
            let normal = normal_form(&text);
            // Lower case of a few letters has marks that are letters of their own, so the second time is compared.
            let again = normal_form(&normal);
            prop_assert_eq!(&again, &normal_form(&again));
        }
    }
}
