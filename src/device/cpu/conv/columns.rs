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
    /// The start of the run in the tile.
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
            let col = k * dims.dilation[1];
            match dims.splits() {
                true => (phase(dims, col % dims.stride[1]).start + col / dims.stride[1]) as isize,
                false => col as isize - dims.padding[1] as isize,
            }
        });
        Columns { dims, runs, width: columns.len(), inside: inside.collect(), lead: lead.collect() }
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

    /// Writes the tile's rows `depth` from images with `channels` channels each, row-major. If [`ConvDims::splits`], the images
    /// must be [`split`].
    pub(super) fn gather<T: Real>(&self, out: &mut [T], x: &[T], channels: usize, depth: Range<usize>) {
        let step = self.dims.stride[1];
        parallel::simd(
            #[inline(always)]
            || {
                if self.dims.splits() {
                    for (out, k) in out.chunks_exact_mut(self.width).zip(depth) {
                        self.each_whole(
                            channels,
                            k,
                            #[inline(always)]
                            |run, from| copy(&mut out[run.at..run.at + run.cols.len()], &x[from..], 1),
                        );
                    }
                    return;
                }
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
                            copy(middle, &x[from..], step);
                        },
                    );
                }
            },
        );
    }

    /// Adds the tile's rows `depth` to the image elements they were gathered from; images are split as for [`Columns::gather`].
    pub(super) fn scatter<T: Real>(&self, x: &mut [T], columns: &[T], channels: usize, depth: Range<usize>) {
        let step = self.dims.stride[1];
        parallel::simd(
            #[inline(always)]
            || {
                if self.dims.splits() {
                    for (columns, k) in columns.chunks_exact(self.width).zip(depth) {
                        self.each_whole(
                            channels,
                            k,
                            #[inline(always)]
                            |run, from| add(&mut x[from..], &columns[run.at..run.at + run.cols.len()], 1),
                        );
                    }
                    return;
                }
                for (columns, k) in columns.chunks_exact(self.width).zip(depth) {
                    self.each(
                        channels,
                        k,
                        #[inline(always)]
                        |run, inside, from| {
                            if let Some(from) = from {
                                let start = run.at + inside.start - run.cols.start;
                                add(&mut x[from..], &columns[start..start + inside.len()], step);
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
                let from = (line + inside.start * dims.stride[1]).wrapping_add_signed(lead);
                f(run, inside, Some(from));
            } else {
                f(run, 0..0, None);
            }
        }
    }

    /// Calls `f(run, where in `x` its first element is)` for the runs of row `k` of the column matrix of split images, which have all
    /// elements of every run, one after the other.
    #[inline(always)]
    fn each_whole(&self, channels: usize, k: usize, mut f: impl FnMut(&Run, usize)) {
        let dims = self.dims;
        let (channel, ky, kx) = (k / dims.window(), k / dims.kernel[1] % dims.kernel[0], k % dims.kernel[1]);
        let (rows, pitch) = (dims.span(0), dims.span(1));
        let first = (channel * rows + ky * dims.dilation[0]) * pitch + self.lead[kx] as usize;
        for run in &self.runs {
            f(run, (run.image * channels * rows + run.row * dims.stride[0]) * pitch + run.cols.start + first);
        }
    }
}

/// The range, in a row of a split image, of the columns that are `phase` behind a multiple of the stride.
fn phase(dims: &ConvDims, phase: usize) -> Range<usize> {
    let length = |p: usize| dims.span(1).saturating_sub(p).div_ceil(dims.stride[1]);
    let start = (0..phase).map(length).sum();
    start..start + length(phase)
}

/// Calls `f(where in a split row, where in an image's row)` for the elements of each phase that lie in the image; they are one after
/// the other in the split row, and a stride apart in the image's.
#[inline(always)]
fn each_phase(dims: &ConvDims, mut f: impl FnMut(Range<usize>, usize)) {
    let (stride, padding) = (dims.stride[1], dims.padding[1]);
    for p in 0..stride {
        let all = phase(dims, p);
        let part = inside(p, padding, stride, dims.input[1], all.len());
        if !part.is_empty() {
            f(all.start + part.start..all.start + part.end, part.start * stride + p - padding);
        }
    }
}

/// Copies images with their padding so that what windows at a stride read is next to each other: in each row first the columns that are
/// multiples of the stride, counted from the padding's beginning, then those one behind, and so on.
pub(super) fn split<T: Real>(out: &mut [T], x: &[T], dims: &ConvDims) {
    let (rows, pitch, width) = (dims.span(0), dims.span(1), dims.input[1]);
    parallel::simd(
        #[inline(always)]
        || {
            out.fill(T::ZERO);
            for (out, x) in out.chunks_exact_mut(rows * pitch).zip(x.chunks_exact(dims.in_plane())) {
                for (out, x) in out.chunks_exact_mut(pitch).skip(dims.padding[0]).zip(x.chunks_exact(width)) {
                    each_phase(
                        dims,
                        #[inline(always)]
                        |to, from| copy(&mut out[to], &x[from..], dims.stride[1]),
                    );
                }
            }
        },
    );
}

/// The inverse of [`split`]; elements that no window reaches become zero.
pub(super) fn join<T: Real>(out: &mut [T], x: &[T], dims: &ConvDims) {
    let (rows, pitch, width) = (dims.span(0), dims.span(1), dims.input[1]);
    out.fill(T::ZERO);
    for (out, x) in out.chunks_exact_mut(dims.in_plane()).zip(x.chunks_exact(rows * pitch)) {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(pitch).skip(dims.padding[0])) {
            each_phase(dims, |from, to| {
                let out = out[to..].iter_mut().step_by(dims.stride[1]);
                out.zip(&x[from]).for_each(|(o, v)| *o = *v);
            });
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
pub(super) fn copy<T: Real>(out: &mut [T], from: &[T], stride: usize) {
    match stride {
        1 => {
            // In pieces of known length: a call of memcpy costs more than the few elements of a row.
            let from = &from[..out.len()];
            let (eights, out) = out.as_chunks_mut::<8>();
            let (from_eights, from) = from.as_chunks::<8>();
            eights.iter_mut().zip(from_eights).for_each(|(o, f)| *o = *f);
            let (fours, out) = out.as_chunks_mut::<4>();
            let (from_fours, from) = from.as_chunks::<4>();
            fours.iter_mut().zip(from_fours).for_each(|(o, f)| *o = *f);
            out.iter_mut().zip(from).for_each(|(o, f)| *o = *f);
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
            // As for copies: rows are short.
            let to = &mut to[..values.len()];
            let (eights, to) = to.as_chunks_mut::<8>();
            let (value_eights, values) = values.as_chunks::<8>();
            eights.iter_mut().zip(value_eights).for_each(|(t, v)| add_each(t, v));
            let (fours, to) = to.as_chunks_mut::<4>();
            let (value_fours, values) = values.as_chunks::<4>();
            fours.iter_mut().zip(value_fours).for_each(|(t, v)| add_each(t, v));
            to.iter_mut().zip(values).for_each(|(t, v)| *t += *v);
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

#[inline(always)]
fn add_each<T: Real, const N: usize>(to: &mut [T; N], values: &[T; N]) {
    let mut sum = *to;
    (0..N).for_each(|i| sum[i] += values[i]);
    *to = sum;
}
