//! Times of tasks, rollouts and updates of policies, and of whole iterations.
//!
//! `cargo bench --bench rl` measures all of them. With `--serve` the program reads names from its standard input and answers each with the
//! seconds of one unit of that work, for benches/peers/rl.py.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use strait::env::{Envs, Space, Task};
use strait::optim::{Algorithm, Optimizer};
use strait::rl::{Agent, AgentConfig, Discount, Idle, Improvement, Ppo, Rollout, Steps, Trpo, Update, ValueConfig, advantages};
use strait::train::Run;
use strait::{DType, Device, Result, Rng};

/// One unit of a piece of work.
type Unit = Box<dyn FnMut() -> Result<()>>;

/// A piece of work: its name, the environment steps of a unit, and its operands.
struct Work {
    name: &'static str,
    steps: u64,
    build: fn() -> Result<Unit>,
}

const COPIES: usize = 64;
const STEPS: usize = 200;

const WORK: &[Work] = &[
    Work { name: "envs_cartpole", steps: (COPIES * STEPS) as u64, build: || envs("cartpole") },
    Work { name: "envs_pendulum", steps: (COPIES * STEPS) as u64, build: || envs("pendulum") },
    Work { name: "envs_acrobot", steps: (COPIES * STEPS) as u64, build: || envs("acrobot") },
    Work { name: "envs_mountain_car", steps: (COPIES * STEPS) as u64, build: || envs("mountain-car") },
    Work { name: "envs_cmaze", steps: (COPIES * STEPS) as u64, build: || envs("cmaze") },
    Work { name: "envs_smaze", steps: (COPIES * STEPS) as u64, build: || envs("smaze") },
    Work { name: "rollout_cmaze", steps: 10_000, build: rollout },
    Work { name: "advantages", steps: 10_000, build: gae },
    Work { name: "trpo_cmaze", steps: 10_000, build: || update(Update::Trpo(Trpo { fisher_every: 5, ..Trpo::default() })) },
    Work { name: "ppo_epoch_cmaze", steps: 10_000, build: || update(Update::Ppo(Ppo { epochs: 1, minibatch: 500, ..Ppo::default() })) },
    Work { name: "ppo_cartpole", steps: 8 * 256, build: || iteration(PPO) },
    Work { name: "gail_cartpole", steps: 8 * 256, build: || iteration(GAIL) },
    Work { name: "vail_cartpole", steps: 8 * 256, build: || iteration(VAIL) },
];

/// 8 copies of 256 steps, 10 epochs of minibatches of 64 rows: what stable-baselines3 and CleanRL are given, too.
const PPO: &str = "iterations = 1_000_000\ncopies = 8\nsteps = 256\n\
                   policy = { network = { hidden = [64, 64], activation = \"tanh\" } }\n\
                   value = { kind = \"mlp\", hidden = [64, 64], activation = \"tanh\" }\n\
                   update = { kind = \"ppo\", epochs = 10, minibatch = 64, learning_rate = 3e-4 }\n";
/// With 4 updates of the discriminator on 1,024 rows of either kind, as the package imitation has them.
const GAIL: &str = "discriminator = { kind = \"gail\" }, beta = { kind = \"fixed\", value = 0.0 }";
const VAIL: &str = "discriminator = { kind = \"gail\", network = { latent = 32 } }";

/// Steps of many copies by actions that are made before.
fn envs(name: &str) -> Result<Unit> {
    let task = Task::named(name)?;
    let mut envs = Envs::new(&task, COPIES, 1)?;
    let mut rng = Rng::new(2);
    let actions: Vec<Vec<f32>> = (0..STEPS).map(|_| random(&task.actions, COPIES, &mut rng)).collect::<Result<_>>()?;
    Ok(Box::new(move || {
        actions.iter().try_for_each(|actions| {
            envs.step(actions).map(|stepped| {
                black_box(stepped);
            })
        })
    }))
}

fn random(space: &Space, copies: usize, rng: &mut Rng) -> Result<Vec<f32>> {
    let shape = [copies * space.width()];
    match space {
        Space::Discrete { count } => {
            let drawn = rng.uniform(0.0, *count as f64, shape, DType::F32, &Device::cpu())?.to_vec::<f32>()?;
            Ok(drawn.into_iter().map(|v| v.floor().min((*count - 1) as f32)).collect())
        }
        Space::Box { low, high } => rng.uniform(f64::from(low[0]), f64::from(high[0]), shape, DType::F32, &Device::cpu())?.to_vec::<f32>(),
    }
}

/// The agent of the mazes: 32-32 tanh, and 100 copies.
fn maze_agent() -> Result<(Agent, Envs, Rng)> {
    let (task, mut rng) = (Task::named("cmaze")?, Rng::new(1));
    let mut config = AgentConfig { value: ValueConfig::Linear(Default::default()), ..AgentConfig::default() };
    config.policy.network.hidden = vec![32, 32];
    let agent = Agent::new(&config, &task, &mut rng, DType::F32, &Device::cpu())?;
    Ok((agent, Envs::new(&task, 100, 1)?, rng))
}

fn rollout() -> Result<Unit> {
    let (agent, mut envs, mut rng) = maze_agent()?;
    Ok(Box::new(move || Rollout::collect(&mut envs, &agent.policy, 100, &mut rng).map(|rollout| drop(black_box(rollout)))))
}

fn gae() -> Result<Unit> {
    let (agent, mut envs, mut rng) = maze_agent()?;
    let rollout = Rollout::collect(&mut envs, &agent.policy, 100, &mut rng)?;
    let values = vec![0.5; rollout.rows()];
    Ok(Box::new(move || {
        let steps = Steps { copies: 100, rewards: &rollout.rewards, terminated: &rollout.terminated, truncated: &rollout.truncated };
        advantages(&Discount::default(), steps, &values, &values).map(|found| drop(black_box(found)))
    }))
}

/// Improvements of the same agent by the same rollout.
fn update(update: Update) -> Result<Unit> {
    let (mut agent, mut envs, mut rng) = maze_agent()?;
    let rollout = Rollout::collect(&mut envs, &agent.policy, 100, &mut rng)?;
    let trained = update.optimized(&agent);
    let mut optimizer = if trained.is_empty() { None } else { Some(Optimizer::new(Algorithm::adam(), &trained)?) };
    let rule = Improvement { update, ..Improvement::default() };
    Ok(Box::new(move || {
        let rewards = &rollout.rewards;
        match &mut optimizer {
            Some(optimizer) => rule.improve(&mut agent, &rollout, rewards, 0, optimizer, &mut rng).map(drop),
            None => rule.improve(&mut agent, &rollout, rewards, 0, &mut Idle, &mut rng).map(drop),
        }
    }))
}

/// Whole iterations on CartPole, with a learned reward if `discriminator` is one.
fn iteration(settings: &str) -> Result<Unit> {
    if settings == PPO {
        let mut run = Run::new("rl", PPO, &Device::cpu())?;
        return Ok(Box::new(move || run.step().map(drop)));
    }
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let demos = folder.path().join("demos.safetensors");
    Run::new("rl", PPO, &Device::cpu())?.trainer().demonstrations(60, 1, false)?.write(&demos)?;
    let reward = format!("reward = {{ kind = \"imitation\", demos = {demos:?}, updates = 4, batch = 1024, {settings} }}\n");
    let mut run = Run::new("rl", &format!("{PPO}{reward}"), &Device::cpu())?;
    Ok(Box::new(move || run.step().map(drop)))
}

/// Answers names with the seconds of a unit.
fn serve() -> Result<()> {
    let mut ready: Vec<(&str, Unit)> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a name in a line");
        let work = WORK.iter().find(|work| work.name == line.trim()).unwrap_or_else(|| panic!("no work is called {line}"));
        if !ready.iter().any(|(name, _)| *name == work.name) {
            ready.push((work.name, (work.build)()?));
        }
        let (_, unit) = ready.iter_mut().find(|(name, _)| *name == work.name).expect("it was added");
        let start = Instant::now();
        unit()?;
        println!("{}", start.elapsed().as_secs_f64());
        std::io::stdout().flush().expect("standard output is read");
    }
    Ok(())
}

fn main() {
    rayon::ThreadPoolBuilder::new().use_current_thread().build_global().expect("no pool yet");
    if std::env::args().any(|argument| argument == "--serve") {
        return serve().expect("work that runs");
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("rl");
    for work in WORK {
        let mut unit = None;
        group.throughput(Throughput::Elements(work.steps));
        group.bench_function(work.name, |b| {
            let unit = unit.get_or_insert_with(|| (work.build)().expect("operands that fit"));
            b.iter(|| unit().expect("work that runs"));
        });
    }
    group.finish();
    criterion.final_summary();
}
