//! Calibration of a classifier: its accuracy as a function of its confidence.

/// The predictions whose confidence lies in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CalibrationBin {
    /// Number of predictions.
    pub count: u64,
    /// Mean probability of the predicted class; 0 in an empty bin.
    pub confidence: f64,
    /// Fraction of right predictions; 0 in an empty bin.
    pub accuracy: f64,
}

/// Sorts predictions into `bins` equal intervals of confidence, each open on the left and closed on the right, as Guo et al. 2017
/// (arXiv:1706.04599). `confidence[i]` is the probability of the predicted class and `correct[i]` says whether it was the true one.
/// Confidences that are NaN are left out; lengths beyond the shorter one too.
pub fn calibration_bins(confidence: &[f64], correct: &[bool], bins: usize) -> Vec<CalibrationBin> {
    let mut out = vec![CalibrationBin::default(); bins.max(1)];
    let last = out.len() - 1;
    for (&p, &right) in confidence.iter().zip(correct).filter(|(p, _)| !p.is_nan()) {
        let bin = &mut out[((p * bins as f64).ceil() as usize).saturating_sub(1).min(last)];
        bin.count += 1;
        bin.confidence += p;
        bin.accuracy += f64::from(right);
    }
    for bin in out.iter_mut().filter(|b| b.count > 0) {
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    out
}

/// The expected calibration error: sum over bins of (count / total) |accuracy - confidence|, between 0 and 1; 0 without predictions.
pub fn expected_calibration_error(bins: &[CalibrationBin]) -> f64 {
    let total: u64 = bins.iter().map(|b| b.count).sum();
    bins.iter().filter(|b| b.count > 0).map(|b| b.count as f64 / total as f64 * (b.accuracy - b.confidence).abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_and_error_by_hand() {
        let bins = calibration_bins(&[0.95, 0.85, 0.5, 0.0, f64::NAN, 1.0], &[true, false, true, false, true, true], 10);
        let counts: Vec<u64> = bins.iter().map(|b| b.count).collect();
        assert_eq!(counts, [1, 0, 0, 0, 1, 0, 0, 0, 1, 2]);
        assert_eq!(bins[9], CalibrationBin { count: 2, confidence: 0.975, accuracy: 1.0 });
        // (0 + 0.5 + 0.85 + 2 * 0.025) / 5
        assert!((expected_calibration_error(&bins) - 0.28).abs() < 1e-12);
        assert_eq!(expected_calibration_error(&[]), 0.0);
    }
}
