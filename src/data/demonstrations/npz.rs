//! `.npz` files of demonstrations, of two kinds.
//!
//! Flat: `obs` and `next_obs` [steps, width], `acts`, `rews` `[steps]`, `lengths` `[paths]`, and perhaps `terminated` or `terminal`, of
//! steps or of paths. `dones` is 1 at the end of every path, limits of time included, and says nothing.
//!
//! As the Python package imitation wrote them up to version 0.4: `obs` [steps + paths, width], `acts`, `rews`, `terminal` `[paths]`,
//! `indices` [paths - 1], the steps at which paths begin. Its `infos` are a pickle and are not read.

use std::path::Path;

use super::{Demonstrations, PathEnd, bad};
use crate::error::Result;
use crate::io::npy::{self, Npy};
use crate::io::zip::{self, Archive};

const FORMAT: &str = "a .npz file of demonstrations (obs, acts, next_obs, lengths and perhaps rews, terminated; or obs, acts, terminal, \
                      indices and perhaps rews)";

pub(super) fn read(path: &Path, horizon: Option<u64>) -> Result<Demonstrations> {
    take(&Source { path, archive: zip::read(path, FORMAT)? }, horizon)
}

pub(super) fn decode(path: &Path, bytes: &[u8], horizon: Option<u64>) -> Result<Demonstrations> {
    take(&Source { path, archive: zip::decode(path, FORMAT, bytes)? }, horizon)
}

struct Source<'a> {
    path: &'a Path,
    archive: Archive,
}

impl Source<'_> {
    /// The array of this name, if there is one.
    fn array(&self, name: &str) -> Result<Option<Npy>> {
        let member = format!("{name}.npy");
        self.archive.member(&member)?.map(|bytes| npy::decode(&self.path.join(&member), &bytes)).transpose()
    }

    fn needed(&self, name: &str) -> Result<Npy> {
        self.array(name)?.ok_or_else(|| {
            let names: Vec<&str> = self.archive.names().take(12).collect();
            bad(self.path, format!("no array '{name}', but {}", names.join(", ")), FORMAT)
        })
    }

    /// Observations [rows, numbers of each].
    fn rows(&self, name: &str) -> Result<(Vec<f32>, usize)> {
        let array = self.needed(name)?;
        let (Some(values), [_, width]) = (array.dtype.floats(&array.bytes)?, array.shape.dims()) else {
            return Err(self.unexpected(name, &array, "floats [rows, numbers of an observation]"));
        };
        Ok((values, *width))
    }

    fn unexpected(&self, name: &str, array: &Npy, expected: &str) -> crate::error::Error {
        bad(self.path, format!("'{name}' of {} {}", array.dtype, array.shape), expected)
    }

    fn integers(&self, name: &str, array: &Npy) -> Result<Vec<i64>> {
        match (array.dtype.integers(&array.bytes)?, array.shape.rank()) {
            (Some(values), 1) => Ok(values),
            _ => Err(self.unexpected(name, array, "whole numbers or booleans in one row")),
        }
    }
}

fn take(source: &Source, horizon: Option<u64>) -> Result<Demonstrations> {
    let path = source.path;
    let (actions, action_width, discrete) = actions(source)?;
    let rewards = match source.array("rews")? {
        None => None,
        Some(array) => match (array.dtype.floats(&array.bytes)?, array.dtype.size()) {
            (Some(_), 8) => Some(bytemuck::pod_collect_to_vec::<u8, f64>(&array.bytes)),
            (Some(values), _) => Some(values.into_iter().map(f64::from).collect()),
            (None, _) => return Err(source.unexpected("rews", &array, "floats")),
        },
    };
    let steps = actions.len() / action_width;
    let mut notes = Vec::new();
    let (observations, width) = source.rows("obs")?;
    let (observations, paths) = if let Some(indices) = source.array("indices")? {
        let mut borders = source.integers("indices", &indices)?;
        borders.push(steps as i64);
        let starts = std::iter::once(0).chain(borders.iter().copied());
        let lengths: Vec<i64> = starts.zip(&borders).map(|(start, end)| end.saturating_sub(start)).collect();
        let ends = ends(source, &lengths, horizon, &mut notes)?;
        (observations, ends)
    } else {
        let lengths = source.integers("lengths", &source.needed("lengths")?)?;
        let ends = ends(source, &lengths, horizon, &mut notes)?;
        (joined(source, observations, width, steps, &ends)?, ends)
    };
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Demonstrations {
        task: None,
        origin: name,
        notes,
        observation_width: width,
        action_width,
        discrete,
        observations,
        actions,
        rewards,
        paths,
    }
    .checked(path)
}

/// The actions, how many numbers each has, and whether they are choices.
fn actions(source: &Source) -> Result<(Vec<f32>, usize, bool)> {
    let array = source.needed("acts")?;
    let width = match array.shape.dims() {
        [_] => 1,
        [_, width] if *width > 0 => *width,
        _ => return Err(source.unexpected("acts", &array, "actions [steps] or [steps, numbers of an action]")),
    };
    // Bytes of 0 and 1 are choices, too.
    match (array.dtype.integers(&array.bytes)?, array.dtype.floats(&array.bytes)?) {
        (Some(choices), _) if width == 1 => Ok((choices.into_iter().map(|choice| choice as f32).collect(), 1, true)),
        (None, Some(values)) => Ok((values, width, false)),
        _ => Err(source.unexpected("acts", &array, "floats, or a whole number for each step")),
    }
}

/// Lengths and ends of the paths.
fn ends(source: &Source, lengths: &[i64], horizon: Option<u64>, notes: &mut Vec<String>) -> Result<Vec<PathEnd>> {
    // Longer than any file: the check of the parts refuses it.
    let length = |&steps: &i64| usize::try_from(steps).map_or(0, |steps| steps.min(1 << 40));
    let lengths: Vec<usize> = lengths.iter().map(length).collect();
    let total = lengths.iter().sum::<usize>();
    let mut terminated = None;
    for name in ["terminated", "terminal"] {
        let Some(array) = source.array(name)? else { continue };
        let flags = source.integers(name, &array)?;
        let mut last = 0;
        terminated = Some(match flags.len() {
            n if n == lengths.len() => flags.iter().map(|&flag| flag != 0).collect(),
            n if n == total => lengths
                .iter()
                .map(|&steps| {
                    last += steps;
                    steps > 0 && flags[last - 1] != 0
                })
                .collect(),
            n => {
                let expected = format!("one for each of {} paths or {total} steps", lengths.len());
                return Err(bad(source.path, format!("{n} entries of '{name}'"), expected));
            }
        });
        break;
    }
    let terminated: Vec<bool> = match (terminated, horizon) {
        (Some(flags), _) => flags,
        (None, Some(horizon)) => {
            notes.push(format!(
                "The file does not say which paths ended in terminal states; those of fewer than {horizon} steps count as such."
            ));
            lengths.iter().map(|&steps| (steps as u64) < horizon).collect()
        }
        (None, None) => {
            notes.push("The file does not say which paths ended in terminal states; none counts as such.".into());
            vec![false; lengths.len()]
        }
    };
    Ok(lengths.into_iter().zip(terminated).map(|(steps, terminated)| PathEnd { steps, terminated }).collect())
}

/// Observations with the last one of each path, which the flat kind has in `next_obs`.
fn joined(source: &Source, observations: Vec<f32>, width: usize, steps: usize, paths: &[PathEnd]) -> Result<Vec<f32>> {
    let (next, next_width) = source.rows("next_obs")?;
    let total = paths.iter().try_fold(0usize, |sum, path| sum.checked_add(path.steps));
    if width == 0 || next_width != width || observations.len() != steps * width || next.len() != observations.len() || total != Some(steps)
    {
        let found = format!(
            "{} rows of 'obs', {} of 'next_obs', {steps} of 'acts', and lengths of {} steps in all",
            observations.len() / width.max(1),
            next.len() / next_width.max(1),
            total.map_or("too many".into(), |total| total.to_string())
        );
        return Err(bad(source.path, found, "the same number of each, and observations of one width"));
    }
    let mut all = Vec::with_capacity(observations.len() + paths.len() * width);
    let mut first = 0;
    for (index, path) in paths.iter().enumerate() {
        let (start, end) = (first * width, (first + path.steps) * width);
        // What follows a step is where the next one begins, unless lengths are wrong.
        let inner = end.saturating_sub(width).max(start);
        if next[start..inner] != observations[(start + width).min(end)..end] {
            let expected = "that it is 'obs' of the next step: lengths do not fit the rows, or observations were changed";
            return Err(bad(source.path, format!("a row of 'next_obs' within path {index}"), expected));
        }
        all.extend_from_slice(&observations[start..end]);
        all.extend_from_slice(&next[inner..end]);
        first += path.steps;
    }
    Ok(all)
}
