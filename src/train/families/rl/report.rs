//! The metrics and pictures of a run of reinforcement learning.

use super::teacher::Teacher;
use super::{RlTrainer, maps};
use crate::env::maze::Maze;
use crate::error::Result;
use crate::plot::Drawing;
use crate::plot::svg::Axis;
use crate::rl::{Acting, play};
use crate::train::{Metric, MetricGroup};

/// Episodes that are drawn.
const EPISODES: usize = 5;

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
    Metric::new("random_return", "return of random actions", "mean of new episodes, actions drawn evenly from their bounds"),
    Metric::new("test_score", "score", "(return - random) / (expert - random): 0 is random, 1 is the expert").headline(),
    Metric::new("reward_agreement", "agreement of the reward", "rank correlation with minus the way to the goal, over a grid of the maze"),
    Metric::new("train_accuracy_expert", "accuracy on the expert", "share of demonstrated steps that the discriminator tells right"),
    Metric::new("train_accuracy_policy", "accuracy on the policy", "share of the policy's steps that the discriminator tells right"),
    Metric::new("train_constrained_rate_nats", "constrained KL", "what I_c bounds: of demonstrations and policy, half each").headline(),
    Metric::new("beta", "beta", "the weight of the constraint").headline(),
    Metric::new("train_cloning_loss", "cloning loss", "-log pi(a|s) of demonstrated actions, nats").headline(),
    Metric::in_files("constraint_nats"),
    Metric::in_files("train_rate_g_nats"),
    Metric::in_files("train_rate_h_nats"),
    Metric::in_files("train_rate_h_next_nats"),
    Metric::in_files("train_reward_deviation"),
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

/// Adds the curves of training, a map of a maze with the paths of some episodes, and pictures of a learned reward.
pub(super) fn draw(trainer: &RlTrainer, drawing: &mut Drawing) -> Result<()> {
    drawing.heading("Training");
    let returns = [
        ("iterations", "return"),
        ("evaluations", "test_return"),
        ("evaluations at the mode", "test_mode_return"),
        ("expert", "expert_return"),
        ("random actions", "random_return"),
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
    let caption = "KL divergence of z from the prior, of demonstrations and policy, half each, and its bound.";
    let rate = [("KL", "constrained_rate_nats"), ("I_c", "constraint_nats")];
    drawing.curve("rate.svg", "Constrained KL", Axis::log("nats"), &rate, caption);
    drawing.curve("beta.svg", "beta", Axis::linear("").from_zero(), &[("", "step_beta")], "The weight of the constraint.");
    drawing.curve(
        "cloning_loss.svg",
        "Cloning loss",
        Axis::linear("nats"),
        &[("", "cloning_loss")],
        "-log pi(a|s) of demonstrated actions.",
    );
    let caption = "Mean learned reward of a step, with z at its mean.";
    drawing.curve("reward.svg", "Learned reward", Axis::linear(""), &[("", "reward_mean")], caption);
    let (task, policy) = (&trainer.task, &trainer.agent.policy);
    let paths = play(task, policy, Acting::Sampled, EPISODES, trainer.evaluation_seed())?;
    let (learned, device) = (trainer.teacher.learned(), policy.device());
    if let Some(maze) = Maze::of_task(&task.name) {
        let chart = maps::map(&maze, task, learned.filter(|reward| reward.is_readable_at_places()), &paths, &device)?;
        drawing.heading("The maze");
        let caption = "The walls, the goal as a cross, and the ball in five new episodes with sampled actions; below them the learned reward, if there is one.";
        drawing.svg("maze.svg", &chart.render(), caption);
    }
    if let Teacher::Imitation(imitation) = &trainer.teacher {
        let expert = imitation.expert(policy)?;
        drawing.heading("The learned reward");
        let caption = "With z at its mean: of all demonstrations, and of the policy in five new episodes. The first and the last bin have what lies beyond them, too.";
        drawing.svg("logits.svg", &maps::logits(&imitation.learned, &expert, &paths, &device)?.render(), caption);
        let chart = maps::along(&imitation.learned, &expert, imitation.first_path(), &paths[0], &device)?;
        drawing.svg("along.svg", &chart.render(), "The first demonstration and the first new episode.");
    }
    Ok(())
}
