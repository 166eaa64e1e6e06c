//! Tiles of the column matrix: gathered from images, and added back into them.

use std::ops::Range;

use super::ConvDims;
use crate::device::cpu::math::Real;
use crate::device::cpu::parallel;

/// A run of neighbours in one row of one output image.
struct Run {
    image: usize,
    row: usize,
    cols: Range<usize>,
    /// Where the run starts in the tile.
    at: usize,
}

/// Some columns of the column matrix of some images: column `image * plane + position`.
pub(super) struct Columns<'a> {
    dims: &'a ConvDims,
    runs: Vec<Run>,
    width: usize,
    /// For each `kx`, the output columns whose input column lies inside of the image.
    inside: Vec<Range<usize>>,
    /// For each `kx`, where in its row the input element of output column 0 is or, outside of the image, would be.
    lead: Vec<isize>,
    /// From one output column's input element to the next one's.
    step: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn new(dims: &'a ConvDims, columns: Range<usize>) -> Columns<'a> {
        let [height, width] = dims.output;
        let mut runs = Vec::new();
        let mut at = columns.start;
        while at < columns.end {
            let (line, col) = (at / width, at % width);
            let end = width.min(col + columns.end - at);
            runs.push(Run { image: line / height, row: line % height, cols: col..end, at: at - columns.start });
            at += end - col;
        }
        let inside = (0..dims.kernel[1]).map(|k| inside(k * dims.dilation[1], dims.padding[1], dims.stride[1], dims.input[1], width));
        let lead = (0..dims.kernel[1]).map(|k| {
            let col = (k * dims.dilation[1]) as isize - dims.padding[1] as isize;
            if !dims.splits() {
                return col;
            }
            let stride = dims.stride[1] as isize;
            phase(dims, col.rem_euclid(stride) as usize) as isize + col.div_euclid(stride)
        });
        let step = if dims.splits() { 1 } else { dims.stride[1] };
        Columns { dims, runs, width: columns.len(), inside: inside.collect(), lead: lead.collect(), step }
    }

    /// Output images that the tile touches, with the positions in each and where they start in the tile.
    pub(super) fn images(columns: Range<usize>, plane: usize) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
        let images = if columns.is_empty() { 0..0 } else { columns.start / plane..columns.end.div_ceil(plane) };
        images.map(move |image| {
            let first = columns.start.max(image * plane);
            let end = columns.end.min((image + 1) * plane);
            (image, first - image * plane..end - image * plane, first - columns.start)
        })
    }

    /// Writes the tile's rows `depth` from images with `channels` channels each, row-major. If [`ConvDims::splits`], the images'
    /// rows must be [`split`].
    pub(super) fn gather<T: Real>(&self, out: &mut [T], x: &[T], channels: usize, depth: Range<usize>) {
        parallel::simd(
            #[inline(always)]
            || {
                for (out, k) in out.chunks_exact_mut(self.width).zip(depth) {
                    self.each(
                        channels,
                        k,
                        #[inline(always)]
                        |run, inside, from| {
                            let run_out = &mut out[run.at..run.at + run.cols.len()];
                            let Some(from) = from else { return run_out.fill(T::ZERO) };
                            let (before, rest) = run_out.split_at_mut(inside.start - run.cols.start);
                            let (middle, after) = rest.split_at_mut(inside.len());
                            // Mostly empty or a single element: a loop, not a call of memset.
                            before.iter_mut().chain(after).for_each(|o| *o = T::ZERO);
                            copy(middle, &x[from..], self.step);
                        },
                    );
                }
            },
        );
    }

    /// Adds the tile's rows `depth` to the image elements they were gathered from; rows are split as for [`Columns::gather`].
    pub(super) fn scatter<T: Real>(&self, x: &mut [T], columns: &[T], channels: usize, depth: Range<usize>) {
        parallel::simd(
            #[inline(always)]
            || {
                for (columns, k) in columns.chunks_exact(self.width).zip(depth) {
                    self.each(
                        channels,
                        k,
                        #[inline(always)]
                        |run, inside, from| {
                            if let Some(from) = from {
                                let start = run.at + inside.start - run.cols.start;
                                add(&mut x[from..], &columns[start..start + inside.len()], self.step);
                            }
                        },
                    );
                }
            },
        );
    }

    /// Calls `f(run, its output columns inside of the input, where in `x` the first of them is)`, or with none when all are
    /// outside, for the runs of row `k` of the column matrix.
    #[inline(always)]
    fn each(&self, channels: usize, k: usize, mut f: impl FnMut(&Run, Range<usize>, Option<usize>)) {
        let dims = self.dims;
        let (channel, ky, kx) = (k / dims.window(), k / dims.kernel[1] % dims.kernel[0], k % dims.kernel[1]);
        let (valid, lead) = (&self.inside[kx], self.lead[kx]);
        for run in &self.runs {
            let inside = run.cols.start.max(valid.start)..run.cols.end.min(valid.end);
            let row = (run.row * dims.stride[0] + ky * dims.dilation[0]).wrapping_sub(dims.padding[0]);
            if row < dims.input[0] && !inside.is_empty() {
                let line = ((run.image * channels + channel) * dims.input[0] + row) * dims.input[1];
                let from = (line + inside.start * self.step).wrapping_add_signed(lead);
                f(run, inside, Some(from));
            } else {
                f(run, 0..0, None);
            }
        }
    }
}

/// Where in a split row the elements begin whose column is `phase` behind a multiple of the stride.
fn phase(dims: &ConvDims, phase: usize) -> usize {
    (0..phase).map(|p| dims.input[1].saturating_sub(p).div_ceil(dims.stride[1])).sum()
}

/// Copies image rows so that what windows at a stride read is next to each other: first the columns that are multiples of the
/// stride, then those one behind, and so on.
pub(super) fn split<T: Real>(out: &mut [T], x: &[T], dims: &ConvDims) {
    let (width, stride) = (dims.input[1], dims.stride[1]);
    parallel::simd(
        #[inline(always)]
        || {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let mut out = out;
                for p in 0..stride.min(width) {
                    let (part, rest) = out.split_at_mut((width - p).div_ceil(stride));
                    copy(part, &x[p..], stride);
                    out = rest;
                }
            }
        },
    );
}

/// The inverse of [`split`].
pub(super) fn join<T: Real>(out: &mut [T], x: &[T], dims: &ConvDims) {
    let (width, stride) = (dims.input[1], dims.stride[1]);
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let mut x = x;
        for p in 0..stride.min(width) {
            let (part, rest) = x.split_at((width - p).div_ceil(stride));
            out[p..].iter_mut().step_by(stride).zip(part).for_each(|(o, v)| *o = *v);
            x = rest;
        }
    }
}

/// The outputs `o` with `padding <= o * stride + offset < padding + input`.
fn inside(offset: usize, padding: usize, stride: usize, input: usize, output: usize) -> Range<usize> {
    let start = padding.saturating_sub(offset).div_ceil(stride);
    let end = (padding + input).saturating_sub(offset).div_ceil(stride).min(output);
    start.min(end)..end
}

/// `out[i] = from[i * stride]`.
#[inline(always)]
fn copy<T: Real>(out: &mut [T], from: &[T], stride: usize) {
    match stride {
        1 => {
            // In pieces of known length: a call of memcpy costs more than the few elements of a row.
            let from = &from[..out.len()];
            let (mut outs, mut froms) = (out.chunks_exact_mut(8), from.chunks_exact(8));
            for (o, f) in (&mut outs).zip(&mut froms) {
                let values: [T; 8] = f.try_into().expect("eight elements");
                o.copy_from_slice(&values);
            }
            for (o, f) in outs.into_remainder().iter_mut().zip(froms.remainder()) {
                *o = *f;
            }
        }
        2 => {
            let Some((last, out)) = out.split_last_mut() else { return };
            for (o, f) in out.iter_mut().zip(from.chunks_exact(2)) {
                *o = f[0];
            }
            *last = from[2 * out.len()];
        }
        _ => {
            for (o, f) in out.iter_mut().zip(from.iter().step_by(stride)) {
                *o = *f;
            }
        }
    }
}

/// `to[i * stride] += values[i]`.
#[inline(always)]
fn add<T: Real>(to: &mut [T], values: &[T], stride: usize) {
    match stride {
        1 => {
            for (t, v) in to.iter_mut().zip(values) {
                *t += *v;
            }
        }
        2 => {
            let Some((last, values)) = values.split_last() else { return };
            for (t, v) in to.chunks_exact_mut(2).zip(values) {
                t[0] += *v;
            }
            to[2 * values.len()] += *last;
        }
        _ => {
            for (t, v) in to.iter_mut().step_by(stride).zip(values) {
                *t += *v;
            }
        }
    }
}
