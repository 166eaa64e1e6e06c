//! MountainCar-v0 and MountainCarContinuous-v0: a car with too weak an engine has to gain height by rocking (Moore 1990).
//!
//! Equations and constants as in Gymnasium 1.4, in its order of operations and with its rounding: the first is in f64. The second computes
//! the first step of an episode in f64 and, since it rounds its state to f32, all others in f32.

use super::{Env, Outcome, Space, Task, copy_state};
use crate::error::Result;
use crate::rng::Draw;

const MAX_SPEED: f64 = 0.07;
const POSITIONS: (f64, f64) = (-1.2, 0.6);
const GRAVITY: f64 = 0.0025;

/// Position and speed.
#[derive(Default)]
struct MountainCar([f64; 2]);

/// Observations are position and speed; actions are 0, to the left, 1, none, and 2, to the right.
pub(super) fn task() -> Task {
    Task::new("mountain-car", observations(), Space::Discrete { count: 3 }, MountainCar::default).with_horizon(200)
}

/// Observations are position and speed; actions are forces.
pub(super) fn continuous_task() -> Task {
    Task::new("mountain-car-continuous", observations(), Space::within(&[1.0]), Continuous::default).with_horizon(999)
}

fn observations() -> Space {
    Space::Box { low: vec![POSITIONS.0 as f32, -MAX_SPEED as f32], high: vec![POSITIONS.1 as f32, MAX_SPEED as f32] }
}

/// The place of a start.
fn start(draw: Draw) -> f64 {
    draw.between(0, -0.6, -0.4)
}

/// The car after a push, and whether it is at or beyond the goal and does not roll back. In f64 or in f32.
macro_rules! moved {
    ($float:ident, $position:expr, $speed:expr, $push:expr, $goal:expr) => {{
        let (low, high, most) = (POSITIONS.0 as $float, POSITIONS.1 as $float, MAX_SPEED as $float);
        let speed = ($speed + $push).clamp(-most, most);
        let position = ($position + speed).clamp(low, high);
        // The wall on the left stops the car.
        let speed = if position == low && speed < 0.0 { 0.0 } else { speed };
        (position, speed, position >= $goal as $float && speed >= 0.0)
    }};
}

impl Env for MountainCar {
    fn observation(&self, out: &mut [f32]) {
        out.copy_from_slice(&self.0.map(|value| value as f32));
    }

    fn reset(&mut self, draw: Draw) {
        self.0 = [start(draw), 0.0];
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        let [position, speed] = self.0;
        let push = (f64::from(action[0]) - 1.0) * 0.001 + (3.0 * position).cos() * -GRAVITY;
        let (position, speed, terminated) = moved!(f64, position, speed, push, 0.5);
        self.0 = [position, speed];
        Outcome { reward: -1.0, terminated, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        self.0.into()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("mountain-car", &mut self.0, state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        self.0 = [f64::from(observation[0]), f64::from(observation[1])];
        true
    }
}

/// Position and speed, and 1 before the first step of an episode, when they are in f64: 0 after it, when they are in f32.
#[derive(Default)]
struct Continuous([f64; 3]);

impl Env for Continuous {
    fn observation(&self, out: &mut [f32]) {
        out.copy_from_slice(&[self.0[0] as f32, self.0[1] as f32]);
    }

    fn reset(&mut self, draw: Draw) {
        self.0 = [start(draw), 0.0, 1.0];
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        const POWER: f64 = 0.0015;
        const GOAL: f64 = 0.45;
        let ([position, speed, first], force) = (self.0, action[0]);
        let clipped = !(-1.0..=1.0).contains(&force);
        let slope = |angle: f64| GRAVITY * angle.cos();
        let engine = if clipped { POWER.copysign(f64::from(force)) } else { f64::from(force * POWER as f32) };
        let terminated;
        if first == 1.0 {
            let slope = slope(3.0 * position);
            let push = if clipped { engine - slope } else { f64::from(engine as f32 - slope as f32) };
            let moved = moved!(f64, position, speed, push, GOAL);
            self.0 = [f64::from(moved.0 as f32), f64::from(moved.1 as f32), 0.0];
            terminated = moved.2;
        } else {
            let (position, speed) = (position as f32, speed as f32);
            let slope = slope(f64::from(3.0 * position));
            let push = if clipped { (engine - slope) as f32 } else { engine as f32 - slope as f32 };
            let moved = moved!(f32, position, speed, push, GOAL);
            self.0 = [f64::from(moved.0), f64::from(moved.1), 0.0];
            terminated = moved.2;
        }
        // What is wanted is paid for, not what is given.
        let cost = f64::from(force).powi(2) * 0.1;
        Outcome { reward: if terminated { 100.0 } else { 0.0 } - cost, terminated, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        self.0.into()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        copy_state("mountain-car-continuous", &mut self.0, state)
    }

    fn place_at(&mut self, observation: &[f32]) -> bool {
        self.0 = [f64::from(observation[0]), f64::from(observation[1]), 0.0];
        true
    }
}
