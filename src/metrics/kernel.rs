//! The squared maximum mean discrepancy of features under a cubic kernel; on Inception's features, KID.

use std::fmt;

use super::features::{Extractor, Features};
use crate::data::order;
use crate::error::{Error, Result};
use crate::rng::Draw;
use crate::tensor::Tensor;

/// A kernel distance, with what it depends on beside the two distributions.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelDistance {
    /// Mean over the blocks. Unbiased, so it can be negative where the distributions are alike.
    pub value: f64,
    /// Standard deviation over the blocks.
    pub deviation: f64,
    /// Number of blocks.
    pub blocks: usize,
    /// Images of each kind in a block.
    pub size: usize,
    /// The network that extracted the features.
    pub extractor: Extractor,
}

impl KernelDistance {
    /// `KID`, or `kernel-EXTRACTOR` for any other extractor than Inception.
    pub fn name(&self) -> String {
        match &self.extractor {
            Extractor::Inception => "KID".into(),
            Extractor::Named(name) => format!("kernel-{name}"),
        }
    }
}

impl fmt::Display for KernelDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.5} ± {:.5} ({} blocks of {})", self.name(), self.value, self.deviation, self.blocks, self.size)
    }
}

/// The squared maximum mean discrepancy under k(x, y) = (x . y / width + 1)^3, unbiased, of `blocks` random subsets of `size`
/// real and `size` generated images, which `draw` chooses without replacement (Binkowski et al. 2018, "Demystifying MMD GANs",
/// section 4; 100 blocks of 1,000 are usual).
///
/// # Errors
/// The features are of different extractors, there are fewer than `size` of one kind, `size` is below 2, or there is no
/// block.
pub fn kernel_distance(real: &Features, generated: &Features, blocks: usize, size: usize, draw: Draw) -> Result<KernelDistance> {
    real.comparable(generated)?;
    let bad = |name, value: usize, expected| Err(Error::OutOfRange { op: "kernel_distance", name, value: value as f64, expected });
    if blocks == 0 {
        return bad("blocks", blocks, "at least 1");
    }
    if size < 2 || size > real.count().min(generated.count()) {
        return bad("size", size, "at least 2 and at most the number of images of each kind");
    }
    let mut word = 0;
    let mut subset = |features: &Features| -> Result<Tensor> {
        let mut next = || {
            word += 1;
            draw.word(word - 1)
        };
        let order = order::shuffled(features.count(), &mut next);
        let chosen: Vec<i64> = order[..size].iter().map(|&i| i.into()).collect();
        let values = features.values();
        let index = Tensor::from_vec(chosen, [size], &values.device())?;
        values.index_select(0, &index)?.to_dtype(crate::dtype::DType::F64)
    };
    let values = (0..blocks).map(|_| unbiased(&subset(real)?, &subset(generated)?)).collect::<Result<Vec<f64>>>()?;
    let value = values.iter().sum::<f64>() / blocks as f64;
    let deviation = (values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / blocks as f64).sqrt();
    Ok(KernelDistance { value, deviation, blocks, size, extractor: real.extractor().clone() })
}

/// The U-statistic of two sets of equally many rows, f64.
fn unbiased(x: &Tensor, y: &Tensor) -> Result<f64> {
    let (n, width) = (x.dims()[0], x.dims()[1] as f64);
    let kernel = |a: &Tensor, b: &Tensor| a.matmul(&b.t()?)?.divide(width)?.affine(1.0, 1.0)?.powf(3.0);
    let sum = |k: Tensor| k.sum_all()?.item();
    let off_diagonal = |a: &Tensor| -> Result<f64> {
        let diagonal: f64 = a.square()?.sum(&[1], false)?.divide(width)?.affine(1.0, 1.0)?.to_vec::<f64>()?.iter().map(|v| v.powi(3)).sum();
        Ok((sum(kernel(a, a)?)? - diagonal) / (n * (n - 1)) as f64)
    };
    Ok(off_diagonal(x)? + off_diagonal(y)? - 2.0 * sum(kernel(x, y)?)? / (n * n) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::dtype::DType;
    use crate::rng::Rng;

    const DRAW: Draw = Draw { key: 3, number: 1 };

    fn features(values: &Tensor) -> Features {
        Features::new(Extractor::Named("itself".into()), values.clone()).unwrap()
    }

    fn normal(rows: usize, seed: u64) -> Tensor {
        Rng::new(seed).normal([rows, 3], DType::F64, &Device::cpu()).unwrap()
    }

    #[test]
    fn one_block_of_all_is_the_double_sum() {
        let (x, y) = (normal(7, 1), normal(7, 2).affine(1.5, 0.3).unwrap());
        let rows = |t: &Tensor| t.to_vec::<f64>().unwrap().chunks(3).map(<[f64]>::to_vec).collect::<Vec<_>>();
        let k = |a: &[f64], b: &[f64]| (a.iter().zip(b).map(|(p, q)| p * q).sum::<f64>() / 3.0 + 1.0).powi(3);
        let (a, b) = (rows(&x), rows(&y));
        let mut expected = 0.0;
        for i in 0..7 {
            for j in 0..7 {
                if i != j {
                    expected += (k(&a[i], &a[j]) + k(&b[i], &b[j])) / 42.0;
                }
                expected -= 2.0 * k(&a[i], &b[j]) / 49.0;
            }
        }
        let distance = kernel_distance(&features(&x), &features(&y), 1, 7, DRAW).unwrap();
        assert!((distance.value - expected).abs() < 1e-12 && distance.deviation == 0.0);
    }

    #[test]
    fn unbiased_at_equality_and_positive_elsewhere() {
        let (x, y) = (features(&normal(2000, 3)), features(&normal(1500, 4)));
        let same = kernel_distance(&x, &y, 50, 100, DRAW).unwrap();
        // The biased statistic would be about E k(x, x) / 100 + E k(y, y) / 100, near 0.2.
        assert!(same.value.abs() < 0.02 && same.deviation > 0.0, "{same}");
        assert!(kernel_distance(&x, &y, 50, 100, Draw { number: 2, ..DRAW }).unwrap().value != same.value);
        let (x, y) = (features(&normal(20_000, 5)), features(&normal(20_000, 6).affine(1.0, 1.0).unwrap()));
        let far = kernel_distance(&x, &y, 400, 100, DRAW).unwrap();
        // Four times deviation * (1 / blocks + size / images)^(1/2).
        assert!((far.value - closed_form()).abs() < 4.0 * far.deviation * 0.0075f64.sqrt(), "{far} {}", closed_form());
    }

    /// E k(x, x') + E k(y, y') - 2 E k(x, y) for x ~ N(0, I), y ~ N(1, I) in three dimensions: with s = x . y / 3 the kernel's
    /// mean is 1 + 3 E s + 3 E s^2 + E s^3.
    fn closed_form() -> f64 {
        // s for means a, b (all components alike): E s = a b; Var s = (1 + a^2 + b^2) / 3, the mean over three products of
        // independent normals; the third central moment of a product of normals is 6 a b, so that of the mean is 6 a b / 9.
        let mean = |a: f64, b: f64| {
            let (m, variance, third) = (a * b, (1.0 + a * a + b * b) / 3.0, 6.0 * a * b / 9.0);
            1.0 + 3.0 * m + 3.0 * (variance + m * m) + third + 3.0 * m * variance + m.powi(3)
        };
        mean(0.0, 0.0) + mean(1.0, 1.0) - 2.0 * mean(0.0, 1.0)
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let x = features(&normal(10, 1));
        for (blocks, size) in [(0, 5), (1, 1), (1, 11)] {
            assert!(matches!(kernel_distance(&x, &x, blocks, size, DRAW), Err(Error::OutOfRange { .. })));
        }
    }
}
