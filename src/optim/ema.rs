//! Exponential moving averages of weights and of the buffers of layers.

use std::collections::{BTreeMap, HashMap};

use super::{cuda, fused, state};
use crate::device::Device;
use crate::device::capture::Counter;
use crate::dispatch_float;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::nn::{Param, Params};
use crate::tensor::Tensor;

/// Moving averages of parameters: `average = decay average + (1 - decay) value` at every update.
///
/// Plain, the averages start as the weights. With `debias` they start at 0 and are divided by `1 - decay^updates` when
/// they are read (TensorFlow's zero-debias, the correction of Kingma and Ba 2015, section 3), so that the first weights do not
/// count more than the others.
///
/// Buffers are averaged with the weights: running statistics of the last weights are not those of an average of many, and a network
/// that has both is none that was ever trained. The averages of running means and of vectors of power iterations are right
/// to first order in the spread of the weights around their average. Those of running variances are too large by what that spread adds
/// to every activation; [`crate::nn::record_anew`] makes them exact where inputs are at hand.
///
/// ```
/// use strait::nn::{Param, Params};
/// use strait::optim::Ema;
/// use strait::{Device, Tensor};
/// let weight = Param::new(&Tensor::from_slice(&[1.0f64], [1], &Device::cpu())?);
/// let mut params = Params::default();
/// params.push("weight".to_string(), &weight);
/// let mut ema = Ema::new(0.75, false, &params)?;
/// weight.set(&Tensor::from_slice(&[5.0f64], [1], &Device::cpu())?)?;
/// ema.update()?;
/// let evaluated = ema.with_averages(|| weight.tensor().item())?;
/// assert_eq!((evaluated, weight.tensor().item()?), (2.0, 5.0));
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    debias: bool,
    entries: Vec<Entry>,
    updates: Counter,
}

#[derive(Debug)]
struct Entry {
    name: String,
    param: Param,
    /// In f32 for 16-bit parameters: changes by a thousandth would be rounded away.
    average: Tensor,
    /// Whether an optimiser's kernel has taken the present value in.
    taken: bool,
}

impl Entry {
    /// Gives the average memory of its own.
    fn unshare(&mut self) -> Result<()> {
        let empty = Tensor::zeros([0], self.average.dtype(), &self.average.device())?;
        self.average = std::mem::replace(&mut self.average, empty).unshared()?;
        Ok(())
    }
}

impl Ema {
    /// Averages of these parameters, trained or not, before the first update.
    ///
    /// # Errors
    /// The decay is not in [0, 1).
    pub fn new(decay: f64, debias: bool, params: &Params) -> Result<Ema> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::OutOfRange { op: "ema", name: "decay", value: decay, expected: "at least 0 and below 1" });
        }
        let entries = params
            .iter()
            .map(|(name, param)| {
                let tensor = param.tensor().detach();
                let dtype = tensor.dtype().wide();
                let average = if debias { Tensor::zeros(tensor.shape(), dtype, &tensor.device())? } else { tensor.to_dtype(dtype)? };
                Ok(Entry { name: name.to_string(), param: param.clone(), average, taken: false })
            })
            .collect::<Result<_>>()?;
        Ok(Ema { decay, debias, entries, updates: Counter::default() })
    }

    /// Number of updates made.
    pub fn updates(&self) -> u64 {
        self.updates.get()
    }

    /// The fraction of an average that an update keeps.
    pub(super) fn decay(&self) -> f64 {
        self.decay
    }

    /// Adds the present values of the parameters to the averages; call it after every step of the optimiser.
    pub fn update(&mut self) -> Result<()> {
        if matches!(self.entries.first().map(|e| e.average.device()), Some(Device::Cuda(_))) {
            return self.update_on_gpu();
        }
        let (keep, take) = (self.decay, 1.0 - self.decay);
        for entry in &mut self.entries {
            let (shape, dtype) = (entry.average.shape(), entry.average.dtype());
            let value = entry.param.tensor().detach().to_dtype(dtype)?.contiguous()?;
            let empty = Tensor::zeros([0], dtype, &value.device())?;
            let mut average = std::mem::replace(&mut entry.average, empty).into_storage()?;
            dispatch_float!(dtype, T => {
                let (keep, take) = (T::from_f64(keep), T::from_f64(take));
                fused::update(
                    [average.cpu_mut()],
                    value.slice::<T>(),
                    #[inline(always)]
                    move |[a]: [T; 1], w| [take.mul_add(w, keep * a)],
                )
            });
            entry.average = Tensor::from_storage(average, shape, dtype);
        }
        self.updates.advance();
        Ok(())
    }

    /// Calls `f` with each tensor that an update on a GPU changes.
    pub(crate) fn each_tensor(&self, f: &mut dyn FnMut(&Tensor)) {
        self.entries.iter().for_each(|entry| f(&entry.average));
    }

    /// The averages of some of the parameters on a GPU, for a kernel that updates them together with the parameters. [`Ema::update`] is to
    /// follow, and leaves these out. Those of 16-bit parameters are of the rounded values, which only follow.
    pub(super) fn taken_along<'a>(&mut self, params: impl Iterator<Item = &'a Param>) -> Result<Vec<Option<Tensor>>> {
        // Those of a step that failed were not taken in.
        self.entries.iter_mut().for_each(|entry| entry.taken = false);
        let places: HashMap<_, _> = self.entries.iter().enumerate().map(|(at, entry)| (entry.param.tensor().id(), at)).collect();
        let take = |param: &Param| {
            let Some(entry) = places.get(&param.tensor().id()).map(|&at| &mut self.entries[at]) else { return Ok(None) };
            let value = param.tensor();
            if (value.dtype(), value.device()) != (entry.average.dtype(), entry.average.device()) {
                return Ok(None);
            }
            entry.taken = true;
            entry.unshare()?;
            Ok(Some(entry.average.clone()))
        };
        params.map(take).collect()
    }

    fn update_on_gpu(&mut self) -> Result<()> {
        let mut tensors = Vec::with_capacity(self.entries.len());
        for entry in &mut self.entries {
            if std::mem::take(&mut entry.taken) {
                continue;
            }
            entry.unshare()?;
            let value = entry.param.tensor().detach().to_dtype(entry.average.dtype())?.contiguous()?;
            tensors.push(cuda::Roles { weight: Some(value), average: Some(entry.average.clone()), ..cuda::Roles::default() });
        }
        cuda::ema(self.decay, &tensors)?;
        self.updates.advance();
        Ok(())
    }

    /// Names of the parameters, and their averages as constants of the parameters' dtypes. Debiased averages of no updates do
    /// not exist; the parameters' present values stand for them.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        self.entries.iter().map(|entry| Ok((entry.name.clone(), self.read(entry)?))).collect()
    }

    fn read(&self, entry: &Entry) -> Result<Tensor> {
        let now = entry.param.tensor().detach();
        match (self.debias, self.updates()) {
            (true, 0) => Ok(now),
            (true, updates) => entry.average.affine(1.0 / (1.0 - self.decay.powf(updates as f64)), 0.0)?.to_dtype(now.dtype()),
            (false, _) => entry.average.to_dtype(now.dtype()),
        }
    }

    /// Calls `f` while the parameters have their averages as values, and gives them their own values back, whether `f`
    /// succeeds, fails or panics. What `f` sets the parameters to is lost.
    pub fn with_averages<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let averages = self.entries.iter().map(|entry| self.read(entry)).collect::<Result<Vec<_>>>()?;
        let own = Restore(self.entries.iter().map(|entry| (&entry.param, entry.param.tensor())).collect());
        for ((param, _), average) in own.0.iter().zip(&averages) {
            param.set(average)?;
        }
        f()
    }

    /// The tensors to save, besides [`Ema::updates`], so that a resumed run is bitwise the same: `encoder.0.weight` and so on, not
    /// debiased, and in f32 for 16-bit parameters.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.entries.iter().map(|entry| (entry.name.clone(), entry.average.clone())).collect()
    }

    /// Loads a state that [`Ema::state`] returned after `updates` updates.
    ///
    /// # Errors
    /// A name is missing or left over, or a shape, dtype or device differs; nothing is changed then.
    pub fn load(&mut self, state: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        let loaded = state::matching(&self.state(), state)?;
        for (entry, average) in self.entries.iter_mut().zip(loaded) {
            entry.average = average;
        }
        self.updates.set(updates);
        Ok(())
    }
}

/// Parameters and the values they get back when this is dropped.
struct Restore<'a>(Vec<(&'a Param, Tensor)>);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        for (param, value) in &self.0 {
            param.replace(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device, Rng};

    fn model(dtype: DType) -> (Params, Param) {
        let mut params = Params::default();
        let param = Param::new(&Rng::new(1).normal([3, 7], dtype, &Device::cpu()).unwrap());
        params.push("w".into(), &param);
        params.push("mean".into(), &Param::buffer(&Tensor::ones([2], DType::F32, &Device::cpu()).unwrap()));
        (params, param)
    }

    #[test]
    fn buffers_are_averaged_and_come_back() {
        for debias in [false, true] {
            let (params, param) = model(DType::F32);
            let mean = params.iter().find(|(name, _)| *name == "mean").unwrap().1.clone();
            let mut ema = Ema::new(0.9, debias, &params).unwrap();
            let mut expected = if debias { 0.0 } else { 1.0 };
            for t in 0..6 {
                let value = f64::from(t).sin();
                mean.set(&Tensor::full(value, [2], DType::F32, &Device::cpu()).unwrap()).unwrap();
                follow(&mut ema, &param, 1);
                expected = 0.9 * expected + 0.1 * value;
            }
            if debias {
                expected /= 1.0 - 0.9f64.powi(6);
            }
            let own = mean.tensor().to_f64_vec().unwrap();
            let found = ema.with_averages(|| Ok((mean.tensor().to_f64_vec()?, mean.is_trained()))).unwrap();
            assert!(!found.1 && found.0.iter().all(|v| (v - expected).abs() < 1e-6), "{found:?} for {expected}");
            assert_eq!(mean.tensor().to_f64_vec().unwrap(), own);
            assert_eq!(ema.state().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["w", "mean"]);
        }
    }

    fn value(t: u64, dtype: DType) -> Tensor {
        Rng::new(100 + t).normal([3, 7], dtype, &Device::cpu()).unwrap()
    }

    fn follow(ema: &mut Ema, param: &Param, updates: u64) {
        for _ in 0..updates {
            param.set(&value(ema.updates(), param.tensor().dtype())).unwrap();
            ema.update().unwrap();
        }
    }

    #[test]
    fn averages_match_the_formulas() {
        for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6), (DType::BF16, 1e-2)] {
            for debias in [false, true] {
                let (params, param) = model(dtype);
                let mut expected = if debias { vec![0.0; 21] } else { param.tensor().to_f64_vec().unwrap() };
                let mut ema = Ema::new(0.9, debias, &params).unwrap();
                assert_eq!(ema.tensors().unwrap()[0].1.to_f64_vec().unwrap(), param.tensor().to_f64_vec().unwrap());
                for t in 0..10 {
                    follow(&mut ema, &param, 1);
                    let values = value(t, dtype).to_f64_vec().unwrap();
                    expected.iter_mut().zip(values).for_each(|(e, v)| *e = 0.9 * *e + 0.1 * v);
                    let correction = if debias { 1.0 - 0.9f64.powi(t as i32 + 1) } else { 1.0 };
                    let found = ema.tensors().unwrap();
                    assert_eq!((found.len(), found[0].0.as_str(), found[0].1.dtype()), (2, "w", dtype));
                    for (found, expected) in found[0].1.to_f64_vec().unwrap().iter().zip(&expected) {
                        assert!((found - expected / correction).abs() <= tolerance, "{dtype} {debias}: {found} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn own_values_come_back_after_success_failure_and_panic() {
        let (params, param) = model(DType::F32);
        let mut ema = Ema::new(0.9, true, &params).unwrap();
        follow(&mut ema, &param, 3);
        let bits = |t: &Tensor| t.to_vec::<f32>().unwrap();
        let (own, average) = (bits(&param.tensor()), bits(&ema.tensors().unwrap()[0].1));
        assert_ne!(own, average);
        let seen = ema.with_averages(|| Ok((bits(&param.tensor()), param.is_trained()))).unwrap();
        assert_eq!(seen, (average, true));
        assert_eq!((bits(&param.tensor()), param.is_trained()), (own.clone(), true));
        let error = ema.with_averages(|| param.tensor().item()).unwrap_err();
        assert!(matches!(error, Error::BadShape { op: "item", .. }));
        assert_eq!(bits(&param.tensor()), own);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ema.with_averages(|| -> Result<()> { panic!("in f") })));
        assert!(panic.is_err());
        assert_eq!(bits(&param.tensor()), own);
    }

    #[test]
    fn a_loaded_state_goes_on_with_the_same_bits() {
        for dtype in [DType::F32, DType::F16] {
            let (params, param) = model(dtype);
            let mut whole = Ema::new(0.99, true, &params).unwrap();
            follow(&mut whole, &param, 3);
            let mut resumed = Ema::new(0.99, true, &params).unwrap();
            resumed.load(&whole.state().into_iter().collect(), whole.updates()).unwrap();
            follow(&mut whole, &param, 3);
            follow(&mut resumed, &param, 3);
            let bits = |ema: &Ema| ema.state().iter().map(|(n, t)| (n.clone(), t.to_vec::<f32>().unwrap())).collect::<Vec<_>>();
            assert_eq!(bits(&whole), bits(&resumed));
            assert_eq!(bits(&whole)[0].0, "w");
            assert_eq!(whole.tensors().unwrap()[0].1.to_f64_vec().unwrap(), resumed.tensors().unwrap()[0].1.to_f64_vec().unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_rejected() {
        let (params, param) = model(DType::F32);
        for decay in [-0.1, 1.0, f64::NAN] {
            assert!(matches!(Ema::new(decay, false, &params), Err(Error::OutOfRange { name: "decay", .. })));
        }
        let mut ema = Ema::new(0.9, false, &params).unwrap();
        assert!(matches!(ema.load(&BTreeMap::new(), 1), Err(Error::BadTensor { name, .. }) if name == "w"));
        let wide = [("w".to_string(), param.tensor().to_dtype(DType::F64).unwrap())].into_iter().collect();
        assert!(matches!(ema.load(&wide, 1), Err(Error::BadTensor { name, .. }) if name == "w"));
        let mut more: BTreeMap<_, _> = ema.state().into_iter().collect();
        more.insert("ema.v".into(), param.tensor());
        assert!(matches!(ema.load(&more, 1), Err(Error::BadTensor { name, .. }) if name == "ema.v"));
        assert_eq!(ema.updates(), 0);
    }
}
