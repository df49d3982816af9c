//! Signed heads of the log.
//!
//! Source: C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::LeafHash;
use crate::key::{KeyError, PrivateKey};

/// Ed25519 in signed-note's list of algorithms.
const ED25519: u8 = 1;
/// As Go's note package: more is not a checkpoint but an attack.
const SIGNATURES_MAX: usize = 100;
/// A checkpoint with a hundred post-quantum cosignatures still fits.
const NOTE_BYTES_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 255;

/// A note is not a checkpoint that this key signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("not a signed note: {0}")]
    Form(&'static str),
    /// A signed note, but its text is not a checkpoint.
    #[error("the note's text is not a checkpoint: {0}")]
    Text(&'static str),
    /// Not a verifier key.
    #[error("not a verifier key of the form name+hash+base64")]
    Vkey,
    /// The checkpoint is of another log.
    #[error("the checkpoint is of the log `{found}`, not of `{wanted}`")]
    Origin {
        /// The log it is of.
        found: String,
        /// The log it should be of.
        wanted: String,
    },
    /// None of the signatures is by this key.
    #[error("the note carries no signature by the key of `{0}`")]
    Unsigned(String),
    /// A signature that claims to be by this key is not.
    #[error("the note's signature by the key of `{0}` is wrong")]
    Signature(String),
}

/// The key that signs the heads of one log, and is named by the log's origin.
#[derive(Debug)]
pub struct LogKey {
    key: PrivateKey,
    origin: String,
    id: [u8; 4],
}

impl LogKey {
    /// Reads a private key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when `origin` cannot name a log, or `pem` is not an Ed25519 key in PKCS#8 PEM form.
    pub fn from_pkcs8_pem(origin: &str, pem: &str) -> Result<Self, KeyError> {
        if !is_name(origin) {
            return Err(KeyError::Origin(origin.to_owned()));
        }
        let key = PrivateKey::from_pkcs8_pem(pem)?;
        let id = key_hash(origin, key.public());
        Ok(Self { key, origin: origin.to_owned(), id })
    }

    /// The log's name, for example `countersign.example.com/log`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public key, as verifiers are told it: `name+hash+base64(0x01 || key)`.
    #[must_use]
    pub fn vkey(&self) -> String {
        Vkey { name: self.origin.clone(), id: self.id, key: *self.key.public() }.to_string()
    }

    /// Signs the head of the log: a signed note with a checkpoint as its text.
    #[must_use]
    pub fn sign(&self, size: u64, root: &LeafHash) -> String {
        let text = format!("{}\n{size}\n{}\n", self.origin, STANDARD.encode(root));
        #[expect(
            clippy::expect_used,
            reason = "Ed25519 fails for no message; an unsigned head must not exist"
        )]
        let signature = self.key.sign(text.as_bytes()).expect("Ed25519 signs every message");
        let signature = STANDARD.encode([self.id.as_slice(), &signature].concat());
        format!("{text}\n\u{2014} {} {signature}\n", self.origin)
    }
}

/// A log's public key, as verifiers are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl Vkey {
    /// The name of the log, which is also the checkpoints' origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Vkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = STANDARD.encode([&[ED25519], self.key.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id))
    }
}

impl FromStr for Vkey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Vkey);
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::Vkey)?;
        let Some((&ED25519, key)) = key.split_first() else { return Err(NoteError::Vkey) };
        let key = key.try_into().map_err(|_| NoteError::Vkey)?;
        let id = key_hash(name, &key);
        let valid = VerifyingKey::from_bytes(&key).is_ok_and(|key| !key.is_weak());
        if !is_name(name) || hash != hex::encode(id) || !valid {
            return Err(NoteError::Vkey);
        }
        Ok(Self { name: name.to_owned(), id, key })
    }
}

/// A head of a log: how many leaves it has, and the root over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree.
    pub root: LeafHash,
}

impl Checkpoint {
    /// Reads a checkpoint that the owner of `vkey` signed. Signatures by others are passed over.
    ///
    /// # Errors
    ///
    /// [`NoteError`]
    pub fn open(note: &str, vkey: &Vkey) -> Result<Self, NoteError> {
        let checkpoint = Self::from_text(open_note(note, vkey)?)?;
        if checkpoint.origin != vkey.name {
            return Err(NoteError::Origin { found: checkpoint.origin, wanted: vkey.name.clone() });
        }
        Ok(checkpoint)
    }

    /// Reads a checkpoint without asking who signed it: for display, and for a log's own files.
    ///
    /// # Errors
    ///
    /// [`NoteError`] when it is not a signed note with a checkpoint as its text.
    pub fn parse_unverified(note: &str) -> Result<Self, NoteError> {
        let (text, _) = split_note(note)?;
        Self::from_text(text)
    }

    fn from_text(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Text("fewer than three lines"));
        };
        if origin.is_empty() {
            return Err(NoteError::Text("no origin"));
        }
        let number: u64 = size.parse().map_err(|_| NoteError::Text("the size is not a number"))?;
        if number.to_string() != size {
            return Err(NoteError::Text("the size is not written in its shortest form"));
        }
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(NoteError::Text("the root is not the base64 of 32 bytes"))?;
        // Further lines are extensions: signed, without a meaning to us.
        if lines.any(str::is_empty) {
            return Err(NoteError::Text("an extension line is empty"));
        }
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }
}

/// The text of a note that the owner of `vkey` signed.
fn open_note<'n>(note: &'n str, vkey: &Vkey) -> Result<&'n str, NoteError> {
    let (text, signatures) = split_note(note)?;
    let key = VerifyingKey::from_bytes(&vkey.key).map_err(|_| NoteError::Vkey)?;
    let mut signed = false;
    for signature in signatures.iter().filter(|it| it.name == vkey.name && it.id == vkey.id) {
        let wrong = || NoteError::Signature(vkey.name.clone());
        let bytes = Signature::from_slice(&signature.bytes).map_err(|_| wrong())?;
        key.verify_strict(text.as_bytes(), &bytes).map_err(|_| wrong())?;
        signed = true;
    }
    if signed { Ok(text) } else { Err(NoteError::Unsigned(vkey.name.clone())) }
}

struct NoteSignature<'a> {
    name: &'a str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// The text, with its last line feed, and the signatures.
fn split_note(note: &str) -> Result<(&str, Vec<NoteSignature<'_>>), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Form("longer than 1 MiB"));
    }
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Form("a control character"));
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Form("no blank line before the signatures"))?;
    let (text, block) = (&note[..=end], &note[end + 2..]);
    let block = block.strip_suffix('\n').ok_or(NoteError::Form("no line feed at the end"))?;
    let signatures: Vec<_> = block
        .split('\n')
        .take(SIGNATURES_MAX + 1)
        .map(signature_line)
        .collect::<Option<_>>()
        .ok_or(NoteError::Form("a signature line is not `\u{2014} name base64`"))?;
    if signatures.len() > SIGNATURES_MAX {
        return Err(NoteError::Form("more than 100 signatures"));
    }
    Ok((text, signatures))
}

fn signature_line(line: &str) -> Option<NoteSignature<'_>> {
    let (name, base64) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(base64).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    (is_name(name) && !bytes.is_empty()).then(|| NoteSignature { name, id: *id, bytes: bytes.to_vec() })
}

fn is_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(bad)
}

/// First four bytes of SHA-256(name || 0x0A || 0x01 || key).
fn key_hash(name: &str, key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key).finalize();
    std::array::from_fn(|i| hash[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate_key_pem;

    #[derive(serde::Deserialize)]
    struct Published {
        vkey: String,
        text: String,
        signatures: String,
    }

    fn published() -> Vec<Published> {
        serde_json::from_str(include_str!("../../../fixtures/vectors/note/notes.json")).unwrap()
    }

    #[test]
    fn published_notes_open_and_no_changed_byte_does() {
        for note in published() {
            let vkey: Vkey = note.vkey.parse().unwrap();
            let whole = format!("{}\n{}", note.text, note.signatures);
            assert_eq!(Ok(note.text.as_str()), open_note(&whole, &vkey));
            // Only the first signature is by this key; what stands after it is somebody else's business.
            let ours = whole.len() - note.signatures.len() + note.signatures.find('\n').unwrap() + 1;
            for at in 0..ours {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] ^= 1;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(open_note(&changed, &vkey).is_err(), "byte {at} of {changed}");
            }
        }
    }

    #[test]
    fn no_part_of_a_vkey_and_no_changed_vkey_is_one() {
        let vkey = &published()[1].vkey;
        assert_eq!(*vkey, vkey.parse::<Vkey>().unwrap().to_string());
        for start in 0..vkey.len() {
            for end in start..vkey.len() {
                assert!(vkey[start..end].parse::<Vkey>().is_err(), "{}", &vkey[start..end]);
            }
        }
        for at in 0..vkey.len() {
            let mut bytes = vkey.clone().into_bytes();
            bytes[at] += 1;
            assert!(String::from_utf8(bytes).unwrap().parse::<Vkey>().is_err(), "byte {at}");
        }
        // From Go's TestNewVerifier: a key of the wrong length and an unknown algorithm, each with its right hash.
        for wrong in [
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(wrong.parse::<Vkey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_published_checkpoint_reads_as_its_text_says() {
        let note = include_str!("../../../fixtures/vectors/note/checkpoint.txt");
        let checkpoint = Checkpoint::parse_unverified(note).unwrap();
        assert_eq!(
            ("example.com/behind-the-sofa", 20_852_163),
            (checkpoint.origin.as_str(), checkpoint.size)
        );
        assert_eq!("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", STANDARD.encode(checkpoint.root));
    }

    #[test]
    fn a_signed_head_opens_with_its_own_key_only() {
        let key = LogKey::from_pkcs8_pem("example.com/log", &generate_key_pem().unwrap()).unwrap();
        let other = LogKey::from_pkcs8_pem("example.com/log", &generate_key_pem().unwrap()).unwrap();
        let note = key.sign(7, &[3; 32]);
        let head = Checkpoint { origin: "example.com/log".to_owned(), size: 7, root: [3; 32] };
        assert_eq!(Ok(head), Checkpoint::open(&note, &key.vkey().parse().unwrap()));
        assert_eq!(
            Err(NoteError::Unsigned("example.com/log".to_owned())),
            Checkpoint::open(&note, &other.vkey().parse().unwrap())
        );
    }

    #[test]
    fn a_key_that_signs_for_another_origin_is_refused() {
        let key = LogKey::from_pkcs8_pem("example.com/log", &generate_key_pem().unwrap()).unwrap();
        let text = format!("example.com/other\n1\n{}\n", STANDARD.encode([0; 32]));
        let signature = [key.id.as_slice(), &key.key.sign(text.as_bytes()).unwrap()].concat();
        let note = format!("{text}\n\u{2014} example.com/log {}\n", STANDARD.encode(signature));
        assert!(matches!(
            Checkpoint::open(&note, &key.vkey().parse().unwrap()),
            Err(NoteError::Origin { found, .. }) if found == "example.com/other"
        ));
    }

    #[test]
    fn text_that_is_almost_a_checkpoint_is_refused() {
        let root = STANDARD.encode([0; 32]);
        for text in [
            format!("log\n007\n{root}\n"),
            format!("log\n+7\n{root}\n"),
            format!("log\n7\n{root}=\n"),
            format!("log\n7\n{}\n", &root[..40]),
            format!("\n7\n{root}\n"),
            "log\n7\n".to_owned(),
            format!("log\n18446744073709551616\n{root}\n"),
        ] {
            assert!(Checkpoint::from_text(&text).is_err(), "{text}");
        }
    }
}
