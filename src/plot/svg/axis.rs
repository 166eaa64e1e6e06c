//! The surroundings of a chart's data: title, legend, frame, grid, ticks and axis labels.

use super::canvas::{Anchor, Svg, Text, fit, num, text_width, wrap};
use super::scale::{Scale, Tick};

/// Sizes of texts, in pixels.
pub(super) const TITLE: f64 = 17.0;
pub(super) const LABEL: f64 = 14.0;
pub(super) const TICK: f64 = 13.0;

/// Blank border of a picture, in pixels.
pub(super) const BORDER: f64 = 16.0;

/// Draws the title at the top of a picture of this width; returns the height used.
pub(super) fn title(svg: &mut Svg, text: &str, width: f64) -> f64 {
    let mut y = BORDER;
    for line in wrap(text, TITLE, width - 2.0 * BORDER) {
        svg.text(Text::new(BORDER, y + TITLE * 0.85, TITLE, &line).bold());
        y += TITLE * 1.3;
    }
    y + if text.trim().is_empty() { 0.0 } else { 4.0 }
}

/// The mark of a legend's entry.
#[derive(Debug, Clone)]
pub(super) enum Swatch {
    Line { color: String, dashed: bool },
    Dot { color: String },
    Box { attributes: String },
}

/// Draws entries from left to right, in as many rows as needed; returns the height used.
pub(super) fn legend(svg: &mut Svg, entries: &[(Swatch, String)], left: f64, top: f64, right: f64) -> f64 {
    const ROW: f64 = 22.0;
    let (mut x, mut y) = (left, top);
    for (swatch, name) in entries {
        let mark = if matches!(swatch, Swatch::Dot { .. }) { 12.0 } else { 26.0 };
        let name = fit(name, TICK, right - left - mark - 8.0);
        let width = mark + 6.0 + text_width(&name, TICK) + 14.0;
        if x > left && x + width - 14.0 > right {
            (x, y) = (left, y + ROW);
        }
        let middle = y + 9.0;
        match swatch {
            Swatch::Line { color, dashed } => svg.polyline(&[(x, middle), (x + mark, middle)], &stroke(color, *dashed, 2.2)),
            Swatch::Dot { color } => svg.circle(x + 6.0, middle, 5.0, &format!("fill=\"{color}\"")),
            Swatch::Box { attributes } => svg.rect(x, middle - 6.0, mark, 12.0, attributes),
        }
        svg.text(Text::new(x + mark + 6.0, middle + TICK * 0.36, TICK, &name));
        x += width;
    }
    if entries.is_empty() { 0.0 } else { y + ROW + 4.0 - top }
}

/// Attributes of a line of data, of this width in pixels.
pub(super) fn stroke(color: &str, dashed: bool, width: f64) -> String {
    let dash = if dashed { " stroke-dasharray=\"7 4\"" } else { "" };
    format!("stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\" stroke-linecap=\"butt\"{dash}")
}

/// The rectangle that the data occupy, in pixels, with its scales.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: Scale,
    pub y: Scale,
}

impl Frame {
    /// Left, top, right, bottom, with half a line of room so that data on the border are drawn whole.
    pub(super) fn window(&self) -> (f64, f64, f64, f64) {
        (self.left - 0.5, self.top - 0.5, self.right + 0.5, self.bottom + 0.5)
    }

    /// About how many labels fit along the axes.
    pub(super) fn tick_counts(&self) -> (usize, usize) {
        // A small frame has short labels.
        let width = self.right - self.left;
        ((width / 90.0).max((width / 45.0).min(4.0)) as usize, rows(self.bottom - self.top))
    }

    /// The grid, behind the data.
    pub(super) fn grid(&self, svg: &mut Svg) {
        let (nx, ny) = self.tick_counts();
        for tick in self.x.ticks(nx) {
            let x = self.x.at(tick.value);
            svg.rule((x, self.top), (x, self.bottom), false);
        }
        for tick in self.y.ticks(ny) {
            let y = self.y.at(tick.value);
            svg.rule((self.left, y), (self.right, y), false);
        }
    }

    /// The axes with ticks, tick labels and names. Returns the height used below the frame. Without `with_x` the axis along the bottom
    /// has ticks but no text, as its text stands below another frame.
    pub(super) fn axes(&self, svg: &mut Svg, x_label: &str, y_label: &str, with_x: bool) -> f64 {
        let (nx, ny) = self.tick_counts();
        svg.rule((self.left, self.bottom), (self.right, self.bottom), true);
        svg.rule((self.left, self.top), (self.left, self.bottom), true);
        for x in self.x.minor_ticks().iter().map(|v| self.x.at(*v)) {
            svg.rule((x, self.bottom), (x, self.bottom + 3.0), true);
        }
        for y in self.y.minor_ticks().iter().map(|v| self.y.at(*v)) {
            svg.rule((self.left, y), (self.left - 3.0, y), true);
        }
        for tick in self.x.ticks(nx) {
            let x = self.x.at(tick.value);
            svg.rule((x, self.bottom), (x, self.bottom + 5.0), true);
            if with_x {
                tick_label(svg, &tick, x, self.bottom + 8.0 + TICK, Anchor::Middle);
            }
        }
        for tick in self.y.ticks(ny) {
            let y = self.y.at(tick.value);
            svg.rule((self.left, y), (self.left - 5.0, y), true);
            tick_label(svg, &tick, self.left - 9.0, y + TICK * 0.36, Anchor::End);
        }
        if !y_label.is_empty() {
            let label = fit(y_label, LABEL, self.bottom - self.top + 40.0);
            let x = BORDER + LABEL * 0.8;
            svg.text(Text::new(x, (self.top + self.bottom) / 2.0, LABEL, &label).anchor(Anchor::Middle).turned());
        }
        if !with_x {
            return 8.0;
        }
        let ticks = 12.0 + TICK;
        if x_label.is_empty() {
            return ticks;
        }
        let label = fit(x_label, LABEL, self.right - self.left + 40.0);
        svg.text(Text::new((self.left + self.right) / 2.0, self.bottom + ticks + LABEL + 4.0, LABEL, &label).anchor(Anchor::Middle));
        ticks + LABEL + 8.0
    }
}

/// About how many tick labels fit above each other in a frame of this height.
pub(super) fn rows(height: f64) -> usize {
    (height / 55.0).round() as usize
}

/// The room that the labels of a vertical axis need left of the frame.
pub(super) fn left_margin(ticks: &[Tick], y_label: &str) -> f64 {
    let widest = ticks.iter().map(tick_width).fold(0.0, f64::max);
    BORDER + widest + 12.0 + if y_label.is_empty() { 0.0 } else { LABEL + 8.0 }
}

fn tick_width(tick: &Tick) -> f64 {
    text_width(&tick.text, TICK) + tick.exponent.map_or(0.0, |e| text_width(&num(e.into()), TICK * 0.75))
}

fn tick_label(svg: &mut Svg, tick: &Tick, x: f64, y: f64, anchor: Anchor) {
    svg.text(Text::new(x, y, TICK, &tick.text).anchor(anchor).soft().exponent(tick.exponent));
}
