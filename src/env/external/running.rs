//! Copies of a task that are stepped by programs: each program has some of them, in a row.

use std::ops::Range;

use super::child::Child;
use super::{About, External};
use crate::env::simulator::{Simulator, StepBuffers};
use crate::error::{Error, Result};
use crate::rng::Draw;

/// Copies in other processes. What is asked of a copy does not depend on the process that it is in, so neither do results.
pub(super) struct Running {
    task: String,
    /// None after a failure.
    bridges: Vec<Bridge>,
    /// Numbers of an observation, an action and a state.
    widths: [usize; 3],
}

/// A process, and the copies that it has.
struct Bridge {
    child: Child,
    copies: Range<usize>,
}

impl Running {
    /// Starts the processes of this many copies, all before the first is waited for, and asks them what the task is like.
    pub(super) fn start(external: &External, count: usize) -> Result<(Running, About)> {
        let bridges = external.bridges.clamp(1, count);
        let border = |bridge: usize| bridge * count / bridges;
        let mut running = Running { task: external.name.clone(), bridges: Vec::new(), widths: [0; 3] };
        for copies in (0..bridges).map(|bridge| border(bridge)..border(bridge + 1)) {
            running.bridges.push(Bridge { child: external.begin(copies.len())?, copies });
        }
        let mut first = None;
        for bridge in &mut running.bridges {
            let about = external.about(&mut bridge.child)?;
            let first = first.get_or_insert(about.clone());
            external.check_widths(first.widths(), about.widths())?;
        }
        let about = first.expect("there is at least one process");
        running.widths = about.widths();
        Ok((running, about))
    }

    /// Sends each process the request about its copies, and then takes the answers, which have `length` bytes for each copy. After a failure
    /// of one no process is left.
    fn ask(
        &mut self,
        letter: u8,
        request: impl Fn(Range<usize>) -> Vec<u8>,
        length: usize,
        what: &str,
    ) -> Result<Vec<(Range<usize>, Vec<u8>)>> {
        if self.bridges.is_empty() {
            return Err(Error::Task { task: self.task.clone(), what: "the program failed before".into() });
        }
        let mut all = || {
            for Bridge { child, copies } in &mut self.bridges {
                child.send(&[vec![letter], request(copies.clone())].concat())?;
            }
            let answer = |Bridge { child, copies }: &mut Bridge| Ok((copies.clone(), answer(child, copies.len() * length, what)?));
            self.bridges.iter_mut().map(answer).collect::<Result<Vec<_>>>()
        };
        all().inspect_err(|_| self.end())
    }

    /// Ends all processes, none of which waits for another.
    fn end(&mut self) {
        self.bridges.iter_mut().for_each(|bridge| bridge.child.close());
        self.bridges.clear();
    }

    /// Asks for observations, and writes them.
    fn observe(&mut self, letter: u8, request: impl Fn(Range<usize>) -> Vec<u8>, what: &str, observations: &mut [f32]) -> Result<()> {
        let width = self.widths[0];
        for (copies, answer) in self.ask(letter, request, 4 * width, what)? {
            copy_numbers(&answer, &mut observations[scaled(&copies, width)]);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The answer of a program, which has `length` bytes.
fn answer(child: &mut Child, length: usize, what: &str) -> Result<Vec<u8>> {
    match child.bytes(1, what)?[0] {
        b'k' => child.bytes(length, what),
        b'e' => {
            let length = child.bytes(4, what)?;
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]).min(1 << 16);
            let text = child.bytes(length as usize, what)?;
            Err(child.fault(&String::from_utf8_lossy(&text)))
        }
        other => Err(child.fault(&format!("an answer began with the byte {other}, not with 'k' or 'e'; {what} was asked for"))),
    }
}

/// The numbers of some copies, of which each has `width`.
fn scaled(copies: &Range<usize>, width: usize) -> Range<usize> {
    copies.start * width..copies.end * width
}

fn copy_numbers(bytes: &[u8], out: &mut [f32]) {
    let numbers = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number);
}

impl Simulator for Running {
    fn step(&mut self, actions: &[f32], resting: &[bool], out: StepBuffers<'_>) -> Result<()> {
        let [width, of_action, _] = self.widths;
        let request = |copies: Range<usize>| {
            let rests = resting[copies.clone()].iter().map(|&rests| u8::from(rests));
            rests.chain(actions[scaled(&copies, of_action)].iter().flat_map(|action| action.to_le_bytes())).collect()
        };
        for (copies, answer) in self.ask(b's', request, 8 + 1 + 4 * width, "a step")? {
            let (rewards, rest) = answer.split_at(8 * copies.len());
            let (flags, observations) = rest.split_at(copies.len());
            for ((i, reward), &flag) in copies.clone().zip(rewards.as_chunks::<8>().0).zip(flags) {
                if !resting[i] {
                    out.rewards[i] = f64::from_le_bytes(*reward);
                    (out.terminated[i], out.truncated[i]) = (flag & 1 != 0, flag & 2 != 0);
                }
            }
            copy_numbers(observations, &mut out.observations[scaled(&copies, width)]);
        }
        Ok(())
    }

    fn reset(&mut self, draws: &[Option<Draw>], observations: &mut [f32]) -> Result<()> {
        let request = |copies: Range<usize>| {
            let draws = &draws[copies];
            let seeds = draws.iter().flat_map(|draw| draw.map_or(0, |draw| draw.word(0)).to_le_bytes());
            draws.iter().map(|draw| u8::from(draw.is_some())).chain(seeds).collect()
        };
        self.observe(b'r', request, "a first observation", observations)
    }

    fn state(&mut self) -> Result<Vec<f64>> {
        if self.widths[2] == 0 {
            return Ok(Vec::new());
        }
        let answers = self.ask(b'g', |_| Vec::new(), 8 * self.widths[2], "the state")?;
        let numbers =
            |(_, answer): &(_, Vec<u8>)| answer.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect::<Vec<_>>();
        Ok(answers.iter().flat_map(numbers).collect())
    }

    fn restore(&mut self, state: &[f64], observations: &mut [f32]) -> Result<()> {
        let width = self.widths[2];
        let request = |copies: Range<usize>| state[scaled(&copies, width)].iter().flat_map(|number| number.to_le_bytes()).collect();
        self.observe(b'p', request, "the observation of a state", observations)
    }
}
