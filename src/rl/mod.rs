//! Reinforcement learning: rollouts of a policy, advantages, and what makes the policy better.
//!
//! An [`Agent`] is a policy with the values that judge it. [`Rollout::collect`] lets it act, and [`Improvement::improve`] makes it better
//! by [`Ppo`] or [`Trpo`], for the rewards of the task or any others. Clones of behaviour ([`BehavioralCloning`]) need no rewards.
//!
//! ```
//! use strait::env::{Envs, Task};
//! use strait::optim::{Algorithm, Optimizer};
//! use strait::rl::{Agent, AgentConfig, Improvement, Rollout};
//! use strait::{DType, Device, Rng};
//! let (task, mut rng) = (Task::named("cartpole")?, Rng::new(0));
//! let mut envs = Envs::new(&task, 8, 0)?;
//! let mut agent = Agent::new(&AgentConfig::default(), &task, &mut rng, DType::F32, &Device::cpu())?;
//! let rule = Improvement::default(); // PPO
//! let mut optimizer = Optimizer::new(Algorithm::adam(), &rule.update.optimized(&agent))?;
//! for iteration in 0..2 {
//!     let rollout = Rollout::collect(&mut envs, &agent.policy, 64, &mut rng)?;
//!     rule.improve(&mut agent, &rollout, &rollout.rewards, iteration, &mut optimizer, &mut rng)?;
//! }
//! # Ok::<(), strait::Error>(())
//! ```

mod advantage;
mod agent;
mod cloning;
mod descent;
mod entropy;
mod figures;
mod improvement;
mod paths;
mod play;
mod ppo;
mod replay;
mod rollout;
mod trpo;

pub use advantage::{Advantages, Discount, Steps, TimeLimit, advantages};
pub use agent::{Agent, AgentConfig, Batch, Value, ValueConfig};
pub use cloning::BehavioralCloning;
pub use descent::{Descent, Idle, minibatches};
pub use entropy::Entropy;
pub use figures::UpdateFigures;
pub use improvement::{Improvement, Update};
pub use paths::{Path, transitions_of};
pub use play::{Acting, Evaluation, evaluate, evaluate_random, play};
pub use ppo::Ppo;
pub use replay::{PathReplay, PathReplayConfig};
pub use rollout::Rollout;
pub use trpo::{Trpo, ValueFit, conjugate_gradients};
