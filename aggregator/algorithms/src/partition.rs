//! Partitions: how alike two of them are, and how the parts of one are told again in the next.

use std::collections::BTreeMap;

/// Labels numbered from 0 in the order in which each is first met.
#[must_use]
pub fn numbered<T: Ord>(labels: &[T]) -> Vec<usize> {
    let mut numbers: BTreeMap<&T, usize> = BTreeMap::new();
    let number = |label| {
        let next = numbers.len();
        *numbers.entry(label).or_insert(next)
    };
    labels.iter().map(number).collect()
}

/// The adjusted Rand index of two partitions of the same things (Hubert, Arabie 1985): 1 if they are
/// the same, about 0 if they agree by chance alone. `None` if they are not of equally many things,
/// or of fewer than two.
#[must_use]
pub fn adjusted_rand<A: Ord, B: Ord>(one: &[A], other: &[B]) -> Option<f64> {
    if one.len() != other.len() || one.len() < 2 {
        return None;
    }
    let mut cells: BTreeMap<(&A, &B), usize> = BTreeMap::new();
    let mut rows: BTreeMap<&A, usize> = BTreeMap::new();
    let mut columns: BTreeMap<&B, usize> = BTreeMap::new();
    for (a, b) in one.iter().zip(other) {
        *cells.entry((a, b)).or_default() += 1;
        *rows.entry(a).or_default() += 1;
        *columns.entry(b).or_default() += 1;
    }
    let both: f64 = cells.into_values().map(pairs).sum();
    let in_rows: f64 = rows.into_values().map(pairs).sum();
    let in_columns: f64 = columns.into_values().map(pairs).sum();
    let chance = in_rows * in_columns / pairs(one.len());
    let most = f64::midpoint(in_rows, in_columns);
    // Both all in one part, or both all apart: they are the same.
    if (most - chance).abs() < f64::EPSILON {
        return Some(1.0);
    }
    Some((both - chance) / (most - chance))
}

fn pairs(count: usize) -> f64 {
    let count = count as f64;
    count * (count - 1.0) / 2.0
}

/// For each present part the former one it is, if it is one: of all pairs whose Jaccard index is at
/// least `least`, the most alike first, each part once. Members of a part are in order, each once.
/// O(members x log): only parts that share a member are compared.
#[must_use]
pub fn inherited<T: Ord>(former: &[Vec<T>], present: &[Vec<T>], least: f64) -> Vec<Option<usize>> {
    let mut homes: BTreeMap<&T, Vec<usize>> = BTreeMap::new();
    for (at, members) in former.iter().enumerate() {
        for member in members {
            homes.entry(member).or_default().push(at);
        }
    }
    let mut shared: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (at, members) in present.iter().enumerate() {
        for home in members.iter().filter_map(|member| homes.get(member)).flatten() {
            *shared.entry((at, *home)).or_default() += 1;
        }
    }
    let mut alike: Vec<(f64, usize, usize, usize)> = Vec::new();
    for ((now, then), common) in shared {
        let all = present[now].len() + former[then].len() - common;
        let jaccard = common as f64 / all.max(1) as f64;
        if jaccard >= least {
            alike.push((jaccard, common, now, then));
        }
    }
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then((a.2, a.3).cmp(&(b.2, b.3))));
    let mut heirs = vec![None; present.len()];
    let mut taken = vec![false; former.len()];
    for (_, _, now, then) in alike {
        if heirs[now].is_none() && !taken[then] {
            heirs[now] = Some(then);
            taken[then] = true;
        }
    }
    heirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_under_other_names_are_wholly_alike() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &["b", "b", "a", "a"]), Some(1.0));
    }

    #[test]
    fn the_index_is_that_of_the_literature() {
        // The example of scikit-learn's documentation: 0.5714 to four digits is 4/7.
        let index = adjusted_rand(&[0, 0, 1, 2], &[0, 0, 1, 1]).unwrap();
        assert!((index - 4.0 / 7.0).abs() < 1e-12, "{index}");
    }

    #[test]
    fn everything_in_one_part_says_nothing() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[0, 0, 0, 0]), Some(0.0));
        assert_eq!(adjusted_rand(&[0], &[0]), None);
        assert_eq!(adjusted_rand(&[0, 1], &[0, 1, 2]), None);
    }

    #[test]
    fn a_part_that_kept_half_of_all_keeps_its_name() {
        let former = vec![vec![1, 2, 3, 4], vec![5, 6]];
        let present = vec![vec![5, 6, 7], vec![1, 2], vec![3, 4, 8]];
        // {1, 2} is half of {1, 2, 3, 4}; {3, 4, 8} shares two of five.
        assert_eq!(inherited(&former, &present, 0.5), [Some(1), Some(0), None]);
    }

    #[test]
    fn of_two_halves_one_inherits() {
        let former = vec![vec![1, 2, 3, 4]];
        assert_eq!(inherited(&former, &[vec![3, 4], vec![1, 2]], 0.5), [Some(0), None]);
    }
}
