//! What an op is, and how calls of ops are run and recorded.

use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::elementwise;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::shape::{Layout, Shape};
use crate::tensor::{Origin, Tensor, next_id};

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
    buffer: Buffer,
}

impl Output {
    /// The elements to write, in row-major order; they hold garbage before.
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        debug_assert_eq!(T::DTYPE, self.meta.dtype);
        self.buffer.as_mut_slice()
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
    results.iter().try_for_each(|meta| meta.shape.check(kernel.name(), meta.dtype.size()))?;
    let strided = kernel.takes_strides();
    if inputs.iter().all(|t| (strided || t.layout().is_contiguous()) && !t.dtype().is_half()) && !results.iter().any(|m| m.dtype.is_half())
    {
        return run(kernel, inputs, &results);
    }
    let ready: Few<Tensor> = inputs
        .iter()
        .map(|t| {
            if t.dtype().is_half() {
                cast(t, DType::F32)
            } else if !strided && !t.layout().is_contiguous() {
                compact(t)
            } else {
                (*t).clone()
            }
        })
        .collect();
    let borrowed: Few<&Tensor> = ready.iter().collect();
    let wide: Few<Meta> = results.iter().map(|m| if m.dtype.is_half() { Meta::new(m.shape, DType::F32) } else { *m }).collect();
    let outputs = run(kernel, &borrowed, &wide)?;
    Ok(outputs.into_iter().zip(&results).map(|(t, m)| if m.dtype == t.dtype() { t } else { cast(&t, m.dtype) }).collect())
}

fn run(kernel: &(impl Kernel + ?Sized), inputs: &[&Tensor], results: &[Meta]) -> Result<Few<Tensor>> {
    let mut outputs: Few<Output> =
        results.iter().map(|&meta| Output { meta, buffer: Buffer::new(meta.shape.len() * meta.dtype.size()) }).collect();
    kernel.cpu(inputs, &mut outputs)?;
    Ok(outputs.into_iter().map(|o| Tensor::from_buffer(o.buffer, o.meta.shape, o.meta.dtype)).collect())
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
/// use strait::{Device, Result, Tensor, check};
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
/// check::gradcheck(|x| apply(Cube, &[&x[0]]), &[x], 2)?;
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
        let origin = if input.is_tracked() && meta.dtype.is_float() {
            let inputs = SmallVec::from_iter([(*input).clone()]);
            let outputs = SmallVec::from_iter([meta]);
            Origin::Output(Arc::new(Call { id: next_id(), op: Box::new(op), inputs, saved: SmallVec::new(), outputs }), 0)
        } else {
            Origin::Constant
        };
        return Ok(Tensor::new(input.storage().clone(), layout, meta.dtype, origin));
    }
    Ok(apply_many(op, inputs)?.swap_remove(0))
}

/// A constant, contiguous copy.
pub(crate) fn compact(x: &Tensor) -> Tensor {
    fn copy<T: Element>(x: &Tensor, buffer: &mut Buffer) {
        elementwise::unary(x.view::<T>(), buffer.as_mut_slice::<T>(), |v| v);
    }
    let mut buffer = Buffer::new(x.element_count() * x.dtype().size());
    crate::dispatch!(x.dtype(), T => copy::<T>(x, &mut buffer));
    Tensor::from_buffer(buffer, x.shape(), x.dtype())
}

/// A constant, contiguous copy converted to another dtype, rounding to nearest. Exact detours through f64 keep the
/// number of loops at two per dtype.
pub(crate) fn cast(x: &Tensor, dtype: DType) -> Tensor {
    fn convert<T: Element, U: Element>(x: &Tensor, dtype: DType) -> Tensor {
        let mut buffer = Buffer::new(x.element_count() * dtype.size());
        elementwise::unary(x.view::<T>(), buffer.as_mut_slice::<U>(), |v| U::from_f64(v.to_f64()));
        Tensor::from_buffer(buffer, x.shape(), dtype)
    }
    use DType::{BF16, F16, F32, F64, U8};
    match (x.dtype(), dtype) {
        (from, to) if from == to => compact(x),
        (U8, F32) => convert::<u8, f32>(x, dtype),
        (BF16, F32) => convert::<half::bf16, f32>(x, dtype),
        (F16, F32) => convert::<half::f16, f32>(x, dtype),
        (F32, BF16) => convert::<f32, half::bf16>(x, dtype),
        (F32, F16) => convert::<f32, half::f16>(x, dtype),
        (F64, to) => crate::dispatch!(to, U => convert::<f64, U>(x, to)),
        (from, F64) => crate::dispatch!(from, T => convert::<T, f64>(x, F64)),
        (_, to) => cast(&cast(x, F64), to),
    }
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
