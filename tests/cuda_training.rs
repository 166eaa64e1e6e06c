//! Training on a GPU: step by step as on the CPU, replayed steps to the bit as eager ones, checkpoints that move between devices.
#![cfg(feature = "cuda")]

mod cuda_support;
#[path = "cuda_support/watch.rs"]
mod watch;

use std::path::Path;
use std::process::Command;

use cuda_support::gpu;
use strait::data::{Pixels, Range, Split};
use strait::device::cuda::{Grid, launch};
use strait::models::{GanLoss, input_gradient};
use strait::nn::init::Init;
use strait::nn::{Mlp, Mode, Module, Param, Params};
use strait::optim::{Algorithm, Optimizer};
use strait::train::{Checkpoint, Run};
use strait::{Activation, DType, Device, Error, Result, Rng, Tensor, grad};
use watch::watch;

/// Batches of 100 of 3,823 digits: 38 full ones and one of 23.
const SETTINGS: &str = "architecture = { kind = \"mlp\", hidden = [24] }\nlatent = 6\nbatch = 100\nepochs = 2\nevaluate_every = 2\ntest_samples = 2\nlearning_rate = 1e-3\n";

fn run(more: &str, device: &Device) -> Run {
    Run::new("vib", &format!("{SETTINGS}{more}"), device).unwrap()
}

fn bits(checkpoint: &Checkpoint) -> Vec<(String, Vec<u64>)> {
    let bits = |x: &Tensor| x.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect();
    checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {found} for {expected}");
}

#[test]
fn a_classifier_trains_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for more in [
        "",
        "beta = { kind = \"dual\", initial = 0.1, target = 5.0, step = 0.01 }\nlabel_smoothing = 0.1\n",
        "scale = { kind = \"cholesky\", shift = 5.0 }\nlatent = 2\n",
    ] {
        let settings = if more.contains("latent") { SETTINGS.replace("latent = 6\n", "") } else { SETTINGS.into() };
        let start = |device: &Device| Run::new("vib", &format!("{settings}{more}"), device).unwrap();
        let (mut cpu, mut cuda) = (start(&Device::cpu()), start(&gpu));
        for step in 0..12 {
            let (expected, found) = (cpu.step().unwrap(), cuda.step().unwrap());
            for (name, value) in &expected.0 {
                close(found.get(name).unwrap(), *value, 2e-4, &format!("{name} after {step} steps, {more}"));
            }
        }
    }
}

#[test]
fn replayed_steps_are_eager_steps_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for more in [
        "",
        "beta = { kind = \"dual\", initial = 0.1, target = 5.0, step = 0.01 }\n",
        "beta = { kind = \"annealed\", value = 0.01, epochs = 1.5 }\ndropout = 0.1\n",
        "schedule = { kind = \"linear\", to = 0.0 }\n",
    ] {
        let mut replayed = run(more, &gpu);
        let mut observer = watch(60);
        // the end of an epoch lies between, with its smaller batch
        assert!(matches!(replayed.train(&path, &mut observer), Err(Error::Interrupted { .. })));
        let mut eager = run(more, &gpu);
        let losses: Vec<f64> = (0..replayed.done()).map(|_| eager.step().unwrap().get("loss").unwrap()).collect();
        assert_eq!(observer.losses, losses, "{more}");
        assert!(replayed.replayed() > 40, "{more}: {}", replayed.replayed());
        assert!(bits(&replayed.checkpoint().unwrap()) == bits(&eager.checkpoint().unwrap()), "{more}");
        // From the checkpoint, to the same end.
        let mut resumed = run(more, &gpu);
        resumed.restore(&Checkpoint::read(&path, &Device::cpu()).unwrap()).unwrap();
        (resumed.done()..resumed.plan().steps).for_each(|_| drop(resumed.step().unwrap()));
        replayed.train(&path, &mut watch(u64::MAX)).unwrap();
        assert!(bits(&replayed.checkpoint().unwrap()) == bits(&resumed.checkpoint().unwrap()), "{more}");
        std::fs::remove_file(&path).unwrap();
    }
}

/// Small runs of the other families; `steps` of them are taken.
const FAMILIES: &[(&str, &str)] = &[
    (
        "vdb",
        r#"data = "8gaussians"
        batch = 32
        eval_samples = 40
        discriminator_steps = 2
        rate_average = 0.9
        penalty = { kind = "r1", coefficient = 1.0, convention = "half", every = 3 }
        beta = { kind = "dual", initial = 0.1, target = 0.5, step = 0.1, form = "logarithmic" }
        discriminator = { architecture = { kind = "mlp", hidden = [16] }, latent = { kind = "vector", size = 4 }, spectral_norm = true }
        generator = { latent = 4, ema_decay = 0.9, architecture = { kind = "mlp", hidden = [16] } }"#,
    ),
    (
        "vdb",
        r#"batch = 50
        eval_samples = 40
        loss = "wasserstein"
        clip = 0.1
        noise = { place = "input", deviation = 0.1 }
        penalty = { kind = "wgan_gp", coefficient = 1.0, convention = "full" }
        discriminator = { architecture = { kind = "mlp", hidden = [16] }, latent = { kind = "vector", size = 4 } }
        generator = { latent = 4, ema_decay = 0.9, architecture = { kind = "dcgan", width = 4 } }"#,
    ),
    (
        "vdb",
        r#"data = "2gaussians"
        fake = "component"
        batch = 32
        discriminator = { architecture = { kind = "mlp", hidden = [16] }, latent = { kind = "vector", size = 4 } }"#,
    ),
    (
        "ebgan",
        r#"data = "digits"
        batch = 40
        schedule = { kind = "linear", to = 1e-4 }
        margin = { kind = "fixed", value = 5.0 }
        pulling_away = 0.1
        discriminator = { encoder = { kind = "mlp", hidden = [16] }, decoder = { kind = "mlp", hidden = [16] } }
        generator = { latent = 4, architecture = { kind = "mlp", hidden = [16] } }"#,
    ),
    (
        "energy",
        r#"data = "25gaussians"
        batch = 32
        eval_samples = 40
        energy_steps = 2
        schedule = { kind = "cosine", to = 0.0 }
        latent = 4
        information = { kind = "jensen_shannon", shuffle = "dimensions" }
        architecture = { kind = "mlp", hidden = [16] }"#,
    ),
    (
        "energy",
        r#"data = "swissroll"
        batch = 16
        latent = 2
        information = { kind = "info_nce", width = 8 }
        architecture = { kind = "mlp", hidden = [8] }"#,
    ),
    (
        "infovae",
        r#"data = "digits"
        batch = 50
        binarization = "sampled"
        latent = 4
        train_images = 600
        divergence = { kind = "js" }
        critic_hidden = [8]
        architecture = { kind = "mlp", hidden = [16] }"#,
    ),
    (
        "infovae",
        r#"data = "2points"
        batch = 50
        latent = 2
        likelihood = { kind = "gaussian", sigma = 0.5 }
        divergence = { kind = "sliced_wasserstein", projections = 8 }
        architecture = { kind = "mlp", hidden = [16] }"#,
    ),
];

#[test]
fn every_family_is_replayed_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for (family, settings) in FAMILIES {
        let start = || Run::new(family, &format!("{settings}\nevaluate_every = 1000\nsteps = 200"), &gpu).unwrap();
        let mut replayed = start();
        let mut observer = watch(45);
        let stopped = replayed.train(&path, &mut observer).unwrap_err();
        assert!(matches!(stopped, Error::Interrupted { .. }), "{settings}: {stopped}");
        let mut eager = start();
        let losses: Vec<f64> = (0..replayed.done()).map(|_| eager.step().unwrap().0[0].1).collect();
        assert_eq!(observer.losses, losses, "{settings}");
        assert!(bits(&replayed.checkpoint().unwrap()) == bits(&eager.checkpoint().unwrap()), "{settings}");
        assert!(replayed.replayed() > 30, "{settings}: {} of {} steps", replayed.replayed(), replayed.done());
        let figures = replayed.evaluate().unwrap();
        assert!(!figures.is_empty() && figures.iter().all(|(_, value)| value.is_finite()), "{settings}: {figures:?}");
        assert!(matches!(replayed.trainer().sample(9, 1), Ok(_) | Err(Error::NothingToSample)), "{settings}");
        std::fs::remove_file(&path).unwrap();
    }
}

/// Batch norm's running statistics are averaged on the device with the weights, in captured steps too, and recorded anew for samples.
#[test]
fn averaged_statistics_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let settings = FAMILIES[1].1;
    let start = |device: &Device| Run::new("vdb", &format!("{settings}\nevaluate_every = 1000\nsteps = 40"), device).unwrap();
    let (mut cpu, mut cuda) = (start(&Device::cpu()), start(&gpu));
    (0..3).for_each(|_| drop((cpu.step().unwrap(), cuda.step().unwrap())));
    let (expected, found) = (cpu.checkpoint().unwrap(), cuda.checkpoint().unwrap());
    let statistics: Vec<&String> = expected.tensors.keys().filter(|name| name.starts_with("ema.") && name.contains("running_")).collect();
    assert!(!statistics.is_empty());
    for name in statistics {
        let values = |checkpoint: &Checkpoint| checkpoint.tensors[name].to_f64_vec().unwrap();
        values(&found).iter().zip(values(&expected)).for_each(|(f, e)| close(*f, e, 1e-3, name));
    }
    let mut moved = start(&gpu);
    moved.restore(&expected).unwrap();
    let mean = |run: &Run| match run.trainer().sample(50, 1).unwrap() {
        strait::train::Samples::Images { images, .. } => images.mean_all().unwrap().item().unwrap(),
        _ => unreachable!("images"),
    };
    close(mean(&moved), mean(&cpu), 1e-3, "mean of samples");
}

#[test]
fn checkpoints_move_between_devices() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let losses = |devices: [&Device; 2]| -> Vec<f64> {
        let mut first = run("", devices[0]);
        let mut losses: Vec<f64> = (0..5).map(|_| first.step().unwrap().get("loss").unwrap()).collect();
        let path = folder.path().join("moved.safetensors");
        first.checkpoint().unwrap().write(&path).unwrap();
        let mut second = run("", devices[1]);
        second.restore(&Checkpoint::read(&path, devices[1]).unwrap()).unwrap();
        losses.extend((0..5).map(|_| second.step().unwrap().get("loss").unwrap()));
        losses
    };
    let cpu = Device::cpu();
    let expected = losses([&cpu, &cpu]);
    for devices in [[&cpu, &*gpu], [&*gpu, &cpu], [&*gpu, &*gpu]] {
        losses(devices).iter().zip(&expected).for_each(|(found, expected)| close(*found, *expected, 2e-4, "loss"));
    }
}

#[test]
fn divergence_in_replayed_steps_names_the_op_and_keeps_the_checkpoint() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut wild = Run::new("vib", &SETTINGS.replace("1e-3", "1e18"), &gpu).unwrap();
    let error = wild.train(&path, &mut watch(u64::MAX)).unwrap_err();
    let mut eager = Run::new("vib", &SETTINGS.replace("1e-3", "1e18"), &gpu).unwrap();
    let expected = (0..100).find_map(|_| eager.step().err()).expect("it diverges");
    assert_eq!(error.to_string(), expected.to_string());
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
}

/// Two networks and a penalty on the gradient of the inputs, whose own gradient is of second order.
struct Gan {
    nets: [Mlp; 2],
    optimizers: [Optimizer; 2],
    params: [Params; 2],
    real: Tensor,
}

impl Gan {
    fn new(device: &Device) -> Gan {
        let mut rng = Rng::new(3);
        let mut net = |sizes: &[usize], activation| Mlp::new(sizes, activation, Init::XavierUniform, &mut rng, DType::F32, device).unwrap();
        let nets = [net(&[2, 16, 16, 1], Activation::Softplus), net(&[4, 16, 2], Activation::Tanh)];
        let params = [0, 1].map(|i| {
            let mut params = Params::default();
            nets[i].collect("net", &mut params);
            params
        });
        let optimizers = [0, 1].map(|i| Optimizer::new(Algorithm::adam(), &params[i]).unwrap());
        let real = Rng::new(4).normal([32, 2], DType::F32, &Device::cpu()).unwrap().to_device(device).unwrap();
        Gan { nets, optimizers, params, real }
    }

    fn descend(&mut self, which: usize, loss: Tensor) -> Result<()> {
        let tensors = self.params[which].tensors();
        let gradients = grad(&loss, &tensors.iter().collect::<Vec<_>>())?;
        drop((tensors, loss));
        self.optimizers[which].step(&gradients, 1e-2)
    }

    fn step(&mut self, rng: &mut Rng) -> Result<()> {
        let device = self.real.device();
        let noise = rng.normal([32, 4], DType::F32, &device)?;
        let fake = self.nets[1].forward(&noise, &mut Mode::Train(rng))?;
        let real = self.real.requires_grad();
        let score = self.nets[0].forward(&real, &mut Mode::Train(rng))?;
        let penalty = input_gradient(&score, &real)?.square()?.sum(&[1], false)?.mean_all()?;
        let fake_score = self.nets[0].forward(&fake.detach(), &mut Mode::Train(rng))?;
        let loss = GanLoss::NonSaturating.discriminator(&score, &fake_score)?.add(&penalty.affine(5.0, 0.0)?)?;
        drop((score, penalty, fake_score, real));
        self.descend(0, loss)?;
        let loss = GanLoss::NonSaturating.generator(&self.nets[0].forward(&fake, &mut Mode::Train(rng))?, None)?;
        drop(fake);
        self.descend(1, loss)
    }

    fn state(&self) -> Vec<u64> {
        let tensors = self.params.iter().flat_map(|p| p.tensors()).collect::<Vec<_>>();
        tensors.iter().flat_map(|t| t.to_f64_vec().unwrap()).map(f64::to_bits).collect()
    }
}

#[test]
fn a_gan_with_a_gradient_penalty_is_replayed_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let mut eager = Gan::new(&gpu);
    let mut rng = Rng::new(9);
    (0..21).for_each(|_| eager.step(&mut rng).unwrap());
    for _ in 0..2 {
        let mut gan = Gan::new(&gpu);
        let mut rng = Rng::new(9);
        gan.step(&mut rng).unwrap();
        let mut captured = gpu.capture(&mut rng, 2, |rng| gan.step(rng)).unwrap();
        captured.replay(&mut rng, 10).unwrap();
        assert!(gan.state() == eager.state());
    }
}

/// Programs of operations on small and large tensors that take over each other's memory: in a graph small ones run later, together, and
/// must still see and leave what they do in their order.
#[test]
fn captured_work_keeps_its_order() {
    let Some(gpu) = gpu() else { return };
    const SMALL: [usize; 2] = [16, 16];
    const LARGE: [usize; 2] = [48, 128];
    for seed in 0..8 {
        let mut choices = Rng::new(seed);
        let mut choose = |n: usize| -> usize {
            let uniform = choices.uniform(0.0, 1.0, [1], DType::F64, &Device::cpu()).unwrap();
            (uniform.item().unwrap() * n as f64) as usize % n
        };
        let program: Vec<[usize; 4]> = (0..40).map(|_| [choose(9), choose(4), choose(4), choose(4)]).collect();
        let run = |replayed: bool| -> Vec<u64> {
            let mut rng = Rng::new(100 + seed);
            let mut params = |shape: [usize; 2]| -> Vec<Tensor> { (0..4).map(|_| rng.normal(shape, DType::F32, &gpu).unwrap()).collect() };
            let (small, large) = (params(SMALL), params(LARGE));
            let kept: Vec<Param> = small.into_iter().chain(large).map(|tensor| Param::buffer(&tensor)).collect();
            let step = |rng: &mut Rng| -> Result<()> {
                let mut tensors: Vec<Tensor> = kept.iter().map(|param| param.tensor().affine(1.0, 0.0)).collect::<Result<_>>()?;
                for &[what, i, j, o] in &program {
                    let (a, b, large) = (&tensors[i], &tensors[j], &tensors[4 + i]);
                    let (at, next) = match what {
                        0 => (o, a.tanh()?),
                        1 => (o, a.add(b)?),
                        2 => (o, a.matmul(b)?.affine(0.1, 0.0)?),
                        3 => (o, large.narrow(0, j, 16)?.narrow(1, 3, 16)?.affine(0.5, 0.1)?),
                        4 => (o, rng.normal(SMALL, DType::F32, &gpu)?.mul(a)?),
                        5 => (o, Tensor::full(0.25 * j as f64, SMALL, DType::F32, &gpu)?.sub(a)?),
                        6 => (4 + o, large.tanh()?.mul(&tensors[4 + j])?),
                        7 => (4 + o, large.add(&a.mean_all()?)?),
                        _ => {
                            let next = a.affine(0.9, 0.01)?;
                            kept[o].set(&next)?;
                            (o, next.affine(1.0, 0.0)?)
                        }
                    };
                    tensors[at] = next;
                }
                for (param, tensor) in kept.iter().zip(tensors) {
                    param.set(&tensor.tanh()?)?;
                }
                Ok(())
            };
            let mut rng = Rng::new(200 + seed);
            step(&mut rng).unwrap();
            if replayed {
                gpu.capture(&mut rng, 2, step).unwrap().replay(&mut rng, 2).unwrap();
            } else {
                (0..4).for_each(|_| step(&mut rng).unwrap());
            }
            kept.iter().flat_map(|param| param.tensor().to_f64_vec().unwrap()).map(f64::to_bits).collect()
        };
        assert!(run(true) == run(false), "program {seed}: {program:?}");
    }
}

#[test]
fn weights_that_would_move_in_a_capture_are_an_error() {
    let Some(gpu) = gpu() else { return };
    let mut gan = Gan::new(&gpu);
    let mut rng = Rng::new(9);
    let mut held = None;
    let mut step = |rng: &mut Rng| {
        held = gan.params[0].tensors().pop();
        gan.step(rng)
    };
    (0..3).for_each(|_| step(&mut rng).unwrap());
    // Room for the copies of what is held, or the lack of it would be the error.
    drop((Gan::new(&gpu), Gan::new(&gpu)));
    let error = gpu.capture(&mut rng, 1, step).unwrap_err();
    assert!(error.to_string().contains("something else holds"), "{error}");
    assert_eq!(gan.optimizers[0].steps(), 3);
}

#[test]
fn resident_examples_are_those_of_the_host() {
    let Some(gpu) = gpu() else { return };
    let bytes: Vec<u8> = (0..40).map(|i| (i * 37 % 17) as u8).collect();
    let floats = bytes.iter().map(|&v| f32::from(v) / 16.0).collect();
    for images in [Pixels::U8(bytes.clone()), Pixels::F32(floats)] {
        let split = Split::new(Path::new("made up"), images, (0..8).map(|i| i % 3).collect(), 5, 3, 16).unwrap();
        for range in [Range::Unit, Range::Symmetric] {
            let feed = split.feed(range, &gpu).unwrap();
            let order = [3, 1, 7, 0, 2, 6, 5, 4];
            // of two epochs
            let order = [order, [1, 0, 2, 4, 3, 7, 6, 5]].concat();
            feed.set_order(&order).unwrap();
            feed.seek(2).unwrap();
            // the position goes on by itself
            for (rows, indices) in [(3, &order[2..5]), (2, &order[5..7]), (8, &order[7..15])] {
                let (x, labels) = feed.next(rows).unwrap();
                let (mut images, mut expected) = (Vec::new(), Vec::new());
                split.batch(indices, range, &mut images, &mut expected).unwrap();
                assert_eq!((x.to_vec::<f32>().unwrap(), labels.to_vec::<i64>().unwrap()), (images, expected));
            }
            assert!(feed.set_order(&[0; 17]).is_err() && feed.set_order(&[8; 8]).is_err());
        }
    }
}

#[test]
fn out_of_memory_says_what_was_asked_for_and_what_there_is() {
    let Some(gpu) = gpu() else { return };
    let error = Tensor::zeros([1 << 20, 1 << 20], DType::F64, &gpu).unwrap_err();
    let Error::OutOfMemory { asked, free: Some(free), total: Some(total), device, .. } = &error else { panic!("{error}") };
    assert!(*asked >= 1 << 43 && free <= total && (*total as u128) < *asked && device == "cuda:0", "{error}");
    assert_eq!(Tensor::ones([3], DType::F32, &gpu).unwrap().sum_all().unwrap().item().unwrap(), 3.0);
}

/// In a process of its own: a fault is for the rest of it.
#[test]
fn a_fault_names_the_kernel_and_stays() {
    const CHILD: &str = "STRAIT_TEST_FAULT";
    let Some(gpu) = gpu() else { return };
    if std::env::var_os(CHILD).is_none() {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_fault_names_the_kernel_and_stays", "--nocapture"])
            .env(CHILD, "1")
            // the fast flavour of the emulated driver does not look
            .env("STRAIT_EMU", "check")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("fault is named"), "{text}");
        return;
    }
    let Device::Cuda(cuda) = gpu.checked() else { unreachable!() };
    let x = Tensor::ones([8], DType::F32, &gpu).unwrap();
    let wild = x.ptr().offset(1 << 46);
    let error = launch::<{ strait::kernel!("fill_u64") }, _>(cuda, Grid::blocks(1, 1), (wild, 1u64, 1u64)).unwrap_err();
    assert!(error.to_string().contains("fill_u64"), "{error}");
    let later = x.exp().and_then(|y| y.to_vec::<f32>()).unwrap_err();
    assert!(matches!(later, Error::CudaFault { .. }), "{later}");
    assert!(matches!(Tensor::from_slice(&[1.0f32], [1], &gpu), Err(Error::CudaFault { .. })));
    println!("fault is named: {error}");
}

/// In a process of its own, because a checked device is one for all of it.
#[test]
fn a_kernel_that_writes_outside_of_its_result_is_named() {
    const CHILD: &str = "STRAIT_TEST_GUARDS";
    let Some(gpu) = gpu() else { return };
    if std::env::var_os(CHILD).is_none() {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_kernel_that_writes_outside_of_its_result_is_named", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains("both sides are guarded"), "{text}");
        return;
    }
    let Device::Cuda(cuda) = gpu.checked() else { unreachable!() };
    let x = Tensor::ones([10], DType::F32, &gpu).unwrap();
    for (at, count) in [(0, 6u64), (8usize.wrapping_neg(), 1)] {
        let x = x.exp().unwrap();
        let error = launch::<{ strait::kernel!("fill_u64") }, _>(cuda, Grid::blocks(1, 32), (x.ptr().offset(at), 1u64, count)).unwrap_err();
        assert!(error.to_string().contains("fill_u64 wrote outside of memory of 40 bytes"), "{error}");
    }
    assert_eq!(x.exp().unwrap().to_vec::<f32>().unwrap().len(), 10);
    println!("both sides are guarded");
}
