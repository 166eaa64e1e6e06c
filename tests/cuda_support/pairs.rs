//! Sums over pairs of rows on tensor cores: against sums in f64 whose bounds follow from what the kernels round, and where the CUDA cores
//! take over, to the bit as on them.

use strait::device::Precision;
use strait::ops::{Estimator, MmdKernel};
use strait::{DType, Device, Gradient, Result, Rng, Tensor};

use super::cuda_support::{check_replays, gpu, normal};

/// What a sum of two bf16 leaves of a number, relative to it.
const SPLIT: f64 = 1.0 / (1 << 17) as f64;
/// What f32 leaves of sums, relative to the sizes of what is added.
const SUM: f64 = 1.0 / (1 << 20) as f64;

type Rows = Vec<Vec<f64>>;

fn rows_of(x: &Tensor) -> Rows {
    x.to_f64_vec().unwrap().chunks(x.dims()[1]).map(<[f64]>::to_vec).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// f32 numbers on the CPU.
fn sample(seed: u64, n: usize, d: usize, scale: f64, shift: f64) -> Tensor {
    normal(seed, &[n, d]).affine(scale, shift).unwrap().to_dtype(DType::F32).unwrap()
}

/// The part of a pair of rows: what it adds to the value, and to the gradient in the first row; and by how much either may be off.
struct Part {
    value: f64,
    slope: Vec<f64>,
    value_off: f64,
    slope_off: f64,
}

/// A value, the gradients of the rows, and bounds of the errors: of the value, and of the length of each row's gradient.
struct Exact {
    value: f64,
    slopes: Rows,
    value_off: f64,
    slopes_off: Vec<f64>,
}

/// The sum over pairs of rows i <= j, each with its weight; pairs of a row with itself count half.
fn sum(rows: &Rows, weight: impl Fn(usize, usize) -> f64, part: impl Fn(&[f64], &[f64]) -> Part) -> Exact {
    let mut all =
        Exact { value: 0.0, slopes: vec![vec![0.0; rows[0].len()]; rows.len()], value_off: 0.0, slopes_off: vec![0.0; rows.len()] };
    for i in 0..rows.len() {
        for j in 0..rows.len() {
            let (w, Part { value, slope, value_off, slope_off }) = (weight(i.min(j), i.max(j)), part(&rows[i], &rows[j]));
            all.value += 0.5 * w * value;
            all.value_off += 0.5 * w.abs() * value_off;
            all.slopes[i].iter_mut().zip(slope).for_each(|(sum, s)| *sum += w * s);
            all.slopes_off[i] += w.abs() * slope_off;
        }
    }
    all
}

/// The squared distance between two rows, and its bound: rows are moved by what is left of them, and sums are rounded.
fn distance(a: &[f64], b: &[f64]) -> (f64, f64) {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let (u, both) = (dot(&difference, &difference), length(a) + length(b));
    let moved = SPLIT * both;
    (u, 2.0 * u.sqrt() * moved + moved * moved + SUM * both * both)
}

/// A sum of radial kernels, and the sizes of its first and second derivative.
fn radial(kernel: &MmdKernel, u: f64) -> [f64; 3] {
    let one = |&s: &f64| match kernel {
        MmdKernel::Rbf(_) => {
            let k = (-0.5 * u / (s * s)).exp();
            [k, 0.5 * k / (s * s), 0.25 * k / s.powi(4)]
        }
        MmdKernel::Imq(_) => [s / (s + u), s / (s + u).powi(2), 2.0 * s / (s + u).powi(3)],
    };
    kernel.scales().iter().map(one).fold([0.0; 3], |all, one| [all[0] + one[0], all[1] + one[1], all[2] + one[2]])
}

/// The squared discrepancy, in rows of the first and then the second sample.
fn mmd2(x: &Rows, y: &Rows, kernel: &MmdKernel, estimator: Estimator) -> Exact {
    let (n, m) = (x.len(), y.len());
    let all = [&x[..], &y[..]].concat();
    let mean: Vec<f64> = (0..x[0].len()).map(|k| all.iter().map(|row| row[k]).sum::<f64>() / all.len() as f64).collect();
    let all: Rows = all.iter().map(|row| row.iter().zip(&mean).map(|(v, c)| v - c).collect()).collect();
    let within = |n: usize, same: bool| match estimator {
        Estimator::Biased => 2.0 / (n * n) as f64,
        Estimator::Unbiased => {
            if same {
                0.0
            } else {
                2.0 / (n * (n - 1)) as f64
            }
        }
    };
    let weight = |i: usize, j: usize| {
        if j < n {
            within(n, i == j)
        } else if i >= n {
            within(m, i == j)
        } else {
            -2.0 / (n * m) as f64
        }
    };
    sum(&all, weight, |a, b| {
        let ((u, off), both) = (distance(a, b), length(a) + length(b));
        let ([k, first, _], [_, most, second]) = (radial(kernel, u), radial(kernel, (u - off).max(0.0)));
        // What pulls is a sum of two bf16 too, and the product of the small parts is left out.
        let slope_off = 2.0 * (first * (4.0 * SPLIT + SUM) * both + second * off * u.sqrt());
        Part { value: k, slope: a.iter().zip(b).map(|(a, b)| -2.0 * first * (a - b)).collect(), value_off: most * off + SUM * k, slope_off }
    })
}

fn ksd(x: &Rows, s: f64) -> Exact {
    let (n, d, inverse) = (x.len() as f64, x[0].len() as f64, 1.0 / (s * s));
    let alpha = inverse + inverse * inverse;
    sum(
        x,
        |_, _| 2.0 / (n * n),
        |a, b| {
            let ((u, off), both, product) = (distance(a, b), length(a) + length(b), dot(a, b));
            let product_off = (2.0 * SPLIT + SUM) * length(a) * length(b);
            let (k, bracket) = ((-0.5 * u * inverse).exp(), product + d * inverse - alpha * u);
            let k_off = 0.5 * inverse * off * (-0.5 * (u - off).max(0.0) * inverse).exp() + SUM * k;
            let size = length(a) * length(b) + d * inverse + alpha * u;
            let bracket_off = product_off + alpha * off + SUM * size;
            let (pull, pull_off) =
                (k * (bracket * inverse + 2.0 * alpha), k_off * (size * inverse + 2.0 * alpha) + k * bracket_off * inverse);
            let slope = a.iter().zip(b).map(|(a, b)| k * b - pull * (a - b)).collect();
            let slope_off = pull_off * u.sqrt() + (pull.abs() + k) * (4.0 * SPLIT + SUM) * both + k_off * length(b);
            Part { value: k * bracket, slope, value_off: k * bracket_off + k_off * size, slope_off }
        },
    )
}

fn pulling_away(x: &Rows) -> Exact {
    let n = x.len() as f64;
    let weight = |i: usize, j: usize| if i == j { 0.0 } else { 2.0 / (n * (n - 1.0)) };
    sum(x, weight, |a, b| {
        let (one, other) = (length(a), length(b));
        if one == 0.0 || other == 0.0 {
            return Part { value: 0.0, slope: vec![0.0; a.len()], value_off: 0.0, slope_off: 0.0 };
        }
        let (cosine, off) = (dot(a, b) / (one * other), 2.0 * SPLIT + SUM);
        let slope = a.iter().zip(b).map(|(a, b)| 2.0 * cosine * (b / other - cosine * a / one) / one).collect();
        let slope_off = 2.0 * (off + cosine.abs() * (4.0 * SPLIT + SUM)) / one;
        Part { value: cosine * cosine, slope, value_off: 2.0 * off * cosine.abs() + off * off, slope_off }
    })
}

fn bits(all: &[Tensor]) -> Vec<u64> {
    all.iter().flat_map(|x| x.to_f64_vec().unwrap()).map(f64::to_bits).collect()
}

/// The value of `f` on a device, then the gradients of the inputs that `wanted` names.
fn run(device: &Device, inputs: &[&Tensor], wanted: &[bool], f: Function) -> Vec<Tensor> {
    let on = |x: &Tensor, wanted| {
        let x = x.to_device(device).unwrap();
        if wanted { x.requires_grad() } else { x }
    };
    let leaves: Vec<Tensor> = inputs.iter().zip(wanted).map(|(x, &wanted)| on(x, wanted)).collect();
    let value = f(&leaves).unwrap();
    let needed: Vec<&Tensor> = leaves.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(x, _)| x).collect();
    let slopes = if needed.is_empty() { Vec::new() } else { Gradient::of(&value).wrt(&needed).unwrap() };
    [vec![value.detach()], slopes].concat()
}

/// Asserts that `found` is within `share` of its bounds; returns the largest share of them that it needs, and where.
fn within(name: &str, found: &[Tensor], exact: &Exact, wanted: std::ops::Range<usize>, share: f64) -> [f64; 2] {
    // The result is rounded to f32, too.
    let value = (found[0].item().unwrap() - exact.value).abs() / (exact.value_off + 1e-7 * exact.value.abs() + 1e-37);
    let mut slope = 0.0f64;
    let slopes: Rows = found[1..].iter().flat_map(rows_of).collect();
    for (row, i) in slopes.iter().zip(wanted.clone()) {
        let off: Vec<f64> = row.iter().zip(&exact.slopes[i]).map(|(f, e)| f - e).collect();
        let one = length(&off) / (exact.slopes_off[i] + 1e-7 * length(&exact.slopes[i]) + 1e-37);
        slope = if one.is_nan() { f64::INFINITY } else { slope.max(one) };
    }
    assert_eq!(slopes.len(), if found.len() > 1 { wanted.len() } else { 0 });
    println!("{name}: {value:.4} and {slope:.4} of the bounds; {:.2e} for a value of {:.2e}", exact.value_off, exact.value);
    assert!(value <= share && slope <= share, "{name}: {value} and {slope} of the bounds");
    [value, slope]
}

/// The share of the bounds that results may need: rounding is not all in one direction.
const SHARE: f64 = 0.2;

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

fn sees_tensor_cores(gpu: &Device, inputs: &[&Tensor], wanted: &[bool], f: Function, found: &[Tensor]) {
    assert_ne!(bits(&run(gpu, inputs, wanted, f)), bits(found), "these are the bits of the CUDA cores");
}

#[test]
fn discrepancies_on_tensor_cores_are_within_their_bounds() {
    let Some(gpu) = gpu() else { return };
    let tensor = gpu.with_precision(Precision::F32x3);
    // Tiles have 64 x 64 pairs, and take 64 coordinates at a time.
    let shapes = [(1, 2, 17), (3, 5, 64), (64, 64, 64), (65, 130, 33), (130, 63, 65), (66, 3, 129), (20, 70, 200)];
    for (i, (n, m, d)) in shapes.into_iter().enumerate() {
        let estimator = if i % 2 == 0 { Estimator::Biased } else { Estimator::Unbiased };
        let (x, y) = (sample(i as u64, n, d, 1.0, 3.0), sample(50 + i as u64, m, d, 0.8, 3.3));
        let s = (d as f64).sqrt();
        let kernels = [
            MmdKernel::Rbf(vec![s]),
            MmdKernel::Imq(vec![0.2 * s * s, 2.0 * s * s, 20.0 * s * s]),
            // More than a launch takes.
            MmdKernel::Rbf((0..19).map(|i| s * 1.15f64.powi(i - 6)).collect()),
        ];
        for (k, kernel) in kernels.iter().enumerate() {
            let exact = mmd2(&rows_of(&x), &rows_of(&y), kernel, estimator);
            let name = format!("mmd2 of {n} and {m} x {d}, {} scales, {estimator:?}", kernel.scales().len());
            let f = |x: &[Tensor]| x[0].mmd2(&x[1], kernel, estimator);
            let cases = [([true, true], 0..n + m), ([true, false], 0..n), ([false, true], n..n + m), ([false, false], 0..0)];
            for (wanted, rows) in cases.into_iter().take(if k == 0 { 4 } else { 1 }) {
                let found = run(&tensor, &[&x, &y], &wanted, &f);
                within(&name, &found, &exact, rows, SHARE);
                assert_eq!(bits(&run(&tensor, &[&x, &y], &wanted, &f)), bits(&found), "{name}: not the same twice");
            }
            sees_tensor_cores(&gpu, &[&x, &y], &[true, true], &f, &run(&tensor, &[&x, &y], &[true, true], &f));
        }
        let (n, x) = (n.max(2), sample(70 + i as u64, n.max(2), d, 1.0, 0.1));
        for (name, exact, f) in [
            ("ksd", ksd(&rows_of(&x), 0.7 * s), &(|x: &[Tensor]| x[0].ksd(0.7 * s)) as Function),
            ("smooth ksd", ksd(&rows_of(&x), 2.0 * s), &|x: &[Tensor]| x[0].ksd(2.0 * s)),
            ("pulling_away", pulling_away(&rows_of(&x)), &|x: &[Tensor]| x[0].pulling_away()),
        ] {
            let found = run(&tensor, &[&x], &[true], f);
            within(&format!("{name} of {n} x {d}"), &found, &exact, 0..n, SHARE);
            assert_eq!(found[0].item().unwrap(), run(&tensor, &[&x], &[false], f)[0].item().unwrap(), "{name}: tracking changes the value");
            sees_tensor_cores(&gpu, &[&x], &[true], f, &found);
        }
    }
}

/// What random rows do not show: roundings that all go one way.
#[test]
fn equal_rows_have_no_distance_and_equal_numbers_the_right_length() {
    let Some(gpu) = gpu() else { return };
    let tensor = gpu.with_precision(Precision::F32x3);
    let (n, d) = (40, 64);
    // Nearly as far as rows may be for tensor cores; those that differ are so far apart that their kernels are nothing.
    let f = |length: f64| move |x: &[Tensor]| x[0].mmd2(&x[1], &MmdKernel::Rbf(vec![length / 7.9]), Estimator::Unbiased);
    // Each row and its opposite, so that the centre is 0; numbers of which two bf16 leave much, and whose small part is large.
    let signs: Vec<f64> = sample(1, n / 2, d, 1.0, 0.0).to_f64_vec().unwrap().iter().map(|v| v.signum()).collect();
    let number = 1.0 + 2f64.powi(-8) - 2f64.powi(-17);
    let equal = signs.iter().map(|v| v * number).chain(signs.iter().map(|v| -v * number)).collect();
    let equal = Tensor::from_vec(equal, [n, d], &Device::cpu()).unwrap().to_dtype(DType::F32).unwrap();
    for x in [equal, sample(2, n, d, 1.0, 0.0)] {
        let all = rows_of(&x);
        let longest = all.iter().map(|row| length(row)).fold(0.0, f64::max);
        let found = run(&tensor, &[&x, &x.copy().unwrap()], &[false, false], &f(longest));
        let exact = mmd2(&all, &all, &MmdKernel::Rbf(vec![longest / 7.9]), Estimator::Unbiased).value;
        let off = found[0].item().unwrap() / exact - 1.0;
        println!("off by {off:e}");
        assert!(off.abs() < 3e-5, "off by {off:e}");
    }
}

#[test]
fn nearly_flat_kernels_keep_their_digits() {
    let Some(gpu) = gpu() else { return };
    let tensor = gpu.with_precision(Precision::F32x3);
    let (x, y) = (sample(1, 90, 40, 1.0, 0.0), sample(2, 70, 40, 1.0, 0.1));
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    for kernel in [MmdKernel::Rbf(vec![1e3]), MmdKernel::Imq(vec![1e6])] {
        let f = |x: &[Tensor]| x[0].mmd2(&x[1], &kernel, Estimator::Unbiased);
        let (found, exact) = (run(&tensor, &[&x, &y], &[true, true], &f), run(&Device::cpu(), &[&wide(&x), &wide(&y)], &[true, true], &f));
        for (found, exact) in found.iter().zip(&exact) {
            let (found, exact) = (found.to_f64_vec().unwrap(), exact.to_f64_vec().unwrap());
            let off = length(&found.iter().zip(&exact).map(|(f, e)| f - e).collect::<Vec<_>>()) / length(&exact);
            println!("{kernel:?}: off by {off:e}");
            assert!(off < 3e-5, "{kernel:?}: off by {off:e}");
        }
    }
}

/// A row's pair with itself is counted, and is much nearer than any other.
#[test]
fn rows_do_not_pull_themselves() {
    let Some(gpu) = gpu() else { return };
    let tensor = gpu.with_precision(Precision::F32x3);
    let (x, y) = (sample(1, 70, 33, 1.0, 0.0), sample(2, 64, 33, 1.0, 0.1));
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let f = |x: &[Tensor]| x[0].mmd2(&x[1], &MmdKernel::Rbf(vec![1.2]), Estimator::Biased);
    let (found, exact) = (run(&tensor, &[&x, &y], &[true, true], &f), run(&Device::cpu(), &[&wide(&x), &wide(&y)], &[true, true], &f));
    sees_tensor_cores(&gpu, &[&x, &y], &[true, true], &f, &found);
    for (found, exact) in found.iter().zip(&exact) {
        let (found, exact) = (found.to_f64_vec().unwrap(), exact.to_f64_vec().unwrap());
        let off = length(&found.iter().zip(&exact).map(|(f, e)| f - e).collect::<Vec<_>>()) / length(&exact);
        println!("off by {off:e} of {:e}", length(&exact));
        assert!(off < 2e-4, "off by {off:e} of {:e}", length(&exact));
    }
}

/// To the bit as on the CUDA cores, whose blocks of rows are the same.
#[test]
fn rows_that_tensor_cores_would_spoil_are_for_the_cuda_cores() {
    let Some(gpu) = gpu() else { return };
    let tensor = gpu.with_precision(Precision::F32x3);
    let same = |name: &str, inputs: &[&Tensor], expected: Option<bool>, f: Function| {
        let wanted = vec![true; inputs.len()];
        let (found, exact) = (run(&tensor, inputs, &wanted, f), run(&gpu, inputs, &wanted, f));
        if let Some(expected) = expected {
            assert_eq!(bits(&found) == bits(&exact), expected, "{name}");
        }
        // NaN in the same places, in any case.
        let nan = |all: &[Tensor]| all.iter().flat_map(|x| x.to_f64_vec().unwrap()).map(f64::is_nan).collect::<Vec<_>>();
        assert_eq!(nan(&found), nan(&exact), "{name}");
        found
    };
    let mmd = |kernel: MmdKernel| move |x: &[Tensor]| x[0].mmd2(&x[1], &kernel, Estimator::Biased);
    let (n, m, d) = (70, 100, 20);
    let (x, y) = (sample(1, n, d, 1.0, 0.0), sample(2, m, d, 0.9, 0.1));
    // Clusters far apart, in each sample.
    let apart = |x: &Tensor| {
        let far: Vec<f64> =
            rows_of(x).iter().enumerate().flat_map(|(i, row)| row.iter().map(move |v| 0.05 * v + (i % 3) as f64 * 20.0)).collect();
        Tensor::from_vec(far, x.dims(), &Device::cpu()).unwrap().to_dtype(DType::F32).unwrap()
    };
    same("clusters", &[&apart(&x), &apart(&y)], Some(true), &mmd(MmdKernel::Rbf(vec![0.2])));
    same("tiny scales", &[&x, &y], Some(true), &mmd(MmdKernel::Imq(vec![1e-3, 10.0])));
    same("tiny numbers", &[&x.affine(1e-15, 0.0).unwrap(), &y.affine(1e-15, 0.0).unwrap()], Some(true), &mmd(MmdKernel::Rbf(vec![1e-15])));
    same("huge numbers", &[&x.affine(1e17, 0.0).unwrap(), &y.affine(1e17, 0.0).unwrap()], Some(true), &mmd(MmdKernel::Rbf(vec![1e18])));
    same("ksd far from 0", &[&x.affine(1.0, 9.0).unwrap()], Some(true), &|x| x[0].ksd(3.0));
    // Rows that are short, and 64-bit floats, never are for tensor cores.
    same("short rows", &[&sample(1, n, 16, 1.0, 0.0), &sample(2, m, 16, 1.0, 0.0)], Some(true), &mmd(MmdKernel::Rbf(vec![4.0])));
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    same("in f64", &[&wide(&x), &wide(&y)], Some(true), &mmd(MmdKernel::Rbf(vec![4.0])));
    same("in f64", &[&wide(&x)], Some(true), &|x| x[0].pulling_away());
    // On both sides of the limit, which is the same for both kernels.
    let all = [rows_of(&x), rows_of(&y)].concat();
    let mean: Vec<f64> = (0..d).map(|k| all.iter().map(|row| row[k]).sum::<f64>() / all.len() as f64).collect();
    let square = |row: &Vec<f64>| row.iter().zip(&mean).map(|(v, c)| (v - c) * (v - c)).sum::<f64>();
    let largest = all.iter().map(square).fold(0.0, f64::max);
    for (share, exact) in [(0.99, true), (1.01, false)] {
        let finest = share * 2.0 * largest / 128.0;
        for kernel in [MmdKernel::Rbf(vec![9.0, finest.sqrt()]), MmdKernel::Imq(vec![2.0 * finest, 50.0])] {
            // Some blocks have no such row: they are for tensor cores.
            let found = same("at the limit", &[&x, &y], Some(false), &mmd(kernel.clone()));
            within("at the limit", &found, &mmd2(&rows_of(&x), &rows_of(&y), &kernel, Estimator::Biased), 0..n + m, SHARE);
        }
        let one = x.narrow(0, 0, 60).unwrap().contiguous().unwrap();
        let largest = rows_of(&one).iter().map(|row| dot(row, row)).fold(0.0, f64::max);
        same("at the limit", &[&one], Some(exact), &|x| x[0].ksd((share * 2.0 * largest / 128.0).sqrt()));
    }
    // A row far from the others spoils nothing but the speed.
    let with = |at: usize, value: f64| {
        let mut values = y.to_f64_vec().unwrap();
        values[at] = value;
        Tensor::from_vec(values, [m, d], &Device::cpu()).unwrap().to_dtype(DType::F32).unwrap()
    };
    let (kernel, outlier) = (MmdKernel::Rbf(vec![2.0]), with(9 * d + 3, 60.0));
    let found = same("an outlier", &[&x, &outlier], Some(false), &mmd(kernel.clone()));
    within("an outlier", &found, &mmd2(&rows_of(&x), &rows_of(&outlier), &kernel, Estimator::Biased), 0..n + m, SHARE);
    for value in [f64::NAN, f64::INFINITY, 3e38] {
        let broken = with(80 * d + 5, value);
        same("a broken row", &[&x, &broken], Some(true), &mmd(MmdKernel::Rbf(vec![4.0])));
        same("a broken row", &[&x, &broken], Some(true), &mmd(MmdKernel::Imq(vec![30.0])));
        let found = same("a broken row", &[&broken], None, &|x| x[0].ksd(4.0));
        assert!(!value.is_nan() || found[0].item().unwrap().is_nan());
        same("a broken row", &[&broken], None, &|x| x[0].pulling_away());
    }
    // Rows of zeros, and one row against itself.
    let zeros = Tensor::zeros([n, d], DType::F32, &Device::cpu()).unwrap();
    let found = run(&tensor, &[&zeros], &[true], &|x| x[0].pulling_away());
    assert!(bits(&found).iter().all(|&bits| bits == 0));
    let found = run(&tensor, &[&zeros, &zeros], &[true, true], &mmd(MmdKernel::Rbf(vec![1.0])));
    assert!(found.iter().flat_map(|x| x.to_f64_vec().unwrap()).all(|v| v == 0.0));
    let one = sample(3, 1, d, 1.0, 5.0);
    assert_eq!(run(&tensor, &[&one, &one], &[false; 2], &mmd(MmdKernel::Imq(vec![1.0, 3.0])))[0].item().unwrap(), 0.0);
}

#[test]
fn precisions_of_pairs_are_two() {
    let Some(gpu) = gpu() else { return };
    let (x, y) = (sample(1, 30, 40, 1.0, 0.0), sample(2, 20, 40, 0.9, 0.1));
    let all = |device: &Device| {
        let mmd = run(device, &[&x, &y], &[true, true], &|x| x[0].mmd2(&x[1], &MmdKernel::Rbf(vec![6.0]), Estimator::Biased));
        let rest = [run(device, &[&x], &[true], &|x| x[0].ksd(6.0)), run(device, &[&x], &[true], &|x| x[0].pulling_away())];
        bits(&[mmd, rest.concat()].concat())
    };
    let [full, split, tf32, bf16] = Precision::ALL.map(|precision| all(&gpu.with_precision(precision)));
    assert!(full != split && split == tf32 && split == bf16);
}

#[test]
fn replayed_pairs_on_tensor_cores_are_eager_ones() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let tensor = gpu.with_precision(Precision::F32x3);
    let step = |rng: &mut Rng| -> Result<[Tensor; 2]> {
        let (x, y) = (rng.normal([30, 20], DType::F32, &tensor)?.requires_grad(), rng.normal([70, 20], DType::F32, &tensor)?);
        let loss = x.mmd2(&y, &MmdKernel::Rbf(vec![4.0, 0.01]), Estimator::Unbiased)?.add(&x.mmd2(
            &y,
            &MmdKernel::Imq(vec![9.0]),
            Estimator::Biased,
        )?)?;
        let loss = loss.add(&x.ksd(4.0)?)?.add(&x.pulling_away()?)?;
        let slope = strait::grad(&loss, &[&x])?.swap_remove(0);
        Ok([loss.detach(), slope])
    };
    check_replays(&tensor, step)
}
