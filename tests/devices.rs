//! A GPU against the CPU: the same results within rounding, the same random numbers to the bit, and errors instead of crashes.
#![cfg(feature = "cuda")]

mod cuda_support;

use cuda_support::gpu;
use strait::nn::{Param, Params};
use strait::ops::{self, ConvOptions, Estimator, MmdKernel, Spec};
use strait::optim::{Algorithm, Ema, Optimizer, clip_grad_norm};
use strait::{DType, Device, Error, Gradient, Result, Rng, Shape, Tensor, grad};

fn bits(x: &Tensor) -> Vec<u64> {
    // which NaN it is does not matter
    x.to_f64_vec().unwrap().into_iter().map(|v| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }).collect()
}

fn inputs(spec: &Spec, dtype: DType, seed: u64) -> Vec<Tensor> {
    let mut rng = Rng::new(seed);
    let draw = |d: &strait::ops::Domain| {
        let shape = Shape::new(d.shape).unwrap();
        let values = rng.uniform(d.low, d.high, shape, DType::F64, &Device::cpu()).unwrap().to_vec::<f64>().unwrap();
        let clear = |v: f64| spec.kinks.iter().fold(v, |v, k| if (v - k).abs() < 1e-2 { k + 0.02 } else { v });
        Tensor::from_vec::<f64>(values.into_iter().map(clear).collect(), shape, &Device::cpu()).unwrap().to_dtype(dtype).unwrap()
    };
    spec.inputs.iter().map(draw).collect()
}

/// An op's value, gradient, and the gradient of the gradient's sum of sines, on a device.
fn all_orders(spec: &Spec, inputs: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
    let leaves: Vec<Tensor> = inputs.iter().map(|x| Ok(x.to_device(device)?.requires_grad())).collect::<Result<_>>()?;
    let refs: Vec<&Tensor> = leaves.iter().collect();
    let y = (spec.run)(&leaves)?;
    let cotangent = Rng::new(5).normal(y.shape(), DType::F32, device)?.to_dtype(y.dtype())?;
    let mut results = vec![y.clone()];
    let of = Gradient::of(&y).cotangent(&cotangent).unused_as_zero();
    results.extend(of.wrt(&refs)?);
    let slopes = of.differentiable().wrt(&refs)?;
    let mut sum = Tensor::zeros((), y.dtype(), device)?;
    for slope in &slopes {
        sum = sum.add(&slope.to_dtype(y.dtype())?.sin()?.sum_all()?)?;
    }
    results.extend(slopes);
    results.extend(Gradient::of(&sum).unused_as_zero().wrt(&refs)?);
    Ok(results)
}

#[test]
fn every_op_agrees_with_the_cpu_to_second_order() {
    let Some(gpu) = gpu() else { return };
    let mut failures = Vec::new();
    for (i, spec) in ops::all().enumerate() {
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
            let inputs = inputs(spec, dtype, 300 + i as u64);
            let expected = all_orders(spec, &inputs, &Device::cpu()).unwrap();
            let found = match all_orders(spec, &inputs, &gpu) {
                Ok(found) => found,
                Err(error) => {
                    failures.push(format!("{} in {dtype}: {error}", spec.name));
                    continue;
                }
            };
            for (k, (e, f)) in expected.iter().zip(&found).enumerate() {
                assert_eq!((e.shape(), e.dtype(), f.device()), (f.shape(), f.dtype(), *gpu), "{}", spec.name);
                let (e, f) = (e.to_f64_vec().unwrap(), f.to_f64_vec().unwrap());
                let scale = e.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                let worst =
                    e.iter().zip(&f).map(|(e, f)| (e - f).abs() / scale).fold(0.0, |m: f64, v| if v > m || v.is_nan() { v } else { m });
                if worst.is_nan() || worst > tolerance {
                    failures.push(format!("{} in {dtype}, result {k}: off by {worst:e}", spec.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn random_numbers_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for count in [0, 1, 3, 4, 5, 4095, 70_001] {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let draw = |device: &Device| {
                let mut rng = Rng::from_state([0x1234_5678_9abc_def0, 7 + (1 << 40)]);
                let normal = rng.normal([count], dtype, device).unwrap();
                [bits(&normal), bits(&rng.uniform(-1.0, 2.0, [count], dtype, device).unwrap())].concat()
            };
            let (found, expected) = (draw(&gpu), draw(&Device::cpu()));
            let different = (0..2 * count).find(|&i| found[i] != expected[i]);
            assert_eq!(different, None, "{count} {dtype}: {:?}", different.map(|i| [found[i], expected[i]].map(f64::from_bits)));
        }
    }
}

/// The known answer of `strait::Rng`'s normals, 4,000,000 counters of four.
#[test]
fn normals_have_the_known_hash() {
    let Some(gpu) = gpu() else { return };
    let normals = Rng::from_state([0x1234_5678_9abc_def0, 7]).normal([16_000_000], DType::F32, &gpu).unwrap().to_vec::<f32>().unwrap();
    let hash = normals.iter().fold(0x1465_0fb0_739d_0383, |h: u64, v| (h ^ u64::from(v.to_bits())).wrapping_mul(0x0000_0100_0000_01b3));
    assert_eq!(hash, 0x28e5_df6e_289d_757d, "{hash:#x}");
}

#[test]
fn copies_and_conversions_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let all = [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I64, DType::U8];
    let values = [0.0, -0.0, 1.5, -2.5, 254.7, 300.0, -3.0, 1e-8, 65520.0, 1e30, -1e30, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e9];
    for from in all {
        let x = Tensor::from_slice(&values, [3, 5], &Device::cpu()).unwrap().to_dtype(from).unwrap();
        let on_gpu = x.to_device(&gpu).unwrap();
        assert_eq!(bits(&on_gpu.to_device(&Device::cpu()).unwrap()), bits(&x));
        for to in all {
            let views = [|x: &Tensor| x.clone(), |x: &Tensor| x.t().unwrap(), |x: &Tensor| x.narrow(1, 1, 3).unwrap()];
            for view in views {
                let expected = view(&x).to_dtype(to).unwrap().contiguous().unwrap();
                let found = view(&on_gpu).to_dtype(to).unwrap().contiguous().unwrap().to_device(&Device::cpu()).unwrap();
                assert_eq!(bits(&found), bits(&expected), "{from} to {to}");
            }
        }
    }
}

#[test]
fn integers_and_ties_are_rounded_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let mut whole: Vec<i64> = vec![0, 16842753, -16842753, 0x7fff_ff40_0000_0001, 0x358a_09a0_0000_0002, i64::MAX, i64::MIN, i64::MIN + 1];
    whole.extend((8..62).flat_map(|shift| {
        let middle = (1i64 << shift) + (1i64 << (shift - 8));
        [middle - 1, middle, middle + 1, -middle - 1, (1 << shift) + 1]
    }));
    let ties: Vec<f64> =
        (0..200).map(|i| (2.0 * f64::from(i) + 1.0) * 2f64.powi(i % 40 - 30)).flat_map(|v| [v, v.next_up(), -v.next_down()]).collect();
    let all = [
        Tensor::from_slice(&whole, [whole.len()], &Device::cpu()).unwrap(),
        Tensor::from_slice(&ties, [ties.len()], &Device::cpu()).unwrap(),
    ];
    for (x, to) in all.iter().flat_map(|x| [DType::F64, DType::F32, DType::BF16, DType::F16, DType::U8].map(|to| (x, to))) {
        let found = x.to_device(&gpu).unwrap().to_dtype(to).unwrap();
        assert_eq!(bits(&found.to_device(&Device::cpu()).unwrap()), bits(&x.to_dtype(to).unwrap()), "{} to {to}", x.dtype());
    }
    for value in ties {
        for dtype in [DType::BF16, DType::F16] {
            let [found, expected] = [&*gpu, &Device::cpu()].map(|device| Tensor::full(value, [3], dtype, device).unwrap());
            assert_eq!(bits(&found.to_device(&Device::cpu()).unwrap()), bits(&expected), "{value:e}");
        }
    }
}

#[test]
fn constants_and_empty_tensors() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I64, DType::U8] {
        for count in [0, 1, 7, 1000] {
            let x = Tensor::full(3.0, [count], dtype, &gpu).unwrap();
            assert_eq!(x.to_f64_vec().unwrap(), vec![3.0; count], "{dtype}");
        }
    }
    let empty = Tensor::zeros([2, 0], DType::F32, &gpu).unwrap();
    assert!(empty.exp().unwrap().add(&empty).unwrap().to_vec::<f32>().unwrap().is_empty());
}

#[test]
fn gradients_flow_through_a_move() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&[1.0f64, -2.0], [2], &Device::cpu()).unwrap().requires_grad();
    let y = x.to_device(&gpu).unwrap().square().unwrap().to_device(&Device::cpu()).unwrap().sum_all().unwrap();
    let g = grad(&y, &[&x]).unwrap().remove(0);
    assert_eq!((g.to_vec::<f64>().unwrap(), g.device()), (vec![2.0, -4.0], Device::cpu()));
}

#[test]
fn mixed_devices_are_an_error_that_names_both() {
    let Some(gpu) = gpu() else { return };
    let (x, y) = (Tensor::ones([2], DType::F32, &gpu).unwrap(), Tensor::ones([2], DType::F32, &Device::cpu()).unwrap());
    let error = x.add(&y).unwrap_err();
    assert!(matches!(error, Error::MixedDevices { .. }));
    assert!(error.to_string().contains("cuda:0") && error.to_string().contains("cpu"), "{error}");
}

/// Parameters of odd sizes, and their gradients in each step.
fn parameters(dtype: DType, device: &Device) -> (Params, Vec<Vec<Tensor>>) {
    let mut rng = Rng::new(11);
    let mut params = Params::default();
    let shapes: [&[usize]; 4] = [&[3, 5], &[4099], &[], &[0, 2]];
    let mut draw = |shape: &[usize]| rng.normal(shape, dtype, &Device::cpu()).unwrap().to_device(device).unwrap();
    shapes.iter().enumerate().for_each(|(i, shape)| params.push(format!("p{i}"), &Param::new(&draw(shape))));
    let gradients = (0..10).map(|_| shapes.iter().map(|shape| draw(shape)).collect()).collect();
    (params, gradients)
}

const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 },
    Algorithm::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.1 },
    Algorithm::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 },
    Algorithm::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8 },
    Algorithm::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.01 },
    Algorithm::RmsProp { alpha: 0.99, epsilon: 1e-8 },
];

#[test]
fn optimizers_and_averages_agree_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for algorithm in ALGORITHMS {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, 2e-2)] {
            let run = |device: &Device, together: bool| {
                let (mut params, gradients) = parameters(dtype, device);
                let mut optimizer = Optimizer::new(algorithm, &params).unwrap();
                params.push("buffer".into(), &Param::buffer(&Tensor::full(0.5, [3], dtype, device).unwrap()));
                let mut ema = Ema::new(0.9, true, &params).unwrap();
                let rate = |t: usize| 0.01 / (1.0 + t as f64);
                for (t, gradients) in gradients.iter().enumerate() {
                    // a state that was saved goes on the same
                    if t == 4 {
                        let state = optimizer.state().into_iter().collect();
                        optimizer.load(&state, 4).unwrap();
                    }
                    if !together {
                        optimizer.step(gradients, rate(t)).unwrap();
                        ema.update().unwrap();
                        continue;
                    }
                    // Some rates are there in advance, all but the last.
                    if t % 4 == 0 {
                        optimizer.set_learning_rates(&(t..9).map(rate).collect::<Vec<_>>()).unwrap();
                    }
                    optimizer.step_averaging(gradients, rate(t), Some(&mut ema)).unwrap();
                }
                assert_eq!((optimizer.steps(), ema.updates()), (10, 10));
                let averages = ema.tensors().unwrap().into_iter().map(|(_, t)| t);
                params.tensors().into_iter().chain(averages).flat_map(|t| t.to_f64_vec().unwrap()).collect::<Vec<f64>>()
            };
            let [expected, found] = [&Device::cpu(), &gpu].map(|device| {
                let alone = run(device, false);
                assert_eq!(alone, run(device, true), "{algorithm:?} {dtype}: averages in the same pass");
                alone
            });
            for (e, f) in expected.iter().zip(found) {
                assert!((e - f).abs() <= tolerance * e.abs().max(1.0), "{algorithm:?} {dtype}: {f} for {e}");
            }
        }
    }
}

#[test]
fn replayed_and_eager_steps_take_the_learning_rates_that_they_were_given() {
    let Some(gpu) = gpu() else { return };
    let ones = [Tensor::ones([3], DType::F64, &gpu).unwrap()];
    let mut params = Params::default();
    params.push("weight".into(), &Param::new(&Tensor::zeros([3], DType::F64, &gpu).unwrap()));
    let mut optimizer = Optimizer::new(Algorithm::sgd(), &params).unwrap();
    let mut moved = 0.0;
    let mut check = |by: f64| {
        moved -= by;
        let weight = params.tensors()[0].to_vec::<f64>().unwrap()[0];
        assert!((weight - moved).abs() < 1e-12, "{weight} for {moved}");
    };
    optimizer.step(&ones, 0.5).unwrap();
    check(0.5);
    optimizer.set_learning_rates(&[0.1, 0.2, 0.3, 0.4]).unwrap();
    let mut rng = Rng::new(1);
    let mut captured = gpu.capture(&mut rng, 1, |_| optimizer.step(&ones, 0.1)).unwrap();
    captured.replay(&mut rng, 2).unwrap();
    check(0.1 + 0.2);
    // What a count without the last replay would have next, and then what is next.
    optimizer.step(&ones, 0.2).unwrap();
    check(0.2);
    optimizer.set_learning_rates(&[0.4, 0.6, 0.8]).unwrap();
    captured.replay(&mut rng, 1).unwrap();
    optimizer.step(&ones, 0.6).unwrap();
    captured.replay(&mut rng, 2).unwrap();
    check(0.4 + 0.6 + 0.8 + 0.8);
    // A step that fails when it is captured does not count.
    optimizer.set_learning_rates(&[0.1, 0.2]).unwrap();
    let failed = gpu.capture(&mut rng, 1, |_| {
        optimizer.step(&ones, 0.1)?;
        ones[0].to_vec::<f64>().map(drop)
    });
    assert!(failed.is_err());
    optimizer.step(&ones, 0.2).unwrap();
    check(0.2);
    assert_eq!(optimizer.steps(), 9);
}

#[test]
fn gradients_are_clipped_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::F64] {
        let clipped = |device: &Device| clip_grad_norm(&parameters(dtype, device).1[0], 0.7).unwrap();
        let ((e, norm), (f, found)) = (clipped(&Device::cpu()), clipped(&gpu));
        let (norm, found) = (norm.item().unwrap(), found.item().unwrap());
        assert!((norm - found).abs() < 1e-12 * norm, "{found} for {norm}");
        // The norms' last bits may differ, and with them those of what is scaled.
        let close = |(e, f): (f64, f64)| (e - f).abs() <= 1e-12 * e.abs();
        for (e, f) in e.iter().zip(&f) {
            let values = |x: &Tensor| x.to_f64_vec().unwrap();
            assert!(bits(e) == bits(f) || dtype == DType::F64 && values(e).into_iter().zip(values(f)).all(close));
        }
    }
}

#[test]
fn memory_is_used_again_and_dropped_anywhere() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::ones([1000], DType::F32, &gpu).unwrap();
    let address = x.exp().unwrap().ptr();
    assert_eq!(x.exp().unwrap().ptr(), address, "what was dropped is handed out again");
    let y = x.exp().unwrap();
    std::thread::spawn(move || drop(y)).join().unwrap();
    let z = std::thread::spawn(move || x.exp().unwrap()).join().unwrap();
    assert_eq!(z.ptr(), address);
    assert!((z.to_vec::<f32>().unwrap()[999] - 1f32.exp()).abs() < 1e-6);
    drop(z);
    gpu.release_unused().unwrap();
}

/// A step with everything that must not stay behind on the host: noise, an optimiser with bias correction, an average.
struct Model {
    weight: Param,
    optimizer: Optimizer,
    ema: Ema,
    rng: Rng,
}

impl Model {
    fn new(device: &Device) -> Model {
        let weight = Param::new(&Rng::new(1).normal([40, 3], DType::F32, &Device::cpu()).unwrap().to_device(device).unwrap());
        let mut params = Params::default();
        params.push("weight".into(), &weight);
        let optimizer = Optimizer::new(Algorithm::adam(), &params).unwrap();
        let ema = Ema::new(0.9, true, &params).unwrap();
        Model { weight, optimizer, ema, rng: Rng::new(2) }
    }

    fn step(&mut self, rng: &mut Rng) -> Result<()> {
        let weight = self.weight.tensor();
        let noise = rng.normal(weight.shape(), DType::F32, &weight.device())?;
        let loss = weight.mul(&noise)?.sin()?.add(&weight.square()?)?;
        let cotangent = loss.full_like(1.0)?;
        let gradient = Gradient::of(&loss).cotangent(&cotangent).wrt(&[&weight])?;
        drop((weight, loss));
        let (clipped, _) = clip_grad_norm(&gradient, 10.0)?;
        self.optimizer.step(&clipped, 0.05)?;
        self.ema.update()
    }

    fn eager(&mut self, steps: usize) {
        for _ in 0..steps {
            let mut rng = self.rng.clone();
            self.step(&mut rng).unwrap();
            self.rng = rng;
        }
    }

    fn state(&self) -> (Vec<u64>, Vec<u64>, [u64; 2], u64, u64) {
        let average = self.ema.tensors().unwrap().remove(0).1;
        (bits(&self.weight.tensor()), bits(&average), self.rng.state(), self.optimizer.steps(), self.ema.updates())
    }
}

#[test]
fn replayed_steps_equal_eager_steps_bitwise() {
    let Some(gpu) = gpu() else { return };
    for steps in [1, 3] {
        let mut eager = Model::new(&gpu);
        eager.eager(1 + 5 * steps);
        let mut model = Model::new(&gpu);
        model.eager(1);
        let mut rng = model.rng.clone();
        let mut captured = gpu.capture(&mut rng, steps, |rng| model.step(rng)).unwrap();
        // memory that others use must not be the graph's
        let bystander = Tensor::full(7.0, [40, 3], DType::F32, &gpu).unwrap();
        captured.replay(&mut rng, 2).unwrap();
        captured.replay(&mut rng, 3).unwrap();
        model.rng = rng;
        assert!(model.state() == eager.state(), "{steps} steps in a launch");
        assert_eq!(bystander.to_vec::<f32>().unwrap(), vec![7.0; 120]);
        // and eager steps go on from there
        drop(captured);
        model.eager(1);
        eager.eager(1);
        assert!(model.state() == eager.state());
    }
}

/// Sums that many blocks share: of a product cut along its depth, of all elements, of pairs of rows, of windows.
fn shared_sums(x: &Tensor) -> Result<Tensor> {
    let product = x.t()?.matmul(x)?;
    let y = x.affine(0.5, 0.1)?;
    let distance = x.mmd2(&y, &MmdKernel::Rbf(vec![3.0]), Estimator::Unbiased)?;
    let images = x.reshape([8, 1, 32, 10])?;
    let weight = images.narrow(0, 0, 4)?.narrow(2, 0, 3)?.narrow(3, 0, 3)?.contiguous()?;
    let loss =
        images.conv2d(&weight, None, ConvOptions::default())?.square()?.mean_all()?.add(&distance)?.add(&product.square()?.mean_all()?)?;
    let gradient = grad(&loss, &[x])?;
    let parts = [product.detach().reshape([100])?, loss.detach().reshape([1])?, gradient[0].reshape([2_560])?];
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

#[test]
fn twenty_replays_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let x = Rng::new(3).normal([256, 10], DType::F32, &gpu).unwrap().requires_grad();
    let out = Param::buffer(&Tensor::zeros([2_661], DType::F32, &gpu).unwrap());
    out.set(&shared_sums(&x).unwrap()).unwrap();
    let expected = bits(&out.tensor());
    let mut rng = Rng::new(4);
    let mut captured = gpu.capture(&mut rng, 1, |_| out.set(&shared_sums(&x)?)).unwrap();
    for replay in 0..20 {
        out.set(&Tensor::zeros([2_661], DType::F32, &gpu).unwrap()).unwrap();
        captured.replay(&mut rng, 1).unwrap();
        assert!(bits(&out.tensor()) == expected, "replay {replay}");
    }
}

#[test]
fn what_cannot_be_captured_is_an_error_and_ends_the_capture() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::ones([64], DType::F32, &gpu).unwrap();
    x.exp().unwrap();
    let mut rng = Rng::new(0);
    let mut fails = |f: &dyn Fn() -> Result<()>, op: &str| {
        let error = gpu.capture(&mut rng, 1, |_| f()).unwrap_err();
        assert!(error.to_string().starts_with(op), "{error}");
        assert_eq!(x.square().unwrap().to_vec::<f32>().unwrap(), vec![1.0; 64], "the device still works");
    };
    gpu.release_unused().unwrap();
    fails(&|| x.broadcast_to([4096, 64])?.exp().map(drop), "exp:");
    fails(&|| x.to_vec::<f32>().map(drop), "copy:");
    fails(&|| Tensor::from_slice(&[1f32; 64], [64], &gpu).map(drop), "from_slice:");
    fails(&|| gpu.synchronize(), "synchronize:");
    assert!(matches!(Device::cpu().capture(&mut Rng::new(0), 1, |_| Ok(())), Err(Error::Capture { .. })));
}

/// In processes of their own: a driver is asked once.
#[cfg(feature = "emulator")]
#[test]
fn a_driver_without_gpus_or_too_old_is_an_error_that_says_so() {
    const CHILD: &str = "STRAIT_TEST_ABSENT";
    if std::env::var_os(CHILD).is_some() {
        println!("error: {}", Device::cuda(0).unwrap_err());
        return;
    }
    let cases = [
        ("STRAIT_EMU_DEVICES", "0", "the driver sees 0 GPUs"),
        ("STRAIT_EMU_DRIVER", "11080", "the driver knows CUDA 11.8, the kernels need 1"),
    ];
    for (name, value, expected) in cases {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_driver_without_gpus_or_too_old_is_an_error_that_says_so", "--nocapture"])
            .envs([(CHILD, "1"), (name, value)])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("error: ") && text.contains(expected), "{name}: {text}");
    }
}
