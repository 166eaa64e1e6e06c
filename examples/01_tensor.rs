//! Tensors: immutable, on a device that is always named, with errors that say what would be right.

use strait::{Device, Tensor};

fn main() -> strait::Result<()> {
    let device = Device::cpu();
    let x = Tensor::new([[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &device)?;
    println!("{x}\n\n{}\n", x.matmul(&x.t()?)?);
    println!("{:.2}\n", x.softmax(-1)?.mean(&[0], false)?);
    // views share storage
    println!("{}\n", x.i((.., 1..))?.t()?);
    println!("{}\n", x.gt(2.5)?.where_cond(&(1.0 / &x), &x.zeros_like()?)?);
    println!("{}", x.matmul(&x).unwrap_err());
    Ok(())
}
