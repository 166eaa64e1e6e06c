//! Windows that move over images: their settings, how many there are, and what may be an image.

use crate::error::{Error, Result};
use crate::op::{Few, Meta};
use crate::shape::Shape;

/// The stride, padding and dilation of a convolution; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Distance between windows, at least 1.
    pub stride: [usize; 2],
    /// Zeros on each side of the image.
    pub padding: [usize; 2],
    /// Distance between the elements of a window, at least 1.
    pub dilation: [usize; 2],
}

impl Default for ConvOptions {
    /// Every position of a dense window inside of the image.
    fn default() -> ConvOptions {
        ConvOptions { stride: [1, 1], padding: [0, 0], dilation: [1, 1] }
    }
}

impl ConvOptions {
    /// The same stride in both directions.
    pub fn stride(self, stride: usize) -> ConvOptions {
        ConvOptions { stride: [stride; 2], ..self }
    }

    /// The same padding on all four sides.
    pub fn padding(self, padding: usize) -> ConvOptions {
        ConvOptions { padding: [padding; 2], ..self }
    }

    /// The same dilation in both directions.
    pub fn dilation(self, dilation: usize) -> ConvOptions {
        ConvOptions { dilation: [dilation; 2], ..self }
    }

    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        at_least_one(op, "stride", self.stride)?;
        at_least_one(op, "dilation", self.dilation)
    }

    /// Windows of this kernel in an image, in both directions; none if it is longer than the padded image.
    pub(crate) fn windows(&self, image: [usize; 2], kernel: [usize; 2]) -> Option<[usize; 2]> {
        let along = |d: usize| windows(image[d], kernel[d], self.stride[d], self.padding[d], self.dilation[d]);
        Some([along(0)?, along(1)?])
    }
}

/// Refuses a 0 in a pair.
pub(crate) fn at_least_one(op: &'static str, name: &'static str, pair: [usize; 2]) -> Result<()> {
    if pair.contains(&0) { Err(Error::OutOfRange { op, name, value: 0.0, expected: "at least 1" }) } else { Ok(()) }
}

/// Elements that a dilated window spans; none if that overflows or the window is empty.
pub(crate) fn span(kernel: usize, dilation: usize) -> Option<usize> {
    kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)
}

/// Windows in one direction; none if there is not even one, or on overflow.
pub(crate) fn windows(image: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Option<usize> {
    let padded = padding.checked_mul(2)?.checked_add(image)?;
    Some(padded.checked_sub(span(kernel, dilation)?)? / stride + 1)
}

/// The meta of images, unless their number of elements overflows.
pub(crate) fn images(op: &'static str, shape: [usize; 4], like: &Meta) -> Result<Few<Meta>> {
    let length = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if length.and_then(|n| n.checked_mul(like.dtype.size())).is_none_or(|n| n > isize::MAX as usize) {
        return Err(Error::BadShape { op, shape: Shape::from(shape), expected: "a result that fits the memory" });
    }
    Ok([Meta::new(shape, like.dtype)].into_iter().collect())
}

/// The lengths of the four axes of a float tensor.
pub(crate) fn four(op: &'static str, meta: &Meta) -> Result<[usize; 4]> {
    if !meta.dtype.is_float() {
        return Err(Error::BadDType { op, found: meta.dtype, expected: "a float; convert with to_dtype" });
    }
    meta.shape.dims().try_into().map_err(|_| Error::BadShape { op, shape: meta.shape, expected: "four axes (for images [N, C, H, W])" })
}
