//! Measuring the lines of the table of tiles: how the products of a case are divided best.

use std::cell::RefCell;
use std::collections::HashSet;

use serde_json::{Value, json};
use strait::device::cuda::tiles::{Table, force};
use strait::device::cuda::work::Work;
use strait::{Device, Result, Rng};

use super::Options;
use super::cases::{Case, Place};
use super::measure::time;

/// Repetitions of a measurement: there are several for each product, of which only the order counts.
const REPETITIONS: usize = 8;
/// The share of its time that a division must save to be taken instead of the model's.
const GAIN: f64 = 0.02;

thread_local! {
    /// What this process has measured.
    static DONE: RefCell<HashSet<Work>> = RefCell::default();
}

/// Whether a case has products to divide.
pub fn wants(case: &Case) -> bool {
    ["matmul_", "linear_", "conv2d_", "conv_transpose2d_"].iter().any(|id| case.id.starts_with(id))
}

/// The new lines for a case's products, by the time that they take, or by the model.
pub fn one(case: &Case, gpu: &Device, options: &Options) -> Result<Value> {
    let device = gpu.with_precision(case.kind.precision());
    let mut job = case.build(Place { device, fixed: false }, case.kind.dtype())?;
    force(None);
    drop((job.run)(0, &mut Rng::new(1))?);
    let mut table = Table::built_in();
    let mut lines = Vec::new();
    for work in force(None) {
        if !DONE.with_borrow_mut(|done| done.insert(work)) {
            continue;
        }
        let (mut us, mut model_us) = (f64::NAN, f64::NAN);
        if options.model {
            table.modelled(&work);
        } else {
            let mut best = None;
            for cut in table.candidates(&work) {
                force(Some((work, cut)));
                let (found, _) = time(&mut job, &device, REPETITIONS.min(options.repetitions))?;
                if best.is_none() {
                    model_us = found;
                }
                // The model's own comes first.
                if best.is_none() || found < us && found < model_us * (1.0 - GAIN) {
                    (us, best) = (found, Some(cut));
                }
            }
            force(None);
            let Device::Cuda(cuda) = device else { unreachable!("a GPU") };
            if let Some(cut) = best {
                table.measured(&work, cuda.capability(), cut);
            }
        }
        lines.push(json!({ "line": table.line(&work), "us": us, "model_us": model_us }));
    }
    Ok(json!({ "lines": lines }))
}
