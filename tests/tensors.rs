//! Tensor methods against plain loops in f64, on odd sizes, views, empty and scalar shapes, infinities and NaNs.

mod device_support;

use device_support::device;
use strait::{DType, Device, Result, Rng, Tensor};

fn values(x: &Tensor) -> Vec<f64> {
    x.to_f64_vec().unwrap()
}

/// Views of a shape of these lengths: as they lie, transposed, and cut out of a larger tensor.
fn views(dims: [usize; 2], seed: u64) -> Result<Vec<Tensor>> {
    let [rows, columns] = dims;
    let mut rng = Rng::new(seed);
    let mut normal = |dims: [usize; 2]| rng.normal(dims, DType::F64, &device());
    Ok(vec![normal(dims)?, normal([columns, rows])?.t()?, normal([rows + 3, columns + 2])?.i((2..rows + 2, 1..columns + 1))?])
}

#[test]
fn moments_and_positions_along_either_axis() -> Result<()> {
    for dims in [[7, 5], [1, 13], [33, 2], [257, 3]] {
        for x in views(dims, 3)? {
            let [rows, columns] = dims;
            let all = values(&x);
            for (axis, other, length) in [(0, columns, rows), (-1, rows, columns)] {
                let line = |k: usize| (0..length).map(move |j| if axis == 0 { j * columns + k } else { k * columns + j });
                let (var, std, least) = (values(&x.var(&[axis], false)?), values(&x.std(&[axis], true)?), x.argmin(axis, false)?);
                for k in 0..other {
                    let line: Vec<f64> = line(k).map(|at| all[at]).collect();
                    let mean = line.iter().sum::<f64>() / length as f64;
                    let exact = line.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (length as f64 - 1.0);
                    if length == 1 {
                        assert!(var[k].is_nan() && std[k].is_nan());
                    } else {
                        assert!((var[k] / exact - 1.0).abs() < 1e-12 && (std[k] / exact.sqrt() - 1.0).abs() < 1e-12);
                    }
                    let first = line.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
                    assert_eq!(least.i(k)?.to_vec::<i64>()?, [first as i64]);
                }
            }
        }
    }
    // far from 0, where a difference of squares has nothing left
    let far = Tensor::new([1e6f32, 1e6 + 1.0, 1e6 + 2.0], &device())?;
    assert_eq!(far.var(&[0], false)?.item()?, 1.0);
    let half = Tensor::new([300f32, -300.0, 300.0, -300.0], &device())?.to_dtype(DType::F16)?;
    assert!((half.std(&[0], false)?.item()? - 346.4).abs() < 0.2);
    let odd = Tensor::new([2.0f32, f32::NAN, f32::NEG_INFINITY, f32::NAN], &device())?;
    assert_eq!((odd.argmin(0, false)?.item()?, odd.i(2..3)?.argmin(-1, false)?.item()?), (1.0, 0.0));
    assert!(odd.var(&[0], false)?.item()?.is_nan());
    assert!(Tensor::zeros([0, 2], DType::F32, &device())?.argmin(0, false).is_err());
    assert_eq!(Tensor::zeros([3, 0], DType::F32, &device())?.var(&[0], false)?.dims(), [0]);
    Ok(())
}

#[test]
fn parts_and_their_joins() -> Result<()> {
    for x in views([6, 5], 4)? {
        let [a, b, c] = x.chunk(0)?;
        assert_eq!(values(&Tensor::concat(&[&a, &b, &c], -2)?), values(&x));
        let rows: Vec<Tensor> = (0..6).map(|row| x.i(row)).collect::<Result<_>>()?;
        let rows: Vec<&Tensor> = rows.iter().collect();
        assert_eq!(values(&Tensor::stack(&rows, 0)?), values(&x));
        assert_eq!(values(&Tensor::stack(&rows, -1)?), values(&x.t()?));
        assert!(x.chunk::<4>(0).is_err() && x.squeeze(0).is_err());
        assert_eq!(x.unsqueeze(-1)?.squeeze(-1)?.shape(), x.shape());
        assert_eq!(values(&x.copy()?), values(&x));
    }
    let zero = Tensor::new(-0.0f32, &device())?;
    assert_eq!(zero.copy()?.to_vec::<f32>()?[0].to_bits(), (-0.0f32).to_bits());
    let scalars = [&zero, &zero];
    assert_eq!(Tensor::stack(&scalars, 0)?.dims(), [2]);
    assert!(Tensor::stack(&scalars, 1).is_err() && Tensor::stack(&[], 0).is_err());
    assert_eq!(Tensor::stack(&[&Tensor::zeros([2, 0], DType::U8, &device())?], 1)?.dims(), [2, 1, 0]);
    assert!(Tensor::stack(&[&zero, &Tensor::zeros([1], DType::F32, &device())?], 0).unwrap_err().to_string().starts_with("stack: "));
    Ok(())
}

#[test]
fn numbers_on_either_side_of_operators() -> Result<()> {
    let x = Tensor::new([[1.0f64, -2.0], [4.0, 0.5]], &device())?;
    assert_eq!(values(&(2.0 * &x)), values(&(&x * 2.0)));
    assert_eq!(values(&(1.0 - &x)), values(&x.one_minus()?));
    assert_eq!(values(&(3.0 + &x)), [4.0, 1.0, 7.0, 3.5]);
    assert_eq!(values(&(1.0 / x.clone())), [1.0, -0.5, 0.25, 2.0]);
    assert_eq!(values(&-(&x - &x)), [0.0; 4]);
    // divided once, not multiplied by a rounded reciprocal
    assert_eq!((49.0 / Tensor::new(49f32, &device())?).item()?, 1.0);
    Ok(())
}

#[test]
fn labels_and_orders() -> Result<()> {
    let labels = Tensor::new([[2i64, 0], [1, 2]], &device())?;
    for labels in [labels.clone(), labels.t()?] {
        let rows = labels.one_hot(3, DType::BF16)?;
        assert_eq!((rows.dims(), rows.dtype()), (&[2, 2, 3][..], DType::BF16));
        assert_eq!(rows.argmax(-1, false)?.to_vec::<i64>()?, labels.to_vec::<i64>()?);
        assert_eq!(values(&rows.sum(&[-1], false)?), [1.0; 4]);
    }
    if device() == Device::cpu() {
        assert!(labels.one_hot(2, DType::F32).unwrap_err().to_string().starts_with("one_hot: index 2"));
    }
    assert!(labels.one_hot(3, DType::I64).is_err() && labels.to_dtype(DType::F32)?.one_hot(3, DType::F32).is_err());
    let mut rng = Rng::new(8);
    let order = rng.permutation(1001, &device())?.to_vec::<i64>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(0..1001) && order != sorted);
    assert_ne!(rng.permutation(1001, &device())?.to_vec::<i64>()?, order);
    assert_eq!(Rng::new(8).permutation(1001, &Device::cpu())?.to_vec::<i64>()?, order);
    assert_eq!(rng.permutation(0, &device())?.dims(), [0]);
    Ok(())
}
