//! The shape rule that many ops have.

use crate::error::{Error, Result};
use crate::op::{Few, Meta};

/// The shape rule of elementwise functions: a float tensor in, the same out.
pub(crate) fn same(name: &'static str, inputs: &[Meta]) -> Result<Few<Meta>> {
    let meta = inputs[0];
    if !meta.dtype.is_float() {
        return Err(Error::BadDType { op: name, found: meta.dtype, expected: "a float; convert with to_dtype" });
    }
    Ok([meta].into_iter().collect())
}
