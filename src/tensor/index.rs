//! Indexing with integers and ranges: `x.i((0, .., 2..5))`.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use super::Tensor;
use crate::error::{Error, Result};

/// An index of [`Tensor::i`] along one axis: a position, which removes the axis, or a range. Negative positions count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// One position.
    At(isize),
    /// From the first up to the second, which is left out; `None` is the end of the axis.
    Range(isize, Option<isize>),
}

impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Index {
        Index::Range(0, None)
    }
}

macro_rules! index {
    ($($type:ty),*) => {$(
        impl From<$type> for Index {
            fn from(at: $type) -> Index {
                Index::At(number(at))
            }
        }
        impl From<Range<$type>> for Index {
            fn from(range: Range<$type>) -> Index {
                Index::Range(number(range.start), Some(number(range.end)))
            }
        }
        impl From<RangeInclusive<$type>> for Index {
            fn from(range: RangeInclusive<$type>) -> Index {
                Index::Range(number(*range.start()), after(number(*range.end())))
            }
        }
        impl From<RangeFrom<$type>> for Index {
            fn from(range: RangeFrom<$type>) -> Index {
                Index::Range(number(range.start), None)
            }
        }
        impl From<RangeTo<$type>> for Index {
            fn from(range: RangeTo<$type>) -> Index {
                Index::Range(0, Some(number(range.end)))
            }
        }
        impl From<RangeToInclusive<$type>> for Index {
            fn from(range: RangeToInclusive<$type>) -> Index {
                Index::Range(0, after(number(range.end)))
            }
        }
        impl Indices for $type {
            fn each(self, f: &mut dyn FnMut(Index) -> Result<()>) -> Result<()> {
                f(self.into())
            }
        }
        ranges! { Range<$type>, RangeInclusive<$type>, RangeFrom<$type>, RangeTo<$type>, RangeToInclusive<$type> }
    )*};
}

macro_rules! ranges {
    ($($type:ty),*) => {$(
        impl Indices for $type {
            fn each(self, f: &mut dyn FnMut(Index) -> Result<()>) -> Result<()> {
                f(self.into())
            }
        }
    )*};
}

index! { usize, isize, i32 }
ranges! { RangeFull, Index }

/// No axis is longer than `isize::MAX`.
fn number(at: impl TryInto<isize>) -> isize {
    at.try_into().unwrap_or(isize::MAX)
}

/// The position after the last one of an inclusive range: after -1 is the end.
fn after(last: isize) -> Option<isize> {
    if last == -1 { None } else { Some(last.saturating_add(1)) }
}

/// The argument of [`Tensor::i`]: an integer or a range, or a tuple of up to six of them, for the first axes.
pub trait Indices {
    /// Calls `f` with the index of each axis, from the first on.
    fn each(self, f: &mut dyn FnMut(Index) -> Result<()>) -> Result<()>;
}

macro_rules! tuple {
    ($($name:ident),*) => {
        impl<$($name: Into<Index>),*> Indices for ($($name,)*) {
            #[allow(non_snake_case)]
            fn each(self, f: &mut dyn FnMut(Index) -> Result<()>) -> Result<()> {
                let ($($name,)*) = self;
                $(f($name.into())?;)*
                Ok(())
            }
        }
    };
}

tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);
tuple!(A, B, C, D, E);
tuple!(A, B, C, D, E, F);

impl Tensor {
    /// The part of this tensor at these positions and ranges of its first axes, as a view. An integer removes its axis, a range keeps it,
    /// and axes that are not named stay whole. Negative numbers count from the end of the axis.
    ///
    /// ```
    /// use strait::{Device, Tensor};
    /// let x = Tensor::arange(12, &Device::cpu())?.reshape([3, 4])?;
    /// assert_eq!(x.i(1)?.to_vec::<i64>()?, [4, 5, 6, 7]);
    /// assert_eq!(x.i((.., -1))?.to_vec::<i64>()?, [3, 7, 11]);
    /// assert_eq!(x.i((1.., 1..=2))?.to_vec::<i64>()?, [5, 6, 9, 10]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    ///
    /// # Errors
    /// There are more indices than axes; a position or an end of a range beyond the axis; a range that ends before it begins.
    pub fn i(&self, indices: impl Indices) -> Result<Tensor> {
        let (mut part, mut axis) = (self.clone(), 0);
        indices.each(&mut |index| {
            if axis >= part.rank() {
                return Err(Error::BadShape { op: "i", shape: self.shape(), expected: "as many axes as there are indices" });
            }
            let length = part.dims()[axis];
            let counted = |at: isize| if at < 0 { at + length as isize } else { at };
            match index {
                Index::At(at) => {
                    let place = usize::try_from(counted(at)).ok().filter(|&place| place < length);
                    let place = place.ok_or(Error::IndexOutOfRange { op: "i", index: at as i64, length })?;
                    part = part.narrow(axis, place, 1)?.squeeze(axis)?;
                }
                Index::Range(start, end) => {
                    let [first, last] = [counted(start), end.map_or(length as isize, counted)];
                    let beyond = |index: isize| Error::IndexOutOfRange { op: "i", index: index as i64, length };
                    let begin = usize::try_from(first).ok().filter(|&place| place <= length).ok_or(beyond(start))?;
                    let stop = usize::try_from(last).ok().filter(|&place| place <= length).ok_or(beyond(end.unwrap_or(0)))?;
                    let entries = stop.checked_sub(begin).ok_or(Error::OutOfRange {
                        op: "i",
                        name: "end of a range",
                        value: stop as f64,
                        expected: "not before its start",
                    })?;
                    part = part.narrow(axis, begin, entries)?;
                    axis += 1;
                }
            }
            Ok(())
        })?;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Result, Tensor, grad};

    // ends that count from the back look reversed
    #[allow(clippy::reversed_empty_ranges)]
    #[test]
    fn parts_are_those_of_slices() -> Result<()> {
        let x = Tensor::arange(24, &Device::cpu())?.reshape([2, 3, 4])?;
        let at = |part: Result<Tensor>| part.map(|t| (t.dims().to_vec(), t.to_vec::<i64>().unwrap())).unwrap();
        assert_eq!(at(x.i((1, 2, 3))), (vec![], vec![23]));
        assert_eq!(at(x.i((-1, -2, ..2))), (vec![2], vec![16, 17]));
        assert_eq!(at(x.i((.., 1, ..=0))), (vec![2, 1], vec![4, 16]));
        assert_eq!(at(x.i((0usize, 1usize..3, -2..))), (vec![2, 2], vec![6, 7, 10, 11]));
        assert_eq!(at(x.i((.., 3.., 0))).0, [2, 0]);
        assert_eq!(at(x.transpose(0, 2)?.i(1..=-1)).0, [3, 3, 2]);
        assert_eq!(x.i(..)?.shape(), x.shape());
        for wrong in [x.i(2), x.i(-3), x.i((0, 0, 0, 0)), x.i((.., 2..1)), x.i((.., ..4)), x.i(-3..), x.i(usize::MAX)] {
            assert!(wrong.unwrap_err().to_string().starts_with("i: "));
        }
        assert!(Tensor::zeros((), DType::F32, &Device::cpu())?.i(0).is_err());
        let leaf = Tensor::ones([2, 3], DType::F64, &Device::cpu())?.requires_grad();
        let slope = &grad(&leaf.i((1, 1..))?.sum_all()?, &[&leaf])?[0];
        assert_eq!(slope.to_vec::<f64>()?, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        Ok(())
    }
}
