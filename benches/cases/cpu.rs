//! The cases of the CPU: work of the matrix, and its shapes there.

use super::matrix::Work;
use super::{Case, Kind, Suite};

/// Id, work, shape.
type Row = (&'static str, &'static str, &'static [usize]);

const STEPS: &[Row] = &[
    ("vib_b100", "vib_step", &[100]),
    ("vib_b1000", "vib_step", &[1000]),
    ("infovae_mlp", "infovae_mlp_step", &[128]),
    ("infovae_conv", "infovae_conv_step", &[64, 32]),
    ("vdb_gauss2d", "vdb_gauss2d_step", &[256]),
    ("vgan_mlp", "vgan_mlp_step", &[64]),
    ("vgan_mlp_without_r1", "vgan_mlp_without_r1_step", &[64]),
    ("vgan_dcgan32", "vgan_dcgan32_step", &[32]),
    ("vgan_dcgan32_without_r1", "vgan_dcgan32_without_r1_step", &[32]),
    ("ebgan_mlp", "ebgan_mlp_step", &[64]),
    ("ebgan_energy2d", "ebgan_energy2d_step", &[256, 1]),
    // The optimiser alone, on the parameters of the VIB classifier.
    ("adam_2.4M", "adam_vib", &[2_380_810]),
];

const OPERATIONS: &[Row] = &[
    ("matmul_128", "matmul_nn", &[128; 3]),
    ("matmul_512", "matmul_nn", &[512; 3]),
    ("matmul_1024", "matmul_nn", &[1024; 3]),
    ("matmul_2048", "matmul_nn", &[2048; 3]),
    // The products of a linear layer with 784 inputs and 1024 outputs at batch 100; the weight is [out, in].
    ("layer_forward", "matmul_nt", &[100, 784, 1024]),
    ("layer_dx", "matmul_nn", &[100, 1024, 784]),
    ("layer_dw", "matmul_tn", &[1024, 100, 784]),
    ("exp_10M", "exp", &[10_000, 1000]),
    ("tanh_10M", "tanh", &[10_000, 1000]),
    ("softplus_10M", "softplus", &[10_000, 1000]),
    ("sum_10M", "sum_all", &[10_000, 1000]),
    ("logsumexp_10000x1000", "logsumexp", &[10_000, 1000]),
    ("normals_10M", "normals", &[10_000, 1000]),
    ("linear_relu_forward_backward", "linear_both", &[100, 1024, 1024]),
    ("cross_entropy_forward_backward", "cross_entropy", &[1000, 1000]),
    ("mmd2_n1024_d64", "mmd2_rbf", &[1024, 1024, 64]),
    ("mmd2_n4096_d64", "mmd2_rbf", &[4096, 4096, 64]),
    ("conv2d_forward", "conv2d_plain_forward", &[32, 64, 32, 64, 3, 1]),
    ("conv2d_forward_backward", "conv2d_plain_both", &[32, 64, 32, 64, 3, 1]),
];

pub fn cases(works: &[Work]) -> impl Iterator<Item = Case> {
    let of = |suite: Suite| {
        move |&(id, work, shape): &Row| {
            let build = works.iter().find(|w| w.id == work).expect("work of the matrix").build.clone();
            Case { id: id.into(), work: work.into(), shape: shape.into(), kind: Kind::F32, suite, build }
        }
    };
    STEPS.iter().map(of(Suite::Steps)).chain(OPERATIONS.iter().map(of(Suite::Operations)))
}
