//! Rows with infinities, and rows in which one class has nearly everything, in the softmax family, on the device of `STRAIT_DEVICE`.

mod device_support;

use device_support::device;
use strait::{DType, Result, Tensor, grad, grad_graph};

const INF: f64 = f64::INFINITY;
const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::BF16, DType::F16];

fn row(values: &[f64], dtype: DType) -> Tensor {
    Tensor::from_slice(values, [1, values.len()], &device()).unwrap().to_dtype(dtype).unwrap().requires_grad()
}

fn vec(x: &Tensor) -> Vec<f64> {
    x.to_f64_vec().unwrap()
}

/// Both kinds of gradients of the sum of `f`.
fn slopes(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> [Vec<f64>; 2] {
    let y = f(x).unwrap().sum_all().unwrap();
    [vec(&grad(&y, &[x]).unwrap()[0]), vec(&grad_graph(&y, &[x]).unwrap()[0])]
}

#[test]
fn infinities_are_limits() {
    let (none, one, two, some) = ([-INF, -INF, -INF], [INF, 2.0, -INF], [INF, 2.0, INF], [-INF, 0.0, 0.0]);
    for dtype in FLOATS {
        let softmax = |x: [f64; 3]| vec(&row(&x, dtype).softmax(1).unwrap());
        assert_eq!(
            [none, one, two, some].map(softmax),
            [vec![0.0; 3], vec![1.0, 0.0, 0.0], vec![0.5, 0.0, 0.5], vec![0.0, 0.5, 0.5]],
            "{dtype}"
        );
        let logs = |x: [f64; 3]| vec(&row(&x, dtype).log_softmax(1).unwrap());
        assert_eq!((logs(none), logs(one)), (vec![-INF; 3], vec![0.0, -INF, -INF]), "{dtype}");
        assert!((logs(two)[0] + 2f64.ln()).abs() < 1e-2 && logs(two)[1] == -INF);
        for (x, value, slope) in [(none, -INF, [0.0; 3]), (one, INF, [1.0, 0.0, 0.0]), (two, INF, [0.5, 0.0, 0.5])] {
            let x = row(&x, dtype);
            for keepdim in [false, true] {
                let [y, along] =
                    [x.logsumexp(1, keepdim).unwrap(), x.t().unwrap().logsumexp(0, keepdim).unwrap()].map(|y| y.item().unwrap());
                assert_eq!((y, along), (value, value), "{dtype}");
            }
            assert_eq!(slopes(&x, |x| x.logsumexp(1, false)), [slope.to_vec(), slope.to_vec()], "{dtype}");
            assert_eq!(slopes(&x, |x| x.t()?.logsumexp(0, true)), [slope.to_vec(), slope.to_vec()], "{dtype}");
        }
        for f in [|x: &Tensor| x.softmax(1), |x: &Tensor| x.log_softmax(1)] {
            assert_eq!(slopes(&row(&none, dtype), f), [vec![0.0; 3], vec![0.0; 3]], "{dtype}");
        }
        let nan = row(&[f64::NAN, 0.0, -INF], dtype);
        assert!(vec(&nan.softmax(1).unwrap()).iter().chain(&slopes(&nan, |x| x.logsumexp(1, false))[0]).all(|v| v.is_nan()));
    }
}

#[test]
fn cross_entropy_of_rows_with_infinities() {
    let rows = [[-INF, -INF], [INF, 2.0], [INF, 2.0], [0.0, -INF]];
    for dtype in FLOATS {
        let x = Tensor::from_slice(rows.as_flattened(), [4, 2], &device()).unwrap().to_dtype(dtype).unwrap().requires_grad();
        let labels = Tensor::from_slice(&[0i64, 0, 1, 0], [4], &device()).unwrap();
        let plain = |x: &Tensor| x.softmax_cross_entropy(&labels, 0.0);
        assert_eq!(vec(&plain(&x).unwrap()), [INF, 0.0, INF, 0.0], "{dtype}");
        let expected = vec![0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0];
        assert_eq!(slopes(&x, plain), [expected.clone(), expected], "{dtype}");
        // part of the target lies on a class without probability
        assert_eq!(vec(&x.softmax_cross_entropy(&labels, 0.5).unwrap()), [INF; 4], "{dtype}");
        let [smoothed, _] = slopes(&x, |x| x.softmax_cross_entropy(&labels, 0.5));
        assert_eq!(smoothed, [0.0, 0.0, 0.25, -0.25, 0.75, -0.75, 0.25, -0.25], "{dtype}");
    }
}

#[test]
fn what_the_others_have_is_not_swallowed() {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let close = |what: &str, found: f64, exact: f64| {
            let unit = if dtype == DType::F16 { 6e-8 } else { 0.0 };
            let relative = if dtype.is_half() { 1e-2 } else { 1e-5 };
            assert!((found - exact).abs() <= relative * exact.abs() + unit, "{what} in {dtype}: {found:e} for {exact:e}");
        };
        for (gap, classes) in [(17.0, 2usize), (12.0, 10), (9.0, 2), (16.0, 40)] {
            let others = (classes - 1) as f64 * f64::exp(-gap);
            let mut logits = vec![-gap; classes];
            logits[1] = 0.0;
            let x = row(&logits, dtype);
            close("logsumexp", x.logsumexp(1, false).unwrap().item().unwrap(), others.ln_1p());
            close("log_softmax", vec(&x.log_softmax(1).unwrap())[1], -others.ln_1p());
            let labels = Tensor::from_slice(&[1i64], [1], &device()).unwrap();
            let entropy = |smoothing| x.softmax_cross_entropy(&labels, smoothing).unwrap();
            close("entropy", entropy(0.0).item().unwrap(), others.ln_1p());
            close("slope", vec(&grad(&entropy(0.0), &[&x]).unwrap()[0])[1], -others / (1.0 + others));
            let share = 0.1 / classes as f64;
            close("smoothed slope", vec(&grad(&entropy(0.1), &[&x]).unwrap()[0])[1], 0.1 - share - others / (1.0 + others));
        }
    }
}
