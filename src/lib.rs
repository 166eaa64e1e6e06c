//! Generative and representation models with an information constraint, on a tensor and autodiff engine written here.

pub mod device;
pub mod dtype;
pub mod error;
pub mod shape;
