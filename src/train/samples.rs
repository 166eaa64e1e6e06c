//! Samples of a generative model, and their pictures and files.

use crate::data::Range;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plot::png::{Grid, image_grid, scatter};
use crate::tensor::Tensor;

/// Images in a row of a grid.
const COLUMNS: usize = 8;
/// Pixels that a small image is enlarged to, at least.
const SIDE: usize = 32;

/// Images that a picture shows, and pixels of its side, at most.
const MOST: usize = 10_000;
const LARGEST: usize = 30_000;

/// Samples of a model.
#[derive(Debug, Clone)]
pub enum Samples {
    /// Images [n, channels, height, width], and what their values mean. Values outside of the range are clipped where they are shown.
    Images {
        /// The values.
        images: Tensor,
        /// The values of black and white.
        range: Range,
    },
    /// Points [n, d].
    Points {
        /// The coordinates.
        points: Tensor,
        /// The part of the plane in pictures: left, right, bottom, top. Bottom and top are not used for points on a line.
        window: [f64; 4],
    },
}

impl Samples {
    /// The number of samples.
    pub fn count(&self) -> usize {
        self.tensor().dims().first().copied().unwrap_or(0)
    }

    fn tensor(&self) -> &Tensor {
        match self {
            Samples::Images { images, .. } => images,
            Samples::Points { points, .. } => points,
        }
    }

    /// The values to write to a file, in f32: images in [0, 1], clipped, points as they are.
    pub fn values(&self) -> Result<Tensor> {
        match self {
            Samples::Images { images, range: Range::Unit } => images.clamp(0.0, 1.0)?.to_dtype(DType::F32),
            Samples::Images { images, range: Range::Symmetric } => images.affine(0.5, 0.5)?.clamp(0.0, 1.0)?.to_dtype(DType::F32),
            Samples::Points { points, .. } => points.to_dtype(DType::F32),
        }
    }

    /// A picture as a PNG file with its width, height and channels: a grid of images (of very many, the first ones), dots in the plane, or
    /// a histogram of points on a line. Nothing for points of more than two dimensions and for images that are neither gray nor RGB.
    ///
    /// # Errors
    /// The shape is not the one promised; the device fails.
    pub fn picture(&self) -> Result<Option<Picture>> {
        let values = self.values()?.to_vec::<f32>()?;
        let dims = self.tensor().dims();
        let bad = |expected| Error::BadShape { op: "samples", shape: self.tensor().shape(), expected };
        match *self {
            Samples::Images { .. } => {
                let &[count, channels, height, width] = dims else { return Err(bad("images [n, channels, height, width]")) };
                if !matches!(channels, 1 | 3) || count == 0 {
                    return Ok(None);
                }
                let scale = SIDE.div_ceil(height.max(width)).max(1);
                let count = count.min(MOST).min((LARGEST / (scale * height.max(width) + 1)).pow(2)).max(1);
                let shown = &values[..count * channels * height * width];
                let bytes: Vec<u8> = shown.iter().map(|v| (v * 255.0).round() as u8).collect();
                let columns = COLUMNS.max((count as f64).sqrt().ceil() as usize);
                let grid = Grid { count, channels, height, width, columns, scale, padding: 1 };
                let (width, height) = grid.size();
                Ok(Some(Picture { png: image_grid(&bytes, grid)?, width, height, channels }))
            }
            Samples::Points { window, .. } => {
                let &[_, d] = dims else { return Err(bad("points [n, d]")) };
                if !(1..=2).contains(&d) {
                    return Ok(None);
                }
                let png = scatter(&values, d, window, POINTS)?;
                Ok(Some(Picture { png, width: POINTS, height: POINTS, channels: 3 }))
            }
        }
    }
}

/// Pixels of a side of a picture of points.
const POINTS: usize = 200;

/// A picture of samples.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The bytes of the PNG file.
    pub png: Vec<u8>,
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// 1 for gray, 3 for RGB.
    pub channels: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn images_come_out_between_zero_and_one() {
        let images = Tensor::from_vec(vec![-1.0f32, 0.0, 1.0, 3.0], [1, 1, 2, 2], &Device::cpu()).unwrap();
        let values = |range| Samples::Images { images: images.clone(), range }.values().unwrap().to_vec::<f32>().unwrap();
        assert_eq!(values(Range::Symmetric), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(values(Range::Unit), [0.0, 0.0, 1.0, 1.0]);
        let picture = Samples::Images { images, range: Range::Unit }.picture().unwrap().unwrap();
        assert_eq!((picture.width, picture.height, picture.channels), (34, 34, 1));
    }

    #[test]
    fn a_picture_shows_the_first_of_many_images() {
        for (count, side, shown) in [(10_001, 1, 100 * 33 + 1), (3, 20_000, 20_002)] {
            let images = Tensor::zeros([count, 1, side, 1], DType::F32, &Device::cpu()).unwrap();
            let picture = Samples::Images { images, range: Range::Unit }.picture().unwrap().unwrap();
            assert_eq!(picture.height, shown);
        }
    }

    #[test]
    fn points_have_pictures_up_to_the_plane() {
        let picture = |d: usize| {
            let points = Tensor::zeros([3, d], DType::F64, &Device::cpu()).unwrap();
            Samples::Points { points, window: [-1.0, 1.0, -1.0, 1.0] }.picture().unwrap()
        };
        assert!(picture(1).is_some() && picture(2).is_some() && picture(3).is_none());
        let flat = Tensor::zeros([3], DType::F64, &Device::cpu()).unwrap();
        assert!(Samples::Points { points: flat, window: [0.0; 4] }.picture().is_err());
    }
}
