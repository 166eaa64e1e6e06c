//! A builder of layers that keeps the generator, dtype, device and initialiser.

use super::init::Init;
use super::{BatchNorm, Conv2d, ConvTranspose2d, LayerNorm, Linear, Mlp, Module, SpectralNorm, Weighted};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::{Activation, ConvOptions};
use crate::rng::Rng;

/// Builds layers whose initial weights come from one generator, with one dtype, on one device.
///
/// ```
/// use strait::nn::{Builder, Flatten, Mode, Module, Sequential};
/// use strait::ops::{Activation, ConvOptions};
/// use strait::{DType, Device, Rng};
/// let (device, mut rng) = (Device::cpu(), Rng::new(0));
/// let mut b = Builder::new(&mut rng, DType::F32, &device);
/// let net = Sequential::new()
///     .then(b.conv2d([1, 8], [3, 3], ConvOptions::default().padding(1))?.with_activation(Activation::Relu))
///     .then(b.batch_norm(8)?)
///     .then(Flatten)
///     .then(b.mlp(&[8 * 28 * 28, 64, 10], Activation::Relu)?);
/// let x = rng.normal([2, 1, 28, 28], DType::F32, &device)?;
/// assert_eq!(net.forward(&x, &mut Mode::Eval)?.dims(), [2, 10]);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug)]
pub struct Builder<'a> {
    /// The generator of initial weights.
    pub rng: &'a mut Rng,
    /// The dtype of the weights.
    pub dtype: DType,
    /// The device of the weights.
    pub device: Device,
    /// The distribution of initial weights. Biases start at zero.
    pub init: Init,
    /// Whether [`Builder::module`] divides weights by their largest singular value.
    pub spectral_norm: bool,
    /// The probability of dropout after the hidden layers of perceptrons that encode.
    pub dropout: f64,
}

impl<'a> Builder<'a> {
    /// A builder that initialises by [`Init::default`], without spectral norm.
    pub fn new(rng: &'a mut Rng, dtype: DType, device: &Device) -> Builder<'a> {
        Builder { rng, dtype, device: *device, init: Init::default(), spectral_norm: false, dropout: 0.0 }
    }

    /// The same builder with another distribution of initial weights.
    pub fn with_init(self, init: Init) -> Builder<'a> {
        Builder { init, ..self }
    }

    /// The same builder, which puts a [`SpectralNorm`] around the layers given to [`Builder::module`].
    pub fn with_spectral_norm(self, spectral_norm: bool) -> Builder<'a> {
        Builder { spectral_norm, ..self }
    }

    /// The same builder with this probability of dropout in encoders.
    pub fn with_dropout(self, dropout: f64) -> Builder<'a> {
        Builder { dropout, ..self }
    }

    /// An affine layer of rows, [N, inputs] to [N, outputs].
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Result<Linear> {
        Linear::new(inputs, outputs, self.init, self.rng, self.dtype, &self.device)
    }

    /// A perceptron with these layer sizes, inputs first, and an activation between its layers.
    ///
    /// # Errors
    /// Fewer than two sizes.
    pub fn mlp(&mut self, sizes: &[usize], activation: Activation) -> Result<Mlp> {
        Mlp::new(sizes, activation, self.init, self.rng, self.dtype, &self.device)
    }

    /// A convolution from `channels[0]` to `channels[1]` channels with a window of `kernel` (height, width).
    pub fn conv2d(&mut self, channels: [usize; 2], kernel: [usize; 2], options: ConvOptions) -> Result<Conv2d> {
        Conv2d::new(channels, kernel, options, self.init, self.rng, self.dtype, &self.device)
    }

    /// A transposed convolution from `channels[0]` to `channels[1]` channels with a window of `kernel` (height, width).
    pub fn conv_transpose2d(&mut self, channels: [usize; 2], kernel: [usize; 2], options: ConvOptions) -> Result<ConvTranspose2d> {
        ConvTranspose2d::new(channels, kernel, options, self.init, self.rng, self.dtype, &self.device)
    }

    /// A batch norm of [N, channels] or [N, channels, H, W].
    pub fn batch_norm(&self, channels: usize) -> Result<BatchNorm> {
        BatchNorm::new(channels, self.dtype, &self.device)
    }

    /// A layer norm of the last axis, which has this length.
    pub fn layer_norm(&self, length: usize) -> Result<LayerNorm> {
        LayerNorm::new(length, self.dtype, &self.device)
    }

    /// A layer as a module: in a [`SpectralNorm`] after [`Builder::with_spectral_norm`].
    pub fn module(&mut self, layer: impl Weighted + 'static) -> Result<Box<dyn Module>> {
        Ok(if self.spectral_norm { Box::new(SpectralNorm::new(layer, self.rng)?) } else { Box::new(layer) })
    }
}
