//! Encoders and decoders.

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::nn::init::Init;
use crate::nn::{Apply, Conv2d, ConvTranspose2d, Flatten, Linear, Mlp, Module, Sequential};
use crate::ops::{Activation, ConvOptions};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Halves an image's sides with a window of 4, or doubles them.
const HALVING: ConvOptions = ConvOptions { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };
const LEAKY: Activation = Activation::LeakyRelu(0.1);

/// The networks on both sides of the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"mlp\", hidden = [512] }")]
pub enum Architecture {
    /// Perceptrons: these hidden layers in the encoder, the same in reverse in the decoder.
    Mlp {
        /// Widths.
        hidden: Vec<usize>,
        /// After every hidden layer.
        #[serde(default = "relu")]
        activation: Activation,
    },
    /// As the InfoVAE's author has it: two 4x4 convolutions of stride 2 and a fully connected layer, mirrored in the decoder; leaky ReLUs
    /// down, ReLUs up.
    Dcgan {
        /// Channels after the first and the second convolution.
        channels: [usize; 2],
        /// Width of the fully connected layer.
        hidden: usize,
    },
}

fn relu() -> Activation {
    Activation::Relu
}

impl Architecture {
    /// The author's sizes for 28 x 28 pixels.
    pub fn dcgan() -> Architecture {
        Architecture::Dcgan { channels: [64, 128], hidden: 1024 }
    }

    /// Checks the sizes against those of an image.
    ///
    /// # Errors
    /// One is 0, or a side of the image is no multiple of 4 where convolutions halve it twice.
    pub fn validate(&self, image: [usize; 3]) -> Result<()> {
        let sizes = match self {
            Architecture::Mlp { hidden, .. } => hidden.clone(),
            Architecture::Dcgan { channels, hidden } => vec![channels[0], channels[1], *hidden],
        };
        if sizes.iter().chain(&image).any(|&s| s == 0) {
            return Err(Error::OutOfRange { op: "infovae", name: "size", value: 0.0, expected: "layers and images of at least 1" });
        }
        if let Architecture::Dcgan { .. } = self
            && let Some(side) = image[1..].iter().find(|s| !s.is_multiple_of(4))
        {
            let expected = "a multiple of 4, since both convolutions halve it; pad the images or take an MLP";
            return Err(Error::OutOfRange { op: "infovae", name: "side of the image", value: *side as f64, expected });
        }
        Ok(())
    }

    /// From images as rows [rows, pixels] to `outputs` numbers each.
    pub(super) fn encoder(
        &self,
        image: [usize; 3],
        outputs: usize,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<Box<dyn Module>> {
        self.validate(image)?;
        let ([c, h, w], init) = (image, Init::XavierUniform);
        match self {
            Architecture::Mlp { hidden, activation } => {
                let sizes: Vec<usize> = [c * h * w].into_iter().chain(hidden.iter().copied()).chain([outputs]).collect();
                Ok(Box::new(Mlp::new(&sizes, *activation, init, rng, dtype, device)?))
            }
            Architecture::Dcgan { channels: [first, second], hidden } => {
                let net = Sequential::new()
                    .then(Apply(move |x: &Tensor| x.reshape([x.dims()[0], c, h, w])))
                    .then(Conv2d::new([c, *first], [4, 4], HALVING, init, rng, dtype, device)?.with_activation(LEAKY))
                    .then(Conv2d::new([*first, *second], [4, 4], HALVING, init, rng, dtype, device)?.with_activation(LEAKY))
                    .then(Flatten)
                    .then(Linear::new(second * h / 4 * (w / 4), *hidden, init, rng, dtype, device)?.with_activation(LEAKY))
                    .then(Linear::new(*hidden, outputs, init, rng, dtype, device)?);
                Ok(Box::new(net))
            }
        }
    }

    /// From codes [rows, latent] to rows of images with `factor` times the channels.
    pub(super) fn decoder(
        &self,
        latent: usize,
        image: [usize; 3],
        factor: usize,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<Box<dyn Module>> {
        self.validate(image)?;
        let ([c, h, w], init) = (image, Init::XavierUniform);
        match self {
            Architecture::Mlp { hidden, activation } => {
                let outputs = factor * c * h * w;
                let sizes: Vec<usize> = [latent].into_iter().chain(hidden.iter().rev().copied()).chain([outputs]).collect();
                Ok(Box::new(Mlp::new(&sizes, *activation, init, rng, dtype, device)?))
            }
            Architecture::Dcgan { channels: [first, second], hidden } => {
                let (second, h, w, relu) = (*second, h / 4, w / 4, Activation::Relu);
                let net = Sequential::new()
                    .then(Linear::new(latent, *hidden, init, rng, dtype, device)?.with_activation(relu))
                    .then(Linear::new(*hidden, second * h * w, init, rng, dtype, device)?.with_activation(relu))
                    .then(Apply(move |x: &Tensor| x.reshape([x.dims()[0], second, h, w])))
                    .then(ConvTranspose2d::new([second, *first], [4, 4], HALVING, init, rng, dtype, device)?.with_activation(relu))
                    .then(ConvTranspose2d::new([*first, factor * c], [4, 4], HALVING, init, rng, dtype, device)?)
                    .then(Flatten);
                Ok(Box::new(net))
            }
        }
    }
}
