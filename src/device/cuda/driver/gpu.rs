//! GPUs: finding them, opening them once, and what is kept for each.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock, RwLockReadGuard};
use std::thread::ThreadId;

use cudarc::driver::sys;

use super::calls::{Handle, attribute, check, describe, load_module, present};
use super::counters::Counters;
use super::order::Order;
use super::pool::Pool;
use super::waiting::Waiting;
use crate::device::cuda::args::Ptr;
use crate::device::cuda::info::CudaInfo;
use crate::device::cuda::ptx::{CUDA_VERSION, ENTRIES, MODULES};
use crate::device::{Precision, capture};
use crate::error::{Error, Result};

/// The least compute capability that the kernels are compiled for.
const CAPABILITY: (i32, i32) = (8, 0);

/// A GPU that was opened, and how exactly it multiplies. There is one GPU for each index in a process, and it stays open.
#[derive(Clone, Copy)]
pub struct CudaDevice(pub(super) &'static Gpu, Precision);

impl PartialEq for CudaDevice {
    fn eq(&self, other: &CudaDevice) -> bool {
        (self.0.index, self.1) == (other.0.index, other.1)
    }
}

impl Eq for CudaDevice {}

impl Hash for CudaDevice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.index, self.1).hash(state);
    }
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaDevice({}, {})", self.0.index, self.1)
    }
}

/// The last launch, for the report of a fault.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLaunch {
    pub(super) entry: Option<usize>,
    pub(super) grid: [u64; 3],
    pub(super) block: [u32; 3],
}

/// The state of a GPU that this process uses.
pub(super) struct Gpu {
    pub(super) index: usize,
    device: sys::CUdevice,
    context: Handle<sys::CUcontext>,
    stream: Handle<sys::CUstream>,
    pub(super) pool: Mutex<Pool>,
    /// Launches of the graph that is being captured, in their order.
    pub(super) waiting: Mutex<Vec<Waiting>>,
    /// The nodes of that graph.
    pub(super) order: Mutex<Order>,
    /// The modules that were loaded, and whether their kernels begin by waiting for those before them.
    modules: Vec<OnceLock<(Handle<sys::CUmodule>, bool)>>,
    functions: Vec<OnceLock<Handle<sys::CUfunction>>>,
    pub(super) checked: AtomicBool,
    /// Lengths, by address, of the memory that has guards around it.
    pub(super) guarded: Mutex<BTreeMap<u64, usize>>,
    pub(super) last: Mutex<LastLaunch>,
    pub(super) multiprocessors: u32,
    capability: (i32, i32),
    /// Whether a graph is being captured.
    pub(super) capturing: AtomicBool,
    /// The thread that captures. Others wait: what they launched would become part of the graph.
    pub(super) capturer: RwLock<Option<ThreadId>>,
    /// Address of what is added to the numbers of draws; 0 for none. Captured graphs have one.
    pub(super) draw_offset: AtomicU64,
    counters: Counters,
}

/// The devices that were opened, by index.
static OPEN: Mutex<Vec<Option<&'static Gpu>>> = Mutex::new(Vec::new());

thread_local! {
    /// The index of the GPU whose context is current on this thread.
    static CURRENT: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
}

impl Gpu {
    /// Makes the context current on this thread.
    pub(super) fn bind(&self) -> Result<()> {
        if CURRENT.get() != self.index {
            // SAFETY: the context is retained for ever.
            check(unsafe { sys::cuCtxSetCurrent(self.context.0) }, "switch to the device")?;
            CURRENT.set(self.index);
        }
        Ok(())
    }

    /// Makes the context current, and keeps graphs from being captured while the result lives. While another thread captures one, waits.
    pub(super) fn enter(&self) -> Result<RwLockReadGuard<'_, Option<ThreadId>>> {
        self.bind()?;
        loop {
            let capturer = self.capturer.read().unwrap_or_else(|e| e.into_inner());
            if capturer.is_none_or(|thread| thread == std::thread::current().id()) {
                return Ok(capturer);
            }
            drop(capturer);
            // Captures take milliseconds, and hardly anybody uses one device from two threads.
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream.0
    }

    /// The function of a kernel, loading its module when it is the first of it.
    pub(super) fn function(&self, entry: usize) -> Result<sys::CUfunction> {
        if let Some(function) = self.functions[entry].get() {
            return Ok(function.0);
        }
        let entry_info = &ENTRIES[entry];
        let slot = &self.modules[entry_info.module];
        if slot.get().is_none() {
            let module = &MODULES[entry_info.module];
            // Two threads may load it twice; the one that comes second is left alone until the process ends.
            let (module, waits) = load_module(module, self.capability)?;
            let _ = slot.set((Handle(module), waits));
        }
        let module = slot.get().expect("just set").0.0;
        let name = std::ffi::CString::new(entry_info.name).expect("names have no NUL");
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is loaded and never unloaded; the name ends with a NUL.
        let code = unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) };
        if code != sys::CUresult::CUDA_SUCCESS {
            return Err(Error::Cuda { action: "find a kernel", detail: format!("{}: {}", entry_info.name, describe(code)) });
        }
        let _ = self.functions[entry].set(Handle(function));
        Ok(function)
    }

    /// Whether a kernel, which was loaded, begins by waiting for those before it, so that it can be launched early.
    pub(super) fn waits(&self, entry: usize) -> bool {
        self.modules[ENTRIES[entry].module].get().is_some_and(|(_, waits)| *waits)
    }

    /// Waits for everything that was launched.
    pub(super) fn synchronize(&self) -> Result<()> {
        if capture::is_capturing() {
            return Err(Error::Capture { op: "synchronize", what: "waiting".into() });
        }
        let _open = self.enter()?;
        // SAFETY: the stream lives as long as the process.
        match unsafe { sys::cuStreamSynchronize(self.stream.0) } {
            sys::CUresult::CUDA_SUCCESS => Ok(()),
            code => Err(self.fault(code)),
        }
    }

    /// The error of a call that reports what an earlier kernel did.
    pub(super) fn fault(&self, code: sys::CUresult) -> Error {
        let last = self.last.lock().unwrap_or_else(|e| e.into_inner()).clone();
        Error::CudaFault {
            kernel: last.entry.map_or("none", |entry| ENTRIES[entry].name),
            grid: last.grid,
            block: last.block,
            exact: self.checked.load(Ordering::Relaxed),
            shapes: Vec::new(),
            detail: describe(code),
        }
    }

    /// Bytes free and in all.
    pub(super) fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both outlive the call.
        check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "ask for the free memory")?;
        Ok((free, total))
    }

    fn open(index: usize) -> Result<Gpu> {
        let device = find(index)?;
        let capability = capability(device)?;
        if capability < CAPABILITY {
            return Err(Error::CudaTooOld { index, capability, needed: CAPABILITY });
        }
        let (mut context, mut stream) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the device exists; the context is made current before a stream is made in it; all pointers outlive the calls.
        unsafe {
            check(sys::cuDevicePrimaryCtxRetain(&mut context, device), "open the device")?;
            check(sys::cuCtxSetCurrent(context), "switch to the device")?;
            CURRENT.set(index);
            // A stream of our own: the default one cannot be captured, and waits for others.
            check(sys::cuStreamCreate(&mut stream, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32), "create a stream")?;
        }
        let mut pool = Pool::default();
        let counters = Counters::new(&mut pool, stream)?;
        let multiprocessors = attribute(device, sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32;
        Ok(Gpu {
            index,
            device,
            context: Handle(context),
            stream: Handle(stream),
            pool: Mutex::new(pool),
            waiting: Mutex::default(),
            order: Mutex::default(),
            modules: MODULES.iter().map(|_| OnceLock::new()).collect(),
            functions: ENTRIES.iter().map(|_| OnceLock::new()).collect(),
            checked: AtomicBool::new(false),
            guarded: Mutex::default(),
            last: Mutex::default(),
            multiprocessors,
            capability,
            capturing: AtomicBool::new(false),
            capturer: RwLock::default(),
            draw_offset: AtomicU64::new(0),
            counters,
        })
    }
}

/// Starts the driver, and checks that it understands the kernels.
fn start(index: usize) -> Result<usize> {
    #[cfg(feature = "emulator")]
    crate::device::cuda::emulator::load();
    if !present() {
        return Err(Error::NoCudaDriver { index });
    }
    let (mut version, mut count) = (0, 0);
    // SAFETY: there is a driver, and both integers outlive the calls.
    unsafe {
        match sys::cuInit(0) {
            sys::CUresult::CUDA_SUCCESS => {}
            sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(Error::NoCudaDevice { index, count: 0 }),
            code => return Err(Error::Cuda { action: "start the driver", detail: describe(code) }),
        }
        check(sys::cuDriverGetVersion(&mut version), "ask for the driver's version")?;
        check(sys::cuDeviceGetCount(&mut count), "count the devices")?;
    }
    let found = (version / 1000, version % 1000 / 10);
    if found < CUDA_VERSION {
        return Err(Error::CudaDriverTooOld { index, found, needed: CUDA_VERSION });
    }
    Ok(count as usize)
}

fn find(index: usize) -> Result<sys::CUdevice> {
    let count = start(index)?;
    if index >= count {
        return Err(Error::NoCudaDevice { index, count });
    }
    let mut device = 0;
    // SAFETY: `device` outlives the call.
    check(unsafe { sys::cuDeviceGet(&mut device, index as i32) }, "find the device")?;
    Ok(device)
}

fn capability(device: sys::CUdevice) -> Result<(i32, i32)> {
    Ok((
        attribute(device, sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(device, sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

impl CudaDevice {
    /// Opens the GPU with this index, once in a process.
    pub(crate) fn open(index: usize) -> Result<CudaDevice> {
        let mut open = OPEN.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(Some(gpu)) = open.get(index) {
            return Ok(CudaDevice(gpu, Precision::F32));
        }
        // Tensors may live until the process ends, and so does this.
        let gpu: &'static Gpu = Box::leak(Box::new(Gpu::open(index)?));
        if open.len() <= index {
            open.resize(index + 1, None);
        }
        open[index] = Some(gpu);
        Ok(CudaDevice(gpu, Precision::F32))
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// The precision of products of f32 matrices.
    pub fn precision(&self) -> Precision {
        self.1
    }

    /// The same GPU, multiplying as exactly as this.
    pub fn with_precision(self, precision: Precision) -> CudaDevice {
        CudaDevice(self.0, precision)
    }

    /// The number of its multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.0.multiprocessors
    }

    /// Its compute capability.
    pub fn capability(&self) -> (i32, i32) {
        self.0.capability
    }

    /// The address of the u64 that kernels add to the numbers of their draws: null, unless a graph is being captured.
    pub fn draw_offset(&self) -> Ptr {
        Ptr(self.0.draw_offset.load(Ordering::Relaxed))
    }

    /// Counters of u32, all 0, for a kernel that leaves them 0, if there are as many.
    pub(in crate::device::cuda) fn arrivals(&self, count: usize) -> Option<Ptr> {
        self.0.counters.lend(count)
    }

    /// Whether [`CudaDevice::check_launches`] was called.
    pub(crate) fn is_checked(&self) -> bool {
        self.0.checked.load(Ordering::Relaxed)
    }

    /// Enables checked mode: from now on every launch waits for its kernel, so that a fault is reported by the op that caused it. Slow.
    pub(crate) fn check_launches(&self) {
        self.0.checked.store(true, Ordering::Relaxed);
    }

    /// Waits for all that was launched.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }

    /// Gives unused memory back to the driver.
    pub(crate) fn trim(&self) -> Result<()> {
        self.0.bind()?;
        self.0.pool.lock().unwrap_or_else(|e| e.into_inner()).trim();
        Ok(())
    }

    /// The properties of this GPU.
    pub fn info(&self) -> Result<CudaInfo> {
        let mut name = [0u8; 256];
        // SAFETY: the driver writes at most as many bytes, ending with a NUL.
        check(unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, self.0.device) }, "ask for the device's name")?;
        let name = std::ffi::CStr::from_bytes_until_nul(&name).map_or(String::new(), |n| n.to_string_lossy().into_owned());
        let mut version = 0;
        // SAFETY: `version` outlives the call.
        check(unsafe { sys::cuDriverGetVersion(&mut version) }, "ask for the driver's version")?;
        let (free, total) = self.0.memory()?;
        Ok(CudaInfo {
            index: self.0.index,
            name,
            capability: self.0.capability,
            multiprocessors: self.0.multiprocessors,
            free,
            total,
            driver: (version / 1000, version % 1000 / 10),
        })
    }
}

/// Every GPU of this machine: what it is, or why it cannot be used.
///
/// # Errors
/// There is no driver or no GPU, or the driver is too old for the kernels.
pub fn devices() -> Result<Vec<Result<CudaInfo>>> {
    let count = start(0)?;
    if count == 0 {
        return Err(Error::NoCudaDevice { index: 0, count });
    }
    Ok((0..count).map(|index| CudaDevice::open(index)?.info()).collect())
}
