//! How results are compared with what a case expects, and how a disagreement is told.

use std::fmt;

use strait::Tensor;

use super::case::{Case, Outcome, Precision};
use super::reference;

/// Results by the name of the tensor that they should equal.
pub type Results = Vec<(String, Tensor)>;

/// One disagreement of a case.
#[derive(Debug)]
pub struct Failure {
    case: String,
    what: String,
}

impl Failure {
    /// A case that could not be run, or not in full.
    pub fn new(case: &str, what: impl fmt::Display) -> Failure {
        Failure { case: case.to_string(), what: what.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.what)
    }
}

/// What a tensor is expected to be, and how near.
struct Expected {
    values: Vec<f64>,
    dims: Vec<usize>,
    /// Relative to the largest entry.
    tolerance: f64,
}

/// Whether f32 cannot hold the inputs of a case: its f32 results are then compared with f64 results from the rounded
/// inputs.
pub fn needs_more_than_f32(case: &Case) -> bool {
    matches!(case.variant(), "extreme" | "far")
}

/// The tolerance in f64.
fn tolerance_f64(case: &Case) -> f64 {
    match (case.kind.as_str(), case.variant()) {
        ("gaussian_kl", "extreme") | ("mmd2", "far") => 1e-7,
        _ => 1e-10,
    }
}

/// The tolerance of a tensor in f32.
fn tolerance_f32(case: &Case, name: &str) -> Outcome<f64> {
    let tolerance = if name.starts_with("grad2.") || needs_more_than_f32(case) { 1e-4 } else { 1e-5 };
    Ok(tolerance * reference::cancellation(case, tensor_name(name))?)
}

/// The part of a result's name that names a tensor of the file; what follows in brackets says how it was computed.
fn tensor_name(name: &str) -> &str {
    name.split(" (").next().unwrap_or(name)
}

/// Compares f64 results with the file.
pub fn judge_f64(case: &Case, results: &Results) -> Vec<Failure> {
    let mut failures = missing(case, results);
    for (name, found) in results {
        let expected = || file_values(case, tensor_name(name), tolerance_f64(case));
        failures.extend(compare(case, &format!("{name} in f64"), found, expected));
    }
    failures
}

/// Compares f32 results with the file, or, where f32 cannot hold the inputs, with the f64 results from rounded inputs.
pub fn judge_f32(case: &Case, results: &Results, rounded: &Results) -> Vec<Failure> {
    let mut failures = Vec::new();
    for ((name, found), (_, wide)) in results.iter().zip(rounded) {
        let expected = || {
            let tolerance = tolerance_f32(case, name)?;
            if needs_more_than_f32(case) {
                Ok(Expected { values: wide.to_f64_vec()?, dims: wide.dims().to_vec(), tolerance })
            } else {
                file_values(case, tensor_name(name), tolerance)
            }
        };
        if found.dtype() != strait::DType::F32 {
            failures.push(Failure::new(&case.name, format!("{name} in f32: the result is {}", found.dtype())));
        }
        if let Some(mut failure) = compare(case, &format!("{name} in f32"), found, expected) {
            // tells a fault of the arithmetic from inputs whose rounding alone moves the result too far
            if let (Ok(x), Ok(w)) = (found.to_f64_vec(), wide.to_f64_vec()) {
                failure.what += &format!("; {:.1e} from f64 with the rounded inputs", worst(&x, &w).1);
            }
            failures.push(failure);
        }
    }
    failures
}

/// Expected tensors that the run did not compute.
fn missing(case: &Case, results: &Results) -> Vec<Failure> {
    ["out.", "grad.", "grad2."]
        .iter()
        .flat_map(|prefix| case.names(prefix).into_iter().map(move |name| format!("{prefix}{name}")))
        .filter(|name| !results.iter().any(|(found, _)| tensor_name(found) == name))
        .map(|name| Failure::new(&case.name, format!("{name} was not computed")))
        .collect()
}

fn file_values(case: &Case, name: &str, tolerance: f64) -> Outcome<Expected> {
    let tensor = case.tensor(name, Precision::F64)?;
    let mut values = tensor.to_f64_vec()?;
    reference::correct(case, name, &mut values)?;
    Ok(Expected { values, dims: tensor.dims().to_vec(), tolerance })
}

/// The element that is farthest off, and by how much relative to the largest expected entry (absolutely, where all
/// expected entries are zero). What is not finite and not equal is infinitely far.
fn worst(found: &[f64], expected: &[f64]) -> (usize, f64) {
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let scale = if largest == 0.0 { 1.0 } else { largest };
    let distance = |f: f64, e: f64| {
        let distance = (f - e).abs() / scale;
        if f == e {
            0.0
        } else if distance.is_nan() {
            f64::INFINITY
        } else {
            distance
        }
    };
    let distances = found.iter().zip(expected).map(|(&f, &e)| distance(f, e));
    distances.enumerate().fold((0, 0.0), |w, d| if d.1 > w.1 { d } else { w })
}

fn compare(case: &Case, what: &str, found: &Tensor, expected: impl FnOnce() -> Outcome<Expected>) -> Option<Failure> {
    let failure = |text: String| Some(Failure::new(&case.name, format!("{what}: {text}")));
    let expected = match expected() {
        Ok(expected) => expected,
        Err(error) => return failure(error.to_string()),
    };
    if found.dims() != expected.dims {
        return failure(format!("shape {:?}, expected {:?}", found.dims(), expected.dims));
    }
    let values = match found.to_f64_vec() {
        Ok(values) => values,
        Err(error) => return failure(error.to_string()),
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return failure(format!("element {at} of {:?} is {}, expected {:e}", expected.dims, values[at], expected.values[at]));
    }
    let (at, error) = worst(&values, &expected.values);
    if error <= expected.tolerance {
        return None;
    }
    failure(format!(
        "element {at} of {:?} is {:e}, expected {:e}: {error:.1e} of the largest entry, tolerance {:.0e}",
        expected.dims, values[at], expected.values[at], expected.tolerance
    ))
}

#[cfg(test)]
mod tests {
    use super::worst;

    #[test]
    fn the_farthest_element_is_found_relative_to_the_largest_entry() {
        assert_eq!(worst(&[1.0, 2.0, 4.0], &[1.0, 3.0, 4.0]), (1, 0.25));
        assert_eq!(worst(&[0.0, 0.5], &[0.0, 0.0]), (1, 0.5));
        assert_eq!(worst(&[f64::INFINITY, 0.5], &[f64::INFINITY, 0.5]), (0, 0.0));
        assert_eq!(worst(&[0.0, f64::NAN], &[0.0, 1.0]), (1, f64::INFINITY));
    }
}
