//! Rank correlation.

/// Spearman's rank correlation of two lists of the same length: the correlation of their ranks, where equal values share the mean of their
/// ranks. In [-1, 1]; NaN for fewer than two values, for lists of different lengths, and for one that is constant.
///
/// ```
/// use strait::metrics::rank_correlation;
/// assert_eq!(rank_correlation(&[1.0, 2.0, 30.0], &[-1.0, 0.0, 1.0]), 1.0);
/// ```
pub fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let (a, b) = (ranks(a), ranks(b));
    // The mean of ranks from 0 on, ties included.
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let mut end = first + 1;
        while end < order.len() && values[order[end]] == values[order[first]] {
            end += 1;
        }
        for &i in &order[first..end] {
            ranks[i] = (first + end - 1) as f64 / 2.0;
        }
        first = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_correlated() {
        // By SciPy's spearmanr, with ties.
        let (a, b) = ([1.0, 2.0, 2.0, 5.0, 4.0, 3.0], [2.0, 1.0, 3.0, 6.0, 6.0, 0.0]);
        assert!((rank_correlation(&a, &b) - 0.529_411_764_705_882_4).abs() < 1e-12, "{}", rank_correlation(&a, &b));
        let falling: Vec<f64> = a.iter().map(|v| -v * v * v).collect();
        assert!((rank_correlation(&a, &falling) + 1.0).abs() < 1e-12);
        assert!(rank_correlation(&a, &[1.0; 6]).is_nan() && rank_correlation(&a, &b[..5]).is_nan() && rank_correlation(&[], &[]).is_nan());
    }
}
