//! Conversions between element types against an exact reference: every number to the nearest one of the other type, ties to even, rounded
//! once, on the device of `STRAIT_DEVICE`.

mod device_support;

use device_support::device;
use half::{bf16, f16};
use strait::{DType, Device, Rng, Tensor};

/// The finite numbers of a 16-bit type that are not negative, in order, and one step beyond them, which stands for infinity.
fn halves(dtype: DType) -> Vec<f64> {
    let value = |bits: u16| if dtype == DType::F16 { f16::from_bits(bits).to_f64() } else { bf16::from_bits(bits).to_f64() };
    let mut all: Vec<f64> = (0..=0x7fffu16).map(value).filter(|v| v.is_finite()).collect();
    let [.., before, last] = all[..] else { unreachable!("there are many") };
    all.push(last + (last - before));
    all
}

/// Whether `2 x` is below, at or above `twice`, for an integer or a float x; exact.
trait Exact: Copy {
    fn compare_twice(self, twice: f64) -> std::cmp::Ordering;
    fn is_below_zero(self) -> bool;
    fn negated(self) -> Self;
}

impl Exact for f64 {
    fn compare_twice(self, twice: f64) -> std::cmp::Ordering {
        // sums of two neighbours of a smaller type, and the double of an f64, are f64s
        (2.0 * self).partial_cmp(&twice).expect("no NaN here")
    }
    fn is_below_zero(self) -> bool {
        self < 0.0
    }
    fn negated(self) -> f64 {
        -self
    }
}

impl Exact for i128 {
    fn compare_twice(self, twice: f64) -> std::cmp::Ordering {
        // floor and fraction of what an integer is compared with
        let floor = twice.floor().clamp(-1e30, 1e30) as i128;
        (2 * self).cmp(&floor).then(if twice > twice.floor() { std::cmp::Ordering::Less } else { std::cmp::Ordering::Equal })
    }
    fn is_below_zero(self) -> bool {
        self < 0
    }
    fn negated(self) -> i128 {
        -self
    }
}

/// The nearest of `table` (ascending from 0, its last entry standing for infinity), ties to the entry of even index.
fn nearest<X: Exact>(x: X, table: &[f64]) -> f64 {
    let (size, sign) = if x.is_below_zero() { (x.negated(), -1.0) } else { (x, 1.0) };
    // the first entry whose middle with the next is not below x
    let (mut low, mut high) = (0, table.len() - 1);
    while low < high {
        let at = (low + high) / 2;
        match size.compare_twice(table[at] + table[at + 1]) {
            std::cmp::Ordering::Less => high = at,
            std::cmp::Ordering::Equal => {
                (low, high) = if at % 2 == 0 { (at, at) } else { (at + 1, at + 1) };
            }
            std::cmp::Ordering::Greater => low = at + 1,
        }
    }
    sign * if low == table.len() - 1 { f64::INFINITY } else { table[low] }
}

/// The nearest f32, by its neighbours.
fn nearest_f32<X: Exact>(x: X, about: f64) -> f64 {
    let bits = (about.abs() as f32).to_bits();
    let around: Vec<f64> = (bits.saturating_sub(2)..=(bits + 2).min(0x7f80_0000))
        .map(|b| if b == 0x7f80_0000 { 2.0f64.powi(128) } else { f64::from(f32::from_bits(b)) })
        .collect();
    // a table that begins at an even entry, so that the parity of places is that of bits
    let skip = (bits.saturating_sub(2) % 2) as usize;
    let found = nearest(x, &around[skip..]);
    if found.abs() >= 2.0f64.powi(128) { f64::INFINITY.copysign(found) } else { found }
}

/// Numbers at, next to and between the middles of neighbours, the ends, and random bits.
fn floats() -> Vec<f64> {
    let mut all = vec![
        0.0,
        -0.0,
        65519.9999,
        65520.0,
        65504.0,
        1.0 + 2f64.powi(-11) + 2f64.powi(-40),
        1e-320,
        1e300,
        f64::MAX,
        3.4028235677973366e38,
    ];
    for table in [halves(DType::F16), halves(DType::BF16)] {
        for pair in table.windows(2).step_by(37) {
            let middle = (pair[0] + pair[1]) / 2.0;
            let lower_half = 2f64.powi(-40) * middle;
            all.extend([pair[0], middle, middle.next_up(), middle.next_down(), middle + lower_half, middle - lower_half]);
            all.extend([f64::from((middle as f32).next_up()), -middle, -middle.next_up()]);
        }
    }
    let words = Rng::new(9).draw();
    all.extend((0..4000).map(|i| f64::from_bits(u64::from(words.word(2 * i)) << 32 | u64::from(words.word(2 * i + 1)))));
    // exponents that all types have
    all.extend(
        (4000..8000).map(|i| (f64::from(words.word(2 * i)) / 2f64.powi(31) - 1.0) * 2f64.powi((words.word(2 * i + 1) % 60) as i32 - 40)),
    );
    all.retain(|v| v.is_finite());
    all
}

fn integers() -> Vec<i64> {
    let mut all =
        vec![0, 16842753, -16842753, 0x7fff_ff40_0000_0001, 0x358a_09a0_0000_0002, i64::MAX, i64::MIN, i64::MIN + 1, 65519, 65520, 65521];
    for shift in 8..62 {
        // middles of neighbours of each type, and what lies next to them
        for bits in [8, 11, 24, 53] {
            let middle = (1i64 << shift) + (1i64 << (shift - i64::min(shift, bits)));
            all.extend([middle - 1, middle, middle + 1, -middle, -middle - 1, 3 * (middle / 2) + 1]);
        }
    }
    let words = Rng::new(10).draw();
    let random = |i: u64| (u64::from(words.word(2 * i)) << 32 | u64::from(words.word(2 * i + 1))) as i64;
    all.extend((0..4000).map(|i| random(i) >> (i % 60)));
    all
}

#[track_caller]
fn check<S: std::fmt::Debug>(what: &str, source: &[S], found: &[f64], exact: impl Fn(&S) -> f64) {
    for (x, &found) in source.iter().zip(found) {
        let exact = exact(x);
        assert!(found == exact || (found.is_nan() && exact.is_nan()), "{what}: {x:?} became {found:e}, nearest is {exact:e}");
    }
}

#[test]
fn floats_are_rounded_once_to_even() {
    let source = floats();
    let x = Tensor::from_slice(&source, [source.len()], &device()).unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let table = halves(dtype);
        let found = x.to_dtype(dtype).unwrap().to_f64_vec().unwrap();
        check(&format!("f64 to {dtype}"), &source, &found, |&v| nearest(v, &table));
        for v in source.iter().step_by(9) {
            let found = Tensor::full(*v, [3], dtype, &device()).unwrap().to_f64_vec().unwrap();
            check(&format!("full of {dtype}"), &[*v; 3], &found, |&v| nearest(v, &table));
        }
        let single: Vec<f32> = source.iter().map(|&v| v as f32).filter(|v| v.is_finite()).collect();
        let found = Tensor::from_slice(&single, [single.len()], &device()).unwrap().to_dtype(dtype).unwrap().to_f64_vec().unwrap();
        check(&format!("f32 to {dtype}"), &single, &found, |&v| nearest(f64::from(v), &table));
        // from the other 16-bit type and from bytes
        let other = if dtype == DType::F16 { DType::BF16 } else { DType::F16 };
        let halves = x.to_dtype(other).unwrap();
        let (source, found) = (halves.to_f64_vec().unwrap(), halves.to_dtype(dtype).unwrap().to_f64_vec().unwrap());
        check(&format!("{other} to {dtype}"), &source, &found, |&v| if v.is_finite() { nearest(v, &table) } else { v });
        let bytes: Vec<u8> = (0..=255).collect();
        let found = Tensor::from_slice(&bytes, [256], &device()).unwrap().to_dtype(dtype).unwrap().to_f64_vec().unwrap();
        check(&format!("u8 to {dtype}"), &bytes, &found, |&v| nearest(i128::from(v), &table));
    }
    let found = x.to_dtype(DType::F32).unwrap().to_f64_vec().unwrap();
    check("f64 to f32", &source, &found, |&v| nearest_f32(v, v));
}

#[test]
fn integers_are_rounded_once_to_even() {
    let source = integers();
    let x = Tensor::from_slice(&source, [source.len()], &device()).unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let table = halves(dtype);
        let found = x.to_dtype(dtype).unwrap().to_f64_vec().unwrap();
        check(&format!("i64 to {dtype}"), &source, &found, |&v| nearest(i128::from(v), &table));
    }
    let found = x.to_dtype(DType::F32).unwrap().to_f64_vec().unwrap();
    check("i64 to f32", &source, &found, |&v| nearest_f32(i128::from(v), v as f64));
    let found = x.to_dtype(DType::F64).unwrap().to_f64_vec().unwrap();
    check("i64 to f64", &source, &found, |&v| v as f64);
    let found = x.to_dtype(DType::U8).unwrap().to_f64_vec().unwrap();
    check("i64 to u8", &source, &found, |&v| v.clamp(0, 255) as f64);
}

#[test]
fn integers_cut_and_saturate_and_gradients_are_converted_back() {
    let source = [2.9, -2.9, 300.0, -1.0, 1e300, -1e300, f64::NAN, f64::INFINITY];
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let x = Tensor::from_slice(&source[..4], [4], &device()).unwrap().to_dtype(dtype).unwrap();
        let cut = |x: &Tensor| x.to_dtype(DType::I64).unwrap().to_vec::<i64>().unwrap();
        assert_eq!((cut(&x)[0], cut(&x)[1], cut(&x)[3]), (2, -2, -1), "{dtype}");
        assert_eq!(x.to_dtype(DType::U8).unwrap().to_vec::<u8>().unwrap()[2..], [255, 0]);
    }
    let x = Tensor::from_slice(&source[4..], [4], &Device::cpu()).unwrap();
    assert_eq!(x.to_dtype(DType::I64).unwrap().to_vec::<i64>().unwrap(), [i64::MAX, i64::MIN, 0, i64::MAX]);
    let x = Tensor::from_slice(&[1.5f32, -0.25], [2], &device()).unwrap().requires_grad();
    let slope = strait::grad(&x.to_dtype(DType::F16).unwrap().square().unwrap().sum_all().unwrap(), &[&x]).unwrap().remove(0);
    assert_eq!((slope.dtype(), slope.to_f64_vec().unwrap()), (DType::F32, vec![3.0, -0.5]));
}
