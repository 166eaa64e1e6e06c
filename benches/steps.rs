//! Times of whole training steps: forward, backward, noise and optimiser.

mod tasks;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

fn steps(c: &mut Criterion) {
    tasks::join_pool();
    for work in tasks::steps::WORK {
        let mut run = None;
        c.bench_function(work.name, |b| {
            let run = run.get_or_insert_with(|| (work.build)(false));
            b.iter(|| run.run());
        });
    }
}

criterion_group! {
    name = training;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = steps
}
criterion_main!(training);
