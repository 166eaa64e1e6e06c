//! Rows of the softmax family. A row fits the L1 cache as a rule: what is computed of it is computed while it is there, and exponentials
//! are computed again rather than kept, which costs less than a pass over memory.

use super::math::Real;
use super::parallel::{CHUNK, chunks_mut, simd};
use super::reduce::{map_sum, max, max_number, position, sum};

/// The maximum of a row, and the sum of its exponentials relative to that.
pub(crate) struct Exponentials<T> {
    /// The largest entry.
    pub(crate) largest: T,
    /// The sum without one largest entry, which is 1: where that has nearly everything, 1 would swallow the others.
    pub(crate) rest: T,
}

impl<T: Real> Exponentials<T> {
    /// The sums alone.
    pub(crate) fn of(x: &[T]) -> Exponentials<T> {
        Exponentials::to(x, &mut [])
    }

    /// Writes `exp(x - max(x))` to `out` too. An infinite maximum is its own limit: entries of infinity share everything, and a row of -inf
    /// alone has nothing to share.
    ///
    /// # Panics
    /// The lengths differ.
    pub(crate) fn new(x: &[T], out: &mut [T]) -> Exponentials<T> {
        assert_eq!(x.len(), out.len(), "exponentials: elements of the output");
        Exponentials::to(x, out)
    }

    fn to(x: &[T], out: &mut [T]) -> Exponentials<T> {
        // NaN makes the sum NaN, but where there are limits.
        let largest = max_number(x);
        if largest.abs() == T::INFINITY && max(x) != largest {
            let nan = max(x);
            out.fill(nan);
            return Exponentials { largest: nan, rest: nan };
        }
        if largest == T::NEG_INFINITY {
            out.fill(T::ZERO);
            return Exponentials { largest, rest: T::ZERO };
        }
        let (others, equals) = if largest == T::INFINITY {
            map_sum(x, out, |v| if v == T::INFINITY { T::ONE } else { T::ZERO }, |v| v == T::INFINITY)
        } else {
            map_sum(
                x,
                out,
                #[inline(always)]
                |v| Real::exp(v - largest),
                #[inline(always)]
                |v| v == largest,
            )
        };
        Exponentials { largest, rest: others + (equals - T::ONE) }
    }

    /// Whether there is nothing to share.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.largest == T::NEG_INFINITY
    }

    /// Whether the exponentials are limits.
    #[inline(always)]
    pub(crate) fn is_limit(&self) -> bool {
        self.largest.abs() == T::INFINITY
    }

    /// The sum with all entries.
    #[inline(always)]
    pub(crate) fn sum(&self) -> T {
        T::ONE + self.rest
    }

    /// Its logarithm.
    #[inline(always)]
    pub(crate) fn log_sum(&self) -> T {
        self.rest.ln_1p()
    }
}

/// Calls `f(row, row of x, row of out)` for rows of `length` elements, several to a task.
pub(crate) fn rows<T: Real>(x: &[T], out: &mut [T], length: usize, f: impl Fn(usize, &[T], &mut [T]) + Send + Sync) {
    let length = length.max(1);
    let group = (CHUNK / length).max(1);
    chunks_mut(out, group * length, |i, out| {
        for (r, out) in out.chunks_mut(length).enumerate() {
            let row = i * group + r;
            f(row, &x[row * length..][..length], out);
        }
    });
}

/// Calls `f(row of x)` for rows of `length` elements, several to a task, for an element of `out` each.
pub(crate) fn reduced_rows<T: Real>(x: &[T], out: &mut [T], length: usize, f: impl Fn(usize, &[T]) -> T + Send + Sync) {
    let group = (CHUNK / length.max(1)).max(1);
    chunks_mut(out, group, |i, out| {
        for (r, out) in out.iter_mut().enumerate() {
            let row = i * group + r;
            *out = f(row, &x[row * length..][..length]);
        }
    });
}

/// `out[i] = f(out[i])`, as vector code if `f` is inlined.
#[inline(always)]
pub(crate) fn update<T: Real>(out: &mut [T], f: impl Fn(T) -> T) {
    simd(
        #[inline(always)]
        || out.iter_mut().for_each(|o| *o = f(*o)),
    );
}

/// `softmax(x)`; zeros of a row of -inf alone.
pub(crate) fn softmax<T: Real>(x: &[T], out: &mut [T]) {
    let found = Exponentials::new(x, out);
    let sum = found.sum();
    if !found.is_none() {
        update(
            out,
            #[inline(always)]
            |o| o / sum,
        );
    }
}

/// `log(softmax(x))`.
pub(crate) fn log_softmax<T: Real>(x: &[T], out: &mut [T]) {
    let found = Exponentials::of(x);
    let (largest, log) = (found.largest, found.log_sum());
    if found.is_limit() {
        return out.iter_mut().zip(x).for_each(|(o, &v)| *o = if v == T::INFINITY { -log } else { T::NEG_INFINITY });
    }
    simd(
        #[inline(always)]
        || out.iter_mut().zip(x).for_each(|(o, &v)| *o = (v - largest) - log),
    );
}

/// The logarithm of the sum of the exponentials.
pub(crate) fn logsumexp<T: Real>(x: &[T]) -> T {
    let found = Exponentials::of(x);
    if found.is_limit() { found.largest } else { found.largest + found.log_sum() }
}

/// The gradient of [`logsumexp`]: `softmax(x) g`.
pub(crate) fn logsumexp_grad<T: Real>(x: &[T], g: T, out: &mut [T]) {
    let found = Exponentials::new(x, out);
    let sum = found.sum();
    if found.is_none() {
        return update(out, |o| o * g);
    }
    update(
        out,
        #[inline(always)]
        |o| o / sum * g,
    );
}

/// The gradient of [`softmax`] from its result `y`: `y (g - sum(y g))`, relative to the cotangent of an entry that has more than a half, or
/// the two terms would nearly cancel there. The weights sum to 1, so that this is a constant.
pub(crate) fn softmax_grad<T: Real>(y: &[T], g: &[T], out: &mut [T]) {
    let half = T::from_f64(0.5);
    let largest = max_number(y);
    let level = if largest > half { position(y, largest).map_or(T::ZERO, |at| g[at]) } else { T::ZERO };
    simd(
        #[inline(always)]
        || out.iter_mut().zip(y).zip(g).for_each(|((o, &y), &g)| *o = (g - level) * y),
    );
    let all = sum(out);
    simd(
        #[inline(always)]
        || out.iter_mut().zip(y).for_each(|(o, &y)| *o -= y * all),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::philox;

    /// Rows whose greatest entry has little, much, or is there twice, of lengths around those of vectors, blocks and tasks.
    fn each_row(mut f: impl FnMut(&[f32])) {
        for n in [1, 2, 15, 16, 17, 63, 64, 65, 1000, 4097, 70_000] {
            for lead in [0.0, 3.0, 30.0] {
                let mut x = vec![0.0; n];
                philox::fill_normal(&mut x, 5, n as u64, 0);
                x[n / 2] += lead;
                f(&x);
                x[n - 1] = x[n / 2];
                f(&x);
            }
        }
    }

    /// The exponential in f64 of the difference in f32: a row's entries are exact only relative to each other's rounding.
    fn exponential(v: f32, largest: f32) -> f64 {
        f64::from(v - largest).exp()
    }

    /// The largest entry, and the sums of the exponentials of the others and of all.
    fn exact(x: &[f32]) -> (f32, f64, f64) {
        let at = (0..x.len()).fold(0, |at, i| if x[i] > x[at] { i } else { at });
        let rest = (0..x.len()).filter(|&i| i != at).map(|i| exponential(x[i], x[at])).sum::<f64>();
        (x[at], rest, 1.0 + rest)
    }

    #[test]
    fn the_sums_are_those_of_f64_and_do_not_depend_on_what_is_written() {
        let mut worst = 0.0f64;
        each_row(|x| {
            let mut out = vec![f32::NAN; x.len()];
            let (found, alone) = (Exponentials::new(x, &mut out), Exponentials::of(x));
            assert_eq!(found.rest.to_bits(), alone.rest.to_bits());
            let (largest, rest, _) = exact(x);
            assert_eq!(found.largest, largest);
            worst = worst.max((f64::from(found.rest) - rest).abs() / rest.max(1e-30));
            for (o, &v) in out.iter().zip(x) {
                assert!((f64::from(*o) - exponential(v, largest)).abs() <= 3e-7 * f64::from(*o), "{v} of {}", x.len());
            }
        });
        assert!(worst < 3e-7, "{worst}");
    }

    #[test]
    fn gradients_are_those_of_f64() {
        each_row(|x| {
            let n = x.len();
            let mut g = vec![0.0; n];
            philox::fill_normal(&mut g, 6, n as u64, 0);
            let (mut y, mut out) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            softmax(x, &mut y);
            softmax_grad(&y, &g, &mut out);
            let (largest, _, total) = exact(x);
            let share = |v: f32| exponential(v, largest) / total;
            let mean: f64 = x.iter().zip(&g).map(|(&v, &g)| share(v) * f64::from(g)).sum();
            for (i, &o) in out.iter().enumerate() {
                let expected = share(x[i]) * (f64::from(g[i]) - mean);
                assert!((f64::from(o) - expected).abs() < 3e-6 * share(x[i]), "{i} of {n}: {o} {expected}");
            }
            logsumexp_grad(x, 0.75, &mut out);
            assert!(out.iter().zip(x).all(|(&o, &v)| (f64::from(o) - 0.75 * share(v)).abs() < 1e-6 * share(v)));
            assert!((f64::from(logsumexp(x)) - (f64::from(largest) + total.ln())).abs() < 2e-6);
        });
    }

    /// It is what the others take, which would be lost in a difference of two large terms.
    #[test]
    fn the_gradient_of_an_entry_with_nearly_everything_keeps_its_digits() {
        let (x, g) = ([0.5f32, 20.0, 0.0], [2.0f32, 3.0, -1.0]);
        let (mut y, mut out) = ([0.0; 3], [0.0; 3]);
        softmax(&x, &mut y);
        softmax_grad(&y, &g, &mut out);
        let (largest, _, total) = exact(&x);
        let share = |i: usize| exponential(x[i], largest) / total;
        let expected: f64 = [0, 2].map(|i| share(1) * share(i) * f64::from(g[1] - g[i])).iter().sum();
        assert!((f64::from(out[1]) - expected).abs() < 1e-6 * expected, "{} for {expected}", out[1]);
    }

    #[test]
    fn nan_and_infinities_are_kept() {
        for n in [3, 40, 100] {
            let (mut x, mut out) = (vec![0.5f32; n], vec![0.0; n]);
            x[1] = f32::NEG_INFINITY;
            softmax(&x, &mut out);
            assert!(out[1] == 0.0 && (out[0] * (n as f32 - 1.0) - 1.0).abs() < 1e-6);
            x[n - 1] = f32::INFINITY;
            softmax(&x, &mut out);
            assert!(out[n - 1] == 1.0 && out[0] == 0.0 && logsumexp(&x) == f32::INFINITY);
            x[0] = f32::NAN;
            softmax(&x, &mut out);
            assert!(out.iter().all(|o| o.is_nan()) && logsumexp(&x).is_nan());
            x.fill(f32::NEG_INFINITY);
            x[n - 2] = f32::NAN;
            softmax(&x, &mut out);
            assert!(out.iter().all(|o| o.is_nan()) && logsumexp(&x).is_nan());
            x[n - 2] = f32::NEG_INFINITY;
            softmax(&x, &mut out);
            assert!(out.iter().all(|&o| o == 0.0) && logsumexp(&x) == f32::NEG_INFINITY);
        }
    }
}
