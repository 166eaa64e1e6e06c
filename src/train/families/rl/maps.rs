//! Pictures and numbers of learned rewards: maps of mazes, logits, and rewards along episodes.

use super::learned::LearnedReward;
use crate::device::Device;
use crate::dtype::DType;
use crate::env::Task;
use crate::env::maze::{Maze, Point};
use crate::error::Result;
use crate::metrics::rank_correlation;
use crate::models::imitation::Transitions;
use crate::plot::png::{heat, heat_map};
use crate::plot::svg::{Axis, LineChart, PlaneChart, PlaneLine, Series};
use crate::rl::{Path, transitions_of};
use crate::tensor::Tensor;

/// Cells of the longer side of a map, and of both sides of the grid over which ranks are compared.
const CELLS: usize = 150;
const RANKED: usize = 40;
/// Pixels of the longer side of a map.
const SIDE: f64 = 360.0;
/// Bins of a histogram.
const BINS: usize = 40;
/// Shares of the values between which a map has its colours: what a reward is in far corners would hide all else.
const SHOWN: [f64; 2] = [0.02, 1.0];
/// Shares of the logits between which they are counted: a few are far away where densities are.
const COUNTED: [f64; 2] = [0.01, 0.99];
/// Pixels of walls, which are 0.04 m thick, and of paths.
const WALL: f64 = 5.0;
const PATH: f64 = 1.5;

/// The walls of a maze, the reward at each place if one is learned, and paths of a ball.
///
/// # Errors
/// Those of the reward.
pub(super) fn map(maze: &Maze, task: &Task, reward: Option<&LearnedReward>, paths: &[Path], device: &Device) -> Result<PlaneChart> {
    let [low, high] = maze.corners();
    let extent = [high[0] - low[0], high[1] - low[1]];
    let longest = extent[0].max(extent[1]);
    let [columns, rows] = extent.map(|side| (CELLS as f64 * side / longest).round().max(1.0) as usize);
    let mut chart = PlaneChart::new("", [low[0], high[0], low[1], high[1]], Vec::new(), SIDE);
    chart.axes = ["x (m)", "y (m)"].map(String::from);
    if let Some(reward) = reward {
        // The first row is the top one.
        let places: Vec<Point> =
            (0..rows).rev().flat_map(|y| (0..columns).map(move |x| [x, y])).map(|at| place(maze, at, [columns, rows])).collect();
        let values = rewards_at(reward, task, &places, device)?;
        let range = shares(&mut values.clone(), SHOWN);
        chart.panels[0].1 = heat_map(&values, columns, range)?;
        let label = if reward.is_of_states() { "reward" } else { "reward at action 0" };
        chart = chart.bar(format!("{label} (bottom: or less)"), range, heat);
    }
    let line = |points, color, width| PlaneLine { points, color, width };
    chart.lines.extend(maze.walls.iter().map(|wall| line(wall.map(|[x, y]| (x, y)).into(), None, WALL)));
    for (i, path) in paths.iter().enumerate() {
        let points = path.observations.chunks(path.width).map(|o| (f64::from(o[0]), f64::from(o[1]))).collect();
        chart.lines.push(line(points, Some(i), PATH));
    }
    let arm = longest / 60.0;
    let cross = |[x, y]: Point, sign: f64| vec![(x - arm, y - sign * arm), (x + arm, y + sign * arm)];
    chart.lines.extend([1.0, -1.0].map(|sign| line(cross(maze.goal, sign), None, 3.0)));
    Ok(chart)
}

/// The rank correlation of the reward with minus the length of the true way to the goal, over a grid of places: 1 for a reward that rises
/// all along the way.
///
/// # Errors
/// Those of the reward.
pub(super) fn agreement(maze: &Maze, task: &Task, reward: &LearnedReward, device: &Device) -> Result<f64> {
    let places: Vec<Point> = (0..RANKED * RANKED).map(|i| place(maze, [i % RANKED, i / RANKED], [RANKED; 2])).collect();
    let nearness: Vec<f64> = maze.ways(&places).iter().map(|way| -way).collect();
    Ok(rank_correlation(&rewards_at(reward, task, &places, device)?, &nearness))
}

/// The values below which these shares of all lie; sorts them.
fn shares(values: &mut [f64], shares: [f64; 2]) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    shares.map(|share| values[((values.len() - 1) as f64 * share) as usize])
}

/// The middle of a cell of a maze that is divided into so many of them.
fn place(maze: &Maze, cell: [usize; 2], count: [usize; 2]) -> Point {
    let [low, high] = maze.corners();
    [0, 1].map(|i| low[i] + (high[i] - low[i]) * (cell[i] as f64 + 0.5) / count[i] as f64)
}

/// The rewards of staying at places without a force. Where a reward needs a density, that is 1.
fn rewards_at(reward: &LearnedReward, task: &Task, places: &[Point], device: &Device) -> Result<Vec<f64>> {
    let rows = places.len();
    let observations: Vec<f32> = places.iter().flatten().map(|v| *v as f32).collect();
    let observations = Tensor::from_vec(observations, [rows, 2], device)?;
    reward
        .rewards(&Transitions {
            actions: Tensor::zeros([rows, task.actions.width()], DType::F32, device)?,
            next_observations: observations.clone(),
            terminated: Tensor::zeros([rows], DType::F32, device)?,
            log_probs: Some(Tensor::zeros([rows], DType::F64, device)?),
            observations,
        })?
        .to_f64_vec()
}

/// The shares of logits of demonstrations and of the policy's steps: what a bottleneck makes them share.
///
/// # Errors
/// Those of the discriminator.
pub(super) fn logits(reward: &LearnedReward, expert: &Transitions, paths: &[Path], device: &Device) -> Result<LineChart> {
    let sets = [("demonstrations", reward.logits(expert)?), ("policy", reward.logits(&transitions_of(paths, device)?)?)];
    let sets = sets.map(|(name, logits)| logits.to_f64_vec().map(|values| (name, values)));
    let [expert, policy] = sets;
    let sets = [expert?, policy?];
    let mut all: Vec<f64> = sets.iter().flat_map(|(_, values)| values).copied().collect();
    let [low, high] = shares(&mut all, COUNTED);
    let step = ((high - low) / BINS as f64).max(f64::MIN_POSITIVE);
    let mut chart = LineChart::new("Logits of the discriminator", Axis::linear("logit"), Axis::linear("share").from_zero());
    for (name, values) in &sets {
        let mut counts = [0.0; BINS];
        // A float becomes the nearest integer that there is, so that the bins at the ends have what lies beyond them, too.
        values.iter().for_each(|v| counts[(((v - low) / step) as usize).min(BINS - 1)] += 1.0 / values.len() as f64);
        // A bin is flat from its left to its right end.
        let points = counts.iter().enumerate().flat_map(|(i, share)| [i, i + 1].map(|edge| (low + step * edge as f64, *share)));
        chart = chart.with(Series::new(*name, points.collect()));
    }
    Ok(chart)
}

/// The learned reward of each step of one demonstration and of one of the policy's episodes.
///
/// # Errors
/// Those of the reward.
pub(super) fn along(reward: &LearnedReward, expert: &Transitions, steps: usize, path: &Path, device: &Device) -> Result<LineChart> {
    let own = transitions_of(std::slice::from_ref(path), device)?;
    let mut chart = LineChart::new("Learned reward along an episode", Axis::linear("step"), Axis::linear(""));
    for (name, rewards) in [("demonstration", reward.rewards(expert)?), ("policy", reward.rewards(&own)?)] {
        let points = rewards.to_f64_vec()?.into_iter().take(if name == "policy" { path.steps() } else { steps });
        chart = chart.with(Series::new(name, points.enumerate().map(|(i, value)| (i as f64, value)).collect()));
    }
    Ok(chart)
}
