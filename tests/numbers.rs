//! Numbers where the textbook's formula would cancel, overflow, vanish or round twice, on the device of `STRAIT_DEVICE`: values and slopes
//! in every float type against f64 formulas that do not.

mod device_support;

use device_support::device;
use strait::models::GanLoss;
use strait::nn::{Dropout, Mode, Module};
use strait::ops::Activation;
use strait::{DType, Result, Rng, Tensor, check, grad, grad_graph};

const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::BF16, DType::F16];

fn of(values: &[f64], dtype: DType) -> Tensor {
    Tensor::from_slice(values, [values.len()], &device()).unwrap().to_dtype(dtype).unwrap()
}

/// Distance from a number of this type to the next, around `x`.
fn ulp(x: f64, dtype: DType) -> f64 {
    let (bits, least) = match dtype {
        DType::F64 => (52, -1022),
        DType::F32 => (23, -126),
        DType::BF16 => (7, -126),
        _ => (10, -14),
    };
    2f64.powi((if x == 0.0 { least } else { x.abs().log2().floor() as i32 }).max(least) - bits)
}

#[track_caller]
fn close(what: &str, found: &[f64], expected: &[f64], dtype: DType, ulps: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!(f == e || (f - e).abs() <= ulps * ulp(e, dtype), "{what} in {dtype}, element {i}: {f:e} for {e:e}");
    }
}

/// Values of `f`, and its slopes (of first order, and as gradients that can be differentiated again).
fn values_and_slopes(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> [Vec<f64>; 3] {
    let x = x.requires_grad();
    let y = f(&x).unwrap();
    let total = y.sum_all().unwrap();
    [y, grad(&total, &[&x]).unwrap().remove(0), grad_graph(&total, &[&x]).unwrap().remove(0)].map(|t| t.to_f64_vec().unwrap())
}

#[test]
fn cross_entropy_of_certain_logits_and_targets() {
    for dtype in FLOATS {
        let logits = [40.0, 10.0, 15.0, 17.0, 8.0, 5.0, 3.0, 0.5, 0.0, -0.5, -3.0, -17.0, -40.0];
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigmoid = |x: f64| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) };
        for target in [0.0, 1.0, 0.25, 0.75] {
            let x = of(&logits, dtype);
            let t = of(&[target; 13], dtype);
            let [value, slope, again] = values_and_slopes(|x| x.bce_with_logits(&t), &x);
            let exact = logits.map(|x| target * softplus(-x) + (1.0 - target) * softplus(x));
            let exact_slope = logits.map(|x| (1.0 - target) * sigmoid(x) - target * sigmoid(-x));
            close(&format!("cross entropy with {target}"), &value, &exact, dtype, 4.0);
            if target == 0.0 || target == 1.0 {
                close(&format!("its slope with {target}"), &slope, &exact_slope, dtype, 4.0);
            }
            assert!(slope.iter().zip(&exact_slope).all(|(f, e)| (f - e).abs() <= 4.0 * ulp(1.0, dtype)));
            close("the same", &again, &slope, dtype, 1.0);
        }
        // certain and right costs nothing, certain and wrong everything
        let [inf, minus] = [f64::INFINITY, f64::NEG_INFINITY];
        let (x, t) = (of(&[inf, minus, inf, minus, inf], dtype), of(&[1.0, 0.0, 0.0, 1.0, 0.5], dtype));
        let [value, slope, _] = values_and_slopes(|x| x.bce_with_logits(&t), &x);
        assert_eq!((value, slope), (vec![0.0, 0.0, inf, inf, inf], vec![0.0, 0.0, 1.0, -1.0, 0.5]), "{dtype}");
        let nan = of(&[f64::NAN], dtype).bce_with_logits(&of(&[1.0], dtype)).unwrap().item().unwrap();
        assert!(nan.is_nan());
        // soft targets get their own slopes
        let t = of(&[0.3, 0.3], DType::F64).requires_grad();
        let y = of(&[1.0, -2.0], DType::F64).bce_with_logits(&t).unwrap().sum_all().unwrap();
        assert_eq!(grad(&y, &[&t]).unwrap()[0].to_f64_vec().unwrap(), [-1.0, 2.0]);
    }
    let inputs = [of(&[-3.0, 0.2, 9.0], DType::F64), of(&[0.1, 1.0, 0.8], DType::F64)];
    check::gradcheck(|x| x[0].bce_with_logits(&x[1])?.sin(), &inputs, 2).unwrap();
}

#[test]
fn slopes_where_functions_are_flat() {
    let x = [-30.0, -17.0, -9.5, -5.0, -1.0, 0.0, 0.3, 4.0, 9.5, 17.0, 30.0];
    for dtype in FLOATS {
        let here = of(&x, dtype);
        let sigmoid_slope = |x: f64| (-x.abs()).exp() / (1.0 + (-x.abs()).exp()).powi(2);
        type Case<'a> = (&'a str, fn(&Tensor) -> Result<Tensor>, &'a dyn Fn(f64) -> f64);
        let cases: [Case; 5] = [
            ("tanh", Tensor::tanh, &|x| 4.0 * sigmoid_slope(2.0 * x)),
            ("sigmoid", Tensor::sigmoid, &sigmoid_slope),
            ("softplus", Tensor::softplus, &|x| if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }),
            ("log_sigmoid", Tensor::log_sigmoid, &|x| if x < 0.0 { 1.0 / (1.0 + x.exp()) } else { (-x).exp() / (1.0 + (-x).exp()) }),
            ("log_softplus", Tensor::log_softplus, &|x| {
                let (e, softplus) = ((-x.abs()).exp(), x.max(0.0) + (-x.abs()).exp().ln_1p());
                if x > 0.0 { 1.0 / (1.0 + e) / softplus } else { e / (1.0 + e) / softplus }
            }),
        ];
        for (name, f, slope) in cases {
            let here = if dtype.is_half() { here.clone() } else { of(&x, dtype) };
            let exact: Vec<f64> = here.to_f64_vec().unwrap().into_iter().map(slope).collect();
            let [_, first, again] = values_and_slopes(f, &here);
            // the exponential of a rounded difference of logarithms loses as many units as those have
            let ulps = if name == "log_softplus" && !dtype.is_half() { 200.0 } else { 4.0 };
            close(name, &first, &exact, dtype, ulps);
            close(name, &again, &first, dtype, 1.0);
        }
    }
    for f in [Tensor::tanh, Tensor::sigmoid] {
        check::gradcheck(|x| f(&x[0]), &[of(&x, DType::F64)], 2).unwrap();
    }
}

#[test]
fn layers_that_are_saturated_have_slopes() {
    let x = [-30.0, -17.0, -9.5, -1.0, 0.3, 4.0, 9.5, 17.0, 30.0];
    for dtype in FLOATS {
        // the identity as a layer: it must have the slope that the activation alone has
        let layer = |x: &Tensor, activation: Activation| x.reshape([9, 1])?.linear(&of(&[1.0], dtype).reshape([1, 1])?, None, activation);
        for activation in [Activation::Tanh, Activation::Sigmoid, Activation::Softplus, Activation::LeakyRelu(0.2)] {
            let here = of(&x, dtype);
            let [value, slope, again] = values_and_slopes(|x| layer(x, activation), &here);
            let exact = values_and_slopes(|x| activation.apply(x), &of(&here.to_f64_vec().unwrap(), DType::F64));
            close(&format!("{activation}"), &value, &exact[0], dtype, 4.0);
            close(&format!("the slope of {activation}"), &slope, &exact[1], dtype, 4.0);
            close("the same", &again, &slope, dtype, 2.0);
        }
    }
}

/// Rows in which one class has nearly everything: its slope is what the others have, which 1 less its share would swallow.
#[test]
fn slopes_of_rows_that_are_nearly_certain() {
    let rows = [[0.0, -3.0, -4.0], [0.0, -9.0, -12.0], [-17.0, 0.0, -15.0], [-40.0, -30.0, 0.0], [0.0, 0.0, -20.0]];
    for dtype in FLOATS {
        for logits in rows {
            let x = of(&logits, dtype).reshape([1, 3]).unwrap();
            let exponentials = logits.map(f64::exp);
            let sum: f64 = exponentials.iter().sum();
            let weights = exponentials.map(|e| e / sum);
            let all_but = |i: usize| (0..3).filter(|&j| j != i).map(|j| weights[j]).sum::<f64>();
            for label in 0..3 {
                let entry = |x: &Tensor| x.narrow(1, label, 1);
                // d y_l / d x_i = y_l (1 - y_l) or -y_l y_i
                let exact: Vec<f64> = (0..3).map(|i| weights[label] * if i == label { all_but(i) } else { -weights[i] }).collect();
                let of_softmax = values_and_slopes(|x| entry(&x.softmax(1)?), &x);
                // d log y_l / d x_i = 1 - y_l or -y_i, which is that of the entropy as well, but for its sign
                let exact_log: Vec<f64> = (0..3).map(|i| if i == label { all_but(i) } else { -weights[i] }).collect();
                let of_logarithm = values_and_slopes(|x| entry(&x.log_softmax(1)?), &x);
                let labels = Tensor::from_slice(&[label as i64], [1], &device()).unwrap();
                let of_entropy = values_and_slopes(|x| x.softmax_cross_entropy(&labels, 0.0)?.affine(-1.0, 0.0), &x);
                for (name, found, exact) in
                    [("softmax", of_softmax, &exact), ("log_softmax", of_logarithm, &exact_log), ("cross entropy", of_entropy, &exact_log)]
                {
                    close(&format!("{name} of {logits:?}, entry {label}"), &found[1], exact, dtype, 16.0);
                    close(&format!("{name} of {logits:?}, entry {label}, again"), &found[2], exact, dtype, 16.0);
                }
            }
            for f in [Tensor::softmax as fn(&Tensor, usize) -> Result<Tensor>, Tensor::log_softmax] {
                let values: Vec<f64> = x.to_f64_vec().unwrap();
                let wide = of(&values, DType::F64).reshape([1, 3]).unwrap();
                check::gradcheck(|x| f(&x[0], 1)?.sin(), &[wide], 2).unwrap();
            }
        }
    }
}

#[test]
fn gelu_in_its_tails_and_of_large_numbers() {
    // x Phi(x) and its tanh form, to 16 digits
    let erf_form =
        [(-4.0, -0.0001266849673324797), (-5.0, -1.4332578593959695e-06), (-5.5, -1.0444259356238245e-07), (-6.0, -5.9195258702261885e-09)];
    let tanh_form =
        [(-4.0, -7.024594819237268e-05), (-5.0, -2.291796196629506e-07), (-5.5, -5.9276402638802624e-09), (-6.0, -8.439646700762297e-11)];
    for dtype in FLOATS {
        for (form, known) in [(Tensor::gelu_erf as fn(&Tensor) -> Result<Tensor>, erf_form), (Tensor::gelu_tanh, tanh_form)] {
            let [found, slope, _] = values_and_slopes(form, &of(&known.map(|k| k.0), dtype));
            let exact: Vec<f64> = known.iter().map(|k| k.1).collect();
            // the exponent's rounding is worth many units there
            close("gelu", &found, &exact, dtype, if dtype.is_half() { 1.0 } else { 200.0 });
            assert!(slope.iter().zip(&found).all(|(s, y)| s <= y || *s == 0.0), "falls faster than it is small");
            let x = of(&[255.0, 256.0, -300.0, 60000.0, -60000.0, f64::INFINITY, f64::NEG_INFINITY], dtype);
            let [found, slope, again] = values_and_slopes(form, &x);
            let expected: Vec<f64> = x.to_f64_vec().unwrap().into_iter().map(|v| v.max(0.0)).collect();
            assert_eq!(found, expected, "{dtype}");
            assert_eq!((&slope[..5], &again[..5]), (&[1.0, 1.0, 0.0, 1.0, 0.0][..], &slope[..5]), "{dtype}");
        }
        let found = of(&[-12.0, -8.0, -5.0, 0.0, 1.0], dtype).normal_cdf().unwrap().to_f64_vec().unwrap();
        let exact = [1.776482112077679e-33, 6.22096057427178e-16, 2.866515718791939e-07, 0.5, 0.8413447460685429];
        close("normal_cdf", &found, &exact, dtype, if dtype == DType::F64 { 200.0 } else { 40.0 });
    }
}

#[test]
fn means_and_quotients_are_divided() {
    for dtype in FLOATS {
        let most = if dtype == DType::BF16 { 257 } else { 1000 };
        for n in 1..most {
            let x = Tensor::ones([n], dtype, &device()).unwrap().requires_grad();
            let mean = x.mean_all().unwrap();
            assert_eq!((mean.item().unwrap(), x.mean(&[0], false).unwrap().item().unwrap()), (1.0, 1.0), "{n} {dtype}");
        }
    }
    for n in [3.0, 41.0, 49.0, 1e-310, -7.0] {
        let quotient = |x: f64| (&of(&[x], DType::F64) / n).item().unwrap();
        assert_eq!([quotient(n), quotient(0.0), quotient(2.0 * n)], [1.0, 0.0, 2.0], "{n}");
    }
    for n in [41.0, 1e-39, 3.0] {
        assert_eq!((&of(&[n], DType::F32) / n).item().unwrap(), 1.0);
        assert_eq!((&of(&[0.0], DType::F32) / n).item().unwrap(), 0.0);
    }
    let x = of(&[1.0, 5.0, 6.0], DType::F64).requires_grad();
    assert_eq!(grad(&x.mean_all().unwrap(), &[&x]).unwrap()[0].to_f64_vec().unwrap(), [1.0 / 3.0; 3]);
    assert_eq!(grad(&(&x / 49.0).sum_all().unwrap(), &[&x]).unwrap()[0].to_f64_vec().unwrap(), [1.0 / 49.0; 3]);
    let (real, fake) = (Tensor::ones([41], DType::F32, &device()).unwrap(), Tensor::full(-1.0, [41], DType::F32, &device()).unwrap());
    assert_eq!(GanLoss::NonSaturating.accuracy(&real, &fake).unwrap().item().unwrap(), 1.0);
    // the mean of a batch in batch norm
    let x = Tensor::ones([49, 2], DType::F32, &device()).unwrap();
    assert_eq!(x.batch_norm_moments(None, None, 1e-5).unwrap().1.to_f64_vec().unwrap(), [1.0, 1.0]);
}

#[test]
fn dropout_keeps_what_it_says_in_16_bits() {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for p in [0.5, 0.9, 0.99, 0.998] {
            let n = if device() == strait::Device::cpu() { 1_000_000 } else { 100_000 };
            let x = Tensor::ones([n], dtype, &device()).unwrap();
            let y = Dropout::new(p).unwrap().forward(&x, &mut Mode::Train(&mut Rng::new(5))).unwrap().to_dtype(DType::F32).unwrap();
            let kept = y.gt(0.0).unwrap().sum_all().unwrap().item().unwrap() / n as f64;
            let error = (kept - (1.0 - p)) / (p * (1.0 - p) / n as f64).sqrt();
            assert!(error.abs() < 3.5, "{dtype} {p}: {error} standard errors");
            close("what is kept", &[y.max(0, false).unwrap().item().unwrap()], &[1.0 / (1.0 - p)], dtype, 1.0);
        }
    }
}

#[test]
fn f64_uniforms_have_all_their_bits() {
    let n = 400_000;
    let mut fine = Rng::new(3).uniform(0.0, 1.0, [n], DType::F64, &device()).unwrap().to_vec::<f64>().unwrap();
    let single = Rng::new(3).uniform(0.0, 1.0, [n], DType::F32, &device()).unwrap().to_f64_vec().unwrap();
    assert!(fine.iter().zip(&single).all(|(f, s)| (f - s).abs() <= 2f64.powi(-24)), "the f32 uniform is the middle of its bin");
    assert!(fine.iter().all(|&v| v > 0.0 && v < 1.0));
    let coarse = fine.iter().filter(|&&v| f64::from(v as f32) == v).count();
    assert!(coarse < 5, "{coarse} of {n} are f32 numbers");
    // the lower bits are uniform too
    let lower = fine.iter().map(|v| (v * 2f64.powi(23)).fract()).sum::<f64>() / n as f64;
    assert!((lower - 0.5).abs() < 4.0 * (1.0 / 12.0 / n as f64).sqrt(), "{lower}");
    fine.sort_by(f64::total_cmp);
    fine.dedup();
    assert_eq!(fine.len(), n);
}

#[test]
fn divergences_are_never_negative() {
    for dtype in FLOATS {
        for k in [1, 64, 1000] {
            let mut rng = Rng::new(k as u64);
            for spread in [0.0, 1e-7, 1e-5, 1e-3, 0.05] {
                let normal = |rng: &mut Rng| rng.normal([40, k], DType::F64, &device()).unwrap().affine(spread, 0.0).unwrap();
                let (mu, log) = (normal(&mut rng), normal(&mut rng));
                let exact = |mu: &Tensor, sigma: &Tensor| -> Vec<f64> {
                    let (m, s) = (mu.to_f64_vec().unwrap(), sigma.to_f64_vec().unwrap());
                    let one = |(m, s): (&f64, &f64)| {
                        let d = s - 1.0;
                        let rate = if d.abs() < 1e-3 {
                            d * d - d.powi(3) / 3.0 + d.powi(4) / 4.0 - d.powi(5) / 5.0
                        } else {
                            0.5 * (s * s - 1.0) - s.ln()
                        };
                        0.5 * m * m + rate
                    };
                    m.chunks(k).zip(s.chunks(k)).map(|(m, s)| m.iter().zip(s).map(one).sum()).collect()
                };
                let (mu, sigma) = (mu.to_dtype(dtype).unwrap(), log.exp().unwrap().to_dtype(dtype).unwrap());
                let kl = mu.gaussian_kl(&sigma).unwrap().to_f64_vec().unwrap();
                let bound = if dtype.is_half() { 1.0 } else { 30.0 };
                close("gaussian_kl", &kl, &exact(&mu, &sigma), if dtype == DType::F64 { DType::F32 } else { dtype }, bound);
                assert!(kl.iter().all(|&v| v >= 0.0));
                if k <= 64 {
                    let flat = (0..k).map(|i| (i * (k + 1)) as i64).collect::<Vec<_>>();
                    let diagonal = Tensor::from_slice(&flat, [k], &device()).unwrap();
                    let tril = sigma.index_add(1, &diagonal, k * k).unwrap().reshape([40, k, k]).unwrap();
                    let full = mu.gaussian_kl_full(&tril).unwrap().to_f64_vec().unwrap();
                    assert!(full.iter().zip(&kl).all(|(f, e)| *f >= 0.0 && (f - e).abs() <= 4.0 * ulp(*e, dtype)), "{full:?} {kl:?}");
                }
                // softplus(raw - shift) is 1 at raw = shift + ln(e - 1)
                let raw = log.affine(1.0, 5.0 + (1f64.exp() - 1.0).ln()).unwrap().to_dtype(dtype).unwrap();
                let stats = Tensor::concat(&[&mu, &raw], 1).unwrap();
                let noise = Tensor::zeros([1, 40, k], dtype, &device()).unwrap();
                let b = stats.bottleneck(5.0, 1, strait::ops::Noise::Given(&noise)).unwrap();
                assert!(b.kl.to_f64_vec().unwrap().iter().all(|&v| v >= 0.0), "bottleneck in {dtype}, k = {k}, spread {spread}");
            }
        }
    }
}
