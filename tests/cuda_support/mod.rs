//! What the tests of GPU kernels share: the GPU, and comparisons with the CPU's f64.

// Each test uses a part.
#![allow(dead_code)]

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strait::{DType, Device, Gradient, Result, Rng, Tensor};

/// The first GPU, for one test at a time: captures need the memory that the run before them left behind.
pub struct Gpu {
    device: Device,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Gpu {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

/// The first GPU, with guards around its memory if `STRAIT_CHECKED=1`. Where there is none the tests have nothing to say, unless
/// `STRAIT_REQUIRE_GPU=1` says that there must be one.
pub fn gpu() -> Option<Gpu> {
    static ALONE: Mutex<()> = Mutex::new(());
    match Device::cuda(0) {
        Ok(device) => {
            let device = if is_set("STRAIT_CHECKED") { device.checked() } else { device };
            Some(Gpu { device, _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) })
        }
        Err(error) if is_set("STRAIT_REQUIRE_GPU") => panic!("{error}"),
        Err(error) => {
            eprintln!("not tested: {error}");
            None
        }
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|v| v == "1")
}

/// Standard normals on the CPU, rounded to f32 so that every dtype sees the same numbers.
pub fn normal(seed: u64, shape: &[usize]) -> Tensor {
    Rng::new(seed).normal(shape, DType::F64, &Device::cpu()).unwrap()
}

pub type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// The results of `f`, then the gradients of their sum, each weighted with normals, with respect to the inputs.
fn results(f: Function, inputs: &[Tensor], dtype: DType, device: &Device) -> Result<Vec<Tensor>> {
    let leaves: Vec<Tensor> = inputs.iter().map(|x| Ok(x.to_dtype(dtype)?.to_device(device)?.requires_grad())).collect::<Result<_>>()?;
    let refs: Vec<&Tensor> = leaves.iter().collect();
    let mut all = f(&leaves)?;
    let mut total: Option<Tensor> = None;
    for (k, y) in all.iter().enumerate().filter(|(_, y)| y.is_tracked()) {
        let part = y.mul(&normal(100 + k as u64, y.dims()).to_dtype(y.dtype())?.to_device(device)?)?.sum_all()?.to_dtype(dtype)?;
        total = Some(match total {
            Some(total) => total.add(&part)?,
            None => part,
        });
    }
    if let Some(total) = total {
        all.extend(Gradient::of(&total).unused_as_zero().wrt(&refs)?);
    }
    Ok(all)
}

/// Largest difference relative to the largest entry, or to 1 if that is smaller; infinite if one is NaN and the other is not.
pub fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let (found, expected) = (found.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
    let scale = expected.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    let one = |(f, e): (&f64, &f64)| match (f.is_nan(), e.is_nan()) {
        (true, true) => 0.0,
        (false, false) if f == e => 0.0,
        (false, false) => (f - e).abs() / scale,
        _ => f64::INFINITY,
    };
    found.iter().zip(&expected).map(one).fold(0.0, f64::max)
}

/// Leaves NaN in memory that the next tensors are made in.
fn poison(gpu: &Device) {
    gpu.release_unused().unwrap();
    let fill = |size: usize| Tensor::full(f64::NAN, [128 * size], DType::F32, gpu).unwrap();
    let _all: Vec<Tensor> = [1, 1, 1, 1, 2, 2, 3, 4, 4, 8, 16].map(fill).into();
}

/// `f` and its gradients on a GPU in f64 and f32 against the CPU in f64, and twice the same bits.
pub fn check(name: &str, gpu: &Device, inputs: &[Tensor], f: Function, tolerances: [f64; 2]) {
    let expected = results(f, inputs, DType::F64, &Device::cpu()).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (dtype, tolerance) in [DType::F64, DType::F32].into_iter().zip(tolerances) {
        let run = || results(f, inputs, dtype, gpu).unwrap_or_else(|e| panic!("{name}: {e}"));
        poison(gpu);
        let found = run();
        for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = distance(found, expected);
            assert!(off <= tolerance, "{name} in {dtype}, result {k} {:?}: off by {off:e}", expected.dims());
        }
        for (a, b) in found.iter().zip(run()) {
            let bits = |x: &Tensor| x.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(a), bits(&b), "{name} in {dtype}: not the same twice");
        }
    }
}

/// Fails unless a captured step, replayed again and again, has the bits of eager steps with the same random numbers.
pub fn check_replays<const N: usize>(gpu: &Device, step: impl Fn(&mut Rng) -> Result<[Tensor; N]>) -> Result<()> {
    let bits = |all: &[Tensor; N]| all.iter().flat_map(|t| t.to_f64_vec().unwrap()).map(f64::to_bits).collect::<Vec<_>>();
    let mut rng = Rng::new(5);
    let eager = (0..4).map(|_| Ok(bits(&step(&mut rng)?))).collect::<Result<Vec<_>>>()?;
    assert!(eager[0] != eager[1]);
    let mut rng = Rng::new(5);
    assert_eq!(bits(&step(&mut rng)?), eager[0]);
    let mut kept = None;
    let mut captured = gpu.capture(&mut rng, 1, |rng| {
        kept = Some(step(rng)?);
        Ok(())
    })?;
    for (times, last) in [(1, 1), (2, 3)] {
        captured.replay(&mut rng, times)?;
        assert_eq!(bits(kept.as_ref().expect("captured above")), eager[last]);
    }
    Ok(())
}
