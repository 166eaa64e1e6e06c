//! The cases: every kind of work at its sizes and in its precisions. Those of the short list are what a look at a machine needs.

use strait::device::Precision;
use strait::ops::{Estimator, MmdKernel};
use strait::{DType, Device, Result, Tensor};

use super::kernels::{self, Algorithm, Mmd};
use super::products::{self, Pass};
use super::{Job, tasks};
use tasks::steps::{self, Place, Step};

/// What numbers are and how they are multiplied.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    F32,
    F32x3,
    Tf32,
    /// Operands in bf16; in training steps only those of products.
    Bf16,
}
use Kind::{Bf16, F32};

const P: &[Kind] = &[F32, Kind::F32x3, Kind::Tf32, Bf16];

impl Kind {
    pub fn name(self) -> &'static str {
        ["f32", "f32x3", "tf32", "bf16"][self as usize]
    }

    pub fn dtype(self) -> DType {
        if self == Bf16 { DType::BF16 } else { DType::F32 }
    }

    pub fn precision(self) -> Precision {
        [Precision::F32, Precision::F32x3, Precision::Tf32, Precision::Bf16][self as usize]
    }
}

type Function = fn(&Tensor) -> Result<Tensor>;
/// Of the dimension.
type Kernel = fn(f64) -> MmdKernel;
type Build = dyn Fn(&Device, DType, &[usize]) -> Result<Job>;

/// A piece of work by name.
pub struct Case {
    pub id: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    pub short: bool,
    /// Makes the operands, of any float type.
    pub build: std::rc::Rc<Build>,
}

impl Case {
    pub fn shape_name(&self) -> String {
        self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
    }
}

#[derive(Default)]
struct List(Vec<Case>);

impl List {
    /// All kinds of all shapes; those for which `short` holds are in the short list.
    fn add(
        &mut self,
        id: &str,
        kinds: &[Kind],
        shapes: &[Vec<usize>],
        short: impl Fn(&[usize], Kind) -> bool,
        build: impl Fn(&Device, DType, &[usize]) -> Result<Job> + 'static,
    ) {
        let build: std::rc::Rc<Build> = std::rc::Rc::new(build);
        for shape in shapes {
            for &kind in kinds {
                let short = short(shape, kind);
                self.0.push(Case { id: id.into(), shape: shape.clone(), kind, short, build: build.clone() });
            }
        }
    }
}

/// All pairs, the first part before the second.
fn grid(first: &[&[usize]], second: &[&[usize]]) -> Vec<Vec<usize>> {
    first.iter().flat_map(|a| second.iter().map(move |b| [*a, *b].concat())).collect()
}

fn list(shapes: &[&[usize]]) -> Vec<Vec<usize>> {
    shapes.iter().map(|shape| shape.to_vec()).collect()
}

/// The whole matrix; the copy, by which all are measured, comes first.
pub fn cases() -> Vec<Case> {
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
    all.add("copy", &[F32], &list(&[&[1 << 26]]), always, |d, t, s| kernels::elementwise(d, t, s[0], |x| x.affine(1.0, 0.0)));
    let functions: [(&str, Function); 3] = [("exp", Tensor::exp), ("tanh", Tensor::tanh), ("softplus", Tensor::softplus)];
    for (id, f) in functions {
        all.add(id, &[F32], &list(&[&[10_000_000]]), always, move |d, t, s| kernels::elementwise(d, t, s[0], f));
    }
    let counts = list(&[&[1 << 16], &[1 << 20], &[1 << 24], &[1 << 28]]);
    all.add("normals", &[F32], &counts, |s, _| s == [1 << 24], |d, t, s| kernels::normals(d, t, s[0]));
    // In rows of 1,024, or of as many as there are.
    let sizes = list(&[&[1, 1024], &[64, 1024], &[1024, 1024], &[16_384, 1024], &[65_536, 1024], &[262_144, 1024], &[1 << 20, 1024]]);
    for (of, variance) in [("sum", false), ("variance", true)] {
        for (over, axes) in [("all", &[0, 1][..]), ("rows", &[1]), ("columns", &[0])] {
            let short = move |s: &[usize], _: Kind| !variance && s[0] == 65_536;
            all.add(&format!("{of}_{over}"), &[F32], &sizes, short, move |d, t, s| kernels::reduction(d, t, s, axes, variance));
        }
    }
}

fn matrix_products(all: &mut List) {
    // [rows, inputs, outputs]
    let batches: [&[usize]; 8] = [&[1], &[32], &[100], &[256], &[512], &[1024], &[2048], &[4096]];
    let layers: [&[usize]; 5] = [&[784, 1024], &[1024, 1024], &[1024, 512], &[512, 256], &[256, 10]];
    for (id, pass) in [("linear_forward", Pass::Forward), ("linear_dx", Pass::Input), ("linear_dw", Pass::Weight)] {
        let short = |s: &[usize], kind: Kind| kind == F32 && (s == [100, 784, 1024] || s == [4096, 1024, 1024]);
        all.add(id, P, &grid(&batches, &layers), short, move |d, t, s| products::linear(d, t, s, pass));
    }
    let sizes =
        list(&[&[2048; 3], &[4096; 3], &[8192; 3], &[1024, 1024, 8192], &[1024, 8192, 1024], &[357, 789, 333], &[32_768, 768, 768]]);
    for (id, transposed) in
        [("matmul_nn", [false, false]), ("matmul_nt", [false, true]), ("matmul_tn", [true, false]), ("matmul_tt", [true, true])]
    {
        let short = move |s: &[usize], kind: Kind| {
            transposed == [false, false] && (s == [4096; 3] || kind == F32 && (s == [2048; 3] || s == [1024, 8192, 1024]))
        };
        all.add(id, P, &sizes, short, move |d, t, s| products::product(d, t, s, transposed));
    }
}

fn rows(all: &mut List) {
    let both = &[F32, Bf16];
    let heads = grid(&[&[100], &[4096], &[65_536]], &[&[32], &[256], &[1024]]);
    let logits = grid(&[&[100], &[4096], &[65_536]], &[&[10], &[100], &[1000]]);
    for (suffix, backward) in [("", true), ("_forward", false)] {
        let short = move |s: &[usize], kind: Kind| backward && kind == F32 && (s[1] == 256 || s == [65_536, 32]);
        all.add(&format!("bottleneck{suffix}"), both, &heads, short, move |d, t, s| kernels::bottleneck(d, t, s, backward));
        let short = move |s: &[usize], kind: Kind| backward && kind == F32 && (s == [100, 10] || s[0] == 65_536 && s[1] != 100);
        all.add(&format!("cross_entropy{suffix}"), both, &logits, short, move |d, t, s| kernels::cross_entropy(d, t, s, backward));
        let maps: Vec<Vec<usize>> = (0..5).map(|i| vec![64, 32 << i, 64 >> i, 64 >> i]).collect();
        let short = move |s: &[usize], kind: Kind| backward && kind == F32 && s[1] == 128;
        all.add(&format!("batch_norm{suffix}"), both, &maps, short, move |d, t, s| kernels::batch_norm(d, t, s, backward));
    }
}

/// [n, m, d]
fn discrepancies(all: &mut List) {
    let mut sizes = grid(&[&[64; 2], &[256; 2], &[1024; 2], &[8192; 2], &[65_536; 2]], &[&[2], &[8], &[64], &[128], &[256]]);
    sizes.push(vec![4096, 1000, 64]);
    const SCALES: [f64; 7] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
    // The multi-scale kernel of InfoVAE has seven of them.
    let kernels: [(&str, Kernel); 3] = [
        ("rbf", |d| MmdKernel::Rbf(vec![d])),
        ("imq", |d| MmdKernel::Imq(vec![2.0 * d])),
        ("imq7", |d| MmdKernel::Imq(SCALES.iter().map(|s| s * 2.0 * d).collect())),
    ];
    for (name, kernel) in kernels {
        for (passes, backward) in [("", true), ("_forward", false)] {
            for (suffix, estimator) in [("", Estimator::Biased), ("_unbiased", Estimator::Unbiased)] {
                let short = move |s: &[usize], kind: Kind| {
                    let wanted = if name == "rbf" { s[0] == s[1] && s[0] >= 1024 } else { name == "imq7" && s[0] == 8192 };
                    wanted && s[2] == 64 && kind == F32 && backward && suffix.is_empty()
                };
                let mmd = Mmd { kernel, estimator, backward, offset: 0.0, spread: 1.0 };
                let build = move |d: &Device, t, s: &[usize]| kernels::mmd2(d, t, s, mmd);
                all.add(&format!("mmd2_{name}{passes}{suffix}"), &[F32, Bf16], &sizes, short, build);
            }
        }
    }
    // Where the matrix form loses its digits: far from the origin, and in clusters far apart.
    for (id, offset, spread) in [("mmd2_accuracy", 0.0, 1.0), ("mmd2_accuracy_offset", 10.0, 1.0), ("mmd2_accuracy_tight", 20.0, 0.05)] {
        let kernel: Kernel = if spread < 1.0 { |_| MmdKernel::Rbf(vec![0.05]) } else { |d| MmdKernel::Rbf(vec![d.sqrt()]) };
        let mmd = Mmd { kernel, estimator: Estimator::Unbiased, backward: true, offset, spread };
        let build = move |d: &Device, t, s: &[usize]| kernels::mmd2(d, t, s, mmd);
        all.add(id, &[F32], &list(&[&[2048, 2048, 64], &[2048, 2048, 2]]), |_, _| false, build);
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
        let short = |s: &[usize], kind: Kind| kind == F32 && s[0] == 64 && (s[1..] == [64, 32, 64, 3, 1] || s[1..] == [64, 32, 128, 4, 2]);
        let build = move |d: &Device, t, s: &[usize]| products::convolution(d, t, s, pass, false);
        all.add(&format!("conv2d_{suffix}"), &[F32, Bf16], &grid(&batches, &down), short, build);
        let build = move |d: &Device, t, s: &[usize]| products::convolution(d, t, s, pass, true);
        all.add(&format!("conv_transpose2d_{suffix}"), &[F32, Bf16], &grid(&batches, &up), |_, _| false, build);
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
            all.add(&format!("{id}{suffix}"), &[F32], &[vec![total]], short, move |d, t, _| kernels::adam(d, t, sizes, what));
        }
    }
}

/// [batch], or [batch, side of the image], or [batch, steps of the energy].
fn training(all: &mut List) {
    let mut add = |id: &str, shapes: &[&[usize]], short: fn(&[usize]) -> bool, build: fn(Place, &[usize]) -> Step| {
        let build = move |device: &Device, _, shape: &[usize]| {
            let batch = shape[0];
            let Step { mut run, weights } = build(Place { device: *device, fixed: false }, shape);
            let run = Box::new(move |turn: usize, rng: &mut _| run(turn, rng).map(|_| Vec::new()));
            // Adam alone reads and writes seven times the weights.
            Ok(Job { run, bytes: 28.0 * weights as f64, flops: 6.0 * (weights * batch) as f64 })
        };
        all.add(id, P, &list(shapes), move |shape, kind| kind == F32 && short(shape), build);
    };
    add("vib_step", &[&[100], &[1024], &[4096]], |s| s[0] < 4096, |place, s| steps::vib::step(place, s[0]));
    add("infovae_mlp_step", &[&[128]], |_| false, |place, s| steps::infovae::mlp(place, s[0]));
    add("infovae_conv_step", &[&[64, 64], &[256, 64]], |s| s[0] == 64, |place, s| steps::infovae::conv(place, s[0], s[1]));
    add("vdb_gauss2d_step", &[&[256]], |_| false, |place, s| steps::vdb::gauss2d(place, s[0]));
    add("vgan_mlp_step", &[&[64]], |_| true, |place, s| steps::vdb::mlp(place, s[0], true));
    add("vgan_mlp_without_r1_step", &[&[64]], |_| false, |place, s| steps::vdb::mlp(place, s[0], false));
    add("vgan_dcgan32_step", &[&[64]], |_| true, |place, s| steps::vdb::dcgan32(place, s[0], true));
    add("vgan_dcgan32_without_r1_step", &[&[64]], |_| false, |place, s| steps::vdb::dcgan32(place, s[0], false));
    add("ebgan_mlp_step", &[&[64]], |_| true, |place, s| steps::ebgan::mlp(place, s[0]));
    add("ebgan_energy2d_step", &[&[256, 1], &[256, 5]], |s| s[1] == 5, |place, s| steps::energy::energy2d(place, s[0], s[1]));
}
