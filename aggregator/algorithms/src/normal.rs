//! The normal distribution.

/// Its 97.5 % quantile: a 95 % interval reaches so many standard deviations either way.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// The complementary error function, right to seven digits everywhere, also where it is tiny
/// (Numerical Recipes, `erfcc`, after Chebyshev).
#[must_use]
pub fn erfc(x: f64) -> f64 {
    const C: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let polynomial = C.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let value = t * (polynomial - x * x).exp();
    if x >= 0.0 { value } else { 2.0 - value }
}

/// Chance that a standard normal value is above `z`.
#[must_use]
pub fn above(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        for (z, above_z) in
            [(0.0, 0.5), (1.959_964, 0.025), (-1.0, 0.841_345), (6.0, 9.865_876e-10)]
        {
            assert!((above(z) / above_z - 1.0).abs() < 1e-5, "{z}: {}", above(z));
        }
    }
}
