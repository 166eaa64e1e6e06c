//! Charts as SVG, written here: no fonts, scripts or other files are needed to show them.
//!
//! Every chart is a value with a `render` that returns a complete `<svg>` element, fit for a file or for the middle of an HTML page.
//! Charts are light, and dark where the viewer asks for it (`prefers-color-scheme`); both colours and the background are in the picture.
//! Values that are not finite, or not positive on a logarithmic axis, are left out; no input makes a chart fail.

mod axis;
mod calibration;
mod canvas;
mod confusion;
mod line;
mod plane;
mod scale;
mod scatter;
mod sweep;

pub use calibration::CalibrationChart;
pub use confusion::ConfusionMatrix;
pub use line::{LineChart, Mark, Panel, Series, StackedChart};
pub use plane::{ColorBar, PlaneChart, PlaneLine};
pub use scale::Axis;
pub use scatter::{Ellipse, ScatterChart};
pub use sweep::{SweepPoint, information_plane, sweep_chart};
