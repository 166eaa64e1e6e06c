//! Losses of discriminators and generators, from logits.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::Params;
use crate::ops::in_f32;
use crate::tensor::Tensor;

/// The loss of a discriminator D and a generator G. D gives logits: `sigmoid(D)` is the probability of
/// being real, and no sigmoid is applied before these losses. All are means over the rows; r and f are the logits of real and of
/// generated examples. `-log sigmoid(r)` is `softplus(-r)` and `-log(1 - sigmoid(f))` is `softplus(f)`: finite for every logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GanLoss {
    /// D: `softplus(-r) + softplus(f)`; G: `softplus(-f)` (Goodfellow et al. 2014, section 3).
    #[default]
    NonSaturating,
    /// The same D; G: `-softplus(f)`, the minimax game itself (Goodfellow et al. 2014, equation 1).
    Saturating,
    /// D: `max(0, 1 - r) + max(0, 1 + f)`; G: `-f` (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17).
    Hinge,
    /// D: `f - r`; G: `-f`, for a D that is kept Lipschitz by clipping or by a penalty (Arjovsky et al. 2017, equation 2).
    Wasserstein,
    /// D: `(r - 1)^2 / 2 + f^2 / 2`; G: `(f - 1)^2 / 2`, squared per row (Mao et al. 2017, equation 9).
    LeastSquares,
    /// D: `softplus(f - r)`; G: `softplus(r - f)` over pairs of rows (Jolicoeur-Martineau 2019, section 4.1).
    Relativistic,
}

impl GanLoss {
    /// The discriminator's loss, a scalar, from the logits of real and of generated examples.
    ///
    /// # Errors
    /// [`GanLoss::Relativistic`] is given different numbers of real and generated rows.
    pub fn discriminator(self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        in_f32([real, fake], |[real, fake]| match self {
            GanLoss::NonSaturating | GanLoss::Saturating => real.neg()?.softplus()?.mean_all()?.add(&fake.softplus()?.mean_all()?),
            GanLoss::Hinge => real.one_minus()?.relu()?.mean_all()?.add(&fake.affine(1.0, 1.0)?.relu()?.mean_all()?),
            GanLoss::Wasserstein => fake.mean_all()?.sub(&real.mean_all()?),
            GanLoss::LeastSquares => {
                let sum = real.affine(1.0, -1.0)?.square()?.mean_all()?.add(&fake.square()?.mean_all()?)?;
                sum.affine(0.5, 0.0)
            }
            GanLoss::Relativistic => difference(fake, real)?.softplus()?.mean_all(),
        })
    }

    /// The generator's loss, a scalar, from the logits of generated examples. Only [`GanLoss::Relativistic`] reads
    /// `real`, the logits of as many real examples.
    ///
    /// # Errors
    /// [`GanLoss::Relativistic`] is given no real logits, or another number of them than of generated ones.
    pub fn generator(self, fake: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
        in_f32([fake], |[fake]| match self {
            GanLoss::NonSaturating => fake.neg()?.softplus()?.mean_all(),
            GanLoss::Saturating => fake.softplus()?.mean_all()?.neg(),
            GanLoss::Hinge | GanLoss::Wasserstein => fake.mean_all()?.neg(),
            GanLoss::LeastSquares => fake.affine(1.0, -1.0)?.square()?.mean_all()?.affine(0.5, 0.0),
            GanLoss::Relativistic => {
                let expected = "the logits of real examples beside it, which the relativistic loss compares with";
                let real = real.ok_or(Error::BadShape { op: "gan_loss", shape: fake.shape(), expected })?;
                difference(&real.widened()?, fake)?.softplus()?.mean_all()
            }
        })
    }

    /// Whether the generator's loss uses the logits of real examples.
    pub fn generator_needs_real(self) -> bool {
        self == GanLoss::Relativistic
    }

    /// The share of rows that a discriminator with these logits tells right, as a scalar: on its side of logit 0 (of 1/2 for
    /// least squares, whose targets are 0 and 1), half for either kind. Where only differences of logits mean something
    /// (Wasserstein, relativistic) it is the share of pairs of rows in order. NaN if a logit is a NaN or infinite, which is no answer.
    ///
    /// # Errors
    /// Different numbers of rows where pairs are compared.
    pub fn accuracy(self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        let (real, fake) = (real.detach(), fake.detach());
        // 0, or NaN if a logit is not finite, which no comparison would show
        let unknown = real.affine(0.0, 0.0)?.sum_all()?.add(&fake.affine(0.0, 0.0)?.sum_all()?)?;
        if matches!(self, GanLoss::Wasserstein | GanLoss::Relativistic) {
            return difference(&real, &fake)?.gt(0.0)?.mean_all()?.add(&unknown);
        }
        let threshold = if self == GanLoss::LeastSquares { 0.5 } else { 0.0 };
        let right = real.affine(1.0, -threshold)?.gt(0.0)?.mean_all()?.add(&fake.affine(-1.0, threshold)?.gt(0.0)?.mean_all()?)?;
        right.affine(0.5, 0.0)?.add(&unknown)
    }
}

fn difference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() {
        let rule = "real and generated examples are compared in pairs";
        return Err(Error::ShapeMismatch { op: "gan_loss", shapes: vec![a.shape(), b.shape()], rule });
    }
    a.sub(b)
}

/// Clips every trained weight to [-bound, bound], as the first Wasserstein GAN does after each step of its critic (Arjovsky et
/// al. 2017, algorithm 1, with 0.01).
///
/// # Errors
/// The bound is not above 0.
pub fn clip_weights(params: &Params, bound: f64) -> Result<()> {
    if !(bound > 0.0 && bound.is_finite()) {
        return Err(Error::OutOfRange { op: "clip_weights", name: "bound", value: bound, expected: "above 0 and finite" });
    }
    params.trained().iter().try_for_each(|(_, param)| {
        // outside of the call, in which nothing may hold the old weights
        let clipped = param.tensor().detach().clamp(-bound, bound)?;
        param.set(&clipped)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Param;
    use crate::{Device, grad};

    const ALL: [GanLoss; 6] =
        [GanLoss::NonSaturating, GanLoss::Saturating, GanLoss::Hinge, GanLoss::Wasserstein, GanLoss::LeastSquares, GanLoss::Relativistic];

    fn logits(values: &[f64]) -> Tensor {
        Tensor::from_slice(values, [values.len()], &Device::cpu()).unwrap()
    }

    /// Loss of D and of G.
    fn losses(loss: GanLoss, real: &[f64], fake: &[f64]) -> [f64; 2] {
        let (real, fake) = (logits(real), logits(fake));
        [loss.discriminator(&real, &fake).unwrap(), loss.generator(&fake, Some(&real)).unwrap()].map(|x| x.item().unwrap())
    }

    #[test]
    fn values_are_those_of_the_papers() {
        let (real, fake) = ([0.5, -2.0], [1.5, -0.25]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mean = |f: &dyn Fn(usize) -> f64| (f(0) + f(1)) / 2.0;
        let bce = mean(&|i| -sigmoid(real[i]).ln() - (1.0 - sigmoid(fake[i])).ln());
        let expected = [
            [bce, mean(&|i| -sigmoid(fake[i]).ln())],
            [bce, mean(&|i| (1.0 - sigmoid(fake[i])).ln())],
            [mean(&|i| (1.0 - real[i]).max(0.0) + (1.0 + fake[i]).max(0.0)), mean(&|i| -fake[i])],
            [mean(&|i| fake[i] - real[i]), mean(&|i| -fake[i])],
            [mean(&|i| 0.5 * (real[i] - 1.0).powi(2) + 0.5 * fake[i].powi(2)), mean(&|i| 0.5 * (fake[i] - 1.0).powi(2))],
            [mean(&|i| -sigmoid(real[i] - fake[i]).ln()), mean(&|i| -sigmoid(fake[i] - real[i]).ln())],
        ];
        for (loss, expected) in ALL.into_iter().zip(expected) {
            for (found, expected) in losses(loss, &real, &fake).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{loss:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_certain_discriminator_has_no_loss_so_there_is_one_sigmoid() {
        // a sigmoid before the loss would leave at least softplus(-1) = 0.31
        let [d, g] = losses(GanLoss::NonSaturating, &[50.0], &[-50.0]);
        assert!(d < 1e-20 && (g - 50.0).abs() < 1e-12);
        let fake = logits(&[-50.0]).requires_grad();
        let slope = |loss: GanLoss| grad(&loss.generator(&fake, None).unwrap(), &[&fake]).unwrap()[0].item().unwrap();
        assert!((slope(GanLoss::NonSaturating) + 1.0).abs() < 1e-12 && slope(GanLoss::Saturating).abs() < 1e-20);
    }

    #[test]
    fn least_squares_squares_rows_and_not_their_mean() {
        // the mean logit of either row pair is its target
        assert_eq!(losses(GanLoss::LeastSquares, &[0.0, 2.0], &[-1.0, 1.0]), [1.0, 1.0]);
    }

    #[test]
    fn every_logit_gives_a_finite_loss_and_gradient() {
        for loss in ALL {
            for size in [1e4f32, 1e9] {
                let real = Tensor::from_slice(&[size, -size], [2], &Device::cpu()).unwrap().requires_grad();
                let fake = Tensor::from_slice(&[size, size], [2], &Device::cpu()).unwrap().requires_grad();
                let (d, g) = (loss.discriminator(&real, &fake).unwrap(), loss.generator(&fake, Some(&real)).unwrap());
                let gradients = [grad(&d, &[&real, &fake]).unwrap(), grad(&g, &[&fake]).unwrap()].concat();
                assert!([d, g].iter().chain(&gradients).all(|x| x.is_finite().unwrap()), "{loss:?} {size}");
            }
        }
    }

    #[test]
    fn accuracy_counts_either_side_by_the_losses_own_border() {
        let accuracy = |loss: GanLoss, real: &[f64], fake: &[f64]| loss.accuracy(&logits(real), &logits(fake)).unwrap().item().unwrap();
        // 0.2 is real by its sign, which a border at 1/2 would deny
        assert_eq!(accuracy(GanLoss::NonSaturating, &[0.2, 3.0, -1.0, 1.0], &[-0.1, 2.0, -3.0, -4.0]), 0.75);
        assert_eq!(accuracy(GanLoss::LeastSquares, &[0.2, 0.9], &[0.4, 0.6]), 0.5);
        assert_eq!(accuracy(GanLoss::Wasserstein, &[-10.0, -30.0], &[-11.0, -29.0]), 0.5);
    }

    #[test]
    fn logits_that_are_no_numbers_are_no_answers() {
        for loss in ALL {
            for bad in [f64::NAN, f64::INFINITY] {
                let found = [(bad, 1.0), (1.0, bad)].map(|(r, f)| loss.accuracy(&logits(&[r, 2.0]), &logits(&[f, -3.0])).unwrap());
                assert!(found.iter().all(|accuracy| accuracy.item().unwrap().is_nan()), "{loss:?} {bad}");
            }
            // 41 rows that are all right are all of them
            for (dtype, n) in [(crate::DType::F32, 41), (crate::DType::F64, 49)] {
                let row = |value: f64| Tensor::full(value, [n], dtype, &Device::cpu()).unwrap();
                assert_eq!(loss.accuracy(&row(3.0), &row(-3.0)).unwrap().item().unwrap(), 1.0, "{loss:?} {n}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(GanLoss::Relativistic.generator(&logits(&[1.0]), None).unwrap_err().to_string().contains("real"));
        assert!(GanLoss::Relativistic.discriminator(&logits(&[1.0]), &logits(&[1.0, 2.0])).is_err());
    }

    #[test]
    fn clipping_bounds_every_weight() {
        let weight = Param::new(&logits(&[0.5, -0.002, -7.0]));
        let mut params = Params::default();
        params.push("weight".into(), &weight);
        clip_weights(&params, 0.01).unwrap();
        assert_eq!(weight.tensor().to_vec::<f64>().unwrap(), [0.01, -0.002, -0.01]);
        assert!(weight.is_trained() && clip_weights(&params, 0.0).is_err() && clip_weights(&params, f64::NAN).is_err());
    }
}
