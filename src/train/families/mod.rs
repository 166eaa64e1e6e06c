//! The families of models: what each loses, how it is evaluated, and what its reports show. See the module [`train`](crate::train).

pub(super) mod ebgan;
pub(super) mod energy;
pub(super) mod infovae;
mod landscape;
pub(super) mod rl;
pub(super) mod vdb;
pub(super) mod vib;

use crate::data::Source;
use crate::ops::Activation;

/// The last activation of a generator of such examples, whose values lie in [-1, 1] if they are pixels.
fn output(source: &Source) -> Activation {
    if source.images().is_some() { Activation::Tanh } else { Activation::Identity }
}
