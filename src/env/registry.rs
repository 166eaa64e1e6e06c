//! The tasks that are built in, by name.

use super::external::{External, ExternalConfig};
use super::{Task, acrobot, cartpole, maze, mountain_car, pendulum, small};
use crate::error::{Error, Result};
use crate::words::nearest;

/// A task that is built in: its name, a line about it, and what makes it.
pub type BuiltIn = (&'static str, &'static str, fn() -> Task);

/// The tasks that are built in.
pub const TASKS: &[BuiltIn] = &[
    ("cartpole", "CartPole-v1: keep a pole on a cart upright", cartpole::task),
    ("pendulum", "Pendulum-v1: swing a pendulum up and keep it there", pendulum::task),
    ("mountain-car", "MountainCar-v0: rock a car out of a valley", mountain_car::task),
    ("mountain-car-continuous", "MountainCarContinuous-v0: the same by forces, which have a price", mountain_car::continuous_task),
    ("acrobot", "Acrobot-v1: swing the end of two links up", acrobot::task),
    ("cmaze", "C-maze: push a ball around a barrier on the right", || maze::task("cmaze")),
    ("cmaze-flipped", "the C-maze with its barrier on the left", || maze::task("cmaze-flipped")),
    ("smaze", "S-maze: push a ball around two barriers", || maze::task("smaze")),
    ("smaze-flipped", "the S-maze with its barriers on the other sides", || maze::task("smaze-flipped")),
    ("room-empty", "push a ball through an empty room", || maze::task("room-empty")),
    ("room-wall", "push a ball around a wall", || maze::task("room-wall")),
    ("room-two", "push a ball through a door", || maze::task("room-two")),
    ("line", "for tests: go to a place on a line", small::line),
    ("early-term", "for tests: go on or end, at a reward of 1 for every step", || small::early_term("early-term", 1.0)),
    ("early-term-negative", "the same at a reward of -1", || small::early_term("early-term-negative", -1.0)),
];

impl Task {
    /// The task of this name: one of [`TASKS`]; `external:ID`, an environment of Gymnasium, by `python3`; or `command:PROGRAM ..`, a
    /// program that speaks the protocol of [`super::external`].
    ///
    /// # Errors
    /// [`Error::BadConfig`] for an unknown name; as [`External::task`].
    pub fn named(name: &str) -> Result<Task> {
        Task::named_with(name, &ExternalConfig::default())
    }

    /// The task of this name as [`Task::named`] finds it; an external one by the Python, and in as many processes, as `external` says.
    ///
    /// # Errors
    /// As [`Task::named`] and [`ExternalConfig::validate`].
    pub fn named_with(name: &str, external: &ExternalConfig) -> Result<Task> {
        external.validate()?;
        let program = match name.split_once(':') {
            Some(("external", env)) if !env.is_empty() => External::gymnasium(&external.python, env),
            Some(("command", line)) if !line.trim().is_empty() => External::command(line),
            _ => return Task::built_in(name).map(|task| task()),
        };
        External { bridges: external.bridges, ..program }.task()
    }

    /// Checks that [`Task::named`] would find a task of this name, without starting a program: whether that is there it finds out.
    ///
    /// # Errors
    /// [`Error::BadConfig`] for an unknown name.
    pub fn check_name(name: &str) -> Result<()> {
        match name.split_once(':') {
            Some(("external" | "command", program)) if !program.trim().is_empty() => Ok(()),
            _ => Task::built_in(name).map(drop),
        }
    }

    fn built_in(name: &str) -> Result<fn() -> Task> {
        let unknown = || {
            let expected = format!("a task: {}", nearest(name, TASKS.iter().map(|(name, ..)| *name)));
            Error::BadConfig { key: "task".into(), found: format!("\"{name}\""), expected }
        };
        TASKS.iter().find(|(known, ..)| *known == name).map(|(_, _, task)| *task).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_found_by_name() {
        for (name, line, _) in TASKS {
            let task = Task::named(name).unwrap();
            assert_eq!(task.name, *name);
            assert!(!line.is_empty() && task.horizon.is_some());
        }
        assert_eq!(Task::named("cartpol").unwrap_err().to_string().split(':').nth(2).unwrap().trim(), "a task");
        assert!(Task::named("cartpol").unwrap_err().to_string().contains("cartpole"));
    }
}
