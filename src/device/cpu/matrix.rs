//! Matrices as strided views of slices.

use std::ops::Range;

/// A matrix inside a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`. A transposed, cut or broadcast matrix
/// (stride 0) is a view of the same data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatRef<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// The row-major `rows x cols` matrix at the start of `data`.
    ///
    /// # Panics
    /// `data` is too short.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        MatRef::strided(data, rows, cols, cols, 1)
    }

    /// The matrix whose element `(i, j)` is `data[i * row_stride + j * col_stride]`.
    ///
    /// # Panics
    /// `data` is too short.
    pub(crate) fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Self {
        let view = MatRef { data, rows, cols, row_stride, col_stride };
        assert!(view.span().is_some_and(|span| span <= data.len()), "a {rows} x {cols} view must lie inside its data");
        view
    }

    /// The transposed view.
    pub(crate) fn t(self) -> Self {
        MatRef { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// The view of some rows and columns.
    ///
    /// # Panics
    /// A range reaches outside of the matrix.
    pub(crate) fn cut(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols, "a cut lies inside");
        let view = MatRef { rows: rows.len(), cols: cols.len(), ..self };
        if view.rows * view.cols == 0 { view } else { view.shifted(rows.start * self.row_stride + cols.start * self.col_stride) }
    }

    /// The same view `by` elements further in the data.
    pub(super) fn shifted(self, by: usize) -> Self {
        MatRef::strided(&self.data[by..], self.rows, self.cols, self.row_stride, self.col_stride)
    }

    /// Elements of `data` up to the last one of the view; none if that overflows.
    pub(super) fn span(&self) -> Option<usize> {
        if self.rows == 0 || self.cols == 0 {
            return Some(0);
        }
        let last_row = (self.rows - 1).checked_mul(self.row_stride)?;
        let last_col = (self.cols - 1).checked_mul(self.col_stride)?;
        last_row.checked_add(last_col)?.checked_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "view must lie inside its data")]
    fn a_view_outside_of_its_data_is_refused() {
        MatRef::strided(&[0.0f32; 11], 3, 4, 4, 1);
    }

    #[test]
    fn a_cut_of_a_transposed_view_shows_the_right_elements() {
        let data: Vec<f64> = (0..12).map(f64::from).collect();
        let view = MatRef::new(&data, 3, 4).t().cut(1..3, 2..3);
        assert_eq!((view.rows, view.cols), (2, 1));
        assert_eq!([view.data[0], view.data[view.row_stride]], [9.0, 10.0]);
        assert_eq!(MatRef::new(&data, 3, 4).cut(3..3, 0..4).rows, 0);
    }
}
