//! Energy-based generative adversarial networks, whose discriminator is an autoencoder (Zhao, Mathieu and LeCun 2017).

use serde::{Deserialize, Serialize};

use super::{Architecture, Latent};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::gaussian::Scale;
use crate::nn::{Builder, Flatten, Mode, Module, Params};
use crate::ops::Activation;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The smallest squared error that a norm is taken of: the norm's derivative is infinite at 0, where it is set to 0.
const SMALLEST: f64 = 1e-30;

/// The energy of a sample, as a function of its difference from its reconstruction. The margin is in the same unit: a margin of 10 that
/// suits the norm of an image is never reached by the mean of its squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconstructionEnergy {
    /// The Euclidean norm, `|Dec(Enc(x)) - x|`, as the paper writes it (section 2.3).
    #[default]
    L2Norm,
    /// The sum of squares.
    SquaredSum,
    /// The mean of squares.
    Mean,
}

impl ReconstructionEnergy {
    /// The energy `[rows]` of each sample [rows, ..] with this reconstruction. Gradients flow into both.
    pub fn of(self, x: &Tensor, reconstruction: &Tensor) -> Result<Tensor> {
        if x.shape() != reconstruction.shape() || x.rank() < 2 {
            let shapes = vec![x.shape(), reconstruction.shape()];
            return Err(Error::ShapeMismatch { op: "energy", shapes, rule: "samples [rows, ..] and reconstructions must have one shape" });
        }
        let axes: Vec<usize> = (1..x.rank()).collect();
        // 16 bits hold neither the squares of what they hold nor a guard against the root's slope at 0.
        let wide = x.dtype().wide();
        let squares = reconstruction.to_dtype(wide)?.squared_error(&x.to_dtype(wide)?)?;
        let energy = match self {
            ReconstructionEnergy::L2Norm => squares.sum(&axes, false)?.clamp(SMALLEST, f64::INFINITY)?.sqrt(),
            ReconstructionEnergy::SquaredSum => squares.sum(&axes, false),
            ReconstructionEnergy::Mean => squares.mean(&axes, false),
        };
        energy?.to_dtype(x.dtype())
    }

    /// The largest energy that a sample of this many numbers in [-1, 1] with a reconstruction in [-1, 1] can have. From here on the
    /// hinge of a margin always has a gradient.
    pub fn largest(self, size: usize) -> f64 {
        match self {
            ReconstructionEnergy::L2Norm => 2.0 * (size as f64).sqrt(),
            ReconstructionEnergy::SquaredSum => 4.0 * size as f64,
            ReconstructionEnergy::Mean => 4.0,
        }
    }
}

/// The energy below which generated samples are pushed up, in the unit of the [`ReconstructionEnergy`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"fixed\", value = 10.0 }")]
pub enum Margin {
    /// A constant margin.
    Fixed {
        /// The margin.
        value: f64,
    },
    /// Linear from `initial` to 0 over the first `steps`, then 0 (the decay of section 4.2).
    Decaying {
        /// The margin to start from.
        initial: f64,
        /// Steps of the decay.
        steps: u64,
    },
}

impl Margin {
    /// The margin after `done` steps.
    pub fn at(&self, done: u64) -> f64 {
        match *self {
            Margin::Fixed { value } => value,
            Margin::Decaying { initial, steps } => initial * (1.0 - done as f64 / steps as f64).max(0.0),
        }
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// A setting is not positive and finite.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &'static str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::OutOfRange { op: "margin", name, value, expected: "a positive number" }),
        };
        match *self {
            Margin::Fixed { value } => check("value", value),
            Margin::Decaying { initial, steps } => check("initial", initial).and(check("steps", steps as f64)),
        }
    }
}

/// The architecture of the networks, and the energy.
#[derive(Debug, Clone, PartialEq)]
pub struct EbganConfig {
    /// The shape of an example.
    pub example: Vec<usize>,
    /// k, the size of the vectors that examples are generated from.
    pub latent: usize,
    /// The generator's layers.
    pub generator: Architecture,
    /// The encoder's layers.
    pub encoder: Architecture,
    /// The codes: the encoder's last features, or a linear function of them.
    pub codes: Latent,
    /// The decoder's layers; without hidden ones it is linear.
    pub decoder: Architecture,
    /// After the last layer of generator and decoder: tanh for images in [-1, 1].
    pub output: Activation,
    /// The measure of the reconstruction error.
    pub energy: ReconstructionEnergy,
}

/// The networks: the autoencoder that is the discriminator, and the generator from latent vectors [rows, k] to samples.
#[derive(Debug)]
pub struct Ebgan {
    /// The encoder, from samples [rows, ..] to codes [rows, ..].
    pub encoder: Box<dyn Module>,
    /// The decoder, from codes to samples.
    pub decoder: Box<dyn Module>,
    /// The generator, from latent vectors to samples.
    pub generator: Box<dyn Module>,
    /// The measure of the reconstruction error.
    pub energy: ReconstructionEnergy,
}

/// The autoencoder's results for a batch of samples.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// Codes as rows [rows, c].
    pub codes: Tensor,
    /// The reconstruction, of the samples' shape.
    pub reconstruction: Tensor,
    /// Energy of each sample `[rows]`.
    pub energy: Tensor,
}

/// The discriminator's loss and its parts.
#[derive(Debug, Clone)]
pub struct EbganDiscriminatorLoss {
    /// The objective, a scalar to minimise.
    pub loss: Tensor,
    /// Energy of each real sample `[rows]`.
    pub real: Tensor,
    /// Energy of each generated sample `[rows]`.
    pub fake: Tensor,
}

/// The generator's loss and its parts.
#[derive(Debug, Clone)]
pub struct EbganGeneratorLoss {
    /// The objective, a scalar to minimise.
    pub loss: Tensor,
    /// Energy of each generated sample `[rows]`.
    pub energy: Tensor,
    /// The pulling-away term of the codes, from 0 to 1, before its weight.
    pub pulling_away: Tensor,
}

impl Ebgan {
    /// Networks with fresh weights.
    ///
    /// # Errors
    /// A size of zero; an architecture that does not take such examples, or has no such codes.
    pub fn new(config: &EbganConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Ebgan> {
        let EbganConfig { example, latent, generator, encoder, codes, decoder, output, energy } = config;
        [generator, encoder, decoder].into_iter().try_for_each(Architecture::validate)?;
        let features = encoder.features(example)?;
        let width = match *codes {
            Latent::Features => features.iter().product(),
            Latent::Vector { size } => size,
            Latent::Map { channels } => channels * features[1..].iter().product::<usize>(),
        };
        if (*latent).min(width) == 0 {
            return Err(Error::OutOfRange { op: "ebgan", name: "size", value: 0.0, expected: "latent vectors and codes of at least 1" });
        }
        let mut build = Builder::new(rng, dtype, device).with_init(encoder.init());
        let encode = encoder.encoder(example, *codes, Scale::Deterministic, &mut build)?.then(Flatten);
        build.init = decoder.init();
        let decode = decoder.generator(width, example, *output, &mut build)?;
        build.init = generator.init();
        let generate = generator.generator(*latent, example, *output, &mut build)?;
        Ok(Ebgan { encoder: Box::new(encode), decoder: Box::new(decode), generator: Box::new(generate), energy: *energy })
    }

    /// Passes samples [rows, ..] through the autoencoder.
    ///
    /// # Errors
    /// The samples do not fit the encoder, or the decoder does not lead back to their shape.
    pub fn reconstruct(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Reconstruction> {
        let codes = self.encoder.forward(x, mode)?;
        let reconstruction = self.decoder.forward(&codes, mode)?;
        let energy = self.energy.of(x, &reconstruction)?;
        let codes = if codes.rank() > 2 { codes.flatten(1, codes.rank() - 1)? } else { codes };
        Ok(Reconstruction { codes, reconstruction, energy })
    }

    /// `E D(real) + E max(0, margin - D(fake))`, where the hinge is taken of each sample and not of their mean (equation 1). No
    /// gradient flows into the samples.
    pub fn discriminator_loss(&self, real: &Tensor, fake: &Tensor, margin: f64, mode: &mut Mode<'_>) -> Result<EbganDiscriminatorLoss> {
        let real = self.reconstruct(&real.detach(), mode)?.energy;
        let fake = self.reconstruct(&fake.detach(), mode)?.energy;
        let pushed = fake.affine(-1.0, margin)?.relu()?;
        Ok(EbganDiscriminatorLoss { loss: real.mean_all()?.add(&pushed.mean_all()?)?, real, fake })
    }

    /// `E D(G(z)) + weight PT(Enc(G(z)))` of latent vectors [rows, k] (equation 2 and section 2.4). The term pulls the codes of a
    /// batch apart, which needs two rows at least; with weight 0 it is only measured.
    ///
    /// # Errors
    /// There is only one row.
    pub fn generator_loss(&self, z: &Tensor, pulling_away: f64, mode: &mut Mode<'_>) -> Result<EbganGeneratorLoss> {
        let fake = self.generator.forward(z, mode)?;
        let Reconstruction { codes, energy, .. } = self.reconstruct(&fake, mode)?;
        let mut loss = energy.mean_all()?;
        let term = if pulling_away == 0.0 { codes.detach().pulling_away()? } else { codes.pulling_away()? };
        if pulling_away != 0.0 {
            loss = loss.add(&term.affine(pulling_away, 0.0)?)?;
        }
        Ok(EbganGeneratorLoss { loss, energy, pulling_away: term })
    }

    /// The discriminator's parameters: `encoder.*`, `decoder.*`.
    pub fn discriminator_params(&self) -> Params {
        let mut params = Params::default();
        self.encoder.collect("encoder", &mut params);
        self.decoder.collect("decoder", &mut params);
        params
    }

    /// The generator's parameters: `generator.*`.
    pub fn generator_params(&self) -> Params {
        let mut params = Params::default();
        self.generator.collect("generator", &mut params);
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Mlp, init::Init};
    use crate::ops::Activation;
    use crate::{DType, Device, Rng, check, grad};

    fn model(energy: ReconstructionEnergy, rng: &mut Rng) -> Ebgan {
        let mut mlp =
            |sizes: &[usize]| Box::new(Mlp::new(sizes, Activation::Tanh, Init::XavierUniform, rng, DType::F64, &Device::cpu()).unwrap());
        Ebgan { encoder: mlp(&[4, 6, 3]), decoder: mlp(&[3, 6, 4]), generator: mlp(&[2, 5, 4]), energy }
    }

    fn normal(rng: &mut Rng, rows: usize, width: usize) -> Tensor {
        rng.normal([rows, width], DType::F64, &Device::cpu()).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f64> {
        x.to_f64_vec().unwrap()
    }

    #[test]
    fn the_hinge_is_taken_of_each_sample() {
        let mut rng = Rng::new(1);
        let model = model(ReconstructionEnergy::SquaredSum, &mut rng);
        let (real, fake) = (normal(&mut rng, 5, 4), normal(&mut rng, 5, 4));
        let energies = values(&model.reconstruct(&fake, &mut Mode::Eval).unwrap().energy);
        // some samples are above the margin and some below, while their mean is above
        let mean = energies.iter().sum::<f64>() / 5.0;
        let margin = mean - 1e-3;
        let found = model.discriminator_loss(&real, &fake, margin, &mut Mode::Eval).unwrap();
        let hinge: f64 = energies.iter().map(|e| (margin - e).max(0.0)).sum::<f64>() / 5.0;
        assert!(hinge > 0.1, "a hinge of the batch's mean would be 0");
        let real = values(&found.real).iter().sum::<f64>() / 5.0;
        approx::assert_relative_eq!(found.loss.item().unwrap(), real + hinge, max_relative = 1e-12);
    }

    #[test]
    fn energies_have_their_units_and_gradients_into_sample_and_reconstruction() {
        let x = Tensor::from_vec(vec![1.0, 2.0, -1.0, 0.0], [2, 2], &Device::cpu()).unwrap();
        let y = Tensor::from_vec(vec![4.0, 6.0, -1.0, 2.0], [2, 2], &Device::cpu()).unwrap();
        assert_eq!(values(&ReconstructionEnergy::L2Norm.of(&x, &y).unwrap()), [5.0, 2.0]);
        assert_eq!(values(&ReconstructionEnergy::SquaredSum.of(&x, &y).unwrap()), [25.0, 4.0]);
        assert_eq!(values(&ReconstructionEnergy::Mean.of(&x, &y).unwrap()), [12.5, 2.0]);
        for energy in [ReconstructionEnergy::L2Norm, ReconstructionEnergy::SquaredSum, ReconstructionEnergy::Mean] {
            // A target that is detached loses half of the generator's gradient.
            check::gradcheck(|t| energy.of(&t[0], &t[1])?.sum_all(), &[x.clone(), y.clone()], 1).unwrap();
            let (x, same) = (x.requires_grad(), x.requires_grad());
            let gradients = grad(&energy.of(&x, &same).unwrap().sum_all().unwrap(), &[&x, &same]).unwrap();
            assert!(gradients.iter().all(|g| g.is_finite().unwrap()), "{energy:?} at a perfect reconstruction");
            assert_eq!(energy.largest(1), 2.0f64.powi(if energy == ReconstructionEnergy::L2Norm { 1 } else { 2 }));
        }
        let image = Tensor::zeros([2, 1, 2, 2], DType::F64, &Device::cpu()).unwrap();
        assert_eq!(values(&ReconstructionEnergy::L2Norm.of(&image, &image.full_like(3.0).unwrap()).unwrap()), [6.0, 6.0]);
        assert!(ReconstructionEnergy::Mean.of(&image, &x).is_err());
    }

    #[test]
    fn sixteen_bit_energies_are_those_of_f32() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let row = |values: &[f64]| Tensor::from_slice(values, [1, values.len()], &Device::cpu()).unwrap().to_dtype(dtype).unwrap();
            let (x, same) = (row(&[1.0, 2.0]).requires_grad(), row(&[1.0, 2.0]));
            let energy = ReconstructionEnergy::L2Norm.of(&x, &same).unwrap();
            let slopes = grad(&energy.sum_all().unwrap(), &[&x]).unwrap();
            assert_eq!((slopes[0].dtype(), values(&slopes[0])), (dtype, vec![0.0, 0.0]), "a perfect reconstruction");
            let (far, origin) = (row(&[300.0, 400.0]).requires_grad(), row(&[0.0, 0.0]));
            let energy = ReconstructionEnergy::L2Norm.of(&far, &origin).unwrap();
            let slopes = grad(&energy.sum_all().unwrap(), &[&far]).unwrap();
            assert_eq!((energy.dtype(), values(&energy)), (dtype, vec![500.0]));
            assert!(values(&slopes[0]).iter().zip([0.6, 0.8]).all(|(f, e)| (f - e).abs() < 4e-3), "{slopes:?}");
        }
    }

    #[test]
    fn losses_have_the_gradients_of_their_own_networks() {
        for energy in [ReconstructionEnergy::L2Norm, ReconstructionEnergy::SquaredSum, ReconstructionEnergy::Mean] {
            let mut rng = Rng::new(2);
            let model = model(energy, &mut rng);
            let (real, z) = (normal(&mut rng, 4, 4), normal(&mut rng, 4, 2));
            for part in ["discriminator", "generator"] {
                let params = if part == "generator" { model.generator_params() } else { model.discriminator_params() };
                let fake = model.generator.forward(&z, &mut Mode::Eval).unwrap();
                let loss = |values: &[Tensor]| {
                    params.iter().zip(values).for_each(|((_, param), value)| param.replace(value));
                    match part {
                        "generator" => Ok(model.generator_loss(&z, 0.7, &mut Mode::Eval)?.loss),
                        _ => Ok(model.discriminator_loss(&real, &fake, 1.3, &mut Mode::Eval)?.loss),
                    }
                };
                check::gradcheck(loss, &params.tensors(), 1).unwrap_or_else(|e| panic!("{energy:?} {part}: {e}"));
            }
            // the pulling-away term belongs to the generator: the discriminator's loss does not know the generator
            let loss = model.discriminator_loss(&real, &model.generator.forward(&z, &mut Mode::Eval).unwrap(), 1.3, &mut Mode::Eval);
            let weights = model.generator_params().tensors();
            assert!(grad(&loss.unwrap().loss, &weights.iter().collect::<Vec<_>>()).is_err());
        }
    }

    #[test]
    fn codes_are_pulled_apart_by_squared_cosines_of_different_rows() {
        let mut rng = Rng::new(3);
        let model = model(ReconstructionEnergy::L2Norm, &mut rng);
        let z = normal(&mut rng, 3, 2);
        let found = model.generator_loss(&z, 0.5, &mut Mode::Eval).unwrap();
        let fake = model.generator.forward(&z, &mut Mode::Eval).unwrap();
        let codes = values(&model.encoder.forward(&fake, &mut Mode::Eval).unwrap());
        let rows: Vec<&[f64]> = codes.chunks(3).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = |i: usize, j: usize| dot(rows[i], rows[j]) / (dot(rows[i], rows[i]) * dot(rows[j], rows[j])).sqrt();
        let pairs = [(0, 1), (0, 2), (1, 2)];
        let expected: f64 = pairs.iter().map(|&(i, j)| cosine(i, j).powi(2)).sum::<f64>() / 3.0;
        let unsquared: f64 = pairs.iter().map(|&(i, j)| cosine(i, j)).sum::<f64>() / 3.0;
        approx::assert_relative_eq!(found.pulling_away.item().unwrap(), expected, max_relative = 1e-12);
        assert!((expected - unsquared).abs() > 1e-3);
        let mean = found.energy.mean_all().unwrap().item().unwrap();
        approx::assert_relative_eq!(found.loss.item().unwrap(), mean + 0.5 * expected, max_relative = 1e-12);
        let without = model.generator_loss(&z, 0.0, &mut Mode::Eval).unwrap();
        assert_eq!((without.loss.item().unwrap(), without.pulling_away.item().unwrap()), (mean, found.pulling_away.item().unwrap()));
    }

    #[test]
    fn margins_decay_to_nothing() {
        let margin = Margin::Decaying { initial: 10.0, steps: 4 };
        assert_eq!([margin.at(0), margin.at(1), margin.at(4), margin.at(9)], [10.0, 7.5, 0.0, 0.0]);
        assert_eq!(Margin::Fixed { value: 3.0 }.at(100), 3.0);
        assert!(Margin::Fixed { value: 0.0 }.validate().is_err() && Margin::Decaying { initial: 1.0, steps: 0 }.validate().is_err());
        assert!(margin.validate().is_ok());
    }
}
