//! The convolution itself.

use rayon::prelude::*;

use super::columns::{Columns, split};
use super::{ConvDims, TASK_WORK, TILE, TILE_DEPTH, as_f32, as_f32_mut, direct, min_len};
use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::matmul_serial;
use crate::device::cpu::matrix::MatRef;
use crate::device::cpu::scratch;

/// Rows and columns of the products for few output channels: sizes at which the matrix product uses a tile as it lies in memory.
const NARROW: (usize, usize) = (48, 256);

/// `y = x * w`: `x` is `[N, Ci, H, W]`, `w` is `[Co, Ci, kh, kw]`, `y` is `[N, Co, Ho, Wo]`.
///
/// # Panics
/// A slice's length does not fit `dims`.
pub(crate) fn conv2d<T: Real>(y: &mut [T], x: &[T], w: &[T], dims: &ConvDims) {
    dims.check(x.len(), w.len(), y.len());
    if y.is_empty() {
        return;
    }
    let (depth, plane, channels) = (dims.depth(), dims.out_plane(), dims.out_channels);
    if depth == 0 || x.is_empty() {
        return y.fill(T::ZERO);
    }
    if !dims.is_pointwise()
        && let Some(vectors) = super::direct::<T>(channels)
        && let (Some(x), Some(w)) = (as_f32(x), as_f32(w))
        && let Some(y) = as_f32_mut(y)
    {
        return direct::conv2d(vectors, y, x, w, dims);
    }
    let image_x = dims.in_channels * dims.in_plane();
    let images = dims.images_per_task(plane);
    let work = images * channels * plane * depth;
    if images == 1 && dims.batch < 4 {
        // Few images: their output channels are shared out too, at the price of gathering again for each group.
        let groups = (work / TASK_WORK).min(channels.div_ceil(32)).clamp(1, 8);
        let group = channels.div_ceil(groups);
        y.par_chunks_mut(channels * plane).zip(x.par_chunks(image_x.max(1))).with_min_len(min_len(work)).for_each(|(y, x)| {
            y.par_chunks_mut(group * plane).zip(w.par_chunks(group * depth)).for_each(|(y, w)| image_group(y, x, w, dims, 1));
        });
        return;
    }
    let task = |(i, y): (usize, &mut [T])| {
        let count = y.len() / (channels * plane);
        let first = i * images;
        image_group(y, &x[first * image_x..(first + count) * image_x], w, dims, count);
    };
    y.par_chunks_mut(images * channels * plane).enumerate().with_min_len(min_len(work)).for_each(task);
}

/// Some images against the output channels of `w`, on this thread.
fn image_group<T: Real>(y: &mut [T], x: &[T], w: &[T], dims: &ConvDims, images: usize) {
    let (depth, plane) = (dims.depth(), dims.out_plane());
    let channels = w.len() / depth;
    let weight = MatRef::new(w, channels, depth);
    if dims.is_pointwise() {
        for (y, x) in y.chunks_exact_mut(channels * plane).zip(x.chunks_exact(depth * plane)) {
            matmul_serial(y, plane, weight, MatRef::new(x, depth, plane), false);
        }
        return;
    }
    let (rows, width) = if channels < 192 && images == 1 { NARROW } else { (channels, TILE) };
    let total = images * plane;
    let part = depth.div_ceil(depth.div_ceil(TILE_DEPTH));
    let result = if images == 1 { 0 } else { channels * width };
    let copied = if dims.splits() { images * dims.in_channels * dims.gathered_plane() } else { 0 };
    scratch::with(part * width + result + copied, |buffer: &mut [T]| {
        let (buffer, rest) = buffer.split_at_mut(part * width);
        let (result, copy) = rest.split_at_mut(result);
        let x = if dims.splits() {
            split(copy, x, dims);
            copy
        } else {
            x
        };
        for start in (0..total).step_by(width) {
            let range = start..(start + width).min(total);
            let columns = Columns::new(dims, range.clone());
            for k in (0..depth).step_by(part) {
                let ks = k..(k + part).min(depth);
                let tile = &mut buffer[..ks.len() * range.len()];
                columns.gather(tile, x, dims.in_channels, ks.clone());
                let tile = MatRef::new(tile, ks.len(), range.len());
                for c in (0..channels).step_by(rows) {
                    let weight = weight.cut(c..(c + rows).min(channels), ks.clone());
                    if images == 1 {
                        matmul_serial(&mut y[c * plane + start..], plane, weight, tile, k > 0);
                    } else {
                        matmul_serial(&mut result[c * range.len()..], range.len(), weight, tile, k > 0);
                    }
                }
            }
            if images > 1 {
                for (image, positions, at) in Columns::images(range.clone(), plane) {
                    for c in 0..channels {
                        let from = c * range.len() + at;
                        let to = (image * channels + c) * plane;
                        y[to + positions.start..to + positions.end].copy_from_slice(&result[from..from + positions.len()]);
                    }
                }
            }
        }
    });
}
