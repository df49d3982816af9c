//! Word vectors from a local folder, as model2vec and WordLlama publish them: one vector per token, and their mean
//! is the vector of the text.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::embed::{Embedder, Embedding};

/// A table of 256 dimensions with a vocabulary of a million words fits.
const MODEL_BYTES_MAX: u64 = 1 << 30;
/// Multilingual vocabularies have some 20 MB.
const TOKENIZER_BYTES_MAX: u64 = 1 << 26;
const DIMENSIONS_MAX: usize = 4_096;
/// How much text is read.
const TEXT_BYTES_MAX: usize = 8_192;
/// A component of a unit vector as a whole number.
const SCALE: f64 = 32_768.0;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A file is missing or cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any table that makes sense.
    #[error("`{path}` has more than {max} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The bound.
        max: u64,
    },
    /// The files are not the configured ones.
    #[error("the model has sha-256 {found}, and {wanted} is configured")]
    WrongHash {
        /// What was configured.
        wanted: String,
        /// What the files have.
        found: String,
    },
    /// `tokenizer.json` is not a tokenizer.
    #[error("`tokenizer.json` is not a tokenizer: {0}")]
    Tokenizer(String),
    /// `model.safetensors` is not in that format.
    #[error("`model.safetensors` is not a tensor file")]
    Tensors(#[from] safetensors::SafeTensorError),
    /// There is no table in `model.safetensors`.
    #[error("`model.safetensors` must hold one table of f16 or f32, with at most {DIMENSIONS_MAX} columns")]
    Shape,
}

/// A vector for each token; the mean of a text's tokens is its vector.
pub struct StaticTable {
    name: String,
    sha256: String,
    tokenizer: Tokenizer,
    values: Vec<f32>,
    dimensions: usize,
}

impl fmt::Debug for StaticTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTable")
            .field("name", &self.name)
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

impl StaticTable {
    /// Loads `model.safetensors` and `tokenizer.json` from a folder. Nothing is fetched from anywhere.
    ///
    /// `sha256` pins both: it is, in hex, the SHA-256 of the one followed by the other
    /// (`cat model.safetensors tokenizer.json | sha256sum`). `name` is what receipts call the model.
    ///
    /// # Errors
    ///
    /// [`TableError`] when a file is missing, too large or not of its format, or when the hash differs.
    pub fn load(name: &str, folder: &Path, sha256: &str) -> Result<Self, TableError> {
        let model = read(&folder.join("model.safetensors"), MODEL_BYTES_MAX)?;
        let tokenizer = read(&folder.join("tokenizer.json"), TOKENIZER_BYTES_MAX)?;
        let found = hex::encode(Sha256::new().chain_update(&model).chain_update(&tokenizer).finalize());
        if !found.eq_ignore_ascii_case(sha256) {
            return Err(TableError::WrongHash { wanted: sha256.to_owned(), found });
        }
        let mut tokenizer =
            Tokenizer::from_bytes(tokenizer).map_err(|error| TableError::Tokenizer(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| TableError::Tokenizer(error.to_string()))?;
        let (values, dimensions) = table(&model)?;
        Ok(Self { name: name.to_owned(), sha256: found, tokenizer, values, dimensions })
    }
}

impl Embedder for StaticTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn sha256(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn embed(&self, text: &str) -> Embedding {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
        // A text that has no tokens has no direction, and is as far as can be from everything.
        let Ok(encoding) = self.tokenizer.encode_fast(text, false) else { return Embedding::of(Vec::new()) };
        let mut sums = vec![0.0_f64; self.dimensions];
        for id in encoding.get_ids() {
            let start = usize::try_from(*id).unwrap_or(usize::MAX).saturating_mul(self.dimensions);
            let row = self.values.get(start..start.saturating_add(self.dimensions)).unwrap_or(&[]);
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        // Sums run in one fixed order, and root and division are correctly rounded: the same on every machine.
        let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        if length == 0.0 {
            return Embedding::of(Vec::new());
        }
        Embedding::of(sums.iter().map(|sum| (sum / length * SCALE).round() as i32).collect())
    }
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, TableError> {
    let unreadable = |source| TableError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(TableError::TooLarge { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// The only tensor with two dimensions, as numbers, and how many belong to one token.
fn table(model: &[u8]) -> Result<(Vec<f32>, usize), TableError> {
    let tensors = SafeTensors::deserialize(model)?;
    let mut tables =
        tensors.tensors().into_iter().map(|(_, tensor)| tensor).filter(|tensor| tensor.shape().len() == 2);
    let (Some(table), None) = (tables.next(), tables.next()) else { return Err(TableError::Shape) };
    let dimensions = table.shape()[1];
    let values: Vec<f32> = match table.dtype() {
        Dtype::F32 => {
            table.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => {
            table.data().chunks_exact(2).map(|b| from_f16(u16::from_le_bytes([b[0], b[1]]))).collect()
        }
        _ => return Err(TableError::Shape),
    };
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) || values.iter().any(|value| !value.is_finite()) {
        return Err(TableError::Shape);
    }
    Ok((values, dimensions))
}

/// IEEE 754 binary16: one sign bit, five of exponent, ten of fraction.
fn from_f16(bits: u16) -> f32 {
    const SMALLEST: f32 = f32::from_bits(0x3380_0000); // 2⁻²⁴, the unit of subnormal numbers
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let size = match exponent {
        0 => f32::from(bits & 0x3ff) * SMALLEST,
        31 => f32::NAN,
        // The exponents count from 15 and from 127.
        _ => f32::from_bits((exponent + 127 - 15) << 23 | fraction << 13),
    };
    f32::from_bits(size.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"red":0,"crimson":1,"north":2,"?":3},"unk_token":"?"}}"#;

    fn folder(rows: &[f32]) -> (tempfile::TempDir, String) {
        let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = TensorView::new(Dtype::F32, vec![rows.len() / 2, 2], &bytes).unwrap();
        let model = safetensors::serialize([("embeddings", tensor)], None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.safetensors"), &model).unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), TOKENIZER).unwrap();
        let sha256 = hex::encode(Sha256::new().chain_update(&model).chain_update(TOKENIZER).finalize());
        (folder, sha256)
    }

    #[test]
    fn words_with_near_vectors_are_near() {
        let (folder, sha256) = folder(&[1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.0, 0.0]);
        let table = StaticTable::load("test", folder.path(), &sha256).unwrap();
        let near = |a: &str, b: &str| table.embed(a).distance(&table.embed(b));
        assert!(
            near("red", "crimson") < near("red", "red north") && near("red red", "red").ten_thousandths() < 2
        );
        assert_eq!(
            ["1.0000", "1.0000"],
            [near("red", "north"), near("red", "unheard of")].map(|near| near.to_string())
        );
    }

    #[test]
    fn a_missing_or_changed_or_odd_model_is_an_error() {
        let (good, sha256) = folder(&[1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.0, 0.0]);
        let wrong = StaticTable::load("test", good.path(), &sha256.replace(['0', '1'], "2")).unwrap_err();
        assert!(matches!(wrong, TableError::WrongHash { .. }), "{wrong}");
        std::fs::remove_file(good.path().join("tokenizer.json")).unwrap();
        assert!(matches!(
            StaticTable::load("test", good.path(), &sha256),
            Err(TableError::Unreadable { .. })
        ));
        let (odd, sha256) = folder(&[1.0, f32::NAN]);
        assert!(matches!(StaticTable::load("test", odd.path(), &sha256), Err(TableError::Shape)));
    }

    #[test]
    fn half_precision_is_read_exactly() {
        // Values of IEEE 754-2008, table 3.5, and the extremes of the format.
        for (bits, want) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65_504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(want, from_f16(bits), "{bits:#06x}");
        }
    }
}
