//! Means over the steps since the last evaluation. Their names begin with `train_`: the batch's own value has the name without it, and
//! the metrics know each name once per step.

use super::trainer::StepStats;

/// Sums of weighted values, for reports of what training saw. A part of the state: list [`Means::state`] in
/// [`super::Trainer::state`] as numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Means<const N: usize> {
    names: [&'static str; N],
    /// The sums, and after them the sum of the weights.
    sums: Vec<f64>,
}

impl<const N: usize> Means<N> {
    /// Of values with these names, which begin with `train_`; nothing yet.
    pub fn new(names: [&'static str; N]) -> Means<N> {
        Means { names, sums: vec![0.0; N + 1] }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sums.fill(0.0);
    }

    /// Takes the values of a step in, each as often as `weight` says, for instance the examples of the step.
    pub fn add(&mut self, values: [f64; N], weight: f64) {
        for (sum, value) in self.sums.iter_mut().zip(values.map(|v| v * weight).into_iter().chain([weight])) {
            *sum += value;
        }
    }

    /// The names of the values of a single step.
    pub fn of_step(&self) -> [&'static str; N] {
        self.names.map(|name| name.strip_prefix("train_").unwrap_or(name))
    }

    /// Takes in the figures of the step after `done` others, anew every `every` steps, and names them.
    pub fn record(&mut self, done: u64, every: u64, figures: &[f64]) -> StepStats {
        if done.is_multiple_of(every) {
            self.clear();
        }
        let values = *figures.first_chunk().expect("a figure for each name");
        self.add(values, 1.0);
        StepStats(self.of_step().into_iter().zip(values).collect())
    }

    /// Names and means; zeros if there was nothing.
    pub fn values(&self) -> impl Iterator<Item = (String, f64)> {
        let weight = if self.sums[N] > 0.0 { self.sums[N] } else { 1.0 };
        self.names.iter().zip(&self.sums).map(move |(name, sum)| (name.to_string(), sum / weight))
    }

    /// The numbers to save.
    pub fn state(&mut self) -> &mut [f64] {
        &mut self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_count() {
        let mut means = Means::new(["a", "b"]);
        assert!(means.values().all(|(_, v)| v == 0.0));
        means.add([1.0, 10.0], 1.0);
        means.add([4.0, 40.0], 3.0);
        assert_eq!(means.values().collect::<Vec<_>>(), [("a".to_string(), 3.25), ("b".to_string(), 32.5)]);
        let mut other = Means::new(["a", "b"]);
        other.state().copy_from_slice(means.state());
        assert_eq!(other, means);
    }
}
