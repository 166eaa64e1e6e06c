//! NVIDIA GPUs.

#[cfg(feature = "emulator")]
pub mod emulator;
pub mod ptx;
