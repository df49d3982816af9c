//! Ed25519 keys (RFC 8032) as they stand in files: PKCS#8 and SPKI, in PEM (RFC 8410).

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes, PublicKeyBytes,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A key cannot be used. Never tells anything of the key itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a PKCS#8 PEM file with an Ed25519 key.
    #[error("not an Ed25519 private key in PKCS#8 PEM form")]
    Private,
    /// Not an SPKI PEM file with an Ed25519 key.
    #[error("not an Ed25519 public key in SPKI PEM form")]
    Public,
    /// A name of a log is 1 to 255 bytes without white space, control characters and `+`.
    #[error("`{0}` cannot name a log: 1 to 255 bytes, no white space, no control characters, no `+`")]
    Origin(String),
    /// The system gave no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// A new private key, from the system's randomness, as PKCS#8 PEM. Version 1 without the public key, because that is
/// the only form that OpenSSL 3 reads.
///
/// # Errors
///
/// [`KeyError::Random`] when the system gives no randomness.
pub fn generate_key_pem() -> Result<String, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| KeyError::Random)?;
    let key = KeypairBytes { secret_key: *seed, public_key: None };
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Private)?;
    Ok(pem.as_str().to_owned())
}

/// A private key. Signs with aws-lc-rs, the fastest of the implementations; the offline check uses another one.
pub(crate) struct PrivateKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl PrivateKey {
    pub(crate) fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let key = KeypairBytes::from_pkcs8_pem(pem).map_err(|_| KeyError::Private)?;
        let seed = Zeroizing::new(key.secret_key);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| KeyError::Private)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Private)?;
        // A file whose two halves differ was tampered with, or is not what its owner thinks.
        match key.public_key {
            Some(PublicKeyBytes(stated)) if stated != public => Err(KeyError::Private),
            _ => Ok(Self { pair, public }),
        }
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        self.pair.try_sign(message).ok()?.as_ref().try_into().ok()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// Lower-hex SHA-256 of the raw 32-byte public key: the `keyid` of our envelopes.
pub(crate) fn key_id(public: &[u8; 32]) -> String {
    hex::encode(Sha256::digest(public))
}

pub(crate) fn public_pem(public: &[u8; 32]) -> Result<String, KeyError> {
    PublicKeyBytes(*public).to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Public)
}

pub(crate) fn read_public_pem(pem: &str) -> Result<[u8; 32], KeyError> {
    Ok(PublicKeyBytes::from_public_key_pem(pem).map_err(|_| KeyError::Public)?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        secret: String,
        public: String,
        message: String,
        signature: String,
    }

    fn pem(secret: [u8; 32], public: Option<[u8; 32]>) -> String {
        let key = KeypairBytes { secret_key: secret, public_key: public.map(PublicKeyBytes) };
        key.to_pkcs8_pem(LineEnding::LF).unwrap().as_str().to_owned()
    }

    #[test]
    fn the_vectors_of_rfc_8032_are_signed_as_published() {
        let vectors = include_str!("../../../fixtures/vectors/ed25519/rfc8032.json");
        for vector in serde_json::from_str::<Vec<Vector>>(vectors).unwrap() {
            let secret = hex::decode(vector.secret).unwrap().try_into().unwrap();
            let key = PrivateKey::from_pkcs8_pem(&pem(secret, None)).unwrap();
            assert_eq!(vector.public, hex::encode(key.public()));
            let message = hex::decode(vector.message).unwrap();
            assert_eq!(vector.signature, hex::encode(key.sign(&message).unwrap()));
        }
    }

    #[test]
    fn a_key_file_whose_halves_differ_is_refused() {
        let other = *PrivateKey::from_pkcs8_pem(&pem([2; 32], None)).unwrap().public();
        assert!(matches!(PrivateKey::from_pkcs8_pem(&pem([1; 32], Some(other))), Err(KeyError::Private)));
    }

    #[test]
    fn a_new_key_reads_back_and_is_never_shown() {
        let key = PrivateKey::from_pkcs8_pem(&generate_key_pem().unwrap()).unwrap();
        assert_eq!(Ok(*key.public()), read_public_pem(&public_pem(key.public()).unwrap()));
        assert_eq!("PrivateKey(..)", format!("{key:?}"));
    }
}
