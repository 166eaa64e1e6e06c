//! Convolutions, pooling and upsampling on a GPU against the CPU: at the edges of what blocks and threads share out, into memory full
//! of NaNs, and twice with the same bits.
#![cfg(feature = "cuda")]

mod cuda_support;

use cuda_support::gpu;
use strait::ops::{ConvOptions, PoolOptions};
use strait::{DType, Device, Error, Result, Tensor, grad};

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

/// A convolution with this image [N, Ci, H, W], this weight [Co, Ci, kh, kw] and a bias, and both of its gradients.
fn convolution(gpu: &Device, image: [usize; 4], weight: [usize; 4], options: ConvOptions) {
    let name = format!("{image:?} with {weight:?}, {options:?}");
    let (x, w) = (normal(1, image, DType::F64), normal(2, weight, DType::F64));
    let bias = normal(3, [1, 1, 1, weight[0]], DType::F64).reshape([weight[0]]).unwrap();
    let windows = x.conv2d(&w, None, options).unwrap_or_else(|e| panic!("{name}: {e}")).dims().try_into().unwrap();
    let g = normal(4, windows, DType::F64);
    close(&name, gpu, &[x.clone(), w.clone(), bias], &|t| t[0].conv2d(&t[1], Some(&t[2]), options));
    close(&format!("{name}: input"), gpu, &[g.clone(), w], &|t| t[0].conv2d_input_grad(&t[1], [image[2], image[3]], options));
    close(&format!("{name}: weight"), gpu, &[x, g], &|t| t[0].conv2d_weight_grad(&t[1], [weight[2], weight[3]], options));
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
fn convolutions_of_halves_are_computed_in_f32() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::BF16, DType::F16] {
        let inputs = [normal(1, [2, 3, 6, 5], dtype), normal(2, [4, 3, 3, 3], dtype)];
        let [found, expected] = both("halves", &gpu, &inputs, &|t| t[0].conv2d(&t[1], None, ConvOptions::default()));
        found.iter().zip(&expected).for_each(|(f, e)| assert!((f - e).abs() <= 1e-2 * e.abs().max(1.0), "{dtype}: {f} for {e}"));
    }
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
