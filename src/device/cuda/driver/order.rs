//! The order of a graph's nodes: each comes after those that it needs, and side by side with the others.
//!
//! Two nodes need their order if both touch a block of memory and one of them writes to it. So a graph has branches wherever the work has:
//! the gradient of a weight beside that of the layer's input, a loss's logged scalars beside its gradients.

use std::collections::HashMap;

use cudarc::driver::sys;

use super::calls::Handle;
use super::waiting::Touched;

/// The nodes of the graph that is being captured.
#[derive(Default)]
pub(super) struct Order {
    pub(super) nodes: Vec<Node>,
    users: HashMap<u64, Users>,
}

pub(super) struct Node {
    pub(super) handle: Handle<sys::CUgraphNode>,
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
    pub(super) fn needed(&self, touched: &Touched) -> Vec<usize> {
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
    pub(super) fn edges(&self, needed: &[usize], waits: bool) -> Vec<sys::CUgraphEdgeData> {
        needed.iter().map(|&node| edge(waits && self.nodes[node].waits)).collect()
    }

    /// Adds a node that comes after `needed`.
    pub(super) fn add(&mut self, handle: sys::CUgraphNode, waits: bool, touched: &Touched, needed: &[usize]) {
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

/// A dependency of a node, which is launched early if it waits by itself: after the kernel before it has let it, instead of when that ended.
fn edge(early: bool) -> sys::CUgraphEdgeData {
    let (port, kind) = if early { (1, sys::CUgraphDependencyType::CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC as u8) } else { (0, 0) };
    sys::CUgraphEdgeData { from_port: port, to_port: 0, type_: kind, reserved: [0; 5] }
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
