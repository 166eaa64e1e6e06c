//! The order of a graph's nodes: each comes after those that it needs, and side by side with the others.
//!
//! Two nodes need their order if both touch a block of memory and one of them writes to it. So a graph has branches wherever the work has:
//! the gradient of a weight beside that of the layer's input, a loss's logged scalars beside its gradients.

use std::collections::HashMap;
use std::sync::OnceLock;

use cudarc::driver::sys;

use super::calls::check;
use super::gpu::{CudaDevice, Handle};
use super::waiting::Touched;
use crate::error::Result;

/// The nodes of the graph that is being captured.
#[derive(Default)]
pub(super) struct Order {
    nodes: Vec<Node>,
    users: HashMap<u64, Users>,
}

struct Node {
    handle: Handle<sys::CUgraphNode>,
    /// Whether it is a kernel that begins by waiting for those before it.
    waits: bool,
    /// A bit for each node that comes before this one, and for itself.
    before: Vec<u64>,
}

impl Node {
    fn follows(&self, other: usize) -> bool {
        self.before.get(other / 64).is_some_and(|bits| bits >> (other % 64) & 1 == 1)
    }
}

/// Who touched a block of memory: the node that wrote to it last, and those that read it since.
#[derive(Default)]
struct Users {
    writer: Option<usize>,
    readers: Vec<usize>,
}

impl Order {
    /// The nodes that work must wait for, without those that others among them wait for.
    fn needed(&self, touched: &Touched) -> Vec<usize> {
        let mut all: Vec<usize> = Vec::new();
        for (block, writes) in touched.blocks() {
            let Some(users) = self.users.get(&block) else { continue };
            all.extend(users.writer);
            if writes {
                all.extend(&users.readers);
            }
        }
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut needed: Vec<usize> = Vec::new();
        for node in all {
            if !needed.iter().any(|&later| self.nodes[later].follows(node)) {
                needed.push(node);
            }
        }
        needed
    }

    /// How a node that is a kernel which waits by itself, or is not, follows each of `needed`. Only kernels can let others be launched early.
    fn edges(&self, needed: &[usize], waits: bool) -> Vec<sys::CUgraphEdgeData> {
        needed.iter().map(|&node| edge(waits && self.nodes[node].waits)).collect()
    }

    /// Adds a node that comes after `needed`.
    fn add(&mut self, handle: sys::CUgraphNode, waits: bool, touched: &Touched, needed: &[usize]) {
        let node = self.nodes.len();
        let mut before = vec![0; node / 64 + 1];
        before[node / 64] |= 1 << (node % 64);
        for &earlier in needed {
            before.iter_mut().zip(&self.nodes[earlier].before).for_each(|(bits, earlier)| *bits |= earlier);
        }
        self.nodes.push(Node { handle: Handle(handle), waits, before });
        for (block, writes) in touched.blocks() {
            let users = self.users.entry(block).or_default();
            if writes {
                *users = Users { writer: Some(node), readers: Vec::new() };
            } else {
                users.readers.push(node);
            }
        }
    }
}

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

/// A dependency of a node, which is launched early if it waits by itself: after the kernel before it has let it, instead of when that ended.
fn edge(early: bool) -> sys::CUgraphEdgeData {
    let (port, kind) = if early { (1, sys::CUgraphDependencyType::CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC as u8) } else { (0, 0) };
    sys::CUgraphEdgeData { from_port: port, to_port: 0, type_: kind, reserved: [0; 5] }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that reads and writes blocks, and what it needs.
    fn adds(order: &mut Order, reads: &[u64], writes: &[u64]) -> Vec<usize> {
        let touched = Touched::of(reads.iter().map(|&block| (block, false)).chain(writes.iter().map(|&block| (block, true))));
        let needed = order.needed(&touched);
        order.add(std::ptr::null_mut(), false, &touched, &needed);
        needed
    }

    #[test]
    fn nodes_follow_what_they_need_and_nothing_else() {
        let mut order = Order::default();
        assert!(adds(&mut order, &[], &[1]).is_empty());
        // two readers side by side, and other memory
        assert_eq!(adds(&mut order, &[1], &[2]), [0]);
        assert_eq!(adds(&mut order, &[1], &[3]), [0]);
        assert!(adds(&mut order, &[7], &[8]).is_empty());
        // both results; the writer of 1 came before them
        assert_eq!(adds(&mut order, &[1, 2, 3], &[4]), [2, 1]);
        // who writes waits for all that read
        assert_eq!(adds(&mut order, &[], &[1]), [4]);
        assert_eq!(adds(&mut order, &[1], &[7]), [5, 3]);
        // written without having been read
        assert_eq!(adds(&mut order, &[], &[8]), [3]);
        // many nodes
        for i in 0..200 {
            adds(&mut order, &[100 + i], &[101 + i]);
        }
        assert_eq!(adds(&mut order, &[100, 150, 300], &[]), [207]);
        assert_eq!(adds(&mut order, &[4], &[300]), [208, 4]);
    }
    #[test]
    fn kernels_are_launched_early_after_kernels_alone() {
        let (mut order, touched) = (Order::default(), Touched::default());
        [true, false].iter().for_each(|&waits| order.add(std::ptr::null_mut(), waits, &touched, &[]));
        let kinds = |waits: bool| order.edges(&[0, 1], waits).iter().map(|edge| (edge.from_port, edge.type_)).collect::<Vec<_>>();
        assert_eq!(kinds(true), [(1, 1), (0, 0)]);
        assert_eq!(kinds(false), [(0, 0), (0, 0)]);
    }
}
