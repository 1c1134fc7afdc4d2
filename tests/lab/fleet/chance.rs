//! Counts as chance makes them.

use algorithms::packing::Random;

/// Above this a count is drawn from the normal distribution: the difference drowns in the noise.
const MANY: f64 = 30.0;

/// How many events come where `expected` are expected and each comes by itself (Poisson), by
/// multiplication of uniform numbers (Knuth, The Art of Computer Programming 2, 3.4.1).
pub(super) fn count(chance: &mut Random, expected: f64) -> u64 {
    if expected <= 0.0 {
        return 0;
    }
    if expected > MANY {
        // The sum of twelve uniform numbers is near enough to a normal one.
        let normal = (0..12).map(|_| chance.share()).sum::<f64>() - 6.0;
        return (expected + normal * expected.sqrt()).round().max(0.0) as u64;
    }
    let limit = (-expected).exp();
    let (mut product, mut events) = (chance.share(), 0);
    while product > limit {
        product *= chance.share();
        events += 1;
    }
    events
}

/// Whether something of that share happens.
pub(super) fn happens(chance: &mut Random, share: f64) -> bool {
    chance.share() < share
}
