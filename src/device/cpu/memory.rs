//! Memory whose size a user's number decides: asked for politely, so that too much is an error and not the end of the process.
//!
//! Linux promises memory that it does not have and kills the process that then uses it. Large requests are therefore compared with what
//! is free before they are made.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// After allocations of so many bytes the free memory is read again, which takes some twenty microseconds. As many bytes stay free.
const LOOK_AFTER: usize = 64 << 20;

/// Bytes that were allocated since the free memory was last read: many small requests fill the memory too.
static SINCE: AtomicUsize = AtomicUsize::new(0);

/// The free and the total memory in bytes, by the machine and by the limits of the process's control group.
/// `None` where the system does not report it.
pub(crate) fn free_and_total() -> Option<(usize, usize)> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let (mut free, mut total) = (system.available_memory(), system.total_memory());
    if let Some(limits) = system.cgroup_limits() {
        (free, total) = (free.min(limits.free_memory), total.min(limits.total_memory));
    }
    (total > 0).then(|| (usize::try_from(free).unwrap_or(usize::MAX), usize::try_from(total).unwrap_or(usize::MAX)))
}

/// The error of a request for `bytes` bytes that cannot be granted. The caller adds the op and the shapes.
pub(crate) fn refused(bytes: u128) -> Error {
    let (free, total) = free_and_total().unzip();
    Error::OutOfMemory { op: "memory", shapes: Vec::new(), device: "cpu".into(), asked: bytes, free, total }
}

/// Whether this number of bytes may be allocated.
///
/// # Errors
/// [`Error::OutOfMemory`] if more is wanted than is free.
pub(crate) fn check(bytes: usize) -> Result<()> {
    if SINCE.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) < LOOK_AFTER {
        return Ok(());
    }
    SINCE.store(0, Ordering::Relaxed);
    let lacks = || free_and_total().is_some_and(|(free, _)| bytes.saturating_add(LOOK_AFTER) > free);
    if lacks() {
        // Buffers in the pool count as free.
        super::recycled::release_unused();
        if lacks() {
            return Err(refused(bytes as u128));
        }
    }
    Ok(())
}

/// Bytes of a tensor of this shape; more than any memory has if they cannot be counted.
pub(crate) fn bytes(shape: Shape, dtype: DType) -> u128 {
    shape.iter().fold(dtype.size() as u128, |bytes, &length| bytes.saturating_mul(length as u128))
}

/// Whether a tensor of this shape could be made now.
pub(crate) fn check_shape(op: &'static str, shape: Shape, dtype: DType) -> Result<()> {
    let bytes = bytes(shape, dtype);
    usize::try_from(bytes).map_err(|_| refused(bytes)).and_then(check).map_err(|error| error.in_op(op, &[shape]))
}

/// An empty vector with room for `len` elements.
pub(crate) fn vector<T>(op: &'static str, len: usize) -> Result<Vec<T>> {
    let bytes = len as u128 * size_of::<T>() as u128;
    let mut vector = Vec::new();
    let granted = usize::try_from(bytes).map_err(|_| refused(bytes)).and_then(check);
    let granted = granted.and_then(|()| vector.try_reserve_exact(len).map_err(|_| refused(bytes)));
    granted.map_err(|error| error.in_op(op, &[]))?;
    Ok(vector)
}

/// A vector of `len` equal elements.
pub(crate) fn filled<T: Clone>(op: &'static str, value: T, len: usize) -> Result<Vec<T>> {
    let mut filled = vector(op, len)?;
    filled.resize(len, value);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_an_error_that_says_how_much() {
        for len in [1usize << 40, usize::MAX / 8, usize::MAX] {
            let error = vector::<f64>("here", len).unwrap_err();
            let Error::OutOfMemory { op: "here", asked, free, total, .. } = error else { panic!("{error:?}") };
            assert_eq!(asked, len as u128 * 8);
            assert!(free <= total);
        }
        assert_eq!(filled("here", 3u8, 5).unwrap(), [3; 5]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_tells_how_much_there_is() {
        let (free, total) = free_and_total().unwrap();
        assert!(free > 1 << 20 && free <= total);
    }
}
