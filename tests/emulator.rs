//! The emulated driver itself: that it finds every planted bug, finds none in correct kernels, and behaves as the driver does.
#![cfg(feature = "emulator")]

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaModule, CudaStream, LaunchConfig, PushKernelArg, sys};
use cudarc::nvrtc::Ptx;
use strait::device::cuda::{emulator, ptx};

fn stream() -> Arc<CudaStream> {
    emulator::load().expect("STRAIT_EMU is not off");
    let context = CudaContext::new(0).unwrap();
    // SAFETY: every test uses one stream.
    unsafe { context.disable_event_tracking() };
    context.new_stream().unwrap()
}

fn module(stream: &CudaStream, name: &str) -> Arc<CudaModule> {
    let module = ptx::MODULES.iter().find(|module| module.name == name).unwrap();
    stream.context().load_module(Ptx::from_src(module.ptx)).unwrap()
}

fn launch(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

#[test]
fn cudarc_runs_a_kernel() {
    let stream = stream();
    let fill = module(&stream, "fill").load_function("fill_f32").unwrap();
    let mut out = unsafe { stream.alloc::<f32>(1000) }.unwrap();
    // SAFETY: the arguments are those of the kernel, and the buffer has 1000 elements.
    unsafe { stream.launch_builder(&fill).arg(&mut out).arg(&2.5f32).arg(&1000u64).launch(launch(2, 256)) }.unwrap();
    assert_eq!(stream.clone_dtoh(&out).unwrap(), vec![2.5; 1000]);
}

#[test]
fn a_graph_replays_what_was_captured() {
    let stream = stream();
    let fill = module(&stream, "fill").load_function("fill_f32").unwrap();
    let mut out = stream.alloc_zeros::<f32>(8).unwrap();
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    // SAFETY: as above.
    unsafe { stream.launch_builder(&fill).arg(&mut out).arg(&3f32).arg(&8u64).launch(launch(1, 256)) }.unwrap();
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(stream.clone_dtoh(&out).unwrap(), vec![0.0; 8], "nothing runs while it is recorded");
    for _ in 0..3 {
        stream.memset_zeros(&mut out).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&out).unwrap(), vec![3.0; 8]);
    }
}
