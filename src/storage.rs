//! The memory behind tensors, on whichever device it lies.

use crate::device::Device;
use crate::device::cpu::buffer::Buffer;

/// The memory of one or more tensors.
pub(crate) enum Storage {
    /// In the processor's memory.
    Cpu(Buffer),
}

impl Storage {
    pub(crate) fn device(&self) -> Device {
        match self {
            Storage::Cpu(_) => Device::Cpu,
        }
    }

    /// The buffer of a CPU storage.
    pub(crate) fn cpu(&self) -> &Buffer {
        match self {
            Storage::Cpu(buffer) => buffer,
        }
    }
}
