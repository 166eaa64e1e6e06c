//! Figures of an update.

/// Figures of an update. What a rule does not have is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UpdateFigures {
    /// KL(old || new) in nats: the mean in closed form of TRPO, the estimate in the last minibatch of PPO. 0 where a step was rejected.
    pub policy_kl: f64,
    /// The mean entropy of the policy before the update, in nats.
    pub entropy: f64,
    /// The mean of log sigma after the update, of a Gaussian policy.
    pub log_sigma: Option<f64>,
    /// The share of an action's numbers whose log sigma is at a bound after the update, of a Gaussian policy.
    pub log_sigma_at_bound: Option<f64>,
    /// The share of the targets' variance that the values explained before the update.
    pub explained_variance: f64,
    /// The mean squared error of a value network over the minibatches.
    pub value_loss: Option<f64>,
    /// PPO: the share of ratios beyond the clip, a mean over minibatches.
    pub clipped: Option<f64>,
    /// The norm of the gradient before it is cut: the mean over minibatches of PPO, that of the surrogate of TRPO.
    pub gradient_norm: Option<f64>,
    /// TRPO: whether the step was accepted.
    pub accepted: Option<bool>,
    /// TRPO: the number of times that the step was shortened.
    pub backtracks: Option<f64>,
}

impl UpdateFigures {
    /// Names and values of the figures that there are.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("policy_kl", Some(self.policy_kl)),
            ("entropy", Some(self.entropy)),
            ("log_sigma", self.log_sigma),
            ("log_sigma_at_bound", self.log_sigma_at_bound),
            ("explained_variance", Some(self.explained_variance)),
            ("value_loss", self.value_loss),
            ("clipped", self.clipped),
            ("policy_gradient_norm", self.gradient_norm),
            ("accepted", self.accepted.map(|accepted| f64::from(u8::from(accepted)))),
            ("backtracks", self.backtracks),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
