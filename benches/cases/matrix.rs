//! The cases of the GPU: every kind of work at its sizes and in its precisions. Those of the short list are what a look at a machine needs.

use std::rc::Rc;

use strait::ops::{Estimator, MmdKernel};
use strait::{DType, Result, Tensor};

use super::operations::{self, Algorithm, Mmd};
use super::products::{self, Form, Pass};
use super::{Build, Case, Job, Kind, Place, Suite, steps};
use Kind::{Bf16, F32, F32x3};

const P: &[Kind] = &[F32, F32x3, Kind::Tf32, Bf16];

type Function = fn(&Tensor) -> Result<Tensor>;
/// Of the dimension.
type Kernel = fn(f64) -> MmdKernel;

/// A kind of work; its cases are all pairs of its shapes and kinds.
pub struct Work {
    pub id: String,
    pub build: Rc<Build>,
    /// Whether they are in the short list, by shape and kind.
    cases: Vec<(Vec<usize>, Kind, bool)>,
}

impl Work {
    pub fn cases(&self) -> impl Iterator<Item = Case> {
        self.cases.iter().map(|(shape, kind, short)| Case {
            id: self.id.clone(),
            work: self.id.clone(),
            shape: shape.clone(),
            kind: *kind,
            suite: if *short { Suite::Short } else { Suite::Matrix },
            build: self.build.clone(),
        })
    }
}

#[derive(Default)]
struct List(Vec<Work>);

impl List {
    /// Work in all kinds of all shapes; those for which `short` holds are in the short list.
    fn add(
        &mut self,
        id: &str,
        kinds: &[Kind],
        shapes: &[Vec<usize>],
        short: impl Fn(&[usize], Kind) -> bool,
        build: impl Fn(Place, DType, &[usize]) -> Result<Job> + 'static,
    ) {
        let cases = shapes.iter().flat_map(|shape| kinds.iter().map(|&kind| (shape.clone(), kind, short(shape, kind)))).collect();
        self.0.push(Work { id: id.into(), build: Rc::new(build), cases });
    }

    /// Work of the CPU alone.
    fn add_for_cpu(&mut self, id: &str, build: impl Fn(Place, DType, &[usize]) -> Result<Job> + 'static) {
        self.add(id, &[], &[], |_, _| false, build);
    }
}

/// All pairs, the first part before the second.
fn grid(first: &[&[usize]], second: &[&[usize]]) -> Vec<Vec<usize>> {
    first.iter().flat_map(|a| second.iter().map(move |b| [*a, *b].concat())).collect()
}

fn list(shapes: &[&[usize]]) -> Vec<Vec<usize>> {
    shapes.iter().map(|shape| shape.to_vec()).collect()
}

/// All work; the copy, by which all is measured, comes first.
pub fn works() -> Vec<Work> {
    let mut all = List::default();
    elementwise(&mut all);
    matrix_products(&mut all);
    rows(&mut all);
    discrepancies(&mut all);
    convolutions(&mut all);
    optimizers(&mut all);
    training(&mut all);
    all.0
}

fn elementwise(all: &mut List) {
    let always = |_: &[usize], _: Kind| true;
    all.add("copy", &[F32], &list(&[&[1 << 26]]), always, |p, t, s| operations::elementwise(p, t, s, |x| x.affine(1.0, 0.0)));
    let functions: [(&str, Function); 3] = [("exp", Tensor::exp), ("tanh", Tensor::tanh), ("softplus", Tensor::softplus)];
    for (id, f) in functions {
        all.add(id, &[F32], &list(&[&[10_000_000]]), always, move |p, t, s| operations::elementwise(p, t, s, f));
    }
    let counts = list(&[&[1 << 16], &[1 << 20], &[1 << 24], &[1 << 28]]);
    all.add("normals", &[F32], &counts, |s, _| s == [1 << 24], operations::normals);
    all.add_for_cpu("logsumexp", |p, t, s| operations::elementwise(p, t, s, |x| x.logsumexp(1, false)));
    // In rows of 1,024, or of as many as there are.
    let sizes = list(&[&[1, 1024], &[64, 1024], &[1024, 1024], &[16_384, 1024], &[65_536, 1024], &[262_144, 1024], &[1 << 20, 1024]]);
    for (of, variance) in [("sum", false), ("variance", true)] {
        for (over, axes) in [("all", &[0, 1][..]), ("rows", &[1]), ("columns", &[0])] {
            let short = move |s: &[usize], _: Kind| !variance && s[0] == 65_536;
            all.add(&format!("{of}_{over}"), &[F32], &sizes, short, move |p, t, s| operations::reduction(p, t, s, axes, variance));
        }
    }
}

fn matrix_products(all: &mut List) {
    // [rows, inputs, outputs]
    let batches: [&[usize]; 8] = [&[1], &[32], &[100], &[256], &[512], &[1024], &[2048], &[4096]];
    let layers: [&[usize]; 5] = [&[784, 1024], &[1024, 1024], &[1024, 512], &[512, 256], &[256, 10]];
    for (id, pass) in [("linear_forward", Pass::Forward), ("linear_dx", Pass::Input), ("linear_dw", Pass::Weight)] {
        let short =
            move |s: &[usize], kind: Kind| (kind == F32 || pass == Pass::Forward) && (s == [100, 784, 1024] || s == [4096, 1024, 1024]);
        all.add(id, P, &grid(&batches, &layers), short, move |p, t, s| products::linear(p, t, s, pass));
    }
    all.add_for_cpu("linear_both", |p, t, s| products::linear(p, t, s, Pass::Both));
    let sizes =
        list(&[&[2048; 3], &[4096; 3], &[8192; 3], &[1024, 1024, 8192], &[1024, 8192, 1024], &[357, 789, 333], &[32_768, 768, 768]]);
    for (id, transposed) in
        [("matmul_nn", [false, false]), ("matmul_nt", [false, true]), ("matmul_tn", [true, false]), ("matmul_tt", [true, true])]
    {
        let short = move |s: &[usize], kind: Kind| {
            transposed == [false, false] && (s == [4096; 3] || kind == F32 && (s == [2048; 3] || s == [1024, 8192, 1024]))
        };
        all.add(id, P, &sizes, short, move |p, t, s| products::product(p, t, s, transposed));
    }
}

fn rows(all: &mut List) {
    let both = &[F32, Bf16];
    let heads = grid(&[&[100], &[4096], &[65_536]], &[&[32], &[256], &[1024]]);
    let logits = grid(&[&[100], &[4096], &[65_536]], &[&[10], &[100], &[1000]]);
    for (suffix, backward) in [("", true), ("_forward", false)] {
        let short = move |s: &[usize], kind: Kind| backward && kind == F32 && (s[1] == 256 || s == [65_536, 32]);
        all.add(&format!("bottleneck{suffix}"), both, &heads, short, move |p, t, s| operations::bottleneck(p, t, s, backward));
        let short = move |s: &[usize], kind: Kind| backward && kind == F32 && (s == [100, 10] || s[0] == 65_536 && s[1] != 100);
        all.add(&format!("cross_entropy{suffix}"), both, &logits, short, move |p, t, s| operations::cross_entropy(p, t, s, backward));
        let maps: Vec<Vec<usize>> = (0..5).map(|i| vec![64, 32 << i, 64 >> i, 64 >> i]).collect();
        let short = move |s: &[usize], kind: Kind| backward && kind == F32 && s[1] == 128;
        all.add(&format!("batch_norm{suffix}"), both, &maps, short, move |p, t, s| operations::batch_norm(p, t, s, backward));
    }
}

/// [n, m, d]
fn discrepancies(all: &mut List) {
    let mut sizes = grid(&[&[64; 2], &[256; 2], &[1024; 2], &[8192; 2], &[65_536; 2]], &[&[2], &[8], &[64], &[128], &[256]]);
    sizes.push(vec![4096, 1000, 64]);
    const RBF: Kernel = |d| MmdKernel::Rbf(vec![d.sqrt()]);
    const SCALES: [f64; 7] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
    // The multi-scale kernel of InfoVAE has seven of them.
    let kernels: [(&str, Kernel); 3] = [
        ("rbf", RBF),
        ("imq", |d| MmdKernel::Imq(vec![2.0 * d])),
        ("imq7", |d| MmdKernel::Imq(SCALES.iter().map(|s| s * 2.0 * d).collect())),
    ];
    for (name, kernel) in kernels {
        for (passes, backward) in [("", true), ("_forward", false)] {
            for (suffix, estimator) in [("", Estimator::Biased), ("_unbiased", Estimator::Unbiased)] {
                let short = move |s: &[usize], kind: Kind| {
                    let wanted = if name == "rbf" { s[0] == s[1] && s[0] >= 1024 } else { name == "imq7" && s[0] == 8192 };
                    let kinds = kind == F32 || kind == F32x3 && s[0] == 8192;
                    wanted && s[2] == 64 && kinds && backward && suffix.is_empty()
                };
                let mmd = Mmd { kernel, estimator, backward, offsets: [0.0, 0.125], spread: 1.0 };
                let build = move |p, t, s: &[usize]| operations::mmd2(p, t, s, mmd);
                all.add(&format!("mmd2_{name}{passes}{suffix}"), &[F32, F32x3, Bf16], &sizes, short, build);
            }
        }
    }
    // Where the matrix form loses its digits: far from the origin, and in clusters far apart.
    for (id, offset, spread) in [("mmd2_accuracy", 0.0, 1.0), ("mmd2_accuracy_offset", 10.0, 1.0), ("mmd2_accuracy_tight", 20.0, 0.05)] {
        let kernel: Kernel = if spread < 1.0 { |_| MmdKernel::Rbf(vec![0.05]) } else { RBF };
        let mmd = Mmd { kernel, estimator: Estimator::Unbiased, backward: true, offsets: [offset; 2], spread };
        let build = move |p, t, s: &[usize]| operations::mmd2(p, t, s, mmd);
        all.add(id, &[F32, F32x3], &list(&[&[2048, 2048, 64], &[2048, 2048, 2]]), |_, _| false, build);
    }
}

/// [images, channels, side of the image, filters, side of the window, stride], padded by half the window.
fn convolutions(all: &mut List) {
    // An InfoVAE of 64 x 64 in steps of 2, and a DCGAN and residual blocks of 32 x 32.
    let down: [&[usize]; 12] = [
        &[3, 64, 32, 3, 2],
        &[32, 32, 64, 3, 2],
        &[64, 16, 128, 3, 2],
        &[128, 8, 256, 3, 2],
        &[256, 4, 512, 3, 2],
        &[3, 32, 64, 4, 2],
        &[64, 32, 128, 4, 2],
        &[128, 16, 256, 4, 2],
        &[256, 8, 512, 4, 2],
        &[64, 32, 64, 3, 1],
        &[128, 16, 128, 3, 1],
        &[256, 8, 256, 3, 1],
    ];
    let up: [&[usize]; 10] = [
        &[512, 2, 256, 4, 2],
        &[256, 4, 128, 4, 2],
        &[128, 8, 64, 4, 2],
        &[64, 16, 32, 4, 2],
        &[32, 32, 32, 4, 2],
        &[512, 4, 256, 4, 2],
        &[256, 8, 128, 4, 2],
        &[128, 16, 64, 4, 2],
        &[64, 16, 3, 4, 2],
        &[32, 32, 3, 4, 2],
    ];
    let batches: [&[usize]; 2] = [&[64], &[256]];
    for (suffix, pass) in [("forward", Pass::Forward), ("dx", Pass::Input), ("dw", Pass::Weight)] {
        let short = |s: &[usize], kind: Kind| s[0] == 64 && (s[1..] == [64, 32, 64, 3, 1] || s[1..] == [64, 32, 128, 4, 2] && kind == F32);
        let build = move |p, t, s: &[usize]| products::convolution(p, t, s, pass, Form { transposed: false, bias: true });
        all.add(&format!("conv2d_{suffix}"), P, &grid(&batches, &down), short, build);
        let build = move |p, t, s: &[usize]| products::convolution(p, t, s, pass, Form { transposed: true, bias: true });
        all.add(&format!("conv_transpose2d_{suffix}"), P, &grid(&batches, &up), |_, _| false, build);
    }
    for (id, pass) in [("conv2d_plain_forward", Pass::Forward), ("conv2d_plain_both", Pass::Both)] {
        all.add_for_cpu(id, move |p, t, s| products::convolution(p, t, s, pass, Form { transposed: false, bias: false }));
    }
}

/// [weights], in as many tensors as the networks have.
fn optimizers(all: &mut List) {
    let lists: [(&str, &[usize], bool); 4] = [
        ("adam", &[2_380_000], true),
        ("adam", &[100_000_000], true),
        // Weights and biases of the VIB classifier of MNIST, and of a VGAN of perceptrons.
        ("adam_vib", &[802_816, 1024, 1_048_576, 1024, 524_288, 512, 2560, 10], false),
        ("adam_vgan", &[401_408, 512, 262_144, 512, 65_536, 128, 64, 1, 32_768, 512, 262_144, 512, 401_408, 784], false),
    ];
    for (id, sizes, short) in lists {
        let total = sizes.iter().sum();
        for (suffix, what) in [("", Algorithm::Plain), ("_ema", Algorithm::Averaged), ("_clip", Algorithm::Clipped)] {
            let short = move |_: &[usize], _: Kind| short && suffix.is_empty();
            all.add(&format!("{id}{suffix}"), &[F32], &[vec![total]], short, move |p, t, _| operations::adam(p, t, sizes, what));
        }
    }
}

/// [batch], or [batch, side of the image], or [batch, steps of the energy].
fn training(all: &mut List) {
    let mut add = |id: &str, shapes: &[&[usize]], short: fn(&[usize]) -> bool, build: fn(Place, &[usize]) -> Job| {
        // An energy's steps have no products that are worth tensor cores.
        let in_short = move |shape: &[usize], kind: Kind| short(shape) && (kind == F32 || shape.len() < 2 || shape[1] > 5);
        all.add(id, P, &list(shapes), in_short, move |place, _, shape| Ok(build(place, shape)));
    };
    add("vib_step", &[&[100], &[1024], &[4096]], |s| s[0] < 4096, |p, s| steps::vib::step(p, s[0]));
    add("infovae_mlp_step", &[&[128]], |_| false, |p, s| steps::infovae::mlp(p, s[0]));
    add("infovae_conv_step", &[&[64, 64], &[256, 64]], |s| s[0] == 64, |p, s| steps::infovae::conv(p, s[0], s[1]));
    add("vdb_gauss2d_step", &[&[256]], |_| false, |p, s| steps::vdb::gauss2d(p, s[0]));
    add("vgan_mlp_step", &[&[64]], |_| true, |p, s| steps::vdb::mlp(p, s[0], true));
    add("vgan_mlp_without_r1_step", &[&[64]], |_| false, |p, s| steps::vdb::mlp(p, s[0], false));
    add("vgan_dcgan32_step", &[&[64]], |_| true, |p, s| steps::vdb::dcgan32(p, s[0], true));
    add("vgan_dcgan32_without_r1_step", &[&[64]], |_| false, |p, s| steps::vdb::dcgan32(p, s[0], false));
    add("ebgan_mlp_step", &[&[64]], |_| true, |p, s| steps::ebgan::mlp(p, s[0]));
    add("ebgan_energy2d_step", &[&[256, 1], &[256, 5]], |s| s[1] == 5, |p, s| steps::energy::energy2d(p, s[0], s[1]));
}
