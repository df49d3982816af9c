//! Any text is read without a panic, within bounds, and never to less than the word scan finds when it cannot be parsed.
//!
//! From this folder: `cargo +nightly fuzz run shell`.
#![no_main]

use countersign_facets::shell;
use libfuzzer_sys::fuzz_target;

/// Lists have no more entries.
const ENTRIES_MAX: usize = 256;

fuzz_target!(|text: &str| {
    let read = shell::read(text);
    let scanned = shell::scan(text);
    for found in [&read, &scanned] {
        assert!(found.programs.len() <= ENTRIES_MAX && found.reads.len() <= ENTRIES_MAX);
        assert!(found.writes.len() <= ENTRIES_MAX && found.contacts.len() <= ENTRIES_MAX);
    }
    if !read.complete && !read.dynamic {
        assert!(scanned.programs.iter().all(|program| read.programs.contains(program)));
    }
});
