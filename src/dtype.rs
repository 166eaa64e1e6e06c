//! Element types.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float, the default.
    F32,
    /// 64-bit float, for checks.
    F64,
    /// bfloat16: storage and matmul inputs; sums are made in f32.
    BF16,
    /// IEEE half: storage and matmul inputs; sums are made in f32.
    F16,
    /// 64-bit signed integer: labels and indices.
    I64,
    /// Byte: images.
    U8,
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [DType; 6] = [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I64, DType::U8];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::BF16 | DType::F16 => 2,
            DType::F32 => 4,
            DType::F64 | DType::I64 => 8,
        }
    }

    /// Whether gradients can flow through tensors of this dtype.
    pub const fn is_float(self) -> bool {
        !matches!(self, DType::I64 | DType::U8)
    }

    /// Whether this is a 16-bit float, which the CPU computes in f32.
    pub const fn is_half(self) -> bool {
        matches!(self, DType::BF16 | DType::F16)
    }

    /// The dtype of intermediate results: f32 for 16-bit floats, the dtype itself for all others.
    pub const fn wide(self) -> DType {
        if self.is_half() { DType::F32 } else { self }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::I64 => "i64",
            DType::U8 => "u8",
        })
    }
}

/// A Rust type that can be an element of a tensor.
pub trait Element: bytemuck::Pod + Send + Sync + fmt::Debug + PartialEq + 'static {
    /// The dtype of this element type.
    const DTYPE: DType;
    /// The value as f64 (exact but for large i64).
    fn to_f64(self) -> f64;
    /// The nearest value of this type; integers truncate and saturate.
    fn from_f64(value: f64) -> Self;
}

macro_rules! element {
    ($type:ty, $dtype:ident, $to:expr, $from:expr) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to(self)
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
        }
    };
}

element!(f32, F32, |v| v as f64, |v| v as f32);
element!(f64, F64, |v| v, |v| v);
element!(bf16, BF16, bf16::to_f64, |v| bf16::from_f32(round_to_odd(v)));
element!(f16, F16, f16::to_f64, |v| f16::from_f32(round_to_odd(v)));
element!(i64, I64, |v| v as f64, |v| v as i64);
element!(u8, U8, |v| v as f64, |v| v as u8);

/// `value` in f32, its last bit set where something was cut off: what is rounded again, to a type of at most 22 bits, is then as if
/// it had been rounded once. (`half`'s conversions from f64 cut off the lower 32 bits before they round.)
#[inline(always)]
fn round_to_odd(value: f64) -> f32 {
    let near = value as f32;
    let away = (near as f64).abs() > value.abs();
    let inexact = near as f64 != value && !value.is_nan();
    f32::from_bits((near.to_bits() - away as u32) | inexact as u32)
}

/// `value` in f64, its last bit set where something was cut off: the step of [`round_to_odd`] for integers beyond 2^53.
#[inline(always)]
pub(crate) fn i64_to_odd_f64(value: i64) -> f64 {
    const CUT: i64 = (1 << 11) - 1;
    let (cut, kept) = (value & CUT, value & !CUT);
    let small = value.unsigned_abs() < 1 << 53;
    (if small { value } else { kept | i64::from(cut != 0) << 11 }) as f64
}

/// Runs an expression with `$t` standing for the Rust type of a dtype.
#[macro_export]
#[doc(hidden)]
macro_rules! dispatch {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::dtype::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::dtype::DType::BF16 => {
                type $t = ::half::bf16;
                $body
            }
            $crate::dtype::DType::F16 => {
                type $t = ::half::f16;
                $body
            }
            $crate::dtype::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::dtype::DType::U8 => {
                type $t = u8;
                $body
            }
        }
    };
}

/// Runs an expression with `$t` standing for f32 or f64; kernels see no other float type.
#[macro_export]
#[doc(hidden)]
macro_rules! dispatch_float {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::dtype::DType::F32 => {
                type $t = f32;
                $body
            }
            other => unreachable!("infer() lets only floats through, not {other}"),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half<T: Element>(value: f64) -> f64 {
        T::from_f64(value).to_f64()
    }

    #[test]
    fn halves_are_rounded_once_and_to_even() {
        // just above, at and just below the middle of two neighbours
        let (low, high, tie) = (236.0 / 256.0, 237.0 / 256.0, 236.5 / 256.0);
        for step in [f64::EPSILON, f32::EPSILON as f64 / 2.0, 1e-4] {
            for sign in [1.0, -1.0] {
                let rounded = [tie - step, tie, tie + step].map(|v| half::<bf16>(sign * v));
                assert_eq!(rounded, [low, low, high].map(|v: f64| sign * v), "{step}");
            }
        }
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!([tie - 1e-15, tie, tie + 1e-15].map(half::<f16>), [1.0, 1.0, 1.0 + 2f64.powi(-10)]);
        let edges = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e-320, -1e300];
        assert_eq!(edges.map(half::<bf16>), [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY]);
        assert!(half::<f16>(f64::NAN).is_nan());
    }

    #[test]
    fn sizes_match_the_rust_types() {
        assert_eq!(DType::ALL.map(DType::size), [4, 8, 2, 2, 8, 1]);
        assert_eq!(DType::BF16.to_string(), "bf16");
        assert!(DType::F16.is_half() && DType::F16.is_float() && !DType::U8.is_float());
    }
}
