//! The kernels that reduce, select, join, normalise and sum over pairs of rows, at the edges of what they are cut into.
#![cfg(feature = "cuda")]

mod cuda_support;
#[path = "cuda_support/pairs.rs"]
mod pairs;

use cuda_support::{check, check_replays, distance, gpu, normal};
use strait::ops::{Estimator, MmdKernel, Noise};
use strait::{DType, Device, Error, Result, Rng, Tensor};

const EXACT: [f64; 2] = [1e-12, 2e-6];

#[test]
fn sums_of_any_axes() {
    let Some(gpu) = gpu() else { return };
    let shapes: &[(&[usize], &[usize])] = &[
        (&[1], &[0]),
        (&[7], &[0]),
        (&[40_001], &[0]),
        (&[3, 9001], &[1]),
        (&[300, 5], &[1]),
        (&[5, 16], &[1]),
        (&[5, 1025], &[1]),
        (&[5, 0], &[1]),
        (&[0, 5], &[1]),
        (&[0, 5], &[0]),
        (&[1030, 3], &[0]),
        (&[513, 33], &[0]),
        (&[9, 257], &[0]),
        (&[4, 700, 6], &[1]),
        (&[4, 5, 6, 7], &[0, 2]),
        (&[4, 5, 6, 7], &[0, 2, 3]),
        (&[2, 3, 4, 5, 2, 3], &[0, 2, 4]),
        (&[2, 3], &[]),
    ];
    for (i, (shape, axes)) in shapes.iter().enumerate() {
        let x = normal(i as u64, shape);
        check(&format!("sum of {shape:?} over {axes:?}"), &gpu, &[x], &|x| Ok(vec![x[0].sum(axes, false)?]), EXACT);
    }
    // A view that does not begin at sixteen bytes.
    let x = normal(50, &[5001]);
    check("sum of a view", &gpu, &[x], &|x| Ok(vec![x[0].narrow(0, 1, 4996)?.sum_all()?]), EXACT);
}

#[test]
fn sums_keep_their_digits() {
    let Some(gpu) = gpu() else { return };
    let x = normal(1, &[200_000]).affine(1.0, 100.0).unwrap().to_dtype(DType::F32).unwrap();
    let exact: f64 = x.to_f64_vec().unwrap().iter().sum();
    let found = x.to_device(&gpu).unwrap().sum_all().unwrap().item().unwrap();
    assert!((found / exact - 1.0).abs() < 1e-7, "{found} {exact}");
}

#[test]
fn orders_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let shapes: &[(&[usize], usize)] = &[(&[1], 0), (&[300], 0), (&[3, 70], 1), (&[257, 3], 0), (&[4, 50, 6], 1), (&[0, 3], 0)];
    for (i, (shape, axis)) in shapes.iter().enumerate() {
        // Ties, NaNs and both infinities.
        let mut values: Vec<f64> = normal(i as u64, shape).to_f64_vec().unwrap().iter().map(|v| (4.0 * v).round()).collect();
        values.iter_mut().step_by(11).for_each(|v| *v = f64::NAN);
        values.iter_mut().skip(3).step_by(13).for_each(|v| *v = v.signum() / 0.0);
        let x = Tensor::from_slice(&values, shape, &Device::cpu()).unwrap();
        for dtype in [DType::F32, DType::F64] {
            let x = x.to_dtype(dtype).unwrap();
            let found = x.to_device(&gpu).unwrap().argsort(*axis).unwrap();
            assert_eq!(found.to_vec::<i64>().unwrap(), x.argsort(*axis).unwrap().to_vec::<i64>().unwrap(), "{shape:?}");
        }
    }
    assert_eq!(Tensor::arange(1000, &gpu).unwrap().to_vec::<i64>().unwrap(), (0..1000).collect::<Vec<i64>>());
}

#[test]
fn positions_of_maxima() {
    let Some(gpu) = gpu() else { return };
    let shapes: &[(&[usize], usize)] =
        &[(&[1], 0), (&[20_000], 0), (&[3, 70], 1), (&[1100, 3], 0), (&[4, 50, 6], 1), (&[0, 3], 1), (&[70, 40], 0)];
    for (i, (shape, axis)) in shapes.iter().enumerate() {
        let mut values = normal(i as u64, shape).to_f64_vec().unwrap();
        // Ties, and one NaN in some.
        values.iter_mut().for_each(|v| *v = (*v * 4.0).round());
        if i % 2 == 1 && values.len() > 5 {
            let at = values.len() / 2;
            values[at] = f64::NAN;
        }
        let x = Tensor::from_vec(values, shape, &Device::cpu()).unwrap();
        for dtype in [DType::F32, DType::F64] {
            let x = x.to_dtype(dtype).unwrap();
            let expected = x.argmax(*axis, false).unwrap().to_vec::<i64>().unwrap();
            assert_eq!(x.to_device(&gpu).unwrap().argmax(*axis, false).unwrap().to_vec::<i64>().unwrap(), expected, "{shape:?}");
        }
    }
    let none = Tensor::full(f64::NEG_INFINITY, [3, 9], DType::F32, &gpu).unwrap();
    assert_eq!(none.argmax(1, false).unwrap().to_vec::<i64>().unwrap(), [0; 3]);
    let x = normal(9, &[6, 33]);
    check("max and min", &gpu, &[x], &|x| Ok(vec![x[0].max(1, false)?, x[0].min(0, true)?]), EXACT);
}

#[test]
fn softmax_of_rows() {
    let Some(gpu) = gpu() else { return };
    for (rows, length) in [(1, 1), (300, 2), (5, 8), (5, 9), (3, 10), (7, 33), (3, 256), (3, 257), (2, 1000), (2, 9000), (0, 5), (5, 0)] {
        let x = normal(length as u64, &[rows, length]).affine(10.0, 50.0).unwrap();
        let name = format!("softmax of {rows} x {length}");
        check(&name, &gpu, std::slice::from_ref(&x), &|x| Ok(vec![x[0].softmax(1)?, x[0].log_softmax(1)?]), [1e-12, 1e-5]);
        if length > 0 {
            check(
                &name,
                &gpu,
                &[x],
                &|x| Ok(vec![x[0].logsumexp(1, false)?, x[0].logsumexp(0, true).unwrap_or(x[0].clone())]),
                [1e-12, 1e-5],
            );
        }
    }
    let extreme =
        [1e4, -1e4, 0.0, f64::NEG_INFINITY, 3.0, 3.0, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NAN, 0.0, 1.0];
    let x = Tensor::from_slice(&extreme, [4, 3], &Device::cpu()).unwrap();
    check("extreme rows", &gpu, &[x], &|x| Ok(vec![x[0].detach().softmax(1)?, x[0].detach().logsumexp(1, false)?]), [1e-12, 1e-6]);
}

#[test]
fn cross_entropy_of_rows() {
    let Some(gpu) = gpu() else { return };
    for (rows, classes) in [(1, 1), (100, 10), (3, 8), (5, 33), (2, 1000), (1, 9000), (0, 4)] {
        for smoothing in [0.0, 0.1] {
            let x = normal(classes as u64, &[rows, classes]).affine(5.0, 0.0).unwrap();
            let labels: Vec<i64> = (0..rows).map(|r| ((r * 7 + 3) % classes) as i64).collect();
            let labels = Tensor::from_vec(labels, [rows], &Device::cpu()).unwrap();
            let f = |x: &[Tensor]| Ok(vec![x[0].softmax_cross_entropy(&labels.to_device(&x[0].device())?, smoothing)?]);
            check(&format!("cross entropy of {rows} x {classes}, {smoothing}"), &gpu, &[x], &f, [1e-12, 1e-5]);
        }
    }
}

#[test]
fn labels_out_of_range_are_not_a_number() {
    // a checked device reports them instead
    let Some(gpu) = gpu().filter(|gpu| !gpu.is_checked()) else { return };
    let x = normal(1, &[3, 4]).to_dtype(DType::F32).unwrap().to_device(&gpu).unwrap().requires_grad();
    let labels = Tensor::from_slice(&[1i64, 4, -1], [3], &gpu).unwrap();
    let loss = x.softmax_cross_entropy(&labels, 0.1).unwrap();
    let nan = |x: &Tensor| x.to_f64_vec().unwrap().iter().map(|v| v.is_nan()).collect::<Vec<_>>();
    assert_eq!(nan(&loss), [false, true, true]);
    let slope = strait::grad(&loss.sum_all().unwrap(), &[&x]).unwrap().swap_remove(0);
    assert_eq!(nan(&slope), [[false; 4], [true; 4], [true; 4]].concat());
}

fn index(values: impl Iterator<Item = usize>, shape: &[usize]) -> Tensor {
    let values: Vec<i64> = values.map(|v| v as i64).collect();
    Tensor::from_vec(values, shape, &Device::cpu()).unwrap()
}

#[test]
fn reading_and_adding_by_index() {
    let Some(gpu) = gpu() else { return };
    for (outer, length, count, inner) in
        [(1, 5, 7, 1), (3, 4, 70, 5), (2, 9, 33, 8), (1, 3, 200, 130), (2, 1, 1, 1), (1, 6, 0, 3), (0, 4, 5, 2)]
    {
        let name = format!("index {outer} {length} {count} {inner}");
        let at = index((0..count).map(|k| (k * k + 3) % length), &[count]);
        let select = |x: &[Tensor]| Ok(vec![x[0].index_select(1, &at.to_device(&x[0].device())?)?]);
        check(&name, &gpu, &[normal(1, &[outer, length, inner])], &select, EXACT);
        let add = |x: &[Tensor]| Ok(vec![x[0].index_add(1, &at.to_device(&x[0].device())?, length)?]);
        check(&name, &gpu, &[normal(2, &[outer, count, inner])], &add, EXACT);
        let at = index((0..outer * count * inner).map(|k| (k * k + k / 3) % length), &[outer, count, inner]);
        let gather = |x: &[Tensor]| Ok(vec![x[0].gather(1, &at.to_device(&x[0].device())?)?]);
        check(&name, &gpu, &[normal(3, &[outer, length, inner])], &gather, EXACT);
        let scatter = |x: &[Tensor]| Ok(vec![x[0].scatter_add(1, &at.to_device(&x[0].device())?, length)?]);
        check(&name, &gpu, &[normal(4, &[outer, count, inner])], &scatter, EXACT);
    }
    // A view that is not aligned to sixteen bytes.
    let at = index([2, 0, 1].into_iter(), &[3]);
    let select = |x: &[Tensor]| Ok(vec![x[0].narrow(0, 1, 12)?.reshape([3, 4])?.index_select(0, &at.to_device(&x[0].device())?)?]);
    check("a view", &gpu, &[normal(5, &[14])], &select, EXACT);
}

#[test]
fn indices_out_of_range_are_not_a_number() -> Result<()> {
    // a checked device reports them instead
    let Some(gpu) = gpu().filter(|gpu| !gpu.is_checked()) else { return Ok(()) };
    let x = normal(1, &[3, 4]).to_dtype(DType::F32)?.to_device(&gpu)?;
    let nan = |x: &Tensor| x.to_f64_vec().unwrap().iter().map(|v| v.is_nan()).collect::<Vec<_>>();
    let at = Tensor::from_slice(&[0i64, i64::MIN, 1 << 40], [3], &gpu)?;
    assert_eq!(nan(&x.index_select(0, &at)?), [[false; 4], [true; 4], [true; 4]].concat());
    assert_eq!(nan(&x.index_select(1, &at)?), [[false, true, true]; 3].concat());
    assert_eq!(nan(&x.index_add(0, &at, 2)?), [true; 8]);
    let at = Tensor::from_slice(&[0i64, 3, 4, -1, 0, 1, 2, 3, i64::MAX, 1, 2, 0], [3, 4], &gpu)?;
    let expected = [false, false, true, true, false, false, false, false, true, false, false, false];
    assert_eq!(nan(&x.gather(1, &at)?), expected);
    assert_eq!(nan(&x.scatter_add(1, &at, 4)?), [[true; 4], [false; 4], [true; 4]].concat());
    Ok(())
}

#[test]
fn joining() {
    let Some(gpu) = gpu() else { return };
    for (a, b, c, inner) in [(1, 1, 1, 1), (3, 4, 5, 7), (4, 8, 0, 4), (0, 2, 1, 3), (2, 2, 2, 2)] {
        let inputs = [normal(1, &[3, a, inner]), normal(2, &[3, b, inner]), normal(3, &[3, c, inner])];
        check("concat", &gpu, &inputs, &|x| Ok(vec![Tensor::concat(&x.iter().collect::<Vec<_>>(), 1)?]), EXACT);
        check("pad", &gpu, &inputs[..1], &|x| Ok(vec![x[0].pad(1, b, c)?, x[0].pad(2, 0, 3)?]), EXACT);
    }
    for dtype in [DType::U8, DType::I64, DType::BF16] {
        let x = Tensor::from_slice(&[1f64, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &Device::cpu()).unwrap().to_dtype(dtype).unwrap();
        let join = |x: &Tensor| Tensor::concat(&[x, &x.pad(1, 1, 0).unwrap()], 1).unwrap().to_f64_vec().unwrap();
        assert_eq!(join(&x.to_device(&gpu).unwrap()), join(&x), "{dtype}");
    }
}

#[test]
fn normalising() {
    let Some(gpu) = gpu() else { return };
    let tolerances = [1e-10, 2e-5];
    for (rows, length) in [(1, 1), (3, 8), (5, 9), (2, 300), (2, 8200), (0, 4)] {
        let inputs = [normal(1, &[rows, length]).affine(2.0, 5.0).unwrap(), normal(2, &[length]), normal(3, &[length])];
        let f = |x: &[Tensor]| Ok(vec![x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-2)?]);
        check(&format!("layer norm of {rows} x {length}"), &gpu, &inputs, &f, tolerances);
    }
    let shapes: &[&[usize]] =
        &[&[1, 1], &[7, 3], &[300, 5], &[2100, 40], &[1, 4, 3, 3], &[5, 3, 4, 4], &[2, 3, 17, 17], &[9, 2, 33, 1], &[2, 1, 90, 90]];
    for shape in shapes {
        let inputs = [normal(1, shape).affine(2.0, 50.0).unwrap(), normal(2, &[shape[1]]), normal(3, &[shape[1]])];
        let f = |x: &[Tensor]| {
            let (y, mean, variance) = x[0].batch_norm_moments(Some(&x[1]), Some(&x[2]), 1e-2)?;
            Ok(vec![y, mean.affine(1e-2, 0.0)?, variance])
        };
        check(&format!("batch norm of {shape:?}"), &gpu, &inputs, &f, tolerances);
    }
    // A view that is not aligned to sixteen bytes.
    let f = |x: &[Tensor]| Ok(vec![x[0].narrow(0, 1, 60)?.reshape([10, 6])?.batch_norm(None, None, 1e-2)?]);
    check("batch norm of a view", &gpu, &[normal(4, &[63])], &f, tolerances);
}

#[test]
fn gaussian_rates() {
    let Some(gpu) = gpu() else { return };
    for (rows, k) in [(1, 1), (5, 4), (3, 33), (2, 300), (0, 3), (3, 0)] {
        let sigma = normal(2, &[rows, k]).affine(0.3, 0.0).unwrap().exp().unwrap();
        let inputs = [normal(1, &[rows, k]), sigma];
        check(&format!("gaussian_kl {rows} x {k}"), &gpu, &inputs, &|x| Ok(vec![x[0].gaussian_kl(&x[1])?]), [1e-12, 1e-6]);
        if k <= 33 {
            let tril = normal(3, &[rows, k, k]).affine(0.3, 0.0).unwrap().exp().unwrap();
            let inputs = [normal(1, &[rows, k]), tril];
            check(&format!("gaussian_kl_full {rows} x {k}"), &gpu, &inputs, &|x| Ok(vec![x[0].gaussian_kl_full(&x[1])?]), [1e-12, 1e-6]);
        }
    }
}

#[test]
fn bottlenecks() {
    let Some(gpu) = gpu() else { return };
    for (samples, rows, k) in
        [(1, 1, 1), (1, 5, 2), (2, 3, 4), (3, 5, 3), (2, 3, 7), (1, 2, 256), (2, 2, 300), (1, 3, 129), (1, 0, 3), (1, 3, 0)]
    {
        let stats = normal(k as u64, &[rows, 2 * k]).affine(4.0, 0.0).unwrap();
        let draw = Rng::new(3).draw();
        let f = |x: &[Tensor]| {
            let b = x[0].bottleneck(5.0, samples, Noise::Draw(draw))?;
            Ok(vec![b.z, b.kl])
        };
        check(&format!("bottleneck {samples} {rows} {k}"), &gpu, std::slice::from_ref(&stats), &f, [1e-12, 2e-6]);
        let f = |x: &[Tensor]| Ok(vec![x[0].bottleneck(5.0, samples, Noise::Draw(draw))?.kl]);
        check(&format!("bottleneck's rate {samples} {rows} {k}"), &gpu, std::slice::from_ref(&stats), &f, [1e-12, 2e-6]);
        let f = |x: &[Tensor]| {
            let b = x[0].bottleneck(1.0, samples, Noise::Given(&x[1]))?;
            Ok(vec![b.z, b.kl])
        };
        check(&format!("bottleneck {samples} {rows} {k}, noise given"), &gpu, &[stats, normal(9, &[samples, rows, k])], &f, [1e-12, 2e-6]);
    }
}

#[test]
fn bottleneck_noise_is_that_of_the_cpu_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    for (rows, k) in [(5, 4), (5, 3), (3, 130)] {
        // sigma = 1 exactly in f32, and no mean: z is the noise.
        let raw = Tensor::full((1f64.exp_m1()).ln(), [rows, k], DType::F64, &Device::cpu()).unwrap();
        let stats = Tensor::concat(&[&Tensor::zeros([rows, k], DType::F64, &Device::cpu()).unwrap(), &raw], 1).unwrap();
        let draw = Rng::from_state([7, 1 << 40]).draw();
        let z = stats.to_device(&gpu).unwrap().bottleneck(0.0, 2, Noise::Draw(draw)).unwrap().z.to_f64_vec().unwrap();
        let noise = draw.normal([2, rows, k], DType::F64, &Device::cpu()).unwrap().to_f64_vec().unwrap();
        // Noise has 24 bits: rounding what f64 made of it gives it back.
        let rounded: Vec<f64> = z.iter().map(|&v| f64::from(v as f32)).collect();
        assert_eq!(rounded, noise, "{rows} {k}");
    }
}

#[test]
fn bottlenecks_are_finite_where_softplus_underflows() {
    let Some(gpu) = gpu() else { return };
    let raw = vec![0.0f32, 1e3, -1e3, 0.0, -1e4, -200.0, -100.0, 300.0];
    let stats = Tensor::from_vec(raw, [1, 8], &gpu).unwrap().requires_grad();
    let b = stats.bottleneck(5.0, 2, Noise::Draw(Rng::new(1).draw())).unwrap();
    assert!(b.z.is_finite().unwrap() && b.kl.is_finite().unwrap());
    let slope = strait::grad(&b.kl.sum_all().unwrap(), &[&stats]).unwrap().swap_remove(0).to_f64_vec().unwrap();
    assert!(slope.iter().all(|v| v.is_finite()) && slope[4..7] == [-1.0; 3], "{slope:?}");
}

/// Rows of f32 numbers, in f64.
fn rows(seed: u64, n: usize, d: usize, scale: f64, shift: f64) -> Tensor {
    normal(seed, &[n, d]).affine(scale, shift).unwrap().to_dtype(DType::F32).unwrap().to_dtype(DType::F64).unwrap()
}

#[test]
fn discrepancies_of_samples() {
    let Some(gpu) = gpu() else { return };
    // Tiles have 64 x 64 pairs in f32 and 32 x 32 in f64, and take 32 or 16 coordinates at a time.
    for (i, (n, m, d)) in [(2, 2, 1), (3, 5, 33), (65, 3, 16), (31, 64, 2), (3, 2, 70)].into_iter().enumerate() {
        let (x, y) = (rows(1, n, d, 1.0, 0.0), rows(2, m, d, 0.8, 0.3));
        let s = (d as f64).sqrt();
        let estimator = if i % 2 == 0 { Estimator::Unbiased } else { Estimator::Biased };
        for kernel in [MmdKernel::Rbf(vec![s]), MmdKernel::Imq(vec![0.2 * s * s, 20.0 * s * s])] {
            // Gradients as large as 1.
            let f = |x: &[Tensor]| Ok(vec![x[0].mmd2(&x[1], &kernel, estimator)?.affine(n as f64 * s, 0.0)?]);
            check(&format!("mmd2 of {n} and {m} x {d}, {kernel:?}"), &gpu, &[x.clone(), y.clone()], &f, [1e-11, 1e-5]);
        }
        let f = |x: &[Tensor]| Ok(vec![x[0].ksd(s)?.affine(n as f64 / s, 0.0)?]);
        check(&format!("ksd of {n} x {d}"), &gpu, std::slice::from_ref(&x), &f, [1e-11, 1e-5]);
        let f = |x: &[Tensor]| Ok(vec![x[0].pulling_away()?.affine(n as f64 * s, 0.0)?]);
        check(&format!("pulling_away of {n} x {d}"), &gpu, &[x], &f, [1e-11, 1e-5]);
    }
}

/// Rows of whole chunks of 16 bytes are read by them, others by elements: the sums are the same, in the same order.
#[test]
fn sums_over_pairs_have_the_same_bits_wherever_rows_begin() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for (n, m, d) in [(70, 33, 8), (65, 130, 36), (3, 64, 100), (64, 5, 4)] {
        for dtype in [DType::F32, DType::F64] {
            let run = |shift: usize| -> Result<Vec<Vec<f64>>> {
                let rows = |seed: u64, count: usize| -> Result<Tensor> {
                    let values = normal(seed, &[count * d]).to_dtype(dtype)?;
                    let padded =
                        Tensor::concat(&[&Tensor::full(f64::NAN, [shift], dtype, &Device::cpu())?, &values], 0)?.to_device(&gpu)?;
                    Ok(padded.narrow(0, shift, count * d)?.reshape([count, d])?.requires_grad())
                };
                let (x, y) = (rows(1, n)?, rows(2, m)?);
                let kernel = MmdKernel::Rbf(vec![1.0, (d as f64).sqrt()]);
                let values = [x.mmd2(&y, &kernel, Estimator::Unbiased)?, x.ksd(3.0)?, x.pulling_away()?];
                let slopes: Vec<Tensor> = values.iter().map(|value| strait::grad(value, &[&x])).collect::<Result<Vec<_>>>()?.concat();
                values.iter().chain(&slopes).map(Tensor::to_f64_vec).collect()
            };
            let bits = |all: Vec<Vec<f64>>| all.concat().into_iter().map(f64::to_bits).collect::<Vec<u64>>();
            let expected = run(0)?;
            assert!(expected.iter().flatten().all(|v| v.is_finite()));
            let expected = bits(expected);
            for shift in [1, 3] {
                assert!(bits(run(shift)?) == expected, "{dtype} rows of {d}, {shift} further on");
            }
        }
    }
    Ok(())
}

#[test]
fn discrepancies_of_one_tracked_sample_and_of_many_scales() {
    let Some(gpu) = gpu() else { return };
    let (x, y) = (rows(1, 35, 3, 1.0, 0.0), rows(2, 33, 3, 0.8, 0.3));
    let kernel = MmdKernel::Imq(vec![3.0]);
    let f = |x: &[Tensor]| {
        let y = y.to_dtype(x[0].dtype())?.to_device(&x[0].device())?;
        let [first, second] = [(&x[0], &y), (&y, &x[0])].map(|(a, b)| a.mmd2(b, &kernel, Estimator::Unbiased)?.affine(100.0, 0.0));
        Ok(vec![first?, second?, y.mmd2(&y.tanh()?, &kernel, Estimator::Biased)?])
    };
    check("one tracked sample", &gpu, &[x], &f, [1e-11, 1e-5]);
    // More than a launch takes.
    let kernel = MmdKernel::Rbf((1..20).map(|i| f64::from(i) / 4.0).collect());
    let f = |x: &[Tensor]| Ok(vec![x[0].mmd2(&x[1], &kernel, Estimator::Unbiased)?]);
    check("many scales", &gpu, &[rows(3, 4, 2, 1.0, 0.0), rows(4, 3, 2, 1.0, 0.1)], &f, [1e-11, 1e-5]);
}

#[test]
fn discrepancies_keep_their_digits() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (x, y) = (rows(1, 40, 12, 1.0, 0.0), rows(2, 30, 12, 1.0, 0.0));
    let value = |x: &Tensor, y: &Tensor, s: f64| x.mmd2(y, &MmdKernel::Rbf(vec![s]), Estimator::Unbiased)?.item();
    // A kernel that is nearly flat, and rows that are close together but far from 0.
    for (x, y, s) in [(x.clone(), y.clone(), 1e3), (x.affine(1e-3, 100.0)?, y.affine(1e-3, 100.001)?, 1e-3)] {
        let narrow = |x: &Tensor| x.to_dtype(DType::F32);
        let (x, y) = (narrow(&x)?, narrow(&y)?);
        let expected = value(&x.to_dtype(DType::F64)?, &y.to_dtype(DType::F64)?, s)?;
        let found = value(&x.to_device(&gpu)?, &y.to_device(&gpu)?, s)?;
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
    // A sample against itself, one row each: nothing at all.
    let one = rows(3, 1, 5, 1.0, 0.0).to_device(&gpu)?;
    assert_eq!(one.mmd2(&one, &MmdKernel::Imq(vec![1.0, 3.0]), Estimator::Biased)?.item()?, 0.0);
    // A row without direction has no gradient; one that is not a number spoils them all.
    let mut values = rows(4, 5, 3, 1.0, 0.0).to_f64_vec()?;
    values[3..6].fill(0.0);
    let x = Tensor::from_vec(values, [5, 3], &gpu)?.requires_grad();
    let slope = strait::grad(&x.pulling_away()?, &[&x])?.swap_remove(0).to_f64_vec()?;
    assert!(slope[3..6] == [0.0; 3] && slope.iter().all(|v| v.is_finite()) && slope[0] != 0.0);
    let x = Tensor::from_slice(&[0.0, f64::NAN, 1.0], [3, 1], &gpu)?;
    assert!(x.ksd(1.0)?.item()?.is_nan() && x.pulling_away()?.item()?.is_nan());
    assert!(x.mmd2(&one.narrow(1, 0, 1)?, &MmdKernel::Imq(vec![1.0]), Estimator::Biased)?.item()?.is_nan());
    Ok(())
}

/// Rows that do not begin at sixteen bytes.
#[test]
fn rows_of_views() {
    let Some(gpu) = gpu() else { return };
    let draw = Rng::new(3).draw();
    let f = |x: &[Tensor]| {
        let x = x[0].narrow(0, 1, 40)?.reshape([5, 8])?;
        let b = x.bottleneck(5.0, 2, Noise::Draw(draw))?;
        let labels = index([7, 0, 3, 3, 1].into_iter(), &[5]).to_device(&x.device())?;
        let losses = [x.softmax_cross_entropy(&labels, 0.1)?, x.gaussian_kl(&x.softplus()?)?, x.logsumexp(1, false)?];
        let norms = [x.layer_norm(None, None, 1e-2)?, x.softmax(1)?, x.argmax(1, false)?];
        Ok([b.z, b.kl, x.ksd(2.0)?, x.pulling_away()?].into_iter().chain(losses).chain(norms).collect())
    };
    check("views", &gpu, &[normal(7, &[41])], &f, [1e-11, 1e-5]);
}

#[test]
fn sixteen_bit_floats_are_computed_in_f32() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for (dtype, tolerance) in [(DType::BF16, 8e-3), (DType::F16, 1e-3)] {
        let draw = Rng::new(3).draw();
        let run = |device: &Device| -> Result<Vec<Tensor>> {
            let x = normal(7, &[9, 6]).to_dtype(dtype)?.to_device(device)?.requires_grad();
            let b = x.bottleneck(5.0, 1, Noise::Draw(draw))?;
            let apart = x.mmd2(&x.detach().tanh()?, &MmdKernel::Imq(vec![3.0]), Estimator::Unbiased)?.affine(9.0, 0.0)?;
            let total = b.kl.sum_all()?.add(&apart)?.add(&x.softmax(1)?.max(1, false)?.sum_all()?)?;
            let slope = strait::grad(&total, &[&x])?.swap_remove(0);
            Ok(vec![b.z, b.kl, apart, slope, x.sum(&[0], false)?])
        };
        for (found, expected) in run(&gpu)?.iter().zip(run(&Device::cpu())?) {
            assert_eq!(found.dtype(), dtype);
            assert!(distance(found, &expected) < tolerance, "{dtype} {:?}: {}", found.dims(), distance(found, &expected));
        }
    }
    Ok(())
}

#[test]
fn captured_losses_draw_on_and_equal_eager_ones() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let stats = normal(1, &[6, 6]).to_dtype(DType::F32)?.to_device(&gpu)?.requires_grad();
    let labels = Tensor::from_slice(&[0i64, 2, 1, 1, 0, 2], [6], &gpu)?;
    let step = |rng: &mut Rng| -> Result<[Tensor; 3]> {
        let b = stats.bottleneck(1.0, 1, Noise::Draw(rng.draw()))?;
        let z = b.z.reshape([6, 3])?;
        let prior = rng.normal([7, 3], DType::F32, &gpu)?;
        let distance = z.mmd2(&prior, &MmdKernel::Rbf(vec![1.0, 2.0]), Estimator::Unbiased)?;
        let entropy = z.layer_norm(None, None, 1e-5)?.softmax_cross_entropy(&labels, 0.1)?.mean_all()?;
        let rest = b.kl.mean_all()?.add(&z.ksd(1.0)?)?.add(&z.pulling_away()?)?;
        let loss = distance.add(&entropy)?.add(&rest)?;
        let slope = strait::grad(&loss, &[&stats])?.swap_remove(0);
        Ok([z.detach(), loss.detach(), slope])
    };
    check_replays(&gpu, step)
}

/// In a process of its own, because a checked device stays so.
#[test]
fn a_checked_device_reports_indices() {
    let (name, child) = ("a_checked_device_reports_indices", "STRAIT_TEST_CHECKED");
    let Some(gpu) = gpu() else { return };
    if std::env::var_os(child).is_none() {
        let program = std::env::current_exe().unwrap();
        assert!(std::process::Command::new(program).args(["--exact", name]).env(child, "1").status().unwrap().success());
        return;
    }
    let gpu = gpu.checked();
    let x = normal(1, &[3, 4]).to_device(&gpu).unwrap();
    let at = Tensor::from_slice(&[0i64, 3], [2], &gpu).unwrap();
    assert!(matches!(x.index_select(0, &at), Err(Error::IndexOutOfRange { index: 3, length: 3, .. })));
    assert!(x.index_select(1, &at).is_ok());
    let labels = Tensor::from_slice(&[0i64, -1, 2], [3], &gpu).unwrap();
    assert!(matches!(x.softmax_cross_entropy(&labels, 0.0), Err(Error::IndexOutOfRange { index: -1, .. })));
}
