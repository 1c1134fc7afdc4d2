//! Quantities under their own types, so that a core is never added to a byte.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// No number at its start.
    #[error("{0:?} does not start with a number")]
    NoNumber(String),
    /// A unit nobody knows.
    #[error("{text:?} has the unit {unit:?}; {known} are known")]
    Unit {
        /// All of the text.
        text: String,
        /// The part that is not known.
        unit: String,
        /// What may stand there.
        known: &'static str,
    },
}

/// An amount of memory or storage.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Bytes(pub u64);

/// An amount of CPU, in thousandths of a core.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millicores(pub u64);

impl Bytes {
    /// So many mebibytes.
    #[must_use]
    pub const fn mebi(count: u64) -> Self {
        Self(count << 20)
    }
}

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let text = STEPS.iter().find(|(size, _)| self.0 >= *size).map_or_else(
            || format!("{} B", self.0),
            |(size, unit)| {
                let amount = self.0 as f64 / *size as f64;
                if amount < 10.0 {
                    format!("{amount:.1} {unit}")
                } else {
                    format!("{amount:.0} {unit}")
                }
            },
        );
        f.pad(&text)
    }
}

impl fmt::Display for Millicores {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2} cores", self.0 as f64 / 1000.0))
    }
}

/// A figure in the unit of that name, in as few digits as tell it: `bytes` and `millicores` as
/// people read them, all else as it is.
#[must_use]
pub fn figure(value: f64, unit: &str) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float to u64 saturates"
    )]
    let whole = value as u64;
    match unit {
        "bytes" => Bytes(whole).to_string(),
        "millicores" => Millicores(whole).to_string(),
        unit if value.fract() == 0.0 => format!("{value:.0} {unit}"),
        unit => format!("{value:.2} {unit}"),
    }
}

fn split(text: &str) -> Result<(f64, &str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse().map_err(|_| UnitError::NoNumber(text.to_owned()))?;
    Ok((number, unit.trim()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to u64 saturates"
)]
fn times(number: f64, factor: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "factors are powers of two or ten")]
    let product = number * factor as f64;
    product.round() as u64
}

impl FromStr for Bytes {
    type Err = UnitError;

    /// Reads `512MiB`, `1.5 GiB`, `4096` or `4096 B`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => {
                let known = "B, KiB, MiB, GiB and TiB";
                return Err(UnitError::Unit {
                    text: text.to_owned(),
                    unit: unit.to_owned(),
                    known,
                });
            }
        };
        Ok(Self(times(number, factor)))
    }
}

impl FromStr for Millicores {
    type Err = UnitError;

    /// Reads `0.5`, `2 cores` or `500m`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text)?;
        let factor = match unit {
            "" | "core" | "cores" => 1000,
            "m" => 1,
            _ => {
                let known = "cores and m (thousandths)";
                return Err(UnitError::Unit {
                    text: text.to_owned(),
                    unit: unit.to_owned(),
                    known,
                });
            }
        };
        Ok(Self(times(number, factor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_amount_reads_back() {
        for text in ["512 B", "1.5 GiB", "64 MiB"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        assert_eq!("250m".parse::<Millicores>().unwrap(), Millicores(250));
        assert_eq!("0.25".parse::<Millicores>().unwrap(), Millicores(250));
    }

    #[test]
    fn a_figure_is_shown_in_its_unit() {
        assert_eq!(figure(134_217_728.0, "bytes"), "128 MiB");
        assert_eq!(figure(250.0, "millicores"), "0.25 cores");
        assert_eq!(figure(6.0, "machines"), "6 machines");
        assert_eq!(figure(6.84, "cost units"), "6.84 cost units");
    }

    #[test]
    fn an_unknown_unit_is_named() {
        let error = "5 parsecs".parse::<Bytes>().unwrap_err();
        assert!(error.to_string().contains("parsecs"));
    }
}
