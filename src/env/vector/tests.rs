use super::*;
use crate::env::{Env, Outcome, Space, copy_state};

fn cartpole(count: usize, seed: u64) -> Envs {
    Envs::new(&Task::named("cartpole").unwrap(), count, seed).unwrap()
}

/// Actions that depend on the copy and the step alone.
fn actions(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + step * 3 + i * step) % 5 / 2 % 2) as f32).collect()
}

/// Everything that a number of steps gave.
fn run(envs: &mut Envs, steps: std::ops::Range<usize>) -> Vec<Stepped> {
    let count = envs.count();
    steps.map(|step| envs.step(&actions(count, step)).unwrap().clone()).collect()
}

#[test]
fn threads_and_further_copies_change_nothing() {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&mut cartpole(70, 3), 0..60))
    };
    let one = on(1);
    assert_eq!(one, on(3));
    assert!(one.iter().any(|stepped| !stepped.ended.is_empty()));
    let few = run(&mut cartpole(5, 3), 0..60);
    assert!(few.iter().zip(&one).all(|(few, one)| few.next == one.next[..20]));
    assert_ne!(cartpole(5, 4).observations(), cartpole(5, 3).observations());
    // No two copies and no two episodes begin alike.
    let mut starts: Vec<&[f32]> = one[0].next.chunks(4).collect();
    for stepped in &one {
        starts.extend(stepped.ended.iter().map(|episode| &stepped.next[4 * episode.copy..4 * episode.copy + 4]));
    }
    let count = starts.len();
    starts.sort_by(|a, b| a.partial_cmp(b).unwrap());
    starts.dedup();
    assert_eq!(starts.len(), count);
}

#[test]
fn a_state_is_all_there_is() {
    let mut envs = cartpole(6, 1);
    run(&mut envs, 0..30);
    let state = envs.state().unwrap();
    assert_eq!(state.len(), 6 * 8);
    let after = run(&mut envs, 30..80);
    let mut again = cartpole(6, 1);
    run(&mut again, 0..3);
    assert!(again.restore(&state).unwrap());
    assert_eq!(again.steps().collect::<Vec<_>>(), state.chunks(8).map(|row| row[1] as u64).collect::<Vec<_>>());
    assert_eq!(run(&mut again, 30..80), after);
    for wrong in [&state[1..], &state[..12], &[]] {
        assert!(matches!(again.restore(wrong), Err(Error::Task { .. })), "{}", wrong.len());
    }
}

/// Counts its steps; terminal after `at` of them, if the action is at least 0; reward NaN for an action above 8.
struct Counter {
    at: f64,
    steps: f64,
    episode: f64,
}

impl Env for Counter {
    fn observation(&self, out: &mut [f32]) {
        out.copy_from_slice(&[self.steps as f32, self.episode as f32]);
    }
    fn reset(&mut self, draw: Draw) {
        (self.steps, self.episode) = (0.0, draw.number as f64);
    }
    fn step(&mut self, action: &[f32]) -> Outcome {
        self.steps += 1.0;
        let reward = if action[0] > 8.0 { f64::NAN } else { self.steps };
        Outcome { reward, terminated: self.steps == self.at && action[0] >= 0.0, truncated: false }
    }
    fn state(&self) -> Vec<f64> {
        vec![self.steps, self.episode]
    }
    fn restore(&mut self, state: &[f64]) -> Result<()> {
        let mut all = [0.0; 2];
        copy_state("counter", &mut all, state)?;
        [self.steps, self.episode] = all;
        Ok(())
    }
}

fn counter(at: f64) -> Task {
    let start = move || Counter { at, steps: 0.0, episode: 0.0 };
    Task::new("counter", Space::between(0.0, 9.0, 2), Space::between(-1.0, 1.0, 1), start).with_horizon(3)
}

/// Copy 0 comes to terminal states and copy 1 to the limit of time, one step later; the observation before the reset is kept.
#[test]
fn ends_and_limits_are_told_apart_and_episodes_begin_in_the_same_step() {
    let mut envs = Envs::new(&counter(2.0), 2, 0).unwrap();
    let mut step = || envs.step(&[0.0, -1.0]).unwrap().clone();
    let first = step();
    assert_eq!((first.last, first.next), (vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 0.0, 1.0, 0.0]));
    let second = step();
    assert_eq!((second.terminated, second.truncated), (vec![true, false], vec![false, false]));
    assert_eq!((second.last, second.next), (vec![2.0, 0.0, 2.0, 0.0], vec![0.0, 1.0, 2.0, 0.0]));
    assert_eq!(second.ended, [Episode { copy: 0, steps: 2, total: 3.0, terminated: true }]);
    let third = step();
    assert_eq!((third.terminated, third.truncated), (vec![false, false], vec![false, true]));
    assert_eq!((third.last, third.next), (vec![1.0, 1.0, 3.0, 0.0], vec![1.0, 1.0, 0.0, 1.0]));
    assert_eq!(third.ended, [Episode { copy: 1, steps: 3, total: 6.0, terminated: false }]);
    // A terminal state at the limit is terminal.
    let mut envs = Envs::new(&counter(3.0), 1, 0).unwrap();
    let last = (0..3).map(|_| envs.step(&[0.0]).unwrap().clone()).last().unwrap();
    assert_eq!((last.terminated[0], last.truncated[0]), (true, false));
}

/// The episode of 5 steps comes to a terminal state after 2 of them; the second of 1.
#[test]
fn episodes_of_one_length_go_on_after_terminal_states() {
    let five = |ending| counter(2.0).with_horizon(5).with_ending(ending).unwrap();
    let run = |ending, restored: bool| {
        let task = five(ending);
        let mut envs = Envs::new(&task, 1, 0).unwrap();
        let mut all = Vec::new();
        for _ in 0..6 {
            if restored {
                let state = envs.state().unwrap();
                let before = envs.observations().to_vec();
                envs = Envs::new(&task, 1, 0).unwrap();
                assert!(envs.restore(&state).unwrap());
                assert_eq!(envs.observations(), before);
            }
            all.push(envs.step(&[0.0]).unwrap().clone());
        }
        all
    };
    for (ending, last) in [
        (Ending::FixedHorizon, vec![vec![1.0, 0.0], vec![2.0, 0.0], vec![2.0, 0.0], vec![2.0, 0.0], vec![2.0, 0.0], vec![1.0, 1.0]]),
        (
            Ending::Absorbing,
            [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]].map(Vec::from).into(),
        ),
    ] {
        let all = run(ending, false);
        assert_eq!(all.iter().map(|stepped| stepped.last.clone()).collect::<Vec<_>>(), last);
        assert_eq!(all.iter().map(|stepped| stepped.rewards[0]).collect::<Vec<_>>(), [1.0, 2.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(all.iter().all(|stepped| !stepped.terminated[0]));
        assert_eq!(all.iter().map(|stepped| stepped.truncated[0]).collect::<Vec<_>>(), [false, false, false, false, true, false]);
        assert_eq!(all[4].ended, [Episode { copy: 0, steps: 5, total: 3.0, terminated: false }]);
        assert_eq!(all[4].next[..2], [0.0, 1.0]);
        assert_eq!(all, run(ending, true));
        assert!(!five(ending).terminates && five(ending).with_ending(ending).is_err());
    }
    let mut endless = counter(2.0);
    endless.horizon = None;
    assert!(endless.with_ending(Ending::Absorbing).unwrap_err().to_string().contains("need a limit of time"));
    assert_eq!(counter(2.0).with_ending(Ending::Plain).unwrap().ending(), Ending::Plain);
}

#[test]
fn what_does_not_fit_is_named() {
    let mut envs = cartpole(2, 0);
    let mut message = |actions: &[f32]| envs.step(actions).unwrap_err().to_string();
    assert_eq!(message(&[0.0]), "task cartpole: 1 numbers of actions are not 2, those of 2 copies with 2 choices each");
    assert!(message(&[0.0, 2.0]).contains("2 in the action of copy 1"));
    assert!(message(&[0.5, 0.0]).contains("0.5 in the action of copy 0"));
    let mut envs = Envs::new(&counter(2.0), 1, 0).unwrap();
    assert!(envs.step(&[f32::NAN]).unwrap_err().to_string().contains("NaN in the action of copy 0 does not fit: finite numbers"));
    assert_eq!(envs.step(&[9.0]).unwrap_err().to_string(), "task counter: a step gave the reward NaN");
    assert!(Envs::new(&counter(2.0), 0, 0).is_err());
    let mut empty = counter(2.0);
    empty.observations = Space::between(0.0, 1.0, 0);
    assert!(Envs::new(&empty, 1, 0).unwrap_err().to_string().contains("0 numbers"));
}
