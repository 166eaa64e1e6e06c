//! Simulators that are programs of their own, which step all copies for one message: those of the Python package Gymnasium, by a script
//! that is part of this program, or any other that speaks its protocol, which the head of the script describes.
//!
//! Nothing of Python is linked or needed unless such a task is asked for.

mod child;
mod running;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::simulator::Simulator;
use super::{Space, Task};
use crate::error::{Error, Result};
use crate::words::{QUOTED, shorten};
use child::Child;
use running::Running;

/// The script that steps environments of Gymnasium. Started by a user as `python gymnasium-bridge.py --minari ID FILE.npz`, it writes a data
/// set of the Python package minari as demonstrations.
pub const GYMNASIUM_BRIDGE: &str = include_str!("gymnasium-bridge.py");

/// The version of the protocol.
const VERSION: u32 = 1;

/// The settings of the programs of external tasks. Results do not depend on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { python = \"python3\", bridges = 2 }")]
pub struct ExternalConfig {
    /// The Python of `external:ID`: the path of a program, or a name that the system looks up. It needs the packages gymnasium and numpy.
    pub python: String,
    /// The number of processes that share the copies of the task; never more than there are copies.
    pub bridges: usize,
}

impl Default for ExternalConfig {
    fn default() -> ExternalConfig {
        ExternalConfig { python: "python3".into(), bridges: 1 }
    }
}

impl ExternalConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is out of range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, found: String, expected: &str| {
            Err(Error::BadConfig { key: format!("external.{key}"), found, expected: expected.into() })
        };
        if self.python.trim().is_empty() {
            return wrong("python", format!("\"{}\"", self.python), "the path or the name of a Python, such as \"python3\"");
        }
        if self.bridges == 0 {
            return wrong("bridges", self.bridges.to_string(), "at least 1");
        }
        Ok(())
    }
}

/// A program that simulates a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The name of the task in errors and settings: "external:Hopper-v5".
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The environment that it is asked for: "Hopper-v5".
    pub env: String,
    /// Arguments for making it, as JSON of an object: "{}".
    pub arguments: String,
    /// The longest time for an answer.
    pub timeout: Duration,
    /// The number of processes that share the copies, from 1 on; never more than there are copies.
    pub bridges: usize,
}

impl External {
    /// An environment of Gymnasium, run by the Python at `python` ("python3"), which needs the packages gymnasium and numpy.
    pub fn gymnasium(python: &str, env: &str) -> External {
        External {
            name: format!("external:{env}"),
            command: [python, "-u", "-c", GYMNASIUM_BRIDGE].map(String::from).into(),
            env: env.into(),
            arguments: "{}".into(),
            timeout: Duration::from_secs(60),
            bridges: 1,
        }
    }

    /// Another program: its name or path and its arguments, with spaces between them.
    pub fn command(line: &str) -> External {
        External {
            name: format!("command:{line}"),
            command: line.split_whitespace().map(String::from).collect(),
            env: String::new(),
            ..External::gymnasium("", "")
        }
    }

    /// Starts the program once, to ask for spaces and the limit of time. Each [`super::Envs`] of the task starts processes of its own.
    ///
    /// # Errors
    /// [`Error::Task`]: the program cannot be started, ends, is silent for too long, or answers what cannot be used; with its last words.
    pub fn task(&self) -> Result<Task> {
        let (_, about) = Running::start(self, 1)?;
        let (spec, widths) = (self.clone(), about.widths());
        let start = move |count| -> Result<Box<dyn Simulator>> {
            let (running, about) = Running::start(&spec, count)?;
            spec.check_widths(widths, about.widths())?;
            Ok(Box::new(running))
        };
        let mut task = Task::simulated(&self.name, about.observations.space(), about.actions.space(), start);
        (task.horizon, task.versions) = (about.horizon, about.versions);
        Ok(task)
    }

    fn error(&self, what: &str) -> Error {
        Error::Task { task: self.name.clone(), what: what.into() }
    }

    /// Checks that two answers about the task tell the same numbers.
    fn check_widths(&self, first: [usize; 3], then: [usize; 3]) -> Result<()> {
        if first == then {
            return Ok(());
        }
        Err(self.error(&format!("spaces of {first:?} and then of {then:?} numbers were answered")))
    }

    /// Starts a process for this many copies, and asks it what the task is like.
    fn begin(&self, count: usize) -> Result<Child> {
        let kwargs = serde_json::from_str(&self.arguments).map_err(|e| self.error(&format!("arguments that are no JSON ({e})")))?;
        let hello = Hello { version: VERSION, env: &self.env, count, kwargs };
        let mut line = serde_json::to_vec(&hello).expect("texts and numbers can be written");
        line.push(b'\n');
        let mut child = Child::start(self).map_err(|error| self.blamed(error))?;
        child.send(&line).map_err(|error| self.blamed(error))?;
        Ok(child)
    }

    /// The answer of a process that has begun.
    fn about(&self, child: &mut Child) -> Result<About> {
        let line = child.line("what the task is like").map_err(|error| self.blamed(error))?;
        let answer: Answer = serde_json::from_slice(&line).map_err(|e| {
            let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            self.blamed(child.useless(&format!("the answer {shown:?} is not one about a task ({e})")))
        })?;
        match answer {
            Answer::Error { error } if error.starts_with("ModuleNotFoundError") => Err(self.blamed(child.useless(&error))),
            Answer::Error { error } => Err(child.useless(&error)),
            Answer::About(about) => match about.fault() {
                Some(fault) => Err(child.useless(fault)),
                None => Ok(about),
            },
        }
    }

    /// An error that may be the fault of the Python that was named, with the way to name another.
    fn blamed(&self, error: Error) -> Error {
        match (error, &self.command[..]) {
            (Error::Task { task, what }, [python, .., script]) if script == GYMNASIUM_BRIDGE => {
                let python = shorten(python, QUOTED);
                let rule = "a Python 3 with the package gymnasium is needed, which --python PATH or the setting external.python names";
                Error::Task { task, what: format!("'{python}' cannot be used: {rule}: {what}") }
            }
            (error, _) => error,
        }
    }
}

#[derive(Serialize)]
struct Hello<'a> {
    version: u32,
    env: &'a str,
    count: usize,
    kwargs: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Error { error: String },
    About(About),
}

#[derive(Clone, Deserialize)]
struct About {
    observations: Described,
    actions: Described,
    horizon: Option<u64>,
    /// Numbers of a state.
    state: usize,
    #[serde(default)]
    versions: String,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Described {
    Box { low: Vec<Option<f32>>, high: Vec<Option<f32>> },
    Discrete { count: usize },
}

impl Described {
    fn space(&self) -> Space {
        match self {
            Described::Box { low, high } => Space::Box {
                low: low.iter().map(|bound| bound.unwrap_or(f32::NEG_INFINITY)).collect(),
                high: high.iter().map(|bound| bound.unwrap_or(f32::INFINITY)).collect(),
            },
            &Described::Discrete { count } => Space::Discrete { count },
        }
    }
}

impl About {
    /// Numbers of an observation, an action and a state.
    fn widths(&self) -> [usize; 3] {
        [self.observations.space().width(), self.actions.space().width(), self.state]
    }

    fn fault(&self) -> Option<&'static str> {
        const MOST: usize = 1 << 20;
        let bad = |space: &Described| match space {
            Described::Box { low, high } => low.len() != high.len(),
            Described::Discrete { count } => *count == 0,
        };
        if bad(&self.observations) || bad(&self.actions) {
            Some("a space has no choices, or not as many lower as upper bounds")
        } else if self.widths().iter().any(|&width| width > MOST) || self.horizon == Some(0) {
            Some("observations, actions or states have more than a million numbers, or the limit of time is 0")
        } else {
            None
        }
    }
}
