//! What a launch costs: of kernels that do next to nothing.

use std::time::Instant;

use strait::{DType, Device, Result, Rng, Tensor};

use super::{Options, median, replay};

/// Launches that are timed together.
const LAUNCHES: usize = 1000;
const CHAINS: [usize; 5] = [1, 10, 20, 100, 200];

type Row = (&'static str, usize, (f64, f64));

/// Microseconds per kernel on the stream, by the host's clock; and of whole graphs of so many kernels that wait for each other.
pub fn all(device: &Device, options: &Options) -> Result<Vec<Row>> {
    let named = options.names.is_empty() || options.names.iter().any(|name| "latency".starts_with(name.as_str()));
    if !named {
        return Ok(Vec::new());
    }
    let x = Tensor::ones([1], DType::F32, device)?;
    let chain = |length: usize| (0..length).try_fold(x.clone(), |x, _| x.affine(0.5, 0.25));
    let stream = || {
        let start = Instant::now();
        chain(LAUNCHES)?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / LAUNCHES as f64 * 1e6)
    };
    let times = (0..=options.repetitions).map(|_| stream()).collect::<Result<Vec<f64>>>()?;
    let mut rows = vec![("latency_stream", 1, median(times[1..].to_vec()))];
    for length in CHAINS {
        let mut rng = Rng::new(1);
        chain(length)?;
        let mut graph = device.capture(&mut rng, 1, |_| chain(length).map(drop))?;
        let times = (0..=options.repetitions).map(|_| replay(&mut graph, &rng)).collect::<Result<Vec<f64>>>()?;
        rows.push(("latency_graph", length, median(times[1..].to_vec())));
    }
    Ok(rows)
}
