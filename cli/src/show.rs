//! `strait report` and `strait eval`.

use std::collections::BTreeMap;

use strait::Device;

use crate::args::Existing;
use crate::folder::RunFolder;
use crate::report::progress::Working;
use crate::report::record::Number;
use crate::results::{draw, draw_metrics, print};
use crate::seeds;
use crate::terminal::out;

/// `strait report`.
pub(crate) fn report(existing: &Existing) -> anyhow::Result<()> {
    if seeds::is_root(&existing.folder) {
        return seeds::report(existing);
    }
    let device: Device = existing.device.parse()?;
    let folder = RunFolder::open(&existing.folder)?;
    let (mut run, has_checkpoint) = folder.load(&device, &folder.changes(existing)?)?;
    folder.tell_of_others(&run);
    if has_checkpoint {
        draw(&folder, &mut run)?;
    } else {
        draw_metrics(&folder, &run)?;
    }
    out!("{}", folder.html().display())
}

/// `strait eval`.
pub(crate) fn eval(existing: &Existing, json: bool) -> anyhow::Result<()> {
    let device: Device = existing.device.parse()?;
    let folder = RunFolder::open(&existing.folder)?;
    let mut run = folder.load_trained(&device, &folder.changes(existing)?)?;
    let values = {
        let _working = Working::new("evaluating");
        run.evaluate()?
    };
    if json {
        let values: BTreeMap<String, Number> = values.into_iter().map(|(name, value)| (name, Number(value))).collect();
        return out!("{}", serde_json::to_string(&values)?);
    }
    print(&run.trainer().results(&values))
}
