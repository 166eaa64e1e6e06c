use super::*;
use crate::models::architecture::{Architecture, Latent};
use crate::models::gan_loss::GanLoss;
use crate::models::penalty::Penalty;
use crate::{Activation, DType, Device, IntoShape, Rng, check, grad};

fn config(latent: Latent, scale: Scale) -> DiscriminatorConfig {
    DiscriminatorConfig {
        architecture: Architecture::Dcgan { width: 2 },
        example: vec![1, 8, 8],
        latent,
        scale,
        head: Head { activate: true, hidden: vec![] },
        spectral_norm: false,
    }
}

const SOFTPLUS: Scale = Scale::Softplus { shift: 1.0 };

fn normal(rng: &mut Rng, shape: impl IntoShape) -> Tensor {
    rng.normal(shape, DType::F64, &Device::cpu()).unwrap()
}

fn build(config: &DiscriminatorConfig, rng: &mut Rng) -> Discriminator {
    let discriminator = Discriminator::new(config, rng, DType::F64, &Device::cpu()).unwrap();
    // weights large enough to matter
    for (_, param) in discriminator.params().trained().iter() {
        param.set(&normal(rng, param.tensor().shape()).affine(0.4, 0.0).unwrap()).unwrap();
    }
    discriminator
}

fn item(x: &Tensor) -> f64 {
    x.item().unwrap()
}

#[test]
fn every_weight_of_a_full_loss_has_its_gradient() {
    let penalties =
        [Penalty::r1(3.0), Penalty::r2(3.0), Penalty { kind: crate::models::PenaltyKind::R1R2, ..Penalty::r1(2.0) }, Penalty::wgan_gp(2.0)];
    for (latent, scale) in [(Latent::Vector { size: 3 }, Scale::Softplus { shift: 1.0 }), (Latent::Map { channels: 2 }, Scale::Exp)] {
        for penalty in penalties {
            let mut rng = Rng::new(1);
            let discriminator = build(&config(latent, scale), &mut rng);
            let (real, fake) = (normal(&mut rng, [2, 1, 8, 8]), normal(&mut rng, [2, 1, 8, 8]));
            let noise = InstanceNoise { place: NoisePlace::Input, deviation: 0.3 };
            let objective =
                VdbObjective { beta: 0.7.into(), target: 0.2, penalty: Some(penalty), noise: Some(noise), ..VdbObjective::default() };
            let params = discriminator.params();
            let value = |weights: &[Tensor]| {
                params.iter().zip(weights).for_each(|((_, param), weight)| param.replace(weight));
                let mut rng = Rng::new(9);
                let noise = Noise::Draw(rng.draw());
                Ok(discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Train(&mut rng))?.loss)
            };
            check::gradcheck(value, &params.tensors(), 1).unwrap_or_else(|e| panic!("{latent:?}, {penalty:?}: {e}"));
        }
    }
}

#[test]
fn sharing_a_pass_changes_nothing() {
    // the penalties at real or generated examples split the encoder's pass; all else must stay as it was
    let mut rng = Rng::new(2);
    let discriminator = build(&config(Latent::Map { channels: 2 }, SOFTPLUS), &mut rng);
    let (real, fake, noise) = (normal(&mut rng, [3, 1, 8, 8]), normal(&mut rng, [2, 1, 8, 8]), Noise::Draw(rng.draw()));
    let loss = |penalty| {
        let objective = VdbObjective { beta: 0.7.into(), target: 0.2, penalty, ..VdbObjective::default() };
        discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Eval).unwrap()
    };
    let plain = loss(None);
    for penalty in [Penalty::r1(3.0), Penalty::r2(3.0)] {
        let with = loss(Some(penalty));
        approx::assert_relative_eq!(item(&with.adversarial), item(&plain.adversarial), max_relative = 1e-12);
        let extra = item(&with.penalty.unwrap().loss);
        assert!(extra > 1e-6);
        approx::assert_relative_eq!(item(&with.loss), item(&plain.loss) + extra, max_relative = 1e-12);
    }
    assert!(
        discriminator
            .loss(&real, &real, &VdbObjective { penalty: Some(Penalty::wgan_gp(1.0)), ..Default::default() }, noise, &mut Mode::Eval)
            .is_err()
    );
}

#[test]
fn rates_are_those_of_the_formula_half_included() {
    // an encoder that is the identity: mean (1, 2), raw scales with sigma 2 and 1/2
    let raw = |sigma: f64| (sigma.exp() - 1.0).ln() + 1.0;
    let stats = Tensor::from_slice(&[1.0, 2.0, raw(2.0), raw(0.5)], [1, 4], &Device::cpu()).unwrap();
    let identity = || Box::new(Activation::Identity);
    let discriminator = Discriminator::from_modules(identity(), SOFTPLUS, Box::new(crate::nn::Apply(|z: &Tensor| z.sum(&[1], true))));
    let noise = Tensor::from_slice(&[0.5, -1.0], [1, 1, 2], &Device::cpu()).unwrap();
    let judged = discriminator.forward(&stats, Some(Noise::Given(&noise)), &mut Mode::Eval).unwrap();
    let expected = 0.5 * (1.0 + 4.0 + 4.0 + 0.25 - 2.0) - 2f64.ln() - 0.5f64.ln();
    approx::assert_relative_eq!(item(&judged.kl.unwrap()), expected, max_relative = 1e-12);
    approx::assert_relative_eq!(item(&judged.logits), 1.0 + 2.0 * 0.5 + 2.0 - 0.5, max_relative = 1e-12);
    assert_eq!(item(&discriminator.forward(&stats, None, &mut Mode::Eval).unwrap().logits), 3.0);
}

#[test]
fn a_map_counts_every_position_and_says_so() {
    let mut rng = Rng::new(3);
    let discriminator = build(&config(Latent::Map { channels: 3 }, SOFTPLUS), &mut rng);
    let (real, fake, draw) = (normal(&mut rng, [2, 1, 8, 8]), normal(&mut rng, [2, 1, 8, 8]), rng.draw());
    let rates = |reduction, constraint| {
        let objective = VdbObjective { reduction, constraint, ..VdbObjective::default() };
        discriminator.loss(&real, &fake, &objective, Noise::Draw(draw), &mut Mode::Eval).unwrap().rates.unwrap()
    };
    let (sum, mean) = (rates(KlReduction::Sum, Constraint::Mixture), rates(KlReduction::MeanOverPositions, Constraint::Mixture));
    approx::assert_relative_eq!(item(&sum.constrained), 16.0 * item(&mean.constrained), max_relative = 1e-12);
    approx::assert_relative_eq!(item(&sum.constrained), 0.5 * (item(&sum.real) + item(&sum.fake)), max_relative = 1e-12);
    assert_eq!(item(&sum.real), item(&mean.real));
    assert_eq!(item(&rates(KlReduction::Sum, Constraint::Data).constrained), item(&sum.real));
    assert_eq!(item(&rates(KlReduction::Sum, Constraint::Fake).constrained), item(&sum.fake));
    assert!((item(&sum.real) - item(&sum.fake)).abs() > 1e-3);
    // each position by hand
    let stats = discriminator.encoder.forward(&real, &mut Mode::Eval).unwrap();
    let [mean, raw] = stats.chunk(1).unwrap();
    let sigma = raw.affine(1.0, -1.0).unwrap().softplus().unwrap();
    let terms = mean.square().unwrap().add(&sigma.square().unwrap()).unwrap();
    let total = 0.5 * item(&terms.sum_all().unwrap()) - item(&sigma.log().unwrap().sum_all().unwrap()) - 0.5 * (2.0 * 3.0 * 16.0);
    approx::assert_relative_eq!(item(&sum.real), total / 2.0, max_relative = 1e-10);
}

#[test]
fn the_generator_sees_the_mean_unless_told_otherwise() {
    let mut rng = Rng::new(4);
    let discriminator = build(&config(Latent::Vector { size: 3 }, SOFTPLUS), &mut rng);
    let fake = normal(&mut rng, [2, 1, 8, 8]);
    let noise = [(); 2].map(|()| normal(&mut rng, [1, 2, 3]));
    let loss = |pass, noise: &Tensor| {
        let objective = VdbObjective { pass, ..VdbObjective::default() };
        item(&discriminator.generator_loss(&fake, None, &objective, Noise::Given(noise), &mut Mode::Eval).unwrap())
    };
    assert_eq!(loss(Pass::Mean, &noise[0]), loss(Pass::Mean, &noise[1]));
    assert_ne!(loss(Pass::Sample, &noise[0]), loss(Pass::Sample, &noise[1]));
    let zero = noise[0].full_like(0.0).unwrap();
    approx::assert_relative_eq!(loss(Pass::Mean, &noise[0]), loss(Pass::Sample, &zero), max_relative = 1e-12);
}

#[test]
fn instance_noise_is_for_training_alone() {
    let mut rng = Rng::new(5);
    let discriminator = build(&config(Latent::Map { channels: 2 }, Scale::Deterministic), &mut rng);
    let (real, fake, draw) = (normal(&mut rng, [2, 1, 8, 8]), normal(&mut rng, [2, 1, 8, 8]), rng.draw());
    let loss = |place, deviation, mode: &mut Mode| {
        let objective = VdbObjective { noise: Some(InstanceNoise { place, deviation }), ..VdbObjective::default() };
        item(&discriminator.loss(&real, &fake, &objective, Noise::Draw(draw), mode).unwrap().loss)
    };
    for place in [NoisePlace::Input, NoisePlace::Latent] {
        let quiet = loss(place, 0.0, &mut Mode::Train(&mut Rng::new(6)));
        assert_eq!(quiet, loss(place, 1.0, &mut Mode::Eval));
        assert_ne!(quiet, loss(place, 1.0, &mut Mode::Train(&mut Rng::new(6))));
    }
}

#[test]
fn every_architecture_builds_and_learns() {
    let architectures = [
        (Architecture::mlp(&[6, 5]), vec![2usize]),
        (Architecture::mlp(&[6]), vec![1, 8, 8]),
        (Architecture::Dcgan { width: 2 }, vec![1, 28, 28]),
        (Architecture::Dcgan { width: 2 }, vec![3, 32, 32]),
        (Architecture::Resnet { width: 2, most: 8 }, vec![3, 32, 32]),
    ];
    for (architecture, example) in architectures {
        let image = example.len() == 3;
        let convolutional = !matches!(architecture, Architecture::Mlp { .. });
        for (latent, scale) in [
            (Latent::Features, Scale::Deterministic),
            (Latent::Vector { size: 3 }, Scale::Deterministic),
            (Latent::Vector { size: 3 }, SOFTPLUS),
            (Latent::Map { channels: 2 }, Scale::Exp),
        ] {
            let mut rng = Rng::new(7);
            let config = DiscriminatorConfig {
                architecture: architecture.clone(),
                example: example.clone(),
                latent,
                scale,
                head: Head { activate: image, hidden: if image { vec![] } else { vec![4] } },
                spectral_norm: scale == Scale::Deterministic,
            };
            let built = Discriminator::new(&config, &mut rng, DType::F32, &Device::cpu());
            if matches!(latent, Latent::Map { .. }) && !convolutional {
                assert!(built.is_err());
                continue;
            }
            let discriminator = built.unwrap();
            let output = if image { Activation::Tanh } else { Activation::Identity };
            let config = GeneratorConfig { architecture: architecture.clone(), example: example.clone(), latent: 3, output };
            let generator = Generator::new(&config, &mut rng, DType::F32, &Device::cpu()).unwrap();
            let z = rng.normal([4, 3], DType::F32, &Device::cpu()).unwrap();
            let fake = generator.forward(&z, &mut Mode::Train(&mut rng)).unwrap();
            assert_eq!(fake.dims()[1..], example[..], "{architecture:?}");
            let real = rng.normal(fake.shape(), DType::F32, &Device::cpu()).unwrap();
            let objective = VdbObjective { beta: 0.1.into(), penalty: Some(Penalty::r1(1.0)), pass: Pass::Sample, ..Default::default() };
            let noise = Noise::Draw(rng.draw());
            let loss = discriminator.loss(&real, &fake, &objective, noise, &mut Mode::Train(&mut rng)).unwrap();
            assert_eq!(loss.rates.is_some(), scale != Scale::Deterministic);
            let weights = discriminator.params().trained().tensors();
            let found = grad(&loss.loss, &weights.iter().collect::<Vec<_>>()).unwrap();
            assert!(found.iter().all(|g| g.is_finite().unwrap()));
            let loss = discriminator.generator_loss(&fake, None, &objective, noise, &mut Mode::Train(&mut rng)).unwrap();
            let weights = generator.params().trained().tensors();
            let found = grad(&loss, &weights.iter().collect::<Vec<_>>()).unwrap();
            assert!(found.iter().all(|g| g.is_finite().unwrap()));
        }
    }
}

#[test]
fn the_authors_networks_have_their_sizes() {
    // counted from the authors' code for 32 x 32 images: 32 to 256 channels, a 256-channel map of means and one of scales
    let block = |i: usize, o: usize| {
        let h = i.min(o);
        i * h * 9 + h + h * o * 9 + o + if i == o { 0 } else { i * o }
    };
    let tower = block(32, 32) + block(32, 64) + block(64, 128) + block(128, 256);
    let architecture = Architecture::Resnet { width: 32, most: 256 };
    let (mut rng, cpu) = (Rng::new(8), Device::cpu());
    let config = DiscriminatorConfig {
        architecture: architecture.clone(),
        example: vec![3, 32, 32],
        latent: Latent::Map { channels: 256 },
        scale: Scale::Exp,
        head: Head { activate: true, hidden: vec![] },
        spectral_norm: false,
    };
    let discriminator = Discriminator::new(&config, &mut rng, DType::F32, &cpu).unwrap();
    let expected = (3 * 32 * 9 + 32) + tower + 2 * (256 * 256 + 256) + (256 * 16 + 1);
    assert_eq!(discriminator.params().element_count(), expected);
    let config = GeneratorConfig { architecture, example: vec![3, 32, 32], latent: 256, output: Activation::Tanh };
    let generator = Generator::new(&config, &mut rng, DType::F32, &cpu).unwrap();
    let expected = (256 * 4096 + 4096) + block(256, 128) + block(128, 64) + block(64, 32) + block(32, 32) + (32 * 3 * 9 + 3);
    assert_eq!(generator.params().element_count(), expected);
}

#[test]
fn relativistic_generators_need_real_examples() {
    let mut rng = Rng::new(10);
    let discriminator = build(&config(Latent::Features, Scale::Deterministic), &mut rng);
    let (real, fake, noise) = (normal(&mut rng, [2, 1, 8, 8]), normal(&mut rng, [2, 1, 8, 8]), Noise::Draw(rng.draw()));
    let objective = VdbObjective { loss: GanLoss::Relativistic, ..VdbObjective::default() };
    assert!(discriminator.generator_loss(&fake, Some(&real), &objective, noise, &mut Mode::Eval).is_ok());
    assert!(discriminator.generator_loss(&fake, None, &objective, noise, &mut Mode::Eval).is_err());
}

#[test]
fn rates_near_the_prior_are_never_negative() {
    use crate::nn::{Mlp, init::Init};
    for scale in [Scale::Exp, Scale::Softplus { shift: -0.541_324_854_612_918_1 }] {
        let mut rng = Rng::new(1);
        let mut mlp = |sizes: &[usize]| Mlp::new(sizes, Activation::Identity, Init::Normal(1e-5), &mut rng, DType::F32, &Device::cpu());
        let (encoder, head) = (mlp(&[4, 64]).unwrap(), mlp(&[32, 1]).unwrap());
        let discriminator = Discriminator::from_modules(Box::new(encoder), scale, Box::new(head));
        let x = rng.normal([500, 4], DType::F32, &Device::cpu()).unwrap();
        let kl = discriminator.forward(&x, Some(Noise::Draw(rng.draw())), &mut Mode::Eval).unwrap().kl.unwrap().to_f64_vec().unwrap();
        assert!(kl.iter().all(|kl| (0.0..1e-6).contains(kl)) && kl.iter().sum::<f64>() > 500.0 * 1e-9, "{scale:?}: {kl:?}");
    }
}

#[test]
fn a_sixteen_bit_critic_has_a_finite_loss_with_a_penalty() {
    let mut rng = Rng::new(1);
    let discriminator = Discriminator::new(&config(Latent::Vector { size: 3 }, SOFTPLUS), &mut rng, DType::F16, &Device::cpu()).unwrap();
    let mut images = || rng.normal([2, 1, 8, 8], DType::F16, &Device::cpu()).unwrap().affine(100.0, 0.0).unwrap();
    let (real, fake) = (images(), images());
    for penalty in [Penalty::wgan_gp(10.0), Penalty::r1(10.0), Penalty::dragan(10.0)] {
        let objective = VdbObjective { penalty: Some(penalty), ..VdbObjective::default() };
        let loss = discriminator.loss(&real, &fake, &objective, Noise::Draw(rng.draw()), &mut Mode::Train(&mut rng)).unwrap();
        assert!(loss.loss.dtype() == DType::F32 && loss.loss.is_finite().unwrap(), "{penalty:?}");
    }
}
