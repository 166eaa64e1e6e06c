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

#[test]
fn comparisons_are_those_of_numbers() -> Result<()> {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, -2.5, 0.1];
    let column = Tensor::new(special, &device())?.unsqueeze(-1)?;
    type Comparison = (fn(&Tensor, &Tensor) -> Result<Tensor>, fn(&Tensor, f64) -> Result<Tensor>, fn(f64, f64) -> bool);
    let comparisons: [Comparison; 6] = [
        (|a, b| a.eq(b), |a, c| a.eq(c), |a, b| a == b),
        (|a, b| a.ne(b), |a, c| a.ne(c), |a, b| a != b),
        (|a, b| a.lt(b), |a, c| a.lt(c), |a, b| a < b),
        (|a, b| a.le(b), |a, c| a.le(c), |a, b| a <= b),
        (|a, b| a.gt(b), |a, c| a.gt(c), |a, b| a > b),
        (|a, b| a.ge(b), |a, c| a.ge(c), |a, b| a >= b),
    ];
    for (tensors, number, exact) in comparisons {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let x = column.to_dtype(dtype)?;
            let own = values(&x);
            let found = tensors(&x, &x.t()?)?;
            let expected: Vec<f64> = own.iter().flat_map(|&a| own.iter().map(move |&b| f64::from(u8::from(exact(a, b))))).collect();
            assert_eq!((values(&found), found.dtype(), found.is_tracked()), (expected, dtype, false));
            for c in own.iter().copied().filter(|c| dtype == DType::F64 || *c != 0.1) {
                let expected: Vec<f64> = own.iter().map(|&a| f64::from(u8::from(exact(a, c)))).collect();
                assert_eq!(values(&number(&x.requires_grad(), c)?), expected, "{dtype}, {c}");
            }
        }
        let integers = Tensor::new([3i64, -1, 1 << 40, (1 << 40) + 1], &device())?;
        let found = tensors(&integers, &integers.i(2)?)?;
        let expected: Vec<f64> =
            integers.to_vec::<i64>()?.iter().map(|&a| f64::from(u8::from(exact(a as f64, (1u64 << 40) as f64)))).collect();
        assert_eq!((values(&found), found.dtype()), (expected, DType::F32));
        assert_eq!(tensors(&Tensor::zeros([0, 3], DType::F32, &device())?, &Tensor::zeros([1, 1], DType::F32, &device())?)?.dims(), [0, 3]);
        assert!(tensors(&integers, &column).is_err() && tensors(&column, &Tensor::zeros([3, 3], DType::F64, &device())?).is_err());
    }
    assert_eq!(values(&Tensor::new([2u8, 3], &device())?.eq(3)?), [0.0, 1.0]);
    Ok(())
}

#[test]
fn a_choice_keeps_what_is_not_chosen_out() -> Result<()> {
    for x in views([7, 5], 6)? {
        let x = x.requires_grad();
        let (mask, row) = (x.gt(0.0)?, x.detach().i(0)?);
        let y = mask.where_cond(&x, &row)?;
        let (all, row) = (values(&x), values(&row));
        let expected: Vec<f64> = all.iter().enumerate().map(|(i, &v)| if v > 0.0 { v } else { row[i % 5] }).collect();
        assert_eq!(values(&y), expected);
        assert_eq!(values(&strait::grad(&y.sum_all()?, &[&x])?[0]), values(&mask));
    }
    let x = Tensor::new([4f32, -1.0], &device())?.requires_grad();
    let zero = Tensor::new(0f32, &device())?;
    let root = x.gt(0.0)?.where_cond(&x.clamp(1e-30, f64::INFINITY)?.sqrt()?, &zero)?;
    assert_eq!(values(&strait::grad(&root.sum_all()?, &[&x])?[0]), [0.25, 0.0]);
    let wrong = Tensor::new([f32::NAN, f32::INFINITY], &device())?;
    let labels = Tensor::new([0i64, 7], &device())?;
    assert_eq!(values(&labels.where_cond(&zero, &wrong)?)[1..], [0.0]);
    assert_eq!(values(&labels.eq(0)?.where_cond(&zero.to_dtype(DType::BF16)?, &wrong.to_dtype(DType::BF16)?)?), [0.0, f64::INFINITY]);
    assert_eq!(zero.where_cond(&zero, &zero)?.rank(), 0);
    assert!(zero.where_cond(&labels, &labels).is_err() && zero.where_cond(&zero, &x.to_dtype(DType::F64)?).is_err());
    assert!(zero.where_cond(&wrong, &Tensor::zeros([3], DType::F32, &device())?).is_err());
    Ok(())
}

#[test]
fn running_sums_along_either_axis() -> Result<()> {
    for dims in [[7, 5], [1, 70], [70, 1], [33, 33], [3, 257]] {
        for x in views(dims, 5)? {
            let (all, [rows, columns]) = (values(&x), dims);
            let (down, along) = (values(&x.cumsum(0)?), values(&x.cumsum(-1)?));
            for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let exact: f64 = (0..=i).map(|k| all[k * columns + j]).sum();
                assert!((down[i * columns + j] - exact).abs() < 1e-13 * rows as f64);
                let exact: f64 = (0..=j).map(|k| all[i * columns + k]).sum();
                assert!((along[i * columns + j] - exact).abs() < 1e-13 * columns as f64);
            }
        }
    }
    // summed in f64: in f32, or in 16 bits, the ones would be lost
    let x = Tensor::new([16_777_216f32, 1.0, 1.0, 1.0, 1.0], &device())?;
    assert_eq!(x.cumsum(0)?.i(-1)?.item()?, 16_777_220.0);
    let ones = Tensor::ones([600], DType::BF16, &device())?;
    assert_eq!(ones.cumsum(0)?.i(511)?.item()?, 512.0);
    let odd = Tensor::new([1f64, f64::INFINITY, 2.0, f64::NEG_INFINITY, 1.0], &device())?.cumsum(0)?;
    assert!(values(&odd)[..3] == [1.0, f64::INFINITY, f64::INFINITY] && values(&odd)[3..].iter().all(|v| v.is_nan()));
    assert_eq!(Tensor::zeros([0, 3], DType::F32, &device())?.cumsum(0)?.dims(), [0, 3]);
    assert!(Tensor::zeros((), DType::F32, &device())?.cumsum(0).is_err() && Tensor::new([1i64], &device())?.cumsum(0).is_err());
    Ok(())
}

#[test]
fn integers_are_read_by_index_too() -> Result<()> {
    let order = Tensor::new([2i64, 0, 2], &device())?;
    for dtype in [DType::I64, DType::U8, DType::F32, DType::F16] {
        let x = Tensor::arange(12, &device())?.reshape([3, 4])?.to_dtype(dtype)?;
        let rows = x.index_select(0, &order)?;
        assert_eq!((values(&rows), rows.dtype()), (vec![8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0], dtype));
        assert_eq!(values(&x.t()?.gather(-1, &Tensor::new([[0i64], [1], [2], [0]], &device())?)?), [0.0, 5.0, 10.0, 3.0]);
    }
    let large = Tensor::new([i64::MAX, i64::MIN, 0x7ff0_0000_0000_0001], &device())?;
    assert_eq!(large.index_select(0, &order)?.to_vec::<i64>()?, [0x7ff0_0000_0000_0001, i64::MAX, 0x7ff0_0000_0000_0001]);
    Ok(())
}

#[test]
fn logarithms_near_one() -> Result<()> {
    for x in [1e-20f64, -1e-9, 3e-5, -0.999, 5.0, 0.0] {
        let tensor = Tensor::new(x, &device())?;
        let found = tensor.log1p()?.item()?;
        assert!((found - x.ln_1p()).abs() <= 4e-16 * x.ln_1p().abs(), "{x}");
        assert!((tensor.log1p()?.expm1()?.item()? - x).abs() <= 1e-15 * x.abs());
    }
    let ends = Tensor::new([-1f32, -2.0, f32::INFINITY, f32::NAN], &device())?.log1p()?.to_vec::<f32>()?;
    assert!(ends[0] == f32::NEG_INFINITY && ends[1].is_nan() && ends[2] == f32::INFINITY && ends[3].is_nan());
    Ok(())
}
