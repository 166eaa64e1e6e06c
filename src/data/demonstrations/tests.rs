use std::path::Path;

use super::*;
use crate::dtype::Element;
use crate::io::Stored;
use crate::io::npy::{self, Npy};
use crate::io::zip::testing::archive;
use crate::rng::Draw;
use crate::shape::{IntoShape, Shape};

/// Two paths of a task with two numbers and two choices: of 3 steps, terminal, and of 2.
fn small() -> Demonstrations {
    Demonstrations {
        task: Some("walk".into()),
        origin: "by hand".into(),
        notes: Vec::new(),
        observation_width: 2,
        action_width: 1,
        discrete: true,
        observations: (0..14).map(|i| i as f32).collect(),
        actions: vec![0.0, 1.0, 0.0, 1.0, 1.0],
        rewards: Some(vec![1.0, 1.0, 0.5, 2.0, 0.1]),
        paths: vec![PathEnd { steps: 3, terminated: true }, PathEnd { steps: 2, terminated: false }],
    }
}

fn array<T: Element>(shape: impl IntoShape, values: &[T]) -> Vec<u8> {
    let dtype: Stored = T::DTYPE.into();
    npy::encode(&Npy { dtype, shape: shape.into_shape().unwrap(), bytes: bytemuck::cast_slice(values).to_vec() }).unwrap()
}

type Members = Vec<(&'static str, Vec<u8>)>;

/// [`small`] in the flat kind.
fn flat() -> Members {
    let all = small();
    let rows = all.transitions(1, Ending::Plain, None);
    vec![
        ("obs.npy", array([5, 2], &rows.observations)),
        ("acts.npy", array([5], &[0i64, 1, 0, 1, 1])),
        ("next_obs.npy", array([5, 2], &rows.next)),
        ("rews.npy", array([5], &all.rewards.unwrap())),
        ("dones.npy", array([5], &[0u8, 0, 1, 0, 1])),
        ("lengths.npy", array([2], &[3i64, 2])),
    ]
}

/// An array of objects, which only running it would read.
fn pickled() -> Vec<u8> {
    let header = format!("{:<117}\n", "{'descr': '|O', 'fortran_order': False, 'shape': (5,), }");
    [b"\x93NUMPY\x01\0v\0", header.as_bytes(), b"\x80\x04cos\nsystem\n"].concat()
}

/// [`small`] as imitation wrote it, with a pickle.
fn pathwise() -> Members {
    let all = small();
    vec![
        ("obs.npy", array([7, 2], &all.observations)),
        ("acts.npy", array([5], &[0i64, 1, 0, 1, 1])),
        ("rews.npy", array([5], &all.rewards.unwrap())),
        ("terminal.npy", array([2], &[1u8, 0])),
        ("indices.npy", array([1], &[3i64])),
        ("infos.npy", pickled()),
    ]
}

fn read(members: &Members, horizon: Option<u64>) -> Result<Demonstrations> {
    Demonstrations::decode(Path::new("some.npz"), &archive(members, true), horizon)
}

fn with(mut members: Members, name: &'static str, contents: Vec<u8>) -> Members {
    members.retain(|(other, _)| *other != name);
    members.push((name, contents));
    members
}

#[test]
fn three_kinds_of_files_hold_the_same() {
    let (all, folder) = (small(), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.safetensors");
    all.write(&path).unwrap();
    assert_eq!(Demonstrations::read(&path, None).unwrap(), all);
    let same = |read: &Demonstrations| {
        assert_eq!((&read.observations, &read.actions, &read.rewards), (&all.observations, &all.actions, &all.rewards));
        assert_eq!((&read.paths, read.discrete, read.fingerprint()), (&all.paths, true, all.fingerprint()));
    };
    let npz = folder.path().join("a.NPZ");
    std::fs::write(&npz, archive(&flat(), false)).unwrap();
    let found = Demonstrations::read(&npz, Some(3)).unwrap();
    assert_eq!(found.paths.iter().map(|path| path.terminated).collect::<Vec<_>>(), [false, true]);
    assert!(found.notes[0].contains("fewer than 3 steps"));
    assert!(read(&flat(), None).unwrap().paths.iter().all(|path| !path.terminated));
    for flags in [array([2], &[1u8, 0]), array([5], &[0u8, 0, 1, 0, 0])] {
        same(&read(&with(flat(), "terminated.npy", flags), Some(9)).unwrap());
    }
    let found = read(&pathwise(), Some(9)).unwrap();
    same(&found);
    assert!(found.notes.is_empty() && found.origin == "some.npz");
    let numbers = array([5, 2], &[0.5f32, 9.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let continuous = read(&with(pathwise(), "acts.npy", numbers), None).unwrap();
    assert_eq!((continuous.discrete, continuous.action_width, continuous.actions[1]), (false, 2, 9.0));
    continuous.write(&path).unwrap();
    assert_eq!(Demonstrations::read(&path, None).unwrap().actions, continuous.actions);
}

#[test]
fn wrong_files_are_named_with_what_is_wrong() {
    let message = |members: Members| match read(&members, None) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    let check = |text: String, part: &str| assert!(text.starts_with("some.npz") && text.contains(part), "{text}");
    check(message(with(flat(), "lengths.npy", array([2], &[2i64, 3]))), "a row of 'next_obs' within path 1");
    check(message(with(flat(), "lengths.npy", array([2], &[3i64, 3]))), "lengths of 6 steps");
    check(message(with(flat(), "lengths.npy", array([2], &[i64::MAX, i64::MAX]))), "lengths of 21990");
    check(message(with(flat(), "lengths.npy", array([2], &[-1i64, 5]))), "within path 1");
    check(message(with(flat(), "lengths.npy", array([2], &[0.5f32, 2.0]))), "'lengths' of f32");
    check(message(with(flat(), "rews.npy", array([4], &[0.5f32; 4]))), "4 rewards for 5 steps");
    check(message(with(flat(), "rews.npy", array([5], &[f32::NAN; 5]))), "NaN");
    check(message(with(flat(), "terminated.npy", array([3], &[1u8; 3]))), "3 entries of 'terminated'");
    check(message(with(flat(), "acts.npy", array([5], &[0i64, -1, 0, 0, 0]))), "choices that are not whole numbers");
    check(message(with(flat(), "acts.npy", array([5, 2], &[0i64; 10]))), "'acts' of i64");
    check(message(with(flat(), "obs.npy", array([5, 2, 1], &[0f32; 10]))), "'obs' of f32");
    check(message(with(pathwise(), "indices.npy", array([1], &[9i64]))), "path 1 without steps");
    check(message(with(pathwise(), "obs.npy", array([6, 2], &[0f32; 12]))), "12 numbers of observations of 2 for 5 steps of 2 paths");
    check(message(flat().into_iter().filter(|(name, _)| *name != "lengths.npy").collect()), "no array 'lengths', but obs.npy, acts.npy");
    check(message(with(flat(), "rews.npy", pickled())), "elements of type '|O'");
    let folder = tempfile::tempdir().unwrap();
    let text = Demonstrations::read(folder.path(), None).unwrap_err().to_string();
    assert!(text.contains("found a folder") && text.contains("np.savez"), "{text}");
    let mut wrong = small();
    wrong.actions.pop();
    assert!(wrong.encode().unwrap_err().to_string().contains("4 numbers of actions"));
    let mut bytes = small().encode().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let text = Demonstrations::decode(Path::new("x"), &bytes, None).unwrap_err().to_string();
    assert!(text.contains("does not fit its checksum"), "{text}");
}

#[test]
fn paths_that_ended_go_on_to_the_limit_of_time() {
    // The first path of three steps came to a terminal state, the second of two steps did not.
    let all = small();
    let (o, a) = (all.observation_width, all.action_width);
    let plain = all.transitions(1, Ending::Plain, Some(6));
    assert!(plain.terminated[2] && plain.resting.iter().all(|resting| !resting));
    let fixed = all.transitions(1, Ending::FixedHorizon, Some(6));
    assert_eq!(fixed.resting, [false, false, false, true, true, true, false, false]);
    assert!(fixed.terminated.iter().all(|terminated| !terminated));
    assert_eq!(&fixed.observations[..3 * o], &plain.observations[..3 * o]);
    for row in 3..6 {
        assert_eq!(&fixed.observations[row * o..(row + 1) * o], &plain.next[2 * o..3 * o]);
        assert_eq!(&fixed.next[row * o..(row + 1) * o], &plain.next[2 * o..3 * o]);
        assert!(fixed.actions[row * a..(row + 1) * a].iter().all(|v| *v == 0.0));
    }
    assert_eq!(&fixed.observations[6 * o..], &plain.observations[3 * o..]);
    let absorbing = all.transitions(1, Ending::Absorbing, Some(6));
    let (w, rest) = (o + 1, [vec![0.0; o], vec![1.0]].concat());
    let row = |values: &[f32], i: usize| values[i * w..(i + 1) * w].to_vec();
    assert_eq!(row(&absorbing.observations, 3), [&plain.next[2 * o..3 * o], &[0.0]].concat());
    assert_eq!((row(&absorbing.next, 3), row(&absorbing.observations, 4), row(&absorbing.next, 5)), (rest.clone(), rest.clone(), rest));
    assert_eq!(row(&absorbing.observations, 6), [&plain.observations[3 * o..4 * o], &[0.0]].concat());
    // Thinned out: steps 0, 2 and 4 of the first path.
    assert_eq!(all.transitions(2, Ending::FixedHorizon, Some(6)).resting, [false, false, true, false]);
    // A path that is longer than the limit stays as it is.
    assert_eq!(all.transitions(1, Ending::FixedHorizon, Some(2)).resting.len(), 5);
}

#[test]
fn steps_and_paths_are_chosen() {
    let all = small();
    assert_eq!(all.returns().unwrap(), [2.5, 2.1]);
    assert_eq!(all.to_string(), "2 paths, 5 steps, 1 terminal, return 2.3 (2.1 to 2.5)");
    let rows = all.transitions(1, Ending::Plain, None);
    assert_eq!(rows.observations, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0, 11.0]);
    assert_eq!(rows.next, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 10.0, 11.0, 12.0, 13.0]);
    assert_eq!(rows.terminated, [false, false, true, false, false]);
    let rows = all.transitions(2, Ending::Plain, None);
    assert_eq!((rows.observations, rows.terminated), (vec![0.0, 1.0, 4.0, 5.0, 8.0, 9.0], vec![false, true, false]));
    let mut one = all.clone();
    one.truncate(1);
    assert_eq!((one.steps(), one.observations.len(), one.fault()), (3, 8, None));
    assert_eq!(one.iter().next(), all.iter().next());
    one.truncate(7);
    assert_eq!(one.steps(), 3);
    assert_ne!(one.fingerprint(), all.fingerprint());
}

#[test]
fn specs_are_read_from_the_right() {
    let parse = |text: &str| text.parse::<DemonstrationSpec>();
    let spec = |file: &str, paths, every| DemonstrationSpec { file: file.into(), paths, every };
    for (text, expected) in [
        ("a.npz", spec("a.npz", None, 1)),
        ("a.npz:paths=3", spec("a.npz", Some(3), 1)),
        ("c:\\a.npz:every=20", spec("c:\\a.npz", None, 20)),
        ("a.npz:paths=3:every=20", spec("a.npz", Some(3), 20)),
    ] {
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(&expected.to_string()).unwrap(), expected);
    }
    assert_eq!(parse("a:every=2:paths=3").unwrap(), spec("a", Some(3), 2));
    for wrong in ["", ":paths=3", "a:paths=0", "a:paths=x", "a:every=-1", "a:paths=1:paths=2"] {
        assert!(parse(wrong).unwrap_err().to_string().contains("numbers from 1 on"), "{wrong}");
    }
}

/// Paths of a task under random actions, as a recorder takes them.
fn recorded(name: &str) -> Demonstrations {
    let task = Task::named(name).unwrap();
    let mut copy = task.copy().unwrap();
    let width = task.observations.width();
    let mut all = Demonstrations {
        task: Some(name.into()),
        origin: "random actions".into(),
        notes: Vec::new(),
        observation_width: width,
        action_width: task.actions.width(),
        discrete: matches!(task.actions, Space::Discrete { .. }),
        observations: Vec::new(),
        actions: Vec::new(),
        rewards: Some(Vec::new()),
        paths: vec![PathEnd { steps: 30, terminated: false }],
    };
    let mut seen = vec![0.0; width];
    copy.reset(Draw { key: 2, number: 1 });
    for t in 0..30 {
        copy.observation(&mut seen);
        all.observations.extend(&seen);
        let unit = |i: u64| Draw { key: 3, number: t }.between(i, 0.0, 2.0);
        let action: Vec<f32> =
            (0..all.action_width as u64).map(|i| if all.discrete { unit(i).floor() } else { unit(i) - 0.6 } as f32).collect();
        all.rewards.as_mut().unwrap().push(copy.step(&action).reward);
        all.actions.extend(action);
    }
    copy.observation(&mut seen);
    all.observations.extend(&seen);
    all
}

#[test]
fn recorded_steps_are_those_of_the_task() {
    for (name, tolerance) in
        [("cartpole", 2e-6), ("pendulum", 2e-6), ("mountain-car", 1e-6), ("mountain-car-continuous", 1e-7), ("acrobot", 2e-5)]
    {
        let (task, mut all) = (Task::named(name).unwrap(), recorded(name));
        all.check(&task).unwrap();
        let found = all.replay(&task, 3).unwrap();
        assert!(found.steps == 30 && found.observation < tolerance && found.reward < 1e-4, "{name}: {found:?}");
        // Another task's physics show.
        let width = all.observation_width;
        all.observations[15 * width] += 0.01;
        assert!(all.replay(&task, 3).unwrap().observation > 0.005, "{name}");
    }
    assert!(recorded("cmaze").replay(&Task::named("cmaze").unwrap(), 1).is_none());
}

#[test]
fn demonstrations_fit_their_task() {
    let message = |of: &str, task: &str| recorded(of).check(&Task::named(task).unwrap()).unwrap_err().to_string();
    assert_eq!(
        message("cartpole", "pendulum"),
        "task pendulum: its observations have 3 numbers and its actions 1 number, but those of the demonstrations (random actions) have \
         4 numbers and 2 choices"
    );
    assert!(message("cmaze", "cartpole").contains("have 2 numbers and 2 numbers"));
    assert!(message("mountain-car", "mountain-car-continuous").contains("choices"));
    // As many kinds of actions, and observations of another width.
    assert!(message("mountain-car", "acrobot").contains("have 2 numbers and"));
    // Fewer choices than the task has may have been all that were needed.
    let mut few = recorded("acrobot");
    few.actions.fill(0.0);
    few.check(&Task::named("acrobot").unwrap()).unwrap();
    let pendulum = Task::named("pendulum").unwrap();
    let mut outside = recorded("pendulum");
    outside.actions[..3].fill(-2.5);
    assert!((outside.share_outside(&pendulum) - 0.1).abs() < 1e-12 && recorded("cartpole").share_outside(&pendulum) == 0.0);
}

#[test]
fn a_bomb_is_not_unpacked() {
    let mut bytes = archive(&[("obs.npy", vec![0; 1 << 20]), ("acts.npy", array(Shape::from(1), &[0i64]))], true);
    let list = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    bytes[list + 24..list + 28].copy_from_slice(&0xf000_0000u32.to_le_bytes());
    let text = Demonstrations::decode(Path::new("bomb.npz"), &bytes, None).unwrap_err().to_string();
    assert!(text.contains("bomb.npz") && text.contains("cannot hold"), "{text}");
}
