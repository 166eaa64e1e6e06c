//! Mazes with a ball that is pushed from start to goal: those of the transfer experiments of AIRL (Fu, Luo and Levine 2018) and of the VDB
//! (Peng et al. 2019), with the settings of the latter's code.
//!
//! The flipped ones are for rewards that were learned in the others: a policy for one of them runs into the barrier of the other.

mod contact;
mod layout;

use super::{Env, Outcome, Space, Task, copy_state};
use crate::error::Result;
use crate::rng::Draw;
use contact::{CONTACTS, Contacts, substep};
use layout::distance;

pub use layout::{Maze, Point};

/// Substeps of a step; one takes 0.01 s.
const SUBSTEPS: usize = 5;

/// The rewards of a task.
#[derive(Debug, Clone, Copy)]
enum Reward {
    /// Minus the distance to the goal, and a little for the force that was asked for.
    Distance,
    /// 2 near the goal, 1 not far from it, and how much nearer the step came to it.
    Shaped,
}

/// A kind of maze.
#[derive(Debug, Clone)]
struct Kind {
    maze: Maze,
    reward: Reward,
    /// The largest force along an axis, in N.
    force: f32,
    horizon: u64,
}

/// A ball in a maze.
struct Ball {
    kind: Kind,
    contacts: Contacts,
    place: Point,
    speed: Point,
    /// The place before the last substep, which is what MuJoCo's positions of bodies show after a step.
    seen: Point,
}

impl Maze {
    /// The maze of the built-in task of this name, if it has one.
    pub fn of_task(name: &str) -> Option<Maze> {
        kind(name).map(|kind| kind.maze)
    }
}

fn kind(name: &str) -> Option<Kind> {
    use Reward::{Distance, Shaped};
    let (maze, reward, force, horizon) = match name {
        "cmaze" => (Maze::c(false), Distance, 1.0, 100),
        "cmaze-flipped" => (Maze::c(true), Distance, 1.0, 100),
        "smaze" => (Maze::s(false), Shaped, 5.0, 100),
        "smaze-flipped" => (Maze::s(true), Shaped, 5.0, 100),
        "room-empty" => (Maze::empty(), Shaped, 5.0, 200),
        "room-wall" => (Maze::wall(), Shaped, 5.0, 200),
        "room-two" => (Maze::two(), Shaped, 5.0, 200),
        _ => return None,
    };
    Some(Kind { maze, reward, force, horizon })
}

/// Observations are the place of the ball (x and y, in m), without its speed; actions are forces in N.
pub(super) fn task(name: &'static str) -> Task {
    let kind = kind(name).expect("only the names above are asked for");
    let [low, high] = kind.maze.corners();
    let observations = Space::Box { low: low.map(|v| v as f32).into(), high: high.map(|v| v as f32).into() };
    let (actions, horizon) = (Space::within(&[kind.force; 2]), kind.horizon);
    let start = move || Ball { place: kind.maze.start, speed: [0.0; 2], seen: kind.maze.start, contacts: CONTACTS, kind: kind.clone() };
    Task::new(name, observations, actions, start).with_horizon(horizon).without_end()
}

impl Ball {
    fn reward(&self, before: Point, action: &[f32]) -> f64 {
        let (maze, away) = (&self.kind.maze, distance(before, self.kind.maze.goal));
        match self.kind.reward {
            Reward::Distance => -away - 0.001 * action.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>(),
            Reward::Shaped => {
                let near = if away <= 0.1 {
                    2.0
                } else if away <= 0.2 {
                    1.0
                } else {
                    0.0
                };
                near + (maze.shaped_way(before) - maze.shaped_way(self.seen))
            }
        }
    }
}

impl Env for Ball {
    fn observation(&self, out: &mut [f32]) {
        out.copy_from_slice(&self.seen.map(|value| value as f32));
    }

    fn reset(&mut self, draw: Draw) {
        self.place = self.kind.maze.start;
        self.seen = self.place;
        self.speed = [0, 1].map(|i| draw.between(i, -0.01, 0.01));
    }

    fn step(&mut self, action: &[f32]) -> Outcome {
        let before = self.seen;
        let force = [0, 1].map(|i| f64::from(action[i].clamp(-self.kind.force, self.kind.force)));
        for _ in 0..SUBSTEPS {
            self.seen = self.place;
            (self.place, self.speed) = substep(&self.kind.maze.walls, self.contacts, self.place, self.speed, force);
        }
        Outcome { reward: self.reward(before, action), terminated: false, truncated: false }
    }

    fn state(&self) -> Vec<f64> {
        [self.place, self.speed, self.seen].concat()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        let mut all = [0.0; 6];
        copy_state("maze", &mut all, state)?;
        let [x, y, u, v, a, b] = all;
        (self.place, self.speed, self.seen) = ([x, y], [u, v], [a, b]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
