//! The classic tasks against Gymnasium, step by step from recorded states; `tests/tasks/record.py` made the records.

use std::path::{Path, PathBuf};

use strait::Draw;
use strait::env::{Envs, Space, TASKS, Task};
use strait::io::npy;

/// Recorded steps, a row each: 1 for the first step of an episode, state, action, next state, observation, reward, terminated.
struct Record {
    rows: Vec<Vec<f64>>,
    state: usize,
    observation: usize,
}

fn record(path: &Path, task: &Task) -> Record {
    let array = npy::read(path).unwrap();
    let numbers: Vec<f64> = bytemuck::pod_collect_to_vec(&array.bytes);
    let rows: Vec<Vec<f64>> = numbers.chunks(array.shape[1]).map(<[f64]>::to_vec).collect();
    let observation = task.observations.width();
    Record { state: (array.shape[1] - 4 - observation) / 2, observation, rows }
}

/// The largest differences from a record after one step from each of its states: of the next states, the observations and the rewards.
/// The rows at which the task ends must agree.
fn differences(name: &str, path: &Path) -> [f64; 3] {
    let task = Task::named(name).unwrap();
    let Record { rows, state, observation } = record(path, &task);
    let mut envs = Envs::new(&task, rows.len(), 0).unwrap();
    let width = envs.state().unwrap().len() / rows.len();
    // Four numbers about the episode come first; the continuous car has whether this is its first step at the end.
    let states = rows.iter().flat_map(|row| {
        let own = [&[1.0, 0.0, 0.0, 0.0], &row[1..=state]].concat();
        if width == 4 + state { own } else { [own, vec![row[0]]].concat() }
    });
    assert!(envs.restore(&states.collect::<Vec<_>>()).unwrap());
    let actions: Vec<f32> = rows.iter().map(|row| row[state + 1] as f32).collect();
    let stepped = envs.step(&actions).unwrap().clone();
    let after = envs.state().unwrap();
    let mut largest = [0.0f64; 3];
    let mut add = |kind: usize, found: f64, expected: f64| largest[kind] = largest[kind].max((found - expected).abs());
    for (i, row) in rows.iter().enumerate() {
        let (next, rest) = row[state + 2..].split_at(state);
        assert_eq!(stepped.terminated[i], rest[observation + 1] == 1.0, "{name}: row {i}");
        // After an end the state is that of the next episode.
        if !stepped.terminated[i] {
            next.iter().enumerate().for_each(|(j, &value)| add(0, after[i * width + 4 + j], value));
        }
        rest[..observation].iter().enumerate().for_each(|(j, &value)| add(1, stepped.last[i * observation + j].into(), value));
        add(2, stepped.rewards[i], rest[observation]);
    }
    largest
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/tasks/{name}.npy"))
}

/// States to the last bit, or to the last bit of a sine, in which libraries of mathematics differ; observations are f32.
#[test]
fn steps_are_those_of_gymnasium() {
    for (name, state, observation, reward) in [
        ("cartpole", 1e-15, 0.0, 0.0),
        // There the square of an f32 is a power, whose last bit is off once in some hundred times.
        ("pendulum", 1e-15, 1e-7, 3e-11),
        ("mountain-car", 1e-15, 0.0, 0.0),
        ("mountain-car-continuous", 0.0, 0.0, 0.0),
        ("acrobot", 2e-14, 1e-6, 0.0),
    ] {
        let found = differences(name, &file(name));
        println!("{name}: {found:?}");
        assert!(found[0] <= state && found[1] <= observation && found[2] <= reward, "{name}: {found:?}");
    }
}

/// Random steps of every task: observations stay in their bounds, episodes end in time, and a state is all there is.
#[test]
fn every_task_keeps_its_word() {
    const COPIES: usize = 20;
    for (name, ..) in TASKS {
        let task = Task::named(name).unwrap();
        let (Space::Box { low, high }, horizon) = (&task.observations, task.horizon.unwrap()) else { panic!("{name}") };
        let mut draws = 0;
        let mut actions = || -> Vec<f32> {
            draws += 1;
            let unit = |i: usize| Draw { key: 1, number: draws }.between(i as u64, 0.0, 1.0);
            let choice = |i: usize| match &task.actions {
                Space::Discrete { count } => (unit(i) * *count as f64).floor() as f32,
                Space::Box { .. } => 6.0 * unit(i) as f32 - 3.0,
            };
            (0..COPIES * task.actions.width()).map(choice).collect()
        };
        let mut envs = Envs::new(&task, COPIES, 5).unwrap();
        for step in 0..2 * horizon {
            let inside = |row: &[f32]| row.iter().zip(low.iter().zip(high)).all(|(v, (low, high))| low <= v && v <= high);
            assert!(envs.observations().chunks(low.len()).all(inside), "{name}: {:?}", envs.observations());
            let taken = actions();
            let mut again = None;
            if step % 50 == 7 {
                let mut other = Envs::new(&task, COPIES, 5).unwrap();
                assert!(other.restore(&envs.state().unwrap()).unwrap());
                assert_eq!(other.observations(), envs.observations(), "{name}");
                again = Some(other.step(&taken).unwrap().clone());
            }
            let stepped = envs.step(&taken).unwrap();
            assert!(again.is_none_or(|again| again == *stepped), "{name}: step {step}");
            assert!(stepped.ended.iter().all(|episode| episode.steps <= horizon && (task.terminates || !episode.terminated)), "{name}");
        }
        assert!(envs.steps().all(|steps| steps < horizon));
        let state = envs.state().unwrap();
        assert!(envs.restore(&state[..state.len() - COPIES]).unwrap_err().to_string().starts_with(&format!("task {name}: a state of ")));
    }
}
