//! Every op's derivatives to second order against finite differences, from the ops' own specs, on inputs that are
//! contiguous, transposed, broadcast, sliced, empty and scalar.

mod device_support;

use device_support::device;
use strait::ops::{self, Spec};
use strait::{DType, Error, Gradient, Result, Rng, Shape, Tensor, check, grad, grad_graph};

/// Values of a domain, at least 1e-2 away from the kinks.
fn draw(shape: &[usize], low: f64, high: f64, kinks: &[f64], rng: &mut Rng) -> Tensor {
    let shape = Shape::new(shape).unwrap();
    let values = rng.uniform(low, high, shape, DType::F64, &device()).unwrap().to_vec::<f64>().unwrap();
    let moved = values.into_iter().map(|v| kinks.iter().fold(v, |v, k| if (v - k).abs() < 1e-2 { k + 0.02 } else { v })).collect();
    Tensor::from_vec::<f64>(moved, shape, &device()).unwrap()
}

/// A way of laying out an input: the leaf's shape for the shape wanted, and the op's input from the leaf.
struct Form {
    name: &'static str,
    leaf: fn(&[usize]) -> Vec<usize>,
    input: fn(&Tensor) -> Result<Tensor>,
}

const FORMS: [Form; 4] = [
    Form { name: "contiguous", leaf: |s| s.to_vec(), input: |x| Ok(x.clone()) },
    Form {
        name: "transposed",
        leaf: |s| s.iter().rev().copied().collect(),
        input: |x| x.permute(&(0..x.rank()).rev().collect::<Vec<_>>()),
    },
    // one row more before and after on the first axis, two columns more on the last
    Form {
        name: "sliced",
        leaf: |s| s.iter().enumerate().map(|(i, n)| n + if i == 0 { 2 } else { 0 } + if i + 1 == s.len() { 2 } else { 0 }).collect(),
        input: |x| {
            let last = x.rank() - 1;
            let x = if last == 0 { x.narrow(0, 2, x.dims()[0] - 4)? } else { x.narrow(0, 1, x.dims()[0] - 2)? };
            if last == 0 { Ok(x) } else { x.narrow(last, 1, x.dims()[last] - 2) }
        },
    },
    Form { name: "broadcast", leaf: |s| std::iter::once(1).chain(s[1..].iter().copied()).collect(), input: |x| Ok(x.clone()) },
];

fn run(spec: &Spec, form: &Form, seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    let leaves: Vec<Tensor> = spec.inputs.iter().map(|d| draw(&(form.leaf)(d.shape), d.low, d.high, spec.kinks, &mut rng)).collect();
    check::gradcheck(
        |x| {
            let inputs: Vec<Tensor> =
                x.iter().zip(spec.inputs).map(|(x, d)| (form.input)(x)?.broadcast_to(d.shape)).collect::<Result<_>>()?;
            (spec.run)(&inputs)
        },
        &leaves,
        2,
    )
}

#[test]
fn every_op_to_second_order_in_every_form() {
    let mut failures = Vec::new();
    for (i, spec) in ops::all().enumerate() {
        for form in &FORMS {
            if let Err(error) = run(spec, form, 100 + i as u64) {
                failures.push(format!("{} ({}): {error}", spec.name, form.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn empty_inputs_have_empty_gradients() {
    let mut checked = 0;
    for spec in ops::all() {
        let Some(shapes) = spec.empty else { continue };
        let inputs: Vec<Tensor> = shapes.iter().map(|s| Tensor::ones(s, DType::F64, &device()).unwrap().requires_grad()).collect();
        let refs: Vec<&Tensor> = inputs.iter().collect();
        let y = (spec.run)(&inputs).unwrap_or_else(|e| panic!("{}: {e}", spec.name));
        let cotangent = y.full_like(1.0).unwrap();
        let grads = Gradient::of(&y)
            .cotangent(&cotangent)
            .differentiable()
            .unused_as_zero()
            .wrt(&refs)
            .unwrap_or_else(|e| panic!("{}: {e}", spec.name));
        for (x, g) in inputs.iter().zip(&grads) {
            assert_eq!(x.shape(), g.shape(), "{}", spec.name);
            assert!(g.is_finite().unwrap(), "{}", spec.name);
        }
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn scalars_are_taken_where_declared() {
    for spec in ops::all().filter(|s| s.scalar) {
        let mut rng = Rng::new(9);
        let inputs: Vec<Tensor> = spec.inputs.iter().map(|d| draw(&[], d.low, d.high, spec.kinks, &mut rng)).collect();
        check::gradcheck(spec.run, &inputs, 2).unwrap_or_else(|e| panic!("{}: {e}", spec.name));
    }
}

#[test]
fn every_op_computes_in_every_float_dtype() {
    for (i, spec) in ops::all().enumerate() {
        let mut rng = Rng::new(500 + i as u64);
        let inputs: Vec<Tensor> = spec.inputs.iter().map(|d| draw(d.shape, d.low, d.high, spec.kinks, &mut rng)).collect();
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 0.06), (DType::F16, 0.01)] {
            let rounded: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
            let wide: Vec<Tensor> = rounded.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
            let expected = (spec.run)(&wide).unwrap().to_f64_vec().unwrap();
            let found = (spec.run)(&rounded).unwrap_or_else(|e| panic!("{} in {dtype}: {e}", spec.name));
            assert!(found.dtype() == dtype || spec.name == "to_dtype", "{} in {dtype} gave {}", spec.name, found.dtype());
            let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            for (f, e) in found.to_f64_vec().unwrap().iter().zip(&expected) {
                assert!((f - e).abs() <= tolerance * scale, "{} in {dtype}: {f} for {e}", spec.name);
            }
        }
    }
}

#[test]
fn graphs_of_a_hundred_thousand_nodes() {
    let x = Tensor::full(1.0, [2], DType::F64, &device()).unwrap().requires_grad();
    let mut y = x.clone();
    for _ in 0..100_000 {
        y = y.affine(1.0, 1e-6).unwrap();
    }
    let loss = y.sum_all().unwrap();
    assert_eq!(grad(&loss, &[&x]).unwrap()[0].to_vec::<f64>().unwrap(), [1.0, 1.0]);
    drop(y);
    drop(loss);
}

#[test]
fn unconnected_inputs_are_errors() {
    let leaf = |v: f64| Tensor::full(v, [2], DType::F32, &device()).unwrap().requires_grad();
    let (x, other) = (leaf(1.0), leaf(2.0));
    let y = x.square().unwrap().sum_all().unwrap();
    assert!(matches!(grad(&y, &[&x, &other]), Err(Error::NotConnected { input: 1, tracked: true, .. })));
    assert!(matches!(grad(&y, &[&x.detach()]), Err(Error::NotConnected { input: 0, tracked: false, .. })));
    assert!(matches!(grad(&x, &[&x]), Err(Error::NotScalar { .. })));
    let zeros = Gradient::of(&y).unused_as_zero().wrt(&[&other]).unwrap();
    assert_eq!(zeros[0].to_vec::<f32>().unwrap(), [0.0, 0.0]);
}

#[test]
fn gradients_of_and_through_intermediate_tensors() {
    let x = Tensor::full(3.0, (), DType::F64, &device()).unwrap().requires_grad();
    let middle = x.square().unwrap();
    let y = middle.mul(&x).unwrap(); // x^3
    let grads = grad_graph(&y, &[&middle, &x]).unwrap();
    assert_eq!((grads[0].item().unwrap(), grads[1].item().unwrap()), (3.0, 27.0));
    let third = grad_graph(&grad_graph(&grads[1], &[&x]).unwrap()[0], &[&x]).unwrap();
    assert_eq!(third[0].item().unwrap(), 6.0);
    assert_eq!(grad(&y, &[&y]).unwrap()[0].item().unwrap(), 1.0);
}

#[test]
fn the_left_tail_of_gelu_and_its_derivative_are_relatively_accurate() {
    // x Phi(x), and Phi(x) + x phi(x), to 15 digits
    for (x, value, slope) in [(-5.0, -1.43325785939597e-6, -7.14694600179229e-6), (-10.0, -7.61985302416053e-23, -7.61840009646481e-22)] {
        let x = Tensor::full(x, (), DType::F64, &device()).unwrap().requires_grad();
        let y = x.gelu_erf().unwrap();
        assert!((y.item().unwrap() / value - 1.0).abs() < 1e-13, "{y:?}");
        assert!((grad(&y, &[&x]).unwrap()[0].item().unwrap() / slope - 1.0).abs() < 1e-13);
    }
}
