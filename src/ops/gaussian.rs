//! Kullback-Leibler divergences of Gaussians from the standard normal, in nats.

use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::device::cpu::reduce as cpu;
use crate::device::cuda::launch as launch_kernel;
use crate::dispatch_float;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply, launch};
use crate::ops::cuda;
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::ops::wide::in_f32;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// KL(N(mu, diag sigma^2) || N(0, I)) per row.
#[derive(Debug)]
struct GaussianKl;

fn check_pair(op: &'static str, mu: Meta, other: Meta, fits: bool, rule: &'static str) -> Result<()> {
    same(op, &[mu])?;
    if mu.dtype != other.dtype {
        return Err(Error::MixedDTypes { op, left: mu.dtype, right: other.dtype });
    }
    if fits { Ok(()) } else { Err(Error::ShapeMismatch { op, shapes: vec![mu.shape, other.shape], rule }) }
}

impl Kernel for GaussianKl {
    fn name(&self) -> &'static str {
        "gaussian_kl"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (mu, sigma) = (inputs[0], inputs[1]);
        let fits = mu.shape.rank() > 0 && mu.shape == sigma.shape;
        check_pair("gaussian_kl", mu, sigma, fits, "mu and sigma must have equal shapes [.., k]")?;
        Ok([Meta { shape: mu.shape.without(mu.shape.rank() - 1), dtype: mu.dtype }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let k = inputs[0].dims()[inputs[0].rank() - 1];
        dispatch_float!(inputs[0].dtype(), T => {
            let (mu, sigma) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            let rows = (CHUNK / k.max(1)).max(1);
            chunks_mut(outputs[0].slice::<T>(), rows, |chunk, out| {
                let mut terms = vec![0.0; k];
                for (r, o) in out.iter_mut().enumerate() {
                    let at = (chunk * rows + r) * k;
                    let (mu, sigma) = (&mu[at..at + k], &sigma[at..at + k]);
                    simd(
                        #[inline(always)]
                        || {
                            for ((t, &m), &s) in terms.iter_mut().zip(mu).zip(sigma) {
                                *t = Real::mul_add(0.5 * m, m, Real::scale_excess(s, Real::ln(s)));
                            }
                        },
                    );
                    *o = cpu::sum(&terms);
                }
            })
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (mu, rows, k) = (inputs[0], outputs[0].meta.shape.len(), inputs[0].dims()[inputs[0].rank() - 1]);
        let (team, grid) = cuda::teams(rows, k);
        let arguments = (mu.ptr(), inputs[1].ptr(), outputs[0].ptr(), rows as u64, k as u64, team);
        dispatch_float!(mu.dtype(), T => launch_kernel::<{ kernel!("gaussian_kl", T) }, _>(mu.gpu(), grid, arguments))
    }
}

/// The gradients of [`GaussianKl`] with respect to mu and sigma in one pass.
#[derive(Debug)]
struct GaussianKlGrad;

impl Kernel for GaussianKlGrad {
    fn name(&self) -> &'static str {
        "gaussian_kl_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        Ok([inputs[0], inputs[0]].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let k = inputs[0].dims()[inputs[0].rank() - 1];
        let [d_mu, d_sigma] = outputs else { unreachable!("two results") };
        dispatch_float!(inputs[0].dtype(), T => {
            let (mu, sigma, g) = (inputs[0].slice::<T>(), inputs[1].slice::<T>(), inputs[2].slice::<T>());
            chunks_mut(d_mu.slice::<T>(), CHUNK, |chunk, out| {
                let first = chunk * CHUNK;
                out.iter_mut().enumerate().for_each(|(i, o)| *o = g[(first + i) / k] * mu[first + i]);
            });
            // s - 1/s
            let slope = |s: T| (s - 1.0) * ((s + 1.0) / s);
            chunks_mut(d_sigma.slice::<T>(), CHUNK, |chunk, out| {
                let first = chunk * CHUNK;
                out.iter_mut().enumerate().for_each(|(i, o)| *o = g[(first + i) / k] * slope(sigma[first + i]));
            });
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (mu, n, k) = (inputs[0], inputs[0].element_count(), inputs[0].dims()[inputs[0].rank() - 1]);
        let arguments = (mu.ptr(), inputs[1].ptr(), inputs[2].ptr(), outputs[0].ptr(), outputs[1].ptr(), n as u64, k as u64);
        dispatch_float!(mu.dtype(), T => {
            launch_kernel::<{ kernel!("gaussian_kl_grad", T) }, _>(mu.gpu(), cuda::threads_for::<T>(n), arguments)
        })
    }
}

impl Op for GaussianKl {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (mu, sigma, g) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        if !v.differentiable {
            return Ok(launch(&GaussianKlGrad, &[mu, sigma, g])?.into_iter().map(Some).collect());
        }
        let g = g.unsqueeze(mu.rank() - 1)?;
        let d_mu = v.when(0, || g.mul(mu))?;
        let slope = |s: &Tensor| s.affine(1.0, -1.0)?.mul(&s.affine(1.0, 1.0)?.div(s)?);
        let d_sigma = v.when(1, || in_f32([&g, sigma], |[g, sigma]| g.mul(&slope(sigma)?)))?;
        Ok([d_mu, d_sigma].into_iter().collect())
    }
}

/// KL(N(mu, L L^T) || N(0, I)) per row.
#[derive(Debug)]
struct GaussianKlFull;

impl Kernel for GaussianKlFull {
    fn name(&self) -> &'static str {
        "gaussian_kl_full"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let (mu, tril) = (inputs[0], inputs[1]);
        let fits = mu.shape.rank() == 2 && tril.shape.dims() == [mu.shape[0], mu.shape[1], mu.shape[1]];
        check_pair("gaussian_kl_full", mu, tril, fits, "mu must be [rows, k] and the Cholesky factor [rows, k, k]")?;
        Ok([Meta { shape: Shape::from([mu.shape[0]]), dtype: mu.dtype }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let k = inputs[0].dims()[1];
        dispatch_float!(inputs[0].dtype(), T => {
            let (mu, tril) = (inputs[0].slice::<T>(), inputs[1].slice::<T>());
            let rows = (CHUNK / (k * k).max(1)).max(1);
            chunks_mut(outputs[0].slice::<T>(), rows, |chunk, out| {
                for (r, o) in out.iter_mut().enumerate() {
                    let row = chunk * rows + r;
                    let (mu, tril) = (&mu[row * k..][..k], &tril[row * k * k..][..k * k]);
                    // The terms of the diagonal each for itself: sums of their squares and of their logarithms would cancel.
                    let below = (0..k).map(|i| &tril[i * k..][..k]).enumerate().map(|(i, row)| cpu::dot(&row[..i], &row[..i]) + cpu::dot(&row[i + 1..], &row[i + 1..]));
                    let excess: T = (0..k).map(|i| tril[i * (k + 1)]).map(|l| Real::scale_excess(l, Real::ln(l))).sum();
                    *o = 0.5 * (below.sum::<T>() + cpu::dot(mu, mu)) + excess;
                }
            })
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (mu, rows, k) = (inputs[0], inputs[0].dims()[0], inputs[0].dims()[1]);
        let (team, grid) = cuda::teams(rows, k * k);
        let arguments = (mu.ptr(), inputs[1].ptr(), outputs[0].ptr(), rows as u64, k as u64, team);
        dispatch_float!(mu.dtype(), T => launch_kernel::<{ kernel!("gaussian_kl_full", T) }, _>(mu.gpu(), grid, arguments))
    }
}

impl Op for GaussianKlFull {
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let (mu, tril, g) = (&v.inputs[0], &v.inputs[1], v.cotangent());
        let (rows, k) = (mu.dims()[0], mu.dims()[1]);
        let d_mu = v.when(0, || g.unsqueeze(1)?.mul(mu))?;
        let slopes = |g: &Tensor, tril: &Tensor| {
            let flat = tril.reshape([rows, k * k])?;
            let diagonal = diagonal(k, mu)?;
            let inverse = flat.index_select(1, &diagonal)?.reciprocal()?.index_add(1, &diagonal, k * k)?;
            g.unsqueeze(1)?.mul(&flat.sub(&inverse)?)?.reshape(tril.shape())
        };
        let d_tril = v.when(1, || in_f32([g, tril], |[g, tril]| slopes(g, tril)))?;
        Ok([d_mu, d_tril].into_iter().collect())
    }
}

/// The positions of the diagonal in a flat k x k matrix.
fn diagonal(k: usize, like: &Tensor) -> Result<Tensor> {
    let at: Vec<i64> = (0..k).map(|i| (i * (k + 1)) as i64).collect();
    Tensor::from_vec(at, [k], &like.device())
}

impl Tensor {
    /// KL(N(mu, diag sigma^2) || N(0, I)) in nats, per row: `1/2 sum(mu^2 + sigma^2 - 2 log sigma - 1)` over the last axis
    /// (Kingma and Welling 2014, appendix B). `self` is mu [.., k], sigma has its shape.
    pub fn gaussian_kl(&self, sigma: &Tensor) -> Result<Tensor> {
        apply(GaussianKl, &[self, sigma])
    }

    /// [`Tensor::gaussian_kl`] from log sigma: `1/2 sum(mu^2 + (e^u - 1 - u))` with `u = 2 log sigma`, in terms that are not below 0 and
    /// do not cancel near the prior. Finite where sigma underflows. Computed in f32 for 16-bit floats.
    pub fn gaussian_kl_of_log(&self, log_sigma: &Tensor) -> Result<Tensor> {
        let metas = [self, log_sigma].map(|t| Meta::new(t.shape(), t.dtype()));
        let dtype = GaussianKl.infer(&metas)?[0].dtype;
        let terms = self.to_dtype(dtype.wide())?.square()?.add(&log_sigma.to_dtype(dtype.wide())?.affine(2.0, 0.0)?.exp_remainder()?)?;
        terms.sum(&[self.rank() - 1], false)?.affine(0.5, 0.0)?.to_dtype(dtype)
    }

    /// [`Tensor::gaussian_kl`] from ordinary ops, which it is tested against.
    #[doc(hidden)]
    pub fn gaussian_kl_composed(&self, sigma: &Tensor) -> Result<Tensor> {
        in_f32([self, sigma], |[mu, sigma]| mu.gaussian_kl_of_log(&sigma.log()?)).map_err(|e| e.named("gaussian_kl"))
    }

    /// KL(N(mu, L L^T) || N(0, I)) in nats, per row: `1/2 (|L|^2 + |mu|^2 - k) - sum(log diag L)`.
    /// `self` is mu [rows, k], `tril` the Cholesky factors L [rows, k, k].
    pub fn gaussian_kl_full(&self, tril: &Tensor) -> Result<Tensor> {
        apply(GaussianKlFull, &[self, tril])
    }

    /// [`Tensor::gaussian_kl_full`] from ordinary ops, which it is tested against.
    #[doc(hidden)]
    pub fn gaussian_kl_full_composed(&self, tril: &Tensor) -> Result<Tensor> {
        GaussianKlFull.infer(&[self, tril].map(|t| Meta::new(t.shape(), t.dtype())))?;
        let (rows, k) = (self.dims()[0], self.dims()[1]);
        in_f32([self, tril], |[mu, tril]| {
            let flat = tril.reshape([rows, k * k])?;
            let at = diagonal(k, mu)?;
            let scales = flat.index_select(1, &at)?;
            let others = flat.sub(&scales.index_add(1, &at, k * k)?)?;
            others.square()?.sum(&[1], false)?.affine(0.5, 0.0)?.add(&mu.gaussian_kl_composed(&scales)?)
        })
    }
}

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("gaussian_kl", &[Domain::any(&[3, 2, 4]), Domain::positive(&[3, 2, 4])], |x| x[0].gaussian_kl(&x[1])?.sin())
        .empty(&[&[0, 4], &[0, 4]]),
    Spec::new("gaussian_kl_of_log", &[Domain::any(&[3, 4]), Domain::any(&[3, 4])], |x| {
        x[0].gaussian_kl_of_log(&x[1])?.affine(0.1, 0.0)?.sin()
    }),
    Spec::new("gaussian_kl_composed", &[Domain::any(&[3, 4]), Domain::positive(&[3, 4])], |x| x[0].gaussian_kl_composed(&x[1])?.sin()),
    Spec::new("gaussian_kl_full", &[Domain::any(&[3, 2]), Domain::positive(&[3, 2, 2])], |x| x[0].gaussian_kl_full(&x[1])?.sin())
        .empty(&[&[0, 2], &[0, 2, 2]]),
];

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Rng, Tensor, grad};

    /// Rates of distributions close to the prior, against their series in f64.
    #[test]
    fn rates_near_the_prior_are_never_negative_and_exact_to_a_few_ulp() {
        let cpu = Device::cpu();
        for dtype in [DType::F32, DType::F64] {
            for deviation in [1e-7, 1e-5, 1e-3, 0.1] {
                let mut rng = Rng::new(1);
                let mut draw = || rng.normal([200, 64], dtype, &cpu).unwrap().affine(deviation, 0.0).unwrap();
                let (mean, log_sigma) = (draw(), draw());
                let sigma = log_sigma.exp().unwrap();
                let check = |name: &str, found: Tensor, scales: Vec<f64>, excess: &dyn Fn(f64) -> f64| {
                    let (found, means) = (found.to_f64_vec().unwrap(), mean.to_f64_vec().unwrap());
                    for (found, (m, s)) in found.iter().zip(means.chunks(64).zip(scales.chunks(64))) {
                        let expected: f64 = m.iter().zip(s).map(|(m, &s)| 0.5 * m * m + excess(s)).sum();
                        let ulps =
                            (found - expected).abs() / expected / if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
                        assert!(*found >= 0.0 && ulps < 8.0, "{name} {dtype} {deviation}: {found:e} for {expected:e}");
                    }
                };
                let series = |first: i32, term: &dyn Fn(i32) -> f64| (first..100).map(term).sum::<f64>();
                let of_log = |s: f64| 0.5 * series(2, &|n| (2.0 * s).powi(n) / (1..=n).map(f64::from).product::<f64>());
                let of_sigma = |s: f64| (s - 1.0).powi(2) / 2.0 + series(2, &|n| (1.0 - s).powi(n) / f64::from(n));
                let (logs, sigmas) = (log_sigma.to_f64_vec().unwrap(), sigma.to_f64_vec().unwrap());
                check("of log", mean.gaussian_kl_of_log(&log_sigma).unwrap(), logs.clone(), &of_log);
                check("fused", mean.gaussian_kl(&sigma).unwrap(), sigmas.clone(), &of_sigma);
                let places = super::diagonal(64, &mean).unwrap();
                let tril = sigma.index_add(1, &places, 64 * 64).unwrap().reshape([200, 64, 64]).unwrap();
                check("full", mean.gaussian_kl_full(&tril).unwrap(), sigmas.clone(), &of_sigma);
                // Composed, the logarithm of sigma is rounded first.
                for composed in [mean.gaussian_kl_composed(&sigma), mean.gaussian_kl_full_composed(&tril)] {
                    check("composed", composed.unwrap(), sigma.log().unwrap().to_f64_vec().unwrap(), &of_log);
                }
                // raw with softplus(raw) = sigma, to rounding: what is left of sigma - 1 is then rounding, too.
                let raw = sigma.expm1().unwrap().log().unwrap();
                let stats = Tensor::concat(&[&mean, &raw], 1).unwrap();
                let noise = Tensor::zeros([1, 200, 64], dtype, &cpu).unwrap();
                let own = raw.softplus().unwrap().to_f64_vec().unwrap();
                check("bottleneck", stats.bottleneck(0.0, 1, crate::ops::Noise::Given(&noise)).unwrap().kl, own, &of_sigma);
            }
        }
    }

    #[test]
    fn fused_and_composed_agree() {
        for (rows, k) in [(1, 1), (5, 4), (33, 257)] {
            let mut rng = Rng::new(rows as u64);
            let mut draw = |low, shape: &[usize]| rng.uniform(low, 2.0, shape, DType::F64, &Device::cpu()).unwrap().requires_grad();
            let (mu, sigma, tril) = (draw(-2.0, &[rows, k]), draw(0.05, &[rows, k]), draw(0.05, &[rows, k, k]));
            let close = |a: &Tensor, b: &Tensor| {
                for (a, b) in a.to_f64_vec().unwrap().iter().zip(b.to_f64_vec().unwrap()) {
                    assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{a} {b}");
                }
            };
            let pairs = [
                (mu.gaussian_kl(&sigma).unwrap(), mu.gaussian_kl_composed(&sigma).unwrap(), &sigma),
                (mu.gaussian_kl_full(&tril).unwrap(), mu.gaussian_kl_full_composed(&tril).unwrap(), &tril),
            ];
            for (fused, composed, scale) in pairs {
                close(&fused, &composed);
                let gradients = |y: &Tensor| grad(&y.square().unwrap().sum_all().unwrap(), &[&mu, scale]).unwrap();
                for (a, b) in gradients(&fused).iter().zip(gradients(&composed)) {
                    close(a, &b);
                }
            }
        }
    }
}
