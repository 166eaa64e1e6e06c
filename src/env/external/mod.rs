//! Simulators that are programs of their own, which step all copies for one message: those of the Python package Gymnasium, by a script
//! that is part of this program, or any other that speaks its protocol, which the head of the script describes.
//!
//! Nothing of Python is linked or needed unless such a task is asked for.

mod child;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::simulator::{Simulator, StepBuffers};
use super::{Space, Task};
use crate::error::{Error, Result};
use crate::rng::Draw;
use child::Child;

/// The script that steps environments of Gymnasium: `python gymnasium-bridge.py`.
pub const GYMNASIUM_BRIDGE: &str = include_str!("gymnasium-bridge.py");

/// The version of the protocol.
const VERSION: u32 = 1;

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

    /// Starts the program once, to ask for spaces and the limit of time. Each [`super::Envs`] of the task starts one of its own.
    ///
    /// # Errors
    /// [`Error::Task`]: the program cannot be started, ends, is silent for too long, or answers what cannot be used; with its last words.
    pub fn task(&self) -> Result<Task> {
        let (_, about) = self.start(1)?;
        let (spec, widths) = (self.clone(), about.widths());
        let start = move |count| -> Result<Box<dyn Simulator>> {
            let (child, about) = spec.start(count)?;
            if about.widths() != widths {
                return Err(spec.error(&format!("spaces of {:?} and then of {:?} numbers were answered", widths, about.widths())));
            }
            Ok(Box::new(Running { child, count, widths: about.widths() }))
        };
        let mut task = Task::simulated(&self.name, about.observations.space(), about.actions.space(), start);
        (task.horizon, task.versions) = (about.horizon, about.versions);
        Ok(task)
    }

    fn error(&self, what: &str) -> Error {
        Error::Task { task: self.name.clone(), what: what.into() }
    }

    fn start(&self, count: usize) -> Result<(Child, About)> {
        let mut child = Child::start(self)?;
        let kwargs = serde_json::from_str(&self.arguments).map_err(|e| self.error(&format!("arguments that are no JSON ({e})")))?;
        let hello = Hello { version: VERSION, env: &self.env, count, kwargs };
        let mut line = serde_json::to_vec(&hello).expect("texts and numbers can be written");
        line.push(b'\n');
        child.send(&line)?;
        let line = child.line("what the task is like")?;
        let answer: Answer = serde_json::from_slice(&line).map_err(|e| {
            let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            child.useless(&format!("the answer {shown:?} is not one about a task ({e})"))
        })?;
        match answer {
            Answer::Error { error } => Err(child.useless(&error)),
            Answer::About(about) => match about.fault() {
                Some(fault) => Err(child.useless(fault)),
                None => Ok((child, about)),
            },
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

#[derive(Deserialize)]
struct About {
    observations: Described,
    actions: Described,
    horizon: Option<u64>,
    /// Numbers of a state.
    state: usize,
    #[serde(default)]
    versions: String,
}

#[derive(Deserialize)]
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

/// Copies in another process.
struct Running {
    child: Child,
    count: usize,
    /// Numbers of an observation, an action and a state.
    widths: [usize; 3],
}

impl Running {
    /// Sends a request and takes the answer, which has `length` bytes.
    fn ask(&mut self, request: &[u8], length: usize, what: &str) -> Result<Vec<u8>> {
        self.child.send(request)?;
        match self.child.bytes(1, what)?[0] {
            b'k' => self.child.bytes(length, what),
            b'e' => {
                let length = self.child.bytes(4, what)?;
                let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]).min(1 << 16);
                let text = self.child.bytes(length as usize, what)?;
                Err(self.child.fault(&String::from_utf8_lossy(&text)))
            }
            other => Err(self.child.fault(&format!("an answer began with the byte {other}, not with 'k' or 'e'; {what} was asked for"))),
        }
    }

    fn observations(&self, answer: &[u8], out: &mut [f32]) {
        let numbers = answer.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number);
    }
}

impl Simulator for Running {
    fn step(&mut self, actions: &[f32], resting: &[bool], out: StepBuffers<'_>) -> Result<()> {
        let mut request = vec![b's'];
        request.extend(resting.iter().map(|&rests| u8::from(rests)));
        request.extend(actions.iter().flat_map(|action| action.to_le_bytes()));
        let answer = self.ask(&request, self.count * (8 + 1 + 4 * self.widths[0]), "a step")?;
        let (rewards, rest) = answer.split_at(8 * self.count);
        let (flags, observations) = rest.split_at(self.count);
        for (i, (reward, &flag)) in rewards.as_chunks::<8>().0.iter().zip(flags).enumerate() {
            if !resting[i] {
                out.rewards[i] = f64::from_le_bytes(*reward);
                (out.terminated[i], out.truncated[i]) = (flag & 1 != 0, flag & 2 != 0);
            }
        }
        self.observations(observations, out.observations);
        Ok(())
    }

    fn reset(&mut self, draws: &[Option<Draw>], observations: &mut [f32]) -> Result<()> {
        let mut request = vec![b'r'];
        request.extend(draws.iter().map(|draw| u8::from(draw.is_some())));
        request.extend(draws.iter().flat_map(|draw| draw.map_or(0, |draw| draw.word(0)).to_le_bytes()));
        let answer = self.ask(&request, self.count * 4 * self.widths[0], "a first observation")?;
        self.observations(&answer, observations);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<f64>> {
        if self.widths[2] == 0 {
            return Ok(Vec::new());
        }
        let answer = self.ask(b"g", 8 * self.count * self.widths[2], "the state")?;
        Ok(answer.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
    }

    fn restore(&mut self, state: &[f64], observations: &mut [f32]) -> Result<()> {
        let request = [b'p'].into_iter().chain(state.iter().flat_map(|number| number.to_le_bytes()));
        let answer = self.ask(&request.collect::<Vec<_>>(), self.count * 4 * self.widths[0], "the observation of a state")?;
        self.observations(&answer, observations);
        Ok(())
    }
}
