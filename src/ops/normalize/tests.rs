use super::*;
use crate::{Device, Gradient, IntoShape, Rng};

/// The definition in elementary ops.
fn composed(x: &Tensor, over: Over, eps: f64) -> Result<Tensor> {
    let axes = over.axes(x.rank());
    let centred = x.sub(&x.mean(&axes, true)?)?;
    centred.div(&centred.square()?.mean(&axes, true)?.affine(1.0, eps)?.sqrt()?)
}

fn normal(shape: impl IntoShape, dtype: DType, rng: &mut Rng) -> Tensor {
    rng.normal(shape, DType::F64, &Device::cpu()).unwrap().affine(2.0, 5.0).unwrap().to_dtype(dtype).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    a.to_f64_vec().unwrap().iter().zip(b.to_f64_vec().unwrap()).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn values_and_gradients_are_those_of_the_composed_twin() -> Result<()> {
    let mut rng = Rng::new(1);
    for (over, shape) in [
        (Over::Last, Shape::from([7, 40])),
        (Over::Last, Shape::from([2, 3, 2000])),
        (Over::Channels, Shape::from([50, 12])),
        (Over::Channels, Shape::from([6, 5, 8, 9])),
    ] {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let (x, g) = (normal(shape, dtype, &mut rng).requires_grad(), normal(shape, dtype, &mut rng));
            let fused = match over {
                Over::Last => x.layer_norm(None, None, 1e-5)?,
                Over::Channels => x.batch_norm(None, None, 1e-5)?,
            };
            let twin = composed(&x, over, 1e-5)?;
            assert!(distance(&fused, &twin) < tolerance, "{over:?} {shape} {dtype}: {}", distance(&fused, &twin));
            let slope = |y: &Tensor| Ok::<_, Error>(Gradient::of(y).cotangent(&g).wrt(&[&x])?.swap_remove(0));
            let (fused, twin) = (slope(&fused)?, slope(&twin)?);
            assert!(distance(&fused, &twin) < 10.0 * tolerance, "{over:?} {shape} {dtype}: {}", distance(&fused, &twin));
        }
    }
    Ok(())
}

#[test]
fn given_the_batch_moments_both_batch_norms_agree() -> Result<()> {
    let mut rng = Rng::new(2);
    for shape in [Shape::from([30, 4]), Shape::from([5, 4, 3, 2])] {
        let x = normal(shape, DType::F64, &mut rng);
        let (weight, bias) = (normal([4], DType::F64, &mut rng), normal([4], DType::F64, &mut rng));
        let (y, mean, variance) = x.batch_norm_moments(Some(&weight), Some(&bias), 1e-3)?;
        let given = x.batch_norm_with(&mean, &variance, Some(&weight), Some(&bias), 1e-3)?;
        assert!(distance(&y, &given) < 1e-12);
    }
    Ok(())
}

#[test]
fn moments_of_half_floats_are_kept_in_f32() -> Result<()> {
    let x = normal([64, 3], DType::BF16, &mut Rng::new(3)).requires_grad();
    let (y, mean, variance) = x.batch_norm_moments(None, None, 1e-5)?;
    assert_eq!([y.dtype(), mean.dtype(), variance.dtype()], [DType::BF16, DType::F32, DType::F32]);
    let loss = y.square()?.sum_all()?.add(&mean.add(&variance)?.sum_all()?.to_dtype(DType::BF16)?)?;
    let slope = Gradient::of(&loss).differentiable().wrt(&[&x])?;
    assert!(slope[0].dtype() == DType::BF16 && slope[0].is_finite()?);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
    let x = zeros(&[4, 3]);
    assert!(zeros(&[]).layer_norm(None, None, 1e-5).is_err());
    assert!(zeros(&[4, 0]).layer_norm(None, None, 1e-5).is_err());
    assert!(x.layer_norm(Some(&zeros(&[4])), None, 1e-5).is_err());
    assert!(x.layer_norm(None, None, -1.0).is_err() && x.batch_norm(None, None, f64::NAN).is_err());
    assert!(zeros(&[4, 3, 2]).batch_norm(None, None, 1e-5).is_err());
    assert!(zeros(&[0, 3]).batch_norm(None, None, 1e-5).is_err());
    assert!(x.batch_norm(None, Some(&zeros(&[1])), 1e-5).is_err());
    assert!(x.to_dtype(DType::I64).unwrap().batch_norm(None, None, 1e-5).is_err());
    let c = zeros(&[3]);
    assert!(x.batch_norm_with(&c, &c, Some(&c), Some(&c), 1e-5).is_ok());
    assert!(x.batch_norm_with(&zeros(&[1]), &c, None, None, 1e-5).is_err());
    assert!(x.batch_norm_with(&c, &zeros(&[4]), None, None, 1e-5).is_err());
    assert!(x.batch_norm_with(&c, &c, None, None, f64::INFINITY).is_err());
    assert!(zeros(&[3]).batch_norm_with(&c, &c, None, None, 1e-5).is_err());
}
