//! The program's own format.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Demonstrations, PathEnd, bad};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::io::checksum;
use crate::io::safetensors::{self, NamedTensor, TensorFile};
use crate::shape::Shape;

/// The entries of the table of strings.
const FORMAT: &str = "strait-demonstrations";
const VERSION: &str = "1";
const TASK: &str = "task";
const ORIGIN: &str = "origin";

const EXPECTED: &str = "a .safetensors file of demonstrations: observations, actions, lengths, terminated, and perhaps rewards";

pub(super) fn read(path: &Path) -> Result<Demonstrations> {
    take(path, &safetensors::read(path)?)
}

pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Demonstrations> {
    take(path, &safetensors::decode(path, bytes)?)
}

fn take(path: &Path, file: &TensorFile) -> Result<Demonstrations> {
    match file.metadata.get(FORMAT).map(String::as_str) {
        Some(VERSION) => checksum::verify(path, file)?,
        Some(other) => return Err(bad(path, format!("version '{other}' of {FORMAT}"), format!("version {VERSION}"))),
        None => return Err(bad(path, format!("no entry '{FORMAT}' in the table of strings"), EXPECTED)),
    }
    let get = |name: &str| file.get(name).ok_or_else(|| bad(path, format!("no tensor '{name}'"), EXPECTED));
    let wrong = |e: Error| bad(path, e.to_string(), EXPECTED);
    let width = |tensor: &NamedTensor| match tensor.shape.dims() {
        [_, width] => Ok(*width),
        _ => Err(bad(path, format!("'{}' of shape {}", tensor.name, tensor.shape), EXPECTED)),
    };
    let numbers = |name: &str| get(name)?.to_vec::<f32>().map_err(wrong);
    let observation_width = width(get("observations")?)?;
    let actions = get("actions")?;
    let discrete = actions.dtype == i64::DTYPE.into();
    let lengths = get("lengths")?.to_vec::<i64>().map_err(wrong)?;
    let terminated = get("terminated")?.to_vec::<u8>().map_err(wrong)?;
    if lengths.len() != terminated.len() {
        return Err(bad(path, format!("{} lengths and {} ends", lengths.len(), terminated.len()), EXPECTED));
    }
    let ends = lengths.iter().zip(&terminated);
    Demonstrations {
        task: file.metadata.get(TASK).cloned(),
        origin: file.metadata.get(ORIGIN).cloned().unwrap_or_default(),
        notes: Vec::new(),
        observation_width,
        action_width: if discrete { 1 } else { width(actions)? },
        discrete,
        observations: numbers("observations")?,
        actions: if discrete { actions.to_vec::<i64>().map_err(wrong)?.iter().map(|&a| a as f32).collect() } else { numbers("actions")? },
        rewards: file.get("rewards").map(|rewards| rewards.to_vec::<f64>().map_err(wrong)).transpose()?,
        paths: ends.map(|(&steps, &end)| PathEnd { steps: usize::try_from(steps).unwrap_or(0), terminated: end == 1 }).collect(),
    }
    .checked(path)
}

type Table = BTreeMap<String, String>;

fn parts(all: &Demonstrations) -> Result<(Vec<NamedTensor<'static>>, Table)> {
    if let Some(fault) = all.fault() {
        let expected = "demonstrations whose parts fit each other".into();
        return Err(Error::BadTensor { name: "demonstrations".into(), found: fault, expected });
    }
    let (steps, paths) = (all.steps(), all.paths.len());
    let lengths: Vec<i64> = all.paths.iter().map(|path| path.steps as i64).collect();
    let terminated: Vec<u8> = all.paths.iter().map(|path| path.terminated.into()).collect();
    let actions = if all.discrete {
        let choices: Vec<i64> = all.actions.iter().map(|&action| action as i64).collect();
        NamedTensor::from_slice("actions", Shape::from(steps), &choices)?
    } else {
        NamedTensor::from_slice("actions", Shape::from([steps, all.action_width]), &all.actions)?
    };
    let mut tensors = vec![
        NamedTensor::from_slice("observations", Shape::from([steps + paths, all.observation_width]), &all.observations)?,
        actions,
        NamedTensor::from_slice("lengths", Shape::from(paths), &lengths)?,
        NamedTensor::from_slice("terminated", Shape::from(paths), &terminated)?,
    ];
    if let Some(rewards) = &all.rewards {
        tensors.push(NamedTensor::from_slice("rewards", Shape::from(steps), rewards)?);
    }
    let mut table = Table::from([(FORMAT.into(), VERSION.into()), (ORIGIN.into(), all.origin.clone())]);
    if let Some(task) = &all.task {
        table.insert(TASK.into(), task.clone());
    }
    checksum::seal(&tensors, &mut table);
    Ok((tensors, table))
}

pub(super) fn encode(all: &Demonstrations) -> Result<Vec<u8>> {
    let (tensors, table) = parts(all)?;
    safetensors::encode(&tensors, &table)
}

pub(super) fn write(all: &Demonstrations, path: &Path) -> Result<()> {
    let (tensors, table) = parts(all)?;
    safetensors::write(path, &tensors, &table)
}
