//! Imitation where episodes can end early: the sign of a learned reward says whether to live or to end, whatever was demonstrated.
//!
//! Demonstrations of CartPole that always push to the left fall after some nine steps. With rewards that are never below 0, GAIL learns to
//! balance from them, the opposite of imitation; with rewards that are never above 0 it cannot learn to balance from an expert. Episodes of
//! one length have neither fault (Kostrikov et al. 2019; Gleave et al. 2020).
//!
//! `cargo run --release --example 10_termination` takes a minute or two; with the argument `--quick` it shows the way and no result.

use strait::data::demonstrations::{Demonstrations, PathEnd};
use strait::env::{Envs, Task};
use strait::train::Run;
use strait::{Device, Result};

/// A run of rl, but for its length.
const SETTINGS: &str = r#"
task = "cartpole"
copies = 16
steps = 128
eval_episodes = 50
update = { kind = "ppo", minibatch = 256, learning_rate = 1e-3, schedule = { kind = "linear", to = 0.0 } }
"#;

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (iterations, seeds) = if quick { (1, 1) } else { (48, 2) };
    let folder = std::env::temp_dir().join(format!("strait-termination-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files can be made");
    let [good, fallen] = ["expert", "left"].map(|name| folder.join(format!("{name}.safetensors")));

    // An expert by PPO on the task's own reward, and a policy that always pushes to the left.
    let settings = format!("iterations = {iterations}{SETTINGS}");
    let mut expert = Run::new("rl", &settings, &Device::cpu())?;
    (0..iterations).try_for_each(|_| expert.step().map(drop))?;
    expert.trainer().demonstrations(50, 1, false)?.write(&good)?;
    always_left(50)?.write(&fallen)?;

    println!("steps of an episode (500 is the most)     expert     pushes left");
    for (form, termination) in [
        ("non_saturating", "plain"),
        ("saturating", "plain"),
        ("logit", "plain"),
        ("non_saturating", "fixed_horizon"),
        ("non_saturating", "absorbing"),
    ] {
        let mut line = format!("{form:<15} {termination:<14}");
        for demos in [&good, &fallen] {
            let mut found = Vec::new();
            for seed in 0..seeds {
                let reward = format!(
                    "reward = {{ kind = \"imitation\", demos = \"{}\", form = \"{form}\", beta = {{ kind = \"fixed\", value = 0.0 }} }}",
                    demos.display()
                );
                let settings = format!("termination = \"{termination}\"\nseed = {seed}\n{settings}{reward}");
                let mut run = Run::new("rl", &settings, &Device::cpu())?;
                (0..iterations).try_for_each(|_| run.step().map(drop))?;
                let values = run.evaluate()?;
                let steps = values.iter().find(|(name, _)| name == "test_episode_steps").map_or(f64::NAN, |(_, steps)| *steps);
                found.push(format!("{steps:.1}"));
            }
            line += &format!("{:>18}", found.join(", "));
        }
        println!("{line}");
    }
    // The demonstrations are of no further use.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

/// Episodes of CartPole in which every action pushes to the left.
fn always_left(paths: usize) -> Result<Demonstrations> {
    let task = Task::named("cartpole")?;
    let mut all = Demonstrations {
        task: Some(task.name.clone()),
        origin: "always to the left".into(),
        notes: Vec::new(),
        observation_width: task.observations.width(),
        action_width: 1,
        discrete: true,
        observations: Vec::new(),
        actions: Vec::new(),
        rewards: None,
        paths: Vec::new(),
    };
    for seed in 0..paths as u64 {
        let mut envs = Envs::new(&task, 1, seed)?;
        let mut steps = 0;
        loop {
            all.observations.extend_from_slice(envs.observations());
            all.actions.push(0.0);
            steps += 1;
            let stepped = envs.step(&[0.0])?;
            if stepped.terminated[0] {
                all.observations.extend_from_slice(&stepped.last);
                all.paths.push(PathEnd { steps, terminated: true });
                break;
            }
        }
    }
    Ok(all)
}
