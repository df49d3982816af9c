//! Programs that reach other machines.

use super::arguments::{Arguments, is_port};
use super::expand::Field;
use super::tables::{CURL, WGET};
use super::{Input, Reader, looks_like_path};
use crate::url::{of_host, of_url};

impl Reader {
    pub(super) fn start_ssh(&mut self, name: &str, arguments: &[Field], input: &Input) {
        if name == "sshpass" {
            let read = Arguments::read(arguments, "fdpP", &[], true);
            let rest = read.rest_from(0);
            return self.nested(&rest, input);
        }
        let read = Arguments::read(arguments, "BbcDEeFIiJLlmOoPpQRSWw", &[], true);
        for option in read.values(&["o"]) {
            if let Some((key, value)) = option.text.split_once(['=', ' '])
                && ["proxycommand", "localcommand", "remotecommand", "knownhostscommand"]
                    .contains(&key.to_ascii_lowercase().as_str())
            {
                self.code(value, &Input::Inherited);
            }
        }
        for hop in read.values(&["J"]) {
            self.remote(&hop.text, true);
        }
        if let Some(host) = read.rest.first() {
            self.remote(&host.text, true);
        }
        let mut code = read.rest_from(1);
        if code.first().is_some_and(|field| field.text == "--") {
            code.remove(0);
        }
        if !code.is_empty() {
            self.shell_code(&code);
        }
        self.shell.uploads |= matches!(input, Input::Text { .. } | Input::File | Input::Unknown);
    }

    /// `user@host:path`, `host:path`, or a host alone where only a host can stand. True when it is remote.
    fn remote(&mut self, text: &str, is_host: bool) -> bool {
        if let Some(contact) = of_url(text) {
            self.contact(contact);
            return true;
        }
        let (host, path) = text.split_once(':').map_or((text, None), |(host, path)| (host, Some(path)));
        if host.contains('/') || (path.is_none() && !is_host) || host.is_empty() {
            return false;
        }
        if let Some(contact) = of_host(host.rsplit('@').next().unwrap_or(host)) {
            self.contact(contact);
        }
        if let Some(path) = path.filter(|path| looks_like_path(path)) {
            self.path(path, false);
        }
        true
    }

    pub(super) fn copy_remote(&mut self, name: &str, arguments: &[Field]) {
        let read =
            Arguments::read(arguments, "cDFiJloPSXeTfBM", &["rsh", "exclude", "include", "port"], false);
        for code in read.values(&["e", "rsh", "S"]).cloned().collect::<Vec<_>>() {
            self.shell_code(&[code]);
        }
        let count = read.rest.len();
        for (at, field) in read.rest.iter().enumerate() {
            let last = at + 1 == count;
            if self.remote(&field.text, name == "sftp") {
                self.shell.uploads |= last && count > 1;
            } else {
                self.path(&field.text, last);
            }
        }
    }

    pub(super) fn copy_cloud(&mut self, arguments: &[Field]) {
        let is_bucket =
            |text: &str| ["s3://", "gs://", "az://"].iter().any(|scheme| text.starts_with(scheme));
        let rest: Vec<&Field> = arguments.iter().filter(|field| !field.text.starts_with('-')).collect();
        self.shell.uploads |= rest.len() > 1 && rest.last().is_some_and(|field| is_bucket(&field.text));
        self.shell.uploads |= rest
            .iter()
            .any(|field| matches!(field.text.as_str(), "upload" | "put-object" | "send-email" | "publish"));
    }

    pub(super) fn fetch(&mut self, name: &str, arguments: &[Field]) {
        let client = if name == "wget" { &WGET } else { &CURL };
        let read = Arguments::read(arguments, client.short, client.long, false);
        let posts =
            |field: &Field| ["POST", "PUT", "PATCH"].contains(&field.text.to_ascii_uppercase().as_str());
        self.shell.uploads |= read.has(client.sends) || read.values(&["X", "request", "method"]).any(posts);
        for field in read.values(client.reads).filter(|field| looks_like_path(&field.text)) {
            self.path(&field.text, false);
        }
        // `@file`, `name=@file` and `name=<file`.
        for field in read.values(client.sends) {
            let value = field.text.split_once('@').or_else(|| field.text.split_once("=<"));
            if let Some((_, file)) = value {
                self.path(file.split(';').next().unwrap_or(file), false);
            }
        }
        for field in read.values(client.writes) {
            self.path(&field.text, true);
        }
        for field in read.values(client.addresses) {
            self.address(field);
        }
        for field in &read.rest {
            // httpie's methods and fields stand among the addresses.
            let text = field.text.as_str();
            let is_field = text.contains(['=', '@']) && !text.contains("://");
            if matches!(name, "http" | "https" | "xh") && (posts(field) || is_field) {
                self.shell.uploads = true;
            } else if !matches!(text, "GET" | "HEAD" | "DELETE" | "OPTIONS") {
                self.address(field);
            }
        }
    }

    /// An argument that is a URL, with or without its scheme. A command's output within it is data that leaves.
    fn address(&mut self, field: &Field) {
        self.shell.uploads |= field.computed;
        if let Some(contact) = of_url(&field.text).or_else(|| of_host(field.text.split(['/', '?']).next()?)) {
            self.contact(contact);
        }
    }

    pub(super) fn connect(&mut self, name: &str, arguments: &[Field], short: &str, input: &Input) {
        let read = Arguments::read(arguments, short, &["exec", "sh-exec"], false);
        let runs = matches!(name, "nc" | "ncat" | "netcat");
        for code in read.values(&["e", "c", "exec", "sh-exec"]).filter(|_| runs).cloned().collect::<Vec<_>>()
        {
            // `nc -e /bin/sh`: who connects may run anything.
            self.shell.dynamic = true;
            self.shell_code(&[code]);
        }
        self.shell.uploads |= matches!(input, Input::Text { .. } | Input::File | Input::Unknown);
        let hosts =
            read.rest.iter().filter(|field| !field.text.starts_with(['+', '@']) && !is_port(&field.text));
        for field in hosts {
            let text = field.text.as_str();
            // A record type or a bare word is no host; a number can be an address.
            if text.contains(['.', ':'])
                || text == "localhost"
                || (text.len() > 5 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'x'))
            {
                self.address(field);
            } else {
                self.shell.uploads |= field.computed;
            }
        }
        for field in &read.rest {
            if let Some(server) = field.text.strip_prefix('@') {
                self.address(&Field::sure(server));
            }
        }
    }

    /// socat's addresses and openssl's `-connect host:port`.
    pub(super) fn connect_addresses(&mut self, arguments: &[Field]) {
        for (at, field) in arguments.iter().enumerate() {
            let upper = field.text.to_ascii_uppercase();
            if field.text == "-connect" {
                arguments.get(at + 1).into_iter().for_each(|host| self.address(host));
            } else if let Some(rest) = field.text.get(5..).filter(|_| upper.starts_with("EXEC:")) {
                self.shell.dynamic = true;
                let code = rest.split(',').next().unwrap_or(rest).to_owned();
                self.shell_code(&[Field::sure(code)]);
            } else if let Some(rest) = field.text.get(7..).filter(|_| upper.starts_with("SYSTEM:")) {
                self.shell.dynamic = true;
                self.shell_code(&[Field::sure(rest)]);
            } else if ["TCP", "UDP", "OPENSSL", "SSL", "SOCKS"].iter().any(|kind| upper.starts_with(kind))
                && !upper.contains("LISTEN")
            {
                self.shell.uploads = true;
                let mut parts = field.text.splitn(2, ':').skip(1);
                parts.next().into_iter().for_each(|host| self.address(&Field::sure(host)));
            }
        }
    }

    pub(super) fn start_git(&mut self, arguments: &[Field]) {
        let read = Arguments::read(arguments, "cC", &["git-dir", "work-tree", "namespace"], true);
        for setting in read.values(&["c"]) {
            self.git_setting(&setting.text);
        }
        let Some(subcommand) = read.rest.first().map(|field| field.text.as_str()) else { return };
        let rest = read.rest_from(1);
        match subcommand {
            "config" => {
                let pair: Vec<&str> = rest
                    .iter()
                    .map(|field| field.text.as_str())
                    .filter(|text| !text.starts_with('-'))
                    .collect();
                if let [key, value, ..] = pair.as_slice() {
                    self.git_setting(&format!("{key}={value}"));
                }
            }
            "bisect" if rest.first().is_some_and(|field| field.text == "run") => {
                self.nested(&rest[1..], &Input::Inherited)
            }
            "submodule" if rest.first().is_some_and(|field| field.text == "foreach") => {
                self.shell_code(&rest[1..])
            }
            "rebase" | "filter-branch" | "difftool" | "mergetool" | "grep" => {
                let long = ["exec", "tree-filter", "index-filter", "msg-filter", "env-filter", "extcmd"];
                let read = Arguments::read(&rest, "x", &long, false);
                let code: Vec<Field> = read.values(&["x"]).chain(read.values(&long)).cloned().collect();
                code.into_iter().for_each(|code| self.shell_code(&[code]));
            }
            _ => {}
        }
        let remote = matches!(
            subcommand,
            "clone" | "push" | "fetch" | "pull" | "remote" | "ls-remote" | "submodule" | "archive"
        );
        for field in rest.iter().filter(|_| remote) {
            if let Some(code) = field.text.strip_prefix("ext::") {
                self.code(code, &Input::Inherited);
            } else if !field.text.starts_with('-')
                && field.text.contains([':', '@'])
                && self.remote(&field.text, false)
            {
                self.shell.uploads |= subcommand == "push";
            }
        }
    }

    /// A setting of git that is, or may be, a command.
    fn git_setting(&mut self, setting: &str) {
        let Some((key, value)) = setting.split_once('=') else { return };
        let key = key.to_ascii_lowercase();
        let value = value.trim_start_matches('!');
        let runs = key.starts_with("alias.")
            || [
                "command",
                "pager",
                "editor",
                "helper",
                "textconv",
                "clean",
                "smudge",
                "fsmonitor",
                "hookspath",
                "program",
                "cmd",
                "external",
            ]
            .iter()
            .any(|end| key.ends_with(end));
        if runs {
            self.code(value, &Input::Inherited);
        }
    }
}
