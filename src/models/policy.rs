//! Policies: distributions of actions given observations.

mod distribution;

pub use distribution::ActionDistribution;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::env::Space;
use crate::error::{Error, Result};
use crate::models::normalize::{Normalization, Normalizer};
use crate::nn::init::Init;
use crate::nn::{Builder, Mlp, Mode, Module, Param, Params};
use crate::ops::Activation;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Normalised observations are cut to plus and minus this.
const CLIP: f64 = 10.0;

/// The initial weights of a policy's or a value's perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerceptronInit {
    /// [`Init::XavierUniform`].
    #[default]
    Xavier,
    /// [`Init::Orthogonal`] with the gain sqrt(2).
    Orthogonal,
}

/// The layers of a policy or of a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerceptronConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// After every hidden layer.
    pub activation: Activation,
    /// The distribution of initial weights.
    pub init: PerceptronInit,
    /// The last layer's initial weights are multiplied by this: a small number lets a policy begin with nearly the same distribution
    /// everywhere.
    pub head: f64,
}

impl Default for PerceptronConfig {
    fn default() -> PerceptronConfig {
        PerceptronConfig { hidden: vec![64, 64], activation: Activation::Tanh, init: PerceptronInit::Xavier, head: 1.0 }
    }
}

impl PerceptronConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// A layer has no units; the factor of the last layer is not a number of at least 0.
    pub fn validate(&self) -> Result<()> {
        if self.hidden.contains(&0) {
            return Err(Error::OutOfRange { op: "perceptron", name: "hidden", value: 0.0, expected: "layers of at least 1" });
        }
        if !(0.0..f64::INFINITY).contains(&self.head) {
            return Err(Error::OutOfRange { op: "perceptron", name: "head", value: self.head, expected: "at least 0 and finite" });
        }
        Ok(())
    }

    /// A perceptron from `inputs` to `outputs` numbers with fresh weights.
    pub(crate) fn build(&self, inputs: usize, outputs: usize, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Mlp> {
        self.validate()?;
        let init = match self.init {
            PerceptronInit::Xavier => Init::XavierUniform,
            PerceptronInit::Orthogonal => Init::Orthogonal(2f64.sqrt()),
        };
        let sizes: Vec<usize> = [inputs].into_iter().chain(self.hidden.iter().copied()).chain([outputs]).collect();
        let net = Builder::new(rng, dtype, device).with_init(init).mlp(&sizes, self.activation)?;
        let last = format!("{}.weight", self.hidden.len());
        for (_, weight) in net.params().iter().filter(|(name, _)| *name == last) {
            weight.set(&weight.tensor().detach().affine(self.head, 0.0)?)?;
        }
        Ok(net)
    }
}

/// log sigma of a Gaussian policy: one parameter for each number of an action, the same for all observations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSigma {
    /// The value to start from.
    pub initial: f64,
    /// The smallest value.
    pub low: f64,
    /// The largest value. Where tasks clip actions, nothing else may keep sigma from growing for ever.
    pub high: f64,
}

impl Default for LogSigma {
    fn default() -> LogSigma {
        LogSigma { initial: 0.0, low: -5.0, high: 1.0 }
    }
}

/// The settings of a policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// The network from observations to the mean of a Gaussian, or to the logits of a choice.
    pub network: PerceptronConfig,
    /// log sigma of a Gaussian.
    pub log_sigma: LogSigma,
    /// Whether observations are normalised by the mean and the deviation of those seen: see [`Normalizer`].
    pub normalize: bool,
}

impl PolicyConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        self.network.validate()?;
        let LogSigma { initial, low, high } = self.log_sigma;
        if !(low <= high && low.is_finite() && high.is_finite()) {
            return Err(Error::OutOfRange {
                op: "policy",
                name: "log_sigma.low",
                value: low,
                expected: "finite, and at most log_sigma.high",
            });
        }
        if !(low..=high).contains(&initial) {
            let expected = "between log_sigma.low and log_sigma.high";
            return Err(Error::OutOfRange { op: "policy", name: "log_sigma.initial", value: initial, expected });
        }
        Ok(())
    }
}

/// A policy: a Gaussian with a deviation that does not depend on the observation, for actions that are numbers, or a choice by logits.
///
/// Observations are raw everywhere: the normaliser is part of the policy. Actions are raw too: those of a Gaussian may lie beyond the
/// bounds at which tasks clip them, and densities are of what was drawn.
#[derive(Debug)]
pub struct Policy {
    net: Mlp,
    normalizer: Option<Normalizer>,
    /// `[width]` of a Gaussian.
    log_sigma: Option<Param>,
    bounds: LogSigma,
    dtype: DType,
    device: Device,
}

impl Policy {
    /// A policy with fresh weights for observations of `observations` numbers and these actions.
    ///
    /// # Errors
    /// A setting is out of range, or there are no actions.
    pub fn new(
        config: &PolicyConfig,
        observations: usize,
        actions: &Space,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<Policy> {
        config.validate()?;
        let outputs = actions.inputs();
        if observations == 0 || outputs == 0 {
            return Err(Error::OutOfRange { op: "policy", name: "width", value: 0.0, expected: "observations and actions of at least 1" });
        }
        let net = config.network.build(observations, outputs, rng, dtype, device)?;
        let normalizer = config.normalize.then(|| Normalizer::new(observations, CLIP, device)).transpose()?;
        let log_sigma = match actions {
            Space::Box { .. } => Some(Param::new(&Tensor::full(config.log_sigma.initial, [outputs], dtype, device)?)),
            Space::Discrete { .. } => None,
        };
        Ok(Policy { net, normalizer, log_sigma, bounds: config.log_sigma, dtype, device: *device })
    }

    /// The parameters by name: `net....`, `log_sigma` of a Gaussian, and the numbers of the normaliser as buffers `normalizer....`.
    pub fn params(&self) -> Params {
        let mut params = Params::default();
        self.net.collect("net", &mut params);
        if let Some(log_sigma) = &self.log_sigma {
            params.push("log_sigma".into(), log_sigma);
        }
        if let Some(normalizer) = &self.normalizer {
            params.extend("normalizer", &normalizer.params());
        }
        params
    }

    /// The normaliser of observations, if there is one. Update it once per iteration, after the policy's update: in between, the
    /// probabilities that were stored with the actions would no longer be the policy's.
    pub fn normalizer(&self) -> Option<&Normalizer> {
        self.normalizer.as_ref()
    }

    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The distribution of actions given raw observations [rows, width], which may be of another dtype.
    pub fn distribution(&self, observations: &Tensor) -> Result<ActionDistribution> {
        self.distribution_of(&self.prepare(observations)?)
    }

    /// Observations as the network takes them: normalised, in the dtype of the weights. For [`Policy::distribution_of`], many times.
    pub fn prepare(&self, observations: &Tensor) -> Result<Tensor> {
        prepare(observations, self.normalization()?.as_ref(), self.dtype)
    }

    /// The normalisation of the moment, if observations are normalised.
    pub fn normalization(&self) -> Result<Option<Normalization>> {
        self.normalizer.as_ref().map(|n| n.now(self.dtype)).transpose()
    }

    /// [`Policy::distribution`] of observations from [`Policy::prepare`].
    pub fn distribution_of(&self, prepared: &Tensor) -> Result<ActionDistribution> {
        let output = self.net.forward(prepared, &mut Mode::Eval)?;
        Ok(match &self.log_sigma {
            Some(log_sigma) => ActionDistribution::Gaussian { mean: output, log_sigma: log_sigma.tensor() },
            None => ActionDistribution::Categorical { logits: output },
        })
    }

    /// Puts log sigma back between its bounds. To be called after every step that changes it: with bounds inside of the forward pass it
    /// would have no gradient beyond them, and never come back.
    pub fn project(&self) -> Result<()> {
        match &self.log_sigma {
            Some(log_sigma) => log_sigma.set(&log_sigma.tensor().detach().clamp(self.bounds.low, self.bounds.high)?),
            None => Ok(()),
        }
    }

    /// The share of an action's numbers whose log sigma is at one of its bounds; `None` for choices.
    pub fn at_bound(&self) -> Result<Option<f64>> {
        let Some(log_sigma) = &self.log_sigma else { return Ok(None) };
        // as f32 has the bounds
        let bound = |value: f64| Tensor::full(value, Shape::SCALAR, self.dtype, &Device::cpu())?.item();
        let (low, high, values) = (bound(self.bounds.low)?, bound(self.bounds.high)?, log_sigma.tensor().to_f64_vec()?);
        Ok(Some(values.iter().filter(|&&v| v <= low || v >= high).count() as f64 / values.len() as f64))
    }

    /// The mean over log sigma's numbers; `None` for choices.
    pub fn log_sigma(&self) -> Result<Option<f64>> {
        self.log_sigma.as_ref().map(|log_sigma| log_sigma.tensor().detach().mean_all()?.item()).transpose()
    }
}

/// Observations in this dtype, normalised if there is a normalisation.
pub(crate) fn prepare(observations: &Tensor, normalization: Option<&Normalization>, dtype: DType) -> Result<Tensor> {
    let observations = observations.to_dtype(dtype)?;
    match normalization {
        Some(normalization) => normalization.apply(&observations),
        None => Ok(observations),
    }
}
