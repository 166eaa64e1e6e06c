//! Taking over saved tensors by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The tensors of `saved` in the order of `current`, as constants.
///
/// # Errors
/// A name is missing or left over, or a shape, dtype or device differs.
pub(super) fn matching(current: &[(String, Tensor)], saved: &BTreeMap<String, Tensor>) -> Result<Vec<Tensor>> {
    let describe = |t: &Tensor| format!("{} {} on {}", t.dtype(), t.shape(), t.device());
    let found = current
        .iter()
        .map(|(name, old)| {
            let new = saved.get(name);
            match new {
                Some(new) if (new.shape(), new.dtype(), new.device()) == (old.shape(), old.dtype(), old.device()) => Ok(new.detach()),
                _ => Err(Error::BadTensor {
                    name: name.clone(),
                    found: new.map_or_else(|| "nothing".to_string(), describe),
                    expected: describe(old),
                }),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let known: BTreeSet<&String> = current.iter().map(|(name, _)| name).collect();
    if let Some(name) = saved.keys().find(|name| !known.contains(name)) {
        return Err(Error::BadTensor { name: name.clone(), found: "a tensor".into(), expected: "no tensor of this name".into() });
    }
    Ok(found)
}
