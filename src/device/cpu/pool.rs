//! Pooling and nearest-neighbour upsampling of planes, and their adjoints.
//!
//! A plane is one channel of one image. Planes are shared out among threads; no sum crosses a plane.

use std::ops::Range;

use super::math::Real;
use super::parallel;

/// The sizes of a pooling; pairs are height, width. Twin of `Pool` in `kernels/pool.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::NoUninit)]
#[repr(C)]
pub(crate) struct PoolDims {
    /// Images times channels.
    pub planes: usize,
    /// Size of the input.
    pub input: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Size of the output.
    pub output: [usize; 2],
    /// Distance between windows, at least 1.
    pub stride: [usize; 2],
    /// Cells before and behind the input.
    pub padding: [usize; 2],
}

impl PoolDims {
    /// The input cells of window `o` in direction `d`.
    fn window(&self, d: usize, o: usize) -> Range<usize> {
        let start = o * self.stride[d];
        let cells = start.saturating_sub(self.padding[d])..(start + self.kernel[d]).saturating_sub(self.padding[d]).min(self.input[d]);
        cells.start.min(cells.end)..cells.end
    }

    /// The cells of window `o` in direction `d` with the padding's, but not those behind it.
    fn cells(&self, d: usize, o: usize) -> usize {
        let start = o * self.stride[d];
        (start + self.kernel[d]).min(self.input[d] + 2 * self.padding[d]).saturating_sub(start)
    }

    /// Checks the lengths of the input and of the output.
    fn check(&self, x: usize, y: usize) {
        assert_eq!(x, self.planes * self.input[0] * self.input[1], "pool: elements of the input");
        assert_eq!(y, self.planes * self.output[0] * self.output[1], "pool: elements of the output");
        assert!(self.stride.iter().all(|&v| v > 0), "pool: the stride must be at least 1");
    }

    /// Calls `f(output index, input rows, input columns)` for each window of a plane.
    #[inline(always)]
    fn each_window(&self, mut f: impl FnMut(usize, [usize; 2], Range<usize>, Range<usize>)) {
        for oy in 0..self.output[0] {
            let rows = self.window(0, oy);
            for ox in 0..self.output[1] {
                f(oy * self.output[1] + ox, [oy, ox], rows.clone(), self.window(1, ox));
            }
        }
    }
}

/// Calls `f(plane of a, plane of b)` for each plane, several to a task when they are small.
fn each_plane<A: Send, B: Sync>(a: &mut [A], a_plane: usize, b: &[B], b_plane: usize, f: impl Fn(&mut [A], &[B]) + Sync + Send) {
    if a_plane == 0 {
        return;
    }
    let group = (parallel::CHUNK / a_plane.max(b_plane)).max(1);
    parallel::chunks_mut(a, group * a_plane, |i, a| {
        for (p, a) in a.chunks_exact_mut(a_plane).enumerate() {
            let start = (i * group + p) * b_plane;
            f(a, &b[start..start + b_plane]);
        }
    });
}

/// The mean over each window; padding counts as zeros, cells behind the padding do not count (PyTorch's `avg_pool2d`).
///
/// # Panics
/// A slice's length does not fit `dims`.
pub(crate) fn avg_pool2d<T: Real>(y: &mut [T], x: &[T], dims: &PoolDims) {
    dims.check(x.len(), y.len());
    let width = dims.input[1];
    each_plane(y, dims.output[0] * dims.output[1], x, dims.input[0] * width, |y, x| {
        dims.each_window(|o, at, rows, cols| {
            let mut sum = T::ZERO;
            for row in rows {
                for v in &x[row * width..][cols.clone()] {
                    sum += *v;
                }
            }
            y[o] = sum / divisor(dims, at);
        });
    });
}

/// The adjoint of [`avg_pool2d`]: each output's gradient, divided by the window's cells, goes to every input cell of the window.
///
/// # Panics
/// A slice's length does not fit `dims`.
pub(crate) fn avg_pool2d_grad<T: Real>(dx: &mut [T], g: &[T], dims: &PoolDims) {
    dims.check(dx.len(), g.len());
    let width = dims.input[1];
    each_plane(dx, dims.input[0] * width, g, dims.output[0] * dims.output[1], |dx, g| {
        dx.fill(T::ZERO);
        dims.each_window(|o, at, rows, cols| {
            let share = g[o] / divisor(dims, at);
            for row in rows {
                for v in &mut dx[row * width..][cols.clone()] {
                    *v += share;
                }
            }
        });
    });
}

/// The cells that the window `at` counts. At least one, for windows that lie wholly behind the padding.
#[inline(always)]
fn divisor<T: Real>(dims: &PoolDims, at: [usize; 2]) -> T {
    T::from_f64((dims.cells(0, at[0]) * dims.cells(1, at[1])).max(1) as f64)
}

/// The position of each window's maximum, as an index into the plane of `H x W` cells. Padding never wins, the first of equal
/// maxima does, and the first NaN beats every number. Values and gradients are a gather and a scatter with these indices.
///
/// # Panics
/// A slice's length does not fit `dims`, or a window has no cell of the input.
pub(crate) fn max_pool2d_indices<T: Real>(indices: &mut [i64], x: &[T], dims: &PoolDims) {
    dims.check(x.len(), indices.len());
    let width = dims.input[1];
    each_plane(indices, dims.output[0] * dims.output[1], x, dims.input[0] * width, |indices, x| {
        dims.each_window(|o, at, rows, cols| {
            assert!(!rows.is_empty() && !cols.is_empty(), "max_pool2d: the window at {at:?} holds no cell of the input");
            let mut best = rows.start * width + cols.start;
            for row in rows {
                for index in row * width + cols.start..row * width + cols.end {
                    let (value, most) = (x[index], x[best]);
                    if value > most || (is_nan(value) && !is_nan(most)) {
                        best = index;
                    }
                }
            }
            indices[o] = best as i64;
        });
    });
}

#[inline(always)]
fn is_nan<T: Real>(value: T) -> bool {
    value.partial_cmp(&value).is_none()
}

/// Repeats every cell of `planes` planes of size `input` in a block of `scale` cells.
///
/// # Panics
/// A slice's length does not fit the sizes.
pub(crate) fn upsample_nearest2d<T: Real>(y: &mut [T], x: &[T], planes: usize, input: [usize; 2], scale: [usize; 2]) {
    let [in_plane, out_plane] = upsampled(x.len(), y.len(), planes, input, scale);
    each_plane(y, out_plane, x, in_plane, |y, x| {
        let width = input[1] * scale[1];
        for (block, x) in y.chunks_exact_mut(scale[0] * width).zip(x.chunks_exact(input[1])) {
            let (first, others) = block.split_at_mut(width);
            for (y, v) in first.chunks_exact_mut(scale[1]).zip(x) {
                y.fill(*v);
            }
            others.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(first));
        }
    });
}

/// The adjoint of [`upsample_nearest2d`]: the sum of `g` over each block.
///
/// # Panics
/// A slice's length does not fit the sizes.
pub(crate) fn upsample_nearest2d_grad<T: Real>(dx: &mut [T], g: &[T], planes: usize, input: [usize; 2], scale: [usize; 2]) {
    let [in_plane, out_plane] = upsampled(dx.len(), g.len(), planes, input, scale);
    if out_plane == 0 {
        return dx.fill(T::ZERO);
    }
    each_plane(dx, in_plane, g, out_plane, |dx, g| {
        let width = input[1] * scale[1];
        dx.fill(T::ZERO);
        for (dx, block) in dx.chunks_exact_mut(input[1]).zip(g.chunks_exact(scale[0] * width)) {
            for row in block.chunks_exact(width) {
                for (d, g) in dx.iter_mut().zip(row.chunks_exact(scale[1])) {
                    for v in g {
                        *d += *v;
                    }
                }
            }
        }
    });
}

/// Elements of a plane before and after, with the lengths checked.
fn upsampled(x: usize, y: usize, planes: usize, input: [usize; 2], scale: [usize; 2]) -> [usize; 2] {
    let in_plane = input[0] * input[1];
    let out_plane = in_plane * scale[0] * scale[1];
    assert_eq!(x, planes * in_plane, "upsample: elements of the small planes");
    assert_eq!(y, planes * out_plane, "upsample: elements of the large planes");
    [in_plane, out_plane]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values with many ties.
    fn values(count: usize, salt: usize) -> Vec<f64> {
        (0..count).map(|i| (((i + salt) * 7919 + salt) % 23) as f64 - 11.0).collect()
    }

    fn cases() -> Vec<PoolDims> {
        let mut cases = Vec::new();
        for (i, (kernel, stride, padding)) in [
            ([2, 2], [2, 2], [0, 0]),
            ([3, 3], [2, 2], [1, 1]),
            ([3, 2], [1, 3], [1, 0]),
            ([5, 4], [4, 2], [2, 2]),
            ([1, 1], [2, 1], [0, 0]),
        ]
        .into_iter()
        .enumerate()
        {
            for input in [[5, 6], [9, 4], [130, 150]] {
                let output = [0, 1].map(|d| (input[d] + 2 * padding[d] - kernel[d]) / stride[d] + 1);
                cases.push(PoolDims { planes: 1 + 2 * i, input, kernel, output, stride, padding });
            }
        }
        cases
    }

    /// Calls `f(x index, index in the plane, y index)` for every cell of every window, by the definition.
    fn pairs(d: &PoolDims, mut f: impl FnMut(usize, usize, usize)) {
        for p in 0..d.planes {
            for o in 0..d.output[0] * d.output[1] {
                let (oy, ox) = (o / d.output[1], o % d.output[1]);
                for k in 0..d.kernel[0] * d.kernel[1] {
                    let y = (oy * d.stride[0] + k / d.kernel[1]) as isize - d.padding[0] as isize;
                    let x = (ox * d.stride[1] + k % d.kernel[1]) as isize - d.padding[1] as isize;
                    if (0..d.input[0] as isize).contains(&y) && (0..d.input[1] as isize).contains(&x) {
                        let cell = y as usize * d.input[1] + x as usize;
                        f(p * d.input[0] * d.input[1] + cell, cell, p * d.output[0] * d.output[1] + o);
                    }
                }
            }
        }
    }

    #[test]
    fn means_and_their_adjoint_match_plain_loops() {
        for d in cases() {
            let (x, area) = (values(d.planes * d.input[0] * d.input[1], 1), (d.kernel[0] * d.kernel[1]) as f64);
            let g = values(d.planes * d.output[0] * d.output[1], 2);
            let (mut y, mut dx) = (vec![0.0; g.len()], vec![0.0; x.len()]);
            pairs(&d, |i, _, o| {
                y[o] += x[i] / area;
                dx[i] += g[o] / area;
            });
            let (mut got_y, mut got_dx) = (vec![f64::NAN; y.len()], vec![f64::NAN; dx.len()]);
            avg_pool2d(&mut got_y, &x, &d);
            avg_pool2d_grad(&mut got_dx, &g, &d);
            let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(near(&got_y, &y) && near(&got_dx, &dx), "{d:?}");
        }
    }

    #[test]
    fn a_window_that_sticks_out_counts_the_cells_up_to_the_padding() {
        // Rounded up, three windows of 2 fit into 5 cells: the last has one.
        let d = PoolDims { planes: 1, input: [1, 5], kernel: [1, 2], output: [1, 3], stride: [1, 2], padding: [0, 0] };
        let mut y = [0.0f32; 3];
        avg_pool2d(&mut y, &[1.0, 2.0, 3.0, 4.0, 5.0], &d);
        assert_eq!(y, [1.5, 3.5, 5.0]);
    }

    #[test]
    fn maxima_match_plain_loops_and_the_first_wins() {
        for d in cases() {
            let x = values(d.planes * d.input[0] * d.input[1], 3);
            let mut expected = vec![(f64::NEG_INFINITY, -1i64); d.planes * d.output[0] * d.output[1]];
            pairs(&d, |i, cell, o| {
                if x[i] > expected[o].0 {
                    expected[o] = (x[i], cell as i64);
                }
            });
            let mut got = vec![-2i64; expected.len()];
            max_pool2d_indices(&mut got, &x, &d);
            assert!(got.iter().eq(expected.iter().map(|(_, i)| i)), "{d:?}");
        }
    }

    #[test]
    fn nan_beats_numbers_and_minus_infinity_beats_padding() {
        let d = PoolDims { planes: 1, input: [1, 4], kernel: [1, 3], output: [1, 4], stride: [1, 1], padding: [0, 1] };
        let mut got = [0i64; 4];
        max_pool2d_indices(&mut got, &[f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NAN, 9.0], &d);
        assert_eq!(got, [0, 2, 2, 2]);
    }

    #[test]
    fn upsampling_repeats_and_its_adjoint_sums() {
        for (planes, input, scale) in [(2, [3, 4], [2, 2]), (3, [2, 5], [3, 1]), (1, [100, 90], [2, 3]), (2, [2, 2], [1, 1])] {
            let x = values(planes * input[0] * input[1], 1);
            let mut y = vec![f64::NAN; x.len() * scale[0] * scale[1]];
            upsample_nearest2d(&mut y, &x, planes, input, scale);
            let g = values(y.len(), 2);
            let (mut dx, mut expected) = (vec![f64::NAN; x.len()], vec![0.0; x.len()]);
            upsample_nearest2d_grad(&mut dx, &g, planes, input, scale);
            let (height, width) = (input[0] * scale[0], input[1] * scale[1]);
            for (o, (y, g)) in y.iter().zip(&g).enumerate() {
                let (p, row, col) = (o / (height * width), o / width % height, o % width);
                let i = (p * input[0] + row / scale[0]) * input[1] + col / scale[1];
                assert_eq!(*y, x[i]);
                expected[i] += g;
            }
            assert_eq!(dx, expected);
        }
    }
}
