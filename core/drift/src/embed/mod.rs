//! Text as a vector, so that alike texts are near.

mod lexical;
#[cfg(feature = "static-table")]
mod table;

use std::fmt;

pub use lexical::Lexical;
#[cfg(feature = "static-table")]
pub use table::{StaticTable, TableError};

use countersign_schemas::Degree;

/// Turns text into a vector. The same text gives the same vector on every machine.
pub trait Embedder: fmt::Debug + Send + Sync {
    /// What a receipt calls it, for example `lexical`.
    fn name(&self) -> &str;

    /// SHA-256 of the model file in lower hex; none where there is no model file.
    fn sha256(&self) -> Option<&str>;

    /// The vector of the text.
    fn embed(&self, text: &str) -> Embedding;
}

/// A vector of whole numbers: floating point sums depend on their order, and whole ones do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedding {
    values: Vec<i32>,
    square: i64,
}

impl Embedding {
    /// From components, each within ±2¹⁶; larger ones are cut, so that no sum can overflow.
    #[must_use]
    pub fn of(mut values: Vec<i32>) -> Self {
        const BOUND: i32 = 1 << 16;
        values.iter_mut().for_each(|value| *value = (*value).clamp(-BOUND, BOUND));
        let square = product(&values, &values);
        Self { values, square }
    }

    /// 1 − cosine, with an obtuse angle counted as a right one; 1 when either has no direction.
    ///
    /// Root and division are correctly rounded by IEEE 754, so this too is the same on every machine.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Degree {
        let dot = product(&self.values, &other.values);
        if dot <= 0 {
            return Degree::ONE;
        }
        let cosine = dot as f64 / ((self.square as f64).sqrt() * (other.square as f64).sqrt());
        Degree::try_from(cosine.min(1.0)).map_or(Degree::ONE, Degree::complement)
    }
}

fn product(a: &[i32], b: &[i32]) -> i64 {
    a.iter().zip(b).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum()
}
