//! Reads words: quotes, escapes, and everything that a `$` begins.

use super::syntax::{DEPTH_MAX, Parser, Piece, Word, is_name_byte};

/// Where [`Parser::pieces`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A word; ends at a blank or an operator.
    Bare,
    /// Between double quotes; ends before the closing one.
    Quoted,
    /// A here-document, or arithmetic; ends with the text.
    Document,
    /// Behind the operator of `${...}`; ends before `}`.
    Parameter { quoted: bool },
    /// Between `[` and `]` of `${name[...]}`.
    Subscript,
}

impl Mode {
    fn quotes(self) -> bool {
        !matches!(self, Self::Bare | Self::Parameter { quoted: false } | Self::Subscript)
    }

    fn ends_at(self, byte: u8) -> bool {
        match self {
            Self::Bare => {
                is_blank(byte) || matches!(byte, b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
            }
            Self::Quoted => byte == b'"',
            Self::Document => false,
            Self::Parameter { .. } => byte == b'}',
            Self::Subscript => byte == b']',
        }
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

impl Parser<'_> {
    /// Parts of a word, up to where `mode` ends it.
    pub(super) fn pieces(&mut self, mode: Mode) -> Word {
        let mut word = Word::new();
        // Open parentheses of an extended pattern such as `!(a|b)`.
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => self.escape(mode, &mut word),
                b'$' => self.dollar(mode, &mut word),
                b'`' => self.backquote(mode, &mut word),
                b'\'' if !mode.quotes() => self.single(&mut word),
                b'"' if !mode.ends_at(b'"') && mode != Mode::Document => {
                    self.at += 1;
                    let inner = self.pieces(Mode::Quoted);
                    self.complete &= self.eat("\"");
                    push_text(&mut word, "", true);
                    word.extend(inner);
                }
                b'(' if mode == Mode::Bare && (open > 0 || self.follows_pattern_sign()) => {
                    open += 1;
                    self.character(&mut word);
                }
                b')' if open > 0 => {
                    open -= 1;
                    self.character(&mut word);
                }
                b'|' if open > 0 => self.character(&mut word),
                b'<' | b'>' if mode == Mode::Bare && self.peek_at(1) == Some(b'(') => self.process(&mut word),
                _ if mode.ends_at(byte) => break,
                _ => self.plain(mode, &mut word),
            }
        }
        word
    }

    fn follows_pattern_sign(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.text.as_bytes().get(at));
        matches!(before, Some(b'!' | b'@' | b'?' | b'*' | b'+'))
    }

    fn character(&mut self, word: &mut Word) {
        let length = self.rest().chars().next().map_or(0, char::len_utf8);
        push_text(word, self.rest().get(..length).unwrap_or_default(), false);
        self.at += length;
    }

    /// Text up to the next byte that may mean something.
    fn plain(&mut self, mode: Mode, word: &mut Word) {
        let rest = self.rest();
        let length = rest
            .bytes()
            .position(|byte| {
                matches!(byte, b'\\' | b'$' | b'`' | b'\'' | b'"' | b'(' | b')') || mode.ends_at(byte)
            })
            .unwrap_or(rest.len());
        if length == 0 {
            // A quote or parenthesis that means nothing here.
            push_text(word, rest.get(..1).unwrap_or_default(), mode.quotes());
            self.at += 1;
        } else {
            push_text(word, rest.get(..length).unwrap_or_default(), mode.quotes());
            self.at += length;
        }
    }

    fn escape(&mut self, mode: Mode, word: &mut Word) {
        let Some(next) = self.rest().get(1..).and_then(|rest| rest.chars().next()) else {
            push_text(word, "\\", true);
            self.at += 1;
            return;
        };
        let kept = mode.quotes() && !matches!(next, '$' | '`' | '"' | '\\' | '\n' | '}');
        if next != '\n' {
            if kept {
                push_text(word, "\\", true);
            }
            push_text(word, next.encode_utf8(&mut [0; 4]), true);
        }
        self.at += 1 + next.len_utf8();
    }

    fn single(&mut self, word: &mut Word) {
        let inner = self.rest().get(1..).unwrap_or_default();
        let end = inner.find('\'');
        self.complete &= end.is_some();
        let text = inner.get(..end.unwrap_or(inner.len())).unwrap_or_default();
        push_text(word, text, true);
        self.at += 1 + text.len() + usize::from(end.is_some());
    }

    fn dollar(&mut self, mode: Mode, word: &mut Word) {
        let quoted = mode.quotes();
        let deeper = self.depth < DEPTH_MAX;
        match self.peek_at(1) {
            Some(b'(' | b'{') if !deeper => {
                self.complete = false;
                push_text(word, "$", true);
                self.at += 2;
            }
            Some(b'(') => {
                if self.peek_at(2) == Some(b'(')
                    && let Some(end) = self.arithmetic_end(self.at + 3, false)
                {
                    let inner = self.arithmetic(self.at + 3, end);
                    word.extend(inner);
                    return;
                }
                self.at += 2;
                let script = self.deeper(|parser| parser.script(Some(b')')));
                word.push(Piece::Output { script, quoted });
            }
            Some(b'{') => {
                self.at += 2;
                let piece = self.deeper(|parser| parser.parameter(quoted));
                word.push(piece);
            }
            Some(b'\'') if !quoted => self.ansi_c(word),
            Some(b'"') if !quoted => self.at += 1,
            Some(byte) if is_name_byte(byte) && !byte.is_ascii_digit() => {
                self.at += 1;
                let name = self.name();
                word.push(Piece::Variable { name, quoted, otherwise: None });
            }
            Some(byte) if byte.is_ascii_digit() || b"@*#?-$!".contains(&byte) => {
                self.at += 2;
                word.push(Piece::Variable { name: char::from(byte).to_string(), quoted, otherwise: None });
            }
            _ => {
                self.at += 1;
                push_text(word, "$", quoted);
            }
        }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn name(&mut self) -> String {
        let length = self.rest().bytes().take_while(|byte| is_name_byte(*byte)).count();
        let name = self.rest().get(..length).unwrap_or_default().to_owned();
        self.at += length;
        name
    }

    /// `${...}`, behind the brace.
    fn parameter(&mut self, quoted: bool) -> Piece {
        if matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'|')) {
            // bash 5.3 and ksh: commands in the same shell.
            self.at += 1;
            return Piece::Output { script: self.script(Some(b'}')), quoted };
        }
        let prefixed = matches!(self.peek(), Some(b'!' | b'#')) && self.peek_at(1) != Some(b'}');
        self.at += usize::from(prefixed);
        let mut name = self.name();
        if name.is_empty() && self.peek().is_some_and(|byte| b"@*#?-$!".contains(&byte)) {
            name = char::from(self.peek().unwrap_or_default()).to_string();
            self.at += 1;
        }
        let mut inner = Word::new();
        if self.eat("[") {
            inner = self.pieces(Mode::Subscript);
            inner.retain(|piece| !matches!(piece, Piece::Text { .. }));
            self.complete &= self.eat("]");
        }
        let colon = self.peek() == Some(b':');
        let operator = self.peek_at(usize::from(colon));
        let piece = match operator {
            Some(b'}') if !colon && !prefixed => Piece::Variable { name, quoted, otherwise: None },
            Some(b'-' | b'=' | b'+' | b'?') if !prefixed => {
                self.at += usize::from(colon) + 1;
                if operator == Some(b'=') {
                    self.count(&name);
                }
                let otherwise = Some(self.pieces(Mode::Parameter { quoted }));
                Piece::Variable { name, quoted, otherwise }
            }
            _ => {
                inner.extend(self.pieces(Mode::Parameter { quoted }));
                Piece::Unknown(std::mem::take(&mut inner))
            }
        };
        self.complete &= self.eat("}");
        if inner.is_empty() { piece } else { Piece::Unknown(vec![piece, Piece::Unknown(inner)]) }
    }

    /// `$'...'`.
    fn ansi_c(&mut self, word: &mut Word) {
        self.at += 2;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => {
                    self.complete = false;
                    break;
                }
                Some(b'\'') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.ansi_c_escape(&mut text);
                }
                Some(byte) => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        push_text(word, &String::from_utf8_lossy(&text), true);
    }

    fn ansi_c_escape(&mut self, text: &mut Vec<u8>) {
        let Some(byte) = self.peek() else { return };
        self.at += 1;
        match byte {
            b'n' => text.push(b'\n'),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'x' => text.push(u8::try_from(self.digits(16, 2)).unwrap_or_default()),
            b'0'..=b'7' => {
                self.at -= 1;
                let code = self.digits(8, 3) & 0xff;
                text.push(u8::try_from(code).unwrap_or_default());
            }
            b'u' | b'U' => {
                let code = self.digits(16, if byte == b'u' { 4 } else { 8 });
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(other),
        }
    }

    fn digits(&mut self, radix: u32, count_max: usize) -> u32 {
        let mut value = 0;
        for _ in 0..count_max {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(radix)) else { break };
            value = value * radix + digit;
            self.at += 1;
        }
        value
    }

    fn backquote(&mut self, mode: Mode, word: &mut Word) {
        self.at += 1;
        let mut inner = String::new();
        let mut closed = false;
        while let Some(character) = self.rest().chars().next() {
            self.at += character.len_utf8();
            match character {
                '`' => {
                    closed = true;
                    break;
                }
                '\\' if matches!(self.peek(), Some(b'`' | b'\\' | b'$'))
                    || (mode.quotes() && self.peek() == Some(b'"')) =>
                {
                    inner.extend(self.rest().chars().next());
                    self.at += 1;
                }
                other => inner.push(other),
            }
        }
        self.complete &= closed;
        let pieces = self.nested(&inner, |parser| {
            let script = parser.script(None);
            parser.complete &= parser.at == parser.text.len();
            vec![Piece::Output { script, quoted: mode.quotes() }]
        });
        word.extend(pieces);
    }

    fn process(&mut self, word: &mut Word) {
        self.at += 2;
        if self.depth < DEPTH_MAX {
            let script = self.deeper(|parser| parser.script(Some(b')')));
            word.push(Piece::File(script));
        } else {
            self.complete = false;
        }
    }
}

fn push_text(word: &mut Word, text: &str, quoted: bool) {
    if let Some(Piece::Text { text: last, quoted: same }) = word.last_mut()
        && *same == quoted
    {
        last.push_str(text);
    } else {
        word.push(Piece::Text { text: text.to_owned(), quoted });
    }
}
