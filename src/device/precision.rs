//! The precision in which GPUs multiply matrices, convolve images, and sum over pairs of rows, of f32.

use std::fmt;

/// The precision in which a GPU multiplies matrices of f32 and convolves images of f32, both ways and in gradients of any order. Sums are
/// always in f32.
///
/// It is part of the device's value, [`crate::Device::with_precision`], so what a tensor is multiplied in can be seen from where it is,
/// and tensors of two precisions are not mixed by accident. The CPU multiplies in full; so do GPUs in f64. Products of 16-bit floats
/// are exact in f32, and use the tensor cores in every precision. Convolutions with windows of more than 15 taps in a direction, or images of
/// 2^31 elements, are computed in full f32 in every precision.
///
/// Sums over pairs of rows ([`crate::Tensor::mmd2`], [`crate::Tensor::ksd`], [`crate::Tensor::pulling_away`]) of f32 compute in full in
/// [`Precision::F32`]. In all others rows of more than 16 numbers are sums of two bf16 on the tensor cores, as in [`Precision::F32x3`], unless
/// they are so long, compared with the kernel's scale, that this would lose too many digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Precision {
    /// Full f32, on the CUDA cores.
    #[default]
    F32,
    /// On the tensor cores, with each operand as the sum of two bf16, of which the product of the two small parts is left out.
    /// Infinite operands give NaN.
    F32x3,
    /// On the tensor cores, with operands rounded to TF32: 11 significant bits, and the range of f32.
    Tf32,
    /// On the tensor cores, with operands rounded to bf16: 8 significant bits, and the range of f32.
    Bf16,
}

impl Precision {
    /// All of them, from the most exact on.
    pub const ALL: [Precision; 4] = [Precision::F32, Precision::F32x3, Precision::Tf32, Precision::Bf16];

    /// The bound of the relative error of one product, to first order.
    pub fn error(self) -> f64 {
        match self {
            Precision::F32 => 2f64.powi(-24),
            // 2^-16 for the small parts' product, and as much for what two bf16 do not hold
            Precision::F32x3 => 2f64.powi(-15),
            Precision::Tf32 => 2f64.powi(-10),
            Precision::Bf16 => 2f64.powi(-7),
        }
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F32x3 => "f32x3",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
