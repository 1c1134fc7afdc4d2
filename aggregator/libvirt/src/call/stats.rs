//! Bulk statistics of all machines, from one call.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::domain::Domain;
use crate::{
    client::Client,
    error::Error,
    procedure::DOMAIN_STATS,
    xdr::{Decoder, Encoder, XdrError},
};

/// Most machines in one answer.
const MOST_DOMAINS: usize = 4_096;
/// Most figures of one machine.
const MOST_FIGURES: usize = 4_096;

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A signed number.
    Signed(i64),
    /// An unsigned number.
    Unsigned(u64),
    /// A fraction.
    Fraction(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
}

impl Value {
    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(match from.u32()? {
            1 => Self::Signed(from.i32()?.into()),
            2 => Self::Unsigned(from.u32()?.into()),
            3 => Self::Signed(from.i64()?),
            4 => Self::Unsigned(from.u64()?),
            5 => Self::Fraction(f64::from_bits(from.u64()?)),
            6 => Self::Bool(from.u32()? != 0),
            7 => Self::Text(from.text()?),
            number => return Err(XdrError::Unknown { what: "a figure's kind", number }),
        })
    }
}

/// What is told of one machine, by libvirt's names, such as `cpu.time` or `block.0.rd.bytes`.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainStats {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its figures.
    pub figures: BTreeMap<String, Value>,
}

impl DomainStats {
    /// A number that is not negative; `None` if it is not told.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.figures.get(name)? {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A text; `None` if it is not told.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.figures.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The sum of a figure over all devices of a kind: `sum("block", "rd.bytes")`. `None` if it is
    /// told of none of them.
    #[must_use]
    pub fn sum(&self, kind: &str, figure: &str) -> Option<u64> {
        let count = self.number(&format!("{kind}.count"))?.min(MOST_FIGURES as u64);
        let figures = (0..count).filter_map(|at| self.number(&format!("{kind}.{at}.{figure}")));
        figures.fold(None, |sum: Option<u64>, figure| {
            Some(sum.unwrap_or_default().saturating_add(figure))
        })
    }
}

fn decode(from: &mut Decoder<'_>) -> Result<DomainStats, XdrError> {
    let uuid = Domain::decode(from)?.uuid;
    let figures = from.list(MOST_FIGURES, |from| Ok((from.text()?, Value::decode(from)?)))?;
    Ok(DomainStats { uuid, figures: figures.into_iter().collect() })
}

impl Client {
    /// Figures of all machines that run. One whose QEMU is busy is told of as far as that goes,
    /// and nobody waits for it.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn stats(&self) -> Result<Vec<DomainStats>, Error> {
        const ALL_GROUPS: u32 = 0;
        const ACTIVE: u32 = 1;
        const NO_WAIT: u32 = 1 << 29;
        let arguments = Encoder::new().u32(0).u32(ALL_GROUPS).u32(ACTIVE | NO_WAIT);
        self.ask(DOMAIN_STATS, arguments, |answer| answer.list(MOST_DOMAINS, decode)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Encoder {
        let head = Encoder::new().u32(1).text("g1").fixed(&[7; 16]).i32(1);
        head.u32(4)
            .text("block.count")
            .u32(2)
            .u32(2)
            .text("block.0.rd.bytes")
            .u32(4)
            .u64(5)
            .text("block.1.rd.bytes")
            .u32(4)
            .u64(u64::MAX)
            .text("vcpu.0.state")
            .u32(7)
            .text("running")
    }

    #[test]
    fn figures_add_up_over_devices_and_what_is_not_told_is_no_zero() {
        let bytes = one();
        let all = Decoder::new(bytes.bytes()).list(MOST_DOMAINS, decode).unwrap();
        assert_eq!(all[0].sum("block", "rd.bytes"), Some(u64::MAX), "it does not wrap");
        assert_eq!(all[0].sum("block", "wr.bytes"), None);
        assert_eq!(all[0].sum("net", "rx.bytes"), None);
        assert_eq!(all[0].text("vcpu.0.state"), Some("running"));
    }

    #[test]
    fn no_beginning_of_an_answer_is_one() {
        let bytes = one();
        for end in 0..bytes.bytes().len() {
            Decoder::new(&bytes.bytes()[..end]).list(MOST_DOMAINS, decode).unwrap_err();
        }
    }
}
