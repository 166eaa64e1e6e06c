//! Devices: where tensors live and ops run. A device is a value; there is no default and no global.

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
}

impl Device {
    /// The processor.
    pub fn cpu() -> Device {
        Device::Cpu
    }

    /// The CUDA device with this index.
    ///
    /// # Errors
    /// This build has no CUDA support.
    pub fn cuda(index: usize) -> Result<Device> {
        Err(Error::CudaNotBuilt { index })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
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
        assert!(matches!("cuda:3".parse::<Device>(), Err(Error::CudaNotBuilt { index: 3 })));
        assert!(matches!("gpu".parse::<Device>(), Err(Error::UnknownDevice { .. })));
    }
}
