//! Devices: where tensors live and ops run. A device is a value; there is no default and no global.

pub mod capture;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Where a tensor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor and its memory.
    Cpu,
    /// A GPU of NVIDIA's; [`Device::cuda`] opens it.
    #[cfg(feature = "cuda")]
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
    #[cfg(feature = "cuda")]
    pub fn cuda(index: usize) -> Result<Device> {
        cuda::CudaDevice::open(index).map(Device::Cuda)
    }

    /// The CUDA device with this index, opened.
    ///
    /// # Errors
    /// This build has no CUDA support.
    #[cfg(not(feature = "cuda"))]
    pub fn cuda(index: usize) -> Result<Device> {
        Err(Error::CudaNotBuilt { index })
    }

    /// This device, which from now on (for all of the process) waits for every kernel after its launch: a fault is then reported by
    /// the op that made it. Slow; for debugging. On the CPU nothing changes.
    pub fn checked(self) -> Device {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(gpu) = self {
            gpu.check_launches();
        }
        self
    }

    /// Whether [`Device::checked`] was called.
    pub fn is_checked(self) -> bool {
        match self {
            Device::Cpu => false,
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => gpu.is_checked(),
        }
    }

    /// Gives memory that no tensor uses back to the system.
    ///
    /// # Errors
    /// The device fails.
    pub fn release_unused(self) -> Result<()> {
        match self {
            Device::Cpu => {
                cpu::buffer::release_unused();
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => gpu.trim(),
        }
    }

    /// Waits until everything that was asked of the device is done. On the CPU it always is.
    ///
    /// # Errors
    /// A kernel failed.
    pub fn synchronize(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => gpu.synchronize(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => write!(f, "cuda:{}", gpu.index()),
        }
    }
}

impl FromStr for Device {
    type Err = Error;
    fn from_str(name: &str) -> Result<Device> {
        match name.split_once(':') {
            None if name == "cpu" => Ok(Device::Cpu),
            None if name == "cuda" => Device::cuda(0),
            Some(("cuda", index)) => match index.parse() {
                Ok(index) => Device::cuda(index),
                Err(_) => Err(Error::UnknownDevice { name: name.into() }),
            },
            _ => Err(Error::UnknownDevice { name: name.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse() {
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::cpu());
        assert!("cuda:3000".parse::<Device>().unwrap_err().to_string().starts_with("device: cuda:3000 is not available"));
        assert!(matches!("gpu".parse::<Device>(), Err(Error::UnknownDevice { .. })));
    }
}
