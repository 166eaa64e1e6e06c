//! The arguments of kernels: pointers, numbers and layouts, by value.

use std::ffi::c_void;

use bytemuck::NoUninit;

use super::ptx::Param;
use crate::shape::{Layout, MAX_RANK, Shape};

/// An address in a device's memory. Kernels see a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, NoUninit)]
#[repr(transparent)]
pub struct Ptr(pub(crate) u64);

impl Ptr {
    /// No address; for arguments that a kernel takes optionally.
    pub const NULL: Ptr = Ptr(0);

    /// Whether it is a multiple of `bytes`.
    pub fn is_aligned(self, bytes: u64) -> bool {
        self.0.is_multiple_of(bytes)
    }

    /// `other` if this pointer is null: tensors without elements have no address.
    pub fn or(self, other: Ptr) -> Ptr {
        if self == Ptr::NULL { other } else { self }
    }

    /// The address this many bytes further on.
    pub fn offset(self, bytes: usize) -> Ptr {
        Ptr(self.0.wrapping_add(bytes as u64))
    }
}

/// An activation as kernels take it: its number and its slope.
pub(crate) type ActivationCode = (u32, f64);

/// The layouts of N tensors of one shape, as kernels take them. Twin of `Strided` in `kernels/strided.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Strided<const N: usize> {
    /// Number of axes after joining those that can be joined; 0 for a single element.
    rank: u32,
    /// Bit k: tensor k is contiguous.
    contiguous: u32,
    shape: [u64; MAX_RANK],
    strides: [[u64; MAX_RANK]; N],
}

// SAFETY: two u32 and arrays of u64: no padding.
unsafe impl<const N: usize> NoUninit for Strided<N> {}

impl<const N: usize> Strided<N> {
    /// The joint layout of tensors that have the same shape. Offsets are not part of it: pointers include them.
    pub fn new(layouts: [&Layout; N]) -> Strided<N> {
        let (shape, strides) = Layout::collapse(layouts);
        let contiguous = layouts.iter().enumerate().fold(0, |bits, (k, layout)| bits | u32::from(layout.is_contiguous()) << k);
        let rank = shape.rank() as u32;
        Strided { rank, contiguous, shape: dims(&shape), strides: strides.map(|s| s.map(|v| v as u64)) }
    }
}

impl<const N: usize> Default for Strided<N> {
    /// Single elements.
    fn default() -> Strided<N> {
        Strided { rank: 0, contiguous: (1 << N) - 1, shape: [1; MAX_RANK], strides: [[0; MAX_RANK]; N] }
    }
}

fn dims(shape: &Shape) -> [u64; MAX_RANK] {
    let mut out = [1; MAX_RANK];
    shape.dims().iter().zip(&mut out).for_each(|(&length, o)| *o = length as u64);
    out
}

/// A value that kernels can be given.
pub trait Arg: NoUninit {
    /// The PTX declaration of a parameter of this type.
    const PARAM: Param;
}

macro_rules! arg {
    ($($type:ty = $param:expr),*) => {$(
        impl Arg for $type {
            const PARAM: Param = $param;
        }
    )*};
}

arg!(Ptr = Param::U64, u64 = Param::U64, i64 = Param::U64, u32 = Param::U32, i32 = Param::U32, f32 = Param::F32, f64 = Param::F64);

impl<const N: usize> Arg for Strided<N> {
    const PARAM: Param = Param::Bytes(size_of::<Strided<N>>());
}

/// All arguments of a launch.
pub trait Args {
    /// The types, in order.
    const PARAMS: &'static [Param];

    /// Calls `f` with the addresses of the arguments.
    fn with<R>(&self, f: impl FnOnce(&mut [*mut c_void]) -> R) -> R;
}

macro_rules! args {
    ($($name:ident)*) => {
        impl<$($name: Arg),*> Args for ($($name,)*) {
            const PARAMS: &'static [Param] = &[$($name::PARAM),*];

            #[allow(non_snake_case)]
            fn with<R>(&self, f: impl FnOnce(&mut [*mut c_void]) -> R) -> R {
                let ($($name,)*) = self;
                f(&mut [$((&raw const *$name).cast_mut().cast()),*])
            }
        }
    };
}

args!(A);
args!(A B);
args!(A B C);
args!(A B C D);
args!(A B C D E);
args!(A B C D E F);
args!(A B C D E F G);
args!(A B C D E F G H);
args!(A B C D E F G H I);
args!(A B C D E F G H I J);
args!(A B C D E F G H I J K);
args!(A B C D E F G H I J K L);
args!(A B C D E F G H I J K L M);
args!(A B C D E F G H I J K L M O);
args!(A B C D E F G H I J K L M O P);
args!(A B C D E F G H I J K L M O P Q);
