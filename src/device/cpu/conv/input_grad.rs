//! The adjoint with respect to the input: the transposed convolution.

use rayon::prelude::*;

use super::columns::{Columns, join};
use super::forward::conv2d;
use super::{ConvDims, TASK_WORK, TILE, as_f32, as_f32_mut, direct, min_len};
use crate::device::cpu::math::Real;
use crate::device::cpu::matmul::matmul_serial;
use crate::device::cpu::matrix::MatRef;
use crate::device::cpu::parallel;
use crate::device::cpu::scratch;
use crate::device::cpu::transpose::transpose;

/// `dx = g` convolved back: `g` is `[N, Co, Ho, Wo]`, `w` is `[Co, Ci, kh, kw]`, `dx` is `[N, Ci, H, W]`. Elements of the input
/// that no window covers get 0.
///
/// # Panics
/// A slice's length does not fit `dims`.
pub(crate) fn conv2d_input_grad<T: Real>(dx: &mut [T], g: &[T], w: &[T], dims: &ConvDims) {
    dims.check(dx.len(), w.len(), g.len());
    if dx.is_empty() {
        return;
    }
    if g.is_empty() || w.is_empty() {
        return dx.fill(T::ZERO);
    }
    // A window that is not finite would meet the zeros around `g`.
    if (dims.stride != [1, 1] || flipped(dims).is_none())
        && dims.dilation == [1, 1]
        && let Some(vectors) = super::direct::<T>(dims.in_channels)
        && let (Some(g), Some(w)) = (as_f32(g), as_f32(w))
        && is_finite(w)
        && let Some(dx) = as_f32_mut(dx)
    {
        return direct::input_grad(vectors, dx, g, w, dims);
    }
    match flipped(dims) {
        Some(flipped) => conv2d(dx, g, &flip(w, dims), &flipped),
        None => scattered(dx, g, w, dims),
    }
}

/// Whether there is neither an infinity nor NaN.
fn is_finite(w: &[f32]) -> bool {
    w.chunks(parallel::CHUNK).all(|w| {
        parallel::simd(
            #[inline(always)]
            || {
                let mut finite = true;
                for w in w {
                    finite &= w.is_finite();
                }
                finite
            },
        )
    })
}

/// With stride 1 the adjoint is a convolution with the window turned by half a turn and the channels exchanged.
fn flipped(dims: &ConvDims) -> Option<ConvDims> {
    let extent = |d: usize| dims.dilation[d] * (dims.kernel[d] - 1);
    (dims.stride == [1, 1] && (0..2).all(|d| dims.padding[d] <= extent(d))).then(|| ConvDims {
        in_channels: dims.out_channels,
        out_channels: dims.in_channels,
        input: dims.output,
        output: dims.input,
        padding: [0, 1].map(|d| extent(d) - dims.padding[d]),
        ..*dims
    })
}

/// The weight as `[Ci, Co, kh, kw]` with each window reversed.
fn flip<T: Real>(w: &[T], dims: &ConvDims) -> Vec<T> {
    let window = dims.window();
    let mut out = Vec::with_capacity(w.len());
    for ci in 0..dims.in_channels {
        for co in 0..dims.out_channels {
            let at = (co * dims.in_channels + ci) * window;
            out.extend(w[at..at + window].iter().rev());
        }
    }
    out
}

/// Tiles of `wᵀ g`, added into the images. A task owns some channels of some images.
fn scattered<T: Real>(dx: &mut [T], g: &[T], w: &[T], dims: &ConvDims) {
    let (depth, plane, window) = (dims.depth(), dims.out_plane(), dims.window());
    let image_g = dims.out_channels * plane;
    let mut transposed = vec![T::ZERO; w.len()];
    transpose(&mut transposed, dims.out_channels, w, depth, dims.out_channels, depth);

    let images = dims.images_per_task(plane);
    let work = images * dims.out_channels * plane * depth;
    let task = |(i, dx): (usize, &mut [T])| {
        let count = dx.len() / (dims.in_channels * dims.in_plane());
        let g = &g[i * images * image_g..][..count * image_g];
        image_group(dx, g, &transposed, dims, count);
    };
    if images == 1 && dims.batch < 4 {
        // Few images: their channels are shared out too.
        let groups = (work / TASK_WORK).min(dims.in_channels).clamp(1, 8);
        let group = dims.in_channels.div_ceil(groups);
        let planes = dx.par_chunks_mut(dims.in_channels * dims.in_plane()).zip(g.par_chunks(image_g));
        planes.with_min_len(min_len(work)).for_each(|(dx, g)| {
            let parts = dx.par_chunks_mut(group * dims.in_plane()).zip(transposed.par_chunks(group * window * dims.out_channels));
            parts.for_each(|(dx, w)| image_group(dx, g, w, dims, 1));
        });
    } else {
        let group = images * dims.in_channels * dims.in_plane();
        dx.par_chunks_mut(group).enumerate().with_min_len(min_len(work)).for_each(task);
    }
}

/// Some images and the input channels of the transposed weight `w`, `[ci, kh, kw, Co]`, on this thread.
fn image_group<T: Real>(dx: &mut [T], g: &[T], w: &[T], dims: &ConvDims, images: usize) {
    let (plane, window, outs) = (dims.out_plane(), dims.window(), dims.out_channels);
    let depth = w.len() / outs;
    let channels = depth / window;
    let weight = MatRef::new(w, depth, outs);
    // Whole channels, so that a tile's rows stay in the cache between the product and the addition.
    let part = (512 / window).clamp(1, channels) * window;
    let total = images * plane;
    let copied = if images == 1 { 0 } else { outs * TILE };
    let sums = if dims.splits() { images * channels * dims.gathered_plane() } else { 0 };
    scratch::with(part * TILE + copied + sums, |buffer: &mut [T]| {
        let (buffer, rest) = buffer.split_at_mut(part * TILE);
        let (copy, sums) = rest.split_at_mut(copied);
        let sum = if dims.splits() { &mut *sums } else { &mut *dx };
        sum.fill(T::ZERO);
        for start in (0..total).step_by(TILE) {
            let range = start..(start + TILE).min(total);
            let columns = Columns::new(dims, range.clone());
            let gradient = if images == 1 {
                MatRef::strided(&g[start..], outs, range.len(), plane, 1)
            } else {
                for (image, positions, at) in Columns::images(range.clone(), plane) {
                    for c in 0..outs {
                        let from = (image * outs + c) * plane;
                        let to = c * range.len() + at;
                        copy[to..to + positions.len()].copy_from_slice(&g[from + positions.start..from + positions.end]);
                    }
                }
                MatRef::new(copy, outs, range.len())
            };
            for k in (0..depth).step_by(part) {
                let ks = k..(k + part).min(depth);
                let tile = &mut buffer[..ks.len() * range.len()];
                matmul_serial(tile, range.len(), weight.cut(ks.clone(), 0..outs), gradient, false);
                columns.scatter(sum, tile, channels, ks);
            }
        }
        if dims.splits() {
            join(dx, sums, dims);
        }
    });
}
