//! A flavour of the emulated driver through its C API.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{LazyLock, Mutex, MutexGuard};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use strait::device::cuda::emulator;

/// How a kernel with the arguments `(const float* x, float* y, int n)` is launched.
#[derive(Clone, Copy)]
pub struct Launch {
    pub blocks: [u32; 2],
    pub threads: [u32; 2],
    pub shared: u32,
    pub n: i32,
    /// Elements of x; y has 512.
    pub input: usize,
    /// Whether y holds zeros before.
    pub fill: bool,
    /// Whether y is freed before.
    pub freed: bool,
}

impl Launch {
    pub const fn one(threads: u32) -> Launch {
        Launch { blocks: [1, 1], threads: [threads, 1], shared: 0, n: 512, input: 512, fill: true, freed: false }
    }
}

#[derive(Debug)]
pub struct Reported {
    pub code: i32,
    pub text: String,
}

pub enum Arg<'a> {
    Address(u64),
    I32(i32),
    U8(u8),
    F64(f64),
    Words(&'a [u64]),
}

pub struct Driver {
    opened: Library,
    pub flavour: &'static str,
}

/// One user at a time: faults are shared by all, and every flavour has its own handler of signals.
pub struct Held(MutexGuard<'static, Driver>, #[allow(dead_code)] MutexGuard<'static, ()>);

impl std::ops::Deref for Held {
    type Target = Driver;
    fn deref(&self) -> &Driver {
        &self.0
    }
}

/// The flavour with a fresh context that is current on this thread.
pub fn device(flavour: &str) -> Held {
    static DRIVERS: LazyLock<BTreeMap<&str, Mutex<Driver>>> =
        LazyLock::new(|| emulator::FLAVOURS.map(|flavour| (flavour, Mutex::new(Driver::load(flavour)))).into());
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let held = Held(DRIVERS[flavour].lock().unwrap_or_else(|poisoned| poisoned.into_inner()), alone);
    assert_eq!(held.call("cuInit", &[0]), 0);
    held.reset();
    held
}

impl Driver {
    fn load(flavour: &'static str) -> Driver {
        // SAFETY: its initialisers only fill a list of kernels.
        let library = unsafe { Library::open(Some(emulator::path(flavour)), RTLD_NOW | RTLD_LOCAL) };
        Driver { opened: library.unwrap(), flavour }
    }

    /// A function of the driver. Integers and pointers all travel in registers of one size.
    pub fn call(&self, name: &str, arguments: &[usize]) -> i32 {
        let get = |i: usize| arguments.get(i).copied().unwrap_or(0);
        type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> i32;
        // SAFETY: the callers pass what the function takes; what it does not take it does not look at.
        unsafe {
            let function = self.opened.get::<Function>(name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            function(get(0), get(1), get(2), get(3), get(4), get(5))
        }
    }

    pub fn checked(&self, name: &str, arguments: &[usize]) -> Result<(), Reported> {
        match self.call(name, arguments) {
            0 => Ok(()),
            code => {
                let mut text: *const c_char = c"".as_ptr();
                self.call("cuGetErrorString", &[code as usize, &raw mut text as usize]);
                // SAFETY: the driver's string, valid until this thread's next call.
                Err(Reported { code, text: unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() })
            }
        }
    }

    /// A call whose first argument receives its result.
    pub fn made(&self, name: &str, rest: &[usize]) -> Result<usize, Reported> {
        let mut out = 0usize;
        let arguments: Vec<usize> = [&[&raw mut out as usize], rest].concat();
        self.checked(name, &arguments).map(|()| out)
    }

    pub fn reset(&self) {
        assert_eq!(self.call("cuDevicePrimaryCtxReset_v2", &[0]), 0);
        let context = self.made("cuDevicePrimaryCtxRetain", &[0]).unwrap();
        assert_eq!(self.call("cuCtxSetCurrent", &[context]), 0);
    }

    pub fn option(&self, name: &str, value: i64) {
        let name = CString::new(name).unwrap();
        self.call("emu_option", &[name.as_ptr() as usize, value as usize]);
    }

    pub fn schedule(&self, sched: i64, seed: i64) {
        self.option("sched", sched);
        self.option("seed", seed);
        assert_eq!(self.call("cuInit", &[0]), 0);
    }

    pub fn module(&self, name: &str) -> usize {
        let ptx = match name {
            "bugs" => include_str!(concat!(env!("OUT_DIR"), "/test_ptx/bugs.ptx")),
            "probes" => include_str!(concat!(env!("OUT_DIR"), "/test_ptx/probes.ptx")),
            _ => panic!("{name} is no module"),
        };
        self.load_ptx(ptx).unwrap()
    }

    pub fn load_ptx(&self, ptx: &str) -> Result<usize, Reported> {
        let ptx = CString::new(ptx).unwrap();
        self.made("cuModuleLoadData", &[ptx.as_ptr() as usize])
    }

    pub fn function(&self, module: usize, name: &str) -> Result<usize, Reported> {
        let name = CString::new(name).unwrap();
        self.made("cuModuleGetFunction", &[module, name.as_ptr() as usize])
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        self.made("cuMemAlloc_v2", &[bytes]).unwrap() as u64
    }

    pub fn upload(&self, values: &[f32]) -> u64 {
        let address = self.alloc(size_of_val(values));
        self.checked("cuMemcpyHtoD_v2", &[address as usize, values.as_ptr() as usize, size_of_val(values)]).unwrap();
        address
    }

    pub fn download(&self, address: u64, n: usize) -> Vec<f32> {
        let mut values = vec![0f32; n];
        self.checked("cuMemcpyDtoH_v2", &[values.as_mut_ptr() as usize, address as usize, 4 * n]).unwrap();
        values
    }

    pub fn launch(
        &self,
        function: usize,
        grid: [u32; 2],
        block: [u32; 2],
        shared: u32,
        stream: usize,
        arguments: &[Arg<'_>],
    ) -> Result<(), Reported> {
        let mut pointers: Vec<*const c_void> = arguments
            .iter()
            .map(|argument| match argument {
                Arg::Address(v) => (&raw const *v).cast(),
                Arg::I32(v) => (&raw const *v).cast(),
                Arg::U8(v) => (&raw const *v).cast(),
                Arg::F64(v) => (&raw const *v).cast(),
                Arg::Words(v) => v.as_ptr().cast(),
            })
            .collect();
        let config = Config { grid: [grid[0], grid[1], 1], block: [block[0], block[1], 1], shared, stream, attributes: 0, count: 0 };
        self.checked("cuLaunchKernelEx", &[&raw const config as usize, function, pointers.as_mut_ptr() as usize, 0])
    }

    /// Launches a probe or a planted bug on counting numbers; returns the 512 elements of y.
    pub fn run(&self, module: &str, name: &str, launch: &Launch) -> Result<Vec<f32>, Reported> {
        let x: Vec<f32> = (0..launch.input).map(|i| (i % 37) as f32).collect();
        self.run_on(module, name, launch, &x)
    }

    pub fn run_on(&self, module: &str, name: &str, launch: &Launch, x: &[f32]) -> Result<Vec<f32>, Reported> {
        let module = self.module(module);
        let function = self.function(module, name)?;
        let (x, y) = (self.upload(x), self.alloc(4 * 512));
        if launch.fill {
            self.checked("cuMemsetD32_v2", &[y as usize, 0, 512])?;
        }
        if launch.freed {
            self.checked("cuMemFree_v2", &[y as usize])?;
        }
        let arguments = [Arg::Address(x), Arg::Address(y), Arg::I32(launch.n)];
        self.launch(function, launch.blocks, launch.threads, launch.shared, 0, &arguments)?;
        self.checked("cuCtxSynchronize", &[])?;
        let result = if launch.freed { Vec::new() } else { self.download(y, 512) };
        for address in [x, y].into_iter().take(if launch.freed { 1 } else { 2 }) {
            self.checked("cuMemFree_v2", &[address as usize])?;
        }
        self.checked("cuModuleUnload", &[module])?;
        Ok(result)
    }
}

/// `CUlaunchConfig`.
#[repr(C)]
struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: usize,
    attributes: usize,
    count: u32,
}
