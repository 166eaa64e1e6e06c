//! Demonstrations: what an expert saw and did, path by path.
//!
//! Observations and actions are raw: as the task gave them and as the expert's policy drew them, neither normalized nor clipped. What
//! normalizes them is part of a model.

mod npz;
mod replay;
mod spec;
mod stored;

use std::path::{Path, PathBuf};

use crate::env::{Ending, Space, Task};
use crate::error::{Error, Result};
use crate::io::checksum::Hash;

pub use replay::Replay;
pub use spec::DemonstrationSpec;

/// Paths of an expert.
#[derive(Debug, Clone, PartialEq)]
pub struct Demonstrations {
    /// The name of the task, where it is known.
    pub task: Option<String>,
    /// Their origin, in words.
    pub origin: String,
    /// The assumptions of the reader, in sentences.
    pub notes: Vec<String>,
    /// Numbers of an observation.
    pub observation_width: usize,
    /// Numbers of an action.
    pub action_width: usize,
    /// Whether actions are choices; each is one number then, its index.
    pub discrete: bool,
    /// The observations [steps + paths, width]: of each path those before its steps, and the one after the last.
    pub observations: Vec<f32>,
    /// The actions [steps, width].
    pub actions: Vec<f32>,
    /// The task's own rewards `[steps]`, where they are known.
    pub rewards: Option<Vec<f64>>,
    /// The paths, one after the other.
    pub paths: Vec<PathEnd>,
}

/// The length of a path, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathEnd {
    /// Its steps, at least one.
    pub steps: usize,
    /// Whether it came to a terminal state; otherwise it was broken off, for instance by a limit of time.
    pub terminated: bool,
}

/// One path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demonstration<'a> {
    /// The observations [steps + 1, width].
    pub observations: &'a [f32],
    /// The actions [steps, width].
    pub actions: &'a [f32],
    /// The rewards `[steps]`, where they are known.
    pub rewards: Option<&'a [f64]>,
    /// Whether it came to a terminal state.
    pub terminated: bool,
}

/// Single steps, as a discriminator takes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DemonstratedSteps {
    /// The observations [rows, width] before the steps.
    pub observations: Vec<f32>,
    /// The actions [rows, width].
    pub actions: Vec<f32>,
    /// The observations [rows, width] after the steps: those of terminal states, too.
    pub next: Vec<f32>,
    /// Whether the steps led to terminal states `[rows]`.
    pub terminated: Vec<bool>,
    /// Whether the path was over already `[rows]`: such rows only fill an episode up to its limit of time, and their actions are 0.
    pub resting: Vec<bool>,
}

impl Demonstrations {
    /// Reads a file of this program's own format (`.safetensors`), or a `.npz` file as several projects write them, told apart by what is
    /// in it. Where the file does not say which paths came to terminal states, those shorter than `horizon` did.
    ///
    /// # Errors
    /// The file cannot be read, or is none of these; its arrays do not fit each other.
    pub fn read(path: &Path, horizon: Option<u64>) -> Result<Demonstrations> {
        const EXPECTED: &str = "a .safetensors file of demonstrations, or a .npz file of them";
        if path.is_dir() {
            let expected = format!(
                "{EXPECTED}; a folder of the Python package imitation becomes one by: from imitation.data import serialize, rollout; \
                 import numpy as np; t = serialize.load(FOLDER); f = rollout.flatten_trajectories_with_rew(t); np.savez('demos.npz', \
                 obs=f.obs, acts=f.acts, next_obs=f.next_obs, rews=f.rews, lengths=[len(x) for x in t], terminated=[x.terminal for x in t])"
            );
            return Err(Error::BadFile { path: path.into(), found: "a folder".into(), expected });
        }
        let is_npz = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("npz"));
        if is_npz { npz::read(path, horizon) } else { stored::read(path) }
    }

    /// Reads a file from memory; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`Demonstrations::read`].
    pub fn decode(path: &Path, bytes: &[u8], horizon: Option<u64>) -> Result<Demonstrations> {
        if bytes.starts_with(b"PK") { npz::decode(path, bytes, horizon) } else { stored::decode(path, bytes) }
    }

    /// Writes a `.safetensors` file: `observations` [steps + paths, width] f32, `actions` [steps, width] f32, `[steps]` i64 for choices,
    /// `rewards` `[steps]` f64, `lengths` `[paths]` i64, `terminated` `[paths]` u8, with checksums.
    ///
    /// # Errors
    /// The parts do not fit each other; errors of the operating system.
    pub fn write(&self, path: &Path) -> Result<()> {
        stored::write(self, path)
    }

    /// The bytes of the file that [`Demonstrations::write`] writes.
    ///
    /// # Errors
    /// As [`Demonstrations::write`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        stored::encode(self)
    }

    /// The steps of all paths.
    pub fn steps(&self) -> usize {
        self.paths.iter().map(|path| path.steps).sum()
    }

    /// The paths one by one.
    pub fn iter(&self) -> impl Iterator<Item = Demonstration<'_>> {
        let mut first = 0;
        self.paths.iter().enumerate().map(move |(index, &PathEnd { steps, terminated })| {
            let (start, end) = (first, first + steps);
            first = end;
            Demonstration {
                observations: &self.observations[(start + index) * self.observation_width..(end + index + 1) * self.observation_width],
                actions: &self.actions[start * self.action_width..end * self.action_width],
                rewards: self.rewards.as_ref().map(|rewards| &rewards[start..end]),
                terminated,
            }
        })
    }

    /// The return of each path, not discounted, where rewards are known.
    pub fn returns(&self) -> Option<Vec<f64>> {
        self.iter().map(|path| path.rewards.map(|rewards| rewards.iter().sum())).collect()
    }

    /// Every `every`th step of each path, from the first on; 0 counts as 1.
    ///
    /// With another ending than the plain one, paths that came to a terminal state before `horizon` steps go on until then, as episodes of
    /// a task with that ending do: the last observation is repeated, or leads into the absorbing state, which all observations get a mark
    /// for. These steps are thinned out as the others are.
    pub fn transitions(&self, every: usize, ending: Ending, horizon: Option<u64>) -> DemonstratedSteps {
        let (o, a) = (self.observation_width, self.action_width);
        let marks = usize::from(ending == Ending::Absorbing);
        let absorbing: Vec<f32> = std::iter::repeat_n(0.0, o).chain([1.0]).collect();
        let mut all = DemonstratedSteps::default();
        for path in self.iter() {
            let steps = path.actions.len() / a;
            let goes_on = path.terminated && ending != Ending::Plain;
            let length = if goes_on { steps.max(horizon.map_or(0, |horizon| horizon as usize)) } else { steps };
            let observation = |t: usize, into: &mut Vec<f32>| {
                if t > steps && ending == Ending::Absorbing {
                    return into.extend(&absorbing);
                }
                let t = t.min(steps);
                into.extend(&path.observations[t * o..(t + 1) * o]);
                into.extend(std::iter::repeat_n(0.0, marks));
            };
            for t in (0..length).step_by(every.max(1)) {
                observation(t, &mut all.observations);
                observation(t + 1, &mut all.next);
                match path.actions.get(t * a..(t + 1) * a) {
                    Some(action) => all.actions.extend(action),
                    None => all.actions.extend(std::iter::repeat_n(0.0, a)),
                }
                all.terminated.push(path.terminated && !goes_on && t + 1 == steps);
                all.resting.push(t >= steps);
            }
        }
        all
    }

    /// The first `count` paths; all, if there are fewer.
    pub fn truncate(&mut self, count: usize) {
        self.paths.truncate(count);
        let steps = self.steps();
        self.observations.truncate((steps + self.paths.len()) * self.observation_width);
        self.actions.truncate(steps * self.action_width);
        if let Some(rewards) = &mut self.rewards {
            rewards.truncate(steps);
        }
    }

    /// A text that tells these demonstrations from others: their sizes, and a hash of all numbers but the rewards.
    pub fn fingerprint(&self) -> String {
        let mut hash = Hash::new();
        hash.part(bytemuck::cast_slice(&self.observations));
        hash.part(bytemuck::cast_slice(&self.actions));
        self.paths.iter().for_each(|path| hash.part(format!("{} {}", path.steps, path.terminated).as_bytes()));
        format!("{} paths, {} steps, xxh3 {hash}", self.paths.len(), self.steps())
    }

    /// The share of actions' numbers that lie outside of the bounds of a task, which clips them; 0 for choices.
    pub fn share_outside(&self, task: &Task) -> f64 {
        let Space::Box { low, high } = &task.actions else { return 0.0 };
        let bounds = low.iter().zip(high).cycle();
        let outside = self.actions.iter().zip(bounds).filter(|(value, (low, high))| value < low || value > high);
        outside.count() as f64 / self.actions.len().max(1) as f64
    }

    /// Checks that sizes and kinds are those of a task.
    ///
    /// # Errors
    /// [`Error::Task`], which names both.
    pub fn check(&self, task: &Task) -> Result<()> {
        let own = if self.discrete {
            // As many choices as there must at least be.
            let count = self.actions.iter().fold(0.0f32, |most, &action| most.max(action)) as usize + 1;
            Space::Discrete { count }
        } else {
            Space::between(f32::NEG_INFINITY, f32::INFINITY, self.action_width)
        };
        let fits = match (&own, &task.actions) {
            (Space::Discrete { count }, Space::Discrete { count: most }) => count <= most,
            (Space::Box { low, .. }, Space::Box { low: other, .. }) => low.len() == other.len(),
            _ => false,
        };
        if fits && self.observation_width == task.observations.width() {
            return Ok(());
        }
        let what = format!(
            "its observations have {} and its actions {}, but those of the demonstrations ({}) have {} number{} and {own}",
            task.observations,
            task.actions,
            self.origin,
            self.observation_width,
            if self.observation_width == 1 { "" } else { "s" }
        );
        Err(Error::Task { task: task.name.clone(), what })
    }

    /// The fault of the parts, if they do not fit each other.
    fn fault(&self) -> Option<String> {
        let Some(steps) = self.paths.iter().try_fold(0usize, |sum, path| sum.checked_add(path.steps)) else {
            return Some("paths of more steps than can be counted".into());
        };
        let paths = self.paths.len();
        let rows = |values: usize, width: usize| if width > 0 && values.is_multiple_of(width) { values / width } else { usize::MAX };
        if paths == 0 {
            return Some("no paths".into());
        }
        if let Some(at) = self.paths.iter().position(|path| path.steps == 0) {
            return Some(format!("path {at} without steps"));
        }
        if rows(self.observations.len(), self.observation_width) != steps + paths {
            let (found, width) = (self.observations.len(), self.observation_width);
            return Some(format!("{found} numbers of observations of {width} for {steps} steps of {paths} paths"));
        }
        if rows(self.actions.len(), self.action_width) != steps || (self.discrete && self.action_width != 1) {
            return Some(format!("{} numbers of actions of {} for {steps} steps", self.actions.len(), self.action_width));
        }
        if self.rewards.as_ref().is_some_and(|rewards| rewards.len() != steps) {
            return Some(format!("{} rewards for {steps} steps", self.rewards.as_ref().map_or(0, Vec::len)));
        }
        if !self.observations.iter().chain(&self.actions).all(|value| value.is_finite()) {
            return Some("a NaN or an infinity in observations or actions".into());
        }
        if self.rewards.iter().flatten().any(|value| !value.is_finite()) {
            return Some("a NaN or an infinity in rewards".into());
        }
        let is_choice = |&action: &f32| action >= 0.0 && action.fract() == 0.0 && action < CHOICES;
        if self.discrete && !self.actions.iter().all(is_choice) {
            return Some("choices that are not whole numbers from 0 on".into());
        }
        None
    }

    /// These demonstrations, if their parts fit each other.
    fn checked(self, path: &Path) -> Result<Demonstrations> {
        match self.fault() {
            None => Ok(self),
            Some(found) => Err(bad(path, found, "demonstrations whose parts fit each other")),
        }
    }
}

/// More choices than any task has; as f32 they are still exact.
const CHOICES: f32 = 1e6;

fn bad(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::BadFile { path: PathBuf::from(path), found: found.into(), expected: expected.into() }
}

/// One line: paths, steps, returns.
impl std::fmt::Display for Demonstrations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let terminated = self.paths.iter().filter(|path| path.terminated).count();
        write!(f, "{} paths, {} steps, {terminated} terminal", self.paths.len(), self.steps())?;
        if let Some(returns) = self.returns() {
            let mean = returns.iter().sum::<f64>() / returns.len() as f64;
            let (least, most) = returns.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &r| (a.min(r), b.max(r)));
            write!(f, ", return {mean:.1} ({least:.1} to {most:.1})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
