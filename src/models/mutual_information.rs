//! Lower bounds on the mutual information between latent vectors and what a generator makes of them.

use serde::{Deserialize, Serialize};

use super::{Architecture, Latent};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::gaussian::Scale;
use crate::nn::{Builder, Flatten, Mode, Module, Param, Params};
use crate::rng::Draw;
use crate::tensor::Tensor;

/// The way to make pairs of independent x and z from pairs that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shuffle {
    /// Every dimension of z is permuted by itself, as in the paper on maximum entropy generators.
    #[default]
    Dimensions,
    /// Whole rows of z are permuted, as its authors' code does.
    Rows,
}

impl Shuffle {
    /// The rows of `z` [rows, k], permuted over the batch.
    pub fn of(self, z: &Tensor, draw: Draw) -> Result<Tensor> {
        let &[rows, k] = z.dims() else {
            return Err(Error::BadShape { op: "shuffle", shape: z.shape(), expected: "latent vectors [rows, k]" });
        };
        match self {
            Shuffle::Dimensions => z.gather(0, &draw.uniform([rows, k], DType::F64, &z.device())?.argsort(0)?),
            Shuffle::Rows => z.index_select(0, &draw.uniform([rows], DType::F64, &z.device())?.argsort(0)?),
        }
    }
}

/// The standard deviation of the Gaussian q(z|x) = N(E(x), sigma^2).
#[derive(Debug, Clone)]
pub enum Spread {
    /// One, given by `lambda2 = 1 / (2 sigma^2)`: the weight of `|z - E(G(z))|^2`.
    Fixed {
        /// The weight.
        lambda2: f64,
    },
    /// Learned for each dimension: log sigma `[k]`.
    Learned(Param),
}

impl Spread {
    /// A learned standard deviation that starts at 1 in each of `k` dimensions.
    pub fn learned(k: usize, dtype: DType, device: &Device) -> Result<Spread> {
        Ok(Spread::Learned(Param::new(&Tensor::zeros([k], dtype, device)?)))
    }
}

/// The estimator of an [`Information`], and the sizes of its networks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"inverse\", lambda2 = 1.0 }")]
pub enum InformationConfig {
    /// [`Information::Inverse`] with a fixed standard deviation.
    Inverse {
        /// The weight of `|z - E(G(z))|^2`.
        lambda2: f64,
    },
    /// [`Information::Inverse`] with a standard deviation that is learned for each dimension.
    LearnedInverse,
    /// [`Information::JensenShannon`].
    JensenShannon {
        /// The way to make independent pairs.
        shuffle: Shuffle,
    },
    /// [`Information::InfoNce`].
    InfoNce {
        /// The width of the embeddings whose products are the scores.
        width: usize,
    },
}

/// A quantity to maximise in place of the mutual information I(x; z) of x = G(z), where z is N(0, I).
#[derive(Debug)]
pub enum Information {
    /// The variational bound of Barber and Agakov (2003): `H(z) + E log q(z|x)` with a Gaussian q around a network of x.
    Inverse {
        /// E, from samples to means [rows, k].
        network: Box<dyn Module>,
        /// The standard deviation of q.
        spread: Spread,
    },
    /// The Jensen-Shannon divergence of p(x, z) from p(x) p(z), by its dual (Nowozin et al. 2016; Hjelm et al. 2019, equation 4):
    /// `max_T E_p(x,z) [-softplus(-T)] - E_p(x)p(z) [softplus(T)]`. No bound on the mutual information, but largest where it is.
    JensenShannon {
        /// The features of a sample that T sees; [`crate::nn::Flatten`] gives all of it.
        features: Box<dyn Module>,
        /// T, from features beside z [rows, features + k] to scores [rows, 1].
        critic: Box<dyn Module>,
        /// The way to make independent pairs.
        shuffle: Shuffle,
    },
    /// InfoNCE (van den Oord et al. 2018): telling the z of a sample among those of the batch, by scores `f(x) . g(z)`. The bound is
    /// at most the logarithm of the batch's size.
    InfoNce {
        /// f, from samples to [rows, width].
        data: Box<dyn Module>,
        /// g, from latent vectors to [rows, width].
        latent: Box<dyn Module>,
    },
}

/// An estimate from a batch.
#[derive(Debug, Clone)]
pub struct InformationEstimate {
    /// The loss of the generator and of the estimator's networks: the negative bound, up to a constant.
    pub loss: Tensor,
    /// The bound in nats: on I(x; z), or, for [`Information::JensenShannon`], on the divergence, which is at most log 2.
    pub nats: Tensor,
}

/// The number of features of an image that the critic sees.
const FEATURES: usize = 128;

impl Information {
    /// Networks of this architecture with fresh weights; those of vectors are perceptrons, as wide as the features of an image if
    /// the architecture is of convolutions.
    ///
    /// # Errors
    /// A size is zero, or the architecture does not take such examples.
    pub(crate) fn new(
        config: InformationConfig,
        k: usize,
        example: &[usize],
        architecture: &Architecture,
        build: &mut Builder<'_>,
    ) -> Result<Information> {
        let mlp = match architecture {
            Architecture::Mlp { .. } => architecture.clone(),
            _ => Architecture::mlp(&[FEATURES; 2]),
        };
        let vector = |size: usize| Latent::Vector { size };
        Ok(match config {
            InformationConfig::Inverse { lambda2 } if !(lambda2 > 0.0 && lambda2.is_finite()) => {
                return Err(Error::OutOfRange { op: "information", name: "lambda2", value: lambda2, expected: "a positive number" });
            }
            InformationConfig::Inverse { lambda2 } => Information::Inverse {
                network: Box::new(architecture.encoder(example, vector(k), Scale::Deterministic, build)?),
                spread: Spread::Fixed { lambda2 },
            },
            InformationConfig::LearnedInverse => Information::Inverse {
                network: Box::new(architecture.encoder(example, vector(k), Scale::Deterministic, build)?),
                spread: Spread::learned(k, build.dtype, &build.device)?,
            },
            InformationConfig::JensenShannon { shuffle } => {
                let (features, width): (Box<dyn Module>, usize) = match architecture {
                    Architecture::Mlp { .. } => (Box::new(Flatten), example.iter().product()),
                    _ => (Box::new(architecture.encoder(example, vector(FEATURES), Scale::Deterministic, build)?), FEATURES),
                };
                let critic = Box::new(mlp.encoder(&[width + k], vector(1), Scale::Deterministic, build)?);
                Information::JensenShannon { features, critic, shuffle }
            }
            InformationConfig::InfoNce { width: 0 } => {
                return Err(Error::OutOfRange { op: "information", name: "width", value: 0.0, expected: "at least 1" });
            }
            InformationConfig::InfoNce { width } => Information::InfoNce {
                data: Box::new(architecture.encoder(example, vector(width), Scale::Deterministic, build)?),
                latent: Box::new(mlp.encoder(&[k], vector(width), Scale::Deterministic, build)?),
            },
        })
    }

    /// The estimate for latent vectors `z` [rows, k] and the samples `x` [rows, ..] made from them. Gradients flow into both.
    /// `draw` shuffles.
    pub fn estimate(&self, z: &Tensor, x: &Tensor, draw: Draw, mode: &mut Mode<'_>) -> Result<InformationEstimate> {
        let &[rows, k] = z.dims() else {
            return Err(Error::BadShape { op: "information", shape: z.shape(), expected: "latent vectors [rows, k]" });
        };
        match self {
            Information::Inverse { network, spread } => {
                // in f32 of 16-bit networks: sums of squares
                let wide = z.dtype().wide();
                let squares = network.forward(x, mode)?.to_dtype(wide)?.squared_error(&z.to_dtype(wide)?)?;
                let half = 0.5 * k as f64;
                match spread {
                    Spread::Fixed { lambda2 } => {
                        let loss = squares.sum(&[1], false)?.mean_all()?.affine(*lambda2, 0.0)?;
                        let nats = loss.detach().affine(-1.0, half * (1.0 + (2.0 * lambda2).ln()))?;
                        Ok(InformationEstimate { loss, nats })
                    }
                    Spread::Learned(log_sigma) => {
                        let log_sigma = log_sigma.tensor().to_dtype(wide)?;
                        let precision = log_sigma.affine(-2.0, 0.0)?.exp()?;
                        let scaled = squares.mul(&precision)?.sum(&[1], false)?.mean_all()?.affine(0.5, 0.0)?;
                        let loss = scaled.add(&log_sigma.sum_all()?)?;
                        let nats = loss.detach().affine(-1.0, half)?;
                        Ok(InformationEstimate { loss, nats })
                    }
                }
            }
            Information::JensenShannon { features, critic, shuffle } => {
                let features = features.forward(x, mode)?;
                let joint = Tensor::concat(&[&features, z], 1)?;
                let independent = Tensor::concat(&[&features, &shuffle.of(z, draw)?], 1)?;
                let scores = critic.forward(&Tensor::concat(&[&joint, &independent], 0)?, mode)?;
                let (joint, independent) = (scores.narrow(0, 0, rows)?, scores.narrow(0, rows, rows)?);
                let loss = joint.neg()?.softplus()?.mean_all()?.add(&independent.softplus()?.mean_all()?)?;
                let nats = loss.detach().affine(-0.5, std::f64::consts::LN_2)?;
                Ok(InformationEstimate { loss, nats })
            }
            Information::InfoNce { data, latent } => {
                let scores = data.forward(x, mode)?.matmul(&latent.forward(z, mode)?.t()?)?;
                let own = Tensor::arange(rows, &z.device())?;
                let loss = scores.softmax_cross_entropy(&own, 0.0)?.mean_all()?;
                let nats = loss.detach().affine(-1.0, (rows as f64).ln())?;
                Ok(InformationEstimate { loss, nats })
            }
        }
    }

    /// Adds the parameters of its networks to `params`, each under `prefix.name`.
    pub fn collect(&self, prefix: &str, params: &mut Params) {
        let path = |name: &str| crate::nn::path(prefix, name);
        match self {
            Information::Inverse { network, spread } => {
                network.collect(prefix, params);
                if let Spread::Learned(log_sigma) = spread {
                    params.push(path("log_sigma"), log_sigma);
                }
            }
            Information::JensenShannon { features, critic, .. } => {
                features.collect(&path("features"), params);
                critic.collect(&path("critic"), params);
            }
            Information::InfoNce { data, latent } => {
                data.collect(&path("data"), params);
                latent.collect(&path("latent"), params);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Apply, Flatten, Mlp, Sequential, init::Init};
    use crate::ops::Activation;
    use crate::{DType, Rng, check};

    const NOISE: f64 = 0.5;

    fn draw(number: u64) -> Draw {
        Draw { key: 5, number }
    }

    fn normal(rng: &mut Rng, rows: usize, width: usize) -> Tensor {
        rng.normal([rows, width], DType::F64, &Device::cpu()).unwrap()
    }

    /// z, and x = z + noise of standard deviation [`NOISE`].
    fn channel(rows: usize, k: usize) -> (Tensor, Tensor) {
        let mut rng = Rng::new(4);
        let z = normal(&mut rng, rows, k);
        let x = z.add(&normal(&mut rng, rows, k).affine(NOISE, 0.0).unwrap()).unwrap();
        (z, x)
    }

    /// The mutual information in nats.
    fn truth(k: usize) -> f64 {
        0.5 * k as f64 * (1.0 + 1.0 / (NOISE * NOISE)).ln()
    }

    fn nats(information: &Information, z: &Tensor, x: &Tensor) -> f64 {
        information.estimate(z, x, draw(0), &mut Mode::Eval).unwrap().nats.item().unwrap()
    }

    #[test]
    fn the_variational_bound_is_exact_at_the_posterior() {
        let (z, x) = channel(100_000, 3);
        let variance = NOISE * NOISE / (1.0 + NOISE * NOISE);
        let mean = || Box::new(Apply(|x: &Tensor| x.affine(1.0 / (1.0 + NOISE * NOISE), 0.0)));
        let fixed = |variance: f64| Information::Inverse { network: mean(), spread: Spread::Fixed { lambda2: 0.5 / variance } };
        let log_sigma = Tensor::full(0.5 * variance.ln(), [3], DType::F64, &Device::cpu()).unwrap();
        let learned = Information::Inverse { network: mean(), spread: Spread::Learned(Param::new(&log_sigma)) };
        let found = nats(&fixed(variance), &z, &x);
        assert!((found - truth(3)).abs() < 0.01, "{found} for {}", truth(3));
        approx::assert_relative_eq!(nats(&learned, &z, &x), found, max_relative = 1e-10);
        // any other standard deviation gives a lower value
        assert!(nats(&fixed(1.3 * variance), &z, &x) < found - 0.02 && nats(&fixed(0.7 * variance), &z, &x) < found - 0.02);
    }

    #[test]
    fn contrast_stays_below_the_truth_and_comes_near_it() {
        // the logarithm of the density ratio is a product: log p(z|x) / p(z) = z x / s2 - z^2 / (2 s2) + f(x)
        let data = Apply(|x: &Tensor| Tensor::concat(&[&x.affine(1.0 / (NOISE * NOISE), 0.0)?, &x.full_like(1.0)?], 1));
        let weight = -0.5 / (NOISE * NOISE);
        let latent = Apply(move |z: &Tensor| Tensor::concat(&[z, &z.square()?.affine(weight, 0.0)?], 1));
        let information = Information::InfoNce { data: Box::new(data), latent: Box::new(latent) };
        let (z, x) = channel(1000, 1);
        let found = nats(&information, &z, &x);
        assert!(found < truth(1) + 0.05 && found > truth(1) - 0.05, "{found} for {}", truth(1));
    }

    #[test]
    fn the_divergence_is_that_of_the_best_critic() {
        // T = log p(x, z) / (p(x) p(z))
        let s2 = NOISE * NOISE;
        let ratio = move |xz: &Tensor| {
            let [x, z] = xz.chunk(1)?;
            let own = x.squared_error(&z)?.affine(-0.5 / s2, -0.5 * s2.ln())?;
            own.sub(&x.square()?.affine(-0.5 / (1.0 + s2), -0.5 * (1.0 + s2).ln())?)
        };
        let best = |scale: f64| Information::JensenShannon {
            features: Box::new(Flatten),
            critic: Box::new(Apply(move |xz: &Tensor| ratio(xz)?.affine(scale, 0.0))),
            shuffle: Shuffle::Rows,
        };
        let (z, x) = channel(50_000, 1);
        let found = nats(&best(1.0), &z, &x);
        // the same by 2-D quadrature
        let normal = |x: f64, v: f64| (-0.5 * x * x / v).exp() / (std::f64::consts::TAU * v).sqrt();
        let mut expected = 0.0;
        for (i, j) in (-100..=100).flat_map(|i| (-100..=100).map(move |j| (i, j))) {
            let (x, z) = (0.07 * f64::from(i), 0.05 * f64::from(j));
            let (joint, product) = (normal(z, 1.0) * normal(x - z, s2), normal(x, 1.0 + s2) * normal(z, 1.0));
            let middle = 0.5 * (joint + product);
            expected += 0.5 * 0.07 * 0.05 * (joint * (joint / middle).ln() + product * (product / middle).ln());
        }
        assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        assert!(nats(&best(0.5), &z, &x) < found && nats(&best(2.0), &z, &x) < found && found < std::f64::consts::LN_2);
    }

    #[test]
    fn shuffling_permutes_each_dimension_or_whole_rows() {
        let z = Tensor::from_vec((0..400).map(f64::from).collect(), [200, 2], &Device::cpu()).unwrap();
        let shuffled = |shuffle: Shuffle, number: u64| -> Vec<(f64, f64)> {
            let values = shuffle.of(&z, draw(number)).unwrap().to_vec::<f64>().unwrap();
            values.chunks(2).map(|row| (row[0], row[1])).collect()
        };
        let together = |rows: &[(f64, f64)]| rows.iter().filter(|(a, b)| a + 1.0 == *b).count();
        let (dimensions, rows) = (shuffled(Shuffle::Dimensions, 0), shuffled(Shuffle::Rows, 0));
        assert!(together(&dimensions) < 10 && together(&rows) == 200);
        assert!(rows != shuffled(Shuffle::Rows, 1));
        for values in [dimensions, rows] {
            let mut all: Vec<f64> = values.iter().flat_map(|(a, b)| [*a, *b]).collect();
            assert!(all.iter().enumerate().filter(|(i, v)| *i as f64 == **v).count() < 20, "out of place");
            all.sort_by(f64::total_cmp);
            assert_eq!(all, (0..400).map(f64::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_estimate_has_its_gradients() {
        let mut rng = Rng::new(6);
        let mut mlp = |sizes: &[usize]| {
            Box::new(Mlp::new(sizes, Activation::Tanh, Init::XavierUniform, &mut rng, DType::F64, &Device::cpu()).unwrap())
        };
        let all = [
            Information::Inverse { network: mlp(&[3, 4, 2]), spread: Spread::Fixed { lambda2: 0.4 } },
            Information::Inverse { network: mlp(&[3, 4, 2]), spread: Spread::learned(2, DType::F64, &Device::cpu()).unwrap() },
            Information::JensenShannon { features: Box::new(Sequential::new()), critic: mlp(&[5, 4, 1]), shuffle: Shuffle::Dimensions },
            Information::InfoNce { data: mlp(&[3, 4, 2]), latent: mlp(&[2, 4, 2]) },
        ];
        let (z, x) = (normal(&mut Rng::new(7), 5, 2), normal(&mut Rng::new(8), 5, 3));
        for information in &all {
            let mut params = Params::default();
            information.collect("information", &mut params);
            let inputs: Vec<Tensor> = params.tensors().into_iter().chain([z.clone(), x.clone()]).collect();
            let loss = |values: &[Tensor]| {
                let (weights, zx) = values.split_at(params.len());
                params.iter().zip(weights).for_each(|((_, param), value)| param.replace(value));
                Ok(information.estimate(&zx[0], &zx[1], draw(1), &mut Mode::Eval)?.loss)
            };
            check::gradcheck(loss, &inputs, 1).unwrap_or_else(|e| panic!("{information:?}: {e}"));
        }
    }
}
