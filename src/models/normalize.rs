//! Running normalisation: of observations by their mean and deviation, of rewards by the deviation of the discounted return.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::nn::{Param, Params};
use crate::tensor::Tensor;

/// Below this variance a coordinate is a constant: it is shifted and not scaled.
const SMALLEST_VARIANCE: f64 = 1e-12;

/// The mean and the deviation of all rows that it was shown, in f64, and the normalisation `(x - mean) / deviation` by them.
///
/// It is part of a model: its numbers are buffers among the model's parameters, so a checkpoint holds them. Only
/// [`Normalizer::update`] moves them; evaluation does not. Before the first rows it changes nothing. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Normalizer {
    /// The number of rows, `[1]`.
    count: Param,
    /// The mean of each coordinate, `[width]`.
    mean: Param,
    /// The sum of the squared differences from the mean, `[width]`.
    squares: Param,
    /// Normalised values are cut to plus and minus this.
    clip: f64,
}

/// A normalisation that stays as it is while the [`Normalizer`] goes on.
#[derive(Debug, Clone)]
pub struct Normalization {
    /// The mean and the factor `[width]` of `(x - mean) factor`; `None` before the first rows.
    affine: Option<[Tensor; 2]>,
    clip: f64,
}

impl Normalizer {
    /// A normaliser of rows of this width that has seen nothing; results are cut to plus and minus `clip`, which may be infinite.
    ///
    /// # Errors
    /// `clip` is not above 0.
    pub fn new(width: usize, clip: f64, device: &Device) -> Result<Normalizer> {
        if clip.is_nan() || clip <= 0.0 {
            return Err(Error::OutOfRange { op: "normalizer", name: "clip", value: clip, expected: "above 0" });
        }
        let zeros = |width| Ok(Param::buffer(&Tensor::zeros([width], DType::F64, device)?));
        Ok(Normalizer { count: zeros(1)?, mean: zeros(width)?, squares: zeros(width)?, clip })
    }

    /// The numbers by name, as buffers: `count`, `mean`, `squares`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        params.push("count".into(), &self.count);
        params.push("mean".into(), &self.mean);
        params.push("squares".into(), &self.squares);
        params
    }

    /// Adds rows [rows, width] to what was seen (Chan, Golub and LeVeque 1979: the sums of two parts are combined, nothing is subtracted
    /// that is larger than the result).
    ///
    /// # Errors
    /// The rows have another width.
    pub fn update(&self, rows: &Tensor) -> Result<()> {
        let rows = self.fitting(&rows.detach())?.to_dtype(DType::F64)?;
        let added = rows.dims()[0] as f64;
        if added == 0.0 {
            return Ok(());
        }
        let (mean, squares, count) = (self.mean.tensor(), self.squares.tensor(), self.count.tensor().item()?);
        let own = rows.mean(&[0], false)?;
        let own_squares = rows.sub(&own)?.square()?.sum(&[0], false)?;
        let (difference, total) = (own.sub(&mean)?, count + added);
        let between = difference.square()?.affine(count * added / total, 0.0)?;
        self.squares.set(&squares.add(&own_squares)?.add(&between)?)?;
        self.mean.set(&mean.add(&difference.affine(added / total, 0.0)?)?)?;
        self.count.set(&self.count.tensor().full_like(total)?)
    }

    /// The normalisation by what was seen so far, for rows of this dtype.
    pub fn now(&self, dtype: DType) -> Result<Normalization> {
        let count = self.count.tensor().item()?;
        if count == 0.0 {
            return Ok(Normalization { affine: None, clip: self.clip });
        }
        let variance = self.squares.tensor().affine(1.0 / count, 0.0)?;
        let varies = variance.gt(SMALLEST_VARIANCE)?;
        let deviation = variance.clamp(SMALLEST_VARIANCE, f64::INFINITY)?.sqrt()?;
        let factor = varies.where_cond(&deviation.reciprocal()?, &deviation.ones_like()?)?;
        Ok(Normalization { affine: Some([self.mean.tensor().to_dtype(dtype)?, factor.to_dtype(dtype)?]), clip: self.clip })
    }

    /// The number of rows that it was shown.
    pub fn count(&self) -> Result<f64> {
        self.count.tensor().item()
    }

    fn fitting(&self, rows: &Tensor) -> Result<Tensor> {
        let width = self.mean.tensor().element_count();
        match rows.dims() {
            [_, found] if *found == width => Ok(rows.clone()),
            _ => Err(Error::BadShape { op: "normalizer", shape: rows.shape(), expected: "rows [rows, width] of the normaliser's width" }),
        }
    }
}

impl Normalization {
    /// The normalised rows [rows, width].
    pub fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        let Some([mean, factor]) = &self.affine else { return Ok(rows.clone()) };
        let normalized = rows.sub(mean)?.mul(factor)?;
        if self.clip.is_infinite() { Ok(normalized) } else { normalized.clamp(-self.clip, self.clip) }
    }
}

/// Scales rewards so that the discounted return of a copy of a task has about the deviation 1: `R <- gamma R + r` runs along each copy,
/// and rewards are divided by the deviation of all R so far. It does not shift them, which would change what is best.
#[derive(Debug, Clone)]
pub struct RewardScale {
    gamma: f64,
    clip: f64,
    /// Number of returns, their mean, their sum of squared differences; then the running return of each copy.
    state: Vec<f64>,
}

impl RewardScale {
    /// A scale for this many copies; scaled rewards are cut to plus and minus `clip`.
    ///
    /// # Errors
    /// gamma is not in [0, 1], or `clip` not above 0.
    pub fn new(copies: usize, gamma: f64, clip: f64) -> Result<RewardScale> {
        let wrong = |name, value, expected| Err(Error::OutOfRange { op: "reward_scale", name, value, expected });
        if !(0.0..=1.0).contains(&gamma) {
            return wrong("gamma", gamma, "between 0 and 1");
        }
        if clip.is_nan() || clip <= 0.0 {
            return wrong("clip", clip, "above 0");
        }
        Ok(RewardScale { gamma, clip, state: vec![0.0; 3 + copies] })
    }

    /// Scales the rewards [steps, copies] in place, after it took them into account; `ended` says after which steps episodes ended.
    ///
    /// # Errors
    /// The numbers of rewards and of ends differ, or are not whole steps of all copies.
    pub fn apply(&mut self, rewards: &mut [f64], ended: &[bool]) -> Result<()> {
        let copies = self.state.len() - 3;
        if rewards.len() != ended.len() || copies == 0 || !rewards.len().is_multiple_of(copies) {
            let expected = "as many ends as rewards, one of each copy in every step";
            return Err(Error::OutOfRange { op: "reward_scale", name: "number of rewards", value: rewards.len() as f64, expected });
        }
        let (moments, running) = self.state.split_at_mut(3);
        for (i, (&reward, &ended)) in rewards.iter().zip(ended).enumerate() {
            let total = &mut running[i % copies];
            *total = self.gamma * *total + reward;
            moments[0] += 1.0;
            let difference = *total - moments[1];
            moments[1] += difference / moments[0];
            moments[2] += difference * (*total - moments[1]);
            if ended {
                *total = 0.0;
            }
        }
        let deviation = (moments[2] / moments[0]).sqrt() + 1e-8;
        rewards.iter_mut().for_each(|reward| *reward = (*reward / deviation).clamp(-self.clip, self.clip));
        Ok(())
    }

    /// All that changes: to save in a checkpoint, and to put back.
    pub fn state(&mut self) -> &mut [f64] {
        &mut self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeMap;

    fn cpu() -> Device {
        Device::cpu()
    }

    /// Rows around 5,000 with a deviation of 1e-2 in one coordinate and 30 in another; the third never changes.
    fn rows(count: usize, seed: u64) -> Tensor {
        let noise = Rng::new(seed).normal([count, 3], DType::F64, &cpu()).unwrap();
        let scale = Tensor::from_slice(&[1e-2, 30.0, 0.0], [3], &cpu()).unwrap();
        noise.mul(&scale).unwrap().affine(1.0, 5000.0).unwrap()
    }

    #[test]
    fn what_was_seen_has_mean_0_and_deviation_1() {
        let normalizer = Normalizer::new(3, 10.0, &cpu()).unwrap();
        let parts = [rows(7, 1), rows(500, 2), rows(1, 3), rows(300, 4), rows(0, 5)];
        for part in &parts {
            normalizer.update(part).unwrap();
        }
        let all = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0).unwrap();
        let found = normalizer.now(DType::F64).unwrap().apply(&all).unwrap().to_vec::<f64>().unwrap();
        let n = 808.0;
        for column in 0..3 {
            let values: Vec<f64> = found.iter().skip(column).step_by(3).copied().collect();
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            let expected = if column == 2 { 0.0 } else { 1.0 };
            assert!(mean.abs() < 1e-7 && (variance - expected).abs() < 1e-7, "{column}: {mean} {variance}");
        }
        // in f32 rows far from 0 keep what f32 holds of them
        let single = normalizer.now(DType::F32).unwrap().apply(&all.to_dtype(DType::F32).unwrap()).unwrap().to_f64_vec().unwrap();
        assert!(single.iter().zip(&found).skip(1).step_by(3).all(|(s, f)| (s - f).abs() < 1e-4));
    }

    #[test]
    fn it_is_the_identity_before_the_first_rows_and_goes_on_from_its_state() {
        let fresh = || Normalizer::new(3, 10.0, &cpu()).unwrap();
        let (a, b, x) = (fresh(), fresh(), rows(4, 9));
        let apply = |n: &Normalizer| n.now(DType::F64).unwrap().apply(&x).unwrap().to_vec::<f64>().unwrap();
        assert_eq!(apply(&a), x.to_vec::<f64>().unwrap());
        a.update(&rows(20, 1)).unwrap();
        let frozen = a.now(DType::F64).unwrap();
        let before = apply(&a);
        assert_eq!(before, apply(&a), "to normalise moves nothing");
        b.params().load_state(&a.params().state().into_iter().collect::<BTreeMap<_, _>>()).unwrap();
        assert_eq!(apply(&b), before);
        a.update(&rows(20, 2)).unwrap();
        b.update(&rows(20, 2)).unwrap();
        assert_eq!(apply(&a), apply(&b));
        assert_ne!(apply(&a), before);
        assert_eq!(frozen.apply(&x).unwrap().to_vec::<f64>().unwrap(), before);
        assert!(a.params().trained().is_empty());
        assert!(a.update(&Tensor::zeros([2, 4], DType::F32, &cpu()).unwrap()).is_err() && Normalizer::new(3, 0.0, &cpu()).is_err());
    }

    #[test]
    fn far_values_are_cut() {
        let normalizer = Normalizer::new(1, 2.0, &cpu()).unwrap();
        normalizer.update(&Tensor::new([[-1.0f64], [1.0]], &cpu()).unwrap()).unwrap();
        let x = Tensor::new([[-5.0f64], [0.5], [9.0]], &cpu()).unwrap();
        assert_eq!(normalizer.now(DType::F64).unwrap().apply(&x).unwrap().to_vec::<f64>().unwrap(), [-2.0, 0.5, 2.0]);
    }

    #[test]
    fn rewards_are_divided_by_the_deviation_of_discounted_returns() {
        let (gamma, copies) = (0.5, 2);
        let rewards = [1.0, 10.0, 2.0, -3.0, 4.0, 0.5];
        let ended = [false, false, true, false, false, false];
        // copy 0: 1, 2.5, then anew 4; copy 1: 10, 2, 1.5
        let returns = [1.0, 10.0, 2.5, 2.0, 4.0, 1.5];
        let mean = returns.iter().sum::<f64>() / 6.0;
        let deviation = (returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 6.0).sqrt();
        let mut scale = RewardScale::new(copies, gamma, 2.0).unwrap();
        let mut found = rewards;
        scale.apply(&mut found, &ended).unwrap();
        for (found, reward) in found.iter().zip(rewards) {
            assert!((found - (reward / deviation).min(2.0)).abs() < 1e-7);
        }
        let mut again = RewardScale::new(copies, gamma, 2.0).unwrap();
        again.state().copy_from_slice(scale.state());
        let mut next = [[1.0, 2.0]; 2];
        scale.apply(&mut next[0], &[false; 2]).unwrap();
        again.apply(&mut next[1], &[false; 2]).unwrap();
        assert_eq!(next[0], next[1]);
        assert!(scale.apply(&mut [1.0], &[false]).is_err() && RewardScale::new(1, 1.5, 1.0).is_err());
    }
}
