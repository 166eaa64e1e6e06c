//! Rows of data in a device's memory, which steps read one batch after the other.

use crate::device::capture::is_capturing;
use crate::device::cuda::{Grid, launch};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;

const THREADS: u32 = 256;

/// Rows on a GPU, the order in which they are visited, and the position in that order. All three are in the device's memory, so that
/// captured steps advance to the next rows. Methods that set rows, order or position do nothing while steps are captured.
#[derive(Debug)]
pub struct Feed {
    rows: Tensor,
    labels: Option<Tensor>,
    order: Tensor,
    /// The number of rows of this order that were visited.
    position: Tensor,
    width: usize,
    largest: f32,
    symmetric: bool,
}

impl Feed {
    /// These rows of u8 or f32 [rows, width], with a label of i64 for each unless there are none, in their order.
    ///
    /// # Errors
    /// The tensors are not on a GPU, or have other shapes or dtypes.
    pub fn new(rows: Tensor, labels: Option<Tensor>) -> Result<Feed> {
        let device = rows.device();
        if !device.captures() {
            return Err(Error::NotOnDevice { op: "feed", device: device.to_string() });
        }
        if !matches!(rows.dtype(), DType::U8 | DType::F32) {
            return Err(Error::BadDType { op: "feed", found: rows.dtype(), expected: "rows of u8 or f32" });
        }
        let &[count, width] = rows.dims() else {
            return Err(Error::BadShape { op: "feed", shape: rows.shape(), expected: "[rows, width]" });
        };
        if let Some(labels) = &labels {
            if labels.device() != device {
                return Err(Error::MixedDevices { op: "feed", left: device.to_string(), right: labels.device().to_string() });
            }
            if labels.dtype() != DType::I64 {
                return Err(Error::BadDType { op: "feed", found: labels.dtype(), expected: "labels of i64" });
            }
            if labels.dims() != [count] {
                return Err(Error::BadShape { op: "feed", shape: labels.shape(), expected: "a label for each row" });
            }
        }
        let twice: Vec<i64> = (0..count as i64).chain(0..count as i64).collect();
        Ok(Feed {
            rows: rows.detach().contiguous()?,
            labels: labels.map(|labels| labels.detach().contiguous()).transpose()?,
            order: Tensor::from_slice(&twice, [twice.len()], &device)?,
            position: Tensor::zeros([1], DType::I64, &device)?,
            width,
            largest: 1.0,
            symmetric: false,
        })
    }

    /// Divides values by `largest` when they are read, and then maps them from [0, 1] to [-1, 1] if `symmetric`.
    pub fn scaled(self, largest: f32, symmetric: bool) -> Feed {
        Feed { largest, symmetric, ..self }
    }

    /// Writes the first rows, of f32. If the order is that of the rows, they are the next to be visited.
    ///
    /// # Errors
    /// There are more values than the rows hold, or the rows are of u8.
    pub fn fill(&self, values: &[f32]) -> Result<()> {
        if is_capturing() {
            return Ok(());
        }
        if self.rows.dtype() != DType::F32 {
            return Err(Error::BadDType { op: "feed", found: self.rows.dtype(), expected: "rows of f32" });
        }
        let new = Tensor::from_slice(values, [values.len()], &self.rows.device())?;
        self.rows.flatten(0, 1)?.narrow(0, 0, values.len())?.overwrite(&new)?;
        self.seek(0)
    }

    /// Sets the order: the indices of the first rows to visit, at most twice as many as there are, so that one epoch can follow another.
    ///
    /// # Errors
    /// The order is too long, or names a row that does not exist.
    pub fn set_order(&self, order: &[u32]) -> Result<()> {
        if is_capturing() {
            return Ok(());
        }
        let (rows, most) = (self.rows.dims()[0], self.order.element_count());
        let wrong = |index: usize, length: usize| Err(Error::IndexOutOfRange { op: "order", index: index as i64, length });
        if let Some(&index) = order.iter().find(|&&i| i as usize >= rows) {
            return wrong(index as usize, rows);
        }
        if order.len() > most {
            return wrong(order.len(), most);
        }
        let order: Vec<i64> = order.iter().map(|&i| i.into()).collect();
        self.order.narrow(0, 0, order.len())?.overwrite(&Tensor::from_slice(&order, [order.len()], &self.order.device())?)
    }

    /// Sets how many rows of the order were visited.
    pub fn seek(&self, position: usize) -> Result<()> {
        if is_capturing() {
            return Ok(());
        }
        launch::<{ kernel!("fill_u64") }, _>(self.position.gpu(), Grid::blocks(1, 1), (self.position.ptr(), position as u64, 1u64))
    }

    /// The next `count` rows [count, width] in f32 and their labels `[count]`, or `[0]` without labels. The order must have
    /// that many more; the device does not check this.
    pub fn next(&self, count: usize) -> Result<(Tensor, Tensor)> {
        let device = self.order.device();
        let empty = |shape: Shape, dtype: DType| -> Result<Tensor> {
            Ok(Tensor::from_storage(Storage::of_shape("next", device, shape, dtype)?, shape, dtype))
        };
        let x = empty([count, self.width].into(), DType::F32)?;
        let labels = empty([if self.labels.is_some() { count } else { 0 }].into(), DType::I64)?;
        let (gpu, grid) = (self.order.gpu(), Grid::over(count * self.width, THREADS));
        let arguments = (
            self.rows.ptr(),
            // Not read without labels.
            self.labels.as_ref().unwrap_or(&self.order).ptr(),
            self.order.ptr(),
            self.position.ptr(),
            x.ptr(),
            labels.ptr(),
            count as u64,
            self.width as u64,
            self.largest,
            u32::from(self.symmetric),
            u32::from(self.labels.is_some()),
        );
        match self.rows.dtype() {
            DType::U8 => launch::<{ kernel!("gather_examples_u8") }, _>(gpu, grid, arguments)?,
            _ => launch::<{ kernel!("gather_examples_f32") }, _>(gpu, grid, arguments)?,
        }
        launch::<{ kernel!("advance_u64") }, _>(gpu, Grid::blocks(1, 1), (self.position.ptr(), count as u64))?;
        Ok((x, labels))
    }
}
