//! Training of VIB: one value that holds all state, a step, and the loop around it.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::Observer;
use super::checkpoint::Checkpoint;
use super::config::VibRun;
use super::evaluate::{Evaluation, Evaluator};
use crate::data::{DataSpec, Dataset, Range, Split, augment, order};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::grad::{Gradient, first_non_finite};
use crate::models::{Covariance, Vib};
use crate::nn::{Mode, Params};
use crate::ops::Noise;
use crate::optim::{Ema, Optimizer};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Rows at a time in evaluation.
const EVALUATION_BATCH: usize = 500;

/// Figures of one step, means over its batch, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStats {
    /// What was minimised.
    pub loss: f64,
    /// Cross entropy.
    pub cross_entropy: f64,
    /// Rate.
    pub rate: f64,
    /// The weight of the rate in this step.
    pub beta: f64,
    /// The learning rate of this step.
    pub learning_rate: f64,
}

/// A VIB run in memory: data, model, optimiser, averages, and position.
#[derive(Debug)]
pub struct VibTrainer {
    run: VibRun,
    device: Device,
    data: Dataset,
    validation: Option<Split>,
    model: Vib,
    params: Params,
    optimizer: Optimizer,
    ema: Option<Ema>,
    rng: Rng,
    order_key: u64,
    beta: f64,
    done: u64,
    /// The order of the examples in the epoch with this number.
    order: Option<(u64, Vec<u32>)>,
    /// Sums of loss, cross entropy and rate over the examples of this epoch, and their number.
    epoch_sums: [f64; 4],
    scratch: (Vec<f32>, Vec<i64>),
}

impl VibTrainer {
    /// A run at its beginning. Loads the data.
    ///
    /// # Errors
    /// A setting is out of range; the data cannot be loaded.
    pub fn new(run: VibRun, device: &Device) -> Result<VibTrainer> {
        run.validate()?;
        let mut data = run.data.parse::<DataSpec>()?.load()?;
        if data.classes == 0 {
            return Err(Error::BadConfig {
                key: "data".into(),
                found: format!("'{}', which has no labels", run.data),
                expected: "labelled data; in a .safetensors file, the tensor 'labels'".into(),
            });
        }
        let validation = if run.validation > 0 { Some(data.validation(run.validation)?) } else { None };
        let mut rng = Rng::new(run.seed);
        let mut streams = rng.split();
        let model = Vib::new(run.architecture(data.pixels(), data.classes), &mut streams, DType::F32, device)?;
        let params = model.params();
        let optimizer = Optimizer::new(run.optimizer, &params)?;
        let ema = if run.ema_decay > 0.0 { Some(Ema::new(run.ema_decay, true, &params)?) } else { None };
        let [order_key, _] = rng.split().state();
        let beta = run.beta.initial();
        Ok(VibTrainer {
            run,
            device: *device,
            data,
            validation,
            model,
            params,
            optimizer,
            ema,
            rng,
            order_key,
            beta,
            done: 0,
            order: None,
            epoch_sums: [0.0; 4],
            scratch: Default::default(),
        })
    }

    /// The settings.
    pub fn run(&self) -> &VibRun {
        &self.run
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The model with its current weights.
    pub fn model(&self) -> &Vib {
        &self.model
    }

    /// Steps taken.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Steps of one epoch; the last may have fewer examples.
    pub fn steps_per_epoch(&self) -> u64 {
        self.data.train.len().div_ceil(self.run.batch) as u64
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.steps_per_epoch() * self.run.epochs
    }

    /// The next batch: inputs [rows, pixels] and labels [rows].
    fn batch(&mut self) -> Result<(Tensor, Tensor)> {
        let (epoch, index) = (self.done / self.steps_per_epoch(), (self.done % self.steps_per_epoch()) as usize);
        if self.order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.order = Some((epoch, order::epoch_order(self.data.train.len(), self.order_key, epoch)));
        }
        let (_, all) = self.order.as_ref().expect("just set");
        let first = index * self.run.batch;
        let indices = &all[first..all.len().min(first + self.run.batch)];
        let (images, labels) = &mut self.scratch;
        self.data.train.batch(indices, Range::Symmetric, images, labels)?;
        if self.run.augment_shift > 0 {
            let draw = self.rng.draw();
            augment::shift_images(images, self.data.image, self.run.augment_shift, draw);
        }
        let x = Tensor::from_slice(images, [indices.len(), self.data.pixels()], &self.device)?;
        Ok((x, Tensor::from_slice(labels, [indices.len()], &self.device)?))
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or a gradient is not finite, naming the op that made it first.
    pub fn step(&mut self) -> Result<StepStats> {
        let diverged = |step: u64, cause: Error| Error::Diverged { step, cause: Box::new(cause) };
        let (x, labels) = self.batch()?;
        let noise = Noise::Draw(self.rng.draw());
        let objective = self.run.objective(self.beta);
        let loss = self.model.loss(&x, &labels, &objective, self.run.train_samples, noise, &mut Mode::Train(&mut self.rng))?;
        let learning_rate = self.run.schedule.value(self.run.learning_rate, self.done / self.steps_per_epoch());
        let stats = StepStats {
            loss: loss.loss.item()?,
            cross_entropy: loss.cross_entropy.item()?,
            rate: loss.kl.item()?,
            beta: self.beta,
            learning_rate,
        };
        if !stats.loss.is_finite() {
            let cause = first_non_finite(&loss.loss)?.unwrap_or(Error::NonFinite { op: "vib", shapes: vec![x.shape()], backward: false });
            return Err(diverged(self.done + 1, cause));
        }
        let tensors = self.params.tensors();
        let leaves: Vec<&Tensor> = tensors.iter().collect();
        let gradients = Gradient::of(&loss.loss).wrt(&leaves)?;
        // A NaN in a layer's cotangent reaches its bias; weights would cost a pass over all of them.
        for gradient in gradients.iter().filter(|g| g.rank() < 2) {
            if !gradient.is_finite()? {
                Gradient::of(&loss.loss).check_finite().wrt(&leaves).map_err(|cause| diverged(self.done + 1, cause))?;
            }
        }
        drop((loss, tensors));
        self.optimizer.step(&gradients, learning_rate)?;
        if let Some(ema) = &mut self.ema {
            ema.update()?;
        }
        let rows = x.dims()[0] as f64;
        for (sum, value) in self.epoch_sums.iter_mut().zip([stats.loss * rows, stats.cross_entropy * rows, stats.rate * rows, rows]) {
            *sum += value;
        }
        self.done += 1;
        if self.run.covariance != Covariance::Deterministic {
            self.beta = self.run.beta.next(self.beta, stats.rate, self.done as f64 / self.steps_per_epoch() as f64);
        }
        Ok(stats)
    }

    /// Runs `f` with the averaged weights, if there are any yet, in place of the current ones.
    fn averaged<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        match &self.ema {
            Some(ema) if ema.updates() > 0 => ema.with_averages(f),
            _ => f(),
        }
    }

    /// Evaluates the averaged weights on the test part.
    ///
    /// # Errors
    /// The device fails.
    pub fn evaluate(&self) -> Result<Evaluation> {
        self.averaged(|| self.evaluator().run(&self.model, &self.data.test, &self.device))
    }

    /// Calls `f` with the model under its averaged weights.
    ///
    /// # Errors
    /// Whatever `f` fails with.
    pub fn with_averaged_model<R>(&self, f: impl FnOnce(&Vib) -> Result<R>) -> Result<R> {
        self.averaged(|| f(&self.model))
    }

    /// How the settings want models to be evaluated.
    pub fn evaluator(&self) -> Evaluator {
        Evaluator { samples: self.run.test_samples, batch: EVALUATION_BATCH, seed: self.run.seed ^ 0x7e57 }
    }

    /// What is reported at the end of an epoch: means over the epoch's steps, then the test part, then validation.
    ///
    /// # Errors
    /// The device fails.
    pub fn report(&self) -> Result<Vec<(String, f64)>> {
        let [loss, cross_entropy, rate, count] = self.epoch_sums;
        let mut values: Vec<(String, f64)> = [("train_loss", loss), ("train_cross_entropy_nats", cross_entropy), ("train_rate_nats", rate)]
            .map(|(name, sum)| (name.to_string(), sum / count.max(1.0)))
            .to_vec();
        if self.run.covariance != Covariance::Deterministic {
            values.push(("beta".into(), self.beta));
        }
        values.push((
            "learning_rate".into(),
            self.run.schedule.value(self.run.learning_rate, self.done.saturating_sub(1) / self.steps_per_epoch()),
        ));
        values.extend(self.evaluate()?.values("test_"));
        if let Some(split) = &self.validation {
            values.extend(self.averaged(|| self.evaluator().run(&self.model, split, &self.device))?.values("validation_"));
        }
        Ok(values)
    }

    /// Everything that going on needs.
    ///
    /// # Errors
    /// A weight is not finite: such a state is not worth keeping.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        for (name, tensor) in self.params.state().into_iter().chain(self.optimizer.state()) {
            if !tensor.is_finite()? {
                let cause = Error::BadTensor { name, found: "a NaN or an infinity".into(), expected: "finite weights".into() };
                return Err(Error::Diverged { step: self.done, cause: Box::new(cause) });
            }
        }
        let mut checkpoint = Checkpoint::default();
        checkpoint.put("model", self.params.state());
        checkpoint.put("optimizer", self.optimizer.state());
        if let Some(ema) = &self.ema {
            checkpoint.put("ema", ema.state());
        }
        let [key, draws] = self.rng.state();
        checkpoint.put_integers("run.position", &[self.done, self.optimizer.steps()])?;
        checkpoint.put_integers("run.rng", &[key, draws])?;
        let numbers = [&[self.beta][..], &self.epoch_sums].concat();
        checkpoint.tensors.insert("run.numbers".into(), Tensor::from_slice(&numbers, [5], &self.device)?);
        checkpoint.metadata.insert("model".into(), "vib".into());
        checkpoint.metadata.insert("config".into(), self.run.to_toml());
        Ok(checkpoint)
    }

    /// Takes over the state of a checkpoint of the same run.
    ///
    /// # Errors
    /// The checkpoint is of another run.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let saved = checkpoint.metadata.get("config").map_or("", String::as_str);
        let mut saved = VibRun::parse("the checkpoint's settings", saved, &[])?;
        let now = &self.run;
        // What may change without changing the steps that were taken. The folder of the data may have moved.
        (saved.epochs, saved.evaluate_every, saved.checkpoint_every, saved.test_samples, saved.data) =
            (now.epochs, now.evaluate_every, now.checkpoint_every, now.test_samples, now.data.clone());
        if saved != *now {
            let expected = format!("the settings that the run began with: {}", saved.to_toml().replace('\n', "; "));
            return Err(Error::BadConfig { key: "settings".into(), found: "others than the checkpoint's".into(), expected });
        }
        self.params.load(&checkpoint.section("model"))?;
        let [done, steps] = checkpoint.integers("run.position")?;
        self.optimizer.load(&checkpoint.section("optimizer"), steps)?;
        if let Some(ema) = &mut self.ema {
            ema.load(&checkpoint.section("ema"), steps)?;
        }
        self.rng = Rng::from_state(checkpoint.integers("run.rng")?);
        let numbers = checkpoint.tensor("run.numbers")?.to_vec::<f64>()?;
        let [beta, sums @ ..]: [f64; 5] = numbers.try_into().map_err(|found: Vec<f64>| Error::BadTensor {
            name: "run.numbers".into(),
            found: format!("{} numbers", found.len()),
            expected: "5 numbers".into(),
        })?;
        (self.done, self.beta, self.epoch_sums, self.order) = (done, beta, sums, None);
        Ok(())
    }
}

/// Trains until the end or until the observer says stop; checkpoints go to `path`.
///
/// # Errors
/// [`Error::Interrupted`] after a stop, with the checkpoint written; [`Error::Diverged`]; failures of files.
pub fn run_vib(trainer: &mut VibTrainer, path: &Path, observer: &mut dyn Observer) -> Result<()> {
    let save = |trainer: &VibTrainer, observer: &mut dyn Observer| {
        let checkpoint = trainer.checkpoint()?;
        observer.before_checkpoint()?;
        checkpoint.write(path)
    };
    let (per_epoch, steps) = (trainer.steps_per_epoch(), trainer.steps());
    while trainer.done < steps {
        let stats = trainer.step()?;
        let done = trainer.done;
        observer.stepped(done, &stats)?;
        let epoch_ends = done.is_multiple_of(per_epoch);
        let epoch = done / per_epoch;
        let evaluates = epoch_ends && (epoch.is_multiple_of(trainer.run.evaluate_every) || done == steps);
        if evaluates {
            let values = trainer.report()?;
            observer.evaluated(done, epoch, &values)?;
        }
        if epoch_ends {
            trainer.epoch_sums = [0.0; 4];
        }
        let stop = observer.stop().load(Ordering::Relaxed);
        let regular = trainer.run.checkpoint_every > 0 && done.is_multiple_of(trainer.run.checkpoint_every);
        if evaluates || regular || stop {
            save(trainer, observer)?;
        }
        if stop && done < steps {
            return Err(Error::Interrupted { step: done });
        }
    }
    Ok(())
}
