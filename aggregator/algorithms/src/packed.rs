//! Counts in twelve bits: exact up to 255, beyond that right to [`RELATIVE_ERROR`] of themselves, up
//! to some 10^11. Two of them take three bytes.

use serde::{Deserialize, Serialize};

/// By how much an unpacked count may be off, of itself.
pub const RELATIVE_ERROR: f64 = 1.0 / 256.0;

/// Bits of a count that are kept.
const BITS: u32 = 8;
/// Codes of one octave.
const OCTAVE: u64 = 1 << (BITS - 1);
/// The largest code.
pub const LARGEST: u16 = 4_095;

/// The code of a count: the larger the count, the larger the code. Beyond the largest it is the
/// largest.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a code is at most 4095")]
pub fn pack(count: u64) -> u16 {
    let Some(shift) = count.checked_ilog2().and_then(|log| log.checked_sub(BITS - 1)) else {
        return count as u16;
    };
    if shift == 0 {
        return count as u16;
    }
    let half = 1_u64 << (shift - 1);
    // Rounding up into the next octave gives that octave's first code by itself.
    let kept = count.saturating_add(half) >> shift;
    (OCTAVE * u64::from(shift) + kept).min(u64::from(LARGEST)) as u16
}

/// The count of a code.
#[must_use]
pub fn unpack(code: u16) -> u64 {
    let code = u64::from(code.min(LARGEST));
    let Some(shift) = (code / OCTAVE).checked_sub(1) else { return code };
    (OCTAVE + code % OCTAVE) << shift
}

/// Two codes in three bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair([u8; 3]);

impl Pair {
    /// Both codes; what lies beyond [`LARGEST`] is the largest.
    #[must_use]
    pub fn new(first: u16, second: u16) -> Self {
        let both = u32::from(first.min(LARGEST)) << 12 | u32::from(second.min(LARGEST));
        let [_, high, middle, low] = both.to_be_bytes();
        Self([high, middle, low])
    }

    /// The codes.
    #[must_use]
    pub const fn codes(self) -> (u16, u16) {
        let [high, middle, low] = self.0;
        let first = (high as u16) << 4 | (middle >> 4) as u16;
        let second = ((middle & 0xF) as u16) << 8 | low as u16;
        (first, second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_counts_are_exact() {
        for count in 0..=255 {
            assert_eq!(unpack(pack(count)), count);
        }
    }

    #[test]
    fn large_counts_are_right_within_the_error_and_keep_their_order() {
        let mut former = 0;
        for count in (8..37)
            .flat_map(|log| (0..999).map(move |part| (1_u64 << log) + part * (1 << log) / 999))
        {
            let code = pack(count);
            let off = unpack(code).abs_diff(count) as f64;
            assert!(off <= count as f64 * RELATIVE_ERROR, "{count} gave {}", unpack(code));
            assert!(code >= former, "{count}");
            former = code;
        }
        assert_eq!(pack(u64::MAX), LARGEST);
    }

    #[test]
    fn every_code_is_its_count_s_code() {
        for code in 0..=LARGEST {
            assert_eq!(pack(unpack(code)), code);
        }
    }

    #[test]
    fn two_codes_come_back() {
        for (first, second) in [(0, 0), (LARGEST, 0), (0, LARGEST), (1_234, 2_345)] {
            assert_eq!(Pair::new(first, second).codes(), (first, second));
        }
    }
}
