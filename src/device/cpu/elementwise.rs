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

/// The rows of an operand along its last axis: where each starts, and its step.
struct Rows {
    shape: Shape,
    strides: [usize; MAX_RANK],
    offset: usize,
    /// Whether its elements follow each other in memory from row to row.
    is_whole: bool,
}

impl Rows {
    fn new(shape: Shape, strides: [usize; MAX_RANK], offset: usize) -> Rows {
        let mut rows = Rows { shape, strides, offset, is_whole: false };
        let whole = Layout::contiguous(shape);
        rows.is_whole = (0..shape.rank()).all(|axis| shape[axis] == 1 || strides[axis] == whole.strides[axis]);
        rows
    }

    /// Elements of a row.
    fn length(&self) -> usize {
        self.shape[self.shape.rank() - 1]
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

    /// `count` elements from element `from` of row `row` on, which go over into the next rows if it is short: a piece of `data`, or a copy
    /// in `scratch`.
    fn piece<'a, T: Copy>(&self, data: &'a [T], row: usize, from: usize, count: usize, scratch: &'a mut Vec<T>) -> &'a [T] {
        if self.is_whole {
            return &data[self.offset + row * self.length() + from..][..count];
        }
        let step = self.strides[self.shape.rank() - 1];
        if step == 1 && from + count <= self.length() {
            return &data[self.start(row) + from..][..count];
        }
        scratch.clear();
        let (mut row, mut from) = (row, from);
        while scratch.len() < count {
            let taken = (self.length() - from).min(count - scratch.len());
            let data = &data[self.start(row) + from * step..];
            match step {
                0 => scratch.resize(scratch.len() + taken, data[0]),
                1 => scratch.extend_from_slice(&data[..taken]),
                _ => scratch.extend(data.iter().step_by(step).take(taken)),
            }
            (row, from) = (row + 1, 0);
        }
        scratch
    }
}

/// Calls `f(row, from, out, scratch)` for pieces of the output `[rows, length]`, in parallel: parts of a long row, or several short rows.
fn pieces<U: Send, S: Default>(out: &mut [U], length: usize, f: impl Fn(usize, usize, &mut [U], &mut S) + Sync) {
    let group = (CHUNK / length).max(1);
    let together = (PIECE / length).max(1);
    chunks_mut(out, group * length, |chunk, out| {
        let mut scratch = S::default();
        for (r, out) in out.chunks_mut(together * length).enumerate() {
            for (p, out) in out.chunks_mut(PIECE).enumerate() {
                f(chunk * group + r * together, p * PIECE, out, &mut scratch);
            }
        }
    });
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
    pieces(out, rows.length(), |row, from, out, scratch| f(rows.piece(data, row, from, out.len(), scratch), out));
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
    if left.is_whole && right.is_whole {
        let (a, b) = (&a.0[a.1.offset..], &b.0[b.1.offset..]);
        return chunks_mut(out, CHUNK, |i, out| f(&a[i * CHUNK..][..out.len()], &b[i * CHUNK..][..out.len()], out));
    }
    pieces(out, left.length(), |row, from, out, (scratch_a, scratch_b): &mut (Vec<A>, Vec<B>)| {
        let x = left.piece(a.0, row, from, out.len(), scratch_a);
        let y = right.piece(b.0, row, from, out.len(), scratch_b);
        f(x, y, out);
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

    /// Every pair of layouts, of rows shorter and longer than a piece, against one element at a time.
    #[test]
    fn rows_of_all_lengths_and_steps_are_put_together() {
        let data: Vec<f64> = (0..9000).map(|v| v as f64).collect();
        for (rows, length) in [(1, 1), (7, 1), (1, 7), (300, 2), (13, 5), (3, 1000), (3, 1024), (2, 1500), (40, 37)] {
            let shape = Shape::from([rows, length]);
            let strides: [[usize; 2]; 6] = [[length, 1], [1, rows], [0, 1], [1, 0], [0, 0], [length + 2, 1]];
            for (i, left) in strides.into_iter().enumerate() {
                for right in strides {
                    let layout = |[row, step]: [usize; 2], offset: usize| {
                        let mut layout = Layout::contiguous(shape);
                        layout.strides[..2].copy_from_slice(&[row, step]);
                        layout.offset = offset;
                        layout
                    };
                    let (a, b) = (layout(left, 3), layout(right, 5));
                    let mut out = vec![0.0; rows * length];
                    binary((&data, &a), (&data, &b), &mut out, |a, b| 1e5 * a + b);
                    let at = |[row, step]: [usize; 2], offset: usize, k: usize| data[offset + k / length * row + k % length * step];
                    for (k, o) in out.iter().enumerate() {
                        assert_eq!(*o, 1e5 * at(left, 3, k) + at(right, 5, k), "{rows} x {length}: {left:?}, {right:?}, element {k}");
                    }
                    if i == 0 {
                        unary((&data, &b), &mut out, |b| b);
                        assert!(out.iter().enumerate().all(|(k, o)| *o == at(right, 5, k)), "{rows} x {length}: {right:?}");
                    }
                }
            }
        }
    }
}
