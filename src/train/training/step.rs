//! A step of training: its players, and what an update sees and returns.

use crate::data::Source;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::nn::Params;
use crate::optim::{Algorithm, Optimizer, Schedule};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::network::Network;
use crate::train::trainer::Scalars;

/// Parameters that are trained together on one loss: a network of its own in the checkpoint, with its optimiser and learning rate.
#[derive(Debug)]
pub struct Player {
    pub(super) name: &'static str,
    pub(super) network: Network,
    learning_rate: f64,
    schedule: Schedule,
    period: u64,
    pub(super) updates: u64,
    pub(super) batches: u64,
    pub(super) gradient_norm: Option<&'static str>,
}

impl Player {
    /// A player of this name in checkpoints, with one update per step that uses one batch of examples. An `ema_decay` of 0 keeps no
    /// averaged weights.
    ///
    /// # Errors
    /// A setting is out of range; no parameter is trained.
    pub fn new(name: &'static str, params: Params, optimizer: Algorithm, ema_decay: f64, learning_rate: f64) -> Result<Player> {
        let (network, schedule) = (Network::new(params, optimizer, ema_decay)?, Schedule::Constant);
        Ok(Player { name, network, learning_rate, schedule, period: 1, updates: 1, batches: 1, gradient_norm: None })
    }

    /// The same with a learning rate that changes: the schedule's time is the number of steps over `period`.
    pub fn scheduled(self, schedule: Schedule, period: u64) -> Player {
        Player { schedule, period: period.max(1), ..self }
    }

    /// The same with so many updates in each step, and so many batches of examples for each.
    pub fn updates(self, updates: u64, batches: u64) -> Player {
        Player { updates, batches, ..self }
    }

    /// The same with the norm of its gradient logged under this name.
    pub fn log_gradient_norm(self, name: &'static str) -> Player {
        Player { gradient_norm: Some(name), ..self }
    }

    /// The network in training.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Gives the `count` steps after `done` others, which a captured graph repeats, their learning rates.
    pub(super) fn set_learning_rates(&mut self, done: u64, count: u64) -> Result<()> {
        let rate = |update| self.learning_rate(done + update / self.updates);
        let rates: Vec<f64> = (0..count * self.updates).map(rate).collect();
        if rates.is_empty() { Ok(()) } else { self.network.set_learning_rates(&rates) }
    }

    /// The most steps whose learning rates can be set in advance, of `most` after `done` others: a captured graph repeats no more.
    pub(super) fn run(&self, done: u64, most: u64) -> u64 {
        let same = (0..most).all(|i| self.learning_rate(done + i) == self.learning_rate(done));
        if same { most } else { most.min(Optimizer::MOST_RATES as u64 / self.updates.max(1)).max(1) }
    }

    /// The learning rate of the step after `done` others.
    pub fn learning_rate(&self, done: u64) -> f64 {
        self.schedule.value(self.learning_rate, done / self.period)
    }
}

/// The loss of an update, and the scalars that are logged of it. The first one should be the loss.
#[derive(Debug)]
pub struct Loss {
    /// The scalar that is minimised.
    pub objective: Tensor,
    /// The logged scalars.
    pub scalars: Scalars,
}

/// An update of a player, as [`Model::loss`](crate::train::Model::loss) sees it.
#[derive(Debug)]
pub struct Step<'a, S> {
    /// The family's settings.
    pub settings: &'a S,
    /// The device of the model.
    pub device: Device,
    /// The run's random numbers.
    pub rng: &'a mut Rng,
    /// Steps taken before this one.
    pub done: u64,
    /// Updates of this player before this one.
    pub update: u64,
    pub(super) source: &'a mut Source,
    pub(super) next: &'a mut u64,
    pub(super) kept: &'a mut Option<Tensor>,
}

impl<S> Step<'_, S> {
    fn number(&mut self) -> u64 {
        *self.next += 1;
        *self.next - 1
    }

    /// The next batch of examples [rows, ..] in their shape.
    pub fn examples(&mut self) -> Result<Tensor> {
        let (x, _) = self.rows()?;
        self.source.shaped(&x)
    }

    /// The next batch of examples as rows [rows, values], and the labels `[rows]` of images that have them.
    pub fn rows(&mut self) -> Result<(Tensor, Option<Tensor>)> {
        let number = self.number();
        self.source.batch(number, &self.device)
    }

    /// [`Step::rows`] after `change` has modified images on the host, row by row, given channels, height and width.
    pub fn changed_rows(&mut self, change: impl FnOnce(&mut [f32], [usize; 3])) -> Result<(Tensor, Option<Tensor>)> {
        let number = self.number();
        self.source.changed_batch(number, change, &self.device)
    }

    /// Standard normal numbers [rows, size] in f32.
    pub fn normal(&mut self, rows: usize, size: usize) -> Result<Tensor> {
        self.rng.normal([rows, size], DType::F32, &self.device)
    }

    /// Keeps a tensor, without its graph, for the updates that follow in this step.
    pub fn keep(&mut self, x: &Tensor) {
        *self.kept = Some(x.detach());
    }

    /// The tensor that an update of this step kept last.
    pub fn kept(&self) -> Option<&Tensor> {
        self.kept.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Param;

    #[test]
    fn learning_rates_follow_their_schedule_in_its_own_time() {
        let mut params = Params::default();
        params.push("weight".into(), &Param::new(&Tensor::zeros([2], DType::F32, &Device::cpu()).unwrap()));
        let player = Player::new("model", params, Algorithm::adam(), 0.0, 0.8).unwrap();
        assert_eq!(player.learning_rate(100), 0.8);
        // halved after each two epochs of five steps
        let player = player.scheduled(Schedule::Step { factor: 0.5, every: 2 }, 5);
        assert_eq!([0, 9, 10, 19, 20].map(|done| player.learning_rate(done)), [0.8, 0.8, 0.4, 0.4, 0.2]);
    }
}
