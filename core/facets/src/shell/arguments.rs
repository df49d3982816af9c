//! The arguments of a program, told apart.

use super::expand::Field;

/// Options and the arguments that are none.
pub(super) struct Arguments<'f> {
    pub(super) options: Vec<(&'f str, Option<Field>)>,
    pub(super) rest: Vec<&'f Field>,
}

impl<'f> Arguments<'f> {
    /// Reads arguments as GNU programs do. `to_first` stops before the first argument that is no option.
    pub(super) fn read(fields: &'f [Field], short: &str, long: &[&str], to_first: bool) -> Self {
        let mut read = Self { options: Vec::new(), rest: Vec::new() };
        let mut at = 0;
        while let Some(field) = fields.get(at) {
            at += 1;
            let text = field.text.as_str();
            if text == "--" {
                read.rest.extend(&fields[at..]);
                return read;
            }
            if let Some(name) = text.strip_prefix("--") {
                let value = match name.split_once('=') {
                    Some((_, value)) => Some(Field { text: value.to_owned(), ..field.clone() }),
                    None if long.contains(&name) => {
                        at += 1;
                        fields.get(at - 1).cloned()
                    }
                    None => None,
                };
                read.options.push((name.split('=').next().unwrap_or(name), value));
            } else if let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                if long.contains(&letters) {
                    // `-ex`, `-command`: a long option behind one dash.
                    read.options.push((letters, fields.get(at).cloned()));
                    at += 1;
                    continue;
                }
                for (place, letter) in letters.char_indices() {
                    let end = place + letter.len_utf8();
                    let takes = short.contains(letter);
                    let value = (takes && end < letters.len())
                        .then(|| Field { text: letters[end..].to_owned(), ..field.clone() })
                        .or_else(|| takes.then(|| fields.get(at).cloned()).flatten());
                    at += usize::from(takes && end == letters.len());
                    read.options.push((&letters[place..end], value));
                    if takes {
                        break;
                    }
                }
            } else {
                if to_first {
                    read.rest.extend(&fields[at - 1..]);
                    return read;
                }
                read.rest.push(field);
            }
        }
        read
    }

    pub(super) fn values(&self, names: &[&str]) -> impl Iterator<Item = &Field> {
        let of = move |option: &&(&str, Option<Field>)| names.contains(&option.0);
        self.options.iter().filter(of).filter_map(|(_, value)| value.as_ref())
    }

    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|(name, _)| names.contains(name))
    }

    pub(super) fn rest_from(&self, skip: usize) -> Vec<Field> {
        self.rest.iter().skip(skip).map(|field| (*field).clone()).collect()
    }
}

pub(super) fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() || text.split_once('-').is_some_and(|(from, to)| is_port(from) && is_port(to))
}

pub(super) fn is_assignment(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}
