//! The networks of all models: encoders of examples, and generators of them.

mod resnet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::gaussian::Scale;
use crate::nn::init::Init;
use crate::nn::{Builder, Dropout, Flatten, Sequential, Unflatten};
use crate::ops::{Activation, ConvOptions};
use crate::shape::Shape;
use resnet::ResidualBlock;

/// The usual activation of discriminators, and of generators that are residual.
pub(crate) const LEAKY: Activation = Activation::LeakyRelu(0.2);
/// The activation of [`Architecture::Convolutional`] encoders.
const SLIGHTLY_LEAKY: Activation = Activation::LeakyRelu(0.1);
/// Windows that halve an image, or double it.
const HALVING: ConvOptions = ConvOptions { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };
/// Images are halved as long as at least this much is left.
const BASE: usize = 4;

/// A kind of network, for encoders and generators of the same examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "a table such as { kind = \"mlp\", hidden = [512, 512] }"
)]
pub enum Architecture {
    /// A perceptron: linear layers of these widths.
    Mlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
        /// After every hidden layer. The default is a leaky ReLU (0.2) in discriminators, and a ReLU elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<Activation>,
    },
    /// 4 x 4 convolutions of stride 2 (Radford et al. 2016), of `width` channels at full resolution and twice as many at each
    /// half. The discriminator has no normalisation, so that rows do not mix; the generator has batch norm.
    Dcgan {
        /// Channels after the first convolution of the discriminator.
        width: usize,
    },
    /// Residual blocks without normalisation (Mescheder et al. 2018), as the code of Peng et al. 2019 has them: average pooling
    /// in the discriminator, nearest-neighbour upsampling in the generator.
    Resnet {
        /// Channels at full resolution; twice as many at each half.
        width: usize,
        /// The most channels anywhere.
        most: usize,
    },
    /// Two 4 x 4 convolutions of stride 2 and a fully connected layer, mirrored in the generator, as the code of Zhao et al. 2019 has them:
    /// leaky ReLUs (0.1) down, ReLUs up, no normalisation.
    Convolutional {
        /// Channels after the first and the second convolution.
        channels: [usize; 2],
        /// Width of the fully connected layer.
        hidden: usize,
    },
}

/// The input of a discriminator's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields, expecting = "a table such as { kind = \"vector\", size = 64 }")]
pub enum Latent {
    /// The features of the last layer as they are.
    Features,
    /// A vector of this size, by a linear layer.
    Vector {
        /// The size of the vector.
        size: usize,
    },
    /// A map of this many channels, by a 1 x 1 convolution of the features.
    Map {
        /// Channels at each position.
        channels: usize,
    },
}

/// The number of times that images of this size are halved, and the size that is left.
fn halvings(size: usize) -> (usize, usize) {
    if size.is_multiple_of(2) && size / 2 >= BASE {
        let (more, base) = halvings(size / 2);
        (more + 1, base)
    } else {
        (0, size)
    }
}

/// The sides of an image after two convolutions that halve it.
fn quarter(example: &[usize]) -> Result<[usize; 3]> {
    match *example {
        [channels, height, width] if height.is_multiple_of(4) && width.is_multiple_of(4) => Ok([channels, height / 4, width / 4]),
        _ => {
            Err(bad_shape(example, "images whose sides are multiples of 4, since both convolutions halve them; pad the images, or an mlp"))
        }
    }
}

fn bad_shape(shape: &[usize], expected: &'static str) -> Error {
    match Shape::new(shape) {
        Ok(shape) => Error::BadShape { op: "architecture", shape, expected },
        Err(error) => error,
    }
}

/// The channels of images that convolutions can halve, and their side.
fn image(example: &[usize]) -> Result<[usize; 2]> {
    match *example {
        [channels, height, width] if height == width && halvings(height).0 > 0 => Ok([channels, height]),
        _ => Err(bad_shape(example, "square images [channels, height, width] with an even side of at least 8, or an mlp")),
    }
}

/// `net` and then a linear layer with this activation.
pub(crate) fn linear(
    net: Sequential,
    inputs: usize,
    outputs: usize,
    activation: Activation,
    build: &mut Builder<'_>,
) -> Result<Sequential> {
    let layer = build.linear(inputs, outputs)?.with_activation(activation);
    Ok(net.then(build.module(layer)?))
}

/// `net` and then a convolution with a square window of this side and this activation.
fn conv(
    net: Sequential,
    channels: [usize; 2],
    kernel: usize,
    options: ConvOptions,
    activation: Activation,
    build: &mut Builder<'_>,
) -> Result<Sequential> {
    let layer = build.conv2d(channels, [kernel; 2], options)?.with_activation(activation);
    Ok(net.then(build.module(layer)?))
}

impl Architecture {
    /// Linear layers of these widths with the usual activation.
    pub fn mlp(hidden: &[usize]) -> Architecture {
        Architecture::Mlp { hidden: hidden.to_vec(), activation: None }
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// A layer has no units.
    pub fn validate(&self) -> Result<()> {
        let smallest = match self {
            Architecture::Mlp { hidden, .. } => hidden.iter().copied().min().unwrap_or(1),
            Architecture::Dcgan { width } => *width,
            Architecture::Resnet { width, most } => *width.min(most),
            Architecture::Convolutional { channels: [first, second], hidden } => *first.min(second).min(hidden),
        };
        if smallest == 0 {
            return Err(Error::OutOfRange { op: "architecture", name: "width", value: 0.0, expected: "layers of at least 1" });
        }
        Ok(())
    }

    /// The distribution of initial weights.
    pub(crate) fn init(&self) -> Init {
        match self {
            Architecture::Mlp { .. } | Architecture::Convolutional { .. } => Init::XavierUniform,
            Architecture::Dcgan { .. } => Init::Normal(0.02), // Radford et al. 2016, section 4
            Architecture::Resnet { .. } => Init::FanIn,
        }
    }

    /// Whether generators have layers that mix rows.
    pub(crate) fn has_batch_norm(&self) -> bool {
        matches!(self, Architecture::Dcgan { .. })
    }

    /// The same with this activation in perceptrons that name none.
    pub(crate) fn or_activation(&self, default: Activation) -> Architecture {
        match self {
            Architecture::Mlp { hidden, activation: None } => Architecture::Mlp { hidden: hidden.clone(), activation: Some(default) },
            other => other.clone(),
        }
    }

    /// The same with the widths of perceptrons in reverse, for a generator that mirrors an encoder.
    pub(crate) fn mirrored(&self) -> Architecture {
        match self {
            Architecture::Mlp { hidden, activation } => {
                Architecture::Mlp { hidden: hidden.iter().rev().copied().collect(), activation: *activation }
            }
            other => other.clone(),
        }
    }

    /// Channels after each halving of an image, the first at full resolution.
    fn channels(&self, halvings: usize) -> Vec<usize> {
        match *self {
            Architecture::Resnet { width, most } => (0..=halvings).map(|i| (width << i).min(most)).collect(),
            Architecture::Dcgan { width } => (0..halvings).map(|i| width << i).collect(),
            Architecture::Mlp { .. } | Architecture::Convolutional { .. } => Vec::new(),
        }
    }

    /// The shape of the features before the latent, for an example.
    pub(crate) fn features(&self, example: &[usize]) -> Result<Vec<usize>> {
        match self {
            Architecture::Mlp { hidden, .. } => Ok(vec![hidden.last().copied().unwrap_or_else(|| example.iter().product())]),
            Architecture::Convolutional { hidden, .. } => quarter(example).map(|_| vec![*hidden]),
            Architecture::Dcgan { .. } | Architecture::Resnet { .. } => {
                let [channels, height] = image(example)?;
                let (count, base) = halvings(height);
                Ok(vec![self.channels(count).last().copied().unwrap_or(channels), base, base])
            }
        }
    }

    /// An encoder of examples of this shape to the statistics that `scale` makes z of, or to z itself. It takes examples with all their
    /// axes, or flat.
    pub(crate) fn encoder(&self, example: &[usize], latent: Latent, scale: Scale, build: &mut Builder<'_>) -> Result<Sequential> {
        let features = self.features(example)?;
        let mut net = Sequential::new();
        match self {
            Architecture::Mlp { hidden, activation } => {
                if example.len() > 1 {
                    net = net.then(Flatten);
                }
                let mut width = example.iter().product();
                for &next in hidden {
                    net = linear(net, width, next, activation.unwrap_or(LEAKY), build)?;
                    if build.dropout > 0.0 {
                        net = net.then(Dropout::new(build.dropout)?);
                    }
                    width = next;
                }
            }
            Architecture::Convolutional { channels: [first, second], hidden } => {
                let [channels, height, width] = quarter(example)?;
                net = net.then(Unflatten(Shape::new(example)?));
                net = conv(net, [channels, *first], 4, HALVING, SLIGHTLY_LEAKY, build)?;
                net = conv(net, [*first, *second], 4, HALVING, SLIGHTLY_LEAKY, build)?;
                net = linear(net.then(Flatten), second * height * width, *hidden, SLIGHTLY_LEAKY, build)?;
            }
            Architecture::Dcgan { .. } => {
                let [mut channels, height] = image(example)?;
                net = net.then(Unflatten(Shape::new(example)?));
                for next in self.channels(halvings(height).0) {
                    net = conv(net, [channels, next], 4, HALVING, LEAKY, build)?;
                    channels = next;
                }
            }
            Architecture::Resnet { .. } => {
                let [channels, height] = image(example)?;
                let widths = self.channels(halvings(height).0);
                net = net.then(Unflatten(Shape::new(example)?));
                net = conv(net, [channels, widths[0]], 3, ConvOptions::default().padding(1), Activation::Identity, build)?;
                net = net.then(ResidualBlock::new([widths[0]; 2], build)?);
                for pair in widths.windows(2) {
                    net = net.then(resnet::halve()).then(ResidualBlock::new([pair[0], pair[1]], build)?);
                }
            }
        }
        match latent {
            Latent::Features if !scale.is_stochastic() => Ok(net),
            Latent::Features => Err(bad_shape(&features, "a latent vector or map: features alone have no scale")),
            Latent::Vector { size } => {
                if let Architecture::Resnet { .. } = self {
                    net = net.then(LEAKY); // blocks end without an activation
                }
                if features.len() > 1 {
                    net = net.then(Flatten);
                }
                linear(net, features.iter().product(), scale.outputs(size), Activation::Identity, build)
            }
            Latent::Map { channels } if features.len() == 3 => {
                conv(net, [features[0], scale.outputs(channels)], 1, ConvOptions::default(), Activation::Identity, build)
            }
            Latent::Map { .. } => Err(bad_shape(&features, "a convolutional network, whose features are a map, or a latent vector")),
        }
    }

    /// A generator of examples of this shape from vectors of size `latent`, with `output` applied to the last layer.
    pub(crate) fn generator(&self, latent: usize, example: &[usize], output: Activation, build: &mut Builder<'_>) -> Result<Sequential> {
        let mut net = Sequential::new();
        match self {
            Architecture::Mlp { hidden, activation } => {
                let mut width = latent;
                for &next in hidden {
                    net = linear(net, width, next, activation.unwrap_or(Activation::Relu), build)?;
                    width = next;
                }
                net = linear(net, width, example.iter().product(), output, build)?;
                Ok(if example.len() > 1 { net.then(Unflatten(Shape::new(example)?)) } else { net })
            }
            Architecture::Convolutional { channels: [first, second], hidden } => {
                let [channels, height, width] = quarter(example)?;
                net = linear(net, latent, *hidden, Activation::Relu, build)?;
                net = linear(net, *hidden, second * height * width, Activation::Relu, build)?;
                let up = build.conv_transpose2d([*second, *first], [4, 4], HALVING)?.with_activation(Activation::Relu);
                let last = build.conv_transpose2d([*first, channels], [4, 4], HALVING)?.with_activation(output);
                Ok(net.then(Unflatten(Shape::new(&[*second, height, width])?)).then(up).then(last))
            }
            Architecture::Dcgan { .. } => {
                let (mut net, widths, channels) = self.widen(latent, example, build)?;
                for (i, &width) in widths.iter().enumerate() {
                    net = net.then(build.batch_norm(width)?).then(Activation::Relu);
                    let next = widths.get(i + 1).copied();
                    let layer = build.conv_transpose2d([width, next.unwrap_or(channels)], [4, 4], HALVING)?;
                    net = if next.is_some() { net.then(layer.without_bias()) } else { net.then(layer.with_activation(output)) };
                }
                Ok(net)
            }
            Architecture::Resnet { .. } => {
                let (mut net, widths, channels) = self.widen(latent, example, build)?;
                for pair in widths.windows(2) {
                    net = net.then(ResidualBlock::new([pair[0], pair[1]], build)?).then(resnet::double());
                }
                let width = widths[widths.len() - 1];
                net = net.then(ResidualBlock::new([width; 2], build)?).then(LEAKY);
                conv(net, [width, channels], 3, ConvOptions::default().padding(1), output, build)
            }
        }
    }

    /// A generator's first layer, to a map of the least resolution; the channels from there up; and the channels of an example.
    fn widen(&self, latent: usize, example: &[usize], build: &mut Builder<'_>) -> Result<(Sequential, Vec<usize>, usize)> {
        let [channels, height] = image(example)?;
        let (count, base) = halvings(height);
        let mut widths = self.channels(count);
        widths.reverse();
        let first = widths[0];
        let net = linear(Sequential::new(), latent, first * base * base, Activation::Identity, build)?;
        Ok((net.then(Unflatten(Shape::new(&[first, base, base])?)), widths, channels))
    }
}
