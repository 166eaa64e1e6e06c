//! A report being drawn: the page, what was measured, and the pictures that also become files.

use super::html::Report;
use super::metrics::{Record, series};
use super::svg::{Axis, LineChart, PlaneChart, Series};

/// What is handed to whoever adds pictures to a report.
#[derive(Debug, Default)]
pub struct Drawing {
    /// The page.
    pub page: Report,
    /// The run's metrics.
    pub records: Vec<Record>,
    files: Vec<(String, Vec<u8>)>,
}

impl Drawing {
    /// A page with nothing on it yet, about these metrics.
    pub fn new(page: Report, records: Vec<Record>) -> Drawing {
        Drawing { page, records, files: Vec::new() }
    }

    /// A chart of [`crate::report::svg`] with a caption, on the page and as the file `name`.
    pub fn svg(&mut self, name: &str, svg: &str, caption: &str) {
        self.page.svg(svg, caption);
        self.files.push((name.into(), svg.as_bytes().to_vec()));
    }

    /// A picture, given as the bytes of a PNG file, with a caption, on the page and as the file `name`.
    pub fn png(&mut self, name: &str, png: &[u8], caption: &str) {
        self.page.png(png, caption);
        self.files.push((name.into(), png.to_vec()));
    }

    /// Small pictures side by side, each as file name, PNG bytes and label, on the page and as files.
    pub fn strip(&mut self, pictures: Vec<(&str, Vec<u8>, &str)>, caption: &str) {
        let strip: Vec<_> = pictures.iter().map(|(_, png, label)| (png.clone(), label.to_string())).collect();
        self.page.strip(&strip, caption);
        self.files.extend(pictures.into_iter().map(|(name, png, _)| (name.to_string(), png)));
    }

    /// Pictures of the plane with their axes side by side; each as the file `NAME.svg`, and its pixels alone as `NAME.png`.
    pub fn planes(&mut self, charts: &[(&str, PlaneChart)], caption: &str) {
        let drawn: Vec<String> = charts.iter().map(|(_, chart)| chart.render()).collect();
        self.page.charts(&drawn, caption);
        for ((name, chart), svg) in charts.iter().zip(drawn) {
            self.file(&format!("{name}.svg"), svg.into_bytes());
            chart.panels.iter().for_each(|(_, png)| self.file(&format!("{name}.png"), png.clone()));
        }
    }

    /// A file that is not on the page.
    pub fn file(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.push((name.into(), bytes));
    }

    /// The points (step, value) of one metric.
    pub fn series(&self, metric: &str) -> Vec<(f64, f64)> {
        series(&self.records, metric)
    }

    /// A chart of metrics over the steps, each given as label and name. Without any values there is none.
    ///
    /// Metrics with many values, such as those of single batches, are drawn faintly below their moving average.
    pub fn curve(&mut self, name: &str, title: &str, y: Axis, metrics: &[(&str, &str)], caption: &str) {
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
            self.svg(name, &chart.render(), caption);
        }
    }

    /// The page, and the files by name.
    pub fn finish(self) -> (Report, Vec<(String, Vec<u8>)>) {
        (self.page, self.files)
    }
}

/// From so many values on, a line is smoothed.
const MANY: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_where_there_are_values() {
        let records = (1..=3).map(|step| Record::new(step, 1, 0.0).with("loss", 1.0 / step as f64).with("train_rate", 2.0)).collect();
        let mut drawing = Drawing::new(Report::new("t"), records);
        drawing.curve("loss.svg", "Loss", Axis::linear("nats"), &[("training", "loss"), ("absent", "none")], "caption");
        drawing.curve("none.svg", "None", Axis::linear(""), &[("absent", "none")], "");
        drawing.curve("mean.svg", "Mean", Axis::linear(""), &[("", "rate")], "");
        drawing.png("p.png", b"png", "");
        let (page, files) = drawing.finish();
        assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["loss.svg", "mean.svg", "p.png"]);
        let page = page.render();
        assert!(page.contains("caption") && page.contains("Loss") && !page.contains("absent"));
    }
}
