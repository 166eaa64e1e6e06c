//! An energy in the plane as a picture.

use super::examples::in_pieces;
use crate::data::PointSet;
use crate::device::Device;
use crate::error::Result;
use crate::report::png::heat_map;
use crate::tensor::Tensor;

/// Points of a side of the grid that the picture is made of, and pixels of each.
const SIDE: usize = 200;
/// The share of the picture that is at or below the energy of its brightest colour: hills far from the data would hide all else.
const SHOWN: f64 = 0.6;

/// The energies of a square around the set as a PNG file: dark where they are low, and where samples should be.
///
/// # Errors
/// Those of the energy.
pub(super) fn landscape(set: PointSet, device: &Device, energy: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<u8>> {
    let at = |i: usize| (set.reach() * ((2 * i + 1) as f64 / SIDE as f64 - 1.0)) as f32;
    let points: Vec<f32> = (0..SIDE).rev().flat_map(|row| (0..SIDE).flat_map(move |column| [at(column), at(row)])).collect();
    let energies = in_pieces(&Tensor::from_vec(points, [SIDE * SIDE, 2], device)?, energy)?.to_f64_vec()?;
    let mut sorted: Vec<f64> = energies.iter().copied().filter(|e| e.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0.0);
    heat_map(&energies, SIDE, [quantile(0.0), quantile(SHOWN)])
}
