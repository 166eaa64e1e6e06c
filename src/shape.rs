//! Shapes, broadcasting, and the strided layouts of views.

use std::fmt;
use std::ops::Deref;

use crate::error::{Error, Result};

/// The largest number of axes a tensor can have.
pub const MAX_RANK: usize = 6;

/// The lengths of a tensor's axes. Small and `Copy`; dereferences to a slice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape of a scalar: no axes, one element.
    pub const SCALAR: Shape = Shape { dims: [1; MAX_RANK], rank: 0 };

    /// A shape with these axis lengths.
    ///
    /// # Errors
    /// There are more than [`MAX_RANK`] axes.
    pub fn new(dims: &[usize]) -> Result<Shape> {
        if dims.len() > MAX_RANK {
            return Err(Error::TooManyAxes { rank: dims.len() });
        }
        let mut shape = Shape { dims: [1; MAX_RANK], rank: dims.len() };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of elements; 1 for a scalar.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.iter().fold(1, |n, &length| n.saturating_mul(length))
    }

    /// Whether the elements of `size` bytes of a tensor of this shape, or of a view, can be counted.
    pub(crate) fn check(&self, op: &'static str, size: usize) -> Result<()> {
        match self.len().checked_mul(size) {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
            _ => Err(Error::BadShape { op, shape: *self, expected: "a shape that memory can hold" }),
        }
    }

    /// The axis lengths as a slice.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// This shape with the length of one axis replaced.
    pub fn with(mut self, axis: usize, length: usize) -> Shape {
        self.dims[..self.rank][axis] = length;
        self
    }

    /// This shape without one axis.
    pub fn without(self, axis: usize) -> Shape {
        let mut out = Shape { dims: [1; MAX_RANK], rank: self.rank - 1 };
        out.dims[..axis].copy_from_slice(&self.dims[..axis]);
        out.dims[axis..self.rank - 1].copy_from_slice(&self.dims[axis + 1..self.rank]);
        out
    }

    /// The axes before, at and after `axis`, each multiplied out.
    pub fn around(&self, axis: usize) -> (usize, usize, usize) {
        (self[..axis].iter().product(), self[axis], self[axis + 1..].iter().product())
    }

    /// The shape both broadcast to by NumPy's rule: aligned at the last axis, length 1 stretches.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank.max(other.rank);
        let mut out = Shape { dims: [1; MAX_RANK], rank };
        for i in 0..rank {
            let length = |s: &Shape| if i + s.rank >= rank { s.dims[i + s.rank - rank] } else { 1 };
            out.dims[i] = match (length(self), length(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(out)
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1usize;
        for i in (0..self.rank).rev() {
            strides[i] = step;
            step = step.saturating_mul(self.dims[i]);
        }
        strides
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.dims()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        const { assert!(N <= MAX_RANK, "too many axes") };
        let mut shape = Shape { dims: [1; MAX_RANK], rank: N };
        shape.dims[..N].copy_from_slice(&dims);
        shape
    }
}

impl From<usize> for Shape {
    fn from(length: usize) -> Shape {
        Shape::from([length])
    }
}

impl From<()> for Shape {
    fn from(_: ()) -> Shape {
        Shape::SCALAR
    }
}

/// A conversion into a shape. It is implemented for arrays, slices and vectors of lengths, a single length, `()` for a scalar, and a [`Shape`].
///
/// ```
/// use strait::{DType, Device, Tensor};
/// let cpu = Device::cpu();
/// let x = Tensor::zeros([2, 3], DType::F32, &cpu)?;
/// let lengths: Vec<usize> = x.dims().iter().rev().copied().collect();
/// assert_eq!(x.reshape(&lengths[..])?.dims(), [3, 2]);
/// assert_eq!(x.reshape(6)?.dims(), [6]);
/// # Ok::<(), strait::Error>(())
/// ```
pub trait IntoShape {
    /// The shape.
    ///
    /// # Errors
    /// There are more than [`MAX_RANK`] axes.
    fn into_shape(self) -> Result<Shape>;
}

impl<S: IntoShape + Clone> IntoShape for &S {
    fn into_shape(self) -> Result<Shape> {
        self.clone().into_shape()
    }
}

macro_rules! into_shape {
    ($($type:ty $(, $n:ident)?: |$x:ident| $shape:expr;)*) => {$(
        impl$(<const $n: usize>)? IntoShape for $type {
            fn into_shape(self) -> Result<Shape> {
                let $x = self;
                $shape
            }
        }
    )*};
}

into_shape! {
    Shape: |shape| Ok(shape);
    [usize; N], N: |dims| Ok(Shape::from(dims));
    &[usize]: |dims| Shape::new(dims);
    Vec<usize>: |dims| Shape::new(&dims);
    usize: |length| Ok(Shape::from(length));
    (): |_scalar| Ok(Shape::SCALAR);
}

/// An axis: an integer, counted from the first axis, which is 0, or back from the last, which is -1.
///
/// ```
/// use strait::{DType, Device, Tensor};
/// let x = Tensor::ones([2, 3], DType::F32, &Device::cpu())?;
/// assert_eq!(x.sum(&[-1], false)?.to_vec::<f32>()?, [3.0, 3.0]);
/// # Ok::<(), strait::Error>(())
/// ```
pub trait Axis: Copy {
    /// The number as it was given.
    fn number(self) -> isize;

    /// The axis of this shape, counted from the first.
    ///
    /// # Errors
    /// The shape does not have it; the error is said of `op`.
    fn of(self, op: &'static str, shape: Shape) -> Result<usize> {
        let axis = self.number();
        let counted = if axis < 0 { axis + shape.rank() as isize } else { axis };
        match usize::try_from(counted) {
            Ok(counted) if counted < shape.rank() => Ok(counted),
            _ => Err(Error::AxisOutOfRange { op, axis, shape }),
        }
    }
}

impl Axis for usize {
    fn number(self) -> isize {
        isize::try_from(self).unwrap_or(isize::MAX)
    }
}

impl Axis for isize {
    fn number(self) -> isize {
        self
    }
}

impl Axis for i32 {
    fn number(self) -> isize {
        self as isize
    }
}

/// The layout of a tensor's elements in its storage: offset and strides, in elements.
///
/// Permuted, narrowed and broadcast views share storage and differ only here. A stride of 0 repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The lengths of the axes.
    pub shape: Shape,
    /// Elements to step for one index along each axis.
    pub strides: [usize; MAX_RANK],
    /// The first element.
    pub offset: usize,
}

impl Layout {
    /// Row-major from the start of the storage.
    pub fn contiguous(shape: Shape) -> Layout {
        Layout { shape, strides: shape.strides(), offset: 0 }
    }

    /// Whether the elements lie row-major without gaps (from `offset` on).
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1;
        for i in (0..self.shape.rank()).rev() {
            if self.shape[i] != 1 && self.strides[i] != step {
                return self.shape.contains(&0);
            }
            step *= self.shape[i];
        }
        true
    }

    /// This layout seen as `shape`, which it must broadcast to.
    pub fn broadcast_to(&self, shape: Shape) -> Layout {
        let mut strides = [0; MAX_RANK];
        let lead = shape.rank() - self.shape.rank();
        for i in 0..self.shape.rank() {
            strides[lead + i] = if self.shape[i] == 1 { 0 } else { self.strides[i] };
        }
        Layout { shape, strides, offset: self.offset }
    }

    /// Drops axes of length 1 and joins neighbours that `layouts` all step through as one.
    /// Returns the common shape and each layout's strides. All layouts must have the same shape.
    pub fn collapse<const N: usize>(layouts: [&Layout; N]) -> (Shape, [[usize; MAX_RANK]; N]) {
        let shape = layouts[0].shape;
        let mut out = Shape { dims: [1; MAX_RANK], rank: 0 };
        let mut strides = [[0; MAX_RANK]; N];
        for i in 0..shape.rank() {
            if shape[i] == 1 {
                continue;
            }
            let last = out.rank.wrapping_sub(1);
            let joins = out.rank > 0 && (0..N).all(|k| strides[k][last] == layouts[k].strides[i] * shape[i]);
            let at = if joins { last } else { out.rank };
            out.dims[at] = if joins { out.dims[at] * shape[i] } else { shape[i] };
            out.rank = at + 1;
            for k in 0..N {
                strides[k][at] = layouts[k].strides[i];
            }
        }
        (out, strides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        let shape = |d: &[usize]| Shape::new(d).unwrap();
        assert_eq!(shape(&[3, 1, 4]).broadcast(&shape(&[2, 1])), Some(shape(&[3, 2, 4])));
        assert_eq!(shape(&[]).broadcast(&shape(&[2, 0])), Some(shape(&[2, 0])));
        assert_eq!(shape(&[3]).broadcast(&shape(&[2])), None);
        assert!(Shape::new(&[1; 7]).is_err());
    }

    #[test]
    fn axes_count_from_either_end() {
        let shape = Shape::from([2, 3]);
        assert_eq!((0.of("op", shape).unwrap(), 1usize.of("op", shape).unwrap()), (0, 1));
        assert_eq!(((-1).of("op", shape).unwrap(), (-2isize).of("op", shape).unwrap()), (1, 0));
        assert!(2.of("op", shape).is_err() && (-3).of("op", shape).is_err() && usize::MAX.of("op", shape).is_err());
        assert!((-1).of("op", Shape::SCALAR).is_err());
        assert_eq!(vec![2, 3].into_shape().unwrap(), shape);
        assert!([0usize; 7][..].into_shape().is_err());
    }

    #[test]
    fn collapse_joins_what_is_joinable() {
        let a = Layout::contiguous(Shape::from([2, 3, 4]));
        let row = Layout::contiguous(Shape::from([4])).broadcast_to(a.shape);
        let (shape, strides) = Layout::collapse([&a, &row]);
        assert_eq!(shape.dims(), &[6, 4]);
        assert_eq!((&strides[0][..2], &strides[1][..2]), (&[4, 1][..], &[0, 1][..]));
        let (shape, _) = Layout::collapse([&a]);
        assert_eq!(shape.dims(), &[24]);
    }

    #[test]
    fn contiguity() {
        let a = Layout::contiguous(Shape::from([2, 1, 4]));
        assert!(a.is_contiguous());
        let mut b = a;
        b.strides = [1, 4, 2, 0, 0, 0];
        assert!(!b.is_contiguous());
    }
}
