//! Programs that start other programs, and the way to all others.

use super::arguments::{Arguments, is_assignment};
use super::expand::Field;
use super::output::output;
use super::tables::{
    CONNECTORS, DATABASES, INTERPRETERS, SHELLS, WRAPPERS, Wrapper, base_name, is_notable, without_version,
};
use super::{Input, Reader, looks_like_path};

/// Values of one loop or variable that are followed as programs.
const ALTERNATIVES_MAX: usize = 8;
/// What a program takes of the work that may be done, besides its arguments.
const RUN_WORK: usize = 16;

impl Reader {
    /// A program and its arguments; its standard output, when that can be told.
    pub(super) fn run(&mut self, fields: &[Field], input: &Input) -> Option<String> {
        let first = fields.first()?;
        if !self.spend(RUN_WORK + fields.len()) {
            self.names(fields);
            return None;
        }
        if first.either {
            self.run_each(fields, input);
            return None;
        }
        let name = base_name(&first.text).to_owned();
        // A pattern may name any program.
        let pattern = name.contains(['*', '?']) || (name.contains('[') && name != "[");
        self.shell.dynamic |= !first.sure || pattern;
        self.program(&name);
        let standard =
            ["/bin/", "/usr/", "/sbin/", "/opt/"].iter().any(|folder| first.text.starts_with(folder));
        if first.text.contains('/') && !standard {
            self.path(&first.text, false);
        }
        let arguments = &fields[1..];
        self.arguments(&name, arguments);
        if first.text.contains(char::is_whitespace) {
            // A text where a program is expected: `sudo -s 'rm x'`.
            self.shell_code(std::slice::from_ref(first));
        }
        if !first.sure && arguments.first().is_some_and(|field| field.text.starts_with('-')) {
            // `$SHELL -c '...'`.
            self.start_shell(arguments, input);
        }
        self.start(&name, arguments, input);
        output(fields, input)
    }

    /// Every program that the first word may be.
    fn run_each(&mut self, fields: &[Field], input: &Input) {
        let count = fields.iter().take_while(|field| field.either).count();
        self.shell.dynamic |= count > ALTERNATIVES_MAX;
        for field in &fields[..count.min(ALTERNATIVES_MAX)] {
            let words = field.text.split_whitespace();
            let one: Vec<Field> = words
                .map(|word| Field { text: word.to_owned(), either: false, ..field.clone() })
                .chain(fields[count..].iter().cloned())
                .collect();
            self.nested(&one, input);
        }
    }

    /// A program within a program's arguments.
    pub(super) fn nested(&mut self, fields: &[Field], input: &Input) {
        let assignments = fields.iter().take_while(|field| is_assignment(&field.text)).count();
        let fields = &fields[assignments..];
        if self.deeper(|reader| reader.run(fields, input)).is_none() {
            self.names(fields);
        }
    }

    /// Every word as a program's name, where there is no telling what starts what.
    pub(super) fn names(&mut self, fields: &[Field]) {
        fields.iter().for_each(|field| self.program(base_name(&field.text)));
    }

    /// Code that a shell gets as a text.
    pub(super) fn shell_code(&mut self, fields: &[Field]) {
        self.shell.dynamic |= fields.iter().any(|field| !field.sure);
        let text = fields.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ");
        self.code(&text, &Input::Inherited);
    }

    /// What the program starts.
    fn start(&mut self, name: &str, arguments: &[Field], input: &Input) {
        if SHELLS.contains(&name) {
            return self.start_shell(arguments, input);
        }
        if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
            return self.start_wrapped(wrapper, arguments, input);
        }
        let interpreter = without_version(name);
        if let Some((_, short, long)) = INTERPRETERS.iter().find(|(known, ..)| *known == interpreter) {
            return self.start_interpreter(name, arguments, short, long, input);
        }
        if let Some((_, short, long, place)) = DATABASES.iter().find(|(known, ..)| *known == name) {
            return self.start_database(arguments, short, long, *place, input);
        }
        if let Some((_, short)) = CONNECTORS.iter().find(|(known, _)| *known == name) {
            return self.connect(name, arguments, short, input);
        }
        match name {
            "eval" | "trap" => {
                let read = Arguments::read(arguments, "", &[], true);
                let mut code = read.rest_from(0);
                code.truncate(if name == "trap" { 1 } else { code.len() });
                self.shell_code(&code);
            }
            "." | "source" => self.shell.dynamic |= arguments.first().is_some_and(|field| !field.sure),
            "export" | "declare" | "local" | "readonly" | "typeset" => {
                arguments.iter().for_each(|field| self.assign_text(field));
            }
            "read" | "mapfile" | "readarray" | "getopts" | "printf" => self.start_reading(name, arguments),
            "alias" => self.start_alias(arguments),
            "xargs" => self.start_xargs(arguments, input),
            "find" | "fd" | "fdfind" => self.start_find(arguments),
            "watch" => {
                let read = Arguments::read(arguments, "nd", &["interval"], true);
                let code = read.rest_from(0);
                self.shell_code(&code);
            }
            "su" | "runuser" | "script" | "newgrp" | "sg" | "at" | "batch" | "tmux" | "screen" | "dtach"
            | "concurrently" | "nodemon" | "hyperfine" | "watchexec" | "entr" | "nix-shell" | "direnv" => {
                self.start_option_code(arguments, input);
            }
            "crontab" => self.start_crontab(input),
            "ssh" | "autossh" | "sshpass" | "mosh" => self.start_ssh(name, arguments, input),
            "scp" | "rsync" | "sftp" | "rclone" => self.copy_remote(name, arguments),
            "curl" | "wget" | "http" | "https" | "xh" | "aria2c" | "lynx" | "links" | "w3m" => {
                self.fetch(name, arguments)
            }
            "socat" | "openssl" => self.connect_addresses(arguments),
            "git" => self.start_git(arguments),
            "docker" | "podman" | "nerdctl" | "kubectl" | "oc" | "lxc" | "vagrant" => {
                self.start_contained(arguments, input)
            }
            "npm" | "npx" | "pnpm" | "yarn" | "poetry" | "pipenv" | "uv" | "conda" | "mamba" | "bundle"
            | "rye" | "hatch" | "pdm" => {
                self.start_package_runner(name, arguments, input);
            }
            "awk" | "gawk" | "mawk" | "nawk" => self.start_awk(name, arguments),
            "sed" => self.start_sed(name, arguments),
            "vim" | "vi" | "nvim" | "ex" | "view" => self.start_editor(name, arguments),
            "tar" | "bsdtar" => self.start_tar(arguments),
            "pwsh" | "powershell" | "cmd" => self.start_windows(name, arguments),
            "mail" | "mailx" | "sendmail" | "mutt" | "swaks" | "msmtp" => self.shell.uploads = true,
            "aws" | "gsutil" | "gcloud" | "az" | "s3cmd" | "mc" => self.copy_cloud(arguments),
            _ => {}
        }
    }

    /// Options as bash reads them: `-c` takes no value, the code is the first argument behind all options.
    fn start_shell(&mut self, arguments: &[Field], input: &Input) {
        let mut at = 0;
        let (mut takes_code, mut takes_input) = (false, false);
        while let Some(option) = arguments.get(at).map(|field| field.text.as_str()) {
            let letters = option.strip_prefix(['-', '+']).unwrap_or_default();
            if letters.is_empty() {
                break;
            }
            at += 1;
            if letters == "-" {
                break;
            }
            if let Some(long) = letters.strip_prefix('-') {
                takes_code |= long == "command";
                if let Some(code) = long.strip_prefix("command=") {
                    self.code(code, &Input::Inherited);
                }
                let file = arguments.get(at).filter(|_| matches!(long, "rcfile" | "init-file"));
                at += usize::from(file.is_some());
                file.into_iter().for_each(|file| self.path(&file.text, false));
            } else {
                takes_code |= letters.contains('c');
                takes_input |= letters.contains('s');
                at += letters.matches(['o', 'O']).count();
            }
        }
        let first = arguments.get(at);
        if let Some(code) = first.filter(|_| takes_code) {
            self.shell_code(std::slice::from_ref(code));
        } else if let Some(script) =
            first.filter(|first| !takes_input && first.text != "-" && first.text != "/dev/stdin")
        {
            self.shell.dynamic |= !script.sure;
            self.path(&script.text, false);
        } else {
            self.start_from(input, |reader, text| reader.code(text, &Input::Inherited));
        }
    }

    /// Code from the standard input.
    pub(super) fn start_from(&mut self, input: &Input, read: impl FnOnce(&mut Self, &str)) {
        match input {
            Input::Text { text, sure } => {
                self.shell.dynamic |= !sure;
                read(self, text);
            }
            Input::Unknown => self.shell.dynamic = true,
            Input::Inherited | Input::File => {}
        }
    }

    fn start_wrapped(&mut self, wrapper: &Wrapper, arguments: &[Field], input: &Input) {
        let read = Arguments::read(arguments, wrapper.short, wrapper.long, true);
        if wrapper.name == "command" && read.has(&["v", "V"]) {
            return;
        }
        if wrapper.name == "env" {
            self.start_env(arguments);
        }
        let assignments = read.rest.iter().take_while(|field| is_assignment(&field.text)).count();
        let rest = read.rest_from(assignments + wrapper.skip);
        if wrapper.name == "flock"
            && let Some(at) = rest.iter().position(|field| field.text == "-c")
        {
            return self.shell_code(&rest[at + 1..]);
        }
        if wrapper.name == "parallel" {
            let code: Vec<Field> =
                rest.into_iter().take_while(|field| !field.text.starts_with(":::")).collect();
            self.shell.dynamic |=
                code.is_empty() || code.first().is_some_and(|field| field.text.contains('{'));
            return self.shell_code(&code);
        }
        self.nested(&rest, input);
        // An option that is not in the table may have taken a value: then the program is the next word.
        let unknown = |(name, value): &(&str, Option<Field>)| value.is_none() && name.len() > 1;
        if read.options.iter().any(unknown) && rest.len() > 1 {
            self.nested(&rest[1..], input);
        }
    }

    /// Variables of `env`, and its `-S`, which splits a text into arguments.
    fn start_env(&mut self, arguments: &[Field]) {
        for (at, field) in arguments.iter().enumerate() {
            let text = field.text.as_str();
            let split = text.strip_prefix("--split-string=").or_else(|| text.strip_prefix("-S"));
            match split {
                Some("") => arguments
                    .get(at + 1)
                    .into_iter()
                    .for_each(|code| self.shell_code(std::slice::from_ref(code))),
                Some(code) => self.code(code, &Input::Inherited),
                None if is_assignment(text) => self.assign_text(field),
                None if text.starts_with('-') => {}
                None => return,
            }
        }
    }

    fn start_reading(&mut self, name: &str, arguments: &[Field]) {
        if name == "printf" {
            let read = Arguments::read(arguments, "v", &[], true);
            let names: Vec<String> = read.values(&["v"]).map(|field| field.text.clone()).collect();
            names.iter().for_each(|name| self.forget(name));
        } else {
            let read = Arguments::read(arguments, "dinNptua", &[], false);
            let names: Vec<String> = read
                .values(&["a"])
                .chain(read.rest.iter().copied())
                .map(|field| field.text.clone())
                .collect();
            names.iter().for_each(|name| self.forget(name));
        }
    }

    fn start_alias(&mut self, arguments: &[Field]) {
        for field in arguments {
            if let Some((_, value)) = field.text.split_once('=') {
                let value = Field { text: value.to_owned(), ..field.clone() };
                self.shell_code(&[value]);
            }
        }
    }

    fn start_xargs(&mut self, arguments: &[Field], input: &Input) {
        let read = Arguments::read(
            arguments,
            "aEeIiLlnPsd",
            &["arg-file", "delimiter", "replace", "max-args", "max-procs", "max-lines", "max-chars"],
            true,
        );
        let mut fields = read.rest_from(0);
        let Some(first) = fields.first() else { return };
        let started = base_name(&first.text).to_owned();
        let replaced = read.values(&["I", "i", "replace"]).any(|field| field.text == first.text);
        match input {
            Input::Text { text, sure: true } => fields.extend(text.split_whitespace().map(Field::sure)),
            _ => {
                // What a shell, or nothing but the input, makes of unknown arguments cannot be told.
                self.shell.dynamic |= replaced || SHELLS.contains(&started.as_str());
                fields.push(Field { computed: true, ..Field::default() });
            }
        }
        self.nested(&fields, &Input::Inherited);
    }

    fn start_find(&mut self, arguments: &[Field]) {
        let folders: Vec<&Field> =
            arguments.iter().take_while(|field| !field.text.starts_with(['-', '(', '!'])).collect();
        let deletes = arguments.iter().any(|field| field.text == "-delete");
        for folder in &folders {
            self.path(&folder.text, deletes);
        }
        let mut at = 0;
        while let Some(field) = arguments.get(at) {
            at += 1;
            match field.text.as_str() {
                "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "--exec" | "-X" | "--exec-batch" => {
                    let rest = &arguments[at..];
                    let length = rest
                        .iter()
                        .position(|field| matches!(field.text.as_str(), ";" | "+"))
                        .unwrap_or(rest.len());
                    // The first folder stands in for what is found.
                    let found =
                        |field: &Field| folders.first().filter(|_| field.text == "{}").copied().cloned();
                    let started: Vec<Field> = rest[..length]
                        .iter()
                        .map(|field| found(field).unwrap_or_else(|| field.clone()))
                        .collect();
                    self.nested(&started, &Input::Inherited);
                    at += length;
                }
                "-fprint" | "-fprintf" | "-fls" | "-fprint0" => {
                    if let Some(file) = arguments.get(at) {
                        self.path(&file.text, true);
                    }
                }
                _ => {}
            }
        }
    }

    /// Programs that take code with `-c`, or a program or code as their arguments.
    fn start_option_code(&mut self, arguments: &[Field], input: &Input) {
        let read = Arguments::read(
            arguments,
            "cguGwstnLSfxy",
            &["command", "session-command", "user", "group"],
            false,
        );
        let code: Vec<Field> = read.values(&["c", "command", "session-command"]).cloned().collect();
        for field in code {
            self.shell_code(&[field]);
        }
        // Subcommands and names come out as programs that do not exist; what is started is among the words.
        let rest = read.rest_from(0);
        for at in 0..rest.len().min(3) {
            if rest[at].text.contains(' ') {
                self.shell_code(&rest[at..=at]);
            } else if is_notable(base_name(&rest[at].text)) {
                self.nested(&rest[at..], input);
            }
        }
        self.start_from(input, |reader, text| reader.code(text, &Input::Inherited));
    }

    fn start_contained(&mut self, arguments: &[Field], input: &Input) {
        if let Some(at) = arguments.iter().position(|field| field.text == "--") {
            return self.nested(&arguments[at + 1..], input);
        }
        let runs = arguments
            .iter()
            .position(|field| matches!(field.text.as_str(), "run" | "exec" | "create" | "ssh"));
        let Some(at) = runs else { return };
        let long = [
            "name",
            "volume",
            "env",
            "env-file",
            "workdir",
            "user",
            "entrypoint",
            "network",
            "mount",
            "publish",
            "label",
            "memory",
            "cpus",
            "platform",
            "hostname",
            "add-host",
            "device",
            "cap-add",
            "security-opt",
            "restart",
            "namespace",
            "container",
            "command",
        ];
        let read = Arguments::read(&arguments[at + 1..], "veuwpmlhcn", &long, true);
        for entry in read.values(&["entrypoint"]).cloned().collect::<Vec<_>>() {
            self.shell_code(&[entry]);
        }
        for code in read.values(&["c", "command"]).cloned().collect::<Vec<_>>() {
            self.shell_code(&[code]);
        }
        for mount in read.values(&["v", "volume", "mount"]) {
            mount
                .text
                .split([':', ',', '='])
                .take(6)
                .filter(|part| looks_like_path(part))
                .for_each(|part| self.path(part, true));
        }
        let rest = read.rest_from(1);
        self.nested(&rest, input);
        // An option that is not listed may have taken a value: then the image comes later.
        if let Some(at) =
            rest.iter().position(|field| is_notable(base_name(&field.text))).filter(|at| *at > 0)
        {
            self.nested(&rest[at..], input);
        }
    }

    /// A table of jobs: five fields or `@name`, then the command.
    fn start_crontab(&mut self, input: &Input) {
        self.start_from(input, |reader, text| {
            for line in text.lines() {
                let skip = if line.trim_start().starts_with('@') { 1 } else { 5 };
                let words: Vec<&str> = line.split_whitespace().skip(skip).collect();
                reader.code(&words.join(" "), &Input::Inherited);
            }
        });
    }

    fn start_package_runner(&mut self, name: &str, arguments: &[Field], input: &Input) {
        let read = Arguments::read(arguments, "cpn", &["call", "package", "name", "prefix", "with"], true);
        for code in read.values(&["c", "call"]).cloned().collect::<Vec<_>>() {
            self.shell_code(&[code]);
        }
        let runs = read
            .rest
            .first()
            .is_some_and(|field| matches!(field.text.as_str(), "run" | "exec" | "x" | "dlx"));
        let rest = read.rest_from(usize::from(runs));
        if runs || name == "npx" {
            let read = Arguments::read(&rest, "cpn", &["call", "package", "name", "with", "python"], true);
            for code in read.values(&["c", "call"]).cloned().collect::<Vec<_>>() {
                self.shell_code(&[code]);
            }
            let rest = read.rest_from(0);
            self.nested(&rest, input);
        }
    }
}

/// Variables that hold a command which some program runs.
pub(super) fn configures(reader: &mut Reader, name: &str, fields: &[Field]) {
    const COMMANDS: [&str; 14] = [
        "BASH_ENV",
        "EDITOR",
        "ENV",
        "GIT_ASKPASS",
        "GIT_EDITOR",
        "GIT_EXTERNAL_DIFF",
        "GIT_PAGER",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "LESSOPEN",
        "MANPAGER",
        "PAGER",
        "PROMPT_COMMAND",
        "VISUAL",
    ];
    if matches!(
        name,
        "LD_PRELOAD" | "LD_LIBRARY_PATH" | "DYLD_INSERT_LIBRARIES" | "PYTHONSTARTUP" | "NODE_OPTIONS"
    ) {
        reader.shell.dynamic = true;
        fields.iter().for_each(|field| reader.argument(field));
    } else if COMMANDS.contains(&name) {
        reader.shell_code(fields);
    }
}
