//! Replay of whole paths: a discriminator that sees what earlier policies did does not forget it.

use serde::{Deserialize, Serialize};

use super::paths::Path;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// The settings of a replay of paths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathReplayConfig {
    /// The most paths that are kept.
    pub paths: usize,
    /// The share of each batch's paths that is added, its first ones; in [0, 1].
    pub added: f64,
}

impl Default for PathReplayConfig {
    fn default() -> PathReplayConfig {
        PathReplayConfig { paths: 100, added: 0.5 }
    }
}

impl PathReplayConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.paths == 0 {
            return Err(Error::OutOfRange { op: "replay", name: "paths", value: 0.0, expected: "at least 1" });
        }
        if !(0.0..=1.0).contains(&self.added) {
            return Err(Error::OutOfRange { op: "replay", name: "added", value: self.added, expected: "between 0 and 1" });
        }
        Ok(())
    }
}

/// Paths of earlier policies, each with the densities of its own policy.
///
/// When there are too many, one after the other is dropped at random: of n paths, oldest first, the i-th (from 1) with probability
/// proportional to i. So the newest go soonest and some old ones stay, as in the authors' code of adversarial inverse reinforcement
/// learning (Fu, Luo and Levine 2018).
#[derive(Debug, Clone)]
pub struct PathReplay {
    config: PathReplayConfig,
    paths: Vec<Path>,
}

impl PathReplay {
    /// An empty replay.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn new(config: PathReplayConfig) -> Result<PathReplay> {
        config.validate()?;
        Ok(PathReplay { config, paths: Vec::new() })
    }

    /// The paths, oldest first.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// This many paths, drawn with replacement; none from an empty replay. A discriminator is to see them beside a batch before that batch
    /// is added.
    pub fn sample(&self, count: usize, rng: &mut Rng) -> Result<Vec<Path>> {
        if self.paths.is_empty() {
            return Ok(Vec::new());
        }
        let places = rng.uniform(0.0, self.paths.len() as f64, [count], DType::F64, &Device::cpu())?.to_vec::<f64>()?;
        Ok(places.into_iter().map(|place| self.paths[(place as usize).min(self.paths.len() - 1)].clone()).collect())
    }

    /// Adds the first paths of a batch, as many as the settings say, and drops some if there are too many.
    ///
    /// # Errors
    /// The random numbers cannot be drawn.
    pub fn add(&mut self, batch: &[Path], rng: &mut Rng) -> Result<()> {
        let count = (batch.len() as f64 * self.config.added) as usize;
        self.paths.extend_from_slice(&batch[..count]);
        let over = self.paths.len().saturating_sub(self.config.paths);
        if over == 0 {
            return Ok(());
        }
        for uniform in rng.uniform(0.0, 1.0, [over], DType::F64, &Device::cpu())?.to_vec::<f64>()? {
            // P(index < i) = i (i + 1) / (n (n + 1))
            let n = self.paths.len() as f64;
            let at = ((0.25 + uniform * n * (n + 1.0)).sqrt() - 0.5) as usize;
            self.paths.remove(at.min(self.paths.len() - 1));
        }
        Ok(())
    }

    /// All paths, one after the other, as named tensors: to save in a checkpoint. Their sizes grow with the paths.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let cpu = Device::cpu();
        let join = |part: fn(&Path) -> &Vec<f32>| -> Result<Tensor> {
            let all: Vec<f32> = self.paths.iter().flat_map(|path| part(path).iter().copied()).collect();
            Tensor::from_slice(&all, [all.len()], &cpu)
        };
        let wide = |part: fn(&Path) -> &Vec<f64>| -> Result<Tensor> {
            let all: Vec<f64> = self.paths.iter().flat_map(|path| part(path).iter().copied()).collect();
            Tensor::from_slice(&all, [all.len()], &cpu)
        };
        let sizes: Vec<i64> = self
            .paths
            .iter()
            .flat_map(|p| [p.steps(), p.width, p.action_width, usize::from(p.terminated), p.log_probs.len(), p.awake])
            .map(|n| n as i64)
            .collect();
        Ok(vec![
            ("sizes".into(), Tensor::from_slice(&sizes, [self.paths.len(), SIZES], &cpu)?),
            ("observations".into(), join(|path| &path.observations)?),
            ("actions".into(), join(|path| &path.actions)?),
            ("log_probs".into(), wide(|path| &path.log_probs)?),
            ("rewards".into(), wide(|path| &path.rewards)?),
        ])
    }

    /// Takes up what [`PathReplay::state`] gave, in place of all paths.
    ///
    /// # Errors
    /// A tensor is missing, or they do not fit each other; nothing is changed then.
    pub fn load(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let tensor = |name: &str| {
            let found = state.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor);
            found.ok_or_else(|| bad(name, "nothing".into()))
        };
        let sizes = tensor("sizes")?;
        let columns = sizes.dims().last().copied().unwrap_or_default();
        if ![SIZES, SIZES_BEFORE].contains(&columns) {
            return Err(bad("sizes", sizes.shape().to_string()));
        }
        let sizes = sizes.to_vec::<i64>()?;
        let (observations, actions) = (tensor("observations")?.to_vec::<f32>()?, tensor("actions")?.to_vec::<f32>()?);
        let (log_probs, rewards) = (tensor("log_probs")?.to_vec::<f64>()?, tensor("rewards")?.to_vec::<f64>()?);
        let (mut observations, mut actions) = (observations.as_slice(), actions.as_slice());
        let (mut log_probs, mut rewards) = (log_probs.as_slice(), rewards.as_slice());
        let mut paths = Vec::new();
        for row in sizes.chunks(columns) {
            let counts: Option<Vec<usize>> = row.iter().map(|n| usize::try_from(*n).ok().filter(|n| *n <= u32::MAX as usize)).collect();
            let Some(&[steps, width, action_width, terminated, known, ref awake @ ..]) = counts.as_deref() else {
                return Err(bad("sizes", format!("{row:?}")));
            };
            paths.push(Path {
                width,
                action_width,
                observations: take(&mut observations, (steps + 1) * width, "observations")?,
                actions: take(&mut actions, steps * action_width, "actions")?,
                log_probs: take(&mut log_probs, known, "log_probs")?,
                rewards: take(&mut rewards, steps, "rewards")?,
                terminated: terminated == 1,
                awake: awake.first().map_or(steps, |awake| steps.min(*awake)),
            });
        }
        for (name, rest) in [
            ("observations", observations.len()),
            ("actions", actions.len()),
            ("log_probs", log_probs.len()),
            ("rewards", rewards.len()),
            ("sizes", paths.len().saturating_sub(self.config.paths)),
        ] {
            if rest > 0 {
                return Err(bad(name, format!("{rest} too many")));
            }
        }
        self.paths = paths;
        Ok(())
    }
}

/// Numbers of a path in the tensor `sizes`: the last is that of its steps before the episode was over.
const SIZES: usize = 6;

/// Without the last one, as earlier versions saved them: nothing of a run that they began depends on it.
const SIZES_BEFORE: usize = 5;

fn bad(name: &str, found: String) -> Error {
    Error::BadTensor { name: name.into(), found, expected: "what a replay of paths saved".into() }
}

/// The first `count` elements, which are cut off.
fn take<T: Clone>(from: &mut &[T], count: usize, name: &str) -> Result<Vec<T>> {
    let (taken, rest) = from.split_at_checked(count).ok_or_else(|| bad(name, format!("{} of {count}", from.len())))?;
    *from = rest;
    Ok(taken.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of one step that is known by its number.
    fn path(number: usize) -> Path {
        let n = number as f32;
        Path {
            width: 2,
            action_width: 1,
            observations: vec![n; 4],
            actions: vec![-n],
            log_probs: vec![f64::from(n) + 0.1],
            rewards: vec![1.0],
            terminated: number.is_multiple_of(2),
            awake: number % 3 / 2,
        }
    }

    fn replay(paths: usize, added: f64) -> PathReplay {
        PathReplay::new(PathReplayConfig { paths, added }).unwrap()
    }

    #[test]
    fn the_first_share_of_a_batch_is_added_and_no_more_is_kept_than_said() {
        let (mut replay, mut rng) = (replay(6, 0.5), Rng::new(1));
        assert!(replay.sample(3, &mut rng).unwrap().is_empty());
        let batch: Vec<Path> = (0..5).map(path).collect();
        replay.add(&batch, &mut rng).unwrap();
        assert_eq!(replay.paths(), &batch[..2]);
        for _ in 0..10 {
            replay.add(&batch, &mut rng).unwrap();
        }
        assert_eq!(replay.paths().len(), 6);
        let drawn = replay.sample(40, &mut rng).unwrap();
        assert!(drawn.len() == 40 && drawn.iter().all(|p| replay.paths().contains(p)));
    }

    #[test]
    fn the_newer_a_path_is_the_sooner_it_goes() {
        let (n, trials, mut rng) = (5usize, 6000, Rng::new(2));
        let batch: Vec<Path> = (0..n).map(path).collect();
        let mut dropped = vec![0.0; n];
        for _ in 0..trials {
            let mut replay = replay(n - 1, 1.0);
            replay.add(&batch, &mut rng).unwrap();
            let gone = (0..n).find(|&i| !replay.paths().contains(&batch[i])).unwrap();
            dropped[gone] += 1.0;
        }
        let chi: f64 = (0..n)
            .map(|i| {
                let expected = f64::from(trials) * (i + 1) as f64 / 15.0;
                (dropped[i] - expected).powi(2) / expected
            })
            .sum();
        // 4 degrees of freedom: above 23.5 once in 10,000 times
        assert!(chi < 23.5, "{dropped:?}: {chi}");
    }

    #[test]
    fn a_replay_goes_on_from_its_state() {
        let (mut first, mut rng) = (replay(4, 1.0), Rng::new(3));
        first.add(&(0..9).map(path).collect::<Vec<_>>(), &mut rng).unwrap();
        let state = first.state().unwrap();
        let mut second = replay(4, 1.0);
        second.load(&state).unwrap();
        assert_eq!(first.paths(), second.paths());
        let mut empty = replay(4, 1.0);
        empty.load(&replay(4, 1.0).state().unwrap()).unwrap();
        assert!(empty.paths().is_empty());
        // As an earlier version saved it.
        let mut before = state.clone();
        before[0].1 = before[0].1.narrow(1, 0, SIZES_BEFORE).unwrap();
        let mut old = replay(4, 1.0);
        old.load(&before).unwrap();
        assert!(old.paths().iter().all(|path| path.awake == path.steps()) && old.paths().len() == first.paths().len());
        for at in 0..state.len() {
            let mut broken = state.clone();
            broken[at].1 = broken[at].1.narrow(0, 1, broken[at].1.dims()[0] - 1).unwrap();
            assert!(second.load(&broken).is_err(), "{}", state[at].0);
            broken.remove(at);
            assert!(second.load(&broken).unwrap_err().to_string().contains(&state[at].0));
        }
        assert!(replay(3, 1.0).load(&state).is_err());
        assert_eq!(first.paths(), second.paths());
        assert!(PathReplay::new(PathReplayConfig { paths: 0, added: 0.5 }).is_err());
    }
}
