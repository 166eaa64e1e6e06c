//! Generalised advantage estimation.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The treatment of an episode that ends by its limit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// The episode is broken off: what would have followed is estimated by the value of the last observation (Pardo et al. 2018).
    #[default]
    Bootstrap,
    /// Nothing follows, as after a terminal state: for tasks whose return is that of a fixed number of steps, with values that know the
    /// time.
    Terminal,
}

/// The weights of future rewards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discount {
    /// The factor gamma of a reward one step later, in [0, 1].
    pub gamma: f64,
    /// lambda of the advantages, in [0, 1]: 0 trusts the values after one step, 1 trusts the rewards alone.
    pub lambda: f64,
    /// The treatment of an episode that ends by its limit of time.
    pub time_limit: TimeLimit,
}

impl Default for Discount {
    fn default() -> Discount {
        Discount { gamma: 0.99, lambda: 0.95, time_limit: TimeLimit::Bootstrap }
    }
}

impl Discount {
    /// Checks the settings.
    ///
    /// # Errors
    /// gamma or lambda is not in [0, 1].
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("gamma", self.gamma), ("lambda", self.lambda)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::OutOfRange { op: "discount", name, value, expected: "between 0 and 1" });
            }
        }
        Ok(())
    }
}

/// Advantages, and the targets of values, one for each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// The advantage of the action over the policy's average.
    pub advantages: Vec<f64>,
    /// The advantages plus the values: what the values should have been.
    pub targets: Vec<f64>,
}

/// The steps of some copies of a task. Each slice is [steps, copies], row by row.
#[derive(Debug, Clone, Copy)]
pub struct Steps<'a> {
    /// The number of copies.
    pub copies: usize,
    /// The rewards.
    pub rewards: &'a [f64],
    /// Whether a step led to a terminal state.
    pub terminated: &'a [bool],
    /// Whether the episode was broken off after a step.
    pub truncated: &'a [bool],
}

/// Generalised advantages (Schulman et al. 2016, equation 16). `values` are those of the observations, and `next_values` those of what the
/// steps led to, before any reset; both are [steps, copies].
///
/// `delta = r + gamma V(s') - V(s)`, with V(s') = 0 for a terminal s', and `A = delta + gamma lambda A'`, where A' is that of the next step
/// of the same episode, and 0 where the episode ends or the rollout does.
///
/// # Errors
/// The slices have different lengths, or are not whole steps; gamma or lambda is out of range.
pub fn advantages(discount: &Discount, steps: Steps<'_>, values: &[f64], next_values: &[f64]) -> Result<Advantages> {
    discount.validate()?;
    let Steps { copies, rewards, terminated, truncated } = steps;
    let rows = rewards.len();
    for (name, found) in [
        ("number of values", values.len()),
        ("number of next values", next_values.len()),
        ("number of terminal ends", terminated.len()),
        ("number of truncated ends", truncated.len()),
    ] {
        if found != rows || copies == 0 || !rows.is_multiple_of(copies) {
            let expected = "as many as rewards: one of each copy in every step";
            return Err(Error::OutOfRange { op: "advantages", name, value: found as f64, expected });
        }
    }
    let Discount { gamma, lambda, time_limit } = *discount;
    let mut advantages = vec![0.0; rows];
    for i in (0..rows).rev() {
        let ends = terminated[i] || (truncated[i] && time_limit == TimeLimit::Terminal);
        let next_value = if ends { 0.0 } else { next_values[i] };
        let delta = rewards[i] + gamma * next_value - values[i];
        let goes_on = !terminated[i] && !truncated[i] && i + copies < rows;
        advantages[i] = delta + if goes_on { gamma * lambda * advantages[i + copies] } else { 0.0 };
    }
    let targets = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    Ok(Advantages { advantages, targets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device, Rng};

    /// 12 steps of 4 copies, in which one has a terminal, a limit and an open end.
    struct Case {
        rewards: Vec<f64>,
        values: Vec<f64>,
        next_values: Vec<f64>,
        terminated: Vec<bool>,
        truncated: Vec<bool>,
    }

    const COPIES: usize = 4;

    fn case() -> Case {
        let rows = 12 * COPIES;
        let mut rng = Rng::new(8);
        let mut numbers = || rng.normal([rows], DType::F64, &Device::cpu()).unwrap().to_vec::<f64>().unwrap();
        let (rewards, values, next_values) = (numbers(), numbers(), numbers());
        let at = |ends: &[(usize, usize)]| {
            let mut flags = vec![false; rows];
            ends.iter().for_each(|&(step, copy)| flags[step * COPIES + copy] = true);
            flags
        };
        Case { rewards, values, next_values, terminated: at(&[(2, 1), (4, 0), (11, 3)]), truncated: at(&[(7, 1), (0, 2), (9, 2), (11, 0)]) }
    }

    fn found(case: &Case, discount: &Discount) -> Advantages {
        let Case { rewards, terminated, truncated, .. } = case;
        advantages(discount, Steps { copies: COPIES, rewards, terminated, truncated }, &case.values, &case.next_values).unwrap()
    }

    /// The sum over the later steps of the same episode, term by term.
    fn expected(case: &Case, Discount { gamma, lambda, time_limit }: Discount) -> Vec<f64> {
        let rows = case.rewards.len();
        (0..rows)
            .map(|start| {
                let (mut total, mut weight) = (0.0, 1.0);
                for i in (start..rows).step_by(COPIES) {
                    let dead = case.terminated[i] || (case.truncated[i] && time_limit == TimeLimit::Terminal);
                    let next = if dead { 0.0 } else { case.next_values[i] };
                    total += weight * (case.rewards[i] + gamma * next - case.values[i]);
                    weight *= gamma * lambda;
                    if case.terminated[i] || case.truncated[i] {
                        break;
                    }
                }
                total
            })
            .collect()
    }

    #[test]
    fn advantages_are_explicit_sums_over_the_rest_of_the_episode() {
        let case = case();
        for time_limit in [TimeLimit::Bootstrap, TimeLimit::Terminal] {
            for (gamma, lambda) in [(0.97, 0.9), (1.0, 1.0), (0.9, 0.0)] {
                let discount = Discount { gamma, lambda, time_limit };
                let Advantages { advantages, targets } = found(&case, &discount);
                for ((a, e), (t, v)) in advantages.iter().zip(expected(&case, discount)).zip(targets.iter().zip(&case.values)) {
                    assert!((a - e).abs() < 1e-12 && (t - (a + v)).abs() < 1e-12, "{discount:?}: {a} for {e}");
                }
            }
        }
    }

    #[test]
    fn lambda_1_gives_the_rewards_to_come_and_lambda_0_one_step() {
        let mut case = case();
        let (gamma, copy) = (0.95, 3); // one episode that ends in a terminal state
        for i in 0..case.values.len() - COPIES {
            case.next_values[i] = case.values[i + COPIES];
        }
        let targets = found(&case, &Discount { gamma, lambda: 1.0, ..Discount::default() }).targets;
        let mut to_come = 0.0;
        for step in (0..12).rev() {
            to_come = case.rewards[step * COPIES + copy] + gamma * to_come;
            assert!((targets[step * COPIES + copy] - to_come).abs() < 1e-12);
        }
        let targets = found(&case, &Discount { gamma, lambda: 0.0, ..Discount::default() }).targets;
        for (i, target) in targets.iter().enumerate().filter(|(i, _)| !case.terminated[*i]) {
            assert!((target - case.rewards[i] - gamma * case.next_values[i]).abs() < 1e-12);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let flags = [false; 4];
        let bad = |discount: Discount, copies, values: &[f64]| {
            let steps = Steps { copies, rewards: &[0.0; 4], terminated: &flags, truncated: &flags };
            advantages(&discount, steps, values, &[0.0; 4])
        };
        assert!(bad(Discount::default(), 2, &[0.0; 4]).is_ok());
        assert!(bad(Discount::default(), 3, &[0.0; 4]).is_err() && bad(Discount::default(), 2, &[0.0; 3]).is_err());
        assert!(bad(Discount { gamma: 1.1, ..Discount::default() }, 2, &[0.0; 4]).unwrap_err().to_string().contains("gamma = 1.1"));
    }
}
