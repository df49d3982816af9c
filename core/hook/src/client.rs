//! Who runs the command: the person, the device and the program, as the system tells. None of it is proved.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A client's program lies at most so many folders below its package.
const FOLDERS_MAX: usize = 8;
/// Clients run a command through a shell, and some through a launcher.
const PARENTS_MAX: usize = 4;
/// A package's description is smaller.
const PACKAGE_BYTES_MAX: u64 = 256 << 10;

/// The headers that say so.
pub(crate) fn headers(device: Option<&str>) -> Vec<(&'static str, String)> {
    let device = device.map(str::to_owned).or_else(|| whoami::hostname().ok());
    let all = [
        ("x-countersign-user", whoami::username().ok()),
        ("x-countersign-device", device),
        ("x-countersign-client", program()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, visible(&value?)))).collect()
}

/// A header holds visible ASCII; anything else is written as in a URL.
fn visible(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => written.push(char::from(byte)),
            _ => written.push_str(&format!("%{byte:02X}")),
        }
    }
    written
}

/// Name and version of the package whose program started us, where the system shows processes as files.
fn program() -> Option<String> {
    let mut process = "self".to_owned();
    for _ in 0..PARENTS_MAX {
        process = parent(&process)?;
        let folder = Path::new("/proc").join(&process);
        let script = fs::read(folder.join("cmdline")).ok().and_then(|line| {
            let script = line.split(|byte| *byte == 0).nth(1)?;
            Some(PathBuf::from(String::from_utf8_lossy(script).into_owned()))
        });
        let started = fs::read_link(folder.join("exe")).ok();
        // A script's interpreter may have a package of its own, so the script comes first.
        if let Some(found) = script.into_iter().chain(started).find_map(|path| package(&path)) {
            return Some(found);
        }
    }
    None
}

fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(Path::new("/proc").join(process).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Some(line.trim().to_owned()).filter(|parent| parent != "0")
}

fn package(program: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let program = fs::canonicalize(program).ok()?;
    let mut folders = program.ancestors().skip(1).take(FOLDERS_MAX).map(|folder| folder.join("package.json"));
    folders.find_map(|path| {
        let small = fs::metadata(&path).ok()?.len() <= PACKAGE_BYTES_MAX;
        let text = small.then(|| fs::read(&path).ok())??;
        let Package { name, version } = serde_json::from_slice(&text).ok()?;
        Some(format!("{name}/{version}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_a_header_can_hold_it() {
        assert_eq!("ann", visible("ann"));
        assert_eq!("J%C3%B6rg%20100%25", visible("J\u{f6}rg 100%"));
    }

    #[test]
    fn a_program_is_called_by_the_package_it_lies_in() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("node_modules/agent/bin/x");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("agent.js"), "").unwrap();
        assert_eq!(None, package(&bin.join("agent.js")));
        let text = r#"{"name": "@v/agent", "version": "1.2.3", "bin": "x"}"#;
        fs::write(dir.path().join("node_modules/agent/package.json"), text).unwrap();
        assert_eq!(Some("@v/agent/1.2.3".to_owned()), package(&bin.join("agent.js")));
    }
}
