use super::*;
use crate::device::Device;
use crate::device::cuda::testing::gpu;
use crate::dtype::Element;
use crate::tensor::Tensor;

/// Values in [-1, 1) from a hash of the index.
fn values<T: Element>(count: usize, salt: u64) -> Vec<T> {
    let hash = |i: u64| {
        let h = (i + (salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (0..count as u64).map(|i| T::from_f64((hash(i) >> 40) as f64 / (1u64 << 23) as f64 - 1.0)).collect()
}

/// A matrix of a layout (0: rows lie along memory, 1: columns do, 2: neither) with a gap after each line.
struct Operand {
    tensor: Tensor,
    values: Vec<f64>,
    offset: usize,
    strides: [usize; 2],
}

impl Operand {
    fn new<T: Element>(device: &Device, [rows, cols]: [usize; 2], layout: usize, gap: usize, offset: usize, salt: u64) -> Operand {
        let strides = [[cols + gap, 1], [1, rows + gap], [2 * cols + gap, 2]][layout];
        let values = values::<T>(offset + strides[0] * rows + strides[1] * cols + 1, salt);
        let tensor = Tensor::from_slice(&values, [values.len()], device).unwrap();
        Operand { tensor, values: values.iter().map(|v| v.to_f64()).collect(), offset, strides }
    }

    fn matrix(&self, size: usize) -> Matrix {
        Matrix { ptr: self.tensor.ptr().offset(self.offset * size), row_stride: self.strides[0], col_stride: self.strides[1] }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[self.offset + i * self.strides[0] + j * self.strides[1]]
    }
}

struct Case {
    sizes: [usize; 3],
    layouts: [usize; 2],
    gap: usize,
    offset: usize,
    splits: usize,
    masked: bool,
    sums: bool,
}

/// The most that a product of two numbers is off by what becomes of them on their way to the tensor cores.
fn error(cores: Cores) -> f64 {
    match cores {
        Cores::Cuda | Cores::Bf16 | Cores::F16 => 0.0,
        Cores::F32x3 => Precision::F32x3.error(),
        Cores::Tf32 => Precision::Tf32.error(),
        Cores::Rounded => Precision::Bf16.error(),
    }
}

/// A product with a bias and an activation, or with a mask, against the sums in f64, within what rounding can do.
fn check<T: Element>(gpu: CudaDevice, cores: Cores, tile: Tile, case: &Case) {
    let (device, size) = (Device::Cuda(gpu), size_of::<T>());
    let [m, n, k] = case.sizes;
    let a = Operand::new::<T>(&device, [m, k], case.layouts[0], case.gap, case.offset, 1);
    let y = Operand::new::<T>(&device, [m, k], case.layouts[0], case.gap, case.offset, 2);
    let b = Operand::new::<T>(&device, [k, n], case.layouts[1], case.gap, case.offset, 3);
    let bias = values::<T>(n, 4);
    let bias_there = Tensor::from_slice(&bias, [n], &device).unwrap();
    let poison = |count: usize| Tensor::full(f64::NAN, [count], T::DTYPE, &device).unwrap();
    let (out, sums) = (poison(m * n), poison(m));
    let leaky = (2, 0.25);
    let mut product = Product::new(gpu, T::DTYPE, case.sizes, a.matrix(size), b.matrix(size), out.ptr());
    product = if case.masked { product.mask(y.matrix(size).ptr, leaky) } else { product.finish(bias_there.ptr(), leaky) };
    if case.sums {
        product = product.row_sums(sums.ptr());
    }
    product.run_as(cores, Cut { tile, parts: case.splits }).unwrap();
    let (out, sums) = (out.to_f64_vec().unwrap(), sums.to_f64_vec().unwrap());
    let leaky = |at: f64, v: f64| if at > 0.0 { v } else { 0.25 * v };
    let left = |i: usize, p: usize| if case.masked { leaky(y.at(i, p), a.at(i, p)) } else { a.at(i, p) };
    // of each addition, and of the result
    let (adding, last) = match T::DTYPE {
        DType::F64 => (2f64.powi(-52), 0.0),
        DType::BF16 => (2f64.powi(-23), 2f64.powi(-8)),
        DType::F16 => (2f64.powi(-23), 2f64.powi(-11)),
        _ => (2f64.powi(-23), 0.0),
    };
    let name = format!("{cores:?} {tile:?} {:?} {:?} gap {} offset {}", case.sizes, case.layouts, case.gap, case.offset);
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut size) = (0.0, 1.0);
            for p in 0..k {
                let term = left(i, p) * b.at(p, j);
                (sum, size) = (sum + term, size + term.abs());
            }
            let plain = sum + bias[j].to_f64();
            let expected = if case.masked { sum } else { leaky(plain, plain) };
            let bound = (error(cores) + (k + 2) as f64 * adding) * size + last * expected.abs();
            let found = out[i * n + j];
            // a NaN is not within the bound
            assert!((found - expected).abs() <= bound, "{name} at ({i}, {j}): {found} for {expected} within {bound:e}");
        }
        let expected: f64 = (0..k).map(|p| left(i, p)).sum();
        assert!(!case.sums || (sums[i] - expected).abs() <= (k * k + 2) as f64 * adding, "{name}: sum {} for {expected}", sums[i]);
    }
}

/// All combinations of edges, each with the next layouts, gap, offset and number of parts.
fn edges<T: Element>(gpu: CudaDevice, cores: Cores, tile: Tile, masked: bool) {
    let side = tile.side();
    let mut turn = 0;
    for m in [1, side - 1, side, side + 1] {
        for n in [1, 6, side + 1] {
            for k in [1, 8, 33, 104] {
                turn += 1;
                let layouts = [turn % 3 % if masked { 2 } else { 3 }, turn / 3 % 3];
                let case = Case {
                    sizes: [m, n, k],
                    layouts,
                    gap: [8, 0, 1][turn / 9 % 3],
                    offset: usize::from(turn % 5 == 4),
                    splits: 1 + turn % 7 % 3,
                    masked,
                    sums: cores == Cores::Cuda && turn % 2 == 0,
                };
                check::<T>(gpu, cores, tile, &case);
            }
        }
    }
    // nothing to add up, and sums of rows alone
    let sums = cores == Cores::Cuda;
    let plain = Case { sizes: [5, 3, 0], layouts: [0, 0], gap: 0, offset: 0, splits: 1, masked, sums };
    check::<T>(gpu, cores, tile, &plain);
    check::<T>(gpu, cores, tile, &Case { sizes: [side + 2, 0, 70], layouts: [1, 0], splits: 2, ..plain });
}

#[test]
fn cuda_cores_compute_products_of_every_layout_at_every_edge() {
    let Some(gpu) = gpu() else { return };
    for masked in [false, true] {
        for tile in [Tile::Small, Tile::Medium] {
            edges::<f32>(gpu, Cores::Cuda, tile, masked);
            edges::<f64>(gpu, Cores::Cuda, tile, masked);
        }
    }
    edges::<f32>(gpu, Cores::Cuda, Tile::Large, false);
}

#[test]
fn tensor_cores_compute_products_of_every_layout_at_every_edge() {
    let Some(gpu) = gpu() else { return };
    for tile in [Tile::Medium, Tile::Large] {
        for cores in [Cores::F32x3, Cores::Tf32, Cores::Rounded] {
            edges::<f32>(gpu, cores, tile, false);
        }
        edges::<half::bf16>(gpu, Cores::Bf16, tile, false);
        edges::<half::f16>(gpu, Cores::F16, tile, false);
    }
}

#[test]
fn sums_of_rows_alone_read_nothing_of_an_operand_without_columns() {
    let Some(gpu) = gpu() else { return };
    let device = Device::Cuda(gpu);
    let [rows, depth] = [40, 64];
    for (tile, layout, strides) in [(Tile::Small, 0, [8, 1]), (Tile::Medium, 1, [1, 8]), (Tile::Large, 0, [8, 1]), (Tile::Large, 1, [1, 8])]
    {
        let a = Operand::new::<f32>(&device, [rows, depth], layout, 0, 0, 5);
        let sums = Tensor::full(f64::NAN, [rows], DType::F32, &device).unwrap();
        let nothing = Matrix { ptr: Ptr::NULL, row_stride: strides[0], col_stride: strides[1] };
        let product = Product::new(gpu, DType::F32, [rows, 0, depth], a.matrix(4), nothing, Ptr::NULL).row_sums(sums.ptr());
        product.run_as(Cores::Cuda, Cut { tile, parts: 1 }).unwrap();
        for (i, sum) in sums.to_f64_vec().unwrap().into_iter().enumerate() {
            let expected: f64 = (0..depth).map(|p| a.at(i, p)).sum();
            assert!((sum - expected).abs() <= 1e-5, "{tile:?}: {sum} for {expected}");
        }
    }
}

#[test]
fn parts_of_sums_are_added_in_one_order() {
    let Some(gpu) = gpu() else { return };
    let device = Device::Cuda(gpu);
    let a = Tensor::from_slice(&values::<f32>(5 * 900, 1), [5, 900], &device).unwrap();
    let b = Tensor::from_slice(&values::<f32>(900 * 7, 2), [900, 7], &device).unwrap();
    let run = || a.matmul(&b).unwrap().to_vec::<f32>().unwrap();
    let first = run();
    assert!((0..10).all(|_| run() == first));
}

/// Lines of the table of tiles rest on it: on every GPU the parts of a sum are the same, and tiles are not.
#[test]
fn the_tile_leaves_the_bits_of_a_product_on_tensor_cores_alone() {
    fn bits<T: Element>(gpu: CudaDevice, cores: Cores, tile: Tile) -> Vec<u64> {
        let (device, sizes) = (Device::Cuda(gpu), [70, 141, 500]);
        let [m, n, k] = sizes;
        let a = Operand::new::<T>(&device, [m, k], 0, 0, 0, 1);
        let b = Operand::new::<T>(&device, [k, n], 1, 0, 0, 2);
        let out = Tensor::full(f64::NAN, [m * n], T::DTYPE, &device).unwrap();
        let product = Product::new(gpu, T::DTYPE, sizes, a.matrix(size_of::<T>()), b.matrix(size_of::<T>()), out.ptr());
        product.run_as(cores, Cut { tile, parts: 3 }).unwrap();
        out.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect()
    }
    let Some(gpu) = gpu() else { return };
    for cores in [Cores::F32x3, Cores::Tf32, Cores::Rounded] {
        assert!(bits::<f32>(gpu, cores, Tile::Medium) == bits::<f32>(gpu, cores, Tile::Large), "{cores:?}");
    }
    assert!(bits::<half::bf16>(gpu, Cores::Bf16, Tile::Medium) == bits::<half::bf16>(gpu, Cores::Bf16, Tile::Large));
}
