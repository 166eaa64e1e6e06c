//! Generative and representation models with an information constraint, on a tensor and autodiff engine written here.

pub mod capture;
pub mod check;
pub mod cli;
pub mod data;
pub mod device;
pub mod dtype;
pub mod error;
mod grad;
pub mod io;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod op;
pub mod ops;
pub mod optim;
pub mod report;
mod rng;
pub mod shape;
mod storage;
mod tensor;
pub mod train;
mod words;

pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
pub use grad::{Gradient, first_non_finite, grad, grad_graph};
pub use ops::Activation;
pub use rng::{Draw, Rng};
pub use shape::{Axis, IntoShape, Shape};
pub use tensor::{Index, Indices, Nested, Tensor};
