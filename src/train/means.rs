//! Means of the scalars of steps since the last evaluation. Their names begin with `train_`: the batch's own value has the name without
//! it, and the metrics know each name once per step.

use std::collections::BTreeMap;

use super::trainer::Values;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Sums of weighted values by name, each over the steps that had it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Means {
    /// Name, sum, and sum of weights, in the order in which names were first seen.
    sums: Vec<(String, f64, f64)>,
}

impl Means {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sums.clear();
    }

    /// Takes the value of a step in, as often as `weight` says, for instance the examples of the step.
    pub(super) fn add(&mut self, name: &str, value: f64, weight: f64) {
        let at = self.sums.iter().position(|(known, ..)| known == name).unwrap_or_else(|| {
            self.sums.push((name.into(), 0.0, 0.0));
            self.sums.len() - 1
        });
        let (_, sum, weights) = &mut self.sums[at];
        *sum += value * weight;
        *weights += weight;
    }

    /// The means, each as `train_NAME`.
    pub(super) fn values(&self) -> Values {
        self.sums.iter().map(|(name, sum, weight)| (format!("train_{name}"), sum / weight)).collect()
    }

    /// The state in a checkpoint: sum, weight and place by name.
    pub(super) fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let entry = |(place, (name, sum, weight)): (usize, &(String, f64, f64))| {
            Ok((name.clone(), Tensor::from_slice(&[*sum, *weight, place as f64], [3], &Device::cpu())?))
        };
        self.sums.iter().enumerate().map(entry).collect()
    }

    /// Takes over what [`Means::state`] gave.
    pub(super) fn load(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        let mut entries = Vec::new();
        for (name, tensor) in state {
            let values = match (tensor.dtype(), tensor.dims()) {
                (DType::F64, [3]) => tensor.to_vec::<f64>()?,
                (dtype, _) => {
                    let (found, expected) = (format!("{dtype} {}", tensor.shape()), "f64 [3]: sum, weight and place".into());
                    return Err(Error::BadTensor { name: format!("run.means.{name}"), found, expected });
                }
            };
            if values[1] <= 0.0 {
                let (found, expected) = (format!("the weight {}", values[1]), "a positive weight".into());
                return Err(Error::BadTensor { name: format!("run.means.{name}"), found, expected });
            }
            entries.push((values[2], (name, values[0], values[1])));
        }
        entries.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        self.sums = entries.into_iter().map(|(_, entry)| entry).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_count_and_each_name_has_its_own() {
        let mut means = Means::default();
        assert!(means.values().is_empty());
        means.add("loss", 1.0, 1.0);
        means.add("rate", 10.0, 1.0);
        means.add("loss", 4.0, 3.0);
        means.add("a_penalty_now_and_then", 7.0, 3.0);
        let expected = [("train_loss", 3.25), ("train_rate", 10.0), ("train_a_penalty_now_and_then", 7.0)];
        assert_eq!(means.values(), expected.map(|(name, value)| (name.to_string(), value)));
        let mut other = Means::default();
        other.load(means.state().unwrap().into_iter().collect()).unwrap();
        assert_eq!(other, means);
        other.clear();
        assert!(other.values().is_empty());
    }

    #[test]
    fn damaged_sums_are_errors() {
        for values in [&[1.0, 2.0][..], &[1.0, 0.0, 0.0], &[1.0, -1.0, 0.0]] {
            let tensor = Tensor::from_slice(values, [values.len()], &Device::cpu()).unwrap();
            let error = Means::default().load([("loss".to_string(), tensor)].into()).unwrap_err().to_string();
            assert!(error.contains("run.means.loss"), "{error}");
        }
    }
}
