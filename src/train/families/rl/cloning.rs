//! Behavioural cloning as a run of its own, and as the start of another one.

use serde::{Deserialize, Serialize};

use crate::data::demonstrations::{DemonstrationSpec, Demonstrations};
use crate::device::Device;
use crate::env::{Ending, Task};
use crate::error::Result;
use crate::models::Policy;
use crate::rl::{BehavioralCloning, Descent};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::train::settings;

/// The settings of behavioural cloning: the policy learns to give demonstrated actions a high density.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloningSettings {
    /// The demonstrations, as `FILE[:paths=K][:every=K]`.
    pub demos: String,
    /// Passes over the demonstrations, in each iteration or before the first one.
    pub epochs: u64,
    /// Steps of a minibatch.
    pub minibatch: usize,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Default for CloningSettings {
    fn default() -> CloningSettings {
        let BehavioralCloning { minibatch, learning_rate, .. } = BehavioralCloning::default();
        CloningSettings { demos: "demonstrations.safetensors".into(), epochs: 1, minibatch, learning_rate }
    }
}

impl CloningSettings {
    /// Checks the settings; `key` is that of the table.
    pub(super) fn check(&self, key: &'static str) -> Result<()> {
        self.demos.parse::<DemonstrationSpec>()?;
        if self.epochs == 0 {
            return settings::bad(&format!("{key}.epochs"), self.epochs, "at least 1");
        }
        self.rule().validate()
    }

    fn rule(&self) -> BehavioralCloning {
        let CloningSettings { minibatch, learning_rate, .. } = *self;
        BehavioralCloning { minibatch, learning_rate, ..BehavioralCloning::default() }
    }
}

/// Demonstrated pairs of observations and actions, which a policy learns.
#[derive(Debug)]
pub(super) struct Cloning {
    settings: CloningSettings,
    pub(super) demonstrations: Demonstrations,
    observations: Tensor,
    actions: Tensor,
}

impl Cloning {
    /// Reads the demonstrations of a task with plain endings.
    pub(super) fn new(settings: &CloningSettings, task: &Task, device: &Device) -> Result<Cloning> {
        let (demonstrations, steps) = settings.demos.parse::<DemonstrationSpec>()?.load(task, Ending::Plain)?;
        let rows = steps.terminated.len();
        let matrix = |values: &[f32]| Tensor::from_slice(values, [rows, values.len() / rows], device);
        let (observations, actions) = (matrix(&steps.observations)?, matrix(&steps.actions)?);
        Ok(Cloning { settings: settings.clone(), demonstrations, observations, actions })
    }

    /// The number of demonstrated steps.
    pub(super) fn rows(&self) -> usize {
        self.observations.dims()[0]
    }

    /// The passes of one iteration, the first of a run if `first`. Returns the mean loss of the last pass in nats.
    pub(super) fn learn(&self, policy: &Policy, first: bool, descent: &mut dyn Descent, rng: &mut Rng) -> Result<f64> {
        if let Some(normalizer) = policy.normalizer().filter(|_| first) {
            normalizer.update(&self.observations)?;
        }
        let mut loss = f64::NAN;
        for _ in 0..self.settings.epochs {
            loss = self.settings.rule().epoch(policy, &self.observations, &self.actions, descent, rng)?;
        }
        Ok(loss)
    }
}
