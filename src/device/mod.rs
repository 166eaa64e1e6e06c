//! Devices: where tensors live and ops run. A device is a value; there is no default and no global.

pub mod capture;
pub(crate) mod cpu;
pub mod cuda;
mod precision;

pub use precision::Precision;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A device that holds tensors and computes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor and its memory.
    Cpu,
    /// An NVIDIA GPU; [`Device::cuda`] opens it. Builds without the feature `cuda` have none.
    Cuda(cuda::CudaDevice),
}

impl Device {
    /// The processor.
    pub fn cpu() -> Device {
        Device::Cpu
    }

    /// The CUDA device with this index, opened.
    ///
    /// # Errors
    /// This build has no CUDA support; there is no driver, or one that is too old for the kernels; there is no such GPU, or it is too
    /// old.
    pub fn cuda(index: usize) -> Result<Device> {
        cuda::CudaDevice::open(index).map(Device::Cuda)
    }

    /// This device, multiplying matrices and convolving images of f32 in this precision. Another device than in other precisions, though tensors of both lie
    /// in one memory: operands of both are an error. The CPU multiplies in full, whatever is asked.
    ///
    /// ```
    /// # use strait::{Device, device::Precision};
    /// # fn example() -> strait::Result<()> {
    /// let device = Device::cuda(0)?.with_precision(Precision::Tf32);
    /// assert_eq!(device, "cuda:0/tf32".parse()?);
    /// # Ok(()) }
    /// ```
    pub fn with_precision(self, precision: Precision) -> Device {
        match self {
            Device::Cpu => Device::Cpu,
            Device::Cuda(gpu) => Device::Cuda(gpu.with_precision(precision)),
        }
    }

    /// The precision in which it multiplies matrices and convolves images of f32.
    pub fn precision(self) -> Precision {
        match self {
            Device::Cpu => Precision::F32,
            Device::Cuda(gpu) => gpu.precision(),
        }
    }

    /// Whether both keep their tensors in one memory.
    pub(crate) fn shares_memory(self, other: Device) -> bool {
        self.with_precision(Precision::F32) == other.with_precision(Precision::F32)
    }

    /// Enables checked mode for all of the process: the GPU waits for every kernel after its launch, so that a fault is reported by
    /// the op that caused it, and so is a kernel that writes outside of the memory of a tensor. Slow; for debugging. On the CPU nothing
    /// changes.
    pub fn checked(self) -> Device {
        if let Device::Cuda(gpu) = self {
            gpu.check_launches();
        }
        self
    }

    /// Whether [`Device::checked`] was called.
    pub fn is_checked(self) -> bool {
        match self {
            Device::Cpu => false,
            Device::Cuda(gpu) => gpu.is_checked(),
        }
    }

    /// Gives memory that no tensor uses back to the system.
    pub fn release_unused(self) -> Result<()> {
        match self {
            Device::Cpu => {
                cpu::recycled::release_unused();
                Ok(())
            }
            Device::Cuda(gpu) => gpu.trim(),
        }
    }

    /// Waits until everything that was asked of the device is done. On the CPU it always is.
    pub fn synchronize(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Cuda(gpu) => gpu.synchronize(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(gpu) => match gpu.precision() {
                Precision::F32 => write!(f, "cuda:{}", gpu.index()),
                precision => write!(f, "cuda:{}/{precision}", gpu.index()),
            },
        }
    }
}

impl FromStr for Device {
    type Err = Error;
    fn from_str(name: &str) -> Result<Device> {
        let unknown = || Error::UnknownDevice { name: name.into() };
        let (device, precision) = match name.split_once('/') {
            Some((device, precision)) => (device, Precision::named(precision).ok_or_else(unknown)?),
            None => (name, Precision::default()),
        };
        let device = match device.split_once(':') {
            None if name == "cpu" => Device::Cpu,
            None if device == "cuda" => Device::cuda(0)?,
            Some(("cuda", index)) => Device::cuda(index.parse().map_err(|_| unknown())?)?,
            _ => return Err(unknown()),
        };
        Ok(device.with_precision(precision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse() {
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::cpu());
        assert!("cuda:3000".parse::<Device>().unwrap_err().to_string().starts_with("device: cuda:3000 is not available"));
        for wrong in ["gpu", "cuda:one", "cuda:0/f16", "cuda:0/", "cpu/tf32"] {
            assert!(matches!(wrong.parse::<Device>(), Err(Error::UnknownDevice { .. })), "{wrong}");
        }
    }
}
