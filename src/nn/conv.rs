//! Convolution layers.

use super::init::Init;
use super::{Mode, Module, Param, Params, path};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::{Activation, ConvOptions};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// `activation(conv2d(x, W) + b)` with weight [out, in, kh, kw] and bias `[out]`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// [out, in, kh, kw].
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    /// Stride, padding and dilation.
    pub options: ConvOptions,
    /// Applied to the result.
    pub activation: Activation,
}

impl Conv2d {
    /// A layer from `channels[0]` to `channels[1]` channels with a window of `kernel` (height, width), weights drawn from `init`
    /// (fan in: in kh kw; fan out: out kh kw) and a bias of zeros.
    pub fn new(
        channels: [usize; 2],
        kernel: [usize; 2],
        options: ConvOptions,
        init: Init,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<Conv2d> {
        let [inputs, outputs] = channels;
        let weight = Param::new(&init.tensor([outputs, inputs, kernel[0], kernel[1]], rng, dtype, device)?);
        let bias = Some(Param::new(&Tensor::zeros([outputs], dtype, device)?));
        Ok(Conv2d { weight, bias, options, activation: Activation::Identity })
    }

    /// The same layer followed by this activation.
    pub fn with_activation(self, activation: Activation) -> Conv2d {
        Conv2d { activation, ..self }
    }

    /// The same layer without a bias, as a batch norm after it wants it.
    pub fn without_bias(self) -> Conv2d {
        Conv2d { bias: None, ..self }
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        self.activation.apply(&x.conv2d(&self.weight.tensor(), bias.as_ref(), self.options)?)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        collect(&self.weight, self.bias.as_ref(), prefix, params);
    }
}

/// `activation(conv_transpose2d(x, W) + b)` with weight [in, out, kh, kw] and bias `[out]`.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    /// [in, out, kh, kw].
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    /// Stride, padding and dilation of the convolution that this layer transposes.
    pub options: ConvOptions,
    /// Rows and columns more than the smallest possible result has.
    pub output_padding: [usize; 2],
    /// Applied to the result.
    pub activation: Activation,
}

impl ConvTranspose2d {
    /// A layer from `channels[0]` to `channels[1]` channels with a window of `kernel` (height, width), weights drawn from `init`
    /// and a bias of zeros.
    ///
    /// The fans are those of the layer, as for [`Conv2d`]: in kh kw and out kh kw, although the weight lies as [in, out, kh, kw].
    /// (PyTorch takes the axes as they lie, and so exchanges the two fans of a transposed convolution.)
    pub fn new(
        channels: [usize; 2],
        kernel: [usize; 2],
        options: ConvOptions,
        init: Init,
        rng: &mut Rng,
        dtype: DType,
        device: &Device,
    ) -> Result<ConvTranspose2d> {
        let [inputs, outputs] = channels;
        let weight = init.tensor([outputs, inputs, kernel[0], kernel[1]], rng, dtype, device)?.transpose(0, 1)?.contiguous()?;
        let bias = Some(Param::new(&Tensor::zeros([outputs], dtype, device)?));
        Ok(ConvTranspose2d { weight: Param::new(&weight), bias, options, output_padding: [0, 0], activation: Activation::Identity })
    }

    /// The same layer followed by this activation.
    pub fn with_activation(self, activation: Activation) -> ConvTranspose2d {
        ConvTranspose2d { activation, ..self }
    }

    /// The same layer with a larger result.
    pub fn with_output_padding(self, output_padding: [usize; 2]) -> ConvTranspose2d {
        ConvTranspose2d { output_padding, ..self }
    }

    /// The same layer without a bias, as a batch norm after it wants it.
    pub fn without_bias(self) -> ConvTranspose2d {
        ConvTranspose2d { bias: None, ..self }
    }
}

impl Module for ConvTranspose2d {
    fn forward(&self, x: &Tensor, _: &mut Mode<'_>) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        self.activation.apply(&x.conv_transpose2d(&self.weight.tensor(), bias.as_ref(), self.options, self.output_padding)?)
    }

    fn collect(&self, prefix: &str, params: &mut Params) {
        collect(&self.weight, self.bias.as_ref(), prefix, params);
    }
}

fn collect(weight: &Param, bias: Option<&Param>, prefix: &str, params: &mut Params) {
    params.push(path(prefix, "weight"), weight);
    if let Some(bias) = bias {
        params.push(path(prefix, "bias"), bias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{BatchNorm, Flatten, Linear, Sequential};

    const STRIDED: ConvOptions = ConvOptions { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };

    #[test]
    fn a_network_down_and_up_again() -> Result<()> {
        let (mut rng, cpu) = (Rng::new(1), Device::cpu());
        let init = Init::KaimingNormal;
        let down = Conv2d::new([3, 8], [4, 4], STRIDED, init, &mut rng, DType::F32, &cpu)?.without_bias();
        let up = ConvTranspose2d::new([8, 3], [3, 3], STRIDED, init, &mut rng, DType::F32, &cpu)?.with_output_padding([1, 1]);
        let net = Sequential::new()
            .then(down)
            .then(BatchNorm::new(8, DType::F32, &cpu)?)
            .then(Activation::LeakyRelu(0.2))
            .then(up.with_activation(Activation::Tanh))
            .then(Flatten)
            .then(Linear::new(3 * 12 * 8, 5, init, &mut rng, DType::F32, &cpu)?);
        let names: Vec<String> = net.params().iter().map(|(name, _)| name.to_string()).collect();
        let expected = "0.weight 1.weight 1.bias 1.running_mean 1.running_var 3.weight 3.bias 5.weight 5.bias";
        assert_eq!(names.join(" "), expected);
        assert_eq!(net.params().trained().len(), 7);
        let x = rng.normal([2, 3, 12, 8], DType::F32, &cpu)?;
        let y = net.forward(&x, &mut Mode::Train(&mut rng))?;
        assert_eq!(y.dims(), [2, 5]);
        let params = net.params().trained().tensors();
        let grads = crate::grad(&y.square()?.sum_all()?, &params.iter().collect::<Vec<_>>())?;
        assert!(grads.iter().all(|g| g.is_finite().unwrap() && g.square().unwrap().sum_all().unwrap().item().unwrap() > 0.0));
        Ok(())
    }

    #[test]
    fn both_layouts_have_the_same_fans() -> Result<()> {
        let (mut rng, cpu) = (Rng::new(1), Device::cpu());
        let spread = |weight: &Param| weight.tensor().square()?.mean_all()?.item();
        let plain = Conv2d::new([64, 16], [3, 3], STRIDED, Init::KaimingNormal, &mut rng, DType::F32, &cpu)?;
        let transposed = ConvTranspose2d::new([64, 16], [3, 3], STRIDED, Init::KaimingNormal, &mut rng, DType::F32, &cpu)?;
        assert_eq!((plain.weight.tensor().dims(), transposed.weight.tensor().dims()), (&[16, 64, 3, 3][..], &[64, 16, 3, 3][..]));
        for weight in [&plain.weight, &transposed.weight] {
            assert!((spread(weight)? * 64.0 * 9.0 / 2.0 - 1.0).abs() < 0.1);
        }
        Ok(())
    }
}
