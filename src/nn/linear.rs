//! Affine layers, dropout, and multi-layer perceptrons.

use super::init::Init;
use super::{Mode, Module, Param, Params, path};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::Activation;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// `activation(x W^T + b)` with weight [out, in] and bias `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// [out, in].
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    /// Applied to the result.
    pub activation: Activation,
}

impl Linear {
    /// A layer with weights drawn from `init` and a bias of zeros.
    pub fn new(inputs: usize, outputs: usize, init: Init, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Linear> {
        let weight = Param::new(&init.tensor([outputs, inputs], rng, dtype, device)?);
        let bias = Some(Param::new(&Tensor::zeros([outputs], dtype, device)?));
        Ok(Linear { weight, bias, activation: Activation::Identity })
    }

    /// The same layer with this activation fused to it.
    pub fn with_activation(self, activation: Activation) -> Linear {
        Linear { activation, ..self }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        x.linear(&self.weight.tensor(), bias.as_ref(), self.activation)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        params.push(path(prefix, "weight"), &self.weight);
        if let Some(bias) = &self.bias {
            params.push(path(prefix, "bias"), bias);
        }
    }
}

/// Sets each element to 0 with this probability in training, and scales the others up so that the mean stays
/// (Srivastava et al. 2014).
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    probability: f64,
}

impl Dropout {
    /// Dropout with this probability.
    ///
    /// # Errors
    /// The probability is not in [0, 1).
    pub fn new(probability: f64) -> Result<Dropout> {
        if !(0.0..1.0).contains(&probability) {
            return Err(Error::OutOfRange { op: "dropout", name: "probability", value: probability, expected: "at least 0 and below 1" });
        }
        Ok(Dropout { probability })
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        match mode {
            Mode::Train(rng) if self.probability > 0.0 => {
                // compared before they are rounded to 16 bits, in which the share that is kept would be another
                let kept =
                    rng.uniform(0.0, 1.0, x.shape(), x.dtype().wide(), &x.device())?.between(self.probability, 1.0)?.to_dtype(x.dtype())?;
                x.mul(&kept)?.divide(1.0 - self.probability)
            }
            _ => Ok(x.clone()),
        }
    }

    fn collect(&self, _: &str, _: &mut Params) {}
}

/// Linear layers with an activation, and dropout if asked for, between them, and none after the last.
/// Parameters are `0.weight`, `0.bias`, `1.weight`, ...
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
    dropout: Option<Dropout>,
}

impl Mlp {
    /// A perceptron with these layer sizes, inputs first.
    ///
    /// # Errors
    /// There are fewer than two sizes.
    pub fn new(sizes: &[usize], activation: Activation, init: Init, rng: &mut Rng, dtype: DType, device: &Device) -> Result<Mlp> {
        if sizes.len() < 2 {
            return Err(Error::OutOfRange { op: "mlp", name: "sizes", value: sizes.len() as f64, expected: "at least two sizes" });
        }
        let last = sizes.len() - 2;
        let layers = sizes
            .windows(2)
            .enumerate()
            .map(|(i, pair)| {
                let between = if i < last { activation } else { Activation::Identity };
                Ok(Linear::new(pair[0], pair[1], init, rng, dtype, device)?.with_activation(between))
            })
            .collect::<Result<_>>()?;
        Ok(Mlp { layers, dropout: None })
    }

    /// The same perceptron with dropout after every activation.
    ///
    /// # Errors
    /// The probability is not in [0, 1).
    pub fn with_dropout(mut self, probability: f64) -> Result<Mlp> {
        self.dropout = if probability == 0.0 { None } else { Some(Dropout::new(probability)?) };
        Ok(self)
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, mode)?;
            if let Some(dropout) = self.dropout
                && i + 1 < self.layers.len()
            {
                x = dropout.forward(&x, mode)?;
            }
        }
        Ok(x)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        for (i, layer) in self.layers.iter().enumerate() {
            layer.collect(&path(prefix, &i.to_string()), params);
        }
    }
}
