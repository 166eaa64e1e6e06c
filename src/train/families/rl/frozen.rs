//! Rewards that were learned by another run: a new policy is trained on them, perhaps under other dynamics.

use std::path::PathBuf;

use super::learned::{FrozenSettings, LearnedReward};
use super::settings::{RewardSettings, RlSettings};
use crate::data::located::found;
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::error::{Error, Result};
use crate::io::checksum::Hash;
use crate::models::Policy;
use crate::rng::Rng;
use crate::train::Checkpoint;
use crate::train::settings::{Settings, bad};

/// A reward that another run has learned.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) learned: LearnedReward,
    /// The method and the task that it was learned by.
    pub(super) origin: String,
    fingerprint: String,
}

impl Frozen {
    /// Reads the reward from the checkpoint of the run that learned it, for steps of `task`.
    pub(super) fn read(settings: &FrozenSettings, task: &Task, device: &Device) -> Result<Frozen> {
        let file = PathBuf::from(&settings.checkpoint);
        let file = found(&file);
        let checkpoint = Checkpoint::read(file, device)?;
        let wrong = |found: String, expected: String| Error::BadFile { path: file.into(), found, expected };
        let needed = || "the checkpoint of a run that learns a reward from demonstrations".to_string();
        let text = checkpoint.metadata.get("settings").map_or("", String::as_str);
        if checkpoint.metadata.get("model").is_none_or(|model| model != RlSettings::FAMILY) {
            let model = checkpoint.metadata.get("model").map_or("nothing", String::as_str);
            return Err(wrong(format!("a run of {model}"), needed()));
        }
        let source = RlSettings::parse("the checkpoint's settings", text, &[])?;
        let RewardSettings::Imitation(imitation) = &source.reward else {
            return Err(wrong("a run that learns no reward".into(), needed()));
        };
        let form = settings.form.unwrap_or(imitation.form);
        imitation.discriminator.check(form)?;
        // The discriminator sees observations as the policy that it was trained beside, whose normaliser comes with that policy.
        let mut rng = Rng::new(0);
        let policy = Policy::new(&source.policy, task.observations.inputs(), &task.actions, &mut rng, DType::F32, device)?;
        let learned = LearnedReward::new(&imitation.discriminator, form, task, policy.normalizer(), &mut rng, device)?;
        let origin = format!("{} on {}", imitation.discriminator.method(), source.task);
        let fits = |error: Error| {
            let expected = format!("a reward for the observations and actions of {}", task.name);
            wrong(format!("a reward that was learned by {origin}: {error}"), expected)
        };
        // The policy tells what widths observations and actions had; those of both together may agree by chance.
        let section = if checkpoint.section("policy").is_empty() { "agent.policy" } else { "policy" };
        policy.params().load_state(&checkpoint.section_on(section, device)?).map_err(fits)?;
        learned.params().load_state(&checkpoint.section_on("discriminator", device)?).map_err(fits)?;
        if source.termination != task.ending() {
            let termination = format!("{:?}, with which the reward of {} was learned", source.termination, settings.checkpoint);
            return bad("termination", format!("{:?}", task.ending()), termination);
        }
        let fingerprint = fingerprint(&origin, &learned)?;
        Ok(Frozen { learned, origin, fingerprint })
    }

    /// A text that tells this reward from others.
    pub(super) fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

fn fingerprint(origin: &str, learned: &LearnedReward) -> Result<String> {
    let mut hash = Hash::new();
    hash.part(format!("{:?}", learned.form).as_bytes());
    for (name, tensor) in learned.params().state() {
        hash.part(name.as_bytes());
        hash.part(bytemuck::cast_slice(&tensor.to_vec::<f32>()?));
    }
    Ok(format!("the reward of {origin}, xxh3 {hash}"))
}
