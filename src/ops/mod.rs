//! The ops, one file per op or family. Each file holds the documentation, the shape rule, the CPU code, the derivative,
//! and the specs that its gradient checks are made from. [`all`] lists the specs.

mod activation;
mod binary;
mod bottleneck;
mod compare;
mod conv;
mod cuda;
pub mod divergence;
mod gaussian;
mod index;
mod infer;
mod join;
mod linear;
mod loss;
mod matmul;
mod normalize;
mod order;
mod pool;
mod reduce;
mod scan;
mod shape;
mod softmax;
pub mod spec;
mod unary;
mod wide;
mod window;

pub use activation::Activation;
pub use bottleneck::{Bottleneck, Noise};
pub use compare::Operand;
pub use divergence::{Estimator, MmdKernel};
pub use pool::PoolOptions;
pub use spec::{Domain, Spec};
pub use wide::in_f32;
pub use window::ConvOptions;

/// The specs of every op.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    [
        unary::SPECS,
        binary::SPECS,
        compare::SPECS,
        reduce::SPECS,
        scan::SPECS,
        shape::SPECS,
        join::SPECS,
        index::SPECS,
        matmul::SPECS,
        linear::SPECS,
        softmax::SPECS,
        loss::SPECS,
        gaussian::SPECS,
        bottleneck::SPECS,
        divergence::SPECS,
        conv::SPECS,
        pool::SPECS,
        normalize::SPECS,
    ]
    .into_iter()
    .flatten()
}
