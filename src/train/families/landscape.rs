//! Pictures of points and of an energy in the plane.

use crate::data::PointSet;
use crate::device::Device;
use crate::error::Result;
use crate::plot::png::{heat, heat_map};
use crate::plot::svg::PlaneChart;
use crate::tensor::Tensor;
use crate::train::Samples;
use crate::train::pieces::in_pieces;

/// Points of a side of the grid that the picture is made of, and pixels of each.
const SIDE: usize = 200;
/// The share of the picture that is at or below the energy of its brightest colour: hills far from the data would hide all else.
const SHOWN: f64 = 0.6;

/// The energies of a square around the set: dark where they are low, and where samples should be.
///
/// # Errors
/// Those of the energy.
pub(super) fn landscape(set: PointSet, device: &Device, energy: impl Fn(&Tensor) -> Result<Tensor>) -> Result<PlaneChart> {
    let at = |i: usize| (set.extent() * ((2 * i + 1) as f64 / SIDE as f64 - 1.0)) as f32;
    let points: Vec<f32> = (0..SIDE).rev().flat_map(|row| (0..SIDE).flat_map(move |column| [at(column), at(row)])).collect();
    let energies = in_pieces(&Tensor::from_vec(points, [SIDE * SIDE, 2], device)?, energy)?.to_f64_vec()?;
    let mut sorted: Vec<f64> = energies.iter().copied().filter(|e| e.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0.0);
    let range = [quantile(0.0), quantile(SHOWN)];
    let png = heat_map(&energies, SIDE, range)?;
    let title = "energy, dark where it is low";
    Ok(PlaneChart::new(title, set.window(), png, SIDE as f64).bar("energy (top: or more)", range, heat))
}

/// Points of the plane, with axes.
pub(super) fn cloud(title: &str, samples: &Samples) -> Result<Option<PlaneChart>> {
    let Samples::Points { window, .. } = *samples else { return Ok(None) };
    Ok(samples.picture()?.map(|picture| PlaneChart::new(title, window, picture.png, picture.width as f64)))
}
