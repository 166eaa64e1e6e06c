use super::*;
use crate::device::cpu::parallel;

const KEY: u64 = 0x1234_5678_9abc_def0;

/// Uniform `i` of a draw, in (0, 1).
fn uniform(key: u64, draw: u64, i: u64) -> f32 {
    uniform_from(word(key, draw, i))
}

/// Normal `i` of a draw.
fn normal(key: u64, draw: u64, i: u64) -> f32 {
    let [a, b, c, d] = block(key, draw, i / 4);
    let (first, second) = if i % 4 < 2 { box_muller::pair(a, b) } else { box_muller::pair(c, d) };
    if i.is_multiple_of(2) { first } else { second }
}

#[test]
fn known_answers() {
    // Random123, kat_vectors.
    let cases = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, words) in cases {
        assert_eq!(philox4x32_10(counter, key), words);
    }
}

#[test]
fn agrees_with_another_implementation() {
    for i in 0..1000_u64 {
        let x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (block_index, draw, key) = (x ^ (x >> 31), x.rotate_left(17), x.rotate_left(40) ^ KEY);
        let counter = [block_index as u32, (block_index >> 32) as u32, draw as u32, (draw >> 32) as u32];
        let theirs = rand_philox::philox4x32_10(counter, [key as u32, (key >> 32) as u32]);
        assert_eq!(block(key, draw, block_index), theirs);
    }
}

#[test]
fn elements_depend_on_their_index_alone() {
    // Across the carry of the low counter word, at every offset within a block and around group borders.
    let start = (1_u64 << 34) - 700;
    let mut words = vec![0; 1500];
    let mut uniforms = vec![0.0; 1500];
    let mut normals = vec![0.0; 1500];
    fill_words(&mut words, KEY, 3 << 33, start);
    fill_uniform(&mut uniforms, KEY, 3 << 33, start);
    fill_normal(&mut normals, KEY, 3 << 33, start);
    for i in 0..1500 {
        let at = start + i as u64;
        assert_eq!(words[i], word(KEY, 3 << 33, at));
        assert_eq!(uniforms[i], uniform(KEY, 3 << 33, at));
        assert_eq!(normals[i].to_bits(), normal(KEY, 3 << 33, at).to_bits());
    }
    for (first, len) in [(0, 1), (1, 2), (3, 5), (511, 2), (513, 700), (699, 801), (0, 1500)] {
        let mut part = vec![0.0; len];
        fill_normal(&mut part, KEY, 3 << 33, start + first as u64);
        assert_eq!(part, normals[first..first + len]);
        let mut wide = vec![0.0; len];
        fill_normal_f64(&mut wide, KEY, 3 << 33, start + first as u64);
        assert!(wide.iter().zip(&part).all(|(w, p)| *w == f64::from(*p)));
        fill_uniform_f64(&mut wide, KEY, 3 << 33, start + first as u64);
        assert!(wide.iter().zip(&uniforms[first..]).all(|(w, u)| (*w - f64::from(*u)).abs() <= 0.5_f64.powi(24)));
        let low = |i: usize| word(KEY, 3 << 33 | FINE, start + (first + i) as u64);
        assert!(wide.iter().enumerate().all(|(i, w)| *w == fine_uniform_from(words[first + i], low(i))));
    }
    fill_normal(&mut [], KEY, 0, 0);
}

#[test]
fn long_fills_do_not_depend_on_chunks() {
    let mut long = vec![0.0; 3 * CHUNK + 17];
    fill_normal(&mut long, KEY, 1, 5);
    for i in [0, CHUNK - 1, CHUNK, 2 * CHUNK + 3, 3 * CHUNK, 3 * CHUNK + 16] {
        assert_eq!(long[i], normal(KEY, 1, 5 + i as u64));
    }
}

/// A hash of the 32-bit words: FNV-1a's with another start.
fn hash(values: &[f32]) -> u64 {
    values.iter().fold(0x1465_0fb0_739d_0383, |h, v| (h ^ u64::from(v.to_bits())).wrapping_mul(0x0000_0100_0000_01b3))
}

#[test]
fn bits_are_pinned() {
    // These numbers are part of the file format, so to speak: a change breaks the resumption of runs and the agreement of devices.
    let mut out = vec![0.0; 16_000_000];
    fill_normal(&mut out, KEY, 7, 0);
    assert_eq!(hash(&out), 0x28e5_df6e_289d_757d);
    out.truncate(1 << 18);
    fill_uniform(&mut out, KEY, 7, 0);
    assert_eq!(hash(&out), 0x1f67_b3eb_6ca8_dce8);
}

#[test]
fn extreme_words_give_finite_normals() {
    for a in [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, u32::MAX - 1, u32::MAX] {
        for b in [0, 1, (1 << 29) - 1, 1 << 29, 1 << 30, 1 << 31, 3 << 30, u32::MAX] {
            let (x, y) = box_muller::pair(a, b);
            let (p, q) = exact(a, b);
            assert!((f64::from(x) - p).abs() < 2e-6 && (f64::from(y) - q).abs() < 2e-6, "{a} {b}: {x} {y} {p} {q}");
        }
    }
    assert_eq!((uniform_from(0), uniform_from(u32::MAX)), (0.5_f32.powi(24), 1.0 - 0.5_f32.powi(24)));
    let ends = (fine_uniform_from(0, 0), fine_uniform_from(u32::MAX, u32::MAX));
    assert_eq!(ends, (0.5_f64.powi(53), 1.0 - 0.5_f64.powi(53)));
}

/// Box-Muller of the same words in f64, but for the rounding of u to single precision, which is part of the recipe: above 1/2 it moves
/// u by up to 2^-25.
fn exact(a: u32, b: u32) -> (f64, f64) {
    let u = f64::from(((f64::from(a) + 0.5) / 2_f64.powi(32)) as f32);
    let r = (-2.0 * u.ln()).sqrt();
    let (s, c) = (std::f64::consts::TAU * f64::from(b) / 2_f64.powi(32)).sin_cos();
    (r * c, r * s)
}

#[test]
fn normals_are_close_to_exact_and_have_the_right_moments() {
    let n = 1 << 20;
    let mut z = vec![0.0; n];
    fill_normal(&mut z, KEY, 11, 0);
    let mut worst = 0.0_f64;
    for (i, pair) in z.chunks(2).enumerate().take(1 << 17) {
        let i = 2 * i as u64;
        let (p, q) = exact(word(KEY, 11, i), word(KEY, 11, i + 1));
        worst = worst.max((f64::from(pair[0]) - p).abs()).max((f64::from(pair[1]) - q).abs());
    }
    assert!(worst < 1.5e-6, "{worst}");
    let moment = |k: i32| z.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n as f64;
    let (mean, second, third, fourth) = (moment(1), moment(2), moment(3), moment(4));
    // Five standard errors: the variances of z, z^2, z^3, z^4 are 1, 2, 15, 96.
    let band = 5.0 / (n as f64).sqrt();
    assert!(mean.abs() < band, "{mean}");
    assert!((second - 1.0).abs() < band * 2_f64.sqrt(), "{second}");
    assert!(third.abs() < band * 15_f64.sqrt(), "{third}");
    assert!((fourth - 3.0).abs() < band * 96_f64.sqrt(), "{fourth}");
    let largest = z.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    assert!((4.5..6.764).contains(&largest), "{largest}");
    // The two of a pair, and neighbours across pairs, are uncorrelated.
    for lag in 1..5 {
        let c = z.iter().zip(&z[lag..]).map(|(&a, &b)| f64::from(a * b)).sum::<f64>() / n as f64;
        assert!(c.abs() < band, "{lag}: {c}");
    }
    // Kolmogorov-Smirnov distance to the normal distribution, with its 1e-4 point of 2.23 / sqrt(n).
    z.truncate(1 << 16);
    z.sort_by(f32::total_cmp);
    let m = z.len() as f64;
    let distance = z.iter().enumerate().fold(0.0_f64, |d, (i, &v)| {
        let p = 0.5 * crate::device::cpu::math::erf::erfc(-f64::from(v) * std::f64::consts::FRAC_1_SQRT_2);
        d.max((p - i as f64 / m).abs()).max((p - (i + 1) as f64 / m).abs())
    });
    assert!(distance < 2.23 / m.sqrt(), "{distance}");
}

#[test]
fn uniforms_have_the_right_moments() {
    let n = 1 << 18;
    let mut u = vec![0.0; n];
    fill_uniform(&mut u, KEY, 12, 0);
    assert!(u.iter().all(|&u| 0.0 < u && u < 1.0));
    let mean = u.iter().map(|&u| f64::from(u)).sum::<f64>() / n as f64;
    let variance = u.iter().map(|&u| (f64::from(u) - 0.5).powi(2)).sum::<f64>() / n as f64;
    assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / n as f64).sqrt(), "{mean}");
    assert!((variance - 1.0 / 12.0).abs() < 5.0 * (1.0 / 180.0 / n as f64).sqrt(), "{variance}");
}

#[test]
fn vector_and_scalar_code_give_the_same_bits() {
    let words: Vec<u32> = (0..4096).map(|i| word(KEY, 13, i)).collect();
    let mut vector = vec![(0.0, 0.0); 2048];
    parallel::simd(
        #[inline(always)]
        || words.chunks_exact(2).zip(&mut vector).for_each(|(w, v)| *v = box_muller::pair(w[0], w[1])),
    );
    // Outside the dispatch the baseline instruction set has neither wide vectors nor a fused multiply-add.
    for (w, v) in words.chunks_exact(2).zip(&vector) {
        assert_eq!(std::hint::black_box(box_muller::pair)(w[0], w[1]), *v);
    }
}
