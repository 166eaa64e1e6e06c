//! The GPU of unit tests.

use super::CudaDevice;
use crate::device::Device;

/// The first GPU; without one a test has nothing to say, unless `STRAIT_REQUIRE_GPU=1` says that there must be one.
pub(super) fn gpu() -> Option<CudaDevice> {
    match Device::cuda(0) {
        Ok(Device::Cuda(gpu)) => Some(gpu),
        Err(error) if std::env::var_os("STRAIT_REQUIRE_GPU").is_some_and(|v| v == "1") => panic!("{error}"),
        _ => None,
    }
}
