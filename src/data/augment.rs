//! Random changes of training images that keep their class.

use crate::rng::Draw;

/// Shifts each image of a batch [n, C, H, W] by up to `largest` pixels in each direction, all equally likely; what comes
/// in from outside is -1, the background of the symmetric range.
pub fn shift_images(images: &mut [f32], image: [usize; 3], largest: usize, draw: Draw) {
    let [channels, height, width] = image;
    let mut shifted = vec![0.0f32; height * width];
    for (i, image) in images.chunks_mut(channels * height * width).enumerate() {
        let choices = 2 * largest as u64 + 1;
        let offset = |axis: u64| ((u64::from(draw.word(2 * i as u64 + axis)) * choices) >> 32) as isize - largest as isize;
        let (down, right) = (offset(0), offset(1));
        for plane in image.chunks_mut(height * width) {
            for (at, out) in shifted.iter_mut().enumerate() {
                let (y, x) = ((at / width) as isize - down, (at % width) as isize - right);
                let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
                *out = if inside { plane[y as usize * width + x as usize] } else { -1.0 };
            }
            plane.copy_from_slice(&shifted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shift_occurs_and_moves_whole_images() {
        let mut images: Vec<f32> = (0..400).flat_map(|_| (0..9).map(|p| if p == 4 { 1.0 } else { -1.0 })).collect();
        shift_images(&mut images, [1, 3, 3], 1, Draw { key: 1, number: 2 });
        let mut seen = [0; 9];
        for image in images.chunks(9) {
            assert_eq!(image.iter().filter(|&&p| p == 1.0).count(), 1);
            seen[image.iter().position(|&p| p == 1.0).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&c| c > 20), "{seen:?}");
    }
}
