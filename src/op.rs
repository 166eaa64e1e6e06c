//! The traits of an op: its shape rule, its code for each device, and its derivative rule.

mod convert;
pub(crate) mod element;
mod launch;

use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::shape::{Layout, Shape};
use crate::storage::Storage;
use crate::tensor::{Origin, Tensor};
pub(crate) use convert::{cast, compact, transfer};
pub(crate) use launch::record;
pub use launch::{apply, apply_many, launch};

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
    /// The shape and dtype of the result.
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
    #[doc(hidden)]
    pub fn ptr(&self) -> crate::device::cuda::Ptr {
        self.storage.cuda().ptr()
    }
}

/// A computation: its shape rule and its code for each device.
pub trait Kernel: Debug + Send + Sync + 'static {
    /// The name in errors, reports and tests.
    fn name(&self) -> &'static str;

    /// The results' shapes and dtypes. It rejects inputs whose shapes or dtypes do not fit;
    /// methods reject arguments that are no tensors, such as axes.
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

    /// Whether the code for GPUs reads and writes 16-bit floats of these inputs and results itself; otherwise it is run in f32.
    fn cuda_takes_half(&self, _inputs: &[Meta], _results: &[Meta]) -> bool {
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

    /// The number of results that the caller gets; those beyond are kept for [`Vjp::saved`].
    fn visible(&self) -> usize {
        1
    }
}

/// The cotangents that a derivative rule returns: one entry per input.
pub type Cotangents = Few<Option<Tensor>>;

/// All that a derivative rule may look at.
pub struct Vjp<'a> {
    /// The cotangents of the visible outputs; `None` where an output was not used.
    pub cotangents: &'a [Option<Tensor>],
    /// The inputs.
    pub inputs: &'a [Tensor],
    /// The first output, if it still exists (it does in ops with a single output).
    pub(crate) output: Option<&'a Tensor>,
    /// The tensors that the forward pass saved for the derivative.
    pub saved: &'a [Tensor],
    /// For each input, whether it needs a cotangent.
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
    /// Drops a graph iteratively: one that is 100,000 calls deep must not overflow the stack.
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
