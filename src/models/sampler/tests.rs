use super::*;
use crate::Device;

/// U = |x|^2 / 2.
fn gaussian(x: &Tensor) -> Result<Tensor> {
    x.square()?.sum(&[1], false)?.affine(0.5, 0.0)
}

/// Half of N(-1.5, 1) and half of N(1.5, 1) in the first dimension, N(0, 1) in the others.
fn two_gaussians(x: &Tensor) -> Result<Tensor> {
    let first = x.narrow(1, 0, 1)?;
    let log = |centre: f64| first.affine(1.0, -centre)?.square()?.affine(-0.5, 0.0);
    let mixture = Tensor::concat(&[&log(-1.5)?, &log(1.5)?], 1)?.logsumexp(1, false)?;
    x.narrow(1, 1, x.dims()[1] - 1)?.square()?.sum(&[1], false)?.affine(0.5, 0.0)?.sub(&mixture)
}

fn start(rows: usize, width: usize, rng: &mut Rng) -> Tensor {
    rng.normal([rows, width], DType::F64, &Device::cpu()).unwrap()
}

/// Mean square of each dimension over `steps` steps, and the mean acceptance.
fn second_moments(
    langevin: &Langevin,
    energy: fn(&Tensor) -> Result<Tensor>,
    mut chain: Chain,
    steps: usize,
    rng: &mut Rng,
) -> (Vec<f64>, f64) {
    let mut moments = vec![0.0; chain.positions.dims()[1]];
    let mut acceptance = 0.0;
    for _ in 0..steps {
        chain = langevin.advance(energy, &chain, rng).unwrap();
        let squares = chain.positions.square().unwrap().mean(&[0], false).unwrap().to_vec::<f64>().unwrap();
        moments.iter_mut().zip(squares).for_each(|(sum, value)| *sum += value / steps as f64);
        acceptance += chain.acceptance().unwrap() / steps as f64;
    }
    (moments, acceptance)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn mala_is_exact_on_a_gaussian_at_any_step() {
    for step in [Step::Half(0.4), Step::Full(0.5), Step::Half(1.6)] {
        let mut rng = Rng::new(1);
        let chain = Chain::new(gaussian, &start(400, 8, &mut rng)).unwrap();
        let (moments, acceptance) = second_moments(&Langevin::mala(step), gaussian, chain, 400, &mut rng);
        assert!((mean(&moments) - 1.0).abs() < 0.02, "{step:?}: variance {moments:?}, acceptance {acceptance}");
        assert!(acceptance < 0.999 && acceptance > 0.2, "{acceptance}");
    }
}

#[test]
fn the_ratio_is_that_of_the_densities_and_of_the_proposals() {
    // written out with normal densities: without their squares, or without the proposals, chains have another target
    let mut rng = Rng::new(8);
    let (x, y) = (start(4, 3, &mut rng), start(4, 3, &mut rng));
    let (temperature, epsilon) = (1.7, 0.3);
    let mala = Langevin::mala(Step::Half(epsilon)).at_temperature(temperature);
    let quartic = |x: &Tensor| x.square()?.square()?.sum(&[1], false)?.affine(0.25, 0.0);
    let (from, to) = (Chain::new(quartic, &x).unwrap(), Chain::new(quartic, &y).unwrap());
    let found = mala.log_acceptance(&from, &to).unwrap().to_vec::<f64>().unwrap();
    let back = mala.log_acceptance(&to, &from).unwrap().to_vec::<f64>().unwrap();
    let (x, y) = (x.to_vec::<f64>().unwrap(), y.to_vec::<f64>().unwrap());
    for (row, (x, y)) in x.chunks(3).zip(y.chunks(3)).enumerate() {
        let target = |x: &[f64]| -x.iter().map(|v| 0.25 * v.powi(4)).sum::<f64>() / temperature;
        let proposal = |to: &[f64], from: &[f64]| {
            let offset = |(to, from): (&f64, &f64)| to - (from - 0.5 * epsilon * from.powi(3) / temperature);
            -to.iter().zip(from).map(offset).map(|d| d * d).sum::<f64>() / (2.0 * epsilon)
        };
        let expected = target(y) + proposal(x, y) - target(x) - proposal(y, x);
        approx::assert_relative_eq!(found[row], expected, max_relative = 1e-10);
        approx::assert_relative_eq!(back[row], -expected, max_relative = 1e-10);
    }
}

#[test]
fn warm_up_finds_the_step_and_the_target() {
    let mut rng = Rng::new(2);
    // from far away, with a step far too small
    let far = start(300, 8, &mut rng).affine(5.0, 3.0).unwrap();
    let mut mala = Langevin::mala(Step::Half(1e-3));
    let chain = mala.warm_up(gaussian, &Chain::new(gaussian, &far).unwrap(), 300, &mut rng).unwrap();
    let (moments, acceptance) = second_moments(&mala, gaussian, chain, 500, &mut rng);
    assert!((acceptance - MALA_ACCEPTANCE).abs() < 0.03, "{acceptance} at {:?}", mala.step);
    assert!((mean(&moments) - 1.0).abs() < 0.02, "{moments:?}");
    let mut unadjusted = Langevin::unadjusted(Step::Half(0.1));
    assert!(unadjusted.warm_up(gaussian, &Chain::new(gaussian, &far).unwrap(), 1, &mut rng).is_err());
}

#[test]
fn mala_is_exact_on_two_gaussians() {
    let mut rng = Rng::new(3);
    let chain = Chain::new(two_gaussians, &start(500, 2, &mut rng)).unwrap();
    let mut mala = Langevin::mala(Step::Half(0.5));
    let chain = mala.warm_up(two_gaussians, &chain, 200, &mut rng).unwrap();
    let (moments, _) = second_moments(&mala, two_gaussians, chain, 800, &mut rng);
    // 1 + 1.5^2 and 1
    assert!((moments[0] / 3.25 - 1.0).abs() < 0.02 && (moments[1] - 1.0).abs() < 0.02, "{moments:?}");
}

#[test]
fn unadjusted_chains_have_the_variance_of_their_step() {
    // x' = (1 - e/2) x + sqrt(e) n has variance 1 / (1 - e/4); a drift of e would have 1 / (2 - e)
    for step in [Step::Half(0.2), Step::Full(0.1)] {
        let mut rng = Rng::new(4);
        let chain = Chain::new(gaussian, &start(500, 8, &mut rng)).unwrap();
        let (moments, acceptance) = second_moments(&Langevin::unadjusted(step), gaussian, chain, 300, &mut rng);
        assert!((mean(&moments) - 1.0 / 0.95).abs() < 0.02, "{step:?}: {moments:?}");
        assert!((acceptance - 1.0).abs() < 1e-12);
    }
}

#[test]
fn temperature_widens_the_target_and_noise_alone_does_not_make_it() {
    let mut rng = Rng::new(5);
    let begin = start(500, 8, &mut rng);
    let chain = Chain::new(gaussian, &begin.affine(2.0f64.sqrt(), 0.0).unwrap()).unwrap();
    let (moments, _) = second_moments(&Langevin::mala(Step::Half(0.6)).at_temperature(2.0), gaussian, chain, 400, &mut rng);
    assert!((mean(&moments) / 2.0 - 1.0).abs() < 0.02, "{moments:?}");
    // noise of s at temperature 1 is temperature s^2 at the step s^2 e: the variance of s^2 / (1 - e/4)
    let quiet = Langevin { correction: Correction::Unadjusted { noise: 0.5 }, ..Langevin::unadjusted(Step::Half(0.2)) };
    let chain = Chain::new(gaussian, &begin.affine(0.5, 0.0).unwrap()).unwrap();
    let (moments, _) = second_moments(&quiet, gaussian, chain, 300, &mut rng);
    assert!((mean(&moments) - 0.25 / 0.95).abs() < 0.01, "{moments:?}");
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    // the energy is a number only inside of a ball: chains stay there
    let inside = |x: &Tensor| {
        let squares = x.square()?.sum(&[1], false)?;
        gaussian(x)?.add(&squares.affine(-1.0, 4.0)?.sqrt()?.affine(0.0, 0.0)?)
    };
    let mut rng = Rng::new(6);
    let positions = start(50, 2, &mut rng).affine(0.3, 0.0).unwrap();
    let chain = Chain::new(inside, &positions).unwrap();
    let chain = Langevin::mala(Step::Half(1.0)).run(inside, &chain, 50, &mut rng).unwrap();
    let squares = chain.positions.square().unwrap().sum(&[1], false).unwrap().to_vec::<f64>().unwrap();
    assert!(squares.iter().all(|s| *s <= 4.0) && chain.gradients.is_finite().unwrap() && chain.energies.is_finite().unwrap());
    assert!(squares.iter().any(|s| *s > 1.0), "some have moved");
}

#[test]
fn settings_and_shapes_are_checked() {
    let mut rng = Rng::new(7);
    let x = start(3, 2, &mut rng);
    let chain = Chain::new(gaussian, &x).unwrap();
    for wrong in
        [Langevin::mala(Step::Half(0.0)), Langevin::mala(Step::Full(f64::NAN)), Langevin::unadjusted(Step::Half(0.1)).at_temperature(-1.0)]
    {
        assert!(wrong.advance(gaussian, &chain, &mut rng).is_err(), "{wrong:?}");
    }
    assert!(Chain::new(|x: &Tensor| x.square(), &x).is_err());
    let same = |seed| {
        let chain = Langevin::mala(Step::Half(0.5)).run(gaussian, &chain, 5, &mut Rng::new(seed)).unwrap();
        chain.positions.to_vec::<f64>().unwrap()
    };
    assert!(same(1) == same(1) && same(1) != same(2));
}
