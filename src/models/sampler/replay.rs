//! Chains that go on where they were left, as in persistent contrastive divergence (Tieleman 2008; Du and Mordatch 2019).

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;

/// Positions that chains were left at.
#[derive(Debug, Clone)]
pub struct ReplayBuffer {
    positions: Vec<Tensor>,
    restart: f64,
}

/// A batch out of a buffer.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Positions [rows, ..].
    pub positions: Tensor,
    /// Where in the buffer they belong.
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
        Ok(ReplayBuffer { positions: rows(positions)?, restart })
    }

    /// As many different chains as `fresh` [rows, ..] has rows; those that start anew are at its rows.
    ///
    /// # Errors
    /// More rows than the buffer holds, or of another shape.
    pub fn draw(&self, fresh: &Tensor, rng: &mut Rng) -> Result<Replayed> {
        let (fresh, capacity) = (rows(fresh)?, self.positions.len());
        if fresh.is_empty() || fresh.len() > capacity {
            let expected = "at least one row, and at most as many as the buffer holds";
            return Err(Error::OutOfRange { op: "replay", name: "rows", value: fresh.len() as f64, expected });
        }
        let draw = rng.draw();
        let unit = |i: usize| f64::from(draw.word(i as u64)) / 2.0f64.powi(32);
        // the beginning of a permutation
        let mut slots: Vec<usize> = (0..capacity).collect();
        let mut picked = Vec::with_capacity(fresh.len());
        for (at, fresh) in fresh.iter().enumerate() {
            slots.swap(at, at + (unit(2 * at) * (capacity - at) as f64) as usize);
            picked.push(if unit(2 * at + 1) < self.restart { fresh } else { &self.positions[slots[at]] });
        }
        slots.truncate(picked.len());
        Ok(Replayed { positions: Tensor::concat(&picked, 0)?, slots })
    }

    /// Leaves chains at these positions [rows, ..], in the slots that they were drawn from.
    ///
    /// # Errors
    /// Another number of positions than slots, or of another shape; a slot that the buffer does not have.
    pub fn store(&mut self, slots: &[usize], positions: &Tensor) -> Result<()> {
        let shape = self.positions[0].shape();
        if positions.rank() == 0 || positions.dims()[1..] != shape[1..] || positions.dims()[0] != slots.len() {
            let shapes = vec![positions.shape(), shape];
            return Err(Error::ShapeMismatch { op: "replay", shapes, rule: "one position for each slot, of the shape of the buffer's" });
        }
        if let Some(&slot) = slots.iter().find(|&&slot| slot >= self.positions.len()) {
            return Err(Error::IndexOutOfRange { op: "replay", index: slot as i64, length: self.positions.len() });
        }
        for (&slot, position) in slots.iter().zip(rows(positions)?) {
            self.positions[slot] = position;
        }
        Ok(())
    }

    /// All positions [capacity, ..], as [`ReplayBuffer::new`] takes them.
    ///
    /// # Errors
    /// The device fails.
    pub fn positions(&self) -> Result<Tensor> {
        Tensor::concat(&self.positions.iter().collect::<Vec<_>>(), 0)
    }
}

/// The rows, each with memory of its own, so that one does not keep its batch.
fn rows(x: &Tensor) -> Result<Vec<Tensor>> {
    let x = x.detach();
    (0..x.shape().first().copied().unwrap_or(0)).map(|row| Tensor::concat(&[&x.narrow(0, row, 1)?], 0)).collect()
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
        assert_eq!(buffer.positions().unwrap().to_vec::<f64>().unwrap(), [8.0, 1.0, 7.0, 3.0]);
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
