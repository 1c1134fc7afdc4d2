//! Chance that is the same everywhere: SplitMix64 (Steele, Lea, Flood 2014).

/// A stream of numbers that follows from its seed alone.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `most`, which is above 0 and below 2^32.
    pub fn below(&mut self, most: usize) -> usize {
        // Lemire's multiplication: the bias at these sizes is below 2^-32.
        let product = (self.next() >> 32) * most as u64;
        usize::try_from(product >> 32).unwrap_or(0)
    }

    /// A number from 0 to 1, 1 left out.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Brings values into an order of chance.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for at in (1..values.len()).rev() {
            let other = self.below(at + 1);
            values.swap(at, other);
        }
    }
}
