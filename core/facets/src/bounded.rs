//! Lists and texts that cannot grow without end.

/// A list with more entries than this is cut: no policy needs the 257th host to see that there are many.
pub(crate) const ENTRIES_MAX: usize = 256;

/// Appends what is not there yet. False when there is no room.
pub(crate) fn push<T: PartialEq>(list: &mut Vec<T>, entry: T) -> bool {
    if list.contains(&entry) {
        return true;
    }
    let room = list.len() < ENTRIES_MAX;
    if room {
        list.push(entry);
    }
    room
}

/// The longest beginning of `text` with at most `bytes_max` bytes.
pub(crate) fn start(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
