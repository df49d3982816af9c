//! Any text is read as SQL and as an address without a panic, and what is no SQL counts as running code.
//!
//! From this folder: `cargo +nightly fuzz run sql_url`.
#![no_main]

use countersign_facets::{sql, url};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = sql::read(text);
    if sql::is_sql(text) {
        assert!(read.statements > 0);
    }
    for contact in url::of_url(text).into_iter().chain(url::of_host(text)) {
        assert!(!contact.host.is_empty() && !contact.host.contains('/'));
        // The form that is kept is read as itself. What could not be read is kept as it came, in lower case, which can
        // be another name where it is not ASCII.
        if contact.host.is_ascii() {
            assert_eq!(Some(contact.place), url::of_host(&contact.host).map(|again| again.place));
        }
    }
});
