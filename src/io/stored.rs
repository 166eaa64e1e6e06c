//! The element types of files, which are more than those of tensors.

use std::fmt;

use half::{bf16, f16};

use crate::device::cpu::memory;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The type of a file's elements: those of tensors, and those that can be read as numbers of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// A byte of 0 or 1.
    Bool,
    /// Bytes.
    U8,
    /// Signed bytes.
    I8,
    /// 16-bit integers.
    U16,
    /// 16-bit signed integers.
    I16,
    /// 32-bit integers.
    U32,
    /// 32-bit signed integers.
    I32,
    /// 64-bit integers.
    U64,
    /// 64-bit signed integers.
    I64,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// 32-bit floats.
    F32,
    /// 64-bit floats.
    F64,
}

impl Stored {
    /// Every type, in declaration order.
    pub const ALL: [Stored; 13] = [
        Stored::Bool,
        Stored::U8,
        Stored::I8,
        Stored::U16,
        Stored::I16,
        Stored::U32,
        Stored::I32,
        Stored::U64,
        Stored::I64,
        Stored::F16,
        Stored::BF16,
        Stored::F32,
        Stored::F64,
    ];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Stored::Bool | Stored::U8 | Stored::I8 => 1,
            Stored::U16 | Stored::I16 | Stored::F16 | Stored::BF16 => 2,
            Stored::U32 | Stored::I32 | Stored::F32 => 4,
            Stored::U64 | Stored::I64 | Stored::F64 => 8,
        }
    }

    /// The type of a tensor that has these elements as they are.
    ///
    /// # Errors
    /// There is none; the error calls the tensor `name`.
    pub fn dtype(self, name: &str) -> Result<DType> {
        DType::ALL.into_iter().find(|&dtype| self == dtype.into()).ok_or_else(|| Error::BadTensor {
            name: name.into(),
            found: format!("elements of type {self}"),
            expected: DType::ALL.map(|dtype| dtype.to_string()).join(", "),
        })
    }

    /// These elements as integers, if that is what they are: booleans are 0 and 1, and what is above the largest i64 becomes that.
    pub fn integers(self, bytes: &[u8]) -> Result<Option<Vec<i64>>> {
        match self {
            Stored::Bool | Stored::U8 => convert(bytes, |[v]| v.into()),
            Stored::I8 => convert(bytes, |v| i8::from_le_bytes(v).into()),
            Stored::U16 => convert(bytes, |v| u16::from_le_bytes(v).into()),
            Stored::I16 => convert(bytes, |v| i16::from_le_bytes(v).into()),
            Stored::U32 => convert(bytes, |v| u32::from_le_bytes(v).into()),
            Stored::I32 => convert(bytes, |v| i32::from_le_bytes(v).into()),
            Stored::U64 => convert(bytes, |v| i64::try_from(u64::from_le_bytes(v)).unwrap_or(i64::MAX)),
            Stored::I64 => convert(bytes, i64::from_le_bytes),
            Stored::F16 | Stored::BF16 | Stored::F32 | Stored::F64 => return Ok(None),
        }
        .map(Some)
    }

    /// These elements in f32, if they are floats, each rounded once: the nearest, to even. Booleans are 0 and 1.
    pub fn floats(self, bytes: &[u8]) -> Result<Option<Vec<f32>>> {
        match self {
            Stored::Bool => convert(bytes, |[v]| v.into()),
            Stored::F16 => convert(bytes, |v| f16::from_le_bytes(v).to_f32()),
            Stored::BF16 => convert(bytes, |v| bf16::from_le_bytes(v).to_f32()),
            Stored::F32 => convert(bytes, f32::from_le_bytes),
            Stored::F64 => convert(bytes, |v| f64::from_le_bytes(v) as f32),
            _ => return Ok(None),
        }
        .map(Some)
    }
}

/// Elements of `N` bytes, one by one: they need not lie where a number may.
fn convert<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let mut numbers = memory::vector("elements of a file", bytes.len() / N)?;
    numbers.extend(bytes.as_chunks::<N>().0.iter().map(|&value| f(value)));
    Ok(numbers)
}

impl From<DType> for Stored {
    fn from(dtype: DType) -> Stored {
        match dtype {
            DType::F32 => Stored::F32,
            DType::F64 => Stored::F64,
            DType::BF16 => Stored::BF16,
            DType::F16 => Stored::F16,
            DType::I64 => Stored::I64,
            DType::U8 => Stored::U8,
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stored::Bool => "bool",
            Stored::U8 => "u8",
            Stored::I8 => "i8",
            Stored::U16 => "u16",
            Stored::I16 => "i16",
            Stored::U32 => "u32",
            Stored::I32 => "i32",
            Stored::U64 => "u64",
            Stored::I64 => "i64",
            Stored::F16 => "f16",
            Stored::BF16 => "bf16",
            Stored::F32 => "f32",
            Stored::F64 => "f64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_tensors_keep_name_and_size() {
        for dtype in DType::ALL {
            let stored = Stored::from(dtype);
            assert_eq!((stored.to_string(), stored.size(), stored.dtype("x").unwrap()), (dtype.to_string(), dtype.size(), dtype));
        }
        let message = Stored::I32.dtype("labels").unwrap_err().to_string();
        assert!(message.contains("tensor 'labels': found elements of type i32: expected f32, f64"), "{message}");
    }

    #[test]
    fn numbers_are_converted_exactly_or_rounded_once() {
        let minus = [0xff; 8];
        for stored in [Stored::I8, Stored::I16, Stored::I32, Stored::I64] {
            assert_eq!(stored.integers(&minus[..stored.size()]).unwrap(), Some(vec![-1]), "{stored}");
        }
        for (stored, largest) in [(Stored::U8, 255), (Stored::U16, 65535), (Stored::U32, u32::MAX.into()), (Stored::U64, i64::MAX)] {
            assert_eq!(stored.integers(&minus[..stored.size()]).unwrap(), Some(vec![largest]), "{stored}");
        }
        assert_eq!(Stored::Bool.integers(&[1, 0]).unwrap(), Some(vec![1, 0]));
        assert_eq!(Stored::F32.integers(&[0; 4]).unwrap(), None);
        assert_eq!(Stored::U8.floats(&[0]).unwrap(), None);
        // Just above the middle of 1 and the next f32, which a step through another format would round down.
        let above = 1.0 + 2f64.powi(-24) + 2f64.powi(-50);
        assert_eq!(Stored::F64.floats(&above.to_le_bytes()).unwrap(), Some(vec![1.0 + f32::EPSILON]));
        assert_eq!(Stored::F64.floats(&(1.0 + 2f64.powi(-24)).to_le_bytes()).unwrap(), Some(vec![1.0]));
        assert_eq!(Stored::F16.floats(&f16::from_f32(0.1).to_le_bytes()).unwrap(), Some(vec![f16::from_f32(0.1).to_f32()]));
        assert_eq!(Stored::BF16.floats(&bf16::from_f32(0.1).to_le_bytes()).unwrap(), Some(vec![bf16::from_f32(0.1).to_f32()]));
        assert_eq!(Stored::Bool.floats(&[0, 1]).unwrap(), Some(vec![0.0, 1.0]));
    }
}
