use super::*;
use crate::{DType, Device, IntoShape, Rng};

fn zeros(shape: impl IntoShape) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap()
}

/// Whether the inputs are refused for their shapes or settings.
fn refused(result: Result<Tensor>) -> bool {
    matches!(result, Err(Error::ShapeMismatch { .. } | Error::BadShape { .. } | Error::OutOfRange { .. }))
}

#[test]
fn sizes_are_those_of_the_formulas() {
    let x = zeros([2, 3, 11, 7]);
    let shape = |kernel: [usize; 2], options| x.conv2d(&zeros([4, 3, kernel[0], kernel[1]]), None, options).unwrap().shape();
    assert_eq!(shape([4, 4], STRIDED).dims(), [2, 4, 5, 3]);
    assert_eq!(shape([3, 5], UNEVEN).dims(), [2, 4, 5, 3]);
    assert_eq!(shape([11, 7], DENSE).dims(), [2, 4, 1, 1]);
    let back = x.conv_transpose2d(&zeros([3, 2, 4, 4]), None, STRIDED, [1, 0]).unwrap();
    assert_eq!(back.dims(), [2, 2, 23, 14]);
}

#[test]
fn the_adjoints_satisfy_their_definition() -> Result<()> {
    let mut rng = Rng::new(4);
    let mut normal = |shape: [usize; 4]| rng.normal(shape, DType::F64, &Device::cpu());
    for options in [DENSE, STRIDED, UNEVEN, WIDE] {
        let (x, w) = (normal([2, 3, 9, 8])?, normal([4, 3, 3, 2])?);
        let y = x.conv2d(&w, None, options)?;
        let g = normal(<[usize; 4]>::try_from(y.dims()).unwrap())?;
        let expected = y.mul(&g)?.sum_all()?.item()?;
        let by_input = g.conv2d_input_grad(&w, [9, 8], options)?.mul(&x)?.sum_all()?.item()?;
        let by_weight = x.conv2d_weight_grad(&g, [3, 2], options)?.mul(&w)?.sum_all()?.item()?;
        assert!((by_input - expected).abs() < 1e-10 && (by_weight - expected).abs() < 1e-10, "{options:?}");
    }
    Ok(())
}

#[test]
fn a_transposed_convolution_by_hand() -> Result<()> {
    let tensor = |v: Vec<f32>, shape: [usize; 4]| Tensor::from_vec(v, shape, &Device::cpu());
    let x = tensor(vec![1.0, 2.0], [1, 1, 1, 2])?;
    let w = tensor(vec![1.0, 10.0, 100.0], [1, 1, 1, 3])?;
    let bias = Tensor::from_vec(vec![0.5f32], [1], &Device::cpu())?;
    let y = x.conv_transpose2d(&w, Some(&bias), ConvOptions::default().stride(2), [0, 1])?;
    assert_eq!(y.dims(), [1, 1, 1, 6]);
    assert_eq!(y.to_vec::<f32>()?, [1.5, 10.5, 102.5, 20.5, 200.5, 0.5]);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() {
    let (x, w) = (zeros([1, 2, 4, 4]), zeros([3, 2, 3, 3]));
    let plain = ConvOptions::default();
    assert!(refused(x.conv2d(&zeros([3, 1, 3, 3]), None, plain)));
    assert!(refused(x.conv2d(&zeros([3, 2, 5, 3]), None, plain)));
    assert!(x.conv2d(&zeros([3, 2, 5, 3]), None, plain.padding(1)).is_ok());
    assert!(refused(x.conv2d(&zeros([3, 2, 0, 3]), None, plain)));
    assert!(refused(x.conv2d(&w, None, plain.dilation(2))));
    assert!(refused(x.conv2d(&w, None, plain.stride(0))));
    assert!(refused(x.conv2d(&w, None, plain.dilation(0))));
    assert!(refused(x.conv2d(&w, None, plain.padding(usize::MAX))));
    assert!(refused(x.conv2d(&w, None, plain.padding(usize::MAX / 4))));
    assert!(refused(x.conv2d(&w, Some(&zeros([2])), plain)));
    assert!(refused(zeros([2, 4, 4]).conv2d(&w, None, plain)));
    assert!(matches!(x.conv2d(&w.to_dtype(DType::F64).unwrap(), None, plain), Err(Error::MixedDTypes { .. })));
    assert!(matches!(x.to_dtype(DType::U8).unwrap().conv2d(&w.to_dtype(DType::U8).unwrap(), None, plain), Err(Error::BadDType { .. })));

    let w = zeros([2, 3, 3, 3]);
    assert!(refused(x.conv_transpose2d(&zeros([3, 2, 3, 3]), None, plain, [0, 0])));
    assert!(refused(x.conv_transpose2d(&w, None, plain, [1, 0])));
    assert!(refused(x.conv_transpose2d(&w, None, plain.stride(2), [0, 2])));
    assert!(x.conv_transpose2d(&w, None, plain.dilation(2), [1, 1]).is_ok());
    assert!(refused(x.conv_transpose2d(&w, None, plain.padding(3), [0, 0])));
    assert!(refused(x.conv_transpose2d(&w, None, plain.stride(0), [0, 0])));
    assert!(refused(x.conv_transpose2d(&w, None, plain.stride(usize::MAX), [0, 0])));
    assert!(refused(zeros([1, 2, 0, 4]).conv_transpose2d(&w, None, plain, [0, 0])));
    assert!(refused(x.conv2d_input_grad(&w, [5, 6], plain)));
    assert!(refused(x.conv2d_weight_grad(&zeros([2, 1, 2, 2]), [3, 3], plain)));
    assert!(refused(x.conv2d_weight_grad(&zeros([1, 1, 3, 2]), [3, 3], plain)));
}
