//! The SVG text itself: elements, colours, and estimates of how wide a text is.

use std::fmt::Write;

use crate::plot::markup::escape;

/// Colours of lines, distinguishable with all common kinds of colour blindness (Okabe and Ito 2008, without
/// its black and yellow, the blue a little lighter so that it reads on a dark page too).
const LINES: [&str; 6] = ["#1a7fc1", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Colours of classes: the ten-colour cycle of Petroff 2021 (arXiv:2107.02270), optimised for colour blindness.
const CLASSES: [&str; 10] = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];

/// Blue for what is right, vermilion for what is wrong.
pub(super) const RIGHT: &str = LINES[0];
pub(super) const WRONG: &str = LINES[1];

/// The colour of the series with this index.
pub(super) fn line_color(index: usize) -> String {
    LINES.get(index).map_or_else(|| class_color(index + CLASSES.len()), |c| (*c).into())
}

/// The colour of the class with this index; beyond ten, hues a golden angle apart.
pub(super) fn class_color(index: usize) -> String {
    let hue = index as f64 * 137.508 % 360.0;
    CLASSES.get(index).map_or_else(|| format!("hsl({hue:.0},{}%,{}%)", 50 + index % 3 * 15, 42 + index % 2 * 14), |c| (*c).into())
}

/// Fonts of the common systems, in order of preference.
const FONT: &str = "Inter,'Helvetica Neue',Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif";

/// Attributes carry the light colours, so that viewers without CSS show those; the style sheet only overrides them for the dark.
/// Class names are prefixed, as the style sheet of an SVG inside HTML applies to the whole page.
const STYLE: &str = "<style>@media (prefers-color-scheme:dark){.sc-bg{fill:#14181d}.sc-ink{fill:#e6e9ed}.sc-soft{fill:#a3adb8}\
.sc-grid{stroke:#2b323a}.sc-axis{stroke:#67727e}.sc-halo{stroke:#14181d}.sc-pale{fill:#232a32}}</style>";

/// The look of an element that follows the theme.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    /// Main text.
    Text,
    /// Tick labels and notes.
    Soft,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text to be placed: where, how large, and how.
#[derive(Debug, Clone)]
pub(super) struct Text<'a> {
    content: &'a str,
    x: f64,
    y: f64,
    size: f64,
    anchor: Anchor,
    ink: Ink,
    fill: Option<&'a str>,
    bold: bool,
    halo: bool,
    turned: bool,
    exponent: Option<i32>,
}

impl<'a> Text<'a> {
    /// A text whose baseline starts at (x, y).
    pub(super) fn new(x: f64, y: f64, size: f64, content: &'a str) -> Text<'a> {
        Text {
            content,
            x,
            y,
            size,
            anchor: Anchor::Start,
            ink: Ink::Text,
            fill: None,
            bold: false,
            halo: false,
            turned: false,
            exponent: None,
        }
    }
    pub(super) fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }
    pub(super) fn soft(mut self) -> Self {
        self.ink = Ink::Soft;
        self
    }
    pub(super) fn fill(mut self, color: &'a str) -> Self {
        self.fill = Some(color);
        self
    }
    pub(super) fn bold(mut self) -> Self {
        self.bold = true;
        self
    }
    /// An outline in the colour of the background, to stay readable over data.
    pub(super) fn halo(mut self) -> Self {
        self.halo = true;
        self
    }
    /// Reads upwards.
    pub(super) fn turned(mut self) -> Self {
        self.turned = true;
        self
    }
    pub(super) fn exponent(mut self, exponent: Option<i32>) -> Self {
        self.exponent = exponent;
        self
    }
}

/// A picture being drawn. Coordinates are pixels from the upper left.
pub(super) struct Svg {
    body: String,
    width: f64,
    label: String,
}

impl Svg {
    pub(super) fn new(width: f64, label: &str) -> Svg {
        Svg { body: String::new(), width, label: label.into() }
    }

    /// Adds an element as it is; the caller has escaped what needs it.
    pub(super) fn raw(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    pub(super) fn text(&mut self, t: Text) {
        let mut attributes = match (t.fill, t.ink) {
            (Some(color), _) => format!("fill=\"{color}\""),
            (None, Ink::Text) => "class=\"sc-ink\" fill=\"#1f2933\"".into(),
            (None, Ink::Soft) => "class=\"sc-soft\" fill=\"#566270\"".into(),
        };
        match t.anchor {
            Anchor::Start => {}
            Anchor::Middle => attributes += " text-anchor=\"middle\"",
            Anchor::End => attributes += " text-anchor=\"end\"",
        }
        if t.bold {
            attributes += " font-weight=\"600\"";
        }
        let (x, y) = (num(t.x), num(t.y));
        if t.turned {
            attributes += &format!(" transform=\"rotate(-90 {x} {y})\"");
        }
        let content = escape(t.content);
        let raised = t.exponent.map_or(String::new(), |e| {
            let sign = if e < 0 { "\u{2212}" } else { "" };
            format!("<tspan dy=\"{}\" font-size=\"{}\">{sign}{}</tspan>", num(-0.4 * t.size), num(0.75 * t.size), e.unsigned_abs())
        });
        let head = format!("x=\"{x}\" y=\"{y}\" font-size=\"{}\"", num(t.size));
        if t.halo {
            // A second copy underneath rather than paint-order, which not every viewer knows.
            let outline = attributes.replace("class=\"sc-ink\"", "").replace("class=\"sc-soft\"", "");
            let line = "class=\"sc-halo\" stroke=\"#ffffff\" stroke-width=\"4\" stroke-linejoin=\"round\"";
            let _ = writeln!(self.body, "<text {head} {outline} {line} aria-hidden=\"true\">{content}{raised}</text>");
        }
        let _ = writeln!(self.body, "<text {head} {attributes}>{content}{raised}</text>");
    }

    /// A line of the grid or of an axis, in the colours of the theme.
    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64), strong: bool) {
        let class = if strong { "class=\"sc-axis\" stroke=\"#8a96a3\"" } else { "class=\"sc-grid\" stroke=\"#e3e7ec\"" };
        let _ =
            writeln!(self.body, "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {class}/>", num(from.0), num(from.1), num(to.0), num(to.1));
    }

    /// A rectangle with these further attributes. Empty ones are left out.
    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, attributes: &str) {
        if width > 0.0 && height > 0.0 {
            let (x, y, width, height) = (num(x), num(y), num(width), num(height));
            let _ = writeln!(self.body, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {attributes}/>");
        }
    }

    /// An open line through these points.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], attributes: &str) {
        let _ = writeln!(self.body, "<path d=\"{}\" fill=\"none\" {attributes}/>", path(points));
    }

    /// A closed area within these points.
    pub(super) fn polygon(&mut self, points: &[(f64, f64)], attributes: &str) {
        let _ = writeln!(self.body, "<path d=\"{}Z\" {attributes}/>", path(points));
    }

    pub(super) fn circle(&mut self, x: f64, y: f64, radius: f64, attributes: &str) {
        let _ = writeln!(self.body, "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" {attributes}/>", num(x), num(y), num(radius));
    }

    /// The whole `<svg>` element, of this height.
    pub(super) fn finish(self, height: f64) -> String {
        let (width, height, label) = (num(self.width), num(height), escape(&self.label));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             font-family=\"{FONT}\" aria-label=\"{label}\">\n{STYLE}\n\
             <rect class=\"sc-bg\" width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut out = String::with_capacity(points.len() * 12);
    for (i, (x, y)) in points.iter().enumerate() {
        out.push(if i == 0 { 'M' } else { 'L' });
        let _ = write!(out, "{} {}", num(*x), num(*y));
    }
    out
}

/// A coordinate with at most two decimals. What is not finite becomes 0, so that a mistake shows but does not break the file.
pub(super) fn num(value: f64) -> String {
    let rounded = if value.is_finite() { (value * 100.0).round() / 100.0 } else { 0.0 };
    format!("{}", rounded + 0.0)
}

/// About how wide a text is, in pixels; on the wide side for most sans-serif fonts.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '(' | ')' | '[' | ']' | ' ' => 0.36,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
            'A'..='Z' | '&' | '=' | '+' | '<' | '>' => 0.70,
            c if c.is_ascii() => 0.59,
            c if (c as u32) < 0x2E80 => 0.66,
            _ => 1.05,
        })
        .sum();
    em * size
}

/// The text, or as much of its start as fits, with an ellipsis.
pub(super) fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if text_width(&out, size) + size > width {
            out.pop();
            break;
        }
    }
    out.truncate(out.trim_end().len());
    out + "…"
}

/// The text broken at spaces into lines that fit; a single long word is cut.
pub(super) fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + 0.36 * size <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fit(word, size, width)),
        }
    }
    lines
}

/// The pieces of a line through these points that lie within the rectangle (left, top, right, bottom); by Liang and Barsky 1984.
pub(super) fn clip(points: &[(f64, f64)], (left, top, right, bottom): (f64, f64, f64, f64)) -> Vec<Vec<(f64, f64)>> {
    let mut out: Vec<Vec<(f64, f64)>> = Vec::new();
    let inside = |p: &(f64, f64)| p.0 >= left && p.0 <= right && p.1 >= top && p.1 <= bottom;
    if let [only] = points {
        return if inside(only) { vec![vec![*only]] } else { out };
    }
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let (mut enter, mut leave) = (0.0f64, 1.0f64);
        for (p, q) in [(-dx, a.0 - left), (dx, right - a.0), (-dy, a.1 - top), (dy, bottom - a.1)] {
            match p {
                p if p < 0.0 => enter = enter.max(q / p),
                p if p > 0.0 => leave = leave.min(q / p),
                _ if q < 0.0 => leave = -1.0,
                _ => {}
            }
        }
        if enter <= leave {
            let at = |t: f64| {
                if t == 0.0 {
                    a
                } else if t == 1.0 {
                    b
                } else {
                    (a.0 + t * dx, a.1 + t * dy)
                }
            };
            let (start, end) = (at(enter), at(leave));
            match out.last_mut() {
                Some(piece) if piece.last() == Some(&start) => piece.push(end),
                _ => out.push(vec![start, end]),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_always_numbers() {
        assert_eq!(
            [num(1.0), num(-0.001), num(2.345678), num(f64::NAN), num(f64::INFINITY)],
            ["1", "0", "2.35", "0", "0"].map(String::from)
        );
    }

    #[test]
    fn clipping_cuts_at_the_border() {
        let window = (0.0, 0.0, 10.0, 10.0);
        let pieces = clip(&[(-5.0, 5.0), (5.0, 5.0), (5.0, 25.0), (8.0, 5.0), (9.0, 5.0)], window);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0], [(0.0, 5.0), (5.0, 5.0), (5.0, 10.0)]);
        assert!((pieces[1][0].0 - 7.25).abs() < 1e-9 && pieces[1][1..] == [(8.0, 5.0), (9.0, 5.0)]);
        assert!(clip(&[(20.0, 20.0), (30.0, 20.0)], window).is_empty());
        assert!(clip(&[], window).is_empty());
        assert_eq!(clip(&[(1.0, 1.0)], window), [[(1.0, 1.0)]]);
    }

    #[test]
    fn long_texts_are_cut_and_wrapped() {
        assert_eq!(fit("short", 10.0, 100.0), "short");
        let cut = fit(&"long ".repeat(20), 10.0, 100.0);
        assert!(cut.ends_with('…') && text_width(&cut, 10.0) <= 105.0, "{cut}");
        assert_eq!(wrap("one two three", 10.0, 50.0), ["one two", "three"]);
        assert!(wrap("", 10.0, 50.0).is_empty());
    }

    #[test]
    fn colours_never_run_out() {
        let colors: std::collections::BTreeSet<String> = (0..60).map(class_color).collect();
        assert!(colors.len() > 55);
        assert_ne!(line_color(6), line_color(7));
    }
}
