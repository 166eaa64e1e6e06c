//! The weight's gradient in f32 without columns: the rows of a block are elements of the weight, which read the copies of the images, its
//! steps are output positions, and a panel's vectors are the output channels of the output's gradient, transposed.

use std::ops::Range;

use super::ConvDims;
use super::block::{Panel, Steps, Vectors};
use super::columns::Columns;
use super::direct::Padded;
use crate::device::cpu::scratch;
use crate::device::cpu::transpose::transpose;

/// Steps whose products a sum takes in before it is added to what is in memory, about.
const STEPS: usize = 256;

/// `out`, `[ci, kh, kw, width of all panels]`, is the sum over the images `images` for the input channels from `channel` on, as many as
/// it has.
#[allow(clippy::too_many_arguments)]
pub(super) fn weight_grad(
    vectors: Vectors,
    out: &mut [f32],
    panels: &[Panel],
    x: &[f32],
    g: &[f32],
    dims: &ConvDims,
    images: Range<usize>,
    channel: usize,
) {
    let padded = Padded::of(dims);
    let (plane, outs, window) = (dims.out_plane(), dims.out_channels, dims.window());
    let width = panels.last().map_or(0, |p| p.start + p.width);
    let widest = panels.iter().map(|p| p.width).max().unwrap_or(0);
    let channels = out.len() / width / window;
    let [height, length] = dims.output;
    // As many images at a time as give a sum enough steps.
    let batch = STEPS.div_ceil(plane).min(images.len());
    let lines = (STEPS / length).clamp(1, batch * height);
    let image_x = dims.in_channels * dims.in_plane();
    // Without a copy the channels of the images that are read lie among the others.
    let (image, from) = match padded.is_plain() {
        true => (image_x, channel * padded.plane()),
        false => (channels * padded.plane(), 0),
    };
    let copied = if padded.is_plain() { 0 } else { batch * image };
    let elements = (0..channels * window).map(|k| {
        let (c, ky, kx) = (k / window, k / dims.kernel[1] % dims.kernel[0], k % dims.kernel[1]);
        from + c * padded.plane() + ky * dims.dilation[0] * padded.size[1] + kx * dims.dilation[1]
    });
    let (at, to): (Vec<usize>, Vec<usize>) = elements.zip(0..).unzip();
    let starts = (0..batch * height).map(|line| line / height * image + line % height * dims.stride[0] * padded.size[1]);
    let runs: Vec<usize> = starts.collect();
    scratch::with(copied + lines * length * widest, |buffer: &mut [f32]| {
        let (copies, gradient) = buffer.split_at_mut(copied);
        for first in images.clone().step_by(batch) {
            let batch = batch.min(images.end - first);
            let g = &g[first * outs * plane..];
            let x = &x[first * image_x..][..batch * image_x];
            let x = if padded.is_plain() {
                x
            } else {
                for (copy, x) in copies.chunks_exact_mut(image).zip(x.chunks_exact(image_x)) {
                    padded.fill(copy, &x[channel * dims.in_plane()..][..channels * dims.in_plane()]);
                }
                &*copies
            };
            for line in (0..batch * height).step_by(lines) {
                let end = (line + lines).min(batch * height);
                let steps = Steps { runs: &runs[line..end], length, step: dims.stride[1] };
                for panel in panels {
                    let gradient = &mut gradient[..(end - line) * length * panel.width];
                    if panel.count < panel.width {
                        gradient.fill(0.0);
                    }
                    for (image, positions, at) in Columns::images(line * length..end * length, plane) {
                        let from = (image * outs + panel.first) * plane + positions.start;
                        transpose(&mut gradient[at * panel.width..], panel.width, &g[from..], plane, panel.count, positions.len());
                    }
                    let more = first > images.start || line > 0;
                    vectors.multiply(&mut out[panel.start..], (&to, width), x, &at, steps, gradient, panel.width, more);
                }
            }
        }
    });
}
