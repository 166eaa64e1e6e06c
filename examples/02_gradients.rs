//! Gradients of any order, and the check that comes with the library.

use strait::{Device, Tensor, check, grad, grad_graph};

fn main() -> strait::Result<()> {
    let x = Tensor::new([0.5f64, -1.0, 2.0], &Device::cpu())?.requires_grad();
    let y = x.tanh()?.sum_all()?;
    let first = &grad_graph(&y, &[&x])?[0];
    let second = &grad_graph(&first.sum_all()?, &[&x])?[0];
    let third = &grad(&second.sum_all()?, &[&x])?[0];
    println!("tanh'   {first:?}\ntanh''  {second:?}\ntanh''' {third:?}");

    // a gradient penalty: the squared slope of a network in its input, differentiated in its weight
    let weight = Tensor::new([[0.3f64, -0.2, 0.5]], &Device::cpu())?;
    let penalty = |inputs: &[Tensor]| {
        let x = Tensor::new([[1.0f64, 2.0, -1.0]], &Device::cpu())?.requires_grad();
        let critic = x.linear(&inputs[0], None, strait::Activation::Tanh)?.sum_all()?;
        grad_graph(&critic, &[&x])?[0].square()?.sum_all()
    };
    let tracked = weight.requires_grad();
    println!("penalty {:?}", grad(&penalty(std::slice::from_ref(&tracked))?, &[&tracked])?[0]);
    check::gradcheck(penalty, &[weight], 2)?;
    println!("finite differences agree to second order");
    Ok(())
}
