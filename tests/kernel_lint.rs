//! How the hot kernels use memory: sectors of global memory per request and passes over the banks of shared memory, counted by the
//! emulated driver per source line, against the fewest that the same bytes need.
//!
//! `cargo test --release --features emulator --test kernel_lint -- --nocapture` prints the table.
#![cfg(feature = "emulator")]

use std::process::Command;

use strait::device::Precision;
use strait::nn::{Param, Params};
use strait::ops::{ConvOptions, Estimator, MmdKernel, Noise};
use strait::optim::{Algorithm, Optimizer};
use strait::{Activation, DType, Device, Draw, Result, Rng, Tensor, grad};

const CHILD: &str = "STRAIT_TEST_LINT";

/// What a line costs at most, relative to the ideal.
const MOST: f64 = 1.25;

/// Files whose lines may cost more, how much, and why.
const ALLOWED: &[(&str, f64, &str)] = &[
    (
        "pairwise.cu",
        4.0,
        "the transposing store of a tile: its lines are aligned to 16 bytes for the reads, which are sixteen times as many",
    ),
    ("conv_tensor", 4.0, "a table that a block writes once, of 16 bytes an entry, which the emulator's compiler writes 4 at a time"),
    ("conv", 3.0, "pixels next to a border leave sectors half used; the transposing store of a tile"),
    ("tensor.cuh", 2.0, "a tile's results are exchanged once, for whole lines in global memory"),
];

fn normal(seed: u64, shape: &[usize], gpu: &Device) -> Result<Tensor> {
    Rng::new(seed).normal(shape, DType::F32, gpu)
}

/// The hot kernels, at sizes that fill warps.
fn work(gpu: &Device) -> Result<()> {
    let x = normal(1, &[64, 256], gpu)?.requires_grad();
    drop(x.softplus()?.mul(&x)?.to_vec::<f32>()?);
    let b = x.bottleneck(5.0, 1, Noise::Draw(Draw { key: 1, number: 2 }))?;
    grad(&b.z.sum_all()?.add(&b.kl.mean_all()?)?, &[&x])?;
    let labels = Tensor::from_slice(&[3i64; 64], [64], gpu)?;
    grad(&x.softmax_cross_entropy(&labels, 0.0)?.mean_all()?, &[&x])?;
    let (x, y) = (normal(2, &[128, 64], gpu)?.requires_grad(), normal(3, &[128, 64], gpu)?);
    grad(&x.mmd2(&y, &MmdKernel::Rbf(vec![8.0]), Estimator::Unbiased)?, &[&x])?;
    let tensor = gpu.with_precision(Precision::F32x3);
    grad(&x.to_device(&tensor)?.mmd2(&y.to_device(&tensor)?, &MmdKernel::Rbf(vec![8.0]), Estimator::Unbiased)?, &[&x])?;
    let (x, w, bias) =
        (normal(4, &[128, 256], gpu)?.requires_grad(), normal(5, &[128, 256], gpu)?.requires_grad(), normal(6, &[128], gpu)?);
    grad(&x.linear(&w, Some(&bias), Activation::Relu)?.sum_all()?, &[&x, &w])?;
    let (x, w) = (normal(7, &[4, 16, 16, 16], gpu)?.requires_grad(), normal(8, &[32, 16, 3, 3], gpu)?.requires_grad());
    grad(&x.conv2d(&w, None, ConvOptions { padding: [1, 1], ..ConvOptions::default() })?.sum_all()?, &[&x, &w])?;
    let tensor_cores = gpu.with_precision(Precision::F32x3);
    let (x, w) = (normal(7, &[4, 16, 16, 16], &tensor_cores)?.requires_grad(), normal(8, &[32, 16, 3, 3], &tensor_cores)?.requires_grad());
    grad(&x.conv2d(&w, None, ConvOptions { padding: [1, 1], ..ConvOptions::default() })?.sum_all()?, &[&x, &w])?;
    let mut params = Params::default();
    params.push("weight".into(), &Param::new(&normal(9, &[8192], gpu)?));
    Optimizer::new(Algorithm::adam(), &params)?.step(&[normal(10, &[8192], gpu)?], 1e-3)
}

#[test]
fn hot_kernels_waste_no_memory_traffic() {
    if std::env::var_os(CHILD).is_some() {
        work(&Device::cuda(0).unwrap()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lint.txt");
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hot_kernels_waste_no_memory_traffic", "--nocapture"])
        .envs([(CHILD, "1"), ("STRAIT_EMU", "race"), ("STRAIT_EMU_LINT", "1")])
        .env("STRAIT_EMU_LINT_REPORT", &path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let report = std::fs::read_to_string(&path).expect("a report");
    let mut wrong = Vec::new();
    for line in report.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [.., place, space, access, requests, units, ideal] = fields[..] else { panic!("{line}") };
        let [requests, units, ideal] = [requests, units, ideal].map(|n| n.parse::<f64>().unwrap());
        let cost = units / ideal.max(1.0);
        println!("{place:34} {space:6} {access:5} {requests:9} requests, {:6.2} each, {cost:5.2} times the ideal", units / requests);
        let file = place.rsplit('/').next().unwrap_or(place);
        let most = ALLOWED.iter().find(|(allowed, ..)| file.starts_with(allowed)).map_or(MOST, |(_, most, _)| *most);
        if cost > most + 1e-9 {
            wrong.push(format!("{place} {space} {access}: {cost:.2} times the ideal"));
        }
    }
    assert!(report.lines().count() > 20, "{report}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
