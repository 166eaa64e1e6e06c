//! Operands. On the CPU every framework can make them, with the same bits.

use strait::{DType, Device, Result, Rng, Tensor};

use super::{Place, TURNS};

/// `count` values in [-1, 1) from a hash of the index; other numbers for another `salt`. All are multiples of 2^-23.
fn values(count: usize, salt: u64) -> impl Iterator<Item = f32> {
    let hash = move |i: u64| {
        let h = (i + (salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (0..count as u64).map(move |i| (hash(i) >> 40) as f32 / (1 << 23) as f32 - 1.0)
}

impl Place {
    /// Numbers from -`scale` to `scale` that every framework can make.
    pub fn tensor(self, shape: &[usize], salt: u64, scale: f32) -> Tensor {
        let data: Vec<f32> = values(shape.iter().product(), salt).map(|v| v * scale).collect();
        let shape = strait::Shape::new(shape).expect("few axes");
        Tensor::from_vec(data, shape, &Device::cpu()).and_then(|x| x.to_device(&self.device)).expect("room for the operands")
    }

    /// `count` labels below `classes`.
    pub fn labels(self, count: usize, classes: usize, salt: u64) -> Tensor {
        let data = values(count, salt).map(|v| ((v + 1.0) * 0.5 * classes as f32) as i64).collect();
        Tensor::from_vec::<i64>(data, [count], &self.device).expect("as many labels as rows")
    }

    /// [`tensor`](Self::tensor), the same whatever the dtype. A GPU draws its own, which the host would be long in making.
    pub fn operand(self, dtype: DType, shape: &[usize], salt: u64, scale: f32) -> Result<Tensor> {
        if self.device == Device::Cpu {
            return self.tensor(shape, salt, scale).to_dtype(dtype);
        }
        Rng::new(salt).uniform(-f64::from(scale), f64::from(scale), shape, DType::F32, &self.device)?.to_dtype(dtype)
    }

    /// One operand for each shape, of which gradients can be taken, with salts from `salt` on.
    pub fn leaves(self, dtype: DType, shapes: &[&[usize]], salt: u64) -> Result<Vec<Tensor>> {
        (salt..).zip(shapes).map(|(salt, shape)| Ok(self.operand(dtype, shape, salt, 1.0)?.requires_grad())).collect()
    }

    /// The sets of operands of so many bytes that take turns, each made by `make` from the first of its salts. On a GPU they are twice the
    /// level-2 cache of an H200 together, within reason; on the CPU there is one set.
    pub fn sets<T>(self, bytes: usize, mut make: impl FnMut(u64) -> Result<T>) -> Result<Vec<T>> {
        let turns = if self.device == Device::Cpu { 1 } else { (120usize << 20).div_ceil(bytes.max(1)).clamp(1, TURNS) };
        (0..turns as u64).map(|i| make(i * 10 + 1)).collect()
    }
}
