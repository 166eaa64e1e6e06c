//! The metrics and pictures of a run of reinforcement learning: curves, and the paths of a ball through its maze.

use super::RlTrainer;
use crate::env::maze::Maze;
use crate::error::Result;
use crate::plot::Drawing;
use crate::plot::svg::{Axis, ScatterChart};
use crate::rl::{Acting, Path, play};
use crate::train::{Metric, MetricGroup};

/// Episodes that are drawn.
const EPISODES: usize = 5;
/// Dots of a wall of one metre.
const DOTS: f64 = 400.0;

/// The table of the family's metrics.
pub(super) const METRICS: &[MetricGroup] = &[MetricGroup::of(&[
    Metric::new("train_return", "return in training", "mean of the episodes that ended, not discounted, actions sampled").headline(),
    Metric::new("test_return", "return", "mean of new episodes, not discounted, actions sampled").headline(),
    Metric::new("test_return_deviation", "deviation of the return", "over these episodes"),
    Metric::new("test_episode_steps", "steps of an episode", "mean of these episodes"),
    Metric::new("test_mode_return", "return at the mode", "the same with the most probable actions").headline(),
    Metric::new("test_mode_return_deviation", "deviation at the mode", "over these episodes"),
    Metric::new("test_mode_episode_steps", "steps at the mode", "mean of these episodes"),
    Metric::new("train_policy_kl", "KL of updates", "KL(old policy || new), nats, mean of iterations"),
    Metric::new("train_entropy", "entropy", "of the policy, nats, mean of iterations"),
    Metric::new("train_explained_variance", "explained variance", "share of the returns' variance that the values explain"),
    Metric::new("expert_return", "return of the expert", "mean of the demonstrations"),
    Metric::new("train_accuracy_expert", "accuracy on the expert", "share of demonstrated steps that the discriminator tells right"),
    Metric::new("train_accuracy_policy", "accuracy on the policy", "share of the policy's steps that the discriminator tells right"),
    Metric::new("train_constrained_rate_nats", "constrained KL", "what I_c bounds: of demonstrations and policy, half each").headline(),
    Metric::new("beta", "beta", "the weight of the constraint").headline(),
    Metric::in_files("train_discriminator_loss"),
    Metric::in_files("train_discriminator_gradient_norm"),
    Metric::in_files("train_reward_mean"),
    Metric::in_files("train_log_sigma"),
    Metric::in_files("train_log_sigma_at_bound"),
    Metric::in_files("train_value_loss"),
    Metric::in_files("train_clipped"),
    Metric::in_files("train_policy_gradient_norm"),
    Metric::in_files("train_accepted"),
    Metric::in_files("train_backtracks"),
    Metric::in_files("train_episode_steps"),
])];

/// Adds the curves of training, and in a maze the paths of some episodes.
pub(super) fn draw(trainer: &RlTrainer, drawing: &mut Drawing) -> Result<()> {
    drawing.heading("Training");
    let returns = [
        ("iterations", "return"),
        ("evaluations", "test_return"),
        ("evaluations at the mode", "test_mode_return"),
        ("expert", "expert_return"),
    ];
    drawing.curve("return.svg", "Return", Axis::linear(""), &returns, "Sum of an episode's rewards, not discounted.");
    let steps = [("iterations", "episode_steps"), ("evaluations", "test_episode_steps")];
    drawing.curve("episode_steps.svg", "Steps of an episode", Axis::linear("").from_zero(), &steps, "");
    drawing.curve("policy_kl.svg", "KL of updates", Axis::log("nats"), &[("", "policy_kl")], "KL(old policy || new).");
    drawing.curve("entropy.svg", "Entropy of the policy", Axis::linear("nats"), &[("", "entropy")], "");
    let caption = "Share of the returns' variance that the values explain; 0 is as good as a constant.";
    drawing.curve("explained_variance.svg", "Explained variance", Axis::linear(""), &[("", "explained_variance")], caption);
    let accuracy = [("demonstrations", "accuracy_expert"), ("policy", "accuracy_policy")];
    drawing.curve("accuracy.svg", "Accuracy of the discriminator", Axis::linear("").from_zero(), &accuracy, "z sampled; a half is chance.");
    let caption = "KL divergence of z from the prior, of demonstrations and policy, half each.";
    drawing.curve("rate.svg", "Constrained KL", Axis::log("nats"), &[("", "constrained_rate_nats")], caption);
    drawing.curve("beta.svg", "beta", Axis::linear("").from_zero(), &[("", "step_beta")], "The weight of the constraint.");
    let caption = "Mean learned reward of a step, with z at its mean.";
    drawing.curve("reward.svg", "Learned reward", Axis::linear(""), &[("", "reward_mean")], caption);
    if let Some(maze) = Maze::of_task(&trainer.task.name) {
        let paths = play(&trainer.task, &trainer.agent.policy, Acting::Sampled, EPISODES, trainer.evaluation_seed())?;
        drawing.heading("Paths");
        drawing.svg("paths.svg", &chart(&maze, &paths).render(), "The ball in five new episodes, actions sampled. Lengths are in metres.");
    }
    Ok(())
}

/// Paths in a maze, each in a colour of its own.
fn chart(maze: &Maze, paths: &[Path]) -> ScatterChart {
    let mut points = Vec::new();
    for [from, to] in &maze.walls {
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        let dots = (DOTS * length).ceil().max(1.0);
        points.extend(
            (0..=dots as usize).map(|i| i as f64 / dots).map(|t| (from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1]), 0)),
        );
    }
    for (i, path) in paths.iter().enumerate() {
        points.extend(path.observations.chunks(path.width).map(|o| (f64::from(o[0]), f64::from(o[1]), i + 2)));
    }
    // Later points lie over earlier ones.
    points.push((maze.goal[0], maze.goal[1], 1));
    let names = ["walls", "goal"].map(String::from).into_iter().chain((1..=paths.len()).map(|i| format!("episode {i}")));
    let mut chart = ScatterChart::new("Paths", Axis::linear("x (m)"), Axis::linear("y (m)")).points(points);
    chart.names = names.collect();
    chart
}
