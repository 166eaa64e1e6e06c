//! The stochastic bottleneck: statistics to a sample and its rate, in one op.

use crate::device::cpu::math::Real;
use crate::device::cpu::parallel::{CHUNK, chunks_mut, simd};
use crate::device::cpu::{philox, reduce as cpu};
use crate::device::cuda::{Grid, Ptr, launch as launch_kernel};
use crate::dispatch_float;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel;
use crate::op::{Cotangents, Few, Kernel, Meta, Op, Output, Vjp, apply_many, launch};
use crate::ops::cuda::THREADS;
use crate::ops::infer::same;
use crate::ops::spec::{Domain, Spec};
use crate::rng::Draw;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Below this `softplus(x)` is `exp(x)` to rounding: sigmoid(x) / softplus(x) is 1 and log softplus(x) is x.
const FAR: f64 = -30.0;

/// The source of the noise of a reparameterised sample.
#[derive(Debug, Clone, Copy)]
pub enum Noise<'a> {
    /// Standard normals of this draw, made inside the op and made again in its backward pass.
    Draw(Draw),
    /// This tensor [samples, rows, k].
    Given(&'a Tensor),
}

/// The results of [`Tensor::bottleneck`].
#[derive(Debug, Clone)]
pub struct Bottleneck {
    /// Samples [samples, rows, k].
    pub z: Tensor,
    /// KL(N(mu, diag sigma^2) || N(0, I)) in nats `[rows]`.
    pub kl: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    shift: f64,
    samples: usize,
    draw: Option<Draw>,
}

impl Head {
    /// Fills `out` with all noise, or takes what is given.
    fn noise<T: Real>(&self, out: &mut [T], given: Option<&[T]>) {
        match (self.draw, given) {
            (Some(draw), _) => fill(out, draw),
            (None, Some(given)) => out.copy_from_slice(given),
            (None, None) => unreachable!("noise is drawn or given"),
        }
    }

    fn noise_tensor(&self, v: &Vjp, shape: Shape) -> Result<Tensor> {
        match self.draw {
            Some(draw) => draw.normal(shape, v.inputs[0].dtype(), &v.inputs[0].device()),
            None => Ok(v.inputs[1].clone()),
        }
    }
}

/// The number of lanes that share a row, four columns each, and the grid.
fn teams(rows: usize, k: usize) -> (u32, Grid) {
    let team = k.div_ceil(4).next_power_of_two().min(32);
    (team as u32, Grid::over(rows * team, THREADS))
}

fn fill<T: Real>(out: &mut [T], draw: Draw) {
    match T::DTYPE {
        DType::F64 => philox::fill_normal_f64(bytemuck::cast_slice_mut(out), draw.key, draw.number, 0),
        _ => philox::fill_normal(bytemuck::cast_slice_mut(out), draw.key, draw.number, 0),
    }
}

impl Kernel for Head {
    fn name(&self) -> &'static str {
        "bottleneck"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        let stats = inputs[0];
        same("bottleneck", inputs)?;
        if stats.shape.rank() != 2 || !stats.shape[1].is_multiple_of(2) {
            return Err(Error::BadShape {
                op: "bottleneck",
                shape: stats.shape,
                expected: "statistics [rows, 2 k]: means, then raw scales",
            });
        }
        let z = Shape::from([self.samples, stats.shape[0], stats.shape[1] / 2]);
        if let Some(noise) = inputs.get(1) {
            if noise.dtype != stats.dtype {
                return Err(Error::MixedDTypes { op: "bottleneck", left: stats.dtype, right: noise.dtype });
            }
            if noise.shape != z {
                return Err(Error::ShapeMismatch {
                    op: "bottleneck",
                    shapes: vec![stats.shape, noise.shape],
                    rule: "noise must be [samples, rows, k]",
                });
            }
        }
        Ok([Meta { shape: z, ..stats }, Meta { shape: Shape::from([stats.shape[0]]), ..stats }].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (rows, k) = (inputs[0].dims()[0], inputs[0].dims()[1] / 2);
        let [z, kl] = outputs else { unreachable!("two results") };
        dispatch_float!(inputs[0].dtype(), T => {
            let stats = inputs[0].slice::<T>();
            let z = z.slice::<T>();
            self.noise(z, inputs.get(1).map(|e| e.slice::<T>()));
            let shift = self.shift as T;
            let group = (CHUNK / k.max(1)).max(1);
            chunks_mut(z, (group * k).max(1), |chunk, z| {
                for (r, z) in z.chunks_mut(k).enumerate() {
                    let (mu, raw) = stats[(chunk * group + r) % rows * 2 * k..][..2 * k].split_at(k);
                    simd(
                        #[inline(always)]
                        || {
                            for ((z, &m), &s) in z.iter_mut().zip(mu).zip(raw) {
                                *z = Real::mul_add(Real::softplus(s - shift), *z, m);
                            }
                        },
                    );
                }
            });
            chunks_mut(kl.slice::<T>(), group, |chunk, out| {
                let mut terms = vec![0.0; k];
                for (r, o) in out.iter_mut().enumerate() {
                    let (mu, raw) = stats[(chunk * group + r) * 2 * k..][..2 * k].split_at(k);
                    simd(
                        #[inline(always)]
                        || {
                            for ((t, &m), &s) in terms.iter_mut().zip(mu).zip(raw) {
                                let sigma = Real::softplus(s - shift);
                                *t = Real::mul_add(0.5 * m, m, Real::scale_excess(sigma, Real::log_softplus(s - shift)));
                            }
                        },
                    );
                    *o = cpu::sum(&terms);
                }
            });
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let stats = inputs[0];
        let (gpu, rows, k) = (stats.gpu(), stats.dims()[0], stats.dims()[1] / 2);
        let (team, grid) = teams(rows, k);
        let given = inputs.get(1).map_or(Ptr::NULL, |noise| noise.ptr());
        let Draw { key, number } = self.draw.unwrap_or(Draw { key: 0, number: 0 });
        let (z, kl, samples) = (outputs[0].ptr(), outputs[1].ptr(), self.samples as u64);
        dispatch_float!(stats.dtype(), T => {
            let draw = (key, number, gpu.draw_offset());
            let arguments =
                (stats.ptr(), given, z, kl, rows as u64, k as u64, samples, team, self.shift as T, draw.0, draw.1, draw.2);
            launch_kernel::<{ kernel!("bottleneck", T) }, _>(gpu, grid, arguments)
        })
    }
}

/// The gradient of [`Head`] with respect to the statistics in one pass; noise is made again.
#[derive(Debug)]
struct HeadGrad {
    head: Head,
    of_z: bool,
    of_kl: bool,
}

impl Kernel for HeadGrad {
    fn name(&self) -> &'static str {
        "bottleneck_grad"
    }
    fn infer(&self, inputs: &[Meta]) -> Result<Few<Meta>> {
        Ok([inputs[0]].into_iter().collect())
    }
    fn cpu(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let (rows, k) = (inputs[0].dims()[0], inputs[0].dims()[1] / 2);
        dispatch_float!(inputs[0].dtype(), T => {
            let mut rest = inputs[1..].iter().map(|t| t.slice::<T>());
            let given = if self.head.draw.is_none() { rest.next() } else { None };
            let g_z = if self.of_z { rest.next() } else { None };
            let g_kl = if self.of_kl { rest.next() } else { None };
            let stats = inputs[0].slice::<T>();
            let mut scratch = crate::device::cpu::buffer::Buffer::new(if g_z.is_some() { self.head.samples * rows * k * size_of::<T>() } else { 0 })?;
            let noise: &mut [T] = scratch.as_mut_slice();
            if g_z.is_some() {
                self.head.noise(noise, given);
            }
            let noise: &[T] = noise;
            let (shift, far) = (self.head.shift as T, FAR as T);
            let group = (CHUNK / k.max(1)).max(1);
            chunks_mut(outputs[0].slice::<T>(), (group * 2 * k).max(1), |chunk, out| {
                for (r, out) in out.chunks_mut(2 * k).enumerate() {
                    let row = chunk * group + r;
                    let (mu, raw) = stats[row * 2 * k..][..2 * k].split_at(k);
                    let (d_mu, d_raw) = out.split_at_mut(k);
                    d_mu.fill(0.0);
                    d_raw.fill(0.0);
                    let of_kl = g_kl.map_or(0.0, |g| g[row]);
                    simd(
                        #[inline(always)]
                        || {
                            if let Some(g_z) = g_z {
                                for s in 0..self.head.samples {
                                    let at = (s * rows + row) * k;
                                    let (g, noise) = (&g_z[at..at + k], &noise[at..at + k]);
                                    for (((m, r), &g), &e) in d_mu.iter_mut().zip(d_raw.iter_mut()).zip(g).zip(noise) {
                                        *m += g;
                                        *r = Real::mul_add(g, e, *r);
                                    }
                                }
                            }
                            for (((d_m, d_r), &m), &raw) in d_mu.iter_mut().zip(d_raw.iter_mut()).zip(mu).zip(raw) {
                                let x = raw - shift;
                                let (sigma, slope) = (Real::softplus(x), Real::sigmoid(x));
                                let ratio = if x < far { 1.0 } else { slope / sigma };
                                *d_m = Real::mul_add(of_kl, m, *d_m);
                                // sigma slope - slope / sigma
                                *d_r = *d_r * slope + of_kl * (ratio * (sigma - 1.0) * (sigma + 1.0));
                            }
                        },
                    );
                }
            });
        });
        Ok(())
    }
    fn cuda(&self, inputs: &[&Tensor], outputs: &mut [Output]) -> Result<()> {
        let stats = inputs[0];
        let (gpu, rows, k) = (stats.gpu(), stats.dims()[0], stats.dims()[1] / 2);
        let (team, grid) = teams(rows, k);
        let mut rest = inputs[1..].iter();
        let [given, g_z, g_kl] = [self.head.draw.is_none(), self.of_z, self.of_kl]
            .map(|there| if there { rest.next().map_or(Ptr::NULL, |t| t.ptr()) } else { Ptr::NULL });
        let Draw { key, number } = self.head.draw.unwrap_or(Draw { key: 0, number: 0 });
        let (out, samples) = (outputs[0].ptr(), self.head.samples as u64);
        dispatch_float!(stats.dtype(), T => {
            let draw = (key, number, gpu.draw_offset());
            let arguments =
                (stats.ptr(), given, g_z, g_kl, out, rows as u64, k as u64, samples, team, self.head.shift as T, draw.0, draw.1, draw.2);
            launch_kernel::<{ kernel!("bottleneck_grad", T) }, _>(gpu, grid, arguments)
        })
    }
}

impl Op for Head {
    fn visible(&self) -> usize {
        2
    }
    fn vjp(&self, v: &Vjp) -> Result<Cotangents> {
        let stats = &v.inputs[0];
        let (g_z, g_kl) = (v.cotangents[0].as_ref(), v.cotangents[1].as_ref());
        // 16-bit floats in f32: the shift alone would cost raw its last bits
        let wide = stats.widened()?;
        let [mu, raw] = wide.chunk(1)?;
        let x = raw.affine(1.0, -self.shift)?;
        let mut cotangents = Cotangents::new();
        cotangents.push(if !v.needs[0] {
            None
        } else if !v.differentiable {
            let kernel = HeadGrad { head: *self, of_z: g_z.is_some(), of_kl: g_kl.is_some() };
            let mut inputs: Few<&Tensor> = v.inputs.iter().collect();
            inputs.extend(g_z);
            inputs.extend(g_kl);
            Some(launch(&kernel, &inputs)?.swap_remove(0))
        } else {
            let slope = x.sigmoid()?;
            let mut parts: Option<(Tensor, Tensor)> = None;
            if let Some(g) = g_z {
                let (g, noise) = (g.widened()?, self.noise_tensor(v, g.shape())?.widened()?);
                parts = Some((g.sum(&[0], false)?, g.mul(&noise)?.sum(&[0], false)?.mul(&slope)?));
            }
            if let Some(g) = g_kl {
                let g = g.widened()?.unsqueeze(1)?;
                let of_scale = |x: &Tensor| {
                    let (ratio, sigma) = (x.log_sigmoid()?.sub(&x.log_softplus()?)?.exp()?, x.softplus()?);
                    ratio.mul(&sigma.affine(1.0, -1.0)?)?.mul(&sigma.affine(1.0, 1.0)?)
                };
                let (d_mu, d_raw) = (g.mul(&mu)?, g.mul(&of_scale(&x)?)?);
                parts = Some(match parts {
                    Some((m, r)) => (m.add(&d_mu)?, r.add(&d_raw)?),
                    None => (d_mu, d_raw),
                });
            }
            let (d_mu, d_raw) = parts.expect("one of the outputs was used");
            Some(Tensor::concat(&[&d_mu, &d_raw], 1)?.to_dtype(stats.dtype())?)
        });
        if v.inputs.len() == 2 {
            cotangents.push(match g_z {
                Some(g) if v.needs[1] => Some(g.widened()?.mul(&x.softplus()?)?.to_dtype(g.dtype())?),
                _ => None,
            });
        }
        Ok(cotangents)
    }
}

impl Tensor {
    /// Samples of a diagonal Gaussian whose statistics this tensor holds, and their rate.
    ///
    /// From [rows, 2 k] = [mu | raw]: `sigma = softplus(raw - shift)`, `z = mu + sigma eps`, and KL(N(mu, diag sigma^2) ||
    /// N(0, I)) per row in nats (Alemi et al. 2017, sections 3 and 4.1; their code shifts by 5). Finite for every raw: where
    /// softplus underflows, its logarithm is taken from its asymptote.
    ///
    /// # Errors
    /// An odd number of columns; noise of another shape or dtype; no samples.
    pub fn bottleneck(&self, shift: f64, samples: usize, noise: Noise<'_>) -> Result<Bottleneck> {
        if samples == 0 {
            return Err(Error::OutOfRange { op: "bottleneck", name: "samples", value: 0.0, expected: "at least 1" });
        }
        let mut results = match noise {
            Noise::Draw(draw) => apply_many(Head { shift, samples, draw: Some(draw) }, &[self])?,
            Noise::Given(noise) => apply_many(Head { shift, samples, draw: None }, &[self, noise])?,
        };
        let kl = results.pop().expect("two results");
        let z = results.pop().expect("two results");
        Ok(Bottleneck { z, kl })
    }
}

const DRAW: Draw = Draw { key: 3, number: 4 };

/// Both outputs in one tensor, so that a check sees both.
fn joined(b: Bottleneck) -> Result<Tensor> {
    let count = b.z.element_count();
    Tensor::concat(&[&b.z.reshape([count])?.sin()?, &b.kl.square()?], 0)
}

pub(crate) const SPECS: &[Spec] = &[
    Spec::new("bottleneck (drawn)", &[Domain::any(&[3, 8])], |x| joined(x[0].bottleneck(1.0, 2, Noise::Draw(DRAW))?)).empty(&[&[0, 8]]),
    Spec::new("bottleneck (given)", &[Domain::any(&[3, 4]), Domain::any(&[2, 3, 2])], |x| {
        joined(x[0].bottleneck(1.0, 2, Noise::Given(&x[1]))?)
    }),
    Spec::new("bottleneck (z alone)", &[Domain::any(&[3, 8])], |x| x[0].bottleneck(5.0, 1, Noise::Draw(DRAW))?.z.sin()),
    // scaled: the sine of a rate of many nats would magnify the rounding of 16-bit floats
    Spec::new("bottleneck (rate alone)", &[Domain::any(&[3, 8])], |x| {
        x[0].bottleneck(5.0, 1, Noise::Draw(DRAW))?.kl.affine(0.1, 0.0)?.sin()
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Rng, grad};

    /// [`Tensor::bottleneck`] from ordinary ops.
    fn composed(stats: &Tensor, shift: f64, noise: &Tensor) -> Result<Bottleneck> {
        let [mu, raw] = stats.chunk(1)?;
        let x = raw.affine(1.0, -shift)?;
        let z = mu.add(&x.softplus()?.mul(noise)?)?;
        Ok(Bottleneck { z, kl: mu.gaussian_kl_of_log(&x.log_softplus()?)? })
    }

    #[test]
    fn fused_and_composed_agree() {
        for (samples, rows, k) in [(1, 1, 1), (3, 5, 4), (2, 9, 257), (1, 0, 3)] {
            let mut rng = Rng::new(k as u64);
            let stats = rng.uniform(-20.0, 20.0, [rows, 2 * k], DType::F64, &Device::cpu()).unwrap().requires_grad();
            let draw = rng.draw();
            let noise = draw.normal([samples, rows, k], DType::F64, &Device::cpu()).unwrap();
            let forms = [
                stats.bottleneck(5.0, samples, Noise::Draw(draw)).unwrap(),
                stats.bottleneck(5.0, samples, Noise::Given(&noise)).unwrap(),
                composed(&stats, 5.0, &noise).unwrap(),
            ];
            let results = forms.map(|b| {
                let loss = joined(b.clone()).unwrap().sum_all().unwrap();
                [b.z, b.kl, grad(&loss, &[&stats]).unwrap().remove(0)].map(|t| t.to_f64_vec().unwrap())
            });
            for other in &results[1..] {
                for (a, b) in results[0].iter().zip(other) {
                    assert_eq!(a.len(), b.len());
                    a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{a} {b}"));
                }
            }
        }
    }

    #[test]
    fn finite_where_softplus_underflows() {
        for dtype in [DType::F32, DType::F64] {
            let raw: Vec<f64> = vec![0.0, 1e3, -1e3, 0.0, -1e4, -200.0, -100.0, 300.0];
            let stats = Tensor::from_vec(raw, [1, 8], &Device::cpu()).unwrap().to_dtype(dtype).unwrap().requires_grad();
            let b = stats.bottleneck(5.0, 2, Noise::Draw(DRAW)).unwrap();
            assert!(b.z.is_finite().unwrap() && b.kl.is_finite().unwrap());
            let g = grad(&b.kl.sum_all().unwrap(), &[&stats]).unwrap().remove(0);
            assert!(g.is_finite().unwrap());
            // the rate falls at slope 1 in raw where sigma is exp(raw - shift)
            assert_eq!(g.to_f64_vec().unwrap()[4..7], [-1.0; 3]);
        }
    }
}
