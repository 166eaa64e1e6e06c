//! What an op is, and how calls of ops are run and recorded.

mod convert;
pub(crate) mod element;

use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::shape::{Layout, Shape};
use crate::storage::Storage;
use crate::tensor::{Origin, Tensor, next_id};
pub(crate) use convert::{cast, compact, transfer};

/// Shape and dtype of a tensor: what an op decides on before anything is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The lengths of the axes.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
}

impl Meta {
    /// A shape and a dtype.
    pub fn new(shape: impl Into<Shape>, dtype: DType) -> Meta {
        Meta { shape: shape.into(), dtype }
    }
}

/// A few of something: most calls have at most three inputs and one output.
pub type Few<T> = SmallVec<[T; 3]>;

/// Memory that a kernel writes one of its results to.
pub struct Output {
    /// What the result is.
    pub meta: Meta,
    storage: Storage,
}

impl Output {
    /// The elements to write, in row-major order; they hold garbage before.
    ///
    /// # Panics
    /// `T` is not the element type; within [`Kernel::cpu`] that becomes [`Error::WrongElement`] of the op.
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        element::check(T::DTYPE, self.meta.dtype);
        self.storage.cpu_mut().as_mut_slice()
    }

    /// The address of the first element on a GPU.
    pub fn ptr(&self) -> crate::device::cuda::Ptr {
        self.storage.cuda().ptr()
    }
}

/// A computation: its shape rule and its code for each device.
pub trait Kernel: Debug + Send + Sync + 'static {
    /// The name in errors, reports and tests.
    fn name(&self) -> &'static str;

    /// The results' shapes and dtypes. The only place that rejects inputs for their shapes and dtypes.
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>>;

    /// Whether the code follows strides; otherwise inputs are made contiguous first.
    fn takes_strides(&self) -> bool {
        false
    }

    /// Computes on the CPU. 16-bit floats never arrive here: they are computed in f32.
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()>;

    /// Computes on a GPU, by launching kernels on the stream of its inputs' device (`inputs[0].gpu()`). 16-bit floats arrive here only
    /// if [`Kernel::cuda_takes_half`] says so.
    ///
    /// # Errors
    /// The device fails. Ops without code for GPUs: [`Error::NotOnDevice`].
    fn cuda(&self, inputs: &[&Tensor], _outputs: &mut [Output]) -> Result<()> {
        Err(Error::NotOnDevice { op: self.name(), device: inputs[0].device().to_string() })
    }

    /// Whether the code for GPUs reads and writes 16-bit floats itself; otherwise it is run in f32.
    fn cuda_takes_half(&self) -> bool {
        false
    }
}

/// A differentiable computation. There is no op without a derivative rule.
pub trait Op: Kernel {
    /// The cotangents of the inputs, from those of the outputs. `None` where the input does not need one, or has none.
    /// The rule is written in tensor ops, so it can be differentiated in turn.
    fn vjp(&self, v: &Vjp) -> Result<Cotangents>;

    /// For ops that only look at their input in another way: the layout of the result in the input's storage.
    fn view(&self, _input: &Layout) -> Option<Layout> {
        None
    }

    /// How many results are results; those beyond are kept for [`Vjp::saved`].
    fn visible(&self) -> usize {
        1
    }
}

/// What a derivative rule returns: one entry per input.
pub type Cotangents = Few<Option<Tensor>>;

/// All that a derivative rule may look at.
pub struct Vjp<'a> {
    /// The cotangents of the visible outputs; `None` where an output was not used.
    pub cotangents: &'a [Option<Tensor>],
    /// The inputs.
    pub inputs: &'a [Tensor],
    /// The first output, if it still exists (it does in ops with a single output).
    pub(crate) output: Option<&'a Tensor>,
    /// What the forward pass kept.
    pub saved: &'a [Tensor],
    /// Which inputs need a cotangent.
    pub needs: &'a [bool],
    /// Whether the result will be differentiated again: fused backward kernels then give way to composed ops.
    pub differentiable: bool,
}

impl Vjp<'_> {
    /// The cotangent of the only output.
    pub fn cotangent(&self) -> &Tensor {
        self.cotangents[0].as_ref().expect("the output of a single-output call is what was differentiated")
    }

    /// The result of the call.
    pub fn output(&self) -> &Tensor {
        self.output.expect("only rules of single-output ops look at the output")
    }

    /// The cotangent of input `index` if it is needed.
    pub fn when(&self, index: usize, f: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
        if self.needs[index] { f().map(Some) } else { Ok(None) }
    }
}

/// A recorded call: the op and what went into it.
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) op: Box<dyn Op>,
    pub(crate) inputs: Few<Tensor>,
    pub(crate) saved: Few<Tensor>,
    pub(crate) outputs: Few<Meta>,
}

impl Drop for Call {
    /// Takes a graph apart iteratively: one that is 100,000 calls deep must not overflow the stack.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.inputs);
        while let Some(tensor) = pending.pop() {
            if let Some(Origin::Output(call, _)) = tensor.into_origin()
                && let Some(mut call) = Arc::into_inner(call)
            {
                pending.extend(std::mem::take(&mut call.inputs));
            }
        }
    }
}

fn check_devices(name: &'static str, inputs: &[&Tensor]) -> Result<()> {
    for pair in inputs.windows(2) {
        if pair[0].device() != pair[1].device() {
            return Err(Error::MixedDevices { op: name, left: pair[0].device().to_string(), right: pair[1].device().to_string() });
        }
    }
    Ok(())
}

/// Computes `kernel` without recording it.
///
/// # Errors
/// The inputs are on different devices; those of the kernel.
pub fn launch(kernel: &(impl Kernel + ?Sized), inputs: &[&Tensor]) -> Result<Few<Tensor>> {
    check_devices(kernel.name(), inputs)?;
    let metas: Few<Meta> = inputs.iter().map(|t| Meta { shape: t.shape(), dtype: t.dtype() }).collect();
    let results = kernel.infer(&metas)?;
    let device = inputs[0].device();
    let strided = kernel.takes_strides();
    let takes_half = device != Device::Cpu && kernel.cuda_takes_half();
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
///
/// # Errors
/// The inputs are on different devices; those of the op.
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
///
/// # Errors
/// The inputs are on different devices; those of the op.
pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Result<Tensor> {
    if let [input] = inputs
        && let Some(layout) = op.view(input.layout())
    {
        let meta = op.infer(&[Meta { shape: input.shape(), dtype: input.dtype() }])?[0];
        meta.shape.check(op.name(), meta.dtype.size())?;
        let layout = Layout { shape: meta.shape, ..layout };
        return Ok(record(op, input, Tensor::new(input.storage().clone(), layout, meta.dtype, Origin::Constant)));
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
