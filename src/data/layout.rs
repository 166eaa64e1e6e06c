//! The order of the axes of arrays of images.

/// The position of the channels among the axes of an array of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// [n, channels, height, width].
    Nchw,
    /// [n, height, width, channels].
    Nhwc,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

    /// The name after `--layout`, and before the name of a file as data.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        }
    }
}
