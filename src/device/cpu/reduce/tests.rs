//! The sums against exact ones, on lengths around those of vectors, blocks and tasks.

use super::*;
use crate::device::cpu::philox;

fn data(n: usize, draw: u64) -> Vec<f32> {
    let mut x = vec![0.0; n];
    philox::fill_normal(&mut x, 5, draw, 0);
    x
}

const LENGTHS: [usize; 12] = [0, 1, 15, 16, 17, 4095, 4096, 4097, 65_536, 65_537, 200_000, 300_001];

#[test]
fn sums_and_dots_are_exact_on_small_integers() {
    for n in LENGTHS {
        let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
        let y: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let total: usize = (0..n).map(|i| i % 7).sum();
        let squares: usize = (0..n).map(|i| (i % 7) * (i % 7)).sum();
        assert_eq!((sum(&x), sum(&y)), (total as f32, total as f64), "{n}");
        assert_eq!((dot(&x, &x), dot(&y, &y)), (squares as f32, squares as f64), "{n}");
    }
}

#[test]
fn positions_are_of_the_first() {
    for n in LENGTHS {
        let mut x = data(n, 3);
        assert_eq!(position(&x, 7.0), None, "{n}");
        for at in [n.saturating_sub(1), n / 2, 0] {
            if at < n {
                x[at] = 7.0;
                assert_eq!(position(&x, 7.0), Some(at), "{n}");
            }
        }
        assert_eq!(position(&x, f32::NAN), None);
    }
}

#[test]
fn long_sums_stay_accurate() {
    let x: Vec<f32> = data(1_000_000, 0).iter().map(|z| z + 10.0).collect();
    let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
    assert!((sum_f64(&x) / exact - 1.0).abs() < 2e-8, "{} {exact}", sum_f64(&x));
    let y = data(1_000_000, 1);
    let exact: f64 = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    assert!((f64::from(dot(&x, &y)) - exact).abs() < 0.02, "{} {exact}", dot(&x, &y));
}

#[test]
fn maxima_are_found_anywhere_and_keep_nan() {
    for n in LENGTHS {
        let mut x = data(n, 2);
        let plain = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!((max(&x), max_number(&x)), (plain, plain));
        for at in [0, n / 2, n.saturating_sub(1)].into_iter().filter(|&at| at < n) {
            let old = std::mem::replace(&mut x[at], 100.0);
            assert_eq!((max(&x), max_number(&x)), (100.0, 100.0));
            x[at] = f32::NAN;
            assert!(n == 1 || max_number(&x) < 100.0 && max_number(&x) > f32::NEG_INFINITY);
            assert!(max(&x).is_nan() && sum(&x).is_nan());
            x[at] = old;
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (x, y) = (data(500_000, 3), data(500_000, 4));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| (sum(&x).to_bits(), dot(&x, &y).to_bits(), max(&x).to_bits()))
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[should_panic(expected = "same length")]
fn dot_of_different_lengths_panics() {
    dot(&[1.0_f32], &[1.0, 2.0]);
}
