//! A number from 0 to 1 with four decimals, held as a whole number.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SCALE: u16 = 10_000;

/// A share of one, in ten-thousandths: what a Cedar `decimal` can hold, and the same on every machine.
///
/// Wire form: the text `0.1234`, since signed payloads hold no fractions. A plain number, as a person writes it
/// in a configuration file, is read too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Degree(u16);

/// The number is not between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{0}` is not a number from 0 to 1")]
pub struct DegreeError(f64);

impl Degree {
    /// None at all.
    pub const ZERO: Self = Self(0);
    /// As much as can be.
    pub const ONE: Self = Self(SCALE);

    /// Whether it is none at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// From ten-thousandths; more than 10,000 is 10,000.
    #[must_use]
    pub const fn of_ten_thousandths(count: u16) -> Self {
        Self(if count > SCALE { SCALE } else { count })
    }

    /// `part` of `whole`, rounded half up; none of nothing, and never more than the whole.
    #[must_use]
    pub fn ratio(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        let rounded = (u128::from(part.min(whole)) * u128::from(SCALE) * 2 + u128::from(whole))
            / (u128::from(whole) * 2);
        Self(u16::try_from(rounded).unwrap_or(SCALE))
    }

    /// As ten-thousandths.
    #[must_use]
    pub const fn ten_thousandths(self) -> u16 {
        self.0
    }

    /// What is missing to one.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(SCALE - self.0)
    }

    /// As a fraction.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(SCALE)
    }
}

impl TryFrom<f64> for Degree {
    type Error = DegreeError;

    /// # Errors
    ///
    /// [`DegreeError`] unless the number is between 0 and 1.
    fn try_from(number: f64) -> Result<Self, DegreeError> {
        if !(0.0..=1.0).contains(&number) {
            return Err(DegreeError(number));
        }
        // Between 0 and 10,000 by the test above, so nothing is cut off.
        Ok(Self((number * f64::from(SCALE)).round() as u16))
    }
}

impl fmt::Display for Degree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / SCALE, self.0 % SCALE)
    }
}

impl Serialize for Degree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Degree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let number = match Written::deserialize(deserializer)? {
            Written::Number(number) => number,
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom)?,
        };
        Self::try_from(number).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Degree {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Degree".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "From 0 to 1, with four decimals.",
            "type": "string",
            "pattern": r"^(0\.\d{4}|1\.0000)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_degree_reads_back_as_text_and_as_a_number(count in 0..=SCALE) {
            let degree = Degree(count);
            let text = serde_json::to_string(&degree).unwrap();
            prop_assert_eq!(degree, serde_json::from_str(&text).unwrap());
            prop_assert_eq!(degree, serde_json::from_str(&degree.as_f64().to_string()).unwrap());
        }
    }

    #[test]
    fn what_is_not_between_0_and_1_is_refused() {
        for wrong in ["-0.1", "1.1", "\"2\"", "\"x\"", "\"NaN\"", "null"] {
            assert!(serde_json::from_str::<Degree>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_ratio_is_rounded_half_up_and_bounded() {
        assert_eq!("0.3333", Degree::ratio(1, 3).to_string());
        assert_eq!("0.6667", Degree::ratio(2, 3).to_string());
        assert_eq!("0.0001", Degree::ratio(1, 20_000).to_string());
        assert_eq!((Degree::ZERO, Degree::ONE), (Degree::ratio(1, 0), Degree::ratio(u64::MAX, 1)));
    }
}
