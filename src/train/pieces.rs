//! Evaluation of many examples a few at a time, so that it needs little memory.

use super::network::Network;
use crate::device::Device;
use crate::device::cpu::memory;
use crate::dtype::DType;
use crate::error::Result;
use crate::nn::Mode;
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Examples that are generated or evaluated in one piece.
const ROWS: usize = 250;
/// Seed of the latent vectors from which generators record their statistics anew.
const RECORDED: u64 = 0x5747;

/// `f` of all rows of `x`, a few at a time.
///
/// # Errors
/// Those of `f`.
pub(super) fn in_pieces(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    gather(x.dims()[0], |first, rows| f(&x.narrow(0, first, rows)?))
}

/// `rows` rows from pieces, each made by `piece` from the number of its first row and its number of rows.
///
/// # Errors
/// Those of `piece`; there is no memory for all, which is seen after the first.
pub(super) fn gather(rows: usize, mut piece: impl FnMut(usize, usize) -> Result<Tensor>) -> Result<Tensor> {
    let mut pieces = Vec::new();
    for first in (0..rows).step_by(ROWS) {
        pieces.push(piece(first, ROWS.min(rows - first))?.detach());
        if let (0, Device::Cpu) = (first, pieces[0].device()) {
            let all = pieces[0].shape().with(0, rows);
            memory::check_shape("generate", all, pieces[0].dtype())?;
        }
    }
    Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 0)
}

/// Runs `f` with a generator's averaged weights and with the statistics of what these make of `latent` standard normals.
///
/// # Errors
/// Those of `generator` and `f`.
pub(super) fn averaged<R>(
    network: &Network,
    latent: usize,
    device: &Device,
    generator: impl Fn(&Tensor, &mut Mode<'_>) -> Result<Tensor>,
    f: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let mut rng = Rng::new(RECORDED);
    network.averaged_anew(|mode| generator(&rng.normal([ROWS, latent], DType::F32, device)?, mode), f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let x = Rng::new(1).normal([600, 3], DType::F32, &Device::cpu()).unwrap();
        let same = in_pieces(&x, |x| Ok(x.clone())).unwrap();
        assert_eq!(same.to_vec::<f32>().unwrap(), x.to_vec::<f32>().unwrap());
    }
}
