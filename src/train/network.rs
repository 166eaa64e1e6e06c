//! A network with all that training it needs: parameters, optimiser, averaged weights.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use crate::device::{Device, capture};
use crate::error::{Error, Result};
use crate::grad::{Gradient, first_non_finite};
use crate::nn::Params;
use crate::optim::{Algorithm, Ema, Optimizer};
use crate::tensor::Tensor;

/// Parameters that one optimiser trains, with the optimiser and, if asked for, zero-debiased moving averages of the weights.
#[derive(Debug)]
pub struct Network {
    params: Params,
    trained: Params,
    optimizer: Optimizer,
    ema: Option<Ema>,
}

impl Network {
    /// A network before its first step. A decay of 0 keeps no averages.
    ///
    /// # Errors
    /// A setting is out of range; no parameter is trained.
    pub fn new(params: Params, algorithm: Algorithm, ema_decay: f64) -> Result<Network> {
        let optimizer = Optimizer::new(algorithm, &params)?;
        let ema = if ema_decay > 0.0 { Some(Ema::new(ema_decay, true, &params)?) } else { None };
        Ok(Network { trained: params.trained(), params, optimizer, ema })
    }

    /// The parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Steps that the optimiser made.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The gradients of a loss with respect to the trained parameters.
    ///
    /// # Errors
    /// [`Error::NonFinite`], naming the op that made the first NaN or infinity; a parameter does not enter the loss.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let tensors = self.trained.tensors();
        let leaves: Vec<&Tensor> = tensors.iter().collect();
        if capture::is_capturing() {
            // Nobody can look yet.
            return Gradient::of(loss).wrt(&leaves);
        }
        if !loss.item()?.is_finite() {
            return Err(first_non_finite(loss)?.unwrap_or(Error::NonFinite { op: "loss", shapes: vec![loss.shape()], backward: false }));
        }
        let gradients = Gradient::of(loss).wrt(&leaves)?;
        // A NaN in a layer's cotangent reaches its bias; weights would cost a pass over all of them.
        for gradient in gradients.iter().filter(|g| g.rank() < 2) {
            if !gradient.is_finite()? {
                Gradient::of(loss).check_finite().wrt(&leaves)?;
            }
        }
        Ok(gradients)
    }

    /// Takes a step along gradients that [`Network::gradients`] gave, and takes the new weights into the averages.
    /// What holds the old weights, such as a loss and its graph, should be dropped before: then their memory is used again.
    ///
    /// # Errors
    /// The gradients do not fit the parameters.
    pub fn apply(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<()> {
        self.optimizer.step(gradients, learning_rate)?;
        self.ema.as_mut().map_or(Ok(()), Ema::update)
    }

    /// Changes the learning rate of steps that a captured graph repeats.
    ///
    /// # Errors
    /// The device fails.
    #[cfg(feature = "cuda")]
    pub(super) fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.optimizer.set_learning_rate(learning_rate)
    }

    /// Adds where all that a step on a GPU changes lies, or returns false if something else shares this memory.
    #[cfg(feature = "cuda")]
    pub(super) fn addresses(&self, addresses: &mut Vec<u64>) -> bool {
        let mut shared = false;
        let mut see = |tensor: &Tensor| {
            shared |= tensor.is_shared();
            addresses.push(tensor.ptr().0);
        };
        self.params.iter().filter(|(_, param)| !param.is_trained()).for_each(|(_, param)| param.with(&mut see));
        self.optimizer.each_tensor(&mut see);
        self.ema.iter().for_each(|ema| ema.each_tensor(&mut see));
        !shared
    }

    /// Runs `f` with the averaged weights, if there are any yet, in place of the current ones.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn averaged<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        match &self.ema {
            Some(ema) if ema.updates() > 0 => ema.with_averages(f),
            _ => f(),
        }
    }

    /// Adds weights as `NAME.`, the optimiser as `optimizer.NAME.`, averages as `ema.NAME.`, and the number of steps.
    pub(super) fn save(&self, name: &str, checkpoint: &mut Checkpoint) -> Result<()> {
        checkpoint.put(name, self.params.state());
        checkpoint.put(&format!("optimizer.{name}"), self.optimizer.state());
        if let Some(ema) = &self.ema {
            checkpoint.put(&format!("ema.{name}"), ema.state());
        }
        checkpoint.put_integers(&format!("run.{name}.steps"), &[self.steps()])
    }

    /// Takes over what [`Network::save`] wrote.
    pub(super) fn load(&mut self, name: &str, checkpoint: &Checkpoint) -> Result<()> {
        let [steps] = checkpoint.integers(&format!("run.{name}.steps"))?;
        let device = self.params.iter().next().map_or(Device::cpu(), |(_, param)| param.tensor().device());
        let section = |name: &str| -> Result<BTreeMap<String, Tensor>> {
            checkpoint.section(name).into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(&device)?))).collect()
        };
        self.params.load(&section(name)?)?;
        self.optimizer.load(&section(&format!("optimizer.{name}"))?, steps)?;
        match &mut self.ema {
            Some(ema) => ema.load(&section(&format!("ema.{name}"))?, steps),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Param;
    use crate::{DType, Device, Rng};

    fn network() -> Network {
        let mut params = Params::default();
        params.push("weight".into(), &Param::new(&Rng::new(1).normal([2, 3], DType::F64, &Device::cpu()).unwrap()));
        params.push("bias".into(), &Param::new(&Tensor::zeros([3], DType::F64, &Device::cpu()).unwrap()));
        params.push("mean".into(), &Param::buffer(&Tensor::zeros([3], DType::F64, &Device::cpu()).unwrap()));
        Network::new(params, Algorithm::adam(), 0.9).unwrap()
    }

    fn loss(network: &Network) -> Tensor {
        let [w, b, _] = network.params().tensors().try_into().unwrap();
        w.add(&b).unwrap().square().unwrap().sum_all().unwrap()
    }

    fn step(network: &mut Network) {
        let gradients = network.gradients(&loss(network)).unwrap();
        network.apply(&gradients, 0.1).unwrap();
    }

    fn state(network: &Network) -> Vec<(String, Vec<f64>)> {
        let mut checkpoint = Checkpoint::default();
        network.save("critic", &mut checkpoint).unwrap();
        checkpoint.tensors.iter().map(|(name, t)| (name.clone(), t.to_f64_vec().unwrap())).collect()
    }

    #[test]
    fn two_networks_in_one_checkpoint_go_on_with_the_same_bits() {
        let (mut a, mut b) = (network(), network());
        (0..3).for_each(|_| step(&mut a));
        step(&mut b);
        let mut checkpoint = Checkpoint::default();
        a.save("critic", &mut checkpoint).unwrap();
        b.save("generator", &mut checkpoint).unwrap();
        let (mut c, mut d) = (network(), network());
        c.load("critic", &checkpoint).unwrap();
        d.load("generator", &checkpoint).unwrap();
        for network in [&mut a, &mut b, &mut c, &mut d] {
            step(network);
        }
        assert_eq!(state(&a), state(&c));
        assert_eq!(state(&b), state(&d));
        assert_ne!(state(&a), state(&b));
        let average = |n: &Network| n.averaged(|| n.params().tensors()[0].to_vec::<f64>()).unwrap();
        assert_eq!(average(&a), average(&c));
        assert_ne!(average(&a), a.params().tensors()[0].to_vec::<f64>().unwrap());
    }

    #[test]
    fn the_first_bad_op_is_named() {
        let network = network();
        let bad = loss(&network).neg().unwrap().log().unwrap();
        assert!(matches!(network.gradients(&bad), Err(Error::NonFinite { op: "log", backward: false, .. })));
        // sqrt is finite at zero, its derivative is not
        let [w, b, _] = network.params().tensors().try_into().unwrap();
        let bad = w.square().unwrap().sum_all().unwrap().add(&b.sqrt().unwrap().sum_all().unwrap()).unwrap();
        assert!(matches!(network.gradients(&bad), Err(Error::NonFinite { backward: true, .. })));
    }
}
