//! A data set in the memory of a GPU, which gathers its own batches.

use super::split::{Pixels, Range, Split};
use crate::device::Device;
use crate::device::cuda::{CudaDevice, Grid, launch};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;

const THREADS: u32 = 256;

/// The examples of a split on a GPU, the order in which they are visited, and how far the visit is. All three lie in the device's
/// memory, so that captured steps go on to the next examples by themselves.
#[derive(Debug)]
pub struct Resident {
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    /// Examples of this order that were visited.
    position: Tensor,
    pixels: usize,
    largest: f32,
    range: Range,
    labelled: bool,
}

impl Resident {
    /// The examples of a split, images as they are in the file, in their order there.
    ///
    /// # Errors
    /// The GPU is out of memory.
    pub fn new(split: &Split, range: Range, gpu: CudaDevice) -> Result<Resident> {
        let (device, count) = (Device::Cuda(gpu), split.len());
        let labels = if split.labels().is_empty() { vec![0; count] } else { split.labels().to_vec() };
        let images = match split.images() {
            Pixels::U8(values) => Tensor::from_slice(values, [values.len()], &device)?,
            Pixels::F32(values) => Tensor::from_slice(values, [values.len()], &device)?,
        };
        Ok(Resident {
            pixels: images.element_count() / count,
            images,
            labels: Tensor::from_slice(&labels, [count], &device)?,
            order: Tensor::zeros([count], DType::I64, &device)?,
            position: Tensor::zeros([1], DType::I64, &device)?,
            largest: f32::from(split.max_value()),
            range,
            labelled: !split.labels().is_empty(),
        })
    }

    /// Room for rows of this width without labels, which [`Resident::fill`] writes.
    ///
    /// # Errors
    /// The GPU is out of memory.
    pub fn rows(count: usize, width: usize, gpu: CudaDevice) -> Result<Resident> {
        let device = Device::Cuda(gpu);
        let order: Vec<i64> = (0..count as i64).collect();
        Ok(Resident {
            pixels: width,
            images: Tensor::zeros([count * width], DType::F32, &device)?,
            labels: Tensor::zeros([1], DType::I64, &device)?,
            order: Tensor::from_slice(&order, [count], &device)?,
            position: Tensor::zeros([1], DType::I64, &device)?,
            largest: 1.0,
            range: Range::Unit,
            labelled: false,
        })
    }

    /// Writes the first rows of [`Resident::rows`], which are next then.
    ///
    /// # Errors
    /// There are more values than room; the device fails.
    pub fn fill(&self, values: &[f32]) -> Result<()> {
        let new = Tensor::from_slice(values, [values.len()], &self.images.device())?;
        self.images.narrow(0, 0, values.len())?.overwrite(&new)?;
        self.set_position(0)
    }

    /// Sets the order: different examples, all of them or the first ones that there will be.
    ///
    /// # Errors
    /// It is longer than the data set, or names an example that is not there; the device fails.
    pub fn set_order(&self, order: &[u32]) -> Result<()> {
        let count = self.order.element_count();
        let wrong = |index: u32| Err(Error::IndexOutOfRange { op: "order", index: index.into(), length: count });
        if let Some(&index) = order.iter().find(|&&i| i as usize >= count) {
            return wrong(index);
        }
        if order.len() > count {
            return wrong(order.len() as u32);
        }
        let order: Vec<i64> = order.iter().map(|&i| i.into()).collect();
        self.order.narrow(0, 0, order.len())?.overwrite(&Tensor::from_slice(&order, [order.len()], &self.order.device())?)
    }

    /// Sets how many examples of the order were visited.
    ///
    /// # Errors
    /// The device fails.
    pub fn set_position(&self, position: usize) -> Result<()> {
        launch::<{ kernel!("fill_u64") }, _>(self.position.gpu(), Grid::blocks(1, 1), (self.position.ptr(), position as u64, 1u64))
    }

    /// The next `rows` examples: images [rows, pixels] in f32 and labels `[rows]`, or `[0]` without labels. They must be left in the
    /// order, which the device does not check.
    ///
    /// # Errors
    /// The device fails.
    pub fn next(&self, rows: usize) -> Result<(Tensor, Tensor)> {
        let device = self.order.device();
        let empty = |shape: Shape, dtype: DType| -> Result<Tensor> {
            Ok(Tensor::from_storage(Storage::of_shape("next", device, shape, dtype)?, shape, dtype))
        };
        let x = empty([rows, self.pixels].into(), DType::F32)?;
        let labels = empty([if self.labelled { rows } else { 0 }].into(), DType::I64)?;
        let (grid, symmetric) = (Grid::over(rows * self.pixels, THREADS), u32::from(self.range == Range::Symmetric));
        let from = (self.images.ptr(), self.labels.ptr(), self.order.ptr(), self.position.ptr());
        let gpu = self.order.gpu();
        let args = (
            from.0,
            from.1,
            from.2,
            from.3,
            x.ptr(),
            labels.ptr(),
            rows as u64,
            self.pixels as u64,
            self.largest,
            symmetric,
            u32::from(self.labelled),
        );
        match self.images.dtype() {
            DType::U8 => launch::<{ kernel!("gather_examples_u8") }, _>(gpu, grid, args)?,
            _ => launch::<{ kernel!("gather_examples_f32") }, _>(gpu, grid, args)?,
        }
        launch::<{ kernel!("advance_u64") }, _>(gpu, Grid::blocks(1, 1), (self.position.ptr(), rows as u64))?;
        Ok((x, labels))
    }
}
