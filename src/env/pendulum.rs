//! Pendulum-v1: swing a pendulum up and keep it there.
//!
//! Equations and constants as in Gymnasium 1.4, in f64 and in its order of operations, but for the torque, which stays f32 there.

use std::f64::consts::PI;

use super::{Env, Outcome, Space, Task, copy_state};
use crate::error::Result;
use crate::rng::Draw;

const MAX_TORQUE: f32 = 2.0;
const MAX_SPEED: f64 = 8.0;
/// Seconds of a step.
const STEP: f64 = 0.05;

/// The angle from upright, in radians and never wrapped, and its speed.
#[derive(Default)]
struct Pendulum([f64; 2]);

/// Observations are cosine and sine of the angle from upright and its speed (radians per second); actions are torques in N m.
pub(super) fn task() -> Task {
    let observations = Space::within(&[1.0, 1.0, MAX_SPEED as f32]);
    Task::new("pendulum", observations, Space::within(&[MAX_TORQUE]), Pendulum::default).with_horizon(200).without_end()
}

/// The angle between -pi and pi.
fn wrapped(angle: f64) -> f64 {
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

impl Env for Pendulum {
    fn observation(&self, out: &mut [f32]) {
        let [angle, speed] = self.0;
        out.copy_from_slice(&[angle.cos() as f32, angle.sin() as f32, speed as f32]);
    }

    fn reset(&mut self, draw: Draw) {
        self.0 = [draw.between(0, -PI, PI), draw.between(1, -1.0, 1.0)];
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        let [angle, speed] = self.0;
        let torque = action[0].clamp(-MAX_TORQUE, MAX_TORQUE);
        let cost = wrapped(angle).powi(2) + 0.1 * (speed * speed) + f64::from(0.001 * (torque * torque));
        let speed = (speed + (15.0 * angle.sin() + f64::from(3.0 * torque)) * STEP).clamp(-MAX_SPEED, MAX_SPEED);
        self.0 = [angle + speed * STEP, speed];
        Outcome { reward: -cost, terminated: false, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        self.0.into()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("pendulum", &mut self.0, state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        let [cos, sin, speed] = std::array::from_fn(|i| f64::from(observation[i]));
        self.0 = [sin.atan2(cos), speed];
        true
    }
}
