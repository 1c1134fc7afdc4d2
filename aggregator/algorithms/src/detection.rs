//! How many things were not seen by one who looks now and then.
//!
//! A thing that lives for a time without memory is seen at the next look too with the same chance q,
//! however often it was seen. So q is told by how often the same thing is seen again, and the chance to
//! be seen at all is the share of the time between looks that it fills on average, up to one look:
//! p = (1 - q) / (-ln q). What was counted over p is what there was (Horvitz & Thompson, JASA 1952).

/// The chance that a thing was seen, from how many were seen and in how many sightings all together.
/// `None` if nothing was seen. Where each was seen once, it is a bound from above: they live too briefly
/// to tell how briefly.
#[must_use]
pub fn chance_to_be_seen(things: u64, sightings: u64) -> Option<f64> {
    if things == 0 {
        return None;
    }
    let (things, sightings) = (things as f64, sightings.max(things) as f64);
    // One more sighting than there was keeps q from nought.
    let again = (sightings - things + 0.5) / (sightings + 0.5);
    Some(((1.0 - again) / -again.ln()).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Random;

    #[test]
    fn what_there_was_is_what_was_counted_over_the_chance() {
        let mut random = Random::new(1000);
        for mean in [0.2, 0.5, 1.0, 4.0] {
            let (mut things, mut sightings, all) = (0, 0, 20_000);
            for _ in 0..all {
                let (born, life) = (random.share(), -(1.0 - random.share()).ln() * mean);
                let (mut seen, mut look) = (0_u64, 1.0);
                while look <= born + life {
                    seen += 1;
                    look += 1.0;
                }
                things += u64::from(seen > 0);
                sightings += seen;
            }
            let estimate = things as f64 / chance_to_be_seen(things, sightings).unwrap();
            assert!((estimate / f64::from(all) - 1.0).abs() < 0.05, "{mean}: {estimate}");
        }
    }

    #[test]
    fn what_stays_is_seen_and_nothing_says_nothing() {
        assert!(chance_to_be_seen(5, 5000).unwrap() > 0.99);
        assert_eq!(chance_to_be_seen(0, 0), None);
        assert!(chance_to_be_seen(100, 100).unwrap() < 0.25);
    }
}
