//! Tensors: immutable, on a device that is always named, with errors that say what would be right.

use strait::{Device, Tensor};

fn main() -> strait::Result<()> {
    let device = Device::cpu();
    let x = Tensor::from_vec(vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], &device)?;
    println!("{x:?}");
    println!("{:?}", x.matmul(&x.t()?)?);
    println!("{:?}", x.softmax(1)?.mean(&[0], false)?);
    // views share storage
    println!("{:?}", x.narrow(1, 1, 2)?.t()?);
    println!("{}", x.matmul(&x).unwrap_err());
    Ok(())
}
