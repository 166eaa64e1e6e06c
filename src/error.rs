//! The one error type of the library: a variant for each way of being wrong, with fields rather than text.
//!
//! Sentences have the form `op: what is wrong, with the shapes: what would be right`.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::dtype::DType;
use crate::shape::Shape;
use crate::words::{QUOTED, SAID, shorten};

/// Shorthand for results of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in `strait`. `{:?}` gives the sentence too: it is what a `main` that returns an error prints.
#[non_exhaustive]
// A field is what the sentence of its variant says in its place.
#[allow(missing_docs)]
pub enum Error {
    /// The shapes of the inputs do not fit each other.
    ShapeMismatch { op: &'static str, shapes: Vec<Shape>, rule: &'static str },
    /// One input has a shape the op cannot take.
    BadShape { op: &'static str, shape: Shape, expected: &'static str },
    /// An axis that the shape does not have.
    AxisOutOfRange { op: &'static str, axis: isize, shape: Shape },
    /// A shape with more axes than [`crate::shape::MAX_RANK`].
    TooManyAxes { rank: usize },
    /// A dtype the op cannot take.
    BadDType { op: &'static str, found: DType, expected: &'static str },
    /// Two inputs whose dtypes should be equal.
    MixedDTypes { op: &'static str, left: DType, right: DType },
    /// Inputs on different devices; nothing is moved silently.
    MixedDevices { op: &'static str, left: String, right: String },
    /// An index outside the axis it points into.
    IndexOutOfRange { op: &'static str, index: i64, length: usize },
    /// A range of entries that goes beyond the axis.
    BadRange { op: &'static str, start: usize, length: usize, entries: usize },
    /// Code of an op that asks for other elements than those of its inputs or results.
    WrongElement { op: &'static str, asked: DType, found: DType },
    /// A number of elements that does not fit the shape.
    WrongLength { op: &'static str, found: usize, shape: Shape },
    /// A setting outside its range.
    OutOfRange { op: &'static str, name: &'static str, value: f64, expected: &'static str },
    /// A gradient was asked for something that is not a scalar, without a cotangent.
    NotScalar { shape: Shape },
    /// The output does not depend on this input, or the input is not tracked.
    NotConnected { input: usize, shape: Shape, tracked: bool },
    /// A NaN or an infinity, and the op that made it first.
    NonFinite { op: &'static str, shapes: Vec<Shape>, backward: bool },
    /// A NaN or an infinity that an input came with, in this row of it.
    NonFiniteInput { op: &'static str, shape: Shape, row: usize },
    /// A gradient that differs from its finite difference.
    GradCheck { order: usize, input: usize, element: usize, analytic: f64, numeric: f64, tolerance: f64 },
    /// A device name that cannot be parsed.
    UnknownDevice { name: String },
    /// CUDA was asked for in a build without it.
    CudaNotBuilt { index: usize },
    /// There is no NVIDIA driver.
    NoCudaDriver { index: usize },
    /// There are fewer GPUs.
    NoCudaDevice { index: usize, count: usize },
    /// The driver does not understand the kernels of this build.
    CudaDriverTooOld { index: usize, found: (i32, i32), needed: (i32, i32) },
    /// The GPU does not run the kernels of this build.
    CudaTooOld { index: usize, capability: (i32, i32), needed: (i32, i32) },
    /// The memory of a device is full, or too small for what was asked. Sizes in bytes; `shapes` are those of the results.
    OutOfMemory { op: &'static str, shapes: Vec<Shape>, device: String, asked: u128, free: Option<usize>, total: Option<usize> },
    /// A kernel failed. Unless `exact`, it is the last one launched, and an earlier one may be at fault.
    CudaFault { kernel: &'static str, grid: [u64; 3], block: [u32; 3], exact: bool, shapes: Vec<Shape>, detail: String },
    /// The driver refused something else.
    Cuda { action: &'static str, detail: String },
    /// Something that a captured graph cannot repeat.
    Capture { op: &'static str, what: String },
    /// An op without code for the device.
    NotOnDevice { op: &'static str, device: String },
    /// The operating system refused to read or write.
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    /// A file whose contents are not what they should be.
    BadFile { path: PathBuf, found: String, expected: String },
    /// A tensor that a file or a module should have, or should not have.
    BadTensor { name: String, found: String, expected: String },
    /// A figure of an evaluation that is not a number.
    BadFigure { name: String, value: f64 },
    /// A task of reinforcement learning, or the simulator behind it, that does what it should not.
    Task { task: String, what: String },
    /// A setting that is unknown, of the wrong type or out of range.
    BadConfig { key: String, found: String, expected: String },
    /// Samples were asked of a family of models that does not generate.
    NothingToSample,
    /// A text of settings that cannot be read.
    ConfigSyntax { origin: String, message: String },
    /// Training made a NaN or an infinity; the last checkpoint is still good.
    Diverged { step: u64, cause: Box<Error> },
    /// Training was asked to stop (Ctrl-C) and has written its checkpoint.
    Interrupted { step: u64 },
}

/// Words of a user, or of a file, as a sentence quotes them.
fn quoted(text: &str) -> Cow<'_, str> {
    shorten(text, QUOTED)
}

/// Words of this program, which may hold some of a user's.
fn said(text: &str) -> Cow<'_, str> {
    shorten(text, SAID)
}

/// A number of bytes as people read it, and exactly.
struct Bytes(u128);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        write!(f, "{} bytes", self.0)?;
        match (self.0.max(1).ilog2() / 10).min(6) {
            0 => Ok(()),
            power => write!(f, " ({:.1} {})", self.0 as f64 / 1024f64.powi(power as i32), UNITS[power as usize - 1]),
        }
    }
}

impl Error {
    /// The same error with the op in which it happened and the shapes that it was about, where the error has room for them.
    pub(crate) fn in_op(mut self, name: &'static str, about: &[Shape]) -> Error {
        match &mut self {
            // Details that are known already come from nearer to the cause.
            Error::OutOfMemory { op, shapes, .. } if shapes.is_empty() => {
                *op = name;
                *shapes = about.to_vec();
            }
            Error::CudaFault { shapes, .. } => *shapes = about.to_vec(),
            Error::Capture { op, .. } => *op = name,
            _ => {}
        }
        self
    }
}

fn join(shapes: &[Shape]) -> String {
    shapes.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(" and ")
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::ShapeMismatch { op, shapes, rule } => write!(f, "{op}: shapes {} do not fit: {rule}", join(shapes)),
            Error::BadShape { op, shape, expected } => write!(f, "{op}: shape {shape} does not fit: {expected}"),
            Error::AxisOutOfRange { op, axis, shape } => {
                write!(f, "{op}: axis {axis} is out of range for shape {shape}: ")?;
                match shape.rank() {
                    0 => f.write_str("a scalar has no axes"),
                    1 => f.write_str("its only axis is 0, or -1"),
                    rank => write!(f, "axes count from 0 to {}, or back from -1 to -{rank}", rank - 1),
                }
            }
            Error::TooManyAxes { rank } => {
                write!(f, "shape: {rank} axes are too many: at most {} are supported", crate::shape::MAX_RANK)
            }
            Error::BadDType { op, found, expected } => write!(f, "{op}: dtype {found} is not supported: {expected}"),
            Error::MixedDTypes { op, left, right } => {
                write!(f, "{op}: dtypes {left} and {right} are mixed: convert one with to_dtype")
            }
            Error::MixedDevices { op, left, right } => {
                write!(f, "{op}: tensors on {left} and {right} are mixed: move one with to_device")
            }
            Error::IndexOutOfRange { op, index, length } => {
                write!(f, "{op}: index {index} is out of range: the axis has {length} entries, counted from 0")
            }
            Error::BadRange { op, start, length, entries } => {
                write!(f, "{op}: {length} entries from {start} on are out of range: the axis has {entries} entries, counted from 0")
            }
            Error::WrongElement { op, asked, found } => {
                write!(f, "{op}: the op's code asks for elements of {asked}, but these are {found}: convert the inputs with to_dtype")
            }
            Error::WrongLength { op, found, shape } => {
                write!(f, "{op}: {found} elements do not fit shape {shape}: it holds {}", shape.len())
            }
            Error::OutOfRange { op, name, value, expected } => write!(f, "{op}: {name} = {value} is out of range: {expected}"),
            Error::NotScalar { shape } => {
                write!(f, "grad: the output has shape {shape}: it must be a scalar, or a cotangent of that shape must be given")
            }
            Error::NotConnected { input, shape, tracked: false } => {
                write!(f, "grad: input {input} of shape {shape} is not tracked: make it with requires_grad() before using it")
            }
            Error::NotConnected { input, shape, tracked: true } => {
                write!(
                    f,
                    "grad: the output does not depend on input {input} of shape {shape}: remove it, or ask for zeros with unused_as_zero()"
                )
            }
            Error::NonFinite { op, shapes, backward } => {
                let pass = if *backward { "its gradient has" } else { "its result has" };
                write!(f, "{op}: {pass} a NaN or an infinity, first made here, from inputs of shapes {}", join(shapes))
            }
            Error::NonFiniteInput { op, shape, row } => {
                write!(f, "{op}: row {row} of the input of shape {shape} holds a NaN or an infinity: all of it must be finite")
            }
            Error::GradCheck { order, input, element, analytic, numeric, tolerance } => write!(
                f,
                "gradcheck: order {order}, input {input}, element {element}: derivative {analytic:e}, finite difference {numeric:e}: they must agree to {tolerance:e}"
            ),
            Error::UnknownDevice { name } => write!(
                f,
                "device: '{}' is unknown: write cpu or cuda:0; cuda:0/tf32, cuda:0/f32x3 and cuda:0/bf16 are faster",
                quoted(name)
            ),
            Error::CudaNotBuilt { index } => {
                write!(f, "device: cuda:{index} is not available: this build has no CUDA support: build with --features cuda")
            }
            Error::NoCudaDriver { index } => {
                write!(f, "device: cuda:{index} is not available: no NVIDIA driver was found (libcuda): install one, or use the cpu")
            }
            Error::NoCudaDevice { index, count } => {
                write!(f, "device: cuda:{index} is not available: the driver sees {count} GPU{}", if *count == 1 { "" } else { "s" })
            }
            Error::CudaDriverTooOld { index, found, needed } => write!(
                f,
                "device: cuda:{index} is not available: the driver knows CUDA {}.{}, the kernels need {}.{}: update the driver, or build with an older nvcc",
                found.0, found.1, needed.0, needed.1
            ),
            Error::CudaTooOld { index, capability, needed } => write!(
                f,
                "device: cuda:{index} has compute capability {}.{}: the kernels need {}.{} or newer",
                capability.0, capability.1, needed.0, needed.1
            ),
            Error::OutOfMemory { op, shapes, device, asked, free, total } => {
                write!(f, "{op}: out of memory on {device}: ")?;
                if !shapes.is_empty() {
                    write!(f, "shape{} {}: ", if shapes.len() > 1 { "s" } else { "" }, join(shapes))?;
                }
                write!(f, "{} wanted", Bytes(*asked))?;
                match (free, total) {
                    (Some(free), Some(total)) => write!(f, ", {} of {} free", Bytes(*free as u128), Bytes(*total as u128)),
                    _ => Ok(()),
                }
            }
            Error::CudaFault { kernel, grid, block, exact, shapes, detail } => {
                let doubt = if *exact { "" } else { " (the last one launched; an earlier one may be at fault: see Device::checked)" };
                write!(f, "{kernel}: the kernel failed{doubt}, grid {grid:?}, block {block:?}")?;
                if !shapes.is_empty() {
                    write!(f, ", shapes {}", join(shapes))?;
                }
                write!(f, ": {}: the device cannot be used any more in this process", said(detail))
            }
            Error::Cuda { action, detail } => write!(f, "cuda: cannot {action}: {}", said(detail)),
            Error::Capture { op, what } => write!(f, "{op}: {} cannot be captured in a graph", said(what)),
            Error::NotOnDevice { op, device } => write!(f, "{op}: there is no code for {device}: move the inputs to the cpu"),
            Error::Io { path, action, source } => write!(f, "{}: cannot {action}: {source}", quoted(&path.to_string_lossy())),
            Error::BadFile { path, found, expected } => {
                write!(f, "{}: found {}: expected {}", quoted(&path.to_string_lossy()), said(found), said(expected))
            }
            Error::BadTensor { name, found, expected } => {
                write!(f, "tensor '{}': found {}: expected {}", quoted(name), said(found), said(expected))
            }
            Error::Task { task, what } => write!(f, "task {}: {}", quoted(task), said(what)),
            Error::BadConfig { key, found, expected } => {
                write!(f, "config: {} = {} does not fit: {}", quoted(key), quoted(found), said(expected))
            }
            Error::BadFigure { name, value } => write!(f, "evaluation: {name} is {value}: expected a finite number"),
            Error::NothingToSample => write!(f, "sample: this model generates nothing: take a run of a generative one"),
            Error::ConfigSyntax { origin, message } => write!(f, "{}: {}", quoted(origin), said(message)),
            Error::Diverged { step, cause } => {
                write!(f, "step {step}: {cause}: lower the learning rate; the last checkpoint, if there is one, is good")
            }
            Error::Interrupted { step } => write!(f, "interrupted after step {step}: a checkpoint was written"),
        }
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// This error in the name of another op: of the function that was called, not of one that it is composed of.
    pub(crate) fn named(mut self, name: &'static str) -> Error {
        match &mut self {
            Error::ShapeMismatch { op, .. }
            | Error::BadShape { op, .. }
            | Error::AxisOutOfRange { op, .. }
            | Error::BadDType { op, .. }
            | Error::MixedDTypes { op, .. }
            | Error::MixedDevices { op, .. }
            | Error::IndexOutOfRange { op, .. }
            | Error::BadRange { op, .. }
            | Error::WrongLength { op, .. }
            | Error::OutOfRange { op, .. }
            | Error::Capture { op, .. }
            | Error::NotOnDevice { op, .. } => *op = name,
            _ => {}
        }
        self
    }
}

// The sentences contain their causes, so there is no source to print after them.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_repeats_a_long_text() {
        let long = || format!("begin {}\u{1b}[2J\n end", "x".repeat(100_000));
        let errors = [
            Error::UnknownDevice { name: long() },
            Error::CudaFault { kernel: "k", grid: [1; 3], block: [1; 3], exact: false, shapes: Vec::new(), detail: long() },
            Error::Cuda { action: "load", detail: long() },
            Error::Capture { op: "op", what: long() },
            Error::Io { path: long().into(), action: "read", source: std::io::ErrorKind::NotFound.into() },
            Error::BadFile { path: long().into(), found: long(), expected: long() },
            Error::BadTensor { name: long(), found: long(), expected: long() },
            Error::Task { task: long(), what: long() },
            Error::BadConfig { key: long(), found: long(), expected: long() },
            Error::ConfigSyntax { origin: long(), message: long() },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.len() < 4000 && text.contains("begin") && text.contains("characters left out"), "{} bytes", text.len());
            assert!(!text.contains(char::is_control), "{text}");
            let nested = Error::Diverged { step: 3, cause: Box::new(error) }.to_string();
            assert!(nested.len() < 4200, "{} bytes", nested.len());
        }
    }
}
