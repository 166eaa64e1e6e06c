use super::super::cut::Cut;
use super::*;
use crate::device::cpu::conv as cpu;
use crate::device::cuda::testing::gpu;
use crate::device::{Device, Precision};
use crate::dtype::Element;
use crate::tensor::Tensor;

#[test]
fn what_tensor_cores_cannot_count_is_left_to_the_others() {
    let dims = |input: [usize; 2], kernel, padding| ConvDims {
        batch: 1,
        in_channels: 2,
        out_channels: 3,
        input,
        kernel,
        output: [5, 5],
        stride: [1, 1],
        padding: [padding, 0],
        dilation: [1, 1],
    };
    for (dims, fits) in [
        (dims([40, 40], [15, 15], 0), true),
        (dims([40, 40], [16, 1], 0), false),
        (dims([40, 40], [1, 16], 0), false),
        (dims([1 << 15, 1 << 15], [3, 3], 0), false),
        (dims([1 << 15, 1 << 14], [3, 3], 0), true),
        (dims([1 << 15, 1 << 14], [3, 3], 1 << 16), false),
        (dims([40, 40], [3, 3], usize::MAX / 2), false),
    ] {
        assert_eq!(fits_tensor_cores(&dims), fits, "{dims:?}");
        let cores = |dtype, precision| plan::cores(dtype, precision, &dims);
        assert_eq!(cores(DType::F32, Precision::Tf32) == Cores::Tf32, fits);
        assert_eq!([cores(DType::F64, Precision::Tf32), cores(DType::F32, Precision::F32)], [Cores::Cuda; 2]);
    }
}

/// Numbers in [-1, 1) that the dtype holds, on the device and as f64.
fn operand<T: Element>(device: &Device, count: usize, salt: u64) -> (Tensor, Vec<f64>) {
    let number = |i: u64| {
        let h = (i + (salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let h = (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        T::from_f64((h >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
    };
    let values: Vec<T> = (0..count as u64).map(number).collect();
    (Tensor::from_slice(&values, [count], device).unwrap(), values.iter().map(|v| v.to_f64()).collect())
}

type Reference = fn(&mut [f64], &[f64], &[f64], &ConvDims);

/// All three directions of a convolution by these cores and tiles, in so many parts, against the sums in f64.
fn check<T: Element>(gpu: CudaDevice, cores: Cores, tile: Tile, dims: &ConvDims, splits: usize) {
    let device = Device::Cuda(gpu);
    let plane = |size: [usize; 2]| size[0] * size[1];
    let images = dims.batch * dims.in_channels * plane(dims.input);
    let windows = dims.batch * dims.out_channels * plane(dims.output);
    let weights = dims.out_channels * dims.in_channels * plane(dims.kernel);
    let name = format!("{cores:?} {tile:?} in {splits} {dims:?}");
    let cut = |products: &Products| Blocks::new(cores, Cut { tile, parts: splits }, products.of(tile), size_of::<T>());
    let error = match cores {
        Cores::F32x3 => Precision::F32x3.error(),
        Cores::Tf32 => Precision::Tf32.error(),
        Cores::Rounded => Precision::Bf16.error(),
        _ => 0.0,
    };
    // of the result
    let last = match T::DTYPE {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    };
    let (x, w, g) = (operand::<T>(&device, images, 1), operand::<T>(&device, weights, 2), operand::<T>(&device, windows, 3));
    let forward: Reference = |y, x, w, dims| cpu::conv2d(y, x, w, dims);
    let input: Reference = |x, g, w, dims| cpu::conv2d_input_grad(x, g, w, dims);
    let weight: Reference = |w, x, g, dims| cpu::conv2d_weight_grad(w, x, g, dims);
    for (pass, count, [a, b], reference, terms) in [
        ("forward", windows, [&x, &w], forward, dims.in_channels * plane(dims.kernel)),
        ("input", images, [&g, &w], input, dims.out_channels * plane(dims.kernel)),
        ("weight", weights, [&x, &g], weight, dims.batch * plane(dims.output)),
    ] {
        let out = Tensor::full(f64::NAN, [count], T::DTYPE, &device).unwrap();
        let ptrs = [a.0.ptr(), b.0.ptr()];
        match pass {
            "weight" => weight_grad(gpu, T::DTYPE, dims, ptrs, out.ptr(), &cut).unwrap(),
            _ => {
                let inputs = [ptrs[0], ptrs[1], Ptr::NULL];
                convolve(gpu, T::DTYPE, dims, inputs, out.ptr(), pass == "input", &cut).unwrap();
            }
        }
        let sums = |of: fn(f64) -> f64| {
            let [a, b] = [a, b].map(|operand| operand.1.iter().map(|&v| of(v)).collect::<Vec<f64>>());
            let mut sums = vec![0.0; count];
            reference(&mut sums, &a, &b, dims);
            sums
        };
        let (expected, sizes) = (sums(|v| v), sums(f64::abs));
        for (i, found) in out.to_f64_vec().unwrap().into_iter().enumerate() {
            let bound = (error + (terms + 2) as f64 * 2f64.powi(-23)) * sizes[i] + last * expected[i].abs();
            // a NaN is not within the bound
            assert!((found - expected[i]).abs() <= bound, "{name}, {pass} at {i}: {found} for {} within {bound:e}", expected[i]);
        }
    }
}

#[test]
fn tensor_cores_convolve_at_every_edge() {
    let Some(gpu) = gpu() else { return };
    let mut turn = 0;
    for tile in [Tile::Medium, Tile::Large] {
        let side = tile.side();
        // channels of the result and of the image, the image and the windows: sums shorter and longer than stages of 16 and 32
        for (batch, out_channels, in_channels, input, kernel, stride, padding, dilation) in [
            (1, 1, 1, [1, 1], [1, 1], [1, 1], [0, 0], [1, 1]),
            (1, side - 1, 1, [5, 7], [3, 3], [1, 1], [1, 1], [1, 1]),
            (2, side, 3, [9, side / 2 - 1], [4, 4], [2, 2], [1, 1], [1, 1]),
            (1, side + 1, 15, [3, 5], [1, 1], [1, 1], [0, 0], [1, 1]),
            (3, 2, side + 1, [4, 3], [3, 2], [1, 2], [2, 0], [1, 1]),
            (2, 3, 2, [11, 7], [3, 5], [2, 3], [1, 2], [2, 1]),
            (1, 2, 2, [5, 5], [3, 3], [1, 1], [4, 4], [3, 3]),
            (1, 3, 2, [13, 11], [2, 1], [5, 5], [0, 0], [1, 1]),
            (1, 2, 1, [2, 3], [15, 15], [1, 1], [9, 9], [1, 1]),
            (2, 5, 33, [2, 2], [1, 1], [1, 1], [0, 0], [1, 1]),
        ] {
            let along = |d: usize| (input[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
            let dims =
                ConvDims { batch, in_channels, out_channels, input, kernel, output: [along(0), along(1)], stride, padding, dilation };
            turn += 1;
            for (i, cores) in [Cores::F32x3, Cores::Tf32, Cores::Rounded].into_iter().enumerate() {
                check::<f32>(gpu, cores, tile, &dims, 1 + (turn + i) % 3);
            }
            check::<half::bf16>(gpu, Cores::Bf16, tile, &dims, 1 + turn % 3);
            check::<half::f16>(gpu, Cores::F16, tile, &dims, 1 + (turn + 1) % 3);
        }
    }
}

/// The bits of all three directions on the CUDA cores, with operands that begin `shift` elements after an aligned address.
fn in_full<T: Element>(gpu: CudaDevice, tile: Tile, dims: &ConvDims, shift: usize, long_taps: bool) -> [Vec<u64>; 3] {
    let device = Device::Cuda(gpu);
    let plane = |size: [usize; 2]| size[0] * size[1];
    let images = dims.batch * dims.in_channels * plane(dims.input);
    let windows = dims.batch * dims.out_channels * plane(dims.output);
    let weights = dims.out_channels * dims.in_channels * plane(dims.kernel);
    let shifted = |count: usize, salt: u64| {
        let values: Vec<T> = operand::<T>(&device, count, salt).1.into_iter().map(T::from_f64).collect();
        let values = [&vec![T::from_f64(f64::NAN); shift][..], &values].concat();
        Tensor::from_slice(&values, [shift + count], &device).unwrap()
    };
    let [x, w, g] = [shifted(images, 1), shifted(weights, 2), shifted(windows, 3)];
    let [px, pw, pg] = [&x, &w, &g].map(|t| t.ptr().offset(shift * size_of::<T>()));
    let cut =
        |products: &Products| Blocks { long_taps, ..Blocks::new(Cores::Cuda, Cut { tile, parts: 1 }, products.sizes, size_of::<T>()) };
    let out = |count: usize| Tensor::full(f64::NAN, [count], T::DTYPE, &device).unwrap();
    let (y, dx, dw) = (out(windows), out(images), out(weights));
    convolve(gpu, T::DTYPE, dims, [px, pw, Ptr::NULL], y.ptr(), false, &cut).unwrap();
    convolve(gpu, T::DTYPE, dims, [pg, pw, Ptr::NULL], dx.ptr(), true, &cut).unwrap();
    weight_grad(gpu, T::DTYPE, dims, [px, pg], dw.ptr(), &cut).unwrap();
    [y, dx, dw].map(|t| t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect())
}

/// Chunks of 16 bytes, elements one by one, and kernels that count in 64 bits: the sums are the same, in the same order.
#[test]
fn sums_in_full_have_the_same_bits_however_operands_are_read() {
    let Some(gpu) = gpu() else { return };
    for (batch, out_channels, in_channels, input, kernel, stride, padding, dilation) in [
        (3, 70, 12, [10, 6], [3, 3], [1, 1], [1, 1], [1, 1]),
        (2, 5, 8, [9, 16], [3, 4], [2, 1], [1, 2], [1, 2]),
        (2, 33, 4, [5, 7], [2, 2], [1, 2], [1, 1], [2, 1]),
        (1, 3, 2, [8, 9], [15, 1], [1, 1], [7, 0], [1, 1]),
    ] {
        let along = |d: usize| (input[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
        let dims = ConvDims { batch, in_channels, out_channels, input, kernel, output: [along(0), along(1)], stride, padding, dilation };
        for tile in [Tile::Small, Tile::Medium] {
            let expected = in_full::<f32>(gpu, tile, &dims, 0, false);
            assert!(expected.iter().flatten().all(|bits| f64::from_bits(*bits).is_finite()), "{tile:?} {dims:?}");
            for (shift, long_taps) in [(1, false), (0, true), (3, true)] {
                assert_eq!(in_full::<f32>(gpu, tile, &dims, shift, long_taps), expected, "{tile:?} {shift} {long_taps} {dims:?}");
            }
            let expected = in_full::<f64>(gpu, tile, &dims, 0, false);
            assert_eq!(in_full::<f64>(gpu, tile, &dims, 1, true), expected, "f64 {tile:?} {dims:?}");
        }
    }
}
