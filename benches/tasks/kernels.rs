//! Single operations.

use strait::ops::{ConvOptions, Estimator, MmdKernel};
use strait::{Activation, DType, Device, Gradient, Result, Rng, Tensor, grad};

use super::data::{labels, tensor};
use super::{Run, Work, eval};

/// Elements of the elementwise work.
const BIG: [usize; 2] = [10_000, 1000];

/// The list.
pub const WORK: &[Work] = &[
    Work { name: "matmul_128", build: |_| square(128) },
    Work { name: "matmul_512", build: |_| square(512) },
    Work { name: "matmul_1024", build: |_| square(1024) },
    Work { name: "matmul_2048", build: |_| square(2048) },
    // The products of a linear layer with 784 inputs and 1024 outputs at batch 100; the weight is [out, in].
    Work { name: "layer_forward", build: |_| product(&[100, 784], false, &[1024, 784], true) },
    Work { name: "layer_dx", build: |_| product(&[100, 1024], false, &[1024, 784], false) },
    Work { name: "layer_dw", build: |_| product(&[100, 1024], true, &[100, 784], false) },
    Work { name: "exp_10M", build: |_| elementwise(Tensor::exp) },
    Work { name: "tanh_10M", build: |_| elementwise(Tensor::tanh) },
    Work { name: "softplus_10M", build: |_| elementwise(Tensor::softplus) },
    Work { name: "sum_10M", build: |_| elementwise(Tensor::sum_all) },
    Work { name: "logsumexp_10000x1000", build: |_| elementwise(|x| x.logsumexp(1, false)) },
    Work { name: "normals_10M", build: |_| normals() },
    Work { name: "linear_relu_forward_backward", build: |_| linear() },
    Work { name: "cross_entropy_forward_backward", build: |_| cross_entropy() },
    Work { name: "mmd2_n1024_d64", build: |_| discrepancy(1024, 64) },
    Work { name: "mmd2_n4096_d64", build: |_| discrepancy(4096, 64) },
    Work { name: "conv2d_forward", build: |_| convolution(false) },
    Work { name: "conv2d_forward_backward", build: |_| convolution(true) },
];

fn square(n: usize) -> Box<dyn Run> {
    product(&[n, n], false, &[n, n], false)
}

fn product(a: &[usize], a_transposed: bool, b: &[usize], b_transposed: bool) -> Box<dyn Run> {
    let view = |x: Tensor, transposed: bool| if transposed { x.t().expect("a matrix") } else { x };
    let (a, b) = (view(tensor(a, 1, 1.0), a_transposed), view(tensor(b, 2, 1.0), b_transposed));
    eval(move || Ok(vec![a.matmul(&b)?]))
}

fn elementwise(f: fn(&Tensor) -> Result<Tensor>) -> Box<dyn Run> {
    let x = tensor(&BIG, 1, 4.0);
    eval(move || Ok(vec![f(&x)?]))
}

fn normals() -> Box<dyn Run> {
    let mut rng = Rng::new(1);
    eval(move || Ok(vec![rng.normal(BIG, DType::F32, &Device::cpu())?]))
}

/// A layer with 1024 inputs and outputs at batch 100, and all three gradients.
fn linear() -> Box<dyn Run> {
    let x = tensor(&[100, 1024], 1, 1.0).requires_grad();
    let (weight, bias) = (tensor(&[1024, 1024], 2, 0.05).requires_grad(), tensor(&[1024], 3, 0.05).requires_grad());
    eval(move || grad(&x.linear(&weight, Some(&bias), Activation::Relu)?.sum_all()?, &[&x, &weight, &bias]))
}

fn cross_entropy() -> Box<dyn Run> {
    let (x, labels) = (tensor(&[1000, 1000], 1, 4.0).requires_grad(), labels(1000, 1000, 2));
    eval(move || {
        let loss = x.softmax_cross_entropy(&labels, 0.0)?.mean_all()?;
        let gradient = grad(&loss, &[&x])?;
        Ok(vec![loss, gradient[0].clone()])
    })
}

/// Value and gradient in x of the V-statistic with the kernel exp(-u / (2 d)).
fn discrepancy(n: usize, d: usize) -> Box<dyn Run> {
    let x = tensor(&[n, d], 1, 1.0).requires_grad();
    let y = tensor(&[n, d], 2, 1.0).affine(1.0, 0.125).expect("floats");
    let kernel = MmdKernel::Rbf(vec![(d as f64).sqrt()]);
    eval(move || {
        let value = x.mmd2(&y, &kernel, Estimator::Biased)?;
        let gradient = grad(&value, &[&x])?;
        Ok(vec![value, gradient[0].clone()])
    })
}

/// 32 images of 32 x 32 with 64 channels, 64 filters of 3 x 3, padding 1; backward with a cotangent of the output's shape.
fn convolution(backward: bool) -> Box<dyn Run> {
    let images = [32, 64, 32, 32];
    let (x, w, g) = (tensor(&images, 1, 1.0), tensor(&[64, 64, 3, 3], 2, 1.0), tensor(&images, 3, 1.0));
    let options = ConvOptions::default().padding(1);
    if !backward {
        return eval(move || Ok(vec![x.conv2d(&w, None, options)?]));
    }
    let (x, w) = (x.requires_grad(), w.requires_grad());
    eval(move || {
        let y = x.conv2d(&w, None, options)?;
        Gradient::of(&y).cotangent(&g).wrt(&[&x, &w])
    })
}
