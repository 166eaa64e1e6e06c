//! Convolutions in f32 without columns: the rows of a block are output positions, and its steps read the images themselves, in a copy with
//! their padding. A panel's vectors are output channels, whose weights are packed once.
//!
//! The input's gradient is of the same kind. Its pixels that are alike modulo the stride, a phase, meet the same elements of the window;
//! each phase is a convolution of the output's gradient, at stride 1, with these elements in reverse.

use rayon::prelude::*;

use super::block::{Panel, Steps, Vectors};
use super::columns::copy;
use super::{ConvDims, TASK_WORK, min_len};
use crate::device::cpu::parallel;
use crate::device::cpu::scratch;
use crate::device::cpu::transpose::transpose;

/// Steps whose products a sum takes in before it is added to what is in memory: the vectors of so many steps fit the L2 cache beside the
/// images, and the chain of roundings stays short.
const STEPS: usize = 256;

/// Images with zeros around them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    /// Size of the images.
    pub input: [usize; 2],
    /// Rows and columns of zeros before.
    pub before: [usize; 2],
    /// Size with all zeros; what does not fit is left out.
    pub size: [usize; 2],
}

impl Padded {
    /// What the windows of a convolution reach.
    pub(super) fn of(dims: &ConvDims) -> Padded {
        let span = [dims.span(0), dims.span(1)];
        let whole = dims.padding == [0, 0] && span[0] <= dims.input[0] && span[1] <= dims.input[1];
        Padded { input: dims.input, before: dims.padding, size: if whole { dims.input } else { span } }
    }

    /// Whether the images need no copy.
    pub(super) fn is_plain(&self) -> bool {
        self.before == [0, 0] && self.size == self.input
    }

    /// Elements of a channel.
    pub(super) fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Copies channels.
    pub(super) fn fill(&self, out: &mut [f32], x: &[f32]) {
        let [top, left] = self.before;
        let width = self.input[1].min(self.size[1].saturating_sub(left));
        parallel::simd(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(self.plane()).zip(x.chunks_exact(self.input[0] * self.input[1])) {
                    let mut lines = x.chunks_exact(self.input[1]);
                    for (row, out) in out.chunks_exact_mut(self.size[1]).enumerate() {
                        let line = if row < top || width == 0 { None } else { lines.next() };
                        let Some(x) = line else {
                            out.fill(0.0);
                            continue;
                        };
                        let (before, rest) = out.split_at_mut(left);
                        let (middle, after) = rest.split_at_mut(width);
                        // A few elements: a loop, not a call of memset.
                        before.iter_mut().chain(after).for_each(|o| *o = 0.0);
                        copy(middle, x, 1);
                    }
                }
            },
        );
    }
}

/// Output positions that read their images in the same way, with the weights for that.
struct Phase {
    /// For each position in each image of a task: where its window starts in the copies.
    at: Vec<usize>,
    /// Where in the output's planes the position is.
    to: Vec<usize>,
    /// Where the runs of a window start.
    runs: Vec<usize>,
    /// Elements of a run, and their distance.
    length: usize,
    step: usize,
}

/// A convolution of images with padding, phase by phase.
struct Plan {
    vectors: Vectors,
    padded: Padded,
    /// Channels of the images that are read, and elements of a plane that is written.
    channels: usize,
    plane: usize,
    /// Images of a task.
    images: usize,
    phases: Vec<Phase>,
}

/// `y = x * w`; see [`super::conv2d`], which has checked the sizes.
pub(super) fn conv2d(vectors: Vectors, y: &mut [f32], x: &[f32], w: &[f32], dims: &ConvDims) {
    let padded = Padded::of(dims);
    let (plane, channels, depth) = (dims.out_plane(), dims.in_channels, dims.depth());
    let images = dims.images_per_task(plane);
    let (mut at, mut to) = (Vec::with_capacity(images * plane), Vec::with_capacity(images * plane));
    for image in 0..images {
        for row in 0..dims.output[0] {
            let start = image * channels * padded.plane() + row * dims.stride[0] * padded.size[1];
            at.extend((0..dims.output[1]).map(|col| start + col * dims.stride[1]));
        }
        to.extend(image * plane..(image + 1) * plane);
    }
    let lines = (0..channels).flat_map(|c| (0..dims.kernel[0]).map(move |ky| (c, ky)));
    let runs = lines.map(|(c, ky)| c * padded.plane() + ky * dims.dilation[0] * padded.size[1]).collect();
    let phases = vec![Phase { at, to, runs, length: dims.kernel[1], step: dims.dilation[1] }];
    let plan = Plan { vectors, padded, channels, plane, images, phases };
    plan.run(y, x, dims.out_channels, |columns, panels| {
        let w = &w[columns.start * depth..];
        let mut packed = vec![0.0; panels.last().map_or(0, |p| p.start + p.width) * depth];
        for panel in panels {
            transpose(&mut packed[panel.start * depth..], panel.width, &w[panel.first * depth..], depth, panel.count, depth);
        }
        vec![packed]
    });
}

/// `dx`, the adjoint for windows without dilation; see [`super::conv2d_input_grad`], which has checked the sizes.
pub(super) fn input_grad(vectors: Vectors, dx: &mut [f32], g: &[f32], w: &[f32], dims: &ConvDims) {
    let (window, stride) = (dims.window(), dims.stride);
    // Elements of the window that pixels of a phase meet in each direction, at most, and windows before and behind the output's.
    let most = [0, 1].map(|d| dims.kernel[d].div_ceil(stride[d]));
    let last = [0, 1].map(|d| (dims.input[d] - 1 + dims.padding[d]) / stride[d]);
    let before = [0, 1].map(|d| most[d] - 1);
    let size = [0, 1].map(|d| before[d] + dims.output[d].max(last[d] + 1));
    let padded = Padded { input: dims.output, before, size };
    let (plane, channels) = (dims.in_plane(), dims.out_channels);
    let images = dims.images_per_task(dims.out_plane());
    let starts: Vec<[usize; 2]> = (0..stride[0]).flat_map(|y| (0..stride[1]).map(move |x| [y, x])).collect();
    // Of a phase, which windows' elements `start + j * stride` meet in its pixels: j counts down from here.
    let counts = |start: [usize; 2]| [0, 1].map(|d| dims.kernel[d].saturating_sub(start[d]).div_ceil(stride[d]));
    let phase = |&start: &[usize; 2]| {
        let count = counts(start);
        // The pixels of the phase, and the first window that meets in them.
        let pixels = [0, 1].map(|d| (0..dims.input[d]).filter(move |i| (i + dims.padding[d]) % stride[d] == start[d]));
        let [rows, cols] = pixels.map(|pixels| pixels.collect::<Vec<usize>>());
        let first = |d: usize, i: usize| (i + dims.padding[d]) / stride[d] + before[d] + 1 - count[d].max(1);
        let (mut at, mut to) = (Vec::new(), Vec::new());
        for image in 0..images {
            for &row in &rows {
                let line = image * channels * padded.plane() + first(0, row) * size[1];
                at.extend(cols.iter().map(|&col| line + first(1, col)));
                to.extend(cols.iter().map(|&col| image * plane + row * dims.input[1] + col));
            }
        }
        let runs = (0..channels).flat_map(|c| (0..count[0]).map(move |y| c * padded.plane() + y * size[1])).collect();
        Phase { at, to, runs, length: count[1], step: 1 }
    };
    let plan = Plan { vectors, padded, channels, plane, images, phases: starts.iter().map(phase).collect() };
    plan.run(dx, g, dims.in_channels, |columns, panels| {
        let width = panels.last().map_or(0, |p| p.start + p.width);
        let mut packed: Vec<Vec<f32>> =
            starts.iter().map(|&start| vec![0.0; width * channels * counts(start).iter().product::<usize>()]).collect();
        // The weights of an output channel with the input channels side by side, which go to the phases in pieces.
        let mut line = vec![0.0; window * columns.len()];
        for channel in 0..channels {
            let w = &w[(channel * dims.in_channels + columns.start) * window..];
            transpose(&mut line, columns.len(), w, window, columns.len(), window);
            for (&start, packed) in starts.iter().zip(&mut packed) {
                let [height, length] = counts(start);
                let steps = channels * height * length;
                for (y, x) in (0..height).flat_map(|y| (0..length).map(move |x| (y, x))) {
                    let element = (start[0] + (height - 1 - y) * stride[0]) * dims.kernel[1] + start[1] + (length - 1 - x) * stride[1];
                    let step = (channel * height + y) * length + x;
                    for panel in panels {
                        let to = panel.start * steps + step * panel.width;
                        packed[to..to + panel.count].copy_from_slice(&line[element * columns.len()..][panel.columns()]);
                    }
                }
            }
        }
        packed
    });
}

impl Plan {
    /// Writes `outs` channels of every image of `y`. `pack` returns, for each phase, the weights of some of these channels, cut into panels.
    fn run(&self, y: &mut [f32], x: &[f32], outs: usize, pack: impl Fn(std::ops::Range<usize>, &[Panel]) -> Vec<Vec<f32>> + Sync) {
        let image = self.channels * self.padded.input[0] * self.padded.input[1];
        let batch = y.len() / (outs * self.plane);
        let steps: usize = self.phases.iter().map(|p| p.at.len() * p.runs.len() * p.length).sum();
        let work = steps * outs;
        if self.images == 1 && batch < 4 {
            // Few images: their output channels are shared out too, at the price of copies of the images for each group.
            let groups = (work / TASK_WORK).min(outs.div_ceil(32)).clamp(1, 8);
            let group = outs.div_ceil(groups);
            y.par_chunks_mut(outs * self.plane).zip(x.par_chunks(image)).with_min_len(min_len(work)).for_each(|(y, x)| {
                y.par_chunks_mut(group * self.plane).enumerate().for_each(|(i, y)| {
                    let columns = i * group..(i * group + y.len() / self.plane);
                    let panels = self.vectors.panels(columns.len());
                    self.task(y, x, &panels, &pack(columns, &panels));
                });
            });
            return;
        }
        let panels = self.vectors.panels(outs);
        let packed = pack(0..outs, &panels);
        let tasks = y.par_chunks_mut(self.images * outs * self.plane).zip(x.par_chunks(self.images * image));
        tasks.with_min_len(min_len(work)).for_each(|(y, x)| self.task(y, x, &panels, &packed));
    }

    /// Some images, on this thread.
    fn task(&self, y: &mut [f32], x: &[f32], panels: &[Panel], packed: &[Vec<f32>]) {
        let outs = panels.last().map_or(0, |p| p.first + p.count);
        let images = y.len() / (outs * self.plane);
        let widest = panels.iter().map(|p| p.width).max().unwrap_or(0);
        let copied = if self.padded.is_plain() { 0 } else { images * self.channels * self.padded.plane() };
        scratch::with(copied + images * self.plane * widest, |buffer: &mut [f32]| {
            let (copies, sums) = buffer.split_at_mut(copied);
            let x = if self.padded.is_plain() {
                x
            } else {
                self.padded.fill(copies, x);
                copies
            };
            for panel in panels {
                let sums = &mut sums[..images * self.plane * panel.width];
                for (phase, packed) in self.phases.iter().zip(packed) {
                    let positions = phase.at.len() / self.images * images;
                    let (at, to) = (&phase.at[..positions], &phase.to[..positions]);
                    let packed = &packed[panel.start * phase.runs.len() * phase.length..];
                    // At least once, so that positions without a step get their zero.
                    let some = (STEPS / phase.length.max(1)).max(1);
                    for first in (0..phase.runs.len().max(1)).step_by(some) {
                        let runs = &phase.runs[first..phase.runs.len().min(first + some)];
                        let steps = Steps { runs, length: phase.length, step: phase.step };
                        let packed = &packed[first * phase.length * panel.width..];
                        self.vectors.multiply(sums, (to, panel.width), x, at, steps, packed, panel.width, first > 0);
                    }
                }
                for (image, sums) in sums.chunks_exact(self.plane * panel.width).enumerate() {
                    let to = (image * outs + panel.first) * self.plane;
                    transpose(&mut y[to..], self.plane, sums, panel.width, self.plane, panel.count);
                }
            }
        });
    }
}
