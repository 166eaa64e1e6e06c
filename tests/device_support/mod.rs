//! The device that a suite runs on: `STRAIT_DEVICE`, the CPU unless it is set. A device that is not there is a failure.

use strait::Device;

pub fn device() -> Device {
    let name = std::env::var("STRAIT_DEVICE").unwrap_or_else(|_| "cpu".into());
    name.parse().unwrap_or_else(|error| panic!("STRAIT_DEVICE={name}: {error}"))
}
