//! Operands that every language can make with the same bits.

use strait::{Device, Tensor};

/// `count` values in [-1, 1) from a hash of the index; other numbers for another `salt`. All are multiples of 2^-23.
pub fn values(count: usize, salt: u64) -> Vec<f32> {
    let hash = |i: u64| {
        let h = (i + (salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (0..count as u64).map(|i| (hash(i) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// [`values`] times `scale`, as a tensor.
pub fn tensor(shape: &[usize], salt: u64, scale: f32) -> Tensor {
    let data: Vec<f32> = values(shape.iter().product(), salt).iter().map(|v| v * scale).collect();
    Tensor::from_vec(data, shape_of(shape), &Device::cpu()).expect("as many values as the shape has elements")
}

/// `count` labels below `classes`.
pub fn labels(count: usize, classes: i64, salt: u64) -> Tensor {
    let data = values(count, salt).iter().map(|v| ((v + 1.0) * 0.5 * classes as f32) as i64).collect();
    Tensor::from_vec::<i64>(data, [count], &Device::cpu()).expect("as many labels as rows")
}

/// The sum of absolute values, in f64.
pub fn total(x: &Tensor) -> f64 {
    x.to_f64_vec().expect("a tensor of numbers").iter().map(|v| v.abs()).sum()
}

fn shape_of(dims: &[usize]) -> strait::Shape {
    strait::Shape::new(dims).expect("few axes")
}
