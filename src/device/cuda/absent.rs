//! Replaces the driver in builds without the feature `cuda`. The types of a GPU and its memory have no values here, so code that uses
//! them compiles and costs nothing.
//!
//! That they have no values is private: elsewhere the compiler would call the code after their use unreachable.

use std::ffi::c_void;

use super::args::Ptr;
use super::info::CudaInfo;
use super::launch::Grid;
use crate::device::Precision;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Never {}

/// A GPU that was opened, of which there is none in this build: it has no CUDA support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CudaDevice(Never);

impl CudaDevice {
    /// # Errors
    /// Always: this build has no CUDA support.
    pub(crate) fn open(index: usize) -> Result<CudaDevice> {
        Err(Error::CudaNotBuilt { index })
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        match self.0 {}
    }

    /// The precision of products of f32 matrices.
    pub fn precision(&self) -> Precision {
        match self.0 {}
    }

    /// The same GPU, multiplying as exactly as this.
    pub fn with_precision(self, _: Precision) -> CudaDevice {
        match self.0 {}
    }

    /// The number of its multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        match self.0 {}
    }

    /// Its compute capability.
    pub fn capability(&self) -> (i32, i32) {
        match self.0 {}
    }

    /// The address of the u64 that kernels add to the numbers of their draws.
    pub fn draw_offset(&self) -> Ptr {
        match self.0 {}
    }

    pub(super) fn arrivals(&self, _: usize) -> Option<Ptr> {
        match self.0 {}
    }

    pub(crate) fn is_checked(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn check_launches(&self) {
        match self.0 {}
    }

    pub(crate) fn synchronize(&self) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn trim(&self) -> Result<()> {
        match self.0 {}
    }

    /// The properties of this GPU.
    pub fn info(&self) -> Result<CudaInfo> {
        match self.0 {}
    }

    /// # Safety
    /// As with a driver.
    pub(super) unsafe fn launch(self, _: usize, _: Grid, _: &mut [*mut c_void]) -> Result<()> {
        match self.0 {}
    }
}

/// Every GPU of this machine.
///
/// # Errors
/// Always: this build has no CUDA support.
pub fn devices() -> Result<Vec<Result<CudaInfo>>> {
    Err(Error::CudaNotBuilt { index: 0 })
}

/// Memory of a device.
pub struct CudaBuffer(Never);

impl CudaBuffer {
    /// Memory with arbitrary contents.
    pub fn new(device: CudaDevice, _: usize) -> Result<CudaBuffer> {
        match device.0 {}
    }

    /// The device that holds this memory.
    pub fn device(&self) -> CudaDevice {
        match self.0 {}
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        match self.0 {}
    }

    /// Its first byte's address.
    pub fn ptr(&self) -> Ptr {
        match self.0 {}
    }

    /// Copies the host's bytes into it, from byte `at` on.
    pub fn write(&mut self, _: usize, _: &[u8]) -> Result<()> {
        match self.0 {}
    }

    /// Copies bytes from `at` on to the host.
    pub fn read(&self, _: usize, _: &mut [u8]) -> Result<()> {
        match self.0 {}
    }

    /// Repeats this element all over it.
    pub fn fill(&mut self, _: &[u8]) -> Result<()> {
        match self.0 {}
    }

    /// A copy of its bytes from `at` on.
    pub fn copy(&self, _: usize, _: usize) -> Result<CudaBuffer> {
        match self.0 {}
    }
}

/// A capture that is under way.
pub(crate) struct Capture(Never);

impl Capture {
    pub(crate) fn begin(device: CudaDevice) -> Result<Capture> {
        match device.0 {}
    }

    pub(crate) fn finish(self, _: u64) -> Result<Graph> {
        match self.0 {}
    }
}

/// Work that was captured.
pub(crate) struct Graph(Never);

impl Graph {
    pub(crate) fn set_draw_offset(&self, _: u64) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn launch(&mut self, _: u64) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn launch_timed(&mut self, _: u64) -> Result<f32> {
        match self.0 {}
    }
}

/// Bytes on their way to the host.
pub(crate) struct Reading(Never);

impl Reading {
    pub(crate) fn new(device: CudaDevice, _: usize) -> Result<Reading> {
        match device.0 {}
    }

    pub(crate) fn bytes(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn begin(&mut self, _: &CudaBuffer) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn finish(&mut self) -> Result<&[u8]> {
        match self.0 {}
    }
}
