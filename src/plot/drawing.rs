//! The contents of a run's report: headings, notes, charts and pictures in their order, which a program lays out as a page and as files.

use super::svg::{Axis, LineChart, PlaneChart, Series};

/// A metric's name and its points (step, value), in the order of the steps.
pub type Metric = (String, Vec<(f64, f64)>);

/// A picture among others: its file name, the bytes of a PNG file, and a few words.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Name of the file.
    pub file: String,
    /// The picture as the bytes of a PNG file.
    pub png: Vec<u8>,
    /// The label.
    pub label: String,
}

/// A picture of the plane with its axes: the file `NAME.svg`, and its pixels alone the file `NAME.png`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// Name of its files, without the ending.
    pub name: String,
    /// The chart as a complete `<svg>`.
    pub svg: String,
    /// The pixels as the bytes of PNG files; a chart of several panels has several.
    pub pngs: Vec<Vec<u8>>,
}

/// An example that a classifier got wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The image as the bytes of a PNG file.
    pub png: Vec<u8>,
    /// The true class.
    pub truth: String,
    /// The class the model gave.
    pub predicted: String,
    /// The probability it gave that class, from 0 to 1.
    pub probability: f64,
}

/// One thing to show.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The heading of a section that begins here.
    Heading(String),
    /// A paragraph of text.
    Note(String),
    /// A chart of [`crate::plot::svg`].
    Chart {
        /// Name of the file.
        file: String,
        /// The chart as a complete `<svg>`.
        svg: String,
        /// The caption.
        caption: String,
    },
    /// A picture made of pixels.
    Picture {
        /// Name of the file.
        file: String,
        /// The picture as the bytes of a PNG file.
        png: Vec<u8>,
        /// The caption.
        caption: String,
    },
    /// Small pictures side by side.
    Strip {
        /// The pictures from left to right.
        pictures: Vec<Picture>,
        /// The caption of all of them together.
        caption: String,
    },
    /// Pictures of the plane side by side.
    Planes {
        /// The pictures from left to right.
        planes: Vec<Plane>,
        /// The caption of all of them together.
        caption: String,
    },
    /// Examples that a classifier got wrong, side by side.
    Examples {
        /// The examples in their order.
        examples: Vec<Example>,
        /// The caption of all of them together.
        caption: String,
    },
    /// A file that is not shown on a page.
    File {
        /// Name of the file.
        file: String,
        /// The contents of the file.
        bytes: Vec<u8>,
    },
}

impl Item {
    /// The files that this becomes, each as its name and its bytes.
    fn files(&self) -> Vec<(String, &[u8])> {
        match self {
            Item::Heading(_) | Item::Note(_) | Item::Examples { .. } => Vec::new(),
            Item::Chart { file, svg, .. } => vec![(file.clone(), svg.as_bytes())],
            Item::Picture { file, png: bytes, .. } | Item::File { file, bytes } => vec![(file.clone(), bytes)],
            Item::Strip { pictures, .. } => pictures.iter().map(|p| (p.file.clone(), &p.png[..])).collect(),
            Item::Planes { planes, .. } => {
                let mut files = Vec::new();
                for Plane { name, svg, pngs } in planes {
                    files.push((format!("{name}.svg"), svg.as_bytes()));
                    files.extend(pngs.iter().map(|png| (format!("{name}.png"), &png[..])));
                }
                files
            }
        }
    }
}

/// The contents of a run's report, in their order, beside the metrics that curves are drawn from.
#[derive(Debug, Clone, Default)]
pub struct Drawing {
    metrics: Vec<Metric>,
    items: Vec<Item>,
}

impl Drawing {
    /// A drawing of a run with these metrics, with nothing to show yet.
    pub fn new(metrics: Vec<Metric>) -> Drawing {
        Drawing { metrics, items: Vec::new() }
    }

    /// The run's metrics.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// All that is shown, in its order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// All charts and pictures as files, each as its name and its bytes.
    pub fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.items.iter().flat_map(Item::files)
    }

    /// Starts a section.
    pub fn heading(&mut self, text: &str) {
        self.items.push(Item::Heading(text.into()));
    }

    /// Adds a paragraph of text.
    pub fn note(&mut self, text: &str) {
        self.items.push(Item::Note(text.into()));
    }

    /// Adds a chart of [`crate::plot::svg`] with a caption.
    pub fn svg(&mut self, file: &str, svg: &str, caption: &str) {
        self.items.push(Item::Chart { file: file.into(), svg: svg.into(), caption: caption.into() });
    }

    /// Adds a picture, given as the bytes of a PNG file, with a caption.
    pub fn png(&mut self, file: &str, png: &[u8], caption: &str) {
        self.items.push(Item::Picture { file: file.into(), png: png.into(), caption: caption.into() });
    }

    /// Adds small pictures side by side, each as file name, PNG bytes and label.
    pub fn strip(&mut self, pictures: Vec<(&str, Vec<u8>, &str)>, caption: &str) {
        let picture = |(file, png, label): (&str, Vec<u8>, &str)| Picture { file: file.into(), png, label: label.into() };
        self.items.push(Item::Strip { pictures: pictures.into_iter().map(picture).collect(), caption: caption.into() });
    }

    /// Adds pictures of the plane with their axes side by side; each is the file `NAME.svg`, and its pixels alone are `NAME.png`.
    pub fn planes(&mut self, charts: &[(&str, PlaneChart)], caption: &str) {
        let plane = |(name, chart): &(&str, PlaneChart)| Plane {
            name: name.to_string(),
            svg: chart.render(),
            pngs: chart.panels.iter().map(|(_, png)| png.clone()).collect(),
        };
        self.items.push(Item::Planes { planes: charts.iter().map(plane).collect(), caption: caption.into() });
    }

    /// Adds examples that a classifier got wrong.
    pub fn examples(&mut self, examples: Vec<Example>, caption: &str) {
        self.items.push(Item::Examples { examples, caption: caption.into() });
    }

    /// Adds a file that is not shown on a page.
    pub fn file(&mut self, file: &str, bytes: Vec<u8>) {
        self.items.push(Item::File { file: file.into(), bytes });
    }

    /// The points (step, value) of one metric; none if it was not measured.
    pub fn series(&self, metric: &str) -> Vec<(f64, f64)> {
        self.metrics.iter().find(|(name, _)| name == metric).map_or(Vec::new(), |(_, points)| points.clone())
    }

    /// Adds a chart of metrics over the steps, each given as label and name. Without any values there is none.
    ///
    /// Metrics with many values, such as those of single batches, are drawn faintly below their moving average.
    pub fn curve(&mut self, file: &str, title: &str, y: Axis, metrics: &[(&str, &str)], caption: &str) {
        let mut chart = LineChart::new(title, Axis::linear("step"), y);
        for (label, metric) in metrics {
            let mut points = self.series(metric);
            if points.is_empty() {
                // A run that is too short for values of single steps has their means.
                points = self.series(&format!("train_{metric}"));
            }
            let line = Series::new(*label, points);
            chart = match line.points.len() {
                0 => chart,
                1..MANY => chart.with(line),
                _ => chart.with(line.smooth()),
            };
        }
        if !chart.series.is_empty() {
            self.svg(file, &chart.render(), caption);
        }
    }
}

/// The number of values from which a line is smoothed.
const MANY: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_where_there_are_values() {
        let steps = || (1..=3).map(f64::from);
        let metrics = vec![
            ("loss".to_string(), steps().map(|step| (step, 1.0 / step)).collect()),
            ("train_rate".to_string(), steps().map(|step| (step, 2.0)).collect()),
        ];
        let mut drawing = Drawing::new(metrics);
        drawing.curve("loss.svg", "Loss", Axis::linear("nats"), &[("training", "loss"), ("absent", "none")], "caption");
        drawing.curve("none.svg", "None", Axis::linear(""), &[("absent", "none")], "");
        drawing.curve("mean.svg", "Mean", Axis::linear(""), &[("", "rate")], "");
        drawing.png("p.png", b"png", "");
        assert_eq!(drawing.files().map(|(name, _)| name).collect::<Vec<_>>(), ["loss.svg", "mean.svg", "p.png"]);
        let Item::Chart { svg, caption, .. } = &drawing.items()[0] else { panic!("{drawing:?}") };
        assert!(caption == "caption" && svg.contains("Loss") && svg.contains("training") && !svg.contains("absent"));
    }

    #[test]
    fn everything_with_a_name_becomes_a_file() {
        let mut drawing = Drawing::default();
        drawing.heading("heading");
        drawing.note("note");
        drawing.strip(vec![("a.png", vec![1], "a"), ("b.png", vec![2], "b")], "");
        drawing.planes(&[("c", PlaneChart::new("", [0.0, 1.0, 0.0, 1.0], vec![3], 100.0))], "");
        drawing.examples(vec![Example { png: vec![4], truth: "0".into(), predicted: "6".into(), probability: 0.9 }], "");
        drawing.file("d.bin", vec![5]);
        let files: Vec<(String, &[u8])> = drawing.files().collect();
        assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a.png", "b.png", "c.svg", "c.png", "d.bin"]);
        assert!(files[2].1.starts_with(b"<svg") && files[0].1 == [1] && files[3].1 == [3] && files[4].1 == [5]);
        assert_eq!(drawing.items().len(), 6);
    }
}
