//! Tensors as people read them.

use std::fmt;

use super::Tensor;
use crate::dtype::DType;

/// Tensors with more elements than this are shown without the middle of each long axis.
const WHOLE: usize = 1000;
/// Entries at either end of an axis that are shown then.
const EDGE: usize = 3;
/// Digits after the point, unless a format says otherwise.
const DIGITS: usize = 4;
/// Characters after which a row goes on in the next line.
const WIDTH: usize = 100;

/// Numbers in one notation and width.
struct Numbers {
    digits: usize,
    scientific: bool,
    integers: bool,
    width: usize,
}

impl Numbers {
    /// The notation in which all of these can be told apart from 0 and from each other's size.
    fn of(values: &[f64], dtype: DType, precision: Option<usize>) -> Numbers {
        let finite = || values.iter().map(|v| v.abs()).filter(|v| v.is_finite() && *v > 0.0);
        let (largest, smallest) = (finite().fold(0.0, f64::max), finite().fold(f64::INFINITY, f64::min));
        let whole = values.iter().all(|v| !v.is_finite() || (v.fract() == 0.0 && v.abs() < 1e8));
        let integers = !dtype.is_float();
        let scientific = !integers && !whole && (largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1e6);
        let digits = precision.unwrap_or(if whole { 0 } else { DIGITS });
        let mut numbers = Numbers { digits, scientific, integers, width: 0 };
        numbers.width = values.iter().map(|&v| numbers.one(v).len()).max().unwrap_or(0);
        numbers
    }

    fn one(&self, value: f64) -> String {
        let digits = self.digits;
        match value {
            _ if self.integers => format!("{value}"),
            _ if value.is_nan() => "nan".into(),
            _ if value.is_infinite() => if value < 0.0 { "-inf" } else { "inf" }.into(),
            _ if self.scientific => format!("{value:.digits$e}"),
            // as NumPy does: the point says that these are floats
            _ if digits == 0 => format!("{value:.0}."),
            _ => format!("{value:.digits$}"),
        }
    }
}

/// The entries of an axis that are shown, with `None` for those left out.
fn shown(length: usize, summarise: bool) -> Vec<Option<usize>> {
    if !summarise || length <= 2 * EDGE {
        return (0..length).map(Some).collect();
    }
    (0..EDGE).map(Some).chain([None]).chain((length - EDGE..length).map(Some)).collect()
}

impl Tensor {
    /// Writes the axes from `axis` on of the part whose first element is `first`.
    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        numbers: &Numbers,
        entries: &[Vec<Option<usize>>],
        values: &mut impl Iterator<Item = f64>,
    ) -> fmt::Result {
        let Some((entries, inner)) = entries.split_first() else {
            let value = values.next().unwrap_or(f64::NAN);
            return write!(f, "{:>width$}", numbers.one(value), width = numbers.width);
        };
        let indent = self.rank() - inner.len();
        f.write_str("[")?;
        let mut column = indent;
        for (i, entry) in entries.iter().enumerate() {
            if inner.is_empty() {
                let width = if entry.is_some() { numbers.width } else { 3 };
                if i > 0 {
                    f.write_str(",")?;
                    if column + width + 2 > WIDTH {
                        write!(f, "\n{:indent$}", "")?;
                        column = indent;
                    } else {
                        f.write_str(" ")?;
                    }
                }
                column += width + 2;
            } else if i > 0 {
                // an empty line more between matrices, and so on
                write!(f, ",{}{:indent$}", "\n".repeat(inner.len()), "")?;
            }
            match entry {
                Some(_) => self.write(f, numbers, inner, values)?,
                None => f.write_str("...")?,
            }
        }
        f.write_str("]")
    }
}

/// The elements in brackets, as NumPy prints them, then dtype, shape and device. `{:.2}` sets the digits after the point. Of more than 1000
/// elements the first and last three along each axis are shown. Tensors on a GPU are copied for it.
///
/// ```
/// use strait::{Device, Tensor};
/// let x = Tensor::from_slice(&[1.5f32, -20.0, 0.25, 3.0], [2, 2], &Device::cpu())?;
/// assert_eq!(format!("{x:.2}"), "[[  1.50, -20.00],\n [  0.25,   3.00]]\nf32 [2, 2] on cpu");
/// # Ok::<(), strait::Error>(())
/// ```
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summarise = self.element_count() > WHOLE;
        let entries: Vec<Vec<Option<usize>>> = self.dims().iter().map(|&length| shown(length, summarise)).collect();
        // only what is shown is copied
        let ends = |x: &Tensor, axis: usize| {
            let length = x.dims()[axis];
            if !summarise || length <= 2 * EDGE {
                return Ok(x.clone());
            }
            Tensor::concat(&[&x.narrow(axis, 0, EDGE)?, &x.narrow(axis, length - EDGE, EDGE)?], axis)
        };
        let values = (0..self.rank()).try_fold(self.detach(), |x, axis| ends(&x, axis)).and_then(|x| x.to_f64_vec());
        match values {
            Ok(values) => {
                let numbers = Numbers::of(&values, self.dtype(), f.precision());
                self.write(f, &numbers, &entries, &mut values.into_iter())?;
            }
            Err(error) => write!(f, "({error})")?,
        }
        write!(f, "\n{} {} on {}", self.dtype(), self.shape(), self.device())
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Tensor};

    fn text(values: &[f64], shape: &[usize]) -> String {
        let text = Tensor::from_slice(values, shape, &Device::cpu()).unwrap().to_string();
        text.rsplit_once('\n').unwrap().0.to_string()
    }

    #[test]
    fn numbers_stand_under_each_other() {
        assert_eq!(text(&[2.0], &[]), "2.");
        assert_eq!(text(&[1.0, -2.5, 1000.25, 0.0], &[2, 2]), "[[   1.0000,   -2.5000],\n [1000.2500,    0.0000]]");
        assert_eq!(text(&[1.0, f64::NAN, f64::NEG_INFINITY], &[3]), "[  1.,  nan, -inf]");
        assert_eq!(text(&[1e-9, -2.0], &[2]), "[1.0000e-9, -2.0000e0]");
        assert_eq!(text(&[], &[0]), "[]");
        assert_eq!(text(&[], &[2, 0]), "[[],\n []]");
        assert_eq!(text(&[1.0, 2.0, 3.0, 4.0], &[2, 2, 1]), "[[[1.],\n  [2.]],\n\n [[3.],\n  [4.]]]");
        let x = Tensor::arange(6, &Device::cpu()).unwrap().reshape([2, 3]).unwrap();
        assert_eq!(x.t().unwrap().to_string(), "[[0, 3],\n [1, 4],\n [2, 5]]\ni64 [3, 2] on cpu");
        assert_eq!(format!("{:.1}", x.to_dtype(DType::BF16).unwrap().i(0).unwrap()), "[0.0, 1.0, 2.0]\nbf16 [3] on cpu");
    }

    #[test]
    fn large_tensors_lose_their_middle_and_long_rows_go_on() {
        let x = Tensor::arange(2000, &Device::cpu()).unwrap();
        assert_eq!(x.to_string(), "[   0,    1,    2, ..., 1997, 1998, 1999]\ni64 [2000] on cpu");
        let square = x.reshape([400, 5]).unwrap().to_string();
        assert!(square.contains("\n [  10,   11,   12,   13,   14],\n ...,\n [1985, "), "{square}");
        let row = x.narrow(0, 0, 100).unwrap().to_string();
        assert!(row.lines().count() > 3 && row.lines().all(|line| line.len() <= 101), "{row}");
    }
}
