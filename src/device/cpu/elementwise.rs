//! Elementwise loops over strided inputs into contiguous outputs.
//!
//! Each function of elements is compiled into one vector loop over plain slices; following layouts and splitting work is
//! done once for all of them, by the `*_slices` functions, which copy short pieces of strided inputs together first.

use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::shape::{Layout, MAX_RANK, Shape};

/// A storage's elements and the layout that says which of them are meant.
pub(crate) type View<'a, T> = (&'a [T], &'a Layout);

/// Elements that are copied together at a time when an input is not contiguous.
const PIECE: usize = 1024;

/// `out[i] = f(x[i])` for every element of the view, in row-major order.
pub(crate) fn unary<T: Copy + Send + Sync, U: Send>(x: View<T>, out: &mut [U], f: impl Fn(T) -> U + Copy + Send + Sync) {
    unary_slices(x, out, &|x, out| {
        simd(
            #[inline(always)]
            || {
                for (o, &v) in out.iter_mut().zip(x) {
                    *o = f(v);
                }
            },
        )
    });
}

/// `out[i] = f(a[i], b[i])`; both views have the output's shape.
pub(crate) fn binary<A: Copy + Send + Sync, B: Copy + Send + Sync, U: Send>(
    a: View<A>,
    b: View<B>,
    out: &mut [U],
    f: impl Fn(A, B) -> U + Copy + Send + Sync,
) {
    binary_slices(a, b, out, &|a, b, out| {
        simd(
            #[inline(always)]
            || {
                for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
                    *o = f(x, y);
                }
            },
        )
    });
}

/// The start of a run of rows in an operand, and its step along the last axis.
struct Rows {
    shape: Shape,
    strides: [usize; MAX_RANK],
    offset: usize,
}

impl Rows {
    fn new(shape: Shape, strides: [usize; MAX_RANK], offset: usize) -> Rows {
        Rows { shape, strides, offset }
    }

    /// Offset of row `index`, counting over all axes but the last.
    fn start(&self, mut index: usize) -> usize {
        let mut at = self.offset;
        for axis in (0..self.shape.rank() - 1).rev() {
            at += index % self.shape[axis] * self.strides[axis];
            index /= self.shape[axis];
        }
        at
    }

    /// `count` elements of the row that starts at `at`, from element `from` on: a piece of `data`, or a copy in `scratch`.
    fn piece<'a, T: Copy>(&self, data: &'a [T], at: usize, from: usize, count: usize, scratch: &'a mut Vec<T>) -> &'a [T] {
        match self.strides[self.shape.rank() - 1] {
            1 => &data[at + from..][..count],
            step => {
                scratch.clear();
                scratch.extend((from..from + count).map(|i| data[at + i * step]));
                scratch
            }
        }
    }
}

/// Calls `f` with pieces of the input and the output that belong together.
pub(crate) fn unary_slices<T: Copy + Send + Sync, U: Send>(x: View<T>, out: &mut [U], f: &(dyn Fn(&[T], &mut [U]) + Sync)) {
    let (data, layout) = x;
    if out.is_empty() {
        return;
    }
    if layout.is_contiguous() {
        let data = &data[layout.offset..][..out.len()];
        return chunks_mut(out, CHUNK, |i, out| f(&data[i * CHUNK..][..out.len()], out));
    }
    let (shape, strides) = Layout::collapse([layout]);
    let shape = if shape.rank() == 0 { Shape::from([1]) } else { shape };
    let rows = Rows::new(shape, strides[0], layout.offset);
    let inner = shape[shape.rank() - 1];
    let group = (CHUNK / inner).max(1);
    chunks_mut(out, group * inner, |chunk, out| {
        let mut scratch = Vec::new();
        for (r, out) in out.chunks_mut(inner).enumerate() {
            let at = rows.start(chunk * group + r);
            for (p, out) in out.chunks_mut(PIECE).enumerate() {
                f(rows.piece(data, at, p * PIECE, out.len(), &mut scratch), out);
            }
        }
    });
}

/// A function of pieces of two inputs that writes a piece of the output.
type PieceOf2<'a, A, B, U> = dyn Fn(&[A], &[B], &mut [U]) + Sync + 'a;

/// Calls `f` with pieces of both inputs and the output that belong together.
pub(crate) fn binary_slices<A: Copy + Send + Sync, B: Copy + Send + Sync, U: Send>(
    a: View<A>,
    b: View<B>,
    out: &mut [U],
    f: &PieceOf2<'_, A, B, U>,
) {
    if out.is_empty() {
        return;
    }
    let (shape, strides) = Layout::collapse([a.1, b.1]);
    let shape = if shape.rank() == 0 { Shape::from([1]) } else { shape };
    let (left, right) = (Rows::new(shape, strides[0], a.1.offset), Rows::new(shape, strides[1], b.1.offset));
    let inner = shape[shape.rank() - 1];
    if shape.rank() == 1 && strides[0][0] == 1 && strides[1][0] == 1 {
        let (a, b) = (&a.0[a.1.offset..], &b.0[b.1.offset..]);
        return chunks_mut(out, CHUNK, |i, out| f(&a[i * CHUNK..][..out.len()], &b[i * CHUNK..][..out.len()], out));
    }
    let group = (CHUNK / inner).max(1);
    chunks_mut(out, group * inner, |chunk, out| {
        let (mut scratch_a, mut scratch_b) = (Vec::new(), Vec::new());
        for (r, out) in out.chunks_mut(inner).enumerate() {
            let (at, bt) = (left.start(chunk * group + r), right.start(chunk * group + r));
            for (p, out) in out.chunks_mut(PIECE).enumerate() {
                let x = left.piece(a.0, at, p * PIECE, out.len(), &mut scratch_a);
                let y = right.piece(b.0, bt, p * PIECE, out.len(), &mut scratch_b);
                f(x, y, out);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_are_followed() {
        let data: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let mut layout = Layout::contiguous(Shape::from([4, 3, 2]));
        layout.strides = [1, 4, 12, 0, 0, 0];
        let mut out = vec![0.0; 24];
        unary((&data, &layout), &mut out, |v| v);
        for (i, o) in out.iter().enumerate() {
            assert_eq!(*o as usize, i / 6 + (i / 2 % 3) * 4 + (i % 2) * 12);
        }
        let row = Layout::contiguous(Shape::from([2])).broadcast_to(layout.shape);
        binary((&data, &layout), (&[10.0f32, 20.0], &row), &mut out, |a, b| a + b);
        assert_eq!(&out[..4], &[10.0, 32.0, 14.0, 36.0]);
    }

    #[test]
    fn long_rows_are_cut_at_the_right_places() {
        let data: Vec<f64> = (0..50_000).map(|v| v as f64).collect();
        let whole = Layout::contiguous(Shape::from([50_000]));
        let one = Layout::contiguous(Shape::SCALAR).broadcast_to(whole.shape);
        let mut out = vec![0.0; 50_000];
        binary((&data, &whole), (&[0.5], &one), &mut out, |a, b| a + b);
        assert!(out.iter().enumerate().all(|(i, &o)| o == i as f64 + 0.5));
        unary((&data, &whole), &mut out, |a| -a);
        assert!(out.iter().enumerate().all(|(i, &o)| o == -(i as f64)));
    }
}
