//! Steps on a GPU, without the host: batches, noise, beta and figures stay in the device's memory, so that steps are replayed.

use super::VibSettings;
use crate::data::{Range, Resident, Split};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::models::{Beta, DualForm, Vib};
use crate::nn::Mode;
use crate::ops::Noise;
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::replay::Replay;
use crate::train::{Batches, Network};

/// What a step on a GPU needs besides the model.
#[derive(Debug)]
pub(super) struct OnGpu {
    data: Resident,
    /// The epoch whose order the data is in, and how much of it was visited.
    visited: Option<(u64, usize)>,
    /// 0-d, in f64.
    beta: Tensor,
    /// What `beta` holds.
    known_beta: f64,
    replay: Replay,
}

/// Loss, cross entropy and rate of a step, the beta that it had, and the next one.
pub(super) type Figures = [f64; 5];

/// What changes in steps.
pub(super) struct Parts<'a> {
    pub settings: &'a VibSettings,
    pub model: &'a Vib,
    pub batches: &'a Batches,
    pub network: &'a mut Network,
    pub rng: &'a mut Rng,
    /// Before the first step.
    pub beta: f64,
    pub learning_rate: f64,
}

impl OnGpu {
    pub fn new(split: &Split, beta: f64, device: &Device) -> Result<OnGpu> {
        let Device::Cuda(gpu) = *device else { unreachable!("only runs on a GPU have this") };
        Ok(OnGpu {
            data: Resident::new(split, Range::Symmetric, gpu)?,
            visited: None,
            beta: Tensor::full(beta, [], DType::F64, device)?,
            known_beta: beta,
            replay: Replay::default(),
        })
    }

    /// Up to `most` steps after `done` others.
    pub fn steps(&mut self, done: u64, most: u64, parts: Parts<'_>) -> Result<Vec<Figures>> {
        let Parts { settings, model, batches, network, rng, beta, learning_rate } = parts;
        let (epoch, (rows, first, equal)) = (done / batches.per_epoch(), batches.span(done));
        match self.visited {
            Some((e, position)) if e == epoch && position == first => {}
            visited => {
                if visited.is_none_or(|(e, _)| e != epoch) {
                    self.data.set_order(&batches.order(epoch))?;
                }
                self.data.set_position(first)?;
            }
        }
        self.visited = None;
        let device = self.beta.device();
        if beta.to_bits() != self.known_beta.to_bits() {
            self.beta.overwrite(&Tensor::full(beta, [], DType::F64, &device)?)?;
        }
        network.set_learning_rate(learning_rate)?;
        // The host sets an annealed beta before each step.
        let most = if matches!(settings.beta, Beta::Annealed { .. }) { 1 } else { most.min(equal) };
        let mut addresses = Vec::new();
        // A step of a smaller batch is not the captured one.
        let fixed = network.addresses(&mut addresses) && rows == settings.batch;
        let (data, held) = (&self.data, &self.beta);
        let figures = self.replay.run(&device, rng, fixed.then_some(addresses), most, |rng| {
            let (x, labels) = data.next(rows)?;
            let noise = Noise::Draw(rng.draw());
            let posterior = model.encode(&x, settings.train_samples, noise, &mut Mode::Train(rng))?;
            let weigh = |rate: &Tensor| rate.mul(&held.to_dtype(DType::F32)?);
            let loss = model.loss_weighted(&posterior, &labels, &settings.objective(0.0), weigh)?;
            drop(posterior);
            let gradients = network.gradients(&loss.loss)?;
            let [total, cross_entropy, rate] = [&loss.loss, &loss.cross_entropy, &loss.kl].map(|t| t.detach().to_dtype(DType::F64));
            drop(loss);
            network.apply(&gradients, learning_rate)?;
            let (rate, before) = (rate?, held.affine(1.0, 0.0)?);
            if let Some(next) = next_beta(&settings.beta, held, &rate)? {
                held.overwrite(&next)?;
            }
            let figures = [&total?, &cross_entropy?, &rate, &before, held].map(|t| t.reshape([1]));
            let figures = figures.into_iter().collect::<Result<Vec<_>>>()?;
            Tensor::concat(&figures.iter().collect::<Vec<_>>(), 0)
        })?;
        let figures: Vec<Figures> = figures.iter().map(|f| [f[0], f[1], f[2], f[3], f[4]]).collect();
        self.known_beta = figures.last().map_or(beta, |f| f[4]);
        self.visited = Some((epoch, first + figures.len() * rows));
        match figures.iter().any(|f| f[..3].iter().any(|v| !v.is_finite())) {
            true => Err(Error::NonFinite { op: "loss", shapes: Vec::new(), backward: false }),
            false => Ok(figures),
        }
    }
}

/// [`Beta::next`] of a dual ascent, on the device; `None` where the host knows the next one.
fn next_beta(rule: &Beta, beta: &Tensor, rate: &Tensor) -> Result<Option<Tensor>> {
    let Beta::Dual { target, step, form, .. } = *rule else { return Ok(None) };
    Ok(Some(match form {
        DualForm::Additive => beta.add(&rate.affine(1.0, -target)?.affine(step, 0.0)?)?.clamp(0.0, f64::INFINITY)?,
        DualForm::Logarithmic => {
            let ratio = rate.affine(1.0 / target, 0.0)?.clamp(crate::models::SMALLEST_RATIO, f64::INFINITY)?;
            beta.mul(&ratio.powf(step)?)?.clamp(crate::models::SMALLEST_BETA, f64::INFINITY)?
        }
    }))
}
