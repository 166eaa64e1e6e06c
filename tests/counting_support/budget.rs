//! How many kernels, copies and fills a captured training step consists of. A GPU needs about a microsecond for each, however little it
//! does, so small models take as long as their steps have kernels. Those of different branches of a step's graph run side by side: the
//! longest chain of nodes, each of which needs the one before, is what is left.

use std::collections::BTreeMap;

use strait::train::{Run, family_of, preset};
use strait::{Device, Error};

use super::count;
use crate::watch::watch;

/// The table: a name and a number in each line. Those with a shape are training steps of the benches in f32; the others are steps of
/// `strait train` with a preset, on data that is in the library, and include what the data source and the logged scalars add.
/// With `:chain` the number is that of the longest chain.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/counting_support/kernels_per_step.txt");

const CHAIN: &str = ":chain";

/// Steps to take: one eager, then launches of twenty or of one.
const STEPS: u64 = 61;

/// The lines of the table for the benches, or those for presets.
pub fn table(benches: bool) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(TABLE).unwrap();
    let lines = text.lines().map(|line| line.rsplit_once(' ').unwrap());
    lines.filter(|(name, _)| name.contains(' ') == benches).map(|(name, count)| (name.to_string(), count.parse().unwrap())).collect()
}

/// Fails unless what was counted is what the table says. A step may get shorter, and the table with it.
pub fn compare(table: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    let mut wrong = Vec::new();
    for (name, count) in counts {
        match table.get(name) {
            Some(budget) if count > budget => wrong.push(format!("{name} has {count} kernels, more than the {budget} before")),
            Some(budget) if count < budget => wrong.push(format!("{name} has {count} kernels, fewer than {budget}: lower the table")),
            Some(_) => {}
            None => wrong.push(format!("{name} has {count} kernels: add it to the table")),
        }
    }
    wrong.extend(table.keys().filter(|name| !counts.contains_key(*name)).map(|name| format!("{name} was not counted")));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Takes steps of a preset with these changes, and returns the run.
pub fn train(name: &str, changes: &[&str], steps: u64) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let settings = preset(name).unwrap();
    let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
    let configuration = family_of(name, settings).unwrap().configure(name, settings, &changes).unwrap();
    let mut run = Run::start(configuration, &Device::cuda(0).unwrap()).unwrap();
    let stopped = run.train(&folder.path().join("checkpoint.safetensors"), &mut watch(steps)).unwrap_err();
    assert!(matches!(stopped, Error::Interrupted { .. }), "{name}: {stopped}");
    run
}

pub fn steps_of_every_family_have_no_more_kernels() {
    let (table, mut counts) = (table(false), BTreeMap::new());
    for name in table.keys().filter(|name| !name.ends_with(CHAIN)) {
        // What runs before leaves no memory, whose addresses would decide what waits for what.
        Device::cuda(0).unwrap().release_unused().unwrap();
        let before = ["graph_nodes", "graph_launches", "graph_chains"].map(count);
        let run = train(name, &[], STEPS);
        // The first steps run eagerly.
        assert!(10 * run.replayed() >= 9 * run.done(), "{name}: {} of {} steps are replayed", run.replayed(), run.done());
        // While the host waits for a launch's scalars, the GPU has the next launch to do.
        assert!(2 * count("waits_beside_work") > count("waits"), "{name}: {} of {}", count("waits_beside_work"), count("waits"));
        let now = ["graph_nodes", "graph_launches", "graph_chains"].map(count);
        let [nodes, launches, chains] = [0, 1, 2].map(|i| now[i] - before[i]);
        // One more in each graph advances the numbers of random draws. The last work of a step may share a kernel with the next step's first.
        counts.insert(name.clone(), (nodes - launches).div_ceil(run.replayed()));
        counts.insert(format!("{name}{CHAIN}"), chains.div_ceil(run.replayed()));
    }
    compare(&table, &counts);
}

/// Steps that are not all alike share launches too: those of a pattern, and those whose beta is another each time.
pub fn steps_of_several_kinds_share_launches() {
    for (name, changes, more) in
        [("vgan-digits", "penalty.every=7", 16), ("vib-digits", "beta={ kind = \"annealed\", value = 0.01, epochs = 2.0 }", 0)]
    {
        let launches = |changes: &[&str]| {
            let before = count("graph_launches");
            let run = train(name, changes, 300);
            assert!(20 * run.replayed() >= 19 * run.done(), "{name}: {} of {} steps are replayed", run.replayed(), run.done());
            count("graph_launches") - before
        };
        let [plain, several] = [launches(&[]), launches(&[changes])];
        assert!(several <= plain + more, "{name}: {several} launches with {changes}, {plain} without");
    }
}
