//! The files that call NVIDIA's driver: devices, their memory, launches and graphs. Builds without the feature `cuda` have
//! `absent.rs` in their place.

mod calls;
mod counters;
mod edges;
mod event;
mod gpu;
mod graph;
mod guard;
mod launch;
mod memory;
mod order;
mod pool;
mod reading;
mod sequence;
mod waiting;

pub use gpu::{CudaDevice, devices};
pub(crate) use graph::{Capture, Graph};
pub use memory::CudaBuffer;
pub(crate) use reading::Reading;
