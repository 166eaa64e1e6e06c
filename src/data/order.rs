//! The order in which an epoch visits the training set: a permutation that depends on a key and the epoch alone, so that
//! training resumes at any step of any epoch without a saved order.

use crate::rng::Draw;

/// A permutation of `0..n` that depends on `key` and `epoch` alone: Fisher-Yates with the words of draw `epoch` under `key`.
///
/// # Panics
/// `n` is above 2^32 - 1.
pub fn epoch_order(n: usize, key: u64, epoch: u64) -> Vec<u32> {
    let draw = Draw { key, number: epoch };
    let mut words = (0..).map(|i| draw.word(i));
    shuffled(n, || words.next().expect("words do not end"))
}

/// A permutation of `0..n`, each equally likely if `next` gives independent uniform words (Fisher and Yates).
///
/// # Panics
/// `n` is above 2^32 - 1.
pub fn shuffled(n: usize, mut next: impl FnMut() -> u32) -> Vec<u32> {
    let n = u32::try_from(n).expect("at most 2^32 - 1 examples can be put in order");
    let mut order: Vec<u32> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last as usize, below(last + 1, &mut next) as usize);
    }
    order
}

/// A number below `bound`, each equally likely: the high half of `word * bound`, where the words whose low half falls into
/// the incomplete last interval are drawn again (D. Lemire, "Fast random integer generation in an interval", 2019).
fn below(bound: u32, next: &mut impl FnMut() -> u32) -> u32 {
    loop {
        let product = u64::from(next()) * u64::from(bound);
        let low = product as u32;
        // 2^32 mod bound words are too many; the division is needed only where it can matter.
        if low >= bound || low >= bound.wrapping_neg() % bound {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_occurs_once_and_only_key_and_epoch_matter() {
        let order = epoch_order(1000, 7, 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_eq!(epoch_order(1000, 7, 3), order);
        for (key, epoch) in [(7, 4), (8, 3), (7 + (1 << 32), 3), (7, 3 + (1 << 32))] {
            assert_ne!(epoch_order(1000, key, epoch), order);
        }
        assert!(epoch_order(0, 7, 3).is_empty());
        assert_eq!(epoch_order(1, 7, 3), [0]);
    }

    #[test]
    fn all_permutations_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        let draws = 24_000;
        for epoch in 0..draws {
            *counts.entry(epoch_order(4, 1, epoch)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = draws as f64 / 24.0;
        let chi2: f64 = counts.values().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        // 23 degrees of freedom: the 99.9 % point is 49.7, and the words are the same in every run.
        assert!(chi2 < 49.7, "{chi2}");
    }

    #[test]
    fn words_of_the_incomplete_interval_are_drawn_again() {
        // 2^32 mod 3 = 1: only the word 0 has a low half below 1.
        let mut words = [0, 0, u32::MAX].into_iter();
        assert_eq!(below(3, &mut || words.next().unwrap()), 2);
        // A power of two needs no second draw.
        assert_eq!(below(4, &mut || 0), 0);
        // Every number is reached from equally many words: counted over the top 16 bits for a bound where it is easy to see.
        let mut counts = [0; 5];
        (0..65_536u32).for_each(|high| counts[below(5, &mut || high << 16 | 0x8000) as usize] += 1);
        assert!(counts.iter().all(|&c: &i32| (c - 65_536 / 5).abs() <= 1), "{counts:?}");
    }
}
