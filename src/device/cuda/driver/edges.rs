//! Work that is captured, and the edges of the graph that lead to it.

use std::sync::OnceLock;

use cudarc::driver::sys;

use super::calls::check;
use super::gpu::CudaDevice;
use super::waiting::Touched;
use crate::error::Result;

/// How nodes follow each other. The environment variable `STRAIT_GRAPH` names another way than the first, to measure what each gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edges {
    /// When those that they need have ended.
    Branches,
    /// All of them one after another: `chain`.
    Chain,
    /// As `Branches`, but kernels that begin by waiting are launched before, and wait on the device: `dependents`.
    Dependents,
}

impl Edges {
    fn wanted() -> Edges {
        static WANTED: OnceLock<Edges> = OnceLock::new();
        *WANTED.get_or_init(|| match std::env::var("STRAIT_GRAPH").as_deref() {
            Ok("chain") => Edges::Chain,
            Ok("dependents") => Edges::Dependents,
            _ => Edges::Branches,
        })
    }
}

impl CudaDevice {
    /// Gives work, which touches this, to the graph that is being captured: `call` adds one node, that of the kernel `entry` or a copy.
    pub(super) fn in_order(self, entry: Option<usize>, touched: &Touched, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let edges = Edges::wanted();
        if edges == Edges::Chain {
            return call();
        }
        let gpu = self.0;
        let waits = match entry {
            Some(entry) if edges == Edges::Dependents => gpu.function(entry).map(|_| gpu.waits(entry))?,
            _ => false,
        };
        let mut order = gpu.order.lock().unwrap_or_else(|e| e.into_inner());
        let (stream, needed) = (gpu.stream(), order.needed(touched));
        let mut handles: Vec<sys::CUgraphNode> = needed.iter().map(|&node| order.nodes[node].handle.0).collect();
        let kinds = order.edges(&needed, waits);
        let kinds = if edges == Edges::Dependents { kinds.as_ptr() } else { std::ptr::null() };
        let set = sys::CUstreamUpdateCaptureDependencies_flags::CU_STREAM_SET_CAPTURE_DEPENDENCIES as u32;
        // SAFETY: this thread captures the stream, and the nodes are of its graph. The driver copies their list.
        let code = unsafe { sys::cuStreamUpdateCaptureDependencies_v2(stream, handles.as_mut_ptr(), kinds, handles.len(), set) };
        check(code, "order what is captured")?;
        call()?;
        let (mut status, mut id, mut graph) = (sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE, 0, std::ptr::null_mut());
        let (mut last, mut count) = (std::ptr::null(), 0);
        let edges = std::ptr::null_mut();
        // SAFETY: all of these outlive the call, and the list that it returns is read before the next one.
        let added = unsafe {
            let code = sys::cuStreamGetCaptureInfo_v3(stream, &mut status, &mut id, &mut graph, &mut last, edges, &mut count);
            check(code, "look at what is captured")?;
            if count == 1 { *last } else { unreachable!("work makes one node, which is the stream's last") }
        };
        order.add(added, waits, touched, &needed);
        Ok(())
    }
}
