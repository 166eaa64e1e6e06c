//! Times of whole training steps: forward, backward, noise and optimiser.

mod cases;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn steps(c: &mut Criterion) {
    cases::bench(c, cases::Suite::Steps);
}

criterion_group! {
    name = training;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = steps
}
criterion_main!(training);
