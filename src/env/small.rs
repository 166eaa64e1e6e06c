//! Tasks whose best policies are known, for tests of what learns.

use super::{Env, Outcome, Space, Task, copy_state};
use crate::error::Result;
use crate::rng::Draw;

/// A ball on a line, which an action moves by at most 1.
#[derive(Default)]
struct Line(f64);

/// Observations are the place of the ball, actions how far it is to go. The reward is minus the distance from 1 after the step: the best
/// policy goes there at once and stays.
pub(super) fn line() -> Task {
    let everywhere = Space::between(f32::NEG_INFINITY, f32::INFINITY, 1);
    Task::new("line", everywhere, Space::within(&[1.0]), Line::default).with_horizon(20).without_end()
}

impl Env for Line {
    fn observation(&self, out: &mut [f32]) {
        out[0] = self.0 as f32;
    }

    fn reset(&mut self, draw: Draw) {
        self.0 = draw.between(0, -0.1, 0.1);
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        self.0 += f64::from(action[0].clamp(-1.0, 1.0));
        Outcome { reward: -(self.0 - 1.0).abs(), terminated: false, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        vec![self.0]
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("line", std::slice::from_mut(&mut self.0), state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        self.0 = observation[0].into();
        true
    }
}

/// Three states, of which the last one is terminal; the reward of every step.
struct EarlyTerm {
    state: f64,
    reward: f64,
}

/// Observations are the state as one of three, one-hot. From state 0 every action leads to 1; there action 0 leads back and action 1 to the
/// terminal state. Every step has the same reward, so its sign alone says whether to go on or to end at once: whoever imitates with a
/// reward of one sign fails in one of the two (the "EarlyTerm" tasks of Gleave et al. 2020, "seals").
pub(super) fn early_term(name: &'static str, reward: f64) -> Task {
    Task::new(name, Space::between(0.0, 1.0, 3), Space::Discrete { count: 2 }, move || EarlyTerm { state: 0.0, reward }).with_horizon(10)
}

impl Env for EarlyTerm {
    fn observation(&self, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(i, out)| *out = if i as f64 == self.state { 1.0 } else { 0.0 });
    }

    fn reset(&mut self, _: Draw) {
        self.state = 0.0;
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        self.state = if self.state == 0.0 { 1.0 } else { 2.0 * f64::from(action[0]) };
        Outcome { reward: self.reward, terminated: self.state == 2.0, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        vec![self.state]
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("early-term", std::slice::from_mut(&mut self.state), state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        self.state = observation.iter().position(|&value| value == 1.0).unwrap_or(0) as f64;
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::env::{Envs, Task};

    #[test]
    fn the_sign_of_the_reward_says_whether_to_end() {
        for (name, reward) in [("early-term", 1.0), ("early-term-negative", -1.0)] {
            let mut envs = Envs::new(&Task::named(name).unwrap(), 2, 0).unwrap();
            let mut totals = Vec::new();
            for _ in 0..10 {
                // The first ends as soon as it can, the second never.
                let stepped = envs.step(&[1.0, 0.0]).unwrap();
                totals.extend(stepped.ended.iter().map(|episode| (episode.copy, episode.total, episode.terminated)));
            }
            assert_eq!(totals.iter().filter(|episode| **episode == (0, 2.0 * reward, true)).count(), 5);
            assert_eq!(totals.iter().filter(|(copy, ..)| *copy == 1).collect::<Vec<_>>(), [&(1, 10.0 * reward, false)]);
        }
    }

    #[test]
    fn the_line_is_walked_at_once() {
        let mut envs = Envs::new(&Task::named("line").unwrap(), 1, 0).unwrap();
        let mut total = 0.0;
        while total == 0.0 {
            let action = 1.0 - envs.observations()[0];
            total = envs.step(&[action]).unwrap().ended.first().map_or(0.0, |episode| episode.total);
        }
        // Above -0.1: what the clipped first step leaves from a start below 0.
        assert!((-0.1001..0.0).contains(&total), "{total}");
    }
}
