//! Buffers that a thread keeps from one task to the next: fresh pages for each task would cost more than many a copy into them.

use std::cell::RefCell;

use super::math::Real;

thread_local! {
    /// Buffers not in use. Nested uses take further ones.
    static FREE: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with a buffer of `len` elements. The contents are left over from earlier uses: write before reading.
pub(super) fn with<T: Real, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(|free| free.pop()).unwrap_or_default();
    let words = (len * size_of::<T>()).div_ceil(size_of::<f64>());
    if buffer.len() < words {
        buffer.resize(words, 0.0);
    }
    let result = f(&mut bytemuck::cast_slice_mut(&mut buffer)[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    #[test]
    fn nested_buffers_are_distinct() {
        super::with(5, |a: &mut [f32]| {
            a.fill(1.0);
            super::with(7, |b: &mut [f64]| b.fill(2.0));
            assert_eq!(a, [1.0; 5]);
        });
    }
}
