//! Reverse-mode gradients of any order.
//!
//! A graph is the calls that a tensor came from. Ids grow with creation, so descending id is a reverse topological
//! order: no recursion, and one fixed order in which cotangents are added up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::device::capture::is_capturing;
use crate::error::{Error, Result};
use crate::op::{Call, Few, Vjp};
use crate::tensor::{Origin, Tensor};

/// The gradients of the scalar `y` with respect to `xs`, as constants.
///
/// ```
/// use strait::{Device, Tensor, grad};
/// let x = Tensor::from_vec(vec![1f32, 2.0], [2], &Device::cpu())?.requires_grad();
/// let y = x.square()?.sum_all()?;
/// assert_eq!(grad(&y, &[&x])?[0].to_vec::<f32>()?, [2.0, 4.0]);
/// # Ok::<(), strait::Error>(())
/// ```
///
/// # Errors
/// `y` is not a scalar, or does not depend on one of `xs`.
pub fn grad(y: &Tensor, xs: &[&Tensor]) -> Result<Vec<Tensor>> {
    Gradient::of(y).wrt(xs)
}

/// The gradients of the scalar `y` with respect to `xs`, which can be differentiated again.
///
/// ```
/// use strait::{Device, Tensor, grad, grad_graph};
/// let x = Tensor::from_vec(vec![2f64], [1], &Device::cpu())?.requires_grad();
/// let y = x.powf(3.0)?.sum_all()?;
/// let slope = &grad_graph(&y, &[&x])?[0]; // 3 x^2
/// let curvature = &grad(&slope.sum_all()?, &[&x])?[0]; // 6 x
/// assert_eq!(curvature.to_vec::<f64>()?, [12.0]);
/// # Ok::<(), strait::Error>(())
/// ```
///
/// # Errors
/// `y` is not a scalar, or does not depend on one of `xs`.
pub fn grad_graph(y: &Tensor, xs: &[&Tensor]) -> Result<Vec<Tensor>> {
    Gradient::of(y).differentiable().wrt(xs)
}

/// A gradient with options: the cotangent, whether it can be differentiated again, and the treatment of unused inputs.
#[derive(Debug, Clone)]
pub struct Gradient<'a> {
    y: &'a Tensor,
    cotangent: Option<&'a Tensor>,
    differentiable: bool,
    unused_as_zero: bool,
    check_finite: bool,
}

/// Identifies a tensor in a graph: a leaf by its id, an output by its call and position.
type Key = (u64, usize);

fn key(tensor: &Tensor) -> Key {
    match tensor.origin() {
        Origin::Output(call, index) => (call.id, *index),
        _ => (tensor.id(), usize::MAX),
    }
}

impl<'a> Gradient<'a> {
    /// The gradient of `y`, a scalar unless a cotangent is given.
    pub fn of(y: &'a Tensor) -> Gradient<'a> {
        Gradient { y, cotangent: None, differentiable: false, unused_as_zero: false, check_finite: false }
    }

    /// The vector-Jacobian product with this tensor of `y`'s shape, instead of the gradient of a scalar.
    pub fn cotangent(mut self, cotangent: &'a Tensor) -> Self {
        self.cotangent = Some(cotangent);
        self
    }

    /// Records the gradient, so that it can be differentiated again.
    pub fn differentiable(mut self) -> Self {
        self.differentiable = true;
        self
    }

    /// Gives zeros for inputs that `y` does not depend on, instead of an error.
    pub fn unused_as_zero(mut self) -> Self {
        self.unused_as_zero = true;
        self
    }

    /// Stops at the first op whose derivative has a NaN or an infinity.
    pub fn check_finite(mut self) -> Self {
        self.check_finite = true;
        self
    }

    /// Computes the gradients with respect to `xs`.
    ///
    /// # Errors
    /// As for [`grad`]; [`Error::NonFinite`] after [`Gradient::check_finite`].
    pub fn wrt(&self, xs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let y = self.y;
        let seed = match self.cotangent {
            Some(c) if c.dtype() != y.dtype() => return Err(Error::MixedDTypes { op: "grad", left: y.dtype(), right: c.dtype() }),
            Some(c) if c.shape() == y.shape() => c.clone(),
            Some(c) => {
                return Err(Error::ShapeMismatch {
                    op: "grad",
                    shapes: vec![y.shape(), c.shape()],
                    rule: "the cotangent must have the output's shape",
                });
            }
            None if y.element_count() == 1 => y.full_like(1.0)?,
            None => return Err(Error::NotScalar { shape: y.shape() }),
        };
        let seed = if self.differentiable { seed } else { seed.detach() };
        let wanted: HashSet<Key> = xs.iter().filter(|x| x.is_tracked()).map(|x| key(x)).collect();
        let oldest = xs.iter().map(|x| key(x).0).min().unwrap_or(u64::MAX);
        let calls = reachable(y, oldest);
        let needed = needed(&calls, &wanted);

        let mut cotangents: HashMap<Key, Tensor> = HashMap::new();
        let mut found: HashMap<Key, Tensor> = HashMap::new();
        if y.is_tracked() {
            cotangents.insert(key(y), seed);
        }
        let mut outputs: HashMap<Key, &Tensor> = HashMap::from([(key(y), y)]);
        for call in calls.values() {
            outputs.extend(call.inputs.iter().map(|input| (key(input), input)));
        }
        for (&id, call) in calls.iter().rev().filter(|(id, _)| needed.contains(id)) {
            let gathered: Few<Option<Tensor>> = (0..call.outputs.len()).map(|i| cotangents.remove(&(id, i))).collect();
            for (i, cotangent) in gathered.iter().enumerate() {
                if let Some(c) = cotangent
                    && wanted.contains(&(id, i))
                {
                    found.insert((id, i), c.clone());
                }
            }
            if gathered.iter().all(Option::is_none) {
                continue;
            }
            let needs: Few<bool> =
                call.inputs.iter().map(|x| x.is_tracked() && (wanted.contains(&key(x)) || needed.contains(&key(x).0))).collect();
            if !needs.contains(&true) {
                continue;
            }
            let results = self.pull(call, &gathered, &needs, outputs.get(&(id, 0)).copied())?;
            for ((input, result), need) in call.inputs.iter().zip(results).zip(needs) {
                let (true, Some(result)) = (need, result) else { continue };
                debug_assert_eq!(result.shape(), input.shape(), "derivative rule of {}", call.op.name());
                let slot = key(input);
                let total = match cotangents.remove(&slot) {
                    Some(sum) => sum.add(&result)?,
                    None => result,
                };
                cotangents.insert(slot, total);
            }
        }
        found.extend(cotangents);
        xs.iter()
            .enumerate()
            .map(|(i, x)| match found.get(&key(x)) {
                Some(g) => Ok(g.clone()),
                None if self.unused_as_zero => x.full_like(0.0),
                None => Err(Error::NotConnected { input: i, shape: x.shape(), tracked: x.is_tracked() }),
            })
            .collect()
    }

    fn pull(&self, call: &Call, cotangents: &[Option<Tensor>], needs: &[bool], output: Option<&Tensor>) -> Result<Few<Option<Tensor>>> {
        let results = if self.differentiable {
            call.op.vjp(&Vjp { cotangents, inputs: &call.inputs, output, saved: &call.saved, needs, differentiable: true })?
        } else {
            let inputs: Few<Tensor> = call.inputs.iter().map(Tensor::detach).collect();
            let output = output.map(Tensor::detach);
            call.op.vjp(&Vjp { cotangents, inputs: &inputs, output: output.as_ref(), saved: &call.saved, needs, differentiable: false })?
        };
        if self.check_finite {
            for result in results.iter().zip(needs).filter_map(|(result, need)| result.as_ref().filter(|_| *need)) {
                if !result.is_finite()? {
                    return Err(Error::NonFinite {
                        op: call.op.name(),
                        shapes: call.inputs.iter().map(Tensor::shape).collect(),
                        backward: true,
                    });
                }
            }
        }
        Ok(results)
    }
}

/// The gradients of a scalar loss with respect to `xs`, after a check that they and the loss are finite. While a device captures a
/// step there are no values yet, and nothing is looked at.
///
/// # Errors
/// [`Error::NonFinite`], naming the op that made the first NaN or infinity; as for [`grad`].
pub(crate) fn finite_gradients(loss: &Tensor, xs: &[&Tensor]) -> Result<Vec<Tensor>> {
    if is_capturing() {
        return Gradient::of(loss).wrt(xs);
    }
    if !loss.item()?.is_finite() {
        return Err(first_non_finite(loss)?.unwrap_or(Error::NonFinite { op: "loss", shapes: vec![loss.shape()], backward: false }));
    }
    let gradients = Gradient::of(loss).wrt(xs)?;
    // A NaN in a layer's cotangent reaches its bias; weights would cost a pass over all of them.
    for gradient in gradients.iter().filter(|g| g.rank() < 2) {
        if !gradient.is_finite()? {
            Gradient::of(loss).check_finite().wrt(xs)?;
        }
    }
    Ok(gradients)
}

/// The calls that `y` came from, by id, as far back as something no older than `oldest` can lie.
fn reachable(y: &Tensor, oldest: u64) -> BTreeMap<u64, &Arc<Call>> {
    let mut calls = BTreeMap::new();
    let mut pending = vec![y];
    while let Some(tensor) = pending.pop() {
        if let Origin::Output(call, _) = tensor.origin()
            && call.id >= oldest
            && calls.insert(call.id, call).is_none()
        {
            pending.extend(call.inputs.iter());
        }
    }
    calls
}

/// Of these calls, the ones on a path from `wanted`.
fn needed(calls: &BTreeMap<u64, &Arc<Call>>, wanted: &HashSet<Key>) -> HashSet<u64> {
    let mut needed = HashSet::new();
    for (&id, call) in calls {
        let leads = call.inputs.iter().any(|x| x.is_tracked() && (wanted.contains(&key(x)) || needed.contains(&key(x).0)));
        if leads || (0..call.outputs.len()).any(|i| wanted.contains(&(id, i))) {
            needed.insert(id);
        }
    }
    needed
}

/// The op that first made a NaN or an infinity on the way to `y`; `None` if everything is finite.
pub fn first_non_finite(y: &Tensor) -> Result<Option<Error>> {
    let calls = reachable(y, 0);
    let mut made: HashMap<u64, Vec<&Tensor>> = HashMap::new();
    made.entry(key(y).0).or_default().push(y);
    for call in calls.values() {
        for input in &call.inputs {
            made.entry(key(input).0).or_default().push(input);
        }
    }
    for (id, call) in &calls {
        for output in made.get(id).into_iter().flatten() {
            if !output.is_finite()? {
                return Ok(Some(Error::NonFinite {
                    op: call.op.name(),
                    shapes: call.inputs.iter().map(Tensor::shape).collect(),
                    backward: false,
                }));
            }
        }
    }
    Ok(None)
}
