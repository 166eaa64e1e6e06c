//! Energy models with a generator as their sampler: the energy view of generative adversarial networks (maximum entropy generators,
//! Kumar et al. 2019).
//!
//! The energy U defines the density `exp(-U(x)) / Z`. Its likelihood's gradient needs samples of that density, for which a generator
//! stands in; the generator minimises the divergence from its own density to that of U, which is its mean energy less its entropy, and
//! the mutual information between z and G(z) stands in for the entropy.

use super::{Architecture, Information, InformationConfig, InformationEstimate, Latent, Penalty};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::gaussian::Scale;
use crate::nn::{Builder, Mode, Module, Params};
use crate::ops::Activation;
use crate::rng::{Draw, Rng};
use crate::tensor::Tensor;

/// The architecture of the networks.
#[derive(Debug, Clone, PartialEq)]
pub struct EnergyConfig {
    /// The shape of an example.
    pub example: Vec<usize>,
    /// k, the size of the vectors that examples are generated from.
    pub latent: usize,
    /// The layers of the energy, the generator, and the networks of the information's estimate.
    pub architecture: Architecture,
    /// The activation after the last layer of the generator: tanh for images in [-1, 1].
    pub output: Activation,
    /// The estimate of the information between z and the generated sample.
    pub information: InformationConfig,
}

/// The networks.
#[derive(Debug)]
pub struct EnergyModel {
    /// U, from samples [rows, ..] to energies [rows, 1], in nats.
    pub energy: Box<dyn Module>,
    /// G, from latent vectors [rows, k] to samples.
    pub generator: Box<dyn Module>,
    /// The estimate of mutual information that is maximised to keep the generator's entropy up.
    pub information: Information,
}

/// The energy's loss and its parts.
#[derive(Debug, Clone)]
pub struct EnergyLoss {
    /// The objective, a scalar to minimise.
    pub loss: Tensor,
    /// Mean energy of the real samples.
    pub real: Tensor,
    /// Mean energy of the generated samples.
    pub fake: Tensor,
    /// `E |grad_x U|^2` at the real samples.
    pub penalty: Tensor,
}

/// The generator's loss and its parts.
#[derive(Debug, Clone)]
pub struct EnergyGeneratorLoss {
    /// The objective, a scalar to minimise.
    pub loss: Tensor,
    /// Mean energy of the generated samples.
    pub energy: Tensor,
    /// The estimate of the information.
    pub information: InformationEstimate,
}

impl EnergyModel {
    /// Networks with fresh weights.
    ///
    /// # Errors
    /// A size is zero, or the architecture does not take such examples.
    pub fn new(config: &EnergyConfig, rng: &mut Rng, dtype: DType, device: &Device) -> Result<EnergyModel> {
        let EnergyConfig { example, latent, architecture, output, information } = config;
        architecture.validate()?;
        if *latent == 0 {
            return Err(Error::OutOfRange { op: "energy", name: "latent", value: 0.0, expected: "at least 1" });
        }
        let mut build = Builder::new(rng, dtype, device).with_init(architecture.init());
        Ok(EnergyModel {
            energy: Box::new(architecture.encoder(example, Latent::Vector { size: 1 }, Scale::Deterministic, &mut build)?),
            generator: Box::new(architecture.generator(*latent, example, *output, &mut build)?),
            information: Information::new(*information, *latent, example, architecture, &mut build)?,
        })
    }

    /// The energies `[rows]` of samples [rows, ..].
    ///
    /// # Errors
    /// The samples do not fit; the network does not give one number for each.
    pub fn energies(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let energies = self.energy.forward(x, mode)?;
        match energies.dims() {
            &[rows, 1] => energies.reshape([rows]),
            [_] => Ok(energies),
            _ => Err(Error::BadShape { op: "energy", shape: energies.shape(), expected: "energies [rows, 1]" }),
        }
    }

    /// The energies `[rows]` that latent vectors [rows, k] have by their samples, `U(G(z)) + prior |z|^2 / 2`. A chain at temperature T
    /// with `prior` = T samples z from N(0, I) reweighted by `exp(-U(G(z)) / T)`: the temperature is U's alone. That is not the density
    /// of G(z) under U, which has the Jacobian of G besides.
    pub fn latent_energies(&self, z: &Tensor, prior: f64, mode: &mut Mode<'_>) -> Result<Tensor> {
        let energies = self.energies(&self.generator.forward(z, mode)?, mode)?;
        if prior == 0.0 { Ok(energies) } else { energies.add(&z.square()?.sum(&[1], false)?.affine(0.5 * prior, 0.0)?) }
    }

    /// `E U(real) - E U(fake) + lambda1 E |grad_x U(real)|^2`, where the penalty's norm is over all numbers of a sample. No gradient
    /// flows into the samples.
    pub fn energy_loss(&self, real: &Tensor, fake: &Tensor, lambda1: f64, mode: &mut Mode<'_>) -> Result<EnergyLoss> {
        let leaf = real.requires_grad();
        let energies = self.energies(&leaf, mode)?;
        let fake = self.energies(&fake.detach(), mode)?.mean_all()?;
        let penalty = Penalty::energy(1.0).of(&energies, &leaf)?.loss;
        let real = energies.mean_all()?;
        let mut loss = real.sub(&fake)?;
        if lambda1 != 0.0 {
            // in f32 for a 16-bit energy
            loss = loss.to_dtype(penalty.dtype())?.add(&penalty.affine(lambda1, 0.0)?)?;
        }
        Ok(EnergyLoss { loss, real, fake, penalty })
    }

    /// `E U(G(z)) + weight L(z, G(z))` of latent vectors [rows, k], where L is the negative bound of the mutual information, up to a constant:
    /// `lambda2 |z - E(G(z))|^2` for the inverse with a fixed standard deviation. `draw` shuffles.
    pub fn generator_loss(&self, z: &Tensor, weight: f64, draw: Draw, mode: &mut Mode<'_>) -> Result<EnergyGeneratorLoss> {
        let fake = self.generator.forward(z, mode)?;
        let energy = self.energies(&fake, mode)?.mean_all()?;
        let information = self.information.estimate(z, &fake, draw, mode)?;
        // in f32 where the information is
        let loss = energy.to_dtype(information.loss.dtype())?.add(&information.loss.affine(weight, 0.0)?)?;
        Ok(EnergyGeneratorLoss { loss, energy, information })
    }

    /// The energy's parameters: `energy.*`.
    pub fn energy_params(&self) -> Params {
        let mut params = Params::default();
        self.energy.collect("energy", &mut params);
        params
    }

    /// The parameters that the generator's loss trains: `generator.*`, `information.*`.
    pub fn generator_params(&self) -> Params {
        let mut params = Params::default();
        self.generator.collect("generator", &mut params);
        self.information.collect("information", &mut params);
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Shuffle, Spread};
    use crate::nn::{Apply, Conv2d, Flatten, Linear, Mlp, Sequential, init::Init};
    use crate::ops::{Activation, ConvOptions};
    use crate::{DType, Device, Rng, check, grad};

    fn normal(rng: &mut Rng, shape: &[usize]) -> Tensor {
        rng.normal(shape, DType::F64, &Device::cpu()).unwrap()
    }

    fn model(activation: Activation, rng: &mut Rng) -> EnergyModel {
        let mut mlp =
            |sizes: &[usize]| Box::new(Mlp::new(sizes, activation, Init::XavierUniform, rng, DType::F64, &Device::cpu()).unwrap());
        EnergyModel {
            energy: mlp(&[3, 6, 6, 1]),
            generator: mlp(&[2, 5, 3]),
            information: Information::JensenShannon { features: Box::new(Flatten), critic: mlp(&[5, 4, 1]), shuffle: Shuffle::Dimensions },
        }
    }

    #[test]
    fn the_penalty_is_of_all_numbers_of_a_sample() {
        // U(x) = 3 sum x over images of 2 x 2 x 2: |grad|^2 is 9 * 8, while a norm over the channels alone would give 9 * 2
        let mut rng = Rng::new(1);
        let sum = Apply(|x: &Tensor| x.sum(&[1, 2, 3], false)?.affine(3.0, 0.0));
        let model = EnergyModel { energy: Box::new(sum), ..model(Activation::Tanh, &mut rng) };
        let (real, fake) = (normal(&mut rng, &[5, 2, 2, 2]), normal(&mut rng, &[5, 2, 2, 2]));
        let found = model.energy_loss(&real, &fake, 0.5, &mut Mode::Eval).unwrap();
        approx::assert_relative_eq!(found.penalty.item().unwrap(), 72.0, max_relative = 1e-12);
        let difference = found.real.item().unwrap() - found.fake.item().unwrap();
        approx::assert_relative_eq!(found.loss.item().unwrap(), difference + 36.0, max_relative = 1e-12);
        let without = model.energy_loss(&real, &fake, 0.0, &mut Mode::Eval).unwrap();
        assert_eq!(without.loss.item().unwrap(), difference);
        assert_eq!(without.penalty.item().unwrap(), found.penalty.item().unwrap());
    }

    #[test]
    fn the_penalty_is_at_real_samples_alone() {
        // U(x) = |x|^2 / 2 has the gradient x: the penalty is the mean square norm of the real samples, whatever the others are
        let mut rng = Rng::new(5);
        let bowl = Apply(|x: &Tensor| x.square()?.sum(&[1], true)?.affine(0.5, 0.0));
        let model = EnergyModel { energy: Box::new(bowl), ..model(Activation::Tanh, &mut rng) };
        let real = normal(&mut rng, &[5, 3]);
        let expected = real.square().unwrap().sum_all().unwrap().item().unwrap() / 5.0;
        for scale in [0.0, 1.0, 100.0] {
            let fake = normal(&mut rng, &[5, 3]).affine(scale, 0.0).unwrap();
            let found = model.energy_loss(&real, &fake, 0.7, &mut Mode::Eval).unwrap();
            approx::assert_relative_eq!(found.penalty.item().unwrap(), expected, max_relative = 1e-12);
        }
    }

    #[test]
    fn losses_have_the_gradients_of_their_own_networks() {
        for activation in [Activation::Softplus, Activation::Tanh, Activation::LeakyRelu(0.2)] {
            let mut rng = Rng::new(2);
            let model = model(activation, &mut rng);
            let (real, z) = (normal(&mut rng, &[4, 3]), normal(&mut rng, &[4, 2]));
            let draw = rng.draw();
            let fake = model.generator.forward(&z, &mut Mode::Eval).unwrap();
            for part in ["energy", "generator"] {
                let params = if part == "energy" { model.energy_params() } else { model.generator_params() };
                let loss = |values: &[Tensor]| {
                    params.iter().zip(values).for_each(|((_, param), value)| param.replace(value));
                    match part {
                        "energy" => Ok(model.energy_loss(&real, &fake, 0.7, &mut Mode::Eval)?.loss),
                        _ => Ok(model.generator_loss(&z, 0.6, draw, &mut Mode::Eval)?.loss),
                    }
                };
                check::gradcheck(loss, &params.tensors(), 1).unwrap_or_else(|e| panic!("{activation} {part}: {e}"));
            }
            let loss = model.energy_loss(&real, &fake, 0.7, &mut Mode::Eval).unwrap().loss;
            let weights = model.generator_params().tensors();
            assert!(grad(&loss, &weights.iter().collect::<Vec<_>>()).is_err(), "the generator is not trained by the energy's loss");
        }
    }

    #[test]
    fn the_penalty_of_a_convolutional_energy_has_its_gradient() {
        let mut rng = Rng::new(3);
        let cpu = Device::cpu();
        let conv = Conv2d::new([2, 3], [3, 3], ConvOptions::default().padding(1), Init::XavierUniform, &mut rng, DType::F64, &cpu).unwrap();
        let linear = Linear::new(48, 1, Init::XavierUniform, &mut rng, DType::F64, &cpu).unwrap();
        let energy = Sequential::new().then(conv.with_activation(Activation::Softplus)).then(Flatten).then(linear);
        let model = EnergyModel { energy: Box::new(energy), ..model(Activation::Tanh, &mut rng) };
        let (real, fake) = (normal(&mut rng, &[3, 2, 4, 4]), normal(&mut rng, &[3, 2, 4, 4]));
        let params = model.energy_params();
        let loss = |values: &[Tensor]| {
            params.iter().zip(values).for_each(|((_, param), value)| param.replace(value));
            Ok(model.energy_loss(&real, &fake, 0.7, &mut Mode::Eval)?.loss)
        };
        check::gradcheck(loss, &params.tensors(), 1).unwrap();
    }

    #[test]
    fn latent_energies_are_those_of_the_samples_and_the_prior() {
        let mut rng = Rng::new(4);
        let model = model(Activation::Tanh, &mut rng);
        let z = normal(&mut rng, &[4, 2]);
        let values = |x: Tensor| x.to_f64_vec().unwrap();
        let plain = values(model.latent_energies(&z, 0.0, &mut Mode::Eval).unwrap());
        let samples = model.generator.forward(&z, &mut Mode::Eval).unwrap();
        assert_eq!(plain, values(model.energies(&samples, &mut Mode::Eval).unwrap()));
        let with_prior = values(model.latent_energies(&z, 0.3, &mut Mode::Eval).unwrap());
        for (row, z) in values(z).chunks(2).enumerate() {
            approx::assert_relative_eq!(with_prior[row], plain[row] + 0.15 * (z[0] * z[0] + z[1] * z[1]), max_relative = 1e-12);
        }
        let wide = EnergyModel { energy: Box::new(Flatten), ..model };
        assert!(wide.energies(&samples, &mut Mode::Eval).is_err());
    }

    #[test]
    fn parameters_are_named_by_network() {
        let mut rng = Rng::new(5);
        let model = model(Activation::Tanh, &mut rng);
        let names: Vec<String> = model.generator_params().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names[0], "generator.0.weight");
        assert_eq!(names.last().unwrap(), "information.critic.1.bias");
        let spread = Spread::learned(2, DType::F64, &Device::cpu()).unwrap();
        let inverse = Information::Inverse { network: Box::new(Flatten), spread };
        let model = EnergyModel { information: inverse, ..model };
        assert_eq!(model.generator_params().iter().last().unwrap().0, "information.log_sigma");
        assert_eq!(model.energy_params().len(), 6);
    }
}
