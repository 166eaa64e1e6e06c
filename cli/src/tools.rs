//! Commands that look at the build rather than at a run.

use strait::env::Task;
use strait::train::{families, preset};
use strait::{DType, Device, Rng, Tensor, check, ops};

use crate::args::Python;
use crate::terminal::out;

/// `strait gradcheck`.
pub(crate) fn gradcheck() -> anyhow::Result<()> {
    let mut failed = 0;
    for (i, spec) in ops::all().enumerate() {
        let mut rng = Rng::new(i as u64);
        let inputs = spec.inputs.iter().map(|d| {
            let x = rng.uniform(d.low, d.high, d.shape, DType::F64, &Device::cpu())?.to_vec::<f64>()?;
            let clear = |v: f64| spec.kinks.iter().fold(v, |v, k| if (v - k).abs() < 1e-2 { k + 0.02 } else { v });
            Tensor::from_vec::<f64>(x.into_iter().map(clear).collect(), d.shape, &Device::cpu())
        });
        let inputs = inputs.collect::<strait::Result<Vec<_>>>()?;
        match check::gradcheck(spec.run, &inputs, 2) {
            Ok(()) => out!("ok      {}", spec.name)?,
            Err(error) => {
                failed += 1;
                out!("FAILED  {}: {error}", spec.name)?;
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} ops have wrong derivatives");
    Ok(())
}

/// `strait devices`.
pub(crate) fn devices() -> anyhow::Result<()> {
    let threads = rayon::current_num_threads();
    out!("cpu     {threads} threads")?;
    match strait::device::cuda::devices() {
        Ok(gpus) => gpus.into_iter().enumerate().try_for_each(|(i, gpu)| match gpu {
            Ok(gpu) => out!("cuda:{i}  {gpu}"),
            Err(error) => out!("cuda:{i}  not available: {error}"),
        }),
        Err(error) => out!("cuda:0  not available: {error}"),
    }
}

/// `strait presets`.
pub(crate) fn presets(name: Option<&str>) -> anyhow::Result<()> {
    if let Some(name) = name {
        return out!("{}", preset(name)?.trim_end());
    }
    for family in families() {
        out!("{}: {}", family.name, family.title)?;
        for (name, text) in family.presets {
            let about: Vec<&str> = text.lines().map_while(|l| l.strip_prefix("# ")).collect();
            out!("  {name}\n      {}", about.join("\n      "))?;
        }
    }
    Ok(())
}

/// `strait tasks list`.
pub(crate) fn tasks() -> anyhow::Result<()> {
    strait::env::TASKS.iter().try_for_each(|(_, about, task)| describe(&task(), about))
}

/// `strait tasks show`.
pub(crate) fn task(name: &str, python: &Python) -> anyhow::Result<()> {
    let built_in = strait::env::TASKS.iter().find(|(known, ..)| *known == name);
    let task = python.task(name)?;
    describe(&task, built_in.map_or(&task.versions, |(_, about, _)| about))
}

fn describe(task: &Task, about: &str) -> anyhow::Result<()> {
    let limit = task.horizon.map_or("no limit of time".into(), |horizon| format!("at most {horizon} steps"));
    out!("{}: {about}\n    observations {}, actions {}, {limit}", task.name, task.observations, task.actions)
}

/// `strait tasks bridge`.
pub(crate) fn bridge() -> anyhow::Result<()> {
    out!("{}", strait::env::external::GYMNASIUM_BRIDGE.trim_end())
}
