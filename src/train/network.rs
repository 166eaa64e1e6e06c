//! A network with all that training it needs: parameters, optimiser, averaged weights.

use super::checkpoint::Checkpoint;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::grad::finite_gradients;
use crate::nn::{Mode, Params, record_anew};
use crate::optim::{Algorithm, Ema, Optimizer, clip_grad_norm};
use crate::rl::Descent;
use crate::tensor::Tensor;

/// Forward passes in which statistics are recorded anew.
const PASSES: u64 = 8;

/// Parameters that one optimiser trains, with the optimiser and, if asked for, zero-debiased moving averages of the weights and buffers.
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
    /// [`crate::Error::NonFinite`], naming the op that made the first NaN or infinity; a parameter does not enter the loss.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let tensors = self.trained.tensors();
        finite_gradients(loss, &tensors.iter().collect::<Vec<_>>())
    }

    /// Takes a step along gradients that [`Network::gradients`] gave, and takes the new weights into the averages.
    /// Drop the loss and its graph first, so that the optimiser can update the weights in place.
    ///
    /// # Errors
    /// The gradients do not fit the parameters.
    pub fn apply(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<()> {
        self.optimizer.step_averaging(gradients, learning_rate, self.ema.as_mut())
    }

    /// Changes the learning rates of steps that a captured graph repeats.
    pub(super) fn set_learning_rates(&mut self, learning_rates: &[f64]) -> Result<()> {
        self.optimizer.set_learning_rates(learning_rates)
    }

    /// Shows all tensors that a step changes in place.
    pub(super) fn each_tensor(&self, see: &mut dyn FnMut(&Tensor)) {
        self.params.iter().filter(|(_, param)| !param.is_trained()).for_each(|(_, param)| param.with(&mut *see));
        self.optimizer.each_tensor(see);
        self.ema.iter().for_each(|ema| ema.each_tensor(see));
    }

    /// Runs `f` with the averaged weights and buffers, if there are any yet, in place of the current ones.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn averaged<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        match &self.ema {
            Some(ema) if ema.updates() > 0 => ema.with_averages(f),
            _ => f(),
        }
    }

    /// [`Network::averaged`], after some forward passes in which layers record their statistics anew with the averaged weights, if there
    /// are layers that do. `forward` passes new inputs at each call, as many and of the kind that training does.
    ///
    /// Averaged running statistics are close, but too large where weights swing around their average, as those of a generator do that
    /// plays against a discriminator; statistics of what the averaged weights make are right whatever training did. Where inputs
    /// can be drawn at will they cost eight passes, depend on nothing but the averages, and need not be saved.
    ///
    /// # Errors
    /// Those of `forward` and `f`.
    pub fn averaged_anew<R>(&self, forward: impl FnMut(&mut Mode<'_>) -> Result<Tensor>, f: impl FnOnce() -> Result<R>) -> Result<R> {
        match &self.ema {
            Some(ema) if ema.updates() > 0 && self.trained.len() < self.params.len() => ema.with_averages(|| {
                record_anew(PASSES, forward)?;
                f()
            }),
            _ => self.averaged(f),
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
        let steps = checkpoint.count(&format!("run.{name}.steps"))?;
        let device = self.params.iter().next().map_or(Device::cpu(), |(_, param)| param.tensor().device());
        let section = |name: &str| checkpoint.section_on(name, &device);
        self.params.load_state(&section(name)?)?;
        self.optimizer.load(&section(&format!("optimizer.{name}"))?, steps)?;
        match &mut self.ema {
            Some(ema) => ema.load(&section(&format!("ema.{name}"))?, steps),
            None => Ok(()),
        }
    }
}

impl Descent for Network {
    fn descend(&mut self, loss: &Tensor, learning_rate: f64, max_norm: f64) -> Result<f64> {
        let (gradients, norm) = clip_grad_norm(&self.gradients(loss)?, max_norm)?;
        let norm = norm.item()?;
        if !norm.is_finite() {
            return Err(Error::NonFinite { op: "gradient norm", shapes: Vec::new(), backward: true });
        }
        self.apply(&gradients, learning_rate)?;
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::nn::init::Init;
    use crate::nn::{BatchNorm, Linear, Module, Param, Sequential};
    use crate::{Activation, DType, Device, Rng};

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
        state_of(network, "critic")
    }

    fn state_of(network: &Network, name: &str) -> Vec<(String, Vec<f64>)> {
        let mut checkpoint = Checkpoint::default();
        network.save(name, &mut checkpoint).unwrap();
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

    /// A linear layer and a batch norm, trained for `steps` whose weights swing around a point that they drift to: its average is none of
    /// them. With it what it is given, and its own activations before the norm.
    fn normalised(steps: u64) -> (Network, Sequential, impl Fn(&Tensor) -> Tensor) {
        let (mut rng, cpu) = (Rng::new(7), Device::cpu());
        let linear = Linear::new(4, 6, Init::Normal(0.3), &mut rng, DType::F32, &cpu).unwrap();
        let net = Sequential::new().then(linear.clone()).then(BatchNorm::new(6, DType::F32, &cpu).unwrap()).then(Activation::Relu);
        let mut network = Network::new(net.params(), Algorithm::sgd(), 0.95).unwrap();
        for _ in 0..steps {
            let x = rng.normal([64, 4], DType::F32, &cpu).unwrap();
            net.forward(&x, &mut Mode::Train(&mut rng)).unwrap();
            let swing: Vec<Tensor> = network.trained.tensors().iter().map(|w| rng.normal(w.shape(), DType::F32, &cpu).unwrap()).collect();
            let pull = |(w, s): (&Tensor, &Tensor)| w.affine(0.2, -0.1).unwrap().add(s).unwrap().detach();
            let gradients: Vec<Tensor> = network.trained.tensors().iter().zip(&swing).map(pull).collect();
            network.apply(&gradients, 0.5).unwrap();
        }
        (network, net, move |x| linear.forward(x, &mut Mode::Eval).unwrap().detach())
    }

    /// The distance of running statistics from those of 20,000 activations: of means in standard deviations, of variances as factors.
    fn inconsistency(network: &Network, activations: &impl Fn(&Tensor) -> Tensor) -> [f64; 2] {
        let y = activations(&Rng::new(99).normal([20_000, 4], DType::F32, &Device::cpu()).unwrap());
        let [mean, variance] = {
            let (_, mean, variance) = y.batch_norm_moments(None, None, 1e-5).unwrap();
            [mean, variance].map(|t| t.to_f64_vec().unwrap())
        };
        let running = |name: &str| network.params().iter().find(|(n, _)| n.ends_with(name)).unwrap().1.tensor().to_f64_vec().unwrap();
        let (found_mean, found_variance) = (running("running_mean"), running("running_var"));
        (0..6).fold([0.0, 1.0], |[offset, factor]: [f64; 2], i| {
            let ratio = found_variance[i] / variance[i];
            [offset.max((found_mean[i] - mean[i]).abs() / variance[i].sqrt()), factor.max(ratio.max(1.0 / ratio))]
        })
    }

    #[test]
    fn an_averaged_network_has_the_statistics_of_its_own_activations() {
        let (network, net, activations) = normalised(200);
        let before = state(&network);
        // Averaged buffers: means to the first order; variances with what the swinging weights add, where the last weights' own are off by more.
        let [offset, factor] = network.averaged(|| Ok(inconsistency(&network, &activations))).unwrap();
        assert!(offset < 0.5 && factor > 1.2, "{offset} {factor}");
        // Recorded anew from 8 batches of 250: within four standard errors of a mean and of a variance.
        let forward = |rng: &mut Rng, mode: &mut Mode<'_>| net.forward(&rng.normal([250, 4], DType::F32, &Device::cpu())?, mode);
        let mut rng = Rng::new(1);
        let anew = network.averaged_anew(|mode| forward(&mut rng, mode), || Ok(inconsistency(&network, &activations))).unwrap();
        assert!(anew[0] < 4.0 / 2000f64.sqrt() && anew[1] < 1.0 + 4.0 * (2.0 / 2000f64).sqrt(), "{anew:?}");
        assert!(offset > anew[0] && factor > anew[1]);
        assert_eq!(state(&network), before, "what was recorded for the averages is not left behind");
    }

    #[test]
    fn averaged_buffers_go_through_checkpoints_bit_by_bit() {
        let (a, ..) = normalised(30);
        let mut checkpoint = Checkpoint::default();
        a.save("generator", &mut checkpoint).unwrap();
        assert!(checkpoint.tensors.contains_key("ema.generator.1.running_var"));
        let (mut b, ..) = normalised(1);
        b.load("generator", &checkpoint).unwrap();
        assert_eq!(state_of(&a, "generator"), state_of(&b, "generator"));
        let averages =
            |n: &Network| n.averaged(|| n.params().tensors().iter().map(Tensor::to_f64_vec).collect::<Result<Vec<_>>>()).unwrap();
        assert_eq!(averages(&a), averages(&b));
        let mut without = checkpoint.clone();
        without.tensors.remove("ema.generator.1.running_var");
        assert!(matches!(b.load("generator", &without), Err(Error::BadTensor { .. })));
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
