//! Random numbers by counter: element i of draw n of a generator depends on (seed, n, i) alone, never on threads,
//! launch shape or device.
//!
//! Philox4x32-10 (Salmon et al. 2011); normals by Box-Muller in explicitly rounded arithmetic.

use std::convert::Infallible;

use crate::device::Device;
use crate::device::cpu::philox;
use crate::device::cuda::{Grid, launch};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::shape::{IntoShape, Shape};
use crate::storage::Storage;
use crate::tensor::Tensor;

/// A random number generator as a value: pass it, split it, save it in a checkpoint.
///
/// Every tensor drawn, and every number drawn through `rand_core`'s trait, takes one numbered draw.
///
/// ```
/// use strait::{DType, Device, Rng};
/// let mut rng = Rng::new(7);
/// let noise = rng.normal([2, 3], DType::F32, &Device::cpu())?;
/// assert_eq!(noise.to_vec::<f32>()?, Rng::new(7).normal([2, 3], DType::F32, &Device::cpu())?.to_vec::<f32>()?);
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    key: u64,
    draws: u64,
}

/// One numbered sequence of random numbers, which can be read any number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The generator's key.
    pub key: u64,
    /// The number of the draw.
    pub number: u64,
}

/// Draws with this bit make keys for [`Rng::split`]; the others make numbers.
const SPLIT: u64 = 1 << 63;

impl Rng {
    /// A generator with this seed.
    pub fn new(seed: u64) -> Rng {
        Rng { key: seed, draws: 0 }
    }

    /// The key and the number of draws so far, which are the generator's whole state.
    pub fn state(&self) -> [u64; 2] {
        [self.key, self.draws]
    }

    /// The generator with this state.
    pub fn from_state([key, draws]: [u64; 2]) -> Rng {
        Rng { key, draws }
    }

    /// The next draw.
    pub fn draw(&mut self) -> Draw {
        self.draws += 1;
        Draw { key: self.key, number: self.draws - 1 }
    }

    /// A generator of its own, independent of this one.
    pub fn split(&mut self) -> Rng {
        let draw = self.draw();
        let [low, high, ..] = philox::block(draw.key, draw.number | SPLIT, 0);
        Rng::new(u64::from(low) | u64::from(high) << 32)
    }

    /// A tensor of standard normals. Every dtype gets the same ones: those of f32, widened or rounded; in f64, too, they have 24 bits.
    pub fn normal(&mut self, shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.draw().tensor(Distribution::Normal, shape.into_shape()?, dtype, device)
    }

    /// A tensor of uniforms in (low, high), whose borders can be reached by rounding. In f64 those in (0, 1) have 53 bits, of which those of
    /// f32 are the leading 24; 16-bit floats get the latter rounded, so compare in f32 what is to be true with some probability.
    pub fn uniform(&mut self, low: f64, high: f64, shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        if (low, high) == (0.0, 1.0) {
            return self.draw().uniform(shape, dtype, device);
        }
        // rounded to 16 bits once: rounded before, they would be coarse around 0
        self.draw().uniform(shape, dtype.wide(), device)?.affine(high - low, low)?.to_dtype(dtype)
    }

    /// The numbers 0 to `count` - 1 in random order, as i64: the same on every device. [`Tensor::index_select`] shuffles by it.
    ///
    /// ```
    /// use strait::{Device, Rng};
    /// let mut order = Rng::new(1).permutation(5, &Device::cpu())?.to_vec::<i64>()?;
    /// order.sort();
    /// assert_eq!(order, [0, 1, 2, 3, 4]);
    /// # Ok::<(), strait::Error>(())
    /// ```
    pub fn permutation(&mut self, count: usize, device: &Device) -> Result<Tensor> {
        self.uniform(0.0, 1.0, [count], DType::F64, device)?.argsort(0)
    }
}

/// The distributions of random tensors.
#[derive(Debug, Clone, Copy)]
enum Distribution {
    Normal,
    Uniform,
}

impl Distribution {
    fn name(self) -> &'static str {
        match self {
            Distribution::Normal => "normal",
            Distribution::Uniform => "uniform",
        }
    }

    fn fill(self, storage: &mut Storage, Draw { key, number }: Draw, dtype: DType) -> Result<()> {
        match (storage, self, dtype) {
            (Storage::Cpu(out), Distribution::Normal, DType::F64) => philox::fill_normal_f64(out.as_mut_slice(), key, number, 0),
            (Storage::Cpu(out), Distribution::Normal, _) => philox::fill_normal(out.as_mut_slice(), key, number, 0),
            (Storage::Cpu(out), Distribution::Uniform, DType::F64) => philox::fill_uniform_f64(out.as_mut_slice(), key, number, 0),
            (Storage::Cpu(out), Distribution::Uniform, _) => philox::fill_uniform(out.as_mut_slice(), key, number, 0),
            (Storage::Cuda(out), ..) => {
                let (gpu, count) = (out.device(), out.bytes() / dtype.size());
                let (grid, args) = (Grid::over(count.div_ceil(4), 256), (out.ptr(), count as u64, key, number, gpu.draw_offset()));
                dispatch_float!(dtype, T => match self {
                    Distribution::Normal => launch::<{ kernel!("random_normal", T) }, _>(gpu, grid, args)?,
                    Distribution::Uniform => launch::<{ kernel!("random_uniform", T) }, _>(gpu, grid, args)?,
                });
            }
        }
        Ok(())
    }
}

impl Draw {
    fn tensor(self, distribution: Distribution, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let op = distribution.name();
        if !dtype.is_float() {
            return Err(Error::BadDType { op, found: dtype, expected: "a float" });
        }
        let drawn = if dtype == DType::F64 { dtype } else { DType::F32 };
        let mut storage = Storage::of_shape(op, *device, shape, drawn)?;
        distribution.fill(&mut storage, self, drawn)?;
        Tensor::from_storage(storage, shape, drawn).to_dtype(dtype)
    }

    /// Raw word `i` of this draw.
    pub fn word(self, i: u64) -> u32 {
        philox::word(self.key, self.number, i)
    }

    /// Uniform `i` of this draw between `low` and `high`: element `i` of [`Draw::uniform`] in f64, stretched.
    pub fn between(self, i: u64, low: f64, high: f64) -> f64 {
        low + (high - low) * philox::uniform_f64(self.key, self.number, i)
    }

    /// A tensor of this draw's standard normals; see [`Rng::normal`].
    pub fn normal(self, shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(Distribution::Normal, shape.into_shape()?, dtype, device)
    }

    /// A tensor of this draw's uniforms in (0, 1), whose borders can be reached by rounding; see [`Rng::uniform`].
    pub fn uniform(self, shape: impl IntoShape, dtype: DType, device: &Device) -> Result<Tensor> {
        self.tensor(Distribution::Uniform, shape.into_shape()?, dtype, device)
    }
}

impl rand_core::TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Infallible> {
        let draw = self.draw();
        Ok(philox::word(draw.key, draw.number, 0))
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Infallible> {
        let draw = self.draw();
        let [low, high, ..] = philox::block(draw.key, draw.number, 0);
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> std::result::Result<(), Infallible> {
        let draw = self.draw();
        for (i, out) in out.chunks_mut(4).enumerate() {
            let word = philox::word(draw.key, draw.number, i as u64).to_le_bytes();
            out.copy_from_slice(&word[..out.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, Exp1};

    #[test]
    fn a_state_is_all_there_is() {
        let mut a = Rng::new(3);
        a.normal([5], DType::F32, &Device::cpu()).unwrap();
        a.split();
        let mut b = Rng::from_state(a.state());
        let draw = |r: &mut Rng| r.uniform(-1.0, 2.0, [100], DType::F64, &Device::cpu()).unwrap().to_vec::<f64>().unwrap();
        let values = draw(&mut a);
        assert_eq!(values, draw(&mut b));
        assert!(values.iter().all(|v| (-1.0..2.0).contains(v)));
        assert_ne!(draw(&mut a), values);
        assert_ne!(a.split(), a.split());
    }

    #[test]
    fn single_uniforms_are_those_of_the_tensor() {
        let draw = Draw { key: 9, number: 4 };
        let all = draw.uniform([50], DType::F64, &Device::cpu()).unwrap().to_vec::<f64>().unwrap();
        assert!(all.iter().enumerate().all(|(i, value)| draw.between(i as u64, 0.0, 1.0) == *value));
        assert_eq!(draw.between(3, -2.0, 6.0), -2.0 + 8.0 * all[3]);
    }

    #[test]
    fn rand_distr_draws_from_it() {
        let mut rng = Rng::new(11);
        let mean = (0..20_000).map(|_| -> f64 { Exp1.sample(&mut rng) }).sum::<f64>() / 20_000.0;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn ranges_in_16_bits_are_rounded_once() {
        for dtype in [DType::BF16, DType::F16] {
            let draw = |dtype| Rng::new(6).uniform(-0.1, 0.1, [1000], dtype, &Device::cpu()).unwrap();
            assert_eq!(draw(dtype).to_f64_vec().unwrap(), draw(DType::F32).to_dtype(dtype).unwrap().to_f64_vec().unwrap());
        }
        assert!(Rng::new(6).uniform(-0.1, 0.1, [3], DType::U8, &Device::cpu()).is_err());
    }

    #[test]
    fn the_same_noise_in_every_dtype() {
        let draw = |dtype| Rng::new(5).normal([37], dtype, &Device::cpu()).unwrap();
        let single = draw(DType::F32).to_f64_vec().unwrap();
        assert_eq!(single, draw(DType::F64).to_f64_vec().unwrap());
        assert!(Rng::new(5).normal([37], DType::I64, &Device::cpu()).is_err());
    }
}
