//! The adjoint with respect to the weight.

use std::ops::Range;

use rayon::prelude::*;

use super::columns::{Columns, split};
use super::{ConvDims, TASK_WORK, TILE, as_f32, as_f32_mut, direct_weight, min_len};
use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::matmul_serial;
use crate::device::cpu::matrix::MatRef;
use crate::device::cpu::parallel;
use crate::device::cpu::scratch;
use crate::device::cpu::transpose::transpose;

/// Elements that all partial sums together may have, beyond one copy of the weight.
const PARTIAL_ELEMENTS: usize = 4 << 20;

/// `dw`, summed over images and positions: `x` is `[N, Ci, H, W]`, `g` is `[N, Co, Ho, Wo]`, `dw` is `[Co, Ci, kh, kw]`.
///
/// # Panics
/// A slice's length does not fit `dims`.
pub(crate) fn conv2d_weight_grad<T: Real>(dw: &mut [T], x: &[T], g: &[T], dims: &ConvDims) {
    dims.check(x.len(), dw.len(), g.len());
    if dw.is_empty() {
        return;
    }
    if g.is_empty() || x.is_empty() {
        return dw.fill(T::ZERO);
    }
    let (depth, outs, window) = (dims.depth(), dims.out_channels, dims.window());
    let vectors = super::direct::<T>(outs).map(|vectors| (vectors, vectors.panels(outs)));
    // Direct sums have the zeros that fill their vectors.
    let width = vectors.as_ref().and_then(|(_, panels)| panels.last()).map_or(outs, |last| last.start + last.width);
    let (size, row) = (depth * width, window * width);
    // Tasks are groups of input channels, whose results are disjoint, times groups of images, whose results are added at the end.
    let work = dims.batch * dims.out_plane() * depth * outs;
    let wanted = (work / TASK_WORK).clamp(1, 16);
    let channel_groups = depth.div_ceil(512).min(dims.in_channels);
    let channels = dims.in_channels.div_ceil(channel_groups);
    let channel_groups = dims.in_channels.div_ceil(channels);
    let most = (PARTIAL_ELEMENTS / size).max(1);
    let image_groups = wanted.div_ceil(channel_groups).min(dims.batch).min(most);
    let images = dims.batch.div_ceil(image_groups);
    let image_groups = dims.batch.div_ceil(images);

    // Each partial sum is the transpose, `[Ci, kh, kw, Co]`: then the columns, the larger operand, are read as they were gathered.
    scratch::with(image_groups * size, |partial: &mut [T]| {
        let mut tasks = Vec::with_capacity(image_groups * channel_groups);
        for (i, partial) in partial.chunks_mut(size).enumerate() {
            tasks.extend(partial.chunks_mut(channels * row).enumerate().map(|(c, out)| (i * images, c * channels, out)));
        }
        let each = work / tasks.len();
        tasks.into_par_iter().with_min_len(min_len(each)).for_each(|(first, channel, out)| {
            let end = (first + images).min(dims.batch);
            if let Some((vectors, panels)) = &vectors
                && let (Some(x), Some(g)) = (as_f32(x), as_f32(g))
                && let Some(out) = as_f32_mut(&mut *out)
            {
                return direct_weight::weight_grad(*vectors, out, panels, x, g, dims, first..end, channel);
            }
            group(out, x, g, dims, first..end, channel);
        });
        let (sum, others) = partial.split_at_mut(size);
        add_all(sum, others);
        let rows = (4 * parallel::CHUNK).div_ceil(depth).next_multiple_of(16);
        parallel::chunks_mut(dw, rows * depth, |i, dw| {
            transpose(dw, depth, &sum[i * rows..], width, depth, dw.len() / depth);
        });
    });
}

/// Adds the partial sums `others`, one after the other, to `sum`.
fn add_all<T: Real>(sum: &mut [T], others: &[T]) {
    if others.is_empty() {
        return;
    }
    let size = sum.len();
    parallel::chunks_mut(sum, parallel::CHUNK, |i, sum| {
        for other in others.chunks_exact(size) {
            let other = &other[i * parallel::CHUNK..];
            parallel::simd(
                #[inline(always)]
                || sum.iter_mut().zip(other).for_each(|(s, o)| *s += *o),
            );
        }
    });
}

/// The images `images` and the input channels from `channel` on, as many as `out` has, on this thread.
fn group<T: Real>(out: &mut [T], x: &[T], g: &[T], dims: &ConvDims, images: Range<usize>, channel: usize) {
    let (plane, outs, window) = (dims.out_plane(), dims.out_channels, dims.window());
    let depth = out.len() / outs;
    let channels = depth / window;
    // As many images at a time as fill a tile, or all if their rows need not be split.
    let batch = if dims.splits() { TILE.div_ceil(plane).min(images.len()) } else { images.len() };
    let copied = if dims.splits() { batch * channels * dims.gathered_plane() } else { 0 };
    scratch::with((depth + outs) * TILE.min(batch * plane) + copied, |buffer: &mut [T]| {
        let (copy, buffer) = buffer.split_at_mut(copied);
        for first in images.clone().step_by(batch) {
            let batch = batch.min(images.end - first);
            let g = &g[first * outs * plane..];
            let x = &x[first * dims.in_channels * dims.in_plane()..];
            // The position of the group's channels: in the images, or alone in the copy.
            let (x, all, channel) = if dims.splits() {
                let copies = copy.chunks_exact_mut(channels * dims.gathered_plane()).take(batch);
                for (copy, x) in copies.zip(x.chunks_exact(dims.in_channels * dims.in_plane())) {
                    split(copy, &x[channel * dims.in_plane()..][..channels * dims.in_plane()], dims);
                }
                (&*copy, channels, 0)
            } else {
                (x, dims.in_channels, channel)
            };
            let ks = channel * window..channel * window + depth;
            for start in (0..batch * plane).step_by(TILE) {
                let range = start..(start + TILE).min(batch * plane);
                let (tile, gradient) = buffer.split_at_mut(depth * range.len());
                Columns::new(dims, range.clone()).gather(tile, x, all, ks.clone());
                for (image, positions, at) in Columns::images(range.clone(), plane) {
                    let from = image * outs * plane + positions.start;
                    transpose(&mut gradient[at * outs..], outs, &g[from..], plane, outs, positions.len());
                }
                let (tile, gradient) = (MatRef::new(tile, depth, range.len()), MatRef::new(gradient, range.len(), outs));
                matmul_serial(out, outs, tile, gradient, first > images.start || start > 0);
            }
        }
    });
}
