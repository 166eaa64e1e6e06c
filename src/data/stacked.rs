//! StackedMNIST: images whose three channels are digits of their own, so that a generator has 1,000 modes to find.

use std::path::Path;

use crate::data::{Dataset, Pixels, Split, order};
use crate::device::cpu::memory;
use crate::error::Result;

const CHANNELS: usize = 3;

/// Draws under this key choose the digits: the same images in every run of every seed.
const KEY: u64 = 0x57ac_4ed0;

/// Stacks the images of each part: as many images as before, each digit once in each channel, in three random orders.
/// The class is 100 * first + 10 * second + third digit.
///
/// # Errors
/// There is no memory for them; none else for ten classes of labelled bytes.
pub(super) fn stack(digits: &Dataset) -> Result<Dataset> {
    let part = |split: &Split, number: u64| -> Result<Split> {
        let (n, pixels) = (split.len(), digits.pixels());
        let orders: [Vec<u32>; CHANNELS] =
            std::array::from_fn(|channel| order::epoch_order(n, KEY, number * CHANNELS as u64 + channel as u64));
        let Pixels::U8(values) = split.images() else { unreachable!("idx files hold bytes") };
        let mut images = memory::vector("stacked", (n * pixels).saturating_mul(CHANNELS))?;
        let mut labels = memory::vector("stacked", n)?;
        for i in 0..n {
            let chosen = orders.each_ref().map(|order| order[i] as usize);
            chosen.iter().for_each(|&at| images.extend_from_slice(&values[at * pixels..][..pixels]));
            labels.push(chosen.iter().fold(0, |class, &at| class * digits.classes as i64 + split.labels()[at]));
        }
        let classes = digits.classes.pow(CHANNELS as u32);
        Split::new(Path::new("stacked MNIST"), Pixels::U8(images), labels, CHANNELS * pixels, classes, split.max_value())
    };
    let [_, height, width] = digits.image;
    Ok(Dataset {
        name: format!("stacked-{}", digits.name),
        train: part(&digits.train, 0)?,
        test: part(&digits.test, 1)?,
        image: [CHANNELS, height, width],
        classes: digits.classes.pow(CHANNELS as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;

    #[test]
    fn channels_are_digits_of_the_classes() {
        let digits = digits::load().unwrap();
        let stacked = stack(&digits).unwrap();
        assert_eq!((stacked.train.len(), stacked.image, stacked.classes), (digits.train.len(), [3, 8, 8], 1000));
        let (Pixels::U8(all), Pixels::U8(single)) = (stacked.train.images(), digits.train.images()) else { panic!("not bytes") };
        let mut found: Vec<(&[u8], i64)> = single.chunks(64).zip(digits.train.labels().iter().copied()).collect();
        found.sort_unstable();
        for (image, &class) in all.chunks(3 * 64).zip(stacked.train.labels()) {
            for (channel, digit) in image.chunks(64).zip([class / 100, class / 10 % 10, class % 10]) {
                assert!(found.binary_search(&(channel, digit)).is_ok());
            }
        }
        for channel in 0..3 {
            // Each channel has every digit once.
            let mut seen: Vec<&[u8]> = all.chunks(64).skip(channel).step_by(3).collect();
            seen.sort_unstable();
            assert!(seen.iter().eq(found.iter().map(|(image, _)| image)));
        }
        let mut classes = stacked.train.labels().to_vec();
        classes.sort_unstable();
        classes.dedup();
        // 3,823 draws from 1,000 classes leave out e^-3.8 of them.
        assert!((960..1000).contains(&classes.len()), "{}", classes.len());
    }
}
