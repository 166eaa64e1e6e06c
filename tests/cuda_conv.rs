//! Convolutions, pooling and upsampling on a GPU against the CPU: at the edges of what blocks and threads share out, into memory full
//! of NaNs, and twice with the same bits.
#![cfg(feature = "cuda")]

mod cuda_support;

use cuda_support::{check_replays, gpu};
use strait::device::Precision;
use strait::ops::{ConvOptions, PoolOptions};
use strait::{DType, Device, Error, Gradient, Result, Rng, Tensor, grad};

fn normal(seed: u64, shape: [usize; 4], dtype: DType) -> Tensor {
    cuda_support::normal(seed, &shape).to_dtype(dtype).unwrap()
}

/// Leaves NaNs in the memory that the next tensor of this size is given.
fn poison(like: &Tensor, gpu: &Device) {
    drop(Tensor::full(f64::NAN, like.shape(), like.dtype(), gpu).unwrap());
}

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// The result of `f` on the CPU, and what a GPU makes of the same inputs; twice the same bits.
fn both(name: &str, gpu: &Device, inputs: &[Tensor], f: Function) -> [Vec<f64>; 2] {
    let expected = f(inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
    let moved: Vec<Tensor> = inputs.iter().map(|x| x.to_device(gpu).unwrap()).collect();
    let run = || {
        poison(&expected, gpu);
        let found = f(&moved).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((found.shape(), found.dtype()), (expected.shape(), expected.dtype()), "{name}");
        found.to_f64_vec().unwrap()
    };
    let found = run();
    assert_eq!(bits(&found), bits(&run()), "{name}: not the same twice");
    [found, expected.to_f64_vec().unwrap()]
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Sums of a few numbers in one order: the CPU's bits.
fn equal(name: &str, gpu: &Device, inputs: &[Tensor], f: Function) {
    let [found, expected] = both(name, gpu, inputs, f);
    assert_eq!(bits(&found), bits(&expected), "{name}");
}

/// Longer sums: within a tolerance relative to the largest entry, for each dtype against the CPU's f64.
fn close(name: &str, gpu: &Device, inputs: &[Tensor], f: Function) {
    let rounded: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let wide: Vec<Tensor> = rounded.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
    let [in_f64, expected] = both(name, gpu, &wide, f);
    let [in_f32, _] = both(name, gpu, &rounded, f);
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (found, tolerance) in [(in_f64, 1e-12), (in_f32, 4e-6)] {
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert!((f - e).abs() <= tolerance * scale, "{name}, element {i}: {f} for {e}");
        }
    }
}

/// On tensor cores: within what becomes of the factors on their way there, and of `terms` sums in f32, relative to the sum of the products'
/// sizes.
fn bounded(name: &str, gpu: &Device, inputs: &[Tensor], terms: usize, f: Function) {
    let to = |inputs: &[Tensor], dtype: DType| -> Vec<Tensor> { inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect() };
    let kinds = Precision::ALL[1..].iter().map(|&precision| (DType::F32, precision, 0.0));
    let halves = [(DType::BF16, Precision::F32, 2f64.powi(-8)), (DType::F16, Precision::F32, 2f64.powi(-11))];
    for (dtype, precision, last) in kinds.chain(halves) {
        let rounded = to(inputs, dtype);
        let wide = to(&rounded, DType::F64);
        let sizes: Vec<Tensor> = wide.iter().map(|x| x.abs().unwrap()).collect();
        let [expected, sizes] = [wide, sizes].map(|inputs| f(&inputs).unwrap().to_f64_vec().unwrap());
        let [found, _] = both(name, &gpu.with_precision(precision), &rounded, f);
        let error = if dtype == DType::F32 { precision.error() } else { 0.0 };
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            let bound = (error + (terms + 3) as f64 * 2f64.powi(-23)) * sizes[i] + last * e.abs();
            assert!((f - e).abs() <= bound, "{name} in {dtype} and {precision}, element {i}: {f} for {e} within {bound:e}");
        }
    }
}

/// A convolution with this image [N, Ci, H, W], this weight [Co, Ci, kh, kw] and a bias, and both of its gradients.
fn convolution(gpu: &Device, image: [usize; 4], weight: [usize; 4], options: ConvOptions) {
    let name = format!("{image:?} with {weight:?}, {options:?}");
    let (x, w) = (normal(1, image, DType::F64), normal(2, weight, DType::F64));
    let bias = normal(3, [1, 1, 1, weight[0]], DType::F64).reshape([weight[0]]).unwrap();
    let windows: [usize; 4] = x.conv2d(&w, None, options).unwrap_or_else(|e| panic!("{name}: {e}")).dims().try_into().unwrap();
    let g = normal(4, windows, DType::F64);
    let forward = |t: &[Tensor]| t[0].conv2d(&t[1], Some(&t[2]), options);
    let input = |t: &[Tensor]| t[0].conv2d_input_grad(&t[1], [image[2], image[3]], options);
    let slope = |t: &[Tensor]| t[0].conv2d_weight_grad(&t[1], [weight[2], weight[3]], options);
    let taps = weight[2] * weight[3];
    let passes: [(&str, Vec<Tensor>, usize, Function); 3] = [
        ("", vec![x.clone(), w.clone(), bias], image[1] * taps, &forward),
        (": input", vec![g.clone(), w], weight[0] * taps, &input),
        (": weight", vec![x, g], windows[0] * windows[2] * windows[3], &slope),
    ];
    for (pass, inputs, terms, f) in passes {
        close(&format!("{name}{pass}"), gpu, &inputs, f);
        bounded(&format!("{name}{pass}"), gpu, &inputs, terms, f);
    }
}

fn options(stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> ConvOptions {
    ConvOptions { stride, padding, dilation }
}

#[test]
fn convolutions_at_the_edges_of_tiles() {
    let Some(gpu) = gpu() else { return };
    // 1 x 1 windows are products of matrices: output channels, pixels, and input channels around the sizes of tiles
    for edge in [1, 15, 16, 17, 31, 32, 33, 63, 64, 65] {
        for [rows, cols, depth] in [[edge, 5, 3], [3, edge, 5], [5, 3, edge]] {
            convolution(&gpu, [1, depth, 1, cols], [rows, depth, 1, 1], ConvOptions::default());
        }
    }
    convolution(&gpu, [2, 33, 4, 8], [33, 33, 1, 1], ConvOptions::default());
}

#[test]
fn convolutions_of_all_kinds() {
    let Some(gpu) = gpu() else { return };
    let plain = ConvOptions::default();
    for (image, weight, options) in [
        ([1, 1, 1, 1], [1, 1, 1, 1], plain),
        ([2, 3, 7, 9], [4, 3, 3, 3], plain.padding(1)),
        ([2, 3, 8, 8], [5, 3, 4, 4], plain.stride(2).padding(1)),
        ([3, 2, 11, 7], [3, 2, 3, 5], options([2, 3], [1, 2], [2, 1])),
        ([2, 2, 9, 10], [3, 2, 3, 2], options([4, 6], [2, 1], [2, 4])),
        // more stride than window: cells that belong to none
        ([1, 2, 13, 11], [2, 2, 2, 1], plain.stride(5)),
        ([1, 1, 5, 5], [2, 1, 3, 3], plain.padding(4).dilation(3)),
        // only one window that way, however far away the next would be
        ([2, 2, 3, 6], [2, 2, 3, 1], options([1 << 35, 2], [0, 0], [1, 1 << 35])),
        ([1, 2, 0, 5], [2, 2, 2, 2], plain.padding(1)),
        ([0, 2, 5, 5], [3, 2, 2, 2], plain),
        ([2, 0, 5, 5], [3, 0, 2, 2], plain),
        ([2, 2, 5, 5], [0, 2, 2, 2], plain),
    ] {
        convolution(&gpu, image, weight, options);
    }
    for (image, weight, options, more) in [
        ([2, 3, 3, 5], [3, 2, 4, 4], plain.stride(2).padding(1), [0, 1]),
        ([1, 2, 4, 3], [2, 3, 3, 3], options([2, 3], [1, 2], [2, 1]), [1, 2]),
        ([2, 1, 3, 4], [1, 2, 3, 2], options([1, 1], [1, 2], [2, 2]), [1, 1]),
        ([2, 2, 1, 1], [2, 3, 4, 4], plain, [0, 0]),
    ] {
        let bias = normal(3, [1, 1, 1, weight[1]], DType::F64).reshape([weight[1]]).unwrap();
        let inputs = [normal(1, image, DType::F64), normal(2, weight, DType::F64), bias];
        close(&format!("transposed {image:?} {weight:?}"), &gpu, &inputs, &|t| t[0].conv_transpose2d(&t[1], Some(&t[2]), options, more));
    }
    // views that begin anywhere
    let inputs = [normal(1, [3, 3, 5, 5], DType::F64), normal(2, [4, 3, 3, 3], DType::F64)];
    close("views", &gpu, &inputs, &|t| t[0].narrow(0, 1, 2)?.conv2d(&t[1].narrow(0, 1, 3)?, None, plain));
    close("transposed views", &gpu, &inputs, &|t| t[0].transpose(2, 3)?.conv2d(&t[1].transpose(2, 3)?, None, plain));
}

#[test]
fn long_sums_are_cut_and_added_in_order() {
    let Some(gpu) = gpu() else { return };
    for (image, weight) in [([1, 1500, 2, 2], [3, 1500, 1, 1]), ([40, 2, 12, 11], [3, 2, 3, 3]), ([1, 3, 1, 2], [1400, 3, 1, 2])] {
        // also where the parts will be
        for splits in 2..=64 {
            let length = splits * weight[0] * weight[1] * weight[2] * weight[3];
            poison(&Tensor::zeros([length], DType::F32, &Device::cpu()).unwrap(), &gpu);
        }
        convolution(&gpu, image, weight, ConvOptions::default());
    }
}

#[test]
fn many_results_take_larger_tiles() {
    let Some(gpu) = gpu() else { return };
    // About as many of them as a GPU has multiprocessors: smaller ones would need more than one round.
    convolution(&gpu, [1, 3, 65, 126], [63, 3, 3, 1], ConvOptions::default());
    convolution(&gpu, [2, 63, 64, 63], [3, 63, 2, 2], ConvOptions::default().stride(2));
    convolution(&gpu, [1, 700, 1, 5], [700, 700, 1, 1], ConvOptions::default());
}

#[test]
fn each_precision_is_as_exact_as_it_says_and_no_more() {
    let Some(gpu) = gpu() else { return };
    let plain = ConvOptions::default().padding(1);
    let inputs = [normal(1, [3, 20, 9, 8], DType::F32), normal(2, [17, 20, 3, 3], DType::F32), normal(3, [3, 17, 9, 8], DType::F32)];
    let passes: [Function; 3] = [&|t| t[0].conv2d(&t[1], None, plain), &|t| t[2].conv2d_input_grad(&t[1], [9, 8], plain), &|t| {
        t[0].conv2d_weight_grad(&t[2], [3, 3], plain)
    }];
    for pass in passes {
        let wide: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
        let sizes: Vec<Tensor> = wide.iter().map(|x| x.abs().unwrap()).collect();
        let [exact, sizes] = [wide, sizes].map(|inputs| pass(&inputs).unwrap().to_f64_vec().unwrap());
        let mut before = 0.0;
        for precision in Precision::ALL {
            let device = gpu.with_precision(precision);
            let moved: Vec<Tensor> = inputs.iter().map(|x| x.to_device(&device).unwrap()).collect();
            let found = pass(&moved).unwrap();
            assert_eq!(found.device(), device);
            let errors = found.to_f64_vec().unwrap().into_iter().zip(&exact).zip(&sizes).map(|((f, e), size)| (f - e).abs() / size);
            let worst = errors.fold(0.0, f64::max);
            assert!(worst > 1.5 * before, "{precision}: {worst:e} is not more than {before:e}");
            before = worst;
            // and in f64 in full
            let moved: Vec<Tensor> = moved.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
            let found = pass(&moved).unwrap().to_f64_vec().unwrap();
            assert!(found.iter().zip(&exact).zip(&sizes).all(|((f, e), size)| (f - e).abs() <= 1e-14 * size), "{precision}");
        }
    }
}

#[test]
fn second_derivatives_are_as_exact_as_the_precision() {
    let Some(gpu) = gpu() else { return };
    let halving = ConvOptions::default().stride(2).padding(1);
    let all = |device: &Device, dtype: DType| {
        let draw = |seed, shape| normal(seed, shape, DType::F32).to_dtype(dtype).unwrap().to_device(device).unwrap();
        let (x, w) = (draw(1, [2, 3, 9, 8]).requires_grad(), draw(2, [5, 3, 4, 4]).requires_grad());
        let of = |y: &Tensor, seed: u64| {
            let cotangent = draw(seed, y.dims().try_into().unwrap());
            Gradient::of(y).cotangent(&cotangent).differentiable().unused_as_zero().wrt(&[&x, &w]).unwrap()
        };
        let y = x.conv2d(&w, None, halving).unwrap().conv_transpose2d(&w, None, halving, [0, 0]).unwrap();
        let slopes = of(&y, 3);
        [of(&slopes[0], 4), of(&slopes[1], 5), slopes, vec![y]].concat()
    };
    let expected = all(&Device::cpu(), DType::F64);
    for precision in Precision::ALL {
        for (i, (found, expected)) in all(&gpu.with_precision(precision), DType::F32).iter().zip(&expected).enumerate() {
            let (found, expected) = (found.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let off = norm(&mut found.iter().zip(&expected).map(|(f, e)| f - e));
            let bound = (2.0 * precision.error() + 2e-6) * norm(&mut expected.iter().copied());
            assert!(off <= bound, "{precision}, result {i}: {off:e} is more than {bound:e}");
        }
    }
}

#[test]
fn windows_of_many_taps_are_multiplied_in_full() {
    let Some(gpu) = gpu() else { return };
    let inputs = [normal(1, [2, 3, 20, 9], DType::F32), normal(2, [4, 3, 16, 3], DType::F32)];
    let run = |device: &Device, dtype: DType| {
        let moved: Vec<Tensor> = inputs.iter().map(|x| x.to_device(device).unwrap().to_dtype(dtype).unwrap()).collect();
        moved[0].conv2d(&moved[1], None, ConvOptions::default()).unwrap().to_f64_vec().unwrap()
    };
    let full = run(&gpu, DType::F32);
    for precision in Precision::ALL {
        assert_eq!(bits(&run(&gpu.with_precision(precision), DType::F32)), bits(&full), "{precision}");
    }
    let rounded = inputs.each_ref().map(|x| x.to_dtype(DType::BF16).unwrap());
    let [found, expected] = both("halves", &gpu, &rounded, &|t| t[0].conv2d(&t[1], None, ConvOptions::default()));
    assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() <= 2f64.powi(-7) * e.abs() + 1e-4));
}

#[test]
fn what_kernels_cannot_count_is_an_error() {
    let Some(gpu) = gpu() else { return };
    let zeros = |shape: [usize; 4]| Tensor::zeros(shape, DType::F32, &gpu).unwrap();
    let far = options([1 << 31, 1], [1 << 31, 0], [1, 1]);
    let error = zeros([1, 1, 2, 2]).conv2d(&zeros([1, 1, 1, 1]), None, far).unwrap_err();
    assert!(matches!(error, Error::BadShape { .. }), "{error}");
}

const POOLS: [PoolOptions; 6] = [
    PoolOptions { kernel: [2, 2], stride: [2, 2], padding: [0, 0] },
    PoolOptions { kernel: [3, 3], stride: [2, 2], padding: [1, 1] },
    PoolOptions { kernel: [3, 2], stride: [1, 3], padding: [1, 0] },
    PoolOptions { kernel: [5, 4], stride: [4, 2], padding: [2, 2] },
    PoolOptions { kernel: [1, 1], stride: [2, 1], padding: [0, 0] },
    // windows with cells far beyond 32 bits
    PoolOptions { kernel: [1 << 40, 5], stride: [1 << 39, 1], padding: [1 << 39, 2] },
];

const IMAGES: [[usize; 4]; 6] = [[1, 1, 5, 6], [2, 3, 9, 5], [0, 3, 5, 5], [1, 1, 15, 17], [1, 1, 16, 16], [1, 1, 257, 5]];

#[test]
fn pooling_has_the_bits_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (i, shape) in IMAGES.into_iter().enumerate() {
        for options in POOLS {
            for dtype in [DType::F32, DType::F64, DType::BF16] {
                let name = format!("{shape:?} {options:?} {dtype}");
                let x = normal(i as u64, shape, dtype);
                equal(&name, &gpu, std::slice::from_ref(&x), &|x| x[0].avg_pool2d(options));
                let windows = x.avg_pool2d(options).unwrap().dims().try_into().unwrap();
                let g = normal(i as u64, windows, dtype);
                equal(&name, &gpu, &[g], &|g| g[0].avg_pool2d_grad([shape[2], shape[3]], options));
            }
        }
    }
    // ties, a NaN, and nothing above minus infinity
    let mut values: Vec<f64> = normal(5, [2, 3, 9, 8], DType::F64).to_f64_vec().unwrap().iter().map(|v| v.round()).collect();
    values[20] = f64::NAN;
    values[80..].fill(f64::NEG_INFINITY);
    for options in POOLS {
        for dtype in [DType::F32, DType::F64] {
            let x = Tensor::from_slice(&values, [2, 3, 9, 8], &Device::cpu()).unwrap().to_dtype(dtype).unwrap();
            let maxima = |x: &[Tensor]| x[0].max_pool2d(options);
            equal("maxima", &gpu, std::slice::from_ref(&x), &maxima);
            equal("places of maxima", &gpu, &[x], &|x| {
                let leaf = x[0].detach().requires_grad();
                Ok(grad(&maxima(std::slice::from_ref(&leaf))?.sum_all()?, &[&leaf])?.remove(0))
            });
        }
    }
    // a view that is not contiguous
    let x = normal(9, [2, 3, 7, 6], DType::F32);
    equal("a view", &gpu, &[x], &|x| x[0].narrow(3, 1, 5)?.avg_pool2d(PoolOptions::new(2)));
}

#[test]
fn upsampling_has_the_bits_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (i, shape) in IMAGES.into_iter().enumerate() {
        for scale in [[1, 1], [2, 2], [3, 1], [2, 5]] {
            for dtype in [DType::F32, DType::F64, DType::F16] {
                let name = format!("{shape:?} {scale:?} {dtype}");
                equal(&name, &gpu, &[normal(i as u64, shape, dtype)], &|x| x[0].upsample_nearest2d(scale));
                let g = normal(i as u64, [shape[0], shape[1], shape[2] * scale[0], shape[3] * scale[1]], dtype);
                equal(&name, &gpu, &[g], &|g| g[0].upsample_nearest2d_grad(scale));
            }
        }
    }
    let none = normal(0, [2, 3, 0, 4], DType::F32);
    equal("no cells", &gpu, &[none], &|x| x[0].upsample_nearest2d([2, 2])?.upsample_nearest2d_grad([2, 2]));
}

/// The weight's gradient is a long sum of few results, whose parts the last block at a tile adds up.
#[test]
fn captured_convolutions_are_eager_ones_in_every_precision() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for precision in [Precision::F32, Precision::F32x3, Precision::Tf32, Precision::Bf16] {
        let device = gpu.with_precision(precision);
        let w = normal(1, [5, 3, 3, 3], DType::F32).to_device(&device)?.requires_grad();
        let step = |rng: &mut Rng| -> Result<[Tensor; 3]> {
            let x = rng.normal([8, 3, 17, 16], DType::F32, &device)?.requires_grad();
            let y = x.conv2d(&w, None, ConvOptions { padding: [1, 1], ..ConvOptions::default() })?;
            let mut slopes = grad(&y.mul(&y)?.sum_all()?, &[&x, &w])?;
            Ok([y.detach(), slopes.remove(0), slopes.remove(0)])
        };
        check_replays(&device, step)?;
    }
    Ok(())
}
