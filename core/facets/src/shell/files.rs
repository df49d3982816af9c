//! Paths and addresses among the arguments of any program.

use super::arguments::Arguments;
use super::expand::Field;
use super::tables::{Files, SHELLS, files};
use super::{Reader, looks_like_path};

impl Reader {
    /// Paths and addresses among the arguments of any program.
    pub(super) fn arguments(&mut self, name: &str, arguments: &[Field]) {
        if matches!(
            name,
            "echo" | "printf" | "eval" | "alias" | "export" | "test" | "[" | "kill" | "true" | "false"
        ) {
            return;
        }
        if matches!(name, "curl" | "wget" | "scp" | "rsync" | "sftp" | "ssh" | "find" | "git")
            || SHELLS.contains(&name)
        {
            arguments.iter().filter(|field| name == "git" || field.text.contains("://")).for_each(|field| {
                if !(name == "git" && field.text.contains(':')) {
                    self.argument(field);
                }
            });
            return;
        }
        if name == "dd" {
            for field in arguments {
                match field.text.split_once('=') {
                    Some(("of", path)) => self.path(path, true),
                    Some(("if", path)) => self.path(path, false),
                    _ => {}
                }
            }
            return;
        }
        let Some(files) = files(name) else {
            arguments.iter().for_each(|field| self.argument(field));
            self.outputs(arguments);
            return;
        };
        let skip = match files {
            Files::Read(skip) if arguments.iter().any(|field| matches!(field.text.as_str(), "-e" | "-f")) => {
                skip.saturating_sub(1)
            }
            Files::Read(skip) | Files::Write(skip) => skip,
            Files::Copy | Files::Move => 0,
        };
        let plain: Vec<&Field> = arguments.iter().filter(|field| !field.text.starts_with('-')).collect();
        for option in arguments.iter().filter(|field| field.text.starts_with('-')) {
            self.argument(option);
        }
        let count = plain.len();
        for (at, field) in plain.into_iter().enumerate().skip(skip) {
            let writes = match files {
                Files::Read(_) => false,
                Files::Write(_) | Files::Move => true,
                Files::Copy => at + 1 == count,
            };
            if field.text.contains("://") {
                self.argument(field);
            } else if !field.text.bytes().all(|byte| byte.is_ascii_digit()) {
                self.path(&field.text, writes);
            }
        }
        self.outputs(arguments);
    }

    /// `-o file` and `--output file`: written, whatever the program.
    fn outputs(&mut self, arguments: &[Field]) {
        let read = Arguments::read(arguments, "o", &["output", "out", "outfile", "output-file"], false);
        for file in read.values(&["o", "output", "out", "outfile", "output-file"]) {
            if looks_like_path(&file.text) {
                self.path(&file.text, true);
            }
        }
    }
}
