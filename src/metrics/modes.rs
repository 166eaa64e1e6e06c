//! The number of modes of a known distribution that a generator finds, and how evenly it covers them.

use crate::data::Mixture;
use crate::error::{Error, Result};

/// A sample is of high quality within this many standard deviations of the nearest mode.
const NEAR: f64 = 3.0;

/// Modes that were found.
#[derive(Debug, Clone, PartialEq)]
pub struct ModeCount {
    /// Modes with at least one sample; of points, with at least one of high quality.
    pub found: usize,
    /// All modes.
    pub modes: usize,
    /// KL(samples' modes || uniform) in nats: the reverse of the data's own direction. Perfect samples have about
    /// (modes - 1) / (2 samples), from chance alone.
    pub reverse_kl: f64,
    /// Share of points within three standard deviations of a mode; 1 where only classes are known.
    pub high_quality: f64,
    /// Samples of each mode.
    pub counts: Vec<usize>,
}

/// Counts modes of a mixture among points: each belongs to its nearest mode and is of high quality within three standard
/// deviations of it (Srivastava et al. 2017, "VEEGAN", section 4.1, with 2,500 points; the reverse KL as in Lin et al. 2018,
/// "PacGAN").
///
/// # Errors
/// There is no point, or one that is not finite.
pub fn count_modes(points: &[[f32; 2]], mixture: &Mixture) -> Result<ModeCount> {
    if let Some(row) = points.iter().position(|point| point.iter().any(|x| !x.is_finite())) {
        return Err(Error::NonFiniteInput { op: "count_modes", shape: [points.len(), 2].into(), row });
    }
    let limit = (NEAR * mixture.deviation).powi(2);
    let mut near = vec![0usize; mixture.means.len()];
    let nearest = points.iter().map(|point| {
        let distance = |m: &[f64; 2]| (f64::from(point[0]) - m[0]).powi(2) + (f64::from(point[1]) - m[1]).powi(2);
        let all = mixture.means.iter().map(distance).enumerate();
        let (mode, distance) = all.min_by(|a, b| a.1.total_cmp(&b.1)).expect("a mixture has components");
        near[mode] += usize::from(distance <= limit);
        mode
    });
    let count = count_classes(&nearest.collect::<Vec<_>>(), mixture.means.len())?;
    Ok(ModeCount {
        found: near.iter().filter(|&&n| n > 0).count(),
        high_quality: near.iter().sum::<usize>() as f64 / points.len() as f64,
        ..count
    })
}

/// Counts modes among samples whose class is known or was recognised, as the 1,000 of StackedMNIST (Metz et al. 2017,
/// "Unrolled generative adversarial networks"; 26,000 samples in Lin et al. 2018).
///
/// # Errors
/// There is no sample, or a class that is not below `modes`.
pub fn count_classes(classes: &[usize], modes: usize) -> Result<ModeCount> {
    if classes.is_empty() {
        return Err(Error::OutOfRange { op: "count_classes", name: "samples", value: 0.0, expected: "at least 1" });
    }
    let mut counts = vec![0usize; modes];
    for &class in classes {
        let length = counts.len();
        *counts.get_mut(class).ok_or(Error::IndexOutOfRange { op: "count_classes", index: class as i64, length })? += 1;
    }
    let share = |&n: &usize| n as f64 / classes.len() as f64;
    let reverse_kl: f64 = counts.iter().map(share).filter(|&p| p > 0.0).map(|p| p * (p * modes as f64).ln()).sum();
    let found = counts.iter().filter(|&&n| n > 0).count();
    Ok(ModeCount { found, modes, reverse_kl: reverse_kl.max(0.0), high_quality: 1.0, counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::PointSet;
    use crate::rng::Draw;

    #[test]
    fn shares_by_hand() {
        let even = count_classes(&[0, 1, 2, 3], 4).unwrap();
        assert_eq!((even.found, even.reverse_kl, &even.counts[..]), (4, 0.0, &[1, 1, 1, 1][..]));
        let one = count_classes(&[2, 2, 2], 8).unwrap();
        assert_eq!((one.found, one.modes), (1, 8));
        assert!((one.reverse_kl - 8f64.ln()).abs() < 1e-12);
        let uneven = count_classes(&[0, 0, 0, 1], 2).unwrap();
        assert!((uneven.reverse_kl - (0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln())).abs() < 1e-12);
        assert!(count_classes(&[], 2).is_err() && matches!(count_classes(&[2], 2), Err(Error::IndexOutOfRange { index: 2, .. })));
    }

    #[test]
    fn points_by_hand() {
        let mixture = Mixture { means: vec![[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], deviation: 1.0 };
        // Within three deviations; on the border of it; beside the second mode; nowhere near, but nearest the third.
        let count = count_modes(&[[1.0, -1.0], [0.0, 3.0], [10.0, 3.1], [-50.0, 60.0]], &mixture).unwrap();
        assert_eq!((count.found, &count.counts[..], count.high_quality), (1, &[2, 1, 1][..], 0.5));
        assert!((count.reverse_kl - (0.5 * 1.5f64.ln() + 0.5 * 0.75f64.ln())).abs() < 1e-12);
        assert!(count_modes(&[], &mixture).is_err());
        let error = count_modes(&[[0.0; 2], [f32::NAN, 0.0]], &mixture).unwrap_err();
        assert!(matches!(error, Error::NonFiniteInput { row: 1, .. }) && !error.to_string().contains("made here"), "{error}");
    }

    #[test]
    fn true_samples_find_all_modes() {
        for (set, modes) in [(PointSet::Gaussians25, 25), (PointSet::Gaussians8, 8)] {
            let n = 2500;
            let count = count_modes(&set.sample(n, Draw { key: 1, number: 1 }).unwrap(), &set.mixture().unwrap()).unwrap();
            assert_eq!((count.found, count.modes), (modes, modes));
            // In the plane a share of e^(-9/2) lies further out.
            assert!((count.high_quality - (1.0 - (-4.5f64).exp())).abs() < 0.006, "{count:?}");
            // 2 n KL is chi squared with modes - 1 degrees of freedom: mean modes - 1, standard deviation (2 modes - 2)^(1/2).
            let statistic = 2.0 * n as f64 * count.reverse_kl;
            let freedom = modes as f64 - 1.0;
            assert!((statistic - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(), "{statistic}");
        }
    }
}
