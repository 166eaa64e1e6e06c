//! What a policy learns from.

use super::cloning::Cloning;
use super::frozen::Frozen;
use super::imitation::Imitation;
use super::learned::LearnedReward;
use super::settings::RewardSettings;
use crate::data::demonstrations::Demonstrations;
use crate::device::Device;
use crate::env::Task;
use crate::error::Result;
use crate::models::Policy;
use crate::rng::Rng;

/// What a policy learns from.
#[derive(Debug)]
pub(super) enum Teacher {
    /// The rewards of the task.
    Task,
    /// A reward that is learned meanwhile.
    Imitation(Box<Imitation>),
    /// A reward that was learned before.
    Frozen(Box<Frozen>),
    /// Demonstrated actions.
    Cloning(Box<Cloning>),
}

impl Teacher {
    /// Reads what the settings name. `plain` is the task without the ending that `task` has.
    pub(super) fn new(
        settings: &RewardSettings,
        plain: &Task,
        task: &Task,
        policy: &Policy,
        weights: &mut Rng,
        device: &Device,
    ) -> Result<Teacher> {
        Ok(match settings {
            RewardSettings::Task => Teacher::Task,
            RewardSettings::Imitation(settings) => {
                Teacher::Imitation(Box::new(Imitation::new(settings, plain, task, policy, weights, device)?))
            }
            RewardSettings::Frozen(settings) => Teacher::Frozen(Box::new(Frozen::read(settings, task, device)?)),
            RewardSettings::Cloning(settings) => Teacher::Cloning(Box::new(Cloning::new(settings, plain, device)?)),
        })
    }

    /// The part of a line about a run, behind what is said of its task.
    pub(super) fn describe(&self, method: &str) -> String {
        match self {
            Teacher::Task => String::new(),
            Teacher::Imitation(imitation) => format!("; {method} of {}", counted(&imitation.demonstrations)),
            Teacher::Frozen(frozen) => format!("; the reward of {}", frozen.origin),
            Teacher::Cloning(cloning) => format!("; {method} of {}", counted(&cloning.demonstrations)),
        }
    }

    /// A text that tells the demonstrations or the reward from others.
    pub(super) fn fingerprint(&self) -> Option<String> {
        match self {
            Teacher::Frozen(frozen) => Some(frozen.fingerprint()),
            _ => self.demonstrations().map(Demonstrations::fingerprint),
        }
    }

    /// The demonstrations that the policy learns from, if it does.
    pub(super) fn demonstrations(&self) -> Option<&Demonstrations> {
        match self {
            Teacher::Imitation(imitation) => Some(&imitation.demonstrations),
            Teacher::Cloning(cloning) => Some(&cloning.demonstrations),
            Teacher::Task | Teacher::Frozen(_) => None,
        }
    }

    /// The reward that was or is learned from demonstrations.
    pub(super) fn learned(&self) -> Option<&LearnedReward> {
        match self {
            Teacher::Imitation(imitation) => Some(&imitation.learned),
            Teacher::Frozen(frozen) => Some(&frozen.learned),
            Teacher::Task | Teacher::Cloning(_) => None,
        }
    }
}

/// The numbers of demonstrations and of their steps.
pub(super) fn counted(demonstrations: &Demonstrations) -> String {
    format!("{} demonstrations of {} steps", demonstrations.paths.len(), demonstrations.steps())
}
