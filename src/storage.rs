//! The memory behind tensors, on any device.

use crate::device::Device;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::memory;
use crate::device::cuda::CudaBuffer;
use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::shape::Shape;

/// The memory of one or more tensors.
pub(crate) enum Storage {
    /// In the processor's memory.
    Cpu(Buffer),
    /// In a GPU's memory.
    Cuda(CudaBuffer),
}

impl Storage {
    /// Memory with arbitrary contents.
    pub(crate) fn new(device: Device, bytes: usize) -> Result<Storage> {
        Ok(match device {
            Device::Cpu => Storage::Cpu(Buffer::new(bytes)?),
            Device::Cuda(gpu) => Storage::Cuda(CudaBuffer::new(gpu, bytes)?),
        })
    }

    /// Memory with arbitrary contents for the result of `op` of this shape.
    ///
    /// # Errors
    /// The device is out of memory, or no memory could hold the shape.
    pub(crate) fn of_shape(op: &'static str, device: Device, shape: Shape, dtype: DType) -> Result<Storage> {
        let bytes = memory::bytes(shape, dtype);
        let storage = match usize::try_from(bytes) {
            Ok(bytes) if bytes <= isize::MAX as usize => Storage::new(device, bytes),
            _ => Err(memory::refused(bytes)),
        };
        storage.map_err(|error| error.in_op(op, &[shape]))
    }

    /// Memory that holds these bytes.
    pub(crate) fn of(device: Device, data: &[u8]) -> Result<Storage> {
        let mut storage = Storage::new(device, data.len())?;
        match &mut storage {
            Storage::Cpu(buffer) => buffer.as_mut_slice().copy_from_slice(data),
            Storage::Cuda(buffer) => buffer.write(0, data)?,
        }
        Ok(storage)
    }

    /// Sets every element.
    pub(crate) fn fill<T: Element>(&mut self, value: T) -> Result<()> {
        match self {
            Storage::Cpu(buffer) => buffer.as_mut_slice::<T>().fill(value),
            Storage::Cuda(buffer) => buffer.fill(bytemuck::bytes_of(&value))?,
        }
        Ok(())
    }

    /// The length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Storage::Cpu(buffer) => buffer.as_slice::<u8>().len(),
            Storage::Cuda(buffer) => buffer.bytes(),
        }
    }

    /// A copy on the same device.
    pub(crate) fn copy(&self) -> Result<Storage> {
        Ok(match self {
            Storage::Cpu(buffer) => Storage::Cpu(buffer.copy()?),
            Storage::Cuda(buffer) => Storage::Cuda(buffer.copy(0, buffer.bytes())?),
        })
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
            Storage::Cuda(buffer) => Device::Cuda(buffer.device()),
        }
    }

    /// The buffer of a CPU storage.
    ///
    /// # Panics
    /// The storage is on another device.
    pub(crate) fn cpu(&self) -> &Buffer {
        match self {
            Storage::Cpu(buffer) => buffer,
            Storage::Cuda(_) => panic!("only the elements of tensors on the cpu can be looked at: move it with to_device"),
        }
    }

    /// The buffer of a CPU storage, to write.
    ///
    /// # Panics
    /// The storage is on another device.
    pub(crate) fn cpu_mut(&mut self) -> &mut Buffer {
        match self {
            Storage::Cpu(buffer) => buffer,
            Storage::Cuda(_) => panic!("only the elements of tensors on the cpu can be written"),
        }
    }

    /// The buffer of a GPU's storage.
    ///
    /// # Panics
    /// The storage is on another device.
    pub(crate) fn cuda(&self) -> &CudaBuffer {
        match self {
            Storage::Cuda(buffer) => buffer,
            Storage::Cpu(_) => panic!("a kernel of a GPU was given memory of the cpu"),
        }
    }
}
