//! Acrobot-v1: swing the end of two links above a line by a torque on the joint between them (Sutton 1996).
//!
//! Equations and constants as in Gymnasium 1.4, the "book" variant (Sutton and Barto), in f64 and in its order of operations. Lengths and
//! masses of the links are 1, their centers of mass in the middle, their moments of inertia 1.

use std::f64::consts::PI;

use super::{Env, Outcome, Space, Task, copy_state};
use crate::error::Result;
use crate::rng::Draw;

const GRAVITY: f64 = 9.8;
/// Seconds of a step.
const STEP: f64 = 0.2;
const MAX_SPEEDS: [f64; 2] = [4.0 * PI, 9.0 * PI];

/// The angle of the first link from hanging down, that of the second from the first, and their speeds.
#[derive(Default)]
struct Acrobot([f64; 4]);

/// Observations are cosine and sine of both angles and their speeds (radians per second); actions are torques of -1, 0 and 1 N m.
pub(super) fn task() -> Task {
    let observations = Space::within(&[1.0, 1.0, 1.0, 1.0, MAX_SPEEDS[0] as f32, MAX_SPEEDS[1] as f32]);
    Task::new("acrobot", observations, Space::Discrete { count: 3 }, Acrobot::default).with_horizon(500)
}

/// The derivatives of angles and speeds.
fn derivatives([angle, bend, speed, bending]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin, cos) = (bend.sin(), bend.cos());
    let d1 = 0.25 + (1.25 + cos) + 1.0 + 1.0;
    let d2 = 0.25 + 0.5 * cos + 1.0;
    let phi2 = 0.5 * GRAVITY * (angle + bend - PI / 2.0).cos();
    let phi1 = -0.5 * (bending * bending) * sin - bending * speed * sin + 1.5 * GRAVITY * (angle - PI / 2.0).cos() + phi2;
    let of_bending = (torque + d2 / d1 * phi1 - 0.5 * (speed * speed) * sin - phi2) / (1.25 - d2 * d2 / d1);
    [speed, bending, -(d2 * of_bending + phi1) / d1, of_bending]
}

/// A step of the classical method of Runge and Kutta.
fn integrate(state: [f64; 4], torque: f64) -> [f64; 4] {
    let ahead = |k: [f64; 4], time: f64| derivatives(std::array::from_fn(|i| state[i] + time * k[i]), torque);
    let k1 = derivatives(state, torque);
    let k2 = ahead(k1, STEP / 2.0);
    let k3 = ahead(k2, STEP / 2.0);
    let k4 = ahead(k3, STEP);
    std::array::from_fn(|i| state[i] + STEP / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// The angle between -pi and pi, which a step leaves by less than a few turns.
fn wrapped(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

impl Env for Acrobot {
    fn observation(&self, out: &mut [f32]) {
        let [angle, bend, speed, bending] = self.0;
        out.copy_from_slice(&[angle.cos(), angle.sin(), bend.cos(), bend.sin(), speed, bending].map(|value| value as f32));
    }

    fn reset(&mut self, draw: Draw) {
        self.0 = [0, 1, 2, 3].map(|i| f64::from(draw.between(i, -0.1, 0.1) as f32));
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        let [angle, bend, speed, bending] = integrate(self.0, f64::from(action[0]) - 1.0);
        let limited = |speed: f64, most: f64| speed.clamp(-most, most);
        self.0 = [wrapped(angle), wrapped(bend), limited(speed, MAX_SPEEDS[0]), limited(bending, MAX_SPEEDS[1])];
        let [angle, bend, ..] = self.0;
        // The end of the second link is a length of a link above the first joint.
        let terminated = -angle.cos() - (bend + angle).cos() > 1.0;
        Outcome { reward: if terminated { 0.0 } else { -1.0 }, terminated, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        self.0.into()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("acrobot", &mut self.0, state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        let [cos, sin, cos_bend, sin_bend, speed, bending] = std::array::from_fn(|i| f64::from(observation[i]));
        self.0 = [sin.atan2(cos), sin_bend.atan2(cos_bend), speed, bending];
        true
    }
}
