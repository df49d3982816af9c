//! Programs that get code in another language than the shell's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::arguments::Arguments;
use super::expand::Field;
use super::{Code, Input, Reader, looks_like_path};
use crate::bounded::push;
use crate::url::of_host;

impl Reader {
    pub(super) fn start_interpreter(
        &mut self,
        name: &str,
        arguments: &[Field],
        short: &str,
        long: &[&str],
        input: &Input,
    ) {
        let read = Arguments::read(arguments, short, long, true);
        let letters: Vec<&str> =
            (0..short.len()).map(|at| &short[at..=at]).chain(long.iter().copied()).collect();
        let mut code: Vec<Field> = read.values(&letters).cloned().collect();
        // `deno eval CODE`.
        if read.rest.first().is_some_and(|field| long.contains(&field.text.as_str())) {
            code.extend(read.rest.get(1).map(|field| (*field).clone()));
        }
        // `node -p CODE`, where `node -pe CODE` has the code behind `e`.
        if code.is_empty() && read.has(&["p"]) && !matches!(name, "perl" | "ruby") {
            code.extend(read.rest.first().map(|field| (*field).clone()));
        }
        // The Perl family edits files in place.
        let in_place =
            matches!(name, "perl" | "ruby") && read.options.iter().any(|(option, _)| *option == "i");
        if in_place {
            read.rest.iter().for_each(|field| self.path(&field.text, true));
        }
        let from_input = read.rest.first().is_none_or(|field| field.text == "-");
        for field in &code {
            self.shell.dynamic |= !field.sure;
            self.inline(name, &field.text);
        }
        if code.is_empty() && from_input {
            self.start_from(input, |reader, text| reader.inline(name, text));
        }
    }

    /// Code in another language: its texts may be addresses, paths, and commands where it starts any.
    pub(super) fn inline(&mut self, program: &str, text: &str) {
        let code = Code { program: program.to_owned(), text: text.to_owned() };
        if !push(&mut self.shell.code, code) || !self.spend(text.len()) {
            self.shell.dynamic = true;
            return;
        }
        const STARTS: [&str; 11] = [
            "system",
            "popen",
            "exec",
            "spawn",
            "subprocess",
            "child_process",
            "shell",
            "qx",
            "Command(",
            "run(",
            "`",
        ];
        let starts = STARTS.iter().any(|word| text.contains(word));
        let literals: Vec<&str> =
            text.split(['"', '\'', '`', '\n']).filter(|part| !part.trim().is_empty()).collect();
        for literal in literals {
            self.words_of(literal);
            if starts && literal.starts_with(|c: char| c.is_ascii_alphanumeric() || "/.~_$".contains(c)) {
                // Most literals are no commands: that one cannot be read says nothing.
                let complete = self.shell.complete;
                let _read = self.deeper(|reader| reader.code(literal, &Input::Inherited));
                self.shell.complete = complete;
            }
        }
        // Code that is put together while it runs.
        const BUILDS: [&str; 6] = ["b64decode", "atob(", "fromhex", "exec(", "eval(", "fromCharCode"];
        self.shell.dynamic |= BUILDS.iter().any(|word| text.contains(word));
    }

    /// Addresses and paths among the words of a text.
    pub(super) fn words_of(&mut self, text: &str) {
        for word in text.split(|c: char| c.is_whitespace() || "\"'`,;()<>[]{}|".contains(c)) {
            if word.contains("://") || (word.len() > 1 && looks_like_path(word) && word.contains(['/', '~']))
            {
                self.argument(&Field::sure(word));
            }
        }
    }

    pub(super) fn start_database(
        &mut self,
        arguments: &[Field],
        short: &str,
        long: &[&str],
        place: Option<usize>,
        input: &Input,
    ) {
        let takes = format!("{short}hpPUudDSfW");
        let read = Arguments::read(arguments, &takes, long, false);
        let letters: Vec<&str> =
            (0..short.len()).map(|at| &short[at..=at]).chain(long.iter().copied()).collect();
        let statements = read.values(&letters).chain(place.and_then(|at| read.rest.get(at)).copied());
        let mut statements: Vec<(String, bool)> =
            statements.map(|field| (field.text.clone(), field.sure)).collect();
        match input {
            Input::Text { text, sure } => statements.push((text.clone(), *sure)),
            Input::Unknown => self.shell.dynamic = true,
            Input::Inherited | Input::File => {}
        }
        for (text, sure) in statements {
            self.shell.dynamic |= !sure || !push(&mut self.shell.sql, text);
        }
        for host in read.values(&["h", "host", "S"]) {
            if let Some(contact) = of_host(&host.text) {
                self.contact(contact);
            }
        }
    }

    pub(super) fn start_awk(&mut self, name: &str, arguments: &[Field]) {
        let read = Arguments::read(arguments, "Ffv", &["file", "assign", "field-separator"], true);
        if let Some(program) = read.rest.first().filter(|_| !read.has(&["f", "file"])) {
            self.inline(name, &program.text);
        }
    }

    pub(super) fn start_sed(&mut self, name: &str, arguments: &[Field]) {
        let in_place = arguments.iter().any(|field| {
            field.text.starts_with("--in-place")
                || (field.text.starts_with('-') && !field.text.starts_with("--") && field.text.contains('i'))
        });
        let read = Arguments::read(arguments, "efl", &["expression", "file"], false);
        let scripts: Vec<Field> = read.values(&["e", "expression"]).cloned().collect();
        let skip = usize::from(scripts.is_empty() && !read.has(&["f", "file"]));
        for script in scripts.iter().chain(read.rest.iter().take(skip).copied()) {
            // GNU sed's `e` runs the pattern space, or what is behind it.
            let text = script.text.trim_start_matches(|c: char| c.is_ascii_digit() || "$,!/ ".contains(c));
            if let Some(code) = text.strip_prefix("e ") {
                self.code(code, &Input::Inherited);
            }
            let flags = text.rsplit(['/', '|', '#', ',']).next().unwrap_or_default();
            let runs_pattern = text.starts_with('s')
                && flags.len() < 4
                && flags.contains('e')
                && text.len() > flags.len() + 1;
            self.shell.dynamic |= runs_pattern || text == "e";
            if text.contains("/w ") || text.starts_with("w ") {
                self.inline(name, text);
                let file = text.rsplit("w ").next().unwrap_or_default().trim();
                self.path(file, true);
            }
        }
        for file in read.rest.iter().skip(skip).filter(|_| in_place) {
            self.path(&file.text, true);
        }
    }

    pub(super) fn start_editor(&mut self, name: &str, arguments: &[Field]) {
        let read = Arguments::read(arguments, "cSu", &["cmd"], false);
        let commands: Vec<String> = read
            .values(&["c", "cmd"])
            .map(|field| field.text.clone())
            .chain(read.rest.iter().filter_map(|field| field.text.strip_prefix('+').map(str::to_owned)))
            .collect();
        for command in commands {
            match command.trim_start_matches(':').split_once('!') {
                Some((_, code)) => self.code(code, &Input::Inherited),
                None => self.inline(name, &command),
            }
        }
    }

    pub(super) fn start_tar(&mut self, arguments: &[Field]) {
        for field in arguments {
            let text = field.text.as_str();
            let code = [
                "--checkpoint-action=exec=",
                "--to-command=",
                "--use-compress-program=",
                "--rsh-command=",
                "--info-script=",
                "-I",
            ]
            .iter()
            .find_map(|option| text.strip_prefix(option));
            if let Some(code) = code.filter(|code| !code.is_empty()) {
                self.code(code, &Input::Inherited);
            }
        }
        if let Some(at) = arguments
            .iter()
            .position(|field| matches!(field.text.as_str(), "-I" | "--use-compress-program" | "--to-command"))
        {
            self.shell_code(&arguments[(at + 1).min(arguments.len())..(at + 2).min(arguments.len())]);
        }
    }

    pub(super) fn start_windows(&mut self, name: &str, arguments: &[Field]) {
        let rest = arguments.iter().position(|field| {
            let option = field.text.to_ascii_lowercase();
            if name == "cmd" {
                option == "/c" || option == "/k"
            } else {
                option.starts_with("-c") || option.starts_with("-e")
            }
        });
        let Some(at) = rest else { return };
        let encoded = name != "cmd"
            && arguments[at].text.to_ascii_lowercase().starts_with("-e")
            && !arguments[at].text.to_ascii_lowercase().starts_with("-ex");
        let text = arguments[at + 1..].iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ");
        if encoded {
            self.shell.dynamic = true;
            if let Some(code) = utf16(&text) {
                self.scan(&code);
            }
        } else {
            self.scan(&text);
        }
    }
}

/// PowerShell's `-EncodedCommand`: Base64 of UTF-16, low byte first.
fn utf16(text: &str) -> Option<String> {
    let bytes = BASE64.decode(text.split_whitespace().next()?).ok()?;
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}
