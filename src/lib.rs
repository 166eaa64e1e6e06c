//! Generative and representation models with an information constraint, on a tensor and autodiff engine of their own.
//!
//! # Devices and tensors
//!
//! A [`Tensor`] is immutable, cheap to clone, and knows its [`Device`], its [`DType`] and its [`Shape`]. Nothing is global: every constructor
//! takes the device, and random numbers come from an [`Rng`] that is a value. Axes count from the first, 0, or back from the last, -1.
//!
//! ```
//! use strait::{DType, Device, Rng, Tensor};
//! let device = Device::cpu();
//! let x = Tensor::new([[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &device)?;
//! let noise = Rng::new(0).normal([2, 3], DType::F32, &device)?;
//! let y = (2.0 * &x + &noise).softmax(-1)?;
//! assert_eq!(y.i((.., 0))?.dims(), [2]);
//! println!("{y}"); // as a matrix
//! # Ok::<(), strait::Error>(())
//! ```
//!
//! Methods return a [`Result`]; operators (`+`, `-`, `*`, `/`) panic with the same sentence.
//!
//! # Gradients
//!
//! [`grad`] returns gradients as tensors; those of [`grad_graph`] can be differentiated again, to any order. [`Gradient`] has the options.
//!
//! ```
//! use strait::{Device, Tensor, grad, grad_graph};
//! let x = Tensor::new([1f64, 2.0], &Device::cpu())?.requires_grad();
//! let slope = &grad_graph(&x.powf(3.0)?.sum_all()?, &[&x])?[0]; // 3 x^2
//! assert_eq!(grad(&slope.sum_all()?, &[&x])?[0].to_vec::<f64>()?, [6.0, 12.0]);
//! # Ok::<(), strait::Error>(())
//! ```
//!
//! [`check::gradcheck`] compares gradients with finite differences, also for an op of your own ([`op::apply`] shows one).
//!
//! # Modules and training
//!
//! [`nn`] has layers with named parameters and their [`nn::Builder`], and [`optim`] the optimisers. A forward pass takes its purpose,
//! training or evaluation, as an [`nn::Mode`]. [`nn::Params`] return their gradients, and are saved and loaded by name.
//!
//! ```
//! use strait::nn::{Builder, Mode, Module};
//! use strait::optim::{Algorithm, Optimizer};
//! use strait::{Activation, DType, Device, Rng};
//! let (device, mut rng) = (Device::cpu(), Rng::new(0));
//! let net = Builder::new(&mut rng, DType::F32, &device).mlp(&[2, 32, 1], Activation::Tanh)?;
//! let mut optimizer = Optimizer::new(Algorithm::adam(), &net.params())?;
//! let x = rng.normal([64, 2], DType::F32, &device)?;
//! let y = x.sum(&[-1], true)?;
//! let mut losses = Vec::new();
//! for _ in 0..50 {
//!     let loss = net.forward(&x, &mut Mode::Train(&mut rng))?.squared_error(&y)?.mean_all()?;
//!     optimizer.minimize(&loss, 1e-2)?;
//!     losses.push(loss.item()?);
//! }
//! assert!(losses[49] < 0.2 * losses[0]);
//! # Ok::<(), strait::Error>(())
//! ```
//!
//! # Models
//!
//! [`models`] has the networks and losses of the papers (VIB, VDB, InfoVAE, EBGAN, energy models), for training loops of your own such as
//! the programs in `examples/`. [`metrics`] evaluates models, and [`data`] has the data sets. [`mod@env`] has tasks of reinforcement learning,
//! and [`rl`] trains policies on them. [`train`] runs the families of the command line, with settings, checkpoints and reports.
//!
//! ```
//! use strait::models::{Architecture, Scale, Vib, VibConfig, VibObjective};
//! use strait::nn::Mode;
//! use strait::ops::Noise;
//! use strait::{DType, Device, Rng, Tensor};
//! let (device, mut rng) = (Device::cpu(), Rng::new(0));
//! let config = VibConfig {
//!     example: vec![64],
//!     architecture: Architecture::mlp(&[32]),
//!     latent: 8,
//!     classes: 10,
//!     scale: Scale::Softplus { shift: 5.0 },
//!     dropout: 0.0,
//! };
//! let model = Vib::new(config, &mut rng, DType::F32, &device)?;
//! let (x, labels) = (rng.normal([4, 64], DType::F32, &device)?, Tensor::new([3i64, 1, 4, 1], &device)?);
//! let noise = Noise::Draw(rng.draw());
//! let loss = model.loss(&x, &labels, &VibObjective::default(), 1, noise, &mut Mode::Train(&mut rng))?.loss;
//! let gradients = model.params().gradients(&loss)?;
//! # assert_eq!(gradients.len(), model.params().trained().len());
//! # Ok::<(), strait::Error>(())
//! ```
//!
//! # Errors
//!
//! An [`Error`] is a sentence: it names what was called, what is wrong, with the shapes, and what would be right. Any method that computes can fail in
//! these ways, which its own documentation does not repeat:
//!
//! - the device is out of memory, or fails;
//! - the shapes do not fit each other, or a tensor does not have an axis that is named;
//! - the method does not take the dtype: unless its documentation says otherwise, methods take floats;
//! - two tensors have different dtypes or are on different devices: nothing is converted or moved silently.
#![warn(unreachable_pub)]

pub mod capture;
pub mod check;
pub mod data;
pub mod device;
pub mod dtype;
pub mod env;
pub mod error;
mod grad;
pub mod io;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod op;
pub mod ops;
pub mod optim;
pub mod plot;
pub mod rl;
mod rng;
pub mod shape;
mod storage;
mod tensor;
pub mod train;
pub mod words;

pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
pub use grad::{Gradient, first_non_finite, grad, grad_graph};
pub use ops::Activation;
pub use rng::{Draw, Rng};
pub use shape::{Axis, IntoShape, Shape};
pub use tensor::{Index, Indices, Nested, Tensor};

/// The program of the README runs with the other examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
