//! Times of single operations, and of the bookkeeping around them.

mod cases;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use strait::{DType, Device, Tensor, grad};

fn operations(c: &mut Criterion) {
    cases::bench(c, cases::Suite::Operations);
}

/// What an op costs besides its arithmetic: on one element there is none.
fn bookkeeping(c: &mut Criterion) {
    let x = Tensor::full(0.5, [], DType::F32, &Device::cpu()).expect("a scalar").requires_grad();
    let constant = x.detach();
    c.bench_function("op_without_history", |b| b.iter(|| black_box(&constant).affine(0.5, 0.25).expect("a float")));
    c.bench_function("op_recorded", |b| b.iter(|| black_box(&x).affine(0.5, 0.25).expect("a float")));
    let chain = |length: usize| (0..length).try_fold(x.clone(), |y, _| y.affine(0.5, 0.25)).expect("a float");
    c.bench_function("record_and_drop_1000_ops", |b| b.iter(|| chain(1000)));
    let long = chain(1000);
    c.bench_function("gradient_of_1000_ops", |b| b.iter(|| grad(black_box(&long), &[&x]).expect("connected")));
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1500));
    targets = operations, bookkeeping
}
criterion_main!(kernels);
