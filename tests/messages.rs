//! What errors of ops say: the name of the function that was called, the shapes that it was given, and what is right.

use std::panic::Location;

use strait::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply};
use strait::ops::ConvOptions;
use strait::{DType, Device, Error, Result, Tensor};

type Function = fn(&Tensor) -> Result<Tensor>;

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::cpu()).unwrap()
}

fn said(result: Result<Tensor>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn errors_name_the_function_that_was_called() {
    let (x, whole) = (ones(&[2, 3]), ones(&[2, 3]).to_dtype(DType::I64).unwrap());
    let functions: [(&str, Function); 14] = [
        ("max", |x| x.max(5, false)),
        ("min", |x| x.min(5, true)),
        ("argmax", |x| x.argmax(5, true)),
        ("mean", |x| x.mean(&[5], true)),
        ("sum", |x| x.sum(&[5], true)),
        ("logsumexp", |x| x.logsumexp(5, true)),
        ("softmax", |x| x.softmax(5)),
        ("log_softmax", |x| x.log_softmax(5)),
        ("transpose", |x| x.transpose(0, 5)),
        ("narrow", |x| x.narrow(5, 0, 1)),
        ("unsqueeze", |x| x.unsqueeze(5)),
        ("flatten", |x| x.flatten(1, 0)),
        ("chunk", |x| x.chunk::<2>(1).map(|[first, _]| first)),
        ("argsort", |x| x.argsort(5)),
    ];
    for (name, f) in functions {
        let error = said(f(&x));
        assert!(error.starts_with(&format!("{name}: ")), "{name}: {error}");
    }
    let of_floats: [(&str, Function); 13] = [
        ("max", |x| x.max(0, false)),
        ("min", |x| x.min(0, true)),
        ("mean", |x| x.mean(&[0], false)),
        ("mean", |x| x.mean_all()),
        ("neg", Tensor::neg),
        ("divide", |x| x.divide(2.0)),
        ("gelu_erf", Tensor::gelu_erf),
        ("gelu_tanh", Tensor::gelu_tanh),
        ("minimum", |x| x.minimum(x)),
        ("squared_error", |x| x.squared_error(x)),
        ("bce_with_logits", |x| x.bce_with_logits(x)),
        ("gaussian_kl", |x| x.gaussian_kl_composed(x)),
        ("softmax_cross_entropy", |x| x.softmax_cross_entropy(x, 0.0)),
    ];
    for (name, f) in of_floats {
        let error = said(f(&whole));
        assert!(error.starts_with(&format!("{name}: ")) && error.contains("i64"), "{name}: {error}");
    }
    let other = ones(&[4, 5]);
    for (name, error) in [
        ("minimum", said(x.minimum(&other))),
        ("squared_error", said(x.squared_error(&other))),
        ("bce_with_logits", said(x.bce_with_logits(&other))),
        ("gaussian_kl", said(ones(&[]).gaussian_kl_composed(&ones(&[])))),
        ("gaussian_kl_full", said(ones(&[2]).gaussian_kl_full_composed(&x))),
        ("layer_norm", said(x.layer_norm(Some(&ones(&[3]).to_dtype(DType::F64).unwrap()), None, 1e-5))),
        ("batch_norm", said(x.batch_norm(None, Some(&ones(&[3]).to_dtype(DType::F64).unwrap()), 1e-5))),
    ] {
        assert!(error.starts_with(&format!("{name}: ")), "{name}: {error}");
    }
}

#[test]
fn errors_report_what_was_given() {
    let scalar = ones(&[]);
    assert_eq!(said(scalar.max(0, false)), "max: axis 0 is out of range for shape []: a scalar has no axes");
    assert_eq!(said(ones(&[7]).sum(&[1], false)), "sum: axis 1 is out of range for shape [7]: its only axis is 0, or -1");
    assert_eq!(
        said(ones(&[7, 2]).softmax(2)),
        "softmax: axis 2 is out of range for shape [7, 2]: axes count from 0 to 1, or back from -1 to -2"
    );
    assert_eq!(said(scalar.softmax(0)), "softmax: axis 0 is out of range for shape []: a scalar has no axes");
    assert_eq!(
        said(ones(&[6]).narrow(0, usize::MAX, 2)),
        "narrow: 2 entries from 18446744073709551615 on are out of range: the axis has 6 entries, counted from 0"
    );
    assert_eq!(said(ones(&[6]).narrow(0, 5, 2)), "narrow: 2 entries from 5 on are out of range: the axis has 6 entries, counted from 0");
    let empty = Tensor::zeros([0, 3], DType::F32, &Device::cpu()).unwrap();
    assert_eq!(said(empty.logsumexp(0, false)), "logsumexp: shape [0, 3] does not fit: at least one entry along the axis");
    assert_eq!(said(empty.max(0, true)), "max: shape [0, 3] does not fit: at least one entry along the axis");
    assert_eq!(said(empty.min(0, true)), "min: shape [0, 3] does not fit: at least one entry along the axis");
    assert!(said(ones(&[2]).unsqueeze(3)).contains("axis = 3"));
    let grouped = said(ones(&[1, 4, 5, 5]).conv2d(&ones(&[4, 1, 3, 3]), None, ConvOptions::default()));
    assert!(grouped.starts_with("conv2d: ") && grouped.contains("no grouped or depthwise convolution"), "{grouped}");
}

#[test]
fn a_main_that_returns_an_error_prints_its_sentence() {
    let error = ones(&[]).max(0, false).unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    assert_eq!(format!("{:?}", Err::<(), Error>(error)), "Err(max: axis 0 is out of range for shape []: a scalar has no axes)");
}

/// File and line that a panic of `f` blames.
fn blamed(f: impl FnOnce()) -> (String, u32) {
    use std::sync::{Mutex, PoisonError};
    static ALONE: Mutex<()> = Mutex::new(());
    static PLACE: Mutex<Option<(String, u32)>> = Mutex::new(None);
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        *PLACE.lock().unwrap() = info.location().map(|place| (place.file().to_string(), place.line()));
    }));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    std::panic::set_hook(before);
    assert!(result.is_err(), "it does not panic");
    PLACE.lock().unwrap().take().unwrap()
}

#[track_caller]
fn here() -> (String, u32) {
    let place = Location::caller();
    (place.file().to_string(), place.line())
}

#[test]
fn operators_blame_the_line_that_they_are_on() {
    let (a, b) = (ones(&[2]), ones(&[3]));
    let whole = a.to_dtype(DType::I64).unwrap();
    #[rustfmt::skip]
    let found = [
        (blamed(|| drop(&a + &b)), here()),
        (blamed(|| drop(&a - &b)), here()),
        (blamed(|| drop(&a * &b)), here()),
        (blamed(|| drop(&a / &b)), here()),
        (blamed(|| drop(a.clone() + b.clone())), here()),
        (blamed(|| drop(a.clone() - &b)), here()),
        (blamed(|| drop(&a * b.clone())), here()),
        (blamed(|| drop(&whole + 1.0)), here()),
        (blamed(|| drop(whole.clone() / 2.0)), here()),
        (blamed(|| drop(-&whole)), here()),
    ];
    for (blamed, here) in found {
        assert_eq!(blamed, here);
    }
}

/// `x^3` with code for f64 that claims to take every dtype.
#[derive(Debug)]
struct Cube {
    writes_f64: bool,
}

impl Kernel for Cube {
    fn name(&self) -> &'static str {
        "cube"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        Ok([inputs[0]].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        if self.writes_f64 {
            outputs[0].slice::<f64>().fill(1.0);
            return Ok(());
        }
        let x = inputs[0].slice::<f64>();
        outputs[0].slice::<f64>().iter_mut().zip(x).for_each(|(y, x)| *y = x * x * x);
        Ok(())
    }
}

impl Op for Cube {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        Ok([Some(v.cotangent().mul(&v.inputs[0].square()?.affine(3.0, 0.0)?)?)].into_iter().collect())
    }
}

#[test]
fn an_op_of_ones_own_that_does_not_refuse_a_dtype_is_named() {
    for dtype in [DType::F32, DType::I64, DType::BF16] {
        for writes_f64 in [false, true] {
            let error = said(apply(Cube { writes_f64 }, &[&ones(&[2]).to_dtype(dtype).unwrap()]));
            let found = if dtype == DType::BF16 { DType::F32 } else { dtype };
            assert!(error.starts_with("cube: ") && error.contains("f64") && error.contains(&found.to_string()), "{error}");
        }
    }
    let x = ones(&[2]).to_dtype(DType::F64).unwrap();
    assert_eq!(apply(Cube { writes_f64: false }, &[&x]).unwrap().to_vec::<f64>().unwrap(), [1.0, 1.0]);
}
