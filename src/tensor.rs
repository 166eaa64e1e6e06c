//! Tensors: immutable, cheap to clone, and, if they are tracked, with a record of the op that made them.
//!
//! A tensor and the op that made it know each other, so this module and [`crate::op`] are one layer.

mod display;
mod index;
mod nested;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::Device;
use crate::device::cpu::memory;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::op::Call;
use crate::shape::{IntoShape, Layout, Shape};
use crate::storage::Storage;
pub use index::{Index, Indices};
pub use nested::Nested;

/// An n-dimensional array. Cloning shares it; nothing ever changes its elements.
///
/// ```
/// use strait::{Device, Tensor};
/// let x = Tensor::from_vec(vec![1f32, 2.0, 3.0, 4.0], [2, 2], &Device::cpu())?;
/// let y = x.matmul(&x.t()?)?;
/// assert_eq!(y.to_vec::<f32>()?, [5.0, 11.0, 11.0, 25.0]);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor(Arc<Node>);

struct Node {
    id: u64,
    dtype: DType,
    layout: Layout,
    storage: Arc<Storage>,
    origin: Origin,
}

/// The origin of a tensor, as far as gradients need it.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Data: no gradient flows to or through it.
    Constant,
    /// A tensor that gradients can be taken with respect to.
    Leaf,
    /// An output of a recorded call.
    Output(Arc<Call>, usize),
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number larger than all before: later tensors have larger ids, so descending ids are a reverse
/// topological order of every graph.
pub(crate) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl Tensor {
    pub(crate) fn from_parts(storage: Arc<Storage>, layout: Layout, dtype: DType, origin: Origin) -> Tensor {
        Tensor(Arc::new(Node { id: next_id(), dtype, layout, storage, origin }))
    }

    /// A constant whose elements are all of this memory, in row-major order.
    pub(crate) fn from_storage(storage: Storage, shape: Shape, dtype: DType) -> Tensor {
        Tensor::from_parts(Arc::new(storage), Layout::contiguous(shape), dtype, Origin::Constant)
    }

    /// A tensor of these elements, in row-major order.
    ///
    /// # Errors
    /// The number of elements is not that of the shape.
    pub fn from_slice<T: Element>(data: &[T], shape: impl IntoShape, device: &Device) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        if data.len() != shape.len() {
            return Err(Error::WrongLength { op: "from_slice", found: data.len(), shape });
        }
        let storage = Storage::of(*device, bytemuck::cast_slice(data)).map_err(|error| error.in_op("from_slice", &[shape]))?;
        Ok(Tensor::from_storage(storage, shape, T::DTYPE))
    }

    /// A tensor of elements that lie in these bytes, in row-major order.
    ///
    /// # Errors
    /// The number of bytes is not that of the shape.
    pub(crate) fn from_bytes(bytes: &[u8], shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        if bytes.len() != shape.len() * dtype.size() {
            return Err(Error::WrongLength { op: "from_bytes", found: bytes.len() / dtype.size(), shape });
        }
        let storage = Storage::of(*device, bytes).map_err(|error| error.in_op("from_bytes", &[shape]))?;
        Ok(Tensor::from_storage(storage, shape, dtype))
    }

    /// A tensor of these elements, in row-major order. They are copied into memory that is aligned and recycled as the CPU's loops need it.
    ///
    /// # Errors
    /// The number of elements is not that of the shape.
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl IntoShape, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&data, shape, device)
    }

    /// A tensor whose elements all have the same value.
    pub fn full(value: f64, shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        let mut storage = Storage::of_shape("full", *device, shape, dtype)?;
        // not T::from_f64, which for 16-bit floats is a function of `half` that rounds twice
        crate::dispatch!(dtype, T => storage.fill::<T>(<T as Element>::from_f64(value))?);
        Ok(Tensor::from_storage(storage, shape, dtype))
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::full(0.0, shape, dtype, device)
    }

    /// A tensor of ones.
    pub fn ones(shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::full(1.0, shape, dtype, device)
    }

    /// A constant of this tensor's shape, dtype and device.
    pub fn full_like(&self, value: f64) -> Result<Tensor> {
        Tensor::full(value, self.shape(), self.dtype(), &self.device())
    }

    /// Zeros of this tensor's shape, dtype and device.
    pub fn zeros_like(&self) -> Result<Tensor> {
        self.full_like(0.0)
    }

    /// Ones of this tensor's shape, dtype and device.
    pub fn ones_like(&self) -> Result<Tensor> {
        self.full_like(1.0)
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> Shape {
        self.0.layout.shape
    }

    /// The lengths of the axes, as a slice.
    pub fn dims(&self) -> &[usize] {
        self.0.layout.shape.dims()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.layout.shape.rank()
    }

    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.shape().len()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The device that holds the elements.
    pub fn device(&self) -> Device {
        self.0.storage.device()
    }

    /// Whether gradients flow to or through this tensor.
    pub fn is_tracked(&self) -> bool {
        !matches!(self.0.origin, Origin::Constant)
    }

    /// The same elements as a new leaf: a tensor that gradients can be taken with respect to.
    pub fn requires_grad(&self) -> Tensor {
        self.with_origin(Origin::Leaf)
    }

    /// The same elements as a constant: no gradient flows through it.
    pub fn detach(&self) -> Tensor {
        if self.is_tracked() { self.with_origin(Origin::Constant) } else { self.clone() }
    }

    /// This tensor, made by a call; a fresh one is changed in place.
    pub(crate) fn made_by(mut self, origin: Origin) -> Tensor {
        match Arc::get_mut(&mut self.0) {
            Some(node) => {
                node.origin = origin;
                self
            }
            None => self.with_origin(origin),
        }
    }

    fn with_origin(&self, origin: Origin) -> Tensor {
        Tensor::from_parts(self.0.storage.clone(), self.0.layout, self.0.dtype, origin)
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The origin, if this was the last reference to the tensor; for dropping graphs without recursion.
    pub(crate) fn into_origin(self) -> Option<Origin> {
        Arc::into_inner(self.0).map(|node| node.origin)
    }

    /// This tensor in memory that nothing else holds: its own if nothing does, else a copy.
    ///
    /// # Errors
    /// A copy is needed in a capture, whose replays would not find it.
    pub(crate) fn unshared(self) -> Result<Tensor> {
        if self.is_shared() && crate::device::capture::is_capturing() {
            let what = "a change of weights that something else holds, such as a loss that should be dropped before,";
            return Err(Error::Capture { op: "optimizer", what: what.into() });
        }
        let (shape, dtype) = (self.shape(), self.dtype());
        Ok(Tensor::from_storage(self.into_storage()?, shape, dtype))
    }

    /// Whether something else holds this tensor or shares its memory.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1 || Arc::strong_count(&self.0.storage) > 1
    }

    /// Writes the elements of another tensor of this shape, converted, into this tensor's own memory on a GPU. Only for memory that
    /// nothing else holds.
    pub(crate) fn overwrite(&self, source: &Tensor) -> Result<()> {
        if self.ptr() == source.ptr() {
            return Ok(());
        }
        crate::device::cuda::convert(self.gpu(), (source.ptr(), source.dtype(), source.layout()), (self.ptr(), self.dtype()))
    }

    /// Becomes another tensor of this shape and dtype: on a GPU in the memory where this one is, unless something else holds it, because
    /// captured steps look for it there.
    ///
    /// # Errors
    /// In a capture, something else holds this tensor.
    pub(crate) fn assign(&mut self, value: &Tensor) -> Result<()> {
        if let (Device::Cuda(_), true) = (self.device(), self.device() == value.device()) {
            if !self.is_shared() {
                return self.overwrite(value);
            }
            *self = value.detach().unshared()?;
            return Ok(());
        }
        *self = value.detach();
        Ok(())
    }

    /// The elements as memory to write: this tensor's own if nothing else holds it, else a copy.
    pub(crate) fn into_storage(self) -> Result<Storage> {
        let bytes = self.element_count() * self.dtype().size();
        if !self.layout().is_contiguous() || self.0.storage.bytes() != bytes {
            return crate::op::compact(&self)?.into_storage();
        }
        match Arc::try_unwrap(self.0).map(|node| Arc::try_unwrap(node.storage)) {
            Ok(Ok(storage)) => Ok(storage),
            Ok(Err(storage)) => storage.copy(),
            Err(node) => node.storage.copy(),
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.0.storage
    }

    /// The storage's elements (all of them) and the layout that says which are this tensor's. For kernels.
    ///
    /// # Panics
    /// `T` is not the element type.
    pub fn view<T: Element>(&self) -> (&[T], &Layout) {
        crate::op::element::check(T::DTYPE, self.dtype());
        (self.0.storage.cpu().as_slice(), &self.0.layout)
    }

    /// The elements of a contiguous tensor. For kernels, whose inputs are contiguous unless they say otherwise.
    ///
    /// # Panics
    /// The tensor is not contiguous, or `T` is not its element type.
    pub fn slice<T: Element>(&self) -> &[T] {
        assert!(self.layout().is_contiguous(), "only contiguous tensors are slices");
        let (data, layout) = self.view::<T>();
        &data[layout.offset..layout.offset + layout.shape.len()]
    }

    /// The address of the first element on a GPU. For kernels.
    ///
    /// # Panics
    /// The tensor is not on one.
    #[doc(hidden)]
    pub fn ptr(&self) -> crate::device::cuda::Ptr {
        self.0.storage.cuda().ptr().offset(self.0.layout.offset * self.dtype().size())
    }

    /// The GPU that the tensor is on. For kernels.
    ///
    /// # Panics
    /// The tensor is not on one.
    #[doc(hidden)]
    pub fn gpu(&self) -> crate::device::cuda::CudaDevice {
        self.0.storage.cuda().device()
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype() {
            return Err(Error::BadDType {
                op: "to_vec",
                found: self.dtype(),
                expected: "the element type asked for; convert with to_dtype",
            });
        }
        let x = self.detach().contiguous()?;
        match x.storage().as_ref() {
            Storage::Cpu(_) => {
                let mut out = memory::vector("to_vec", x.element_count())?;
                out.extend_from_slice(x.slice::<T>());
                Ok(out)
            }
            Storage::Cuda(buffer) => {
                let mut out = memory::filled("to_vec", T::from_f64(0.0), x.element_count())?;
                buffer.read(x.layout().offset * size_of::<T>(), bytemuck::cast_slice_mut(&mut out))?;
                Ok(out)
            }
        }
    }

    /// The elements in row-major order, converted to f64.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        self.detach().to_dtype(DType::F64)?.to_vec()
    }

    /// The value of a tensor with one element, as f64.
    ///
    /// # Errors
    /// The tensor does not have exactly one element.
    pub fn item(&self) -> Result<f64> {
        if self.element_count() != 1 {
            return Err(Error::BadShape { op: "item", shape: self.shape(), expected: "one element" });
        }
        Ok(self.to_f64_vec()?[0])
    }

    /// The op that made this tensor, if it is tracked and not a leaf.
    pub fn op_name(&self) -> Option<&'static str> {
        match &self.0.origin {
            Origin::Output(call, _) => Some(call.op.name()),
            _ => None,
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {}", self.dtype(), self.shape(), self.device())?;
        if let Some(op) = self.op_name() {
            write!(f, ", from {op}")?;
        }
        if let Ok(values) = self.to_f64_vec() {
            let shown = values.len().min(8);
            write!(f, ": {:?}{}", &values[..shown], if shown < values.len() { " ..." } else { "" })?;
        }
        f.write_str(")")
    }
}
