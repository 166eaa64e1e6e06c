//! Residual blocks of GANs without normalisation.

use super::LEAKY;
use crate::error::Result;
use crate::nn::{Apply, Builder, Mode, Module, Params, path};
use crate::ops::{ConvOptions, PoolOptions};
use crate::tensor::Tensor;

/// The factor of a block before it is added to its shortcut (Mescheder et al. 2018, appendix: 0.1 keeps deep stacks close to the identity).
const SHARE: f64 = 0.1;

/// `shortcut(x) + 0.1 conv(act(conv(act(x))))` with 3 x 3 convolutions; the shortcut is a 1 x 1 convolution where channels
/// change, and the identity elsewhere.
#[derive(Debug)]
pub(super) struct ResidualBlock {
    first: Box<dyn Module>,
    second: Box<dyn Module>,
    shortcut: Option<Box<dyn Module>>,
}

impl ResidualBlock {
    /// A block from `channels[0]` to `channels[1]` channels, the fewer of both in between.
    pub(super) fn new(channels: [usize; 2], build: &mut Builder<'_>) -> Result<ResidualBlock> {
        let [inputs, outputs] = channels;
        let (hidden, same) = (inputs.min(outputs), ConvOptions::default().padding(1));
        let first = build.conv2d([inputs, hidden], [3, 3], same)?;
        let second = build.conv2d([hidden, outputs], [3, 3], same)?;
        let shortcut = if inputs == outputs {
            None
        } else {
            let layer = build.conv2d(channels, [1, 1], ConvOptions::default())?.without_bias();
            Some(build.module(layer)?)
        };
        Ok(ResidualBlock { first: build.module(first)?, second: build.module(second)?, shortcut })
    }
}

impl Module for ResidualBlock {
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let hidden = self.first.forward(&LEAKY.apply(x)?, mode)?;
        let change = self.second.forward(&LEAKY.apply(&hidden)?, mode)?.affine(SHARE, 0.0)?;
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, mode)?.add(&change),
            None => x.add(&change),
        }
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        self.first.collect(&path(prefix, "first"), params);
        self.second.collect(&path(prefix, "second"), params);
        if let Some(shortcut) = &self.shortcut {
            shortcut.collect(&path(prefix, "shortcut"), params);
        }
    }
}

/// Half of the height and width, by the mean of 3 x 3 windows, which counts the zeros outside as the authors' code does.
pub(super) fn halve() -> impl Module {
    Apply(|x: &Tensor| x.avg_pool2d(PoolOptions::new(3).stride(2).padding(1)))
}

/// Twice the height and width, each pixel repeated.
pub(super) fn double() -> impl Module {
    Apply(|x: &Tensor| x.upsample_nearest2d([2, 2]))
}
