//! Exponential moving averages of weights.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::nn::Params;
use crate::op::{Few, Kernel, Meta, Output, launch};
use crate::ops::same_floats;
use crate::tensor::Tensor;
use crate::{device::cpu::elementwise, dispatch_float};

/// Averages of parameters: `average <- decay average + (1 - decay) value` after every step.
#[derive(Debug, Clone)]
pub struct Ema {
    decay: f64,
    debias: bool,
    params: Params,
    averages: Vec<Tensor>,
    updates: u64,
}

/// `decay a + (1 - decay) b` in one pass.
#[derive(Debug)]
struct Mix {
    decay: f64,
}

impl Kernel for Mix {
    fn name(&self) -> &'static str {
        "ema"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        same_floats("ema", inputs)
    }
    fn takes_strides(&self) -> bool {
        true
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        dispatch_float!(inputs[0].dtype(), T => {
            let (keep, take) = (self.decay as T, (1.0 - self.decay) as T);
            let (average, value) = (inputs[0].view::<T>(), inputs[1].view::<T>());
            elementwise::binary(average, value, outputs[0].slice::<T>(), #[inline(always)] move |a: T, b: T| keep.mul_add(a, take * b));
        });
        Ok(())
    }
}

impl Ema {
    /// Averages of these parameters. Plain ones start at the parameters; debiased ones start at zero and are divided by
    /// `1 - decay^t`, so that they are averages of what was seen alone (Kingma and Ba 2015, section 3).
    ///
    /// # Errors
    /// The decay is not in [0, 1).
    pub fn new(decay: f64, debias: bool, params: &Params) -> Result<Ema> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::OutOfRange { op: "ema", name: "decay", value: decay, expected: "at least 0 and below 1" });
        }
        let averages = params.tensors().iter().map(|t| if debias { t.full_like(0.0) } else { Ok(t.detach()) }).collect::<Result<_>>()?;
        Ok(Ema { decay, debias, params: params.clone(), averages, updates: 0 })
    }

    /// Takes the parameters' current values into the averages.
    ///
    /// # Errors
    /// The device fails.
    pub fn update(&mut self) -> Result<()> {
        let kernel = Mix { decay: self.decay };
        for (average, value) in self.averages.iter_mut().zip(self.params.tensors()) {
            *average = launch(&kernel, &[average, &value])?.swap_remove(0);
        }
        self.updates += 1;
        Ok(())
    }

    /// The averages, debiased if asked for, in the order of the parameters.
    ///
    /// # Errors
    /// Debiased averages before the first update.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        if !self.debias {
            return Ok(self.averages.clone());
        }
        if self.updates == 0 {
            return Err(Error::OutOfRange { op: "ema", name: "updates", value: 0.0, expected: "at least one before a debiased average" });
        }
        let seen = 1.0 - self.decay.powf(self.updates as f64);
        self.averages.iter().map(|a| a.affine(1.0 / seen, 0.0)).collect()
    }

    /// Runs `f` with the averages in place of the parameters, which are put back in any case.
    ///
    /// # Errors
    /// Whatever `f` fails with.
    pub fn with_applied<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        let (averages, values) = (self.tensors()?, self.params.tensors());
        let put = |tensors: &[Tensor]| self.params.iter().zip(tensors).try_for_each(|((_, param), tensor)| param.set(tensor));
        put(&averages)?;
        let result = f();
        self.params.iter().zip(&values).for_each(|((_, param), tensor)| param.replace(tensor));
        result
    }

    /// The raw averages by the parameters' names.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.params.iter().zip(&self.averages).map(|((name, _), a)| (name.to_string(), a.clone())).collect()
    }

    /// Takes over a state after this many updates.
    ///
    /// # Errors
    /// A name is missing, or a shape or dtype differs.
    pub fn load(&mut self, state: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        let mut averages = Vec::new();
        for ((name, _), old) in self.params.iter().zip(&self.averages) {
            let expected = format!("{} {}", old.dtype(), old.shape());
            match state.get(name) {
                Some(t) if (t.shape(), t.dtype()) == (old.shape(), old.dtype()) => averages.push(t.detach()),
                found => {
                    let found = found.map_or("nothing".into(), |t| format!("{} {}", t.dtype(), t.shape()));
                    return Err(Error::BadTensor { name: format!("ema.{name}"), found, expected });
                }
            }
        }
        (self.averages, self.updates) = (averages, updates);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Param;
    use crate::{DType, Device};

    fn one(value: f64) -> (Param, Params) {
        let param = Param::new(&Tensor::full(value, [2], DType::F64, &Device::cpu()).unwrap());
        let mut params = Params::default();
        params.push("w".into(), &param);
        (param, params)
    }

    #[test]
    fn plain_and_debiased_by_hand() {
        for debias in [false, true] {
            let (param, params) = one(4.0);
            let mut ema = Ema::new(0.75, debias, &params).unwrap();
            let (mut plain, mut zero) = (4.0, 0.0);
            for t in 1..=5 {
                let value = t as f64;
                param.set(&Tensor::full(value, [2], DType::F64, &Device::cpu()).unwrap()).unwrap();
                ema.update().unwrap();
                plain = 0.75 * plain + 0.25 * value;
                zero = 0.75 * zero + 0.25 * value;
                let expected = if debias { zero / (1.0 - 0.75f64.powi(t)) } else { plain };
                let found = ema.tensors().unwrap()[0].to_vec::<f64>().unwrap()[1];
                assert!((found - expected).abs() < 1e-14, "{found} {expected}");
            }
        }
    }

    #[test]
    fn applied_for_a_while_only() {
        let (param, params) = one(4.0);
        let ema = Ema::new(0.5, false, &params).unwrap();
        param.set(&Tensor::full(9.0, [2], DType::F64, &Device::cpu()).unwrap()).unwrap();
        let inside = ema.with_applied(|| param.tensor().mean_all()?.item()).unwrap();
        assert_eq!((inside, param.tensor().mean_all().unwrap().item().unwrap()), (4.0, 9.0));
        assert!(ema.with_applied(|| Err::<(), _>(Error::TooManyAxes { rank: 9 })).is_err());
        assert_eq!(param.tensor().mean_all().unwrap().item().unwrap(), 9.0);
        assert!(param.is_trained());
        assert!(Ema::new(1.0, false, &params).is_err() && Ema::new(0.5, true, &params).unwrap().tensors().is_err());
    }

    #[test]
    fn states_must_fit() {
        let (_, params) = one(1.0);
        let mut ema = Ema::new(0.5, false, &params).unwrap();
        let state: BTreeMap<String, Tensor> = ema.state().into_iter().collect();
        ema.load(&state, 3).unwrap();
        assert!(ema.load(&BTreeMap::new(), 3).unwrap_err().to_string().contains("ema.w"));
    }
}
