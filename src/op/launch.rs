//! Runs ops and records their calls for gradients.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Call, Few, Kernel, Meta, Op, Output, cast, compact, element};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::{Layout, Shape};
use crate::storage::Storage;
use crate::tensor::{Origin, Tensor, next_id};

fn check_devices(name: &'static str, inputs: &[&Tensor]) -> Result<()> {
    for pair in inputs.windows(2) {
        if pair[0].device() != pair[1].device() {
            return Err(Error::MixedDevices { op: name, left: pair[0].device().to_string(), right: pair[1].device().to_string() });
        }
    }
    Ok(())
}

/// Computes `kernel` without recording it.
pub fn launch(kernel: &(impl Kernel + ?Sized), inputs: &[&Tensor]) -> Result<Few<Tensor>> {
    check_devices(kernel.name(), inputs)?;
    let metas: Few<Meta> = inputs.iter().map(|t| Meta { shape: t.shape(), dtype: t.dtype() }).collect();
    let results = kernel.infer(&metas)?;
    let device = inputs[0].device();
    let strided = kernel.takes_strides();
    let takes_half = device != Device::Cpu && kernel.cuda_takes_half(&metas, &results);
    let widened = |dtype: DType| dtype.is_half() && !takes_half;
    if inputs.iter().all(|t| (strided || t.layout().is_contiguous()) && !widened(t.dtype())) && !results.iter().any(|m| widened(m.dtype)) {
        return run(kernel, device, inputs, &results);
    }
    let ready: Few<Tensor> = inputs
        .iter()
        .map(|t| {
            if widened(t.dtype()) {
                cast(t, DType::F32)
            } else if !strided && !t.layout().is_contiguous() {
                compact(t)
            } else {
                Ok((*t).clone())
            }
        })
        .collect::<Result<_>>()?;
    let borrowed: Few<&Tensor> = ready.iter().collect();
    let wide: Few<Meta> = results.iter().map(|m| if widened(m.dtype) { Meta::new(m.shape, DType::F32) } else { *m }).collect();
    let outputs = run(kernel, device, &borrowed, &wide)?;
    outputs.into_iter().zip(&results).map(|(t, m)| if m.dtype == t.dtype() { Ok(t) } else { cast(&t, m.dtype) }).collect()
}

fn run(kernel: &(impl Kernel + ?Sized), device: Device, inputs: &[&Tensor], results: &[Meta]) -> Result<Few<Tensor>> {
    let output = |&meta: &Meta| Ok(Output { meta, storage: Storage::of_shape(kernel.name(), device, meta.shape, meta.dtype)? });
    let mut outputs: Few<Output> = results.iter().map(output).collect::<Result<_>>()?;
    let computed = match device {
        Device::Cpu => element::checked(kernel.name(), || kernel.cpu(inputs, &mut outputs)),
        Device::Cuda(_) => kernel.cuda(inputs, &mut outputs),
    };
    computed.map_err(|error| error.in_op(kernel.name(), &inputs.iter().map(|t| t.shape()).collect::<Few<Shape>>()))?;
    Ok(outputs.into_iter().map(|o| Tensor::from_storage(o.storage, o.meta.shape, o.meta.dtype)).collect())
}

/// Runs an op with several results and records the call if an input is tracked.
pub fn apply_many(op: impl Op, inputs: &[&Tensor]) -> Result<Few<Tensor>> {
    let visible = op.visible();
    let mut results = launch(&op, inputs)?;
    let saved: Few<Tensor> = results.drain(visible..).collect();
    if !inputs.iter().any(|t| t.is_tracked()) {
        return Ok(results);
    }
    let outputs = results.iter().map(|t| Meta { shape: t.shape(), dtype: t.dtype() }).collect();
    let call = Arc::new(Call { id: next_id(), op: Box::new(op), inputs: inputs.iter().map(|&t| t.clone()).collect(), saved, outputs });
    Ok(results
        .into_iter()
        .enumerate()
        .map(|(i, t)| if t.dtype().is_float() { t.made_by(Origin::Output(call.clone(), i)) } else { t })
        .collect())
}

/// Runs an op with one result and records the call if an input is tracked. An op of your own needs nothing else:
///
/// ```
/// use strait::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
/// use strait::{DType, Device, Error, Result, Tensor, check};
///
/// /// `x^3`, for f64 alone.
/// #[derive(Debug)]
/// struct Cube;
///
/// impl Kernel for Cube {
///     fn name(&self) -> &'static str {
///         "cube"
///     }
///     fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
///         if inputs[0].dtype != DType::F64 {
///             return Err(Error::BadDType { op: "cube", found: inputs[0].dtype, expected: "f64; convert with to_dtype" });
///         }
///         Ok([inputs[0]].into_iter().collect())
///     }
///     fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
///         let x = inputs[0].slice::<f64>();
///         outputs[0].slice::<f64>().iter_mut().zip(x).for_each(|(y, x)| *y = x * x * x);
///         Ok(())
///     }
/// }
///
/// impl Op for Cube {
///     fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
///         let slope = v.inputs[0].square()?.affine(3.0, 0.0)?;
///         Ok([Some(v.cotangent().mul(&slope)?)].into_iter().collect())
///     }
/// }
///
/// let x = Tensor::from_vec(vec![0.5f64, -2.0], [2], &Device::cpu())?;
/// check::gradcheck(|x| apply(Cube, &[&x[0]]), &[x.clone()], 2)?;
/// assert!(apply(Cube, &[&x.to_dtype(DType::F32)?]).is_err());
/// # Ok::<(), strait::Error>(())
/// ```
pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Result<Tensor> {
    if let [input] = inputs
        && let Some(layout) = op.view(input.layout())
    {
        let meta = op.infer(&[Meta { shape: input.shape(), dtype: input.dtype() }])?[0];
        meta.shape.check(op.name(), meta.dtype.size())?;
        let layout = Layout { shape: meta.shape, ..layout };
        return Ok(record(op, input, Tensor::from_parts(input.storage().clone(), layout, meta.dtype, Origin::Constant)));
    }
    Ok(apply_many(op, inputs)?.swap_remove(0))
}

/// `result`, recorded as what `op` makes of `input` if that is tracked.
pub(crate) fn record(op: impl Op, input: &Tensor, result: Tensor) -> Tensor {
    if !input.is_tracked() || !result.dtype().is_float() {
        return result;
    }
    let outputs = SmallVec::from_iter([Meta { shape: result.shape(), dtype: result.dtype() }]);
    let inputs = SmallVec::from_iter([input.clone()]);
    let call = Call { id: next_id(), op: Box::new(op), inputs, saved: SmallVec::new(), outputs };
    result.made_by(Origin::Output(Arc::new(call), 0))
}
