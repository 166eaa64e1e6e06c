//! Tensors from numbers as they are written down: `Tensor::new([[1.0, 2.0], [3.0, 4.0]], ..)`.

use super::Tensor;
use crate::device::Device;
use crate::dtype::Element;
use crate::error::Result;

/// A number, or an array of arrays of them, whose lengths become the shape.
pub trait Nested {
    /// The type of the numbers.
    type Element: Element;

    /// Appends the lengths of the axes.
    fn lengths(dims: &mut Vec<usize>);

    /// Appends the numbers, row by row.
    fn elements(&self, out: &mut Vec<Self::Element>);
}

impl<T: Element> Nested for T {
    type Element = T;

    fn lengths(_: &mut Vec<usize>) {}

    fn elements(&self, out: &mut Vec<T>) {
        out.push(*self);
    }
}

impl<A: Nested, const N: usize> Nested for [A; N] {
    type Element = A::Element;

    fn lengths(dims: &mut Vec<usize>) {
        dims.push(N);
        A::lengths(dims);
    }

    fn elements(&self, out: &mut Vec<A::Element>) {
        self.iter().for_each(|part| part.elements(out));
    }
}

impl Tensor {
    /// A tensor of a number, or of numbers in arrays, whose lengths are the shape.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let x = Tensor::new([[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::cpu())?;
    /// assert_eq!(x.dims(), [2, 3]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// There are more than six axes.
    pub fn new<A: Nested>(values: A, device: &Device) -> Result<Tensor> {
        let (mut dims, mut elements) = (Vec::new(), Vec::new());
        A::lengths(&mut dims);
        values.elements(&mut elements);
        Tensor::from_vec(elements, dims, device)
    }
}
