//! Streams, graphs, memory and errors of the emulated driver, which must be those of a real one.

use crate::emulator_support::{Arg, Driver, Held, Launch, Reported, device};

const THREAD_LOCAL: usize = 1;
const RELAXED: usize = 2;

/// A driver with a stream, the function `fill_u64`, and a buffer of 64 zeros.
struct Setup {
    driver: Held,
    stream: usize,
    fill: usize,
    y: u64,
}

fn setup() -> Setup {
    setup_on(device("fast"))
}

fn setup_on(driver: Held) -> Setup {
    let ptx = strait::device::cuda::ptx::MODULES.iter().find(|module| module.name == "copy").unwrap().ptx;
    let fill = driver.function(driver.load_ptx(ptx).unwrap(), "fill_u64").unwrap();
    let stream = driver.made("cuStreamCreate", &[1]).unwrap();
    let y = driver.upload(&[0.0; 64]);
    Setup { driver, stream, fill, y }
}

/// Two floats in one word.
fn two(value: f32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(value.to_bits())
}

impl Setup {
    fn fill(&self, value: f32) -> Result<(), Reported> {
        let arguments = [Arg::Address(self.y), Arg::Words(&[two(value)]), Arg::Words(&[32])];
        self.driver.launch(self.fill, [1, 1], [64, 1], 0, self.stream, &arguments)
    }

    fn y(&self) -> f32 {
        let values = self.driver.download(self.y, 64);
        assert!(values.iter().all(|v| *v == values[0]));
        values[0]
    }

    fn begin(&self, mode: usize) {
        self.driver.checked("cuStreamBeginCapture_v2", &[self.stream, mode]).unwrap();
    }

    fn end(&self) -> Result<usize, Reported> {
        let mut graph = 0usize;
        self.driver.checked("cuStreamEndCapture", &[self.stream, &raw mut graph as usize]).map(|()| graph)
    }

    fn instantiate(&self, graph: usize) -> usize {
        self.driver.made("cuGraphInstantiateWithFlags", &[graph, 0]).unwrap()
    }

    fn code(&self, name: &str, arguments: &[usize]) -> i32 {
        self.driver.call(name, arguments)
    }
}

fn status(s: &Setup) -> i32 {
    let mut status = -1i32;
    assert_eq!(s.code("cuStreamIsCapturing", &[s.stream, &raw mut status as usize]), 0);
    status
}

#[test]
fn a_graph_replays_what_was_captured() {
    let s = setup();
    s.begin(THREAD_LOCAL);
    s.fill(3.0).unwrap();
    assert_eq!(s.code("cuMemsetD32Async", &[s.y as usize, 7f32.to_bits() as usize, 32, s.stream]), 0);
    s.fill(4.0).unwrap();
    assert_eq!(status(&s), 1);
    let graph = s.end().unwrap();
    assert_eq!((status(&s), s.y()), (0, 0.0), "nothing runs while it is recorded");

    let mut count = 0usize;
    assert_eq!(s.code("cuGraphGetNodes", &[graph, 0, &raw mut count as usize]), 0);
    let mut nodes = vec![0usize; count];
    assert_eq!(s.code("cuGraphGetNodes", &[graph, nodes.as_mut_ptr() as usize, &raw mut count as usize]), 0);
    let kinds: Vec<i32> = nodes
        .iter()
        .map(|node| {
            let mut kind = -1i32;
            assert_eq!(s.code("cuGraphNodeGetType", &[*node, &raw mut kind as usize]), 0);
            kind
        })
        .collect();
    assert_eq!(kinds, [0, 2, 0]);

    let exec = s.instantiate(graph);
    assert_eq!(s.code("cuGraphDestroy", &[graph]), 0, "what was instantiated does not need it");
    for _ in 0..3 {
        s.fill(1.0).unwrap();
        assert_eq!(s.code("cuGraphLaunch", &[exec, s.stream]), 0);
        assert_eq!(s.y(), 4.0);
    }
}

#[test]
fn what_a_capture_forbids_spoils_it() {
    let s = setup();
    let host = [1f32; 64];
    let mut address = 0usize;
    let (out, from) = (&raw mut address as usize, host.as_ptr() as usize);
    for (name, arguments) in [
        ("cuStreamSynchronize", vec![s.stream]),
        ("cuCtxSynchronize", vec![]),
        ("cuMemAlloc_v2", vec![out, 256]),
        ("cuMemFree_v2", vec![s.y as usize]),
        ("cuMemcpyHtoD_v2", vec![s.y as usize, from, 256]),
        ("cuMemcpyHtoDAsync_v2", vec![s.y as usize, from, 256, s.stream]),
        ("cuMemcpyDtoHAsync_v2", vec![from, s.y as usize, 256, s.stream]),
    ] {
        s.begin(THREAD_LOCAL);
        assert_eq!(s.code(name, &arguments), 900, "{name}");
        assert_eq!(status(&s), 2, "{name}");
        assert_eq!(s.fill(1.0).unwrap_err().code, 901, "{name}");
        assert_eq!(s.end().unwrap_err().code, 901, "{name}");
        assert_eq!((status(&s), s.y()), (0, 0.0), "{name}: the stream works again");
    }
    // Another thread, or a relaxed capture, may allocate.
    s.begin(THREAD_LOCAL);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let context = s.driver.made("cuDevicePrimaryCtxRetain", &[0]).unwrap();
            s.code("cuCtxSetCurrent", &[context]);
            s.driver.alloc(256)
        });
        thread.join().unwrap();
    });
    s.end().unwrap();
    s.begin(RELAXED);
    s.driver.alloc(256);
    s.end().unwrap();
    assert_eq!(s.code("cuStreamBeginCapture_v2", &[0, THREAD_LOCAL]), 900, "the legacy stream");
}

/// An allocation becomes a node: the graph runs once, and not again while its memory is live.
#[test]
fn an_allocation_in_a_capture_cannot_be_relaunched() {
    let s = setup();
    let mut address = 0usize;
    s.begin(THREAD_LOCAL);
    assert_eq!(s.code("cuMemAllocAsync", &[&raw mut address as usize, 256, s.stream]), 0);
    s.fill(2.0).unwrap();
    let exec = s.instantiate(s.end().unwrap());
    assert_eq!(s.code("cuGraphLaunch", &[exec, s.stream]), 0);
    assert_eq!(s.code("cuGraphLaunch", &[exec, s.stream]), 1);

    s.begin(THREAD_LOCAL);
    assert_eq!(s.code("cuMemAllocAsync", &[&raw mut address as usize, 256, s.stream]), 0);
    assert_eq!(s.code("cuMemFreeAsync", &[address, s.stream]), 0);
    assert_eq!(s.code("cuMemFreeAsync", &[s.y as usize, s.stream]), 1, "memory from before the capture");
    let exec = s.instantiate(s.end().unwrap());
    for _ in 0..2 {
        assert_eq!(s.code("cuGraphLaunch", &[exec, s.stream]), 0);
    }
}

/// Two streams, forked and joined by events within one capture.
#[test]
fn other_streams_join_a_capture_and_must_be_waited_for() {
    let s = setup();
    let other = s.driver.made("cuStreamCreate", &[1]).unwrap();
    let event = s.driver.made("cuEventCreate", &[2]).unwrap();
    let set = |value: f32| s.code("cuMemsetD32Async", &[s.y as usize, value.to_bits() as usize, 64, other]);
    for joined in [true, false] {
        s.begin(THREAD_LOCAL);
        s.code("cuEventRecord", &[event, s.stream]);
        assert_eq!(s.code("cuStreamWaitEvent", &[other, event, 0]), 0);
        assert_eq!(set(5.0), 0);
        s.code("cuEventRecord", &[event, other]);
        assert_eq!(s.code("cuEventSynchronize", &[event]), 907, "an event of a capture");
        s.end().unwrap_err();

        s.begin(THREAD_LOCAL);
        s.code("cuEventRecord", &[event, s.stream]);
        s.code("cuStreamWaitEvent", &[other, event, 0]);
        set(6.0);
        s.code("cuEventRecord", &[event, other]);
        if joined {
            s.code("cuStreamWaitEvent", &[s.stream, event, 0]);
            let exec = s.instantiate(s.end().unwrap());
            s.code("cuGraphLaunch", &[exec, s.stream]);
            assert_eq!(s.y(), 6.0);
        } else {
            assert_eq!(s.end().unwrap_err().code, 904);
        }
    }
    // An event from before a capture is outside it.
    s.code("cuEventRecord", &[event, other]);
    s.begin(THREAD_LOCAL);
    assert_eq!(s.code("cuStreamWaitEvent", &[s.stream, event, 0]), 905);
    assert_eq!(s.end().unwrap_err().code, 901);
}

#[test]
fn memory_runs_out_and_is_counted() {
    let driver = device("fast");
    driver.option("memory", 1 << 20);
    assert_eq!(driver.call("cuInit", &[0]), 0);
    let info = || {
        let (mut free, mut total) = (0usize, 0usize);
        assert_eq!(driver.call("cuMemGetInfo_v2", &[&raw mut free as usize, &raw mut total as usize]), 0);
        (free, total)
    };
    assert_eq!(info(), (1 << 20, 1 << 20));
    let a = driver.alloc(1 << 19);
    assert_eq!(info().0, 1 << 19);
    assert_eq!(driver.made("cuMemAllocAsync", &[(1 << 19) + 1, 0]).unwrap_err().code, 2);
    assert_eq!(driver.made("cuMemAlloc_v2", &[0]).unwrap_err().code, 1);
    assert_eq!(driver.call("cuMemFree_v2", &[a as usize]), 0);
    assert_eq!(driver.call("cuMemFree_v2", &[a as usize]), 1, "twice");
    assert_eq!(info().0, 1 << 20, "an error that is no fault leaves the context alive");
    driver.option("memory", 4 << 30);
    driver.call("cuInit", &[0]);
}

#[test]
fn devices_and_versions_can_be_missing() {
    let driver = device("fast");
    let set = |name: &str, value: i64| {
        driver.option(name, value);
        driver.call("cuInit", &[0])
    };
    assert_eq!(set("devices", 0), 100);
    assert_eq!(set("devices", 2), 0);
    assert_eq!(driver.made("cuDeviceGet", &[2]).unwrap_err().code, 101);
    driver.made("cuDeviceGet", &[1]).unwrap();
    set("devices", 1);

    set("driver", 12080);
    let mut version = 0i32;
    driver.call("cuDriverGetVersion", &[&raw mut version as usize]);
    assert_eq!(version, 12080);
    let ptx = |version: &str, target: &str| driver.load_ptx(&format!(".version {version}\n.target {target}\n")).map_err(|e| e.code);
    assert_eq!(ptx("9.0", "sm_80"), Err(222));
    assert!(ptx("8.7", "sm_80").is_ok());
    set("driver", 13000);
    assert!(ptx("9.0", "sm_80").is_ok());
    assert_eq!(ptx("9.0", "sm_90a"), Err(209));
    set("capability", 90);
    assert!(ptx("9.0", "sm_90a").is_ok());
    set("capability", 80);
    assert_eq!(driver.load_ptx("nonsense").unwrap_err().code, 200);
}

#[test]
fn launches_outside_the_limits_are_refused() {
    let s = setup();
    let value = [two(1.0)];
    let arguments = || [Arg::Address(s.y), Arg::Words(&value), Arg::Words(&[32])];
    let code = |grid, block, shared| s.driver.launch(s.fill, grid, block, shared, s.stream, &arguments()).map_err(|e| e.code);
    assert_eq!(code([0, 1], [32, 1], 0), Err(1), "an empty grid");
    assert_eq!(code([1, 65536], [32, 1], 0), Err(1));
    assert_eq!(code([1, 1], [512, 1], 0), Err(1), "more threads than __launch_bounds__");
    assert_eq!(code([1, 1], [32, 1], 49 << 10), Err(1), "more shared memory than without asking");
    assert_eq!(s.code("cuFuncSetAttribute", &[s.fill, 8, 64 << 10]), 0);
    assert_eq!(code([1, 1], [32, 1], 49 << 10), Ok(()));
    assert_eq!(s.code("cuFuncSetAttribute", &[s.fill, 8, 256 << 10]), 1);
    assert_eq!(s.driver.function(s.driver.module("probes"), "no_such_kernel").unwrap_err().code, 500);
}

#[test]
fn nothing_works_without_a_context() {
    let driver = device("fast");
    driver.call("cuCtxSetCurrent", &[0]);
    assert_eq!(driver.made("cuMemAlloc_v2", &[64]).unwrap_err().code, 201);
    assert_eq!(driver.made("cuStreamCreate", &[0]).unwrap_err().code, 201);
    driver.reset();
    driver.alloc(64);
}

/// With lazy streams nothing happens before a synchronisation, host memory was read when the call returned, and a fault of a
/// kernel appears later.
#[test]
fn lazy_streams_run_late() {
    let lazy = |driver: &Driver, on: i64| {
        driver.option("lazy", on);
        driver.call("cuInit", &[0]);
    };
    let driver = device("check");
    lazy(&driver, 1);
    let s = setup_on(driver);
    let pinned = s.driver.made("cuMemHostAlloc", &[256, 0]).unwrap();
    // SAFETY: 64 floats of pinned memory, which nothing else uses now.
    let floats = || unsafe { std::slice::from_raw_parts_mut(pinned as *mut f32, 64) };
    floats().fill(0.0);
    s.fill(8.0).unwrap();
    assert_eq!(s.code("cuMemcpyDtoHAsync_v2", &[pinned, s.y as usize, 256, s.stream]), 0);
    assert_eq!(floats()[0], 0.0, "an asynchronous copy to pinned memory");
    assert_eq!(s.code("cuStreamSynchronize", &[s.stream]), 0);
    assert_eq!(floats()[0], 8.0);

    let mut host = [1f32; 64];
    s.code("cuMemcpyHtoDAsync_v2", &[s.y as usize, host.as_ptr() as usize, 256, s.stream]);
    host.fill(2.0);
    assert_eq!(s.driver.call("cuMemcpyDtoHAsync_v2", &[host.as_mut_ptr() as usize, s.y as usize, 256, s.stream]), 0);
    assert_eq!(host[0], 1.0, "a copy to pageable memory waits");

    let function = s.driver.function(s.driver.module("bugs"), "bug_write_past_end").unwrap();
    let arguments = [Arg::Address(s.y), Arg::Address(s.y), Arg::I32(64)];
    s.driver.launch(function, [1, 1], [128, 1], 0, s.stream, &arguments).unwrap();
    let fault = s.driver.checked("cuStreamSynchronize", &[s.stream]).unwrap_err();
    assert!(fault.code == 700 && fault.text.contains("bug_write_past_end"), "{}", fault.text);
    assert_eq!(s.fill(1.0).unwrap_err().code, 700, "and stays");
    lazy(&s.driver, 0);
    s.driver.reset();
}

#[test]
fn events_have_times() {
    let s = setup();
    let (a, b, untimed) = (
        s.driver.made("cuEventCreate", &[0]).unwrap(),
        s.driver.made("cuEventCreate", &[0]).unwrap(),
        s.driver.made("cuEventCreate", &[2]).unwrap(),
    );
    let mut ms = -1f32;
    let elapsed = |from, to, ms: &mut f32| s.code("cuEventElapsedTime_v2", &[&raw mut *ms as usize, from, to]);
    assert_eq!(elapsed(a, b, &mut ms), 400, "not recorded");
    for event in [a, untimed, b] {
        assert_eq!(s.code("cuEventRecord", &[event, s.stream]), 0);
    }
    assert_eq!(elapsed(a, b, &mut ms), 0);
    assert!(ms >= 0.0);
    assert_eq!(elapsed(a, untimed, &mut ms), 400, "without a time");
}

/// The file that STRAIT_EMU_TRACE names is written by another process, for the variable is read once.
#[test]
fn kernels_that_ran_are_traced() {
    if std::env::var_os("STRAIT_EMU_TRACE").is_some() {
        let s = setup();
        s.fill(1.0).unwrap();
        s.fill(2.0).unwrap();
        s.driver.run("probes", "probe_copies", &Launch::one(32)).unwrap();
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "driver::kernels_that_ran_are_traced"])
        .env("STRAIT_EMU_TRACE", file.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "fill_u64\nprobe_copies\n");
}
