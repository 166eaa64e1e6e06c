//! Chains that go on where they were left, as in persistent contrastive divergence (Tieleman 2008; Du and Mordatch 2019).

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// A buffer of the last positions of chains.
#[derive(Debug, Clone)]
pub struct ReplayBuffer {
    /// The positions [capacity, ..].
    pub positions: Tensor,
    restart: f64,
}

/// A batch of chains from a replay buffer.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Positions [rows, ..].
    pub positions: Tensor,
    /// Their slots in the buffer.
    pub slots: Vec<usize>,
}

impl ReplayBuffer {
    /// A buffer of these positions [capacity, ..]. A chain that is drawn starts anew with probability `restart`.
    ///
    /// # Errors
    /// No positions; a probability outside of [0, 1].
    pub fn new(positions: &Tensor, restart: f64) -> Result<ReplayBuffer> {
        if !(0.0..=1.0).contains(&restart) {
            return Err(Error::OutOfRange { op: "replay", name: "restart", value: restart, expected: "a probability" });
        }
        if positions.rank() < 2 || positions.dims()[0] == 0 {
            return Err(Error::BadShape { op: "replay", shape: positions.shape(), expected: "positions [capacity, ..], at least one" });
        }
        Ok(ReplayBuffer { positions: positions.detach(), restart })
    }

    /// Draws as many different chains as `fresh` [rows, ..] has rows. A chain that starts anew starts at its row of `fresh`.
    ///
    /// # Errors
    /// There are more rows than the buffer holds, or they have another shape.
    pub fn draw(&self, fresh: &Tensor, rng: &mut Rng) -> Result<Replayed> {
        let (rows, capacity) = (fresh.shape().first().copied().unwrap_or(0), self.positions.dims()[0]);
        if rows == 0 || rows > capacity {
            let expected = "at least one row, and at most as many as the buffer holds";
            return Err(Error::OutOfRange { op: "replay", name: "rows", value: rows as f64, expected });
        }
        let draw = rng.draw();
        let unit = |i: usize| f64::from(draw.word(i as u64)) / 2.0f64.powi(32);
        // the beginning of a permutation
        let mut slots: Vec<usize> = (0..capacity).collect();
        let mut index = Vec::with_capacity(rows);
        for at in 0..rows {
            slots.swap(at, at + (unit(2 * at) * (capacity - at) as f64) as usize);
            index.push(if unit(2 * at + 1) < self.restart { capacity + at } else { slots[at] } as i64);
        }
        slots.truncate(rows);
        Ok(Replayed { positions: pick(&self.positions, fresh, index)?, slots })
    }

    /// Leaves chains at these positions [rows, ..], in the slots that they were drawn from.
    ///
    /// # Errors
    /// Another number of positions than slots, or of another shape; a slot that the buffer does not have.
    pub fn store(&mut self, slots: &[usize], positions: &Tensor) -> Result<()> {
        let capacity = self.positions.dims()[0];
        if positions.shape().first() != Some(&slots.len()) {
            let shapes = vec![positions.shape(), self.positions.shape()];
            return Err(Error::ShapeMismatch { op: "replay", shapes, rule: "there must be one position for each slot" });
        }
        let mut index: Vec<i64> = (0..capacity as i64).collect();
        for (row, &slot) in slots.iter().enumerate() {
            let place = index.get_mut(slot).ok_or(Error::IndexOutOfRange { op: "replay", index: slot as i64, length: capacity })?;
            *place = (capacity + row) as i64;
        }
        self.positions = pick(&self.positions, &positions.detach(), index)?;
        Ok(())
    }
}

/// These rows of `a` and, counted on, of `b`.
fn pick(a: &Tensor, b: &Tensor, index: Vec<i64>) -> Result<Tensor> {
    let rows = index.len();
    Tensor::concat(&[a, &b.detach()], 0)?.index_select(0, &Tensor::from_vec(index, [rows], &a.device())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    fn column(values: &[f64]) -> Tensor {
        Tensor::from_slice(values, [values.len(), 1], &Device::cpu()).unwrap()
    }

    #[test]
    fn chains_are_drawn_once_and_go_back_to_their_places() {
        let mut rng = Rng::new(1);
        let mut buffer = ReplayBuffer::new(&column(&[0.0, 1.0, 2.0, 3.0]), 0.0).unwrap();
        let fresh = column(&[-1.0; 3]);
        let mut counts = [0; 4];
        for _ in 0..400 {
            let drawn = buffer.draw(&fresh, &mut rng).unwrap();
            let values = drawn.positions.to_vec::<f64>().unwrap();
            assert_eq!(values, drawn.slots.iter().map(|&slot| slot as f64).collect::<Vec<_>>());
            drawn.slots.iter().for_each(|&slot| counts[slot] += 1);
            assert!(values.iter().all(|v| values.iter().filter(|w| v == *w).count() == 1), "{values:?}");
        }
        assert!(counts.iter().all(|&count| (250..350).contains(&count)), "{counts:?}");
        buffer.store(&[2, 0], &column(&[7.0, 8.0])).unwrap();
        assert_eq!(buffer.positions.to_vec::<f64>().unwrap(), [8.0, 1.0, 7.0, 3.0]);
        assert!(buffer.store(&[4], &column(&[1.0])).is_err() && buffer.store(&[0, 1], &column(&[1.0])).is_err());
        assert!(buffer.draw(&column(&[0.0; 5]), &mut rng).is_err());
    }

    #[test]
    fn some_chains_start_anew() {
        let mut rng = Rng::new(2);
        let buffer = ReplayBuffer::new(&column(&[0.0; 50]), 0.2).unwrap();
        let mut anew = 0.0;
        for _ in 0..100 {
            anew += buffer.draw(&column(&[1.0; 20]), &mut rng).unwrap().positions.sum_all().unwrap().item().unwrap();
        }
        assert!((anew / 2000.0 - 0.2).abs() < 0.03, "{anew}");
        assert!(ReplayBuffer::new(&column(&[0.0]), 1.5).is_err());
    }
}
