//! What is known of programs. A program that is in none of these tables starts nothing.

/// A program that starts the program among its arguments.
pub(super) struct Wrapper {
    pub(super) name: &'static str,
    /// Short options that take a value.
    pub(super) short: &'static str,
    /// Long options that take a value as the next word.
    pub(super) long: &'static [&'static str],
    /// Arguments before the program.
    pub(super) skip: usize,
}

const fn wrapper(
    name: &'static str,
    short: &'static str,
    long: &'static [&'static str],
    skip: usize,
) -> Wrapper {
    Wrapper { name, short, long, skip }
}

pub(super) const WRAPPERS: [Wrapper; 46] = [
    wrapper("aa-exec", "p", &["profile"], 0),
    wrapper("builtin", "", &[], 0),
    wrapper("bunx", "p", &["package"], 0),
    wrapper("busybox", "", &[], 0),
    wrapper("caffeinate", "tw", &[], 0),
    wrapper("catchsegv", "", &[], 0),
    wrapper("chroot", "", &["userspec", "groups"], 1),
    wrapper("chrt", "TPD", &[], 1),
    wrapper("command", "", &[], 0),
    wrapper("doas", "Cu", &[], 0),
    wrapper("eatmydata", "", &[], 0),
    wrapper("env", "uCP", &["unset", "chdir", "argv0"], 0),
    wrapper("exec", "a", &[], 0),
    wrapper("fakeroot", "lsb", &["lib", "faked"], 0),
    wrapper("faketime", "f", &[], 1),
    wrapper("firejail", "", &[], 0),
    wrapper("flock", "wE", &["timeout", "wait", "conflict-exit-code"], 1),
    wrapper("ionice", "cnpPu", &["class", "classdata", "pid"], 0),
    wrapper("ltrace", "aeFlnopsuX", &[], 0),
    wrapper("nice", "n", &["adjustment"], 0),
    wrapper("noglob", "", &[], 0),
    wrapper("nohup", "", &[], 0),
    wrapper("nsenter", "tSGW", &["target", "setuid", "setgid"], 0),
    wrapper("parallel", "jSaIN", &["jobs", "sshlogin", "arg-file", "joblog", "delay", "timeout"], 0),
    wrapper("pipx", "", &["spec"], 1),
    wrapper("pkexec", "", &["user"], 0),
    wrapper("prlimit", "p", &["pid"], 0),
    wrapper("proxychains4", "f", &[], 0),
    wrapper("rlwrap", "abcCDefgHlmMNopPqrsStwz", &[], 0),
    wrapper("setarch", "", &[], 1),
    wrapper("setpriv", "", &["reuid", "regid", "groups", "inh-caps", "bounding-set"], 0),
    wrapper("setsid", "", &[], 0),
    wrapper("stdbuf", "ioe", &["input", "output", "error"], 0),
    wrapper("strace", "abeEIoOpPsSuUX", &["trace", "output", "user", "string-limit"], 0),
    wrapper(
        "sudo",
        "CDghpRrTtUu",
        &["close-from", "chdir", "group", "host", "prompt", "role", "type", "user"],
        0,
    ),
    wrapper("systemd-run", "pEMHutGd", &["unit", "property", "setenv", "uid", "gid", "machine", "slice"], 0),
    wrapper("taskset", "", &[], 1),
    wrapper("time", "fo", &["format", "output"], 0),
    wrapper("timeout", "ks", &["kill-after", "signal"], 1),
    wrapper("torsocks", "", &[], 0),
    wrapper("toybox", "", &[], 0),
    wrapper("unbuffer", "", &[], 0),
    wrapper("unshare", "SGR", &["setuid", "setgid", "root"], 0),
    wrapper("uvx", "pw", &["from", "with", "python"], 0),
    wrapper("valgrind", "", &[], 0),
    wrapper("xvfb-run", "efnpsw", &["error-file", "server-num", "server-args"], 0),
];

pub(super) const SHELLS: [&str; 14] = [
    "sh", "bash", "zsh", "dash", "ksh", "ash", "mksh", "fish", "rbash", "tcsh", "csh", "yash", "osh", "hush",
];

/// Programs that send what they get on their standard input or command line over a network, with their options that
/// take a value. The first argument is the host.
pub(super) const CONNECTORS: [(&str, &str); 16] = [
    ("dig", "bcfkpqtxy"),
    ("drill", ""),
    ("ftp", "P"),
    ("host", "cNRtW"),
    ("nc", "eIiMmOPpqsTVWwXx"),
    ("ncat", "ceGgimopswx"),
    ("netcat", "eIiMmOPpqsTVWwXx"),
    ("nmap", "epDSgiT"),
    ("nslookup", ""),
    ("ping", "cIiltWw"),
    ("ping6", "cIiltWw"),
    ("rlogin", "l"),
    ("telnet", "l"),
    ("tftp", "cm"),
    ("traceroute", "fmpqw"),
    ("whois", "hp"),
];

/// Options with which an interpreter takes code, short ones first.
pub(super) const INTERPRETERS: [(&str, &str, &[&str]); 22] = [
    ("python", "c", &[]),
    ("pypy", "c", &[]),
    ("node", "e", &["eval", "print"]),
    ("nodejs", "e", &["eval", "print"]),
    ("bun", "e", &["eval", "print"]),
    ("deno", "", &["eval"]),
    ("tsx", "e", &["eval"]),
    ("perl", "eE", &[]),
    ("ruby", "e", &[]),
    ("php", "rBRE", &[]),
    ("lua", "e", &[]),
    ("luajit", "e", &[]),
    ("Rscript", "e", &[]),
    ("osascript", "e", &[]),
    ("groovy", "e", &[]),
    ("expect", "c", &[]),
    ("julia", "eE", &["eval", "print"]),
    ("elixir", "e", &["eval"]),
    ("emacs", "", &["eval", "execute"]),
    ("gdb", "", &["ex", "eval-command", "iex"]),
    ("tclsh", "c", &[]),
    ("ipython", "c", &[]),
];

/// Database clients: options that take a statement, and the argument that is one.
pub(super) const DATABASES: [(&str, &str, &[&str], Option<usize>); 11] = [
    ("psql", "c", &["command"], None),
    ("mysql", "e", &["execute"], None),
    ("mariadb", "e", &["execute"], None),
    ("sqlite3", "", &["cmd"], Some(1)),
    ("sqlite", "", &[], Some(1)),
    ("duckdb", "c", &["c"], Some(1)),
    ("sqlcmd", "Qq", &[], None),
    ("clickhouse-client", "q", &["query"], None),
    ("bq", "", &[], Some(1)),
    ("usql", "c", &["command"], None),
    ("snowsql", "q", &["query"], None),
];

/// What a program does with the files among its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Reads them, behind so many arguments that are none.
    Read(usize),
    /// Changes, makes or removes them, behind so many arguments that are none.
    Write(usize),
    /// Reads all and writes the last.
    Copy,
    /// Reads and removes all, and writes the last.
    Move,
}

/// Programs whose every argument is a file, also where it looks like none.
pub(super) fn files(program: &str) -> Option<Files> {
    Some(match program {
        "base64" | "bat" | "bzcat" | "cat" | "cksum" | "cmp" | "column" | "comm" | "csplit" | "cut"
        | "diff" | "du" | "file" | "fold" | "gzcat" | "head" | "hexdump" | "join" | "less" | "ls"
        | "lsattr" | "md5sum" | "more" | "most" | "nl" | "od" | "paste" | "readlink" | "realpath" | "rev"
        | "sha1sum" | "sha256sum" | "sha512sum" | "shuf" | "sort" | "stat" | "strings" | "tac" | "tail"
        | "tree" | "uniq" | "wc" | "xxd" | "xzcat" | "zcat" | "cd" | "pushd" | "source" | "." => {
            Files::Read(0)
        }
        "ag" | "awk" | "egrep" | "fgrep" | "gawk" | "grep" | "jq" | "mawk" | "rg" | "sed" | "yq"
        | "zgrep" => Files::Read(1),
        "bzip2" | "gunzip" | "gzip" | "mkdir" | "mkfifo" | "mknod" | "rm" | "rmdir" | "shred" | "split"
        | "srm" | "tee" | "touch" | "truncate" | "unlink" | "unxz" | "unzip" | "vi" | "vim" | "nano"
        | "ed" | "emacs" | "wipe" | "xz" | "zip" | "patch" | "wipefs" | "mkswap" => Files::Write(0),
        "chattr" | "chgrp" | "chmod" | "chown" | "setfacl" | "tar" | "7z" | "ar" => Files::Write(1),
        name if name.starts_with("mkfs") => Files::Write(0),
        "cp" | "install" | "ln" | "ditto" | "link" => Files::Copy,
        "mv" | "rename" => Files::Move,
        _ => return None,
    })
}

/// The name of a program without its folder; of a name on Windows, without its ending.
pub(super) fn base_name(text: &str) -> &str {
    // zsh replaces `=name` by the program's path.
    let name = text.rsplit(['/', '\\']).next().unwrap_or(text).trim_start_matches('=');
    name.strip_suffix(".exe").unwrap_or(name)
}

/// `python3.12` is `python`.
pub(super) fn without_version(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

pub(super) fn is_wrapper(name: &str) -> bool {
    WRAPPERS.iter().any(|wrapper| wrapper.name == name)
        || matches!(name, "xargs" | "watch" | "eval" | "su" | "runuser")
}

/// Whether a name is of a program that starts others, runs code, reaches out or destroys.
pub(super) fn is_notable(name: &str) -> bool {
    const OTHERS: [&str; 24] = [
        "rm",
        "dd",
        "mkfs",
        "shred",
        "wipefs",
        "fdisk",
        "parted",
        "shutdown",
        "reboot",
        "halt",
        "poweroff",
        "curl",
        "wget",
        "ssh",
        "scp",
        "sftp",
        "rsync",
        "socat",
        "git",
        "docker",
        "kubectl",
        "pwsh",
        "powershell",
        "cmd",
    ];
    OTHERS.contains(&name)
        || name.starts_with("mkfs.")
        || SHELLS.contains(&name)
        || is_wrapper(name)
        || CONNECTORS.iter().any(|(program, _)| *program == name)
        || INTERPRETERS.iter().any(|(program, ..)| *program == without_version(name))
        || DATABASES.iter().any(|(program, ..)| *program == name)
}

/// A program that fetches URLs, and its options.
pub(super) struct Client {
    /// Short options that take a value.
    pub(super) short: &'static str,
    /// Long options that take a value as the next word.
    pub(super) long: &'static [&'static str],
    /// Options that send data.
    pub(super) sends: &'static [&'static str],
    /// Options that name a file which is read.
    pub(super) reads: &'static [&'static str],
    /// Options that name a file which is written.
    pub(super) writes: &'static [&'static str],
    /// Options that name another host.
    pub(super) addresses: &'static [&'static str],
}

/// curl; the other clients have options of the same names, where they have them.
pub(super) const CURL: Client = Client {
    short: "AbcCdDeEFhHKmoPQrtTuUwxXyYz",
    long: &[
        "cacert",
        "cert",
        "config",
        "connect-timeout",
        "connect-to",
        "cookie",
        "cookie-jar",
        "data",
        "data-ascii",
        "data-binary",
        "data-raw",
        "data-urlencode",
        "doh-url",
        "form",
        "form-string",
        "header",
        "interface",
        "json",
        "key",
        "limit-rate",
        "max-time",
        "output",
        "output-dir",
        "preproxy",
        "proxy",
        "proxy-user",
        "range",
        "referer",
        "request",
        "resolve",
        "retry",
        "socks5",
        "socks5-hostname",
        "unix-socket",
        "upload-file",
        "url",
        "url-query",
        "user",
        "user-agent",
    ],
    sends: &[
        "d",
        "F",
        "T",
        "data",
        "data-ascii",
        "data-binary",
        "data-raw",
        "data-urlencode",
        "form",
        "form-string",
        "json",
        "upload-file",
        "url-query",
    ],
    reads: &["T", "upload-file", "K", "config", "b", "cookie", "E", "cert", "key"],
    writes: &["o", "output", "output-dir", "D", "c", "cookie-jar"],
    addresses: &["x", "proxy", "url", "preproxy", "socks5", "socks5-hostname", "connect-to", "doh-url"],
};

/// wget.
pub(super) const WGET: Client = Client {
    short: "aAbBDeIiloOPQRtTUwX",
    long: &[
        "body-data",
        "body-file",
        "directory-prefix",
        "execute",
        "header",
        "input-file",
        "method",
        "output-document",
        "output-file",
        "password",
        "post-data",
        "post-file",
        "user",
        "user-agent",
    ],
    sends: &["post-data", "post-file", "body-data", "body-file"],
    reads: &["post-file", "body-file", "i", "input-file"],
    writes: &["O", "P", "output-document", "directory-prefix", "o", "output-file"],
    addresses: &[],
};
