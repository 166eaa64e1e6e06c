//! What a launch costs: of kernels that do next to nothing.

use std::time::Instant;

use strait::{DType, Device, Result, Rng, Tensor};

use super::measure::{median, replay};

/// Launches that are timed together on the stream.
const LAUNCHES: usize = 1000;
const CHAINS: [usize; 5] = [1, 10, 20, 100, 200];

/// Kernels that wait for each other.
pub enum Launches {
    /// The time of one on the stream, by the host's clock.
    Stream,
    /// The time of a graph of so many.
    Graph(usize),
}

pub fn all() -> impl Iterator<Item = Launches> {
    [Launches::Stream].into_iter().chain(CHAINS.map(Launches::Graph))
}

impl Launches {
    pub fn id(&self) -> &'static str {
        if matches!(self, Launches::Stream) { "latency_stream" } else { "latency_graph" }
    }

    pub fn count(&self) -> usize {
        if let Launches::Graph(count) = *self { count } else { 1 }
    }

    /// Microseconds, with their spread.
    pub fn time(&self, device: &Device, repetitions: usize) -> Result<(f64, f64)> {
        let x = Tensor::ones([1], DType::F32, device)?;
        let chain = |length: usize| (0..length).try_fold(x.clone(), |x, _| x.affine(0.5, 0.25)).map(drop);
        let times: Vec<f64> = match *self {
            Launches::Stream => {
                let stream = |_| {
                    let start = Instant::now();
                    chain(LAUNCHES)?;
                    device.synchronize()?;
                    Ok(start.elapsed().as_secs_f64() / LAUNCHES as f64 * 1e6)
                };
                (0..=repetitions).map(stream).collect::<Result<_>>()?
            }
            Launches::Graph(length) => {
                let mut rng = Rng::new(1);
                chain(length)?;
                let mut graph = device.capture(&mut rng, 1, |_| chain(length))?;
                (0..=repetitions).map(|_| replay(&mut graph, &rng)).collect::<Result<_>>()?
            }
        };
        // the first one warms up
        Ok(median(times[1..].to_vec()))
    }
}
