//! Constant copies: to another device, to contiguous memory, and to another dtype.

use crate::device::Device;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::elementwise;
use crate::dtype::{DType, Element, i64_to_odd_f64};
use crate::error::Result;
use crate::storage::Storage;
use crate::tensor::Tensor;

/// A constant, contiguous copy on a device.
pub(crate) fn transfer(x: &Tensor, device: Device) -> Result<Tensor> {
    fn copy<T: Element>(x: &Tensor, device: Device) -> Result<Tensor> {
        Tensor::from_vec(x.to_vec::<T>()?, x.shape(), &device)
    }
    if device.shares_memory(x.device()) {
        return convert(x, x.dtype(), device);
    }
    crate::dispatch!(x.dtype(), T => copy::<T>(x, device))
}

/// A constant, contiguous copy.
pub(crate) fn compact(x: &Tensor) -> Result<Tensor> {
    convert(x, x.dtype(), x.device())
}

/// A constant, contiguous copy converted to another dtype, rounding once, to nearest even. On the CPU detours through f64, where they
/// are exact, keep the number of loops small.
pub(crate) fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    use DType::{BF16, F16, F32, F64, I64, U8};
    match (x.dtype(), dtype) {
        (from, to) if from == to || x.device() != Device::Cpu => convert(x, to, x.device()),
        (U8 | BF16 | F16, F32) | (F32, BF16 | F16) | (F64, _) | (_, F64) => convert(x, dtype, x.device()),
        (I64, F32 | BF16 | F16) => convert(x, dtype, x.device()),
        (_, to) => convert(&convert(x, F64, x.device())?, to, x.device()),
    }
}

/// On the tensor's device, or another that shares its memory.
fn convert(x: &Tensor, dtype: DType, device: Device) -> Result<Tensor> {
    fn copy<T: Element>(x: &Tensor, out: &mut Buffer) {
        elementwise::unary(x.view::<T>(), out.as_mut_slice::<T>(), |v| v);
    }
    fn change<T: Element, U: Element>(x: &Tensor, out: &mut Buffer) {
        elementwise::unary(x.view::<T>(), out.as_mut_slice::<U>(), |v| U::from_f64(v.to_f64()));
    }
    fn narrow<U: Element>(x: &Tensor, out: &mut Buffer) {
        elementwise::unary(x.view::<i64>(), out.as_mut_slice::<U>(), |v| U::from_f64(i64_to_odd_f64(v)));
    }
    use DType::{BF16, F16, F32, F64, I64, U8};
    let mut storage = Storage::of_shape("to_dtype", device, x.shape(), dtype)?;
    match &mut storage {
        Storage::Cpu(out) => match (x.dtype(), dtype) {
            (from, to) if from == to => crate::dispatch!(to, T => copy::<T>(x, out)),
            (U8, F32) => change::<u8, f32>(x, out),
            (BF16, F32) => change::<half::bf16, f32>(x, out),
            (F16, F32) => change::<half::f16, f32>(x, out),
            (F32, BF16) => change::<f32, half::bf16>(x, out),
            (F32, F16) => change::<f32, half::f16>(x, out),
            (I64, F32) => narrow::<f32>(x, out),
            (I64, BF16) => narrow::<half::bf16>(x, out),
            (I64, F16) => narrow::<half::f16>(x, out),
            (F64, to) => crate::dispatch!(to, U => change::<f64, U>(x, out)),
            (from, F64) => crate::dispatch!(from, T => change::<T, f64>(x, out)),
            (from, to) => unreachable!("cast() goes from {from} to {to} through f64"),
        },
        Storage::Cuda(out) => crate::device::cuda::convert(out.device(), (x.ptr(), x.dtype(), x.layout()), (out.ptr(), dtype))?,
    }
    Ok(Tensor::from_storage(storage, x.shape(), dtype))
}
