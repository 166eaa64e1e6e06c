//! CartPole-v1: push a cart to the left or to the right so that the pole on it stays upright (Barto, Sutton and Anderson 1983).
//!
//! Equations and constants as in Gymnasium 1.4, in f64 and in its order of operations; observations are rounded to f32.

use super::{Env, Outcome, Space, Task, copy_state};
use crate::error::Result;
use crate::rng::Draw;

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = 1.1;
/// Half of the pole's length, in m.
const LENGTH: f64 = 0.5;
const FORCE: f64 = 10.0;
/// Seconds of a step.
const STEP: f64 = 0.02;
/// The pole has fallen beyond this angle, 12 degrees in radians.
const MAX_ANGLE: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
/// The cart has left the track beyond this distance from its middle.
const MAX_POSITION: f64 = 2.4;

/// Position, speed, angle of the pole from upright, and its angular speed.
#[derive(Default)]
struct CartPole([f64; 4]);

/// Observations are position (m), speed, angle (radians) and angular speed; actions are 0, to the left, and 1, to the right.
pub(super) fn task() -> Task {
    // Bounds of positions are twice those at which an episode ends.
    let observations = Space::within(&[2.0 * MAX_POSITION as f32, f32::INFINITY, 2.0 * MAX_ANGLE as f32, f32::INFINITY]);
    Task::new("cartpole", observations, Space::Discrete { count: 2 }, CartPole::default).with_horizon(500)
}

impl Env for CartPole {
    fn observation(&self, out: &mut [f32]) {
        out.iter_mut().zip(self.0).for_each(|(out, value)| *out = value as f32);
    }

    fn reset(&mut self, draw: Draw) {
        self.0 = [0, 1, 2, 3].map(|i| draw.between(i, -0.05, 0.05));
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        let [x, speed, angle, turn] = self.0;
        let force = if action[0] == 1.0 { FORCE } else { -FORCE };
        let (sin, cos) = (angle.sin(), angle.cos());
        let pole = POLE_MASS * LENGTH;
        let push = (force + pole * (turn * turn) * sin) / TOTAL_MASS;
        let turning = (GRAVITY * sin - cos * push) / (LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
        let acceleration = push - pole * turning * cos / TOTAL_MASS;
        self.0 = [x + STEP * speed, speed + STEP * acceleration, angle + STEP * turn, turn + STEP * turning];
        let [x, _, angle, _] = self.0;
        Outcome { reward: 1.0, terminated: x.abs() > MAX_POSITION || angle.abs() > MAX_ANGLE, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        self.0.into()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("cartpole", &mut self.0, state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        self.0 = std::array::from_fn(|i| f64::from(observation[i]));
        true
    }
}
