//! A task of one's own, and proximal policy optimisation on it; or on a built-in task, named by an argument: `-- cartpole`.

use strait::env::{Env, Envs, Outcome, Space, Task, copy_state};
use strait::optim::{Algorithm, Optimizer, Schedule};
use strait::rl::{Acting, Agent, AgentConfig, Improvement, Ppo, Rollout, Update, evaluate};
use strait::{DType, Device, Draw, Rng};

/// A sledge on a line, pushed by the action, which is to come to rest at 0. All that there is of it is its place and its speed.
#[derive(Default)]
struct Sledge([f64; 2]);

impl Env for Sledge {
    fn observation(&self, out: &mut [f32]) {
        out.copy_from_slice(&self.0.map(|x| x as f32));
    }
    fn reset(&mut self, draw: Draw) {
        self.0 = [draw.between(0, -1.0, 1.0), 0.0];
    }
    fn step(&mut self, action: &[f32]) -> Outcome {
        let [place, speed] = &mut self.0;
        *speed = 0.95 * *speed + 0.1 * f64::from(action[0].clamp(-1.0, 1.0));
        *place += 0.1 * *speed;
        Outcome { reward: -place.abs(), terminated: place.abs() > 2.0, truncated: false }
    }
    fn state(&self) -> Vec<f64> {
        self.0.to_vec()
    }
    fn restore(&mut self, state: &[f64]) -> strait::Result<()> {
        copy_state("sledge", &mut self.0, state)
    }
}

fn sledge() -> Task {
    Task::new("sledge", Space::between(-3.0, 3.0, 2), Space::between(-1.0, 1.0, 1), Sledge::default).with_horizon(100)
}

fn main() -> strait::Result<()> {
    let task = std::env::args().nth(1).map_or_else(|| Ok(sledge()), |name| Task::named(&name))?;
    let iterations = 48;
    let schedule = Schedule::Linear { to: 0.0, over: iterations };
    let ppo = Ppo { minibatch: 256, learning_rate: 1e-3, schedule, ..Ppo::default() };
    let rule = Improvement { update: Update::Ppo(ppo), ..Improvement::default() };

    let (mut rng, mut envs) = (Rng::new(0), Envs::new(&task, 16, 0)?);
    let mut agent = Agent::new(&AgentConfig::default(), &task, &mut rng, DType::F32, &Device::cpu())?;
    let mut optimizer = Optimizer::new(Algorithm::adam(), &rule.update.optimized(&agent))?;
    for iteration in 0..iterations {
        let rollout = Rollout::collect(&mut envs, &agent.policy, 128, &mut rng)?;
        let figures = rule.improve(&mut agent, &rollout, &rollout.rewards, iteration, &mut optimizer, &mut rng)?;
        if iteration % 8 == 7 {
            let steps = (iteration + 1) * 16 * 128;
            let reached = rollout.mean_return().unwrap_or(f64::NAN);
            println!("{steps:>6} steps: return {reached:>7.2}, entropy {:.3} nats, KL {:.4} nats", figures.entropy, figures.policy_kl);
        }
    }
    let found = evaluate(&task, &agent.policy, Acting::Mode, 20, 1)?;
    println!("most probable actions: return {:.2} +- {:.2} over 20 episodes", found.mean(), found.deviation());
    Ok(())
}
