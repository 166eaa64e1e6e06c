//! The three kernels against a direct sum in f64, against each other, and on several numbers of threads.

use super::*;
use crate::device::cpu::math::Real;

/// A hash, for sizes and values.
fn hash(i: u64) -> u64 {
    let h = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let h = (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h ^ (h >> 32)
}

fn values<T: Real>(count: usize, salt: u64) -> Vec<T> {
    (0..count as u64).map(|i| T::from_f64((hash(i + (salt << 32)) >> 40) as f64 / (1u64 << 23) as f64 - 1.0)).collect()
}

/// Calls `f(index in x, in w, in y)` for every product of the convolution.
fn products(d: &ConvDims, mut f: impl FnMut(usize, usize, usize)) {
    for n in 0..d.batch {
        for co in 0..d.out_channels {
            for (oy, ox) in (0..d.output[0]).flat_map(|y| (0..d.output[1]).map(move |x| (y, x))) {
                for ci in 0..d.in_channels {
                    for (ky, kx) in (0..d.kernel[0]).flat_map(|y| (0..d.kernel[1]).map(move |x| (y, x))) {
                        let iy = (oy * d.stride[0] + ky * d.dilation[0]) as isize - d.padding[0] as isize;
                        let ix = (ox * d.stride[1] + kx * d.dilation[1]) as isize - d.padding[1] as isize;
                        if (0..d.input[0] as isize).contains(&iy) && (0..d.input[1] as isize).contains(&ix) {
                            f(
                                ((n * d.in_channels + ci) * d.input[0] + iy as usize) * d.input[1] + ix as usize,
                                ((co * d.in_channels + ci) * d.kernel[0] + ky) * d.kernel[1] + kx,
                                ((n * d.out_channels + co) * d.output[0] + oy) * d.output[1] + ox,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Every kind of vectors that this machine has.
pub(super) fn all_vectors() -> Vec<Vectors> {
    #[cfg(target_arch = "x86_64")]
    return [pulp::x86::V4::try_new().map(Vectors::Avx512), pulp::x86::V3::try_new().map(Vectors::Avx2)].into_iter().flatten().collect();
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

fn sizes(d: &ConvDims) -> [usize; 3] {
    [d.batch * d.in_channels * d.in_plane(), d.out_channels * d.depth(), d.batch * d.out_channels * d.out_plane()]
}

fn dims(batch: usize, channels: [usize; 2], input: [usize; 2], kernel: [usize; 2], sps: [usize; 2], dilation: [usize; 2]) -> ConvDims {
    let [stride, padding] = sps;
    let out = |i: usize| (input[i] + 2 * padding - dilation[i] * (kernel[i] - 1) - 1) / stride + 1;
    ConvDims {
        batch,
        in_channels: channels[0],
        out_channels: channels[1],
        input,
        kernel,
        output: [out(0), out(1)],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation,
    }
}

/// Named corners, then hashed sizes.
fn cases() -> Vec<ConvDims> {
    let mut cases = vec![
        dims(2, [3, 4], [9, 8], [3, 3], [1, 1], [1, 1]),
        dims(1, [1, 1], [1, 1], [1, 1], [1, 0], [1, 1]),
        dims(3, [5, 7], [6, 5], [1, 1], [1, 0], [1, 1]),
        dims(2, [5, 7], [6, 5], [1, 1], [2, 0], [1, 1]),
        // Padding wider than the window: outputs and edges without any input.
        dims(2, [2, 3], [4, 5], [2, 2], [1, 3], [1, 1]),
        dims(1, [2, 3], [4, 5], [1, 2], [2, 4], [1, 1]),
        // Input columns that no window covers, and rows behind the last window.
        dims(2, [2, 3], [11, 12], [2, 3], [4, 0], [1, 1]),
        dims(2, [3, 4], [8, 8], [4, 4], [2, 1], [1, 1]),
        dims(9, [8, 40], [4, 4], [4, 4], [2, 1], [1, 1]),
        dims(11, [6, 200], [5, 5], [3, 3], [1, 1], [1, 1]),
        dims(1, [70, 70], [20, 19], [3, 3], [1, 1], [1, 1]),
        dims(2, [70, 5], [20, 19], [4, 4], [2, 1], [1, 1]),
        dims(1, [2, 2], [17, 13], [3, 3], [1, 2], [3, 2]),
        dims(5, [600, 3], [3, 3], [1, 3], [1, 0], [1, 1]),
        // Channels that fill vectors, with every number of them in a panel and several panels; 4 * 49 positions are no whole blocks.
        dims(4, [9, 8], [7, 7], [3, 3], [1, 1], [1, 1]),
        dims(3, [17, 33], [6, 9], [3, 2], [1, 0], [1, 1]),
        dims(5, [40, 50], [5, 8], [4, 4], [2, 1], [1, 1]),
        dims(2, [64, 81], [5, 5], [5, 5], [2, 2], [1, 1]),
        dims(5, [100, 130], [4, 4], [4, 4], [2, 1], [1, 1]),
        // Strides beyond the window, and pixels that no window covers.
        dims(4, [12, 13], [11, 10], [2, 3], [4, 0], [1, 1]),
        dims(2, [12, 13], [9, 9], [2, 1], [3, 1], [1, 1]),
        // Dilation, padding wider than the window, and copies that are narrower than what is left of the padding.
        dims(4, [10, 20], [9, 12], [3, 3], [1, 2], [2, 3]),
        dims(1, [10, 70], [3, 4], [2, 2], [1, 3], [1, 1]),
        dims(2, [10, 11], [4, 1], [1, 2], [3, 4], [1, 1]),
        ConvDims { output: [1, 1], ..dims(2, [10, 11], [4, 3], [2, 2], [1, 3], [1, 1]) },
        ConvDims { padding: [0, 2], stride: [1, 2], ..dims(4, [10, 11], [6, 7], [3, 4], [1, 0], [1, 1]) },
        // More steps than a sum takes in at once, in images, in rows and in channels.
        dims(9, [70, 24], [20, 40], [3, 3], [1, 1], [1, 1]),
        dims(1, [16, 16], [3, 300], [3, 3], [1, 1], [1, 1]),
        dims(7, [300, 16], [4, 4], [1, 1], [1, 0], [1, 1]),
    ];
    for i in 0..80u64 {
        let pick = |what: u64, from: usize, to: usize| from + (hash(1000 * i + what) % (to - from + 1) as u64) as usize;
        let kernel = [pick(0, 1, 4), pick(1, 1, 4)];
        let dilation = [pick(2, 1, 2), pick(3, 1, 3)];
        let padding = pick(4, 0, 3);
        let input = [0, 1].map(|d| (dilation[d] * (kernel[d] - 1) + 1).saturating_sub(2 * padding).max(1) + pick(5 + d as u64, 0, 8));
        // Half of them with channels enough for vectors.
        let channels = [pick(8, 1, 5) + pick(12, 0, 1) * 9, pick(9, 1, 9) + pick(13, 0, 1) * 20];
        let mut case = dims(pick(7, 1, 9), channels, input, kernel, [1, padding], dilation);
        case.stride = [pick(10, 1, 3), pick(11, 1, 3)];
        case.output = [0, 1].map(|d| (case.output[d] - 1) / case.stride[d] + 1);
        cases.push(case);
    }
    cases
}

fn close<T: Real>(got: &[T], expected: &[f64], terms: usize, epsilon: f64, what: &str, d: &ConvDims) {
    let bound = epsilon * (4.0 + 8.0 * (terms as f64).sqrt());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got.to_f64() - expected).abs() <= bound, "{what} at {i}: {got:?}, not {expected}, for {d:?}");
    }
}

fn matches_the_sum<T: Real>(epsilon: f64) {
    for d in cases() {
        let [nx, nw, ny] = sizes(&d);
        let (x, w, g) = (values::<T>(nx, 1), values::<T>(nw, 2), values::<T>(ny, 3));
        let (mut y, mut dx, mut dw) = (vec![0.0; ny], vec![0.0; nx], vec![0.0; nw]);
        products(&d, |i, k, o| {
            y[o] += x[i].to_f64() * w[k].to_f64();
            dx[i] += g[o].to_f64() * w[k].to_f64();
            dw[k] += x[i].to_f64() * g[o].to_f64();
        });
        let [mut got_y, mut got_dx, mut got_dw] = [ny, nx, nw].map(|n| vec![T::from_f64(f64::NAN); n]);
        conv2d(&mut got_y, &x, &w, &d);
        conv2d_input_grad(&mut got_dx, &g, &w, &d);
        conv2d_weight_grad(&mut got_dw, &x, &g, &d);
        close(&got_y, &y, d.depth(), epsilon, "y", &d);
        close(&got_dx, &dx, d.out_channels * d.window(), epsilon, "dx", &d);
        close(&got_dw, &dw, d.batch * d.out_plane(), epsilon, "dw", &d);

        let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
        let (a, b, c) = (dot(&got_y, &g), dot(&x, &got_dx), dot(&w, &got_dw));
        let bound = epsilon * 64.0 * (1.0 + (ny * d.depth()) as f64).sqrt();
        assert!((a - b).abs() <= bound && (a - c).abs() <= bound, "adjoints: {a} {b} {c} for {d:?}");
    }
}

#[test]
fn the_kernels_match_a_direct_sum_and_are_adjoint() {
    matches_the_sum::<f64>(2.3e-16);
    matches_the_sum::<f32>(1.2e-7);
}

/// What [`conv2d`] and the others choose between, each kind of vectors by itself.
#[test]
fn direct_kernels_have_the_same_bits_with_all_vectors() {
    for d in cases() {
        if d.is_pointwise() {
            continue;
        }
        let [nx, nw, ny] = sizes(&d);
        let (x, w, g) = (values::<f32>(nx, 1), values::<f32>(nw, 2), values::<f32>(ny, 3));
        let all = all_vectors().into_iter().map(|vectors| {
            let [mut y, mut dx, mut dw] = [ny, nx, nw].map(|n| vec![f32::NAN; n]);
            direct::conv2d(vectors, &mut y, &x, &w, &d);
            if d.dilation == [1, 1] {
                direct::input_grad(vectors, &mut dx, &g, &w, &d);
            }
            let panels = vectors.panels(d.out_channels);
            let width = panels.last().map_or(0, |p| p.start + p.width);
            let mut sums = vec![f32::NAN; d.depth() * width];
            direct_weight::weight_grad(vectors, &mut sums, &panels, &x, &g, &d, 0..d.batch, 0);
            for (k, sums) in sums.chunks_exact(width).enumerate() {
                for p in &panels {
                    p.columns().for_each(|c| dw[c * d.depth() + k] = sums[p.start + c - p.first]);
                }
            }
            (vectors, [y, dx, dw])
        });
        let all: Vec<_> = all.collect();
        let Some((_, one)) = all.first() else { return };
        for (vectors, other) in &all[1..] {
            let bits = |parts: &[Vec<f32>; 3]| parts.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert!(bits(one) == bits(other), "{vectors:?} {d:?}");
        }
        let (mut y, mut dx, mut dw) = (vec![0.0; ny], vec![0.0; nx], vec![0.0; nw]);
        products(&d, |i, k, o| {
            y[o] += f64::from(x[i]) * f64::from(w[k]);
            dx[i] += f64::from(g[o]) * f64::from(w[k]);
            dw[k] += f64::from(x[i]) * f64::from(g[o]);
        });
        close(&one[0], &y, d.depth(), 1.2e-7, "y", &d);
        close(&one[2], &dw, d.batch * d.out_plane(), 1.2e-7, "dw", &d);
        if d.dilation == [1, 1] {
            close(&one[1], &dx, d.out_channels * d.window(), 1.2e-7, "dx", &d);
        }
    }
}

#[test]
fn nan_and_infinity_stay_where_they_belong() {
    for stride in [1, 2] {
        let d = dims(4, [9, 16], [6, 6], [3, 3], [stride, 1], [1, 1]);
        let [nx, nw, ny] = sizes(&d);
        for bad in [f32::NAN, f32::INFINITY] {
            let (mut x, w, mut g) = (values::<f32>(nx, 1), values::<f32>(nw, 2), values::<f32>(ny, 3));
            (x[40], g[50]) = (bad, bad);
            let [mut touched_y, mut touched_dx, mut touched_dw] = [ny, nx, nw].map(|n| vec![false; n]);
            products(&d, |i, k, o| {
                touched_y[o] |= i == 40;
                touched_dx[i] |= o == 50;
                touched_dw[k] |= i == 40 || o == 50;
            });
            let (mut y, mut dx, mut dw) = (vec![0.0; ny], vec![0.0; nx], vec![0.0; nw]);
            conv2d(&mut y, &x, &w, &d);
            conv2d_input_grad(&mut dx, &g, &w, &d);
            conv2d_weight_grad(&mut dw, &x, &g, &d);
            let same = |got: &[f32], touched: &[bool]| got.iter().zip(touched).all(|(v, t)| v.is_finite() != *t);
            assert!(same(&y, &touched_y) && same(&dx, &touched_dx), "{bad} {stride}");
            // A border's zeros meet the gradient too, and zero times infinity is NaN: every element of that channel may be.
            assert!(dw.iter().zip(&touched_dw).all(|(v, t)| !t || !v.is_finite()), "{bad} {stride}");
        }
        // Weights that are not finite leave pixels alone that no window's element of theirs covers.
        let (mut w, g) = (values::<f32>(nw, 2), values::<f32>(ny, 3));
        w[0] = f32::INFINITY;
        let (mut dx, mut touched) = (vec![0.0; nx], vec![false; nx]);
        products(&d, |i, k, _| touched[i] |= k == 0);
        conv2d_input_grad(&mut dx, &g, &w, &d);
        assert!(stride == 1 || dx.iter().zip(&touched).all(|(v, t)| v.is_finite() != *t));
    }
}

#[test]
fn the_input_grad_is_a_transposed_convolution_for_every_size_that_fits() {
    // A stride of 3 maps three input sizes to one output size.
    for height in 7..10 {
        let d = ConvDims { input: [height, 7], output: [3, 3], ..dims(2, [3, 4], [7, 7], [3, 3], [3, 1], [1, 1]) };
        let [nx, nw, ny] = sizes(&d);
        let (w, g) = (values::<f64>(nw, 2), values::<f64>(ny, 3));
        let (mut dx, mut got) = (vec![0.0; nx], vec![f64::NAN; nx]);
        products(&d, |i, k, o| dx[i] += g[o] * w[k]);
        conv2d_input_grad(&mut got, &g, &w, &d);
        close(&got, &dx, 36, 2.3e-16, "dx", &d);
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let pools: Vec<_> = [1, 2, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).into();
    for d in [
        dims(5, [16, 32], [16, 16], [3, 3], [1, 1], [1, 1]),
        dims(32, [40, 32], [4, 4], [4, 4], [2, 1], [1, 1]),
        dims(1, [64, 64], [20, 20], [4, 4], [2, 1], [1, 1]),
    ] {
        let [nx, nw, ny] = sizes(&d);
        let (x, w, g) = (values::<f32>(nx, 1), values::<f32>(nw, 2), values::<f32>(ny, 3));
        let run = || {
            let (mut y, mut dx, mut dw) = (vec![0.0; ny], vec![0.0; nx], vec![0.0; nw]);
            conv2d(&mut y, &x, &w, &d);
            conv2d_input_grad(&mut dx, &g, &w, &d);
            conv2d_weight_grad(&mut dw, &x, &g, &d);
            [y, dx, dw].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = pools[0].install(run);
        assert!(pools[1..].iter().all(|pool| pool.install(run) == one), "{d:?}");
    }
}

#[test]
fn empty_operands_give_zeros() {
    let d = ConvDims { in_channels: 0, ..dims(2, [1, 3], [4, 4], [3, 3], [1, 1], [1, 1]) };
    let mut y = vec![1.0f32; 2 * 3 * 16];
    conv2d(&mut y, &[], &[], &d);
    assert!(y.iter().all(|v| *v == 0.0));
    let d = ConvDims { batch: 0, ..dims(1, [2, 3], [4, 4], [3, 3], [1, 1], [1, 1]) };
    let mut dw = vec![1.0f32; 54];
    conv2d_weight_grad(&mut dw, &[], &[], &d);
    assert!(dw.iter().all(|v| *v == 0.0));
    conv2d(&mut [] as &mut [f32], &[], &[0.0; 54], &d);
    let d = ConvDims { out_channels: 0, ..dims(1, [2, 3], [4, 4], [3, 3], [1, 1], [1, 1]) };
    let mut dx = vec![1.0f32; 32];
    conv2d_input_grad(&mut dx, &[], &[], &d);
    assert!(dx.iter().all(|v| *v == 0.0));
}
