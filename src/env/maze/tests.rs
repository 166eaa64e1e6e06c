use std::path::Path;

use super::*;
use crate::env::Envs;
use crate::io::npy;

const MAZES: [&str; 4] = ["cmaze", "cmaze-flipped", "smaze", "smaze-flipped"];

/// A step of MuJoCo's.
struct Row {
    maze: &'static str,
    /// Whether it is the first of 100 that follow each other.
    first: bool,
    place: Point,
    speed: Point,
    seen: Point,
    action: [f32; 2],
    next_place: Point,
    next_speed: Point,
    next_seen: Point,
    reward: f64,
}

fn rows(version: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/mazes/mujoco-{version}.npy"));
    let numbers: Vec<f64> = bytemuck::pod_collect_to_vec(&npy::read(&path).unwrap().bytes);
    let row = |row: &[f64]| {
        let pair = |i: usize| [row[i], row[i + 1]];
        Row {
            maze: MAZES[row[0] as usize],
            first: row[1] == 1.0,
            place: pair(2),
            speed: pair(4),
            seen: pair(6),
            action: pair(8).map(|v| v as f32),
            next_place: pair(10),
            next_speed: pair(12),
            next_seen: pair(14),
            reward: row[16],
        }
    };
    numbers.chunks_exact(17).map(row).collect()
}

fn ball(name: &str, contacts: Contacts) -> Ball {
    let kind = kind(name).unwrap();
    Ball { place: kind.maze.start, speed: [0.0; 2], seen: kind.maze.start, contacts, kind }
}

fn apart(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).abs().max((a[1] - b[1]).abs())
}

/// MuJoCo 4 weights contacts by another mass.
#[test]
fn steps_are_those_of_mujoco() {
    for (version, weight) in [("2.3.7", 2.0 / 3.0), ("4.0.0", 1.0)] {
        let mut largest = 0.0f64;
        for row in rows(version) {
            let mut ball = ball(row.maze, Contacts { weight, ..CONTACTS });
            (ball.place, ball.speed, ball.seen) = (row.place, row.speed, row.seen);
            let outcome = ball.step(&row.action);
            largest = largest.max(apart(ball.place, row.next_place)).max(apart(ball.seen, row.next_seen));
            largest = largest.max(0.02 * apart(ball.speed, row.next_speed));
            assert!((outcome.reward - row.reward).abs() < 1e-6 && !outcome.terminated, "{}: {} {}", row.maze, outcome.reward, row.reward);
        }
        assert!(largest < 1e-7, "{version}: {largest:e}");
    }
}

/// 500 substeps, none of which starts from what MuJoCo had: at the walls most of the time.
#[test]
fn whole_episodes_are_those_of_mujoco() {
    for (version, weight) in [("2.3.7", 2.0 / 3.0), ("4.0.0", 1.0)] {
        let rows = rows(version);
        for start in (0..rows.len()).filter(|&i| rows[i].first) {
            let Some(episode) = rows.get(start..start + 100).filter(|rows| rows[1..].iter().all(|row| !row.first)) else { continue };
            // Not a whole one.
            if episode.windows(2).any(|pair| pair[0].next_place != pair[1].place) {
                continue;
            }
            let mut ball = ball(episode[0].maze, Contacts { weight, ..CONTACTS });
            (ball.place, ball.speed) = (episode[0].place, episode[0].speed);
            let mut largest = 0.0f64;
            for row in episode {
                ball.step(&row.action);
                largest = largest.max(apart(ball.place, row.next_place)).max(apart(ball.seen, row.next_seen));
            }
            assert!(largest < 1e-7, "{version} {}: {largest:e}", episode[0].maze);
        }
    }
}

/// Under any force the ball stays in the box, though walls give way.
#[test]
fn nothing_leaves_the_box() {
    for (name, ..) in crate::env::TASKS {
        let Some(kind) = kind(name) else { continue };
        let [low, high] = kind.maze.corners();
        let mut ball = ball(name, CONTACTS);
        ball.reset(Draw { key: 1, number: 0 });
        for i in 0..30_000u64 {
            let direction = Draw { key: 7, number: i / 40 };
            ball.step(&[0, 1].map(|axis| direction.between(axis, -20.0, 20.0) as f32));
            assert!((0..2).all(|k| ball.place[k] > low[k] && ball.place[k] < high[k]), "{name}: step {i}: {:?}", ball.place);
        }
    }
}

#[test]
fn a_ball_that_rests_at_a_wall_stays_there() {
    let mut ball = ball("cmaze", CONTACTS);
    for _ in 0..200 {
        ball.step(&[-1.0, -1.0]);
    }
    let corner = ball.place;
    ball.step(&[-1.0, -1.0]);
    assert!(apart(corner, ball.place) < 1e-12 && apart(corner, [-0.05, -0.05]) < 0.005, "{corner:?}");
    // Larger forces than the motor has change nothing but the reward.
    let before = ball.state();
    let reward = ball.step(&[-1.0, -1.0]).reward;
    ball.restore(&before).unwrap();
    assert!((reward - ball.step(&[-3.0, -1.0]).reward - 0.008).abs() < 1e-12);
    assert_eq!(corner.map(|v| (v * 1e9).round()), ball.place.map(|v| (v * 1e9).round()));
}

#[test]
fn mazes_are_found_by_their_tasks() {
    assert_eq!(Maze::of_task("cmaze").unwrap().walls.len(), 5);
    assert!(Maze::of_task("cartpole").is_none());
    let envs = Envs::new(&Task::named("smaze").unwrap(), 1, 0).unwrap();
    assert_eq!(envs.observations(), [0.0, 0.3]);
}
