//! Sets of points in the plane, generated on demand: batch n is a function of the seed and of n.

use std::f64::consts::{PI, TAU};
use std::fmt;

use crate::device::cpu::{memory, philox};
use crate::error::Result;
use crate::rng::Draw;

/// A distribution of points in the plane, for experiments with models. It is infinite, so it has no test part: other
/// draws are as good.
///
/// A batch is a function of one [`Draw`]: one from the run's [`Rng`](crate::Rng), which its checkpoints keep, or
/// `Draw { key: seed, number: step }` for the batch of a step. Point i comes from block i of the draw, so a longer batch
/// begins with the shorter one. `Tensor::from_slice(points.as_flattened(), [n, 2], device)` makes a tensor of it.
///
/// ```
/// use strait::Draw;
/// use strait::data::PointSet;
/// let points = PointSet::Gaussians25.sample(1000, Draw { key: 7, number: 0 })?;
/// assert!(points.iter().flatten().all(|x| x.abs() < 1.6));
/// # Ok::<(), strait::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointSet {
    /// `25gaussians`: a 5 x 5 grid of spacing 2 with standard deviation 0.05, all divided by 2.828 (Gulrajani et al. 2017,
    /// "Improved training of Wasserstein GANs", in its authors' code).
    Gaussians25,
    /// `8gaussians`: on a circle of radius 2 with standard deviation 0.02, all divided by 1.414 (the same code).
    Gaussians8,
    /// `swissroll`: (t cos t, t sin t) for t uniform in [1.5 pi, 4.5 pi], plus noise of standard deviation 0.25, all divided
    /// by 7.5 (the same code, where scikit-learn makes it).
    SwissRoll,
    /// `2gaussians`: N((-1.5, 0), 0.25 I) and N((1.5, 0), 0.25 I), as in figure 2 of Peng et al. 2019, "Variational
    /// discriminator bottleneck".
    TwoGaussians,
    /// `2moons`: two half circles of radius 1 that reach into each other, centred, plus noise of standard deviation 0.1.
    TwoMoons,
}

/// Equally likely Gaussians with one standard deviation in every direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// The centres.
    pub means: Vec<[f64; 2]>,
    /// Standard deviation along each axis.
    pub deviation: f64,
}

impl PointSet {
    /// Every set.
    pub const ALL: [PointSet; 5] =
        [PointSet::Gaussians25, PointSet::Gaussians8, PointSet::SwissRoll, PointSet::TwoGaussians, PointSet::TwoMoons];

    /// The name after `--data`.
    pub fn name(self) -> &'static str {
        match self {
            PointSet::Gaussians25 => "25gaussians",
            PointSet::Gaussians8 => "8gaussians",
            PointSet::SwissRoll => "swissroll",
            PointSet::TwoGaussians => "2gaussians",
            PointSet::TwoMoons => "2moons",
        }
    }

    /// The set's true distribution where it is a mixture of Gaussians.
    pub fn mixture(self) -> Option<Mixture> {
        let (means, deviation) = match self {
            PointSet::Gaussians25 => {
                let at = |i: i32| f64::from(2 * (i - 2)) / 2.828;
                ((0..25).map(|i| [at(i / 5), at(i % 5)]).collect(), 0.05 / 2.828)
            }
            PointSet::Gaussians8 => {
                let at = |i: i32| (TAU * f64::from(i) / 8.0).sin_cos();
                ((0..8).map(at).map(|(sin, cos)| [2.0 * cos / 1.414, 2.0 * sin / 1.414]).collect(), 0.02 / 1.414)
            }
            PointSet::TwoGaussians => (vec![[-1.5, 0.0], [1.5, 0.0]], 0.5),
            PointSet::SwissRoll | PointSet::TwoMoons => return None,
        };
        Some(Mixture { means, deviation })
    }

    /// `n` points of this draw.
    pub fn sample(self, n: usize, draw: Draw) -> Result<Vec<[f32; 2]>> {
        if let Some(mixture) = self.mixture() {
            return mixture.sample(n, draw);
        }
        let point = |i| {
            let ([u, v], [noise_x, noise_y]) = numbers(draw, i);
            let (x, y, deviation, scale) = match self {
                PointSet::SwissRoll => {
                    let t = 1.5 * PI * (1.0 + 2.0 * u);
                    (t * t.cos(), t * t.sin(), 0.25, 7.5)
                }
                _ if v < 0.5 => ((PI * u).cos() - 0.5, (PI * u).sin() - 0.25, 0.1, 1.0),
                _ => (0.5 - (PI * u).cos(), 0.25 - (PI * u).sin(), 0.1, 1.0),
            };
            [((x + deviation * noise_x) / scale) as f32, ((y + deviation * noise_y) / scale) as f32]
        };
        drawn(n, point)
    }

    /// Half the side of a square around the origin that holds the set, for pictures.
    pub fn extent(self) -> f64 {
        match self {
            PointSet::Gaussians25 | PointSet::Gaussians8 => 1.8,
            PointSet::SwissRoll => 2.2,
            PointSet::TwoGaussians => 3.5,
            PointSet::TwoMoons => 2.0,
        }
    }

    /// That square: left, right, bottom, top.
    pub fn window(self) -> [f64; 4] {
        let extent = self.extent();
        [-extent, extent, -extent, extent]
    }

    /// `n` points of this draw from the last component of a mixture, or from the first one; from all of a set that is no mixture.
    ///
    /// # Errors
    /// There is no memory for so many.
    pub fn component(self, last: bool, n: usize, draw: Draw) -> Result<Vec<[f32; 2]>> {
        let points = self.mixture().map(|m| m.sample_of(if last { m.means.len() - 1 } else { 0 }, n, draw));
        points.unwrap_or_else(|| self.sample(n, draw))
    }
}

impl Mixture {
    /// `n` points of this draw.
    pub fn sample(&self, n: usize, draw: Draw) -> Result<Vec<[f32; 2]>> {
        let components = self.means.len() as f64;
        let point = |i| {
            let ([u, _], noise) = numbers(draw, i);
            // Uniforms are below 1 by 2^-24, far more than the product rounds by.
            self.point(&self.means[(u * components) as usize], noise)
        };
        drawn(n, point)
    }

    /// `n` points of this draw, all of one component.
    ///
    /// # Panics
    /// There is no such component.
    pub fn sample_of(&self, component: usize, n: usize, draw: Draw) -> Result<Vec<[f32; 2]>> {
        let mean = &self.means[component];
        drawn(n, |i| self.point(mean, numbers(draw, i).1))
    }

    fn point(&self, mean: &[f64; 2], noise: [f64; 2]) -> [f32; 2] {
        std::array::from_fn(|axis| (mean[axis] + self.deviation * noise[axis]) as f32)
    }

    /// Log density in nats.
    pub fn log_density(&self, point: [f64; 2]) -> f64 {
        let variance = self.deviation * self.deviation;
        let exponents = self.means.iter().map(|m| -((point[0] - m[0]).powi(2) + (point[1] - m[1]).powi(2)) / (2.0 * variance));
        let most = exponents.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = exponents.map(|e| (e - most).exp()).sum();
        most + sum.ln() - (self.means.len() as f64).ln() - (TAU * variance).ln()
    }
}

/// `n` numbers of this draw: -1 or 1, equally likely, with standard deviation 1e-5 (Zhao, Song and Ermon 2019, figure 1, as
/// in their code).
pub fn two_points(n: usize, draw: Draw) -> Result<Vec<f32>> {
    let point = |i| {
        let ([u, _], [noise, _]) = numbers(draw, i);
        ((if u < 0.5 { -1.0 } else { 1.0 }) + 1e-5 * noise) as f32
    };
    drawn(n, point)
}

/// The points with the numbers 0 to `n - 1`.
fn drawn<T>(n: usize, point: impl Fn(u64) -> T) -> Result<Vec<T>> {
    let mut points = memory::vector("points", n)?;
    points.extend((0..n as u64).map(point));
    Ok(points)
}

impl fmt::Display for PointSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Two uniforms in (0, 1) and two independent standard normals.
fn numbers(draw: Draw, i: u64) -> ([f64; 2], [f64; 2]) {
    let [a, b, c, d] = philox::block(draw.key, draw.number, i);
    let (first, second) = philox::box_muller::pair(a, b);
    ([c, d].map(|word| f64::from(philox::uniform_from(word))), [first.into(), second.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const DRAW: Draw = Draw { key: 5, number: 9 };

    fn moments(points: &[[f32; 2]]) -> ([f64; 2], [f64; 2]) {
        let n = points.len() as f64;
        let mean = [0, 1].map(|axis| points.iter().map(|p| f64::from(p[axis])).sum::<f64>() / n);
        (mean, [0, 1].map(|axis| points.iter().map(|p| (f64::from(p[axis]) - mean[axis]).powi(2)).sum::<f64>() / n))
    }

    #[test]
    fn batches_depend_on_the_draw_alone() {
        for set in PointSet::ALL {
            let sample = |n, draw| set.sample(n, draw).unwrap();
            let points = sample(100, DRAW);
            assert_eq!(sample(250, DRAW)[..100], points);
            assert_ne!(sample(100, Draw { number: 10, ..DRAW }), points);
            assert_ne!(sample(100, Draw { key: 6, ..DRAW }), points);
            let extent = set.extent() as f32;
            assert!(sample(20_000, DRAW).iter().flatten().all(|x| x.abs() < extent), "{set}");
        }
    }

    #[test]
    fn more_points_than_memory_holds_are_an_error() {
        let mixture = PointSet::Gaussians8.mixture().unwrap();
        for n in [1usize << 50, i64::MAX as usize, usize::MAX] {
            let refused = |error: Error| matches!(error, Error::OutOfMemory { op: "points", asked, .. } if asked >= 4 * n as u128);
            assert!(PointSet::ALL.iter().all(|set| refused(set.sample(n, DRAW).unwrap_err())));
            assert!(refused(mixture.sample_of(0, n, DRAW).unwrap_err()) && refused(two_points(n, DRAW).unwrap_err()));
        }
    }

    #[test]
    fn mixtures_have_their_modes_in_equal_shares() {
        let expected = [(PointSet::Gaussians25, 25, 0.017_680), (PointSet::Gaussians8, 8, 0.014_144), (PointSet::TwoGaussians, 2, 0.5)];
        for (set, modes, deviation) in expected {
            let mixture = set.mixture().unwrap();
            assert_eq!((mixture.means.len(), (mixture.deviation - deviation).abs() < 1e-6), (modes, true));
            let n = 40_000;
            let mut offsets = vec![Vec::new(); modes];
            for point in mixture.sample(n, DRAW).unwrap() {
                let offset = |m: &[f64; 2]| [point[0] - m[0] as f32, point[1] - m[1] as f32];
                let far = |m: &[f64; 2]| offset(m).iter().map(|d| d * d).sum::<f32>();
                let nearest = (0..modes).min_by(|a, b| far(&mixture.means[*a]).total_cmp(&far(&mixture.means[*b]))).unwrap();
                offsets[nearest].push(offset(&mixture.means[nearest]));
            }
            let share = n as f64 / modes as f64;
            let chi2: f64 = offsets.iter().map(|o| (o.len() as f64 - share).powi(2) / share).sum();
            // The 99.9 % points of 24, 7 and 1 degrees of freedom.
            assert!(chi2 < [51.2, 24.3, 10.8][if modes == 25 { 0 } else { usize::from(modes == 2) + 1 }], "{set}: {chi2}");
            let (mean, variance) = moments(&offsets.concat());
            for axis in 0..2 {
                // Five standard errors.
                assert!(mean[axis].abs() < 5.0 * deviation / (n as f64).sqrt(), "{set}: {mean:?}");
                assert!((variance[axis] / deviation.powi(2) - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt() + 4e-3, "{set}: {variance:?}");
            }
        }
        assert!(PointSet::SwissRoll.mixture().is_none() && PointSet::TwoMoons.mixture().is_none());
        let corners = PointSet::Gaussians25.mixture().unwrap().means;
        assert_eq!((corners[0], corners[12], corners[24]), ([-4.0 / 2.828; 2], [0.0; 2], [4.0 / 2.828; 2]));
        let circle = PointSet::Gaussians8.mixture().unwrap().means;
        assert!(circle.iter().all(|m| (m[0].hypot(m[1]) - 2.0 / 1.414).abs() < 1e-12) && circle[0][1] == 0.0);
    }

    #[test]
    fn one_component_can_be_drawn_alone() {
        let (mean, variance) = moments(&PointSet::TwoGaussians.mixture().unwrap().sample_of(1, 20_000, DRAW).unwrap());
        assert!((mean[0] - 1.5).abs() < 0.02 && mean[1].abs() < 0.02 && variance.iter().all(|v| (v - 0.25).abs() < 0.0125));
    }

    #[test]
    fn densities_integrate_to_one() {
        let mixture = PointSet::TwoGaussians.mixture().unwrap();
        let step = 0.05;
        let at = |i: i32| f64::from(i) * step;
        let sum: f64 =
            (-100..=100).flat_map(|i| (-80..=80).map(move |j| (i, j))).map(|(i, j)| mixture.log_density([at(i), at(j)]).exp()).sum();
        assert!((sum * step * step - 1.0).abs() < 1e-9, "{sum}");
        // One mode only: -log(25) - log(2 pi sd^2) at a centre.
        let grid = PointSet::Gaussians25.mixture().unwrap();
        let expected = -25f64.ln() - (TAU * grid.deviation * grid.deviation).ln();
        assert!((grid.log_density(grid.means[7]) - expected).abs() < 1e-12);
        assert!(grid.log_density([1e3, 0.0]).is_finite());
    }

    #[test]
    fn two_points_have_the_promised_spread() {
        let points = two_points(10_000, DRAW).unwrap();
        let right = points.iter().filter(|x| **x > 0.0).count() as f64;
        let square: f64 = points.iter().map(|x| f64::from(x.abs() - 1.0).powi(2)).sum::<f64>() / 1e4;
        assert!((right / 1e4 - 0.5).abs() < 0.02 && (square.sqrt() / 1e-5 - 1.0).abs() < 0.03, "{right} {square}");
        assert_eq!(two_points(10, DRAW).unwrap(), points[..10]);
    }

    #[test]
    fn the_curves_are_followed() {
        // The radius of the roll is its angle; the noise moves a point by 0.25 along each axis.
        let roll = PointSet::SwissRoll.sample(20_000, DRAW).unwrap();
        let residuals = roll.iter().map(|p| {
            let (x, y) = (7.5 * f64::from(p[0]), 7.5 * f64::from(p[1]));
            let (radius, angle) = (x.hypot(y), y.atan2(x));
            (radius - angle + PI).rem_euclid(TAU) - PI
        });
        let square = residuals.map(|r| r * r).sum::<f64>() / 20_000.0;
        assert!((square / 0.0625 - 1.0).abs() < 0.08, "{square}");
        let from = |p: &[f32; 2], sign: f64| (f64::from(p[0]) + 0.5 * sign).hypot(f64::from(p[1]) + 0.25 * sign);
        let moons = PointSet::TwoMoons.sample(20_000, DRAW).unwrap();
        let (mean, _) = moments(&moons);
        assert!(mean.iter().all(|m| m.abs() < 0.03), "{mean:?}");
        let nearest = moons.iter().map(|p| (from(p, 1.0) - 1.0).abs().min((from(p, -1.0) - 1.0).abs()));
        assert!((nearest.map(|r| r * r).sum::<f64>() / 20_000.0 / 0.01 - 1.0).abs() < 0.15);
    }
}
