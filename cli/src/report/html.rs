//! The report of a run: one HTML file that needs nothing else, not even a network.

use std::path::Path;

use strait::Result;
use strait::plot::markup::{base64, escape};
use strait::plot::{Drawing, Example, Item};

const CSS: &str = include_str!("html.css");

/// A report under construction; its parts appear in the order in which they are added, after the key numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    title: String,
    subtitle: String,
    keys: Vec<[String; 4]>,
    body: String,
    config: Option<String>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(title: impl Into<String>) -> Report {
        Report { title: title.into(), ..Report::default() }
    }

    /// The line below the title.
    pub(crate) fn subtitle(&mut self, text: impl Into<String>) -> &mut Report {
        self.subtitle = text.into();
        self
    }

    /// A row of the table of key numbers; `value` is printed as the caller wants it read.
    pub(crate) fn key(&mut self, name: &str, value: &str, unit: &str, note: &str) -> &mut Report {
        self.keys.push([name, value, unit, note].map(str::to_owned));
        self
    }

    /// Starts a section.
    pub(crate) fn heading(&mut self, text: &str) -> &mut Report {
        self.push(format!("<h2>{}</h2>", escape(text)))
    }

    /// A paragraph of text.
    pub(crate) fn paragraph(&mut self, text: &str) -> &mut Report {
        self.push(format!("<p>{}</p>", escape(text)))
    }

    /// A chart of [`strait::plot::svg`] with a caption. The SVG goes into the page as it is: it must be trusted.
    pub(crate) fn svg(&mut self, svg: &str, caption: &str) -> &mut Report {
        self.push(format!("<figure>\n{}{}</figure>", svg, figcaption(caption)))
    }

    /// A picture, given as the bytes of a PNG file, with a caption.
    pub(crate) fn png(&mut self, png: &[u8], caption: &str) -> &mut Report {
        self.push(format!("<figure>{}{}</figure>", image(png, caption), figcaption(caption)))
    }

    /// Pictures of one thing over time, each as the bytes of a PNG file with a few words.
    pub(crate) fn strip<'a>(&mut self, pictures: impl IntoIterator<Item = (&'a [u8], &'a str)>, caption: &str) -> &mut Report {
        let mut out = String::from("<figure><div class=\"gallery strip\">\n");
        for (png, text) in pictures {
            out += &format!("<figure>{}{}</figure>\n", image(png, text), figcaption(text));
        }
        self.push(out + "</div>" + &figcaption(caption) + "</figure>")
    }

    /// Charts of [`strait::plot::svg`] side by side, as [`Report::svg`] takes them.
    pub(crate) fn charts<'a>(&mut self, charts: impl IntoIterator<Item = &'a str>, caption: &str) -> &mut Report {
        let charts: String = charts.into_iter().map(|svg| format!("<figure>\n{svg}</figure>\n")).collect();
        self.push(format!("<figure><div class=\"gallery charts\">\n{charts}</div>{}</figure>", figcaption(caption)))
    }

    /// A table. Columns whose entries all start like a number are aligned right; short rows are filled with blanks.
    pub(crate) fn table(&mut self, headers: &[&str], rows: &[Vec<String>], caption: &str) -> &mut Report {
        let numeric = |column: usize| {
            let mut entries = rows.iter().filter_map(|r| r.get(column)).filter(|e| !e.is_empty()).peekable();
            entries.peek().is_some()
                && entries
                    .all(|e| e.trim_start_matches(['-', '−', '+', '±', '<', '–']).starts_with(|c: char| c.is_ascii_digit()) || e == "–")
        };
        let classes: Vec<&str> = (0..headers.len()).map(|c| if numeric(c) { " class=\"n\"" } else { "" }).collect();
        let mut out = String::from("<div class=\"scroll\"><table>");
        if !caption.is_empty() {
            out += &format!("<caption>{}</caption>", escape(caption));
        }
        out += "<thead><tr>";
        headers.iter().zip(&classes).for_each(|(h, class)| out += &format!("<th{class}>{}</th>", escape(h)));
        out += "</tr></thead><tbody>\n";
        for row in rows {
            out += "<tr>";
            for (column, class) in classes.iter().enumerate() {
                out += &format!("<td{class}>{}</td>", escape(row.get(column).map_or("", String::as_str)));
            }
            out += "</tr>\n";
        }
        self.push(out + "</tbody></table></div>")
    }

    /// Examples the model got wrong: each image with "true → predicted" and the probability.
    pub(crate) fn examples(&mut self, examples: &[Example], caption: &str) -> &mut Report {
        let mut out = String::from("<figure><div class=\"gallery\">\n");
        for e in examples {
            let (truth, predicted) = (escape(&e.truth), escape(&e.predicted));
            let picture = image(&e.png, &format!("{} taken for {}", e.truth, e.predicted));
            let probability = if e.probability.is_finite() { format!("{:.1} %", 100.0 * e.probability) } else { "–".into() };
            out += &format!(
                "<figure>{picture}<figcaption><b>{truth}</b> → <b class=\"wrong\">{predicted}</b><br>{probability}</figcaption></figure>\n"
            );
        }
        self.push(out + "</div>" + &figcaption(caption) + "</figure>")
    }

    /// Everything that a drawing shows, in its order.
    pub(crate) fn drawing(&mut self, drawing: &Drawing) -> &mut Report {
        for item in drawing.items() {
            match item {
                Item::Heading(text) => self.heading(text),
                Item::Note(text) => self.paragraph(text),
                Item::Chart { svg, caption, .. } => self.svg(svg, caption),
                Item::Picture { png, caption, .. } => self.png(png, caption),
                Item::Strip { pictures, caption } => self.strip(pictures.iter().map(|p| (&p.png[..], &p.label[..])), caption),
                Item::Planes { planes, caption } => self.charts(planes.iter().map(|plane| &plane.svg[..]), caption),
                Item::Examples { examples, caption } => self.examples(examples, caption),
                Item::File { .. } => self,
            };
        }
        self
    }

    /// The resolved configuration of the run, folded away at the end of the report.
    pub(crate) fn config(&mut self, text: impl Into<String>) -> &mut Report {
        self.config = Some(text.into());
        self
    }

    fn push(&mut self, part: String) -> &mut Report {
        self.body += &part;
        self.body.push('\n');
        self
    }

    /// The whole page.
    pub(crate) fn render(&self) -> String {
        let title = escape(&self.title);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n"
        );
        if !self.subtitle.is_empty() {
            out += &format!("<p class=\"subtitle\">{}</p>\n", escape(&self.subtitle));
        }
        out += "</header>\n";
        if !self.keys.is_empty() {
            out += "<div class=\"scroll\"><table class=\"keys\"><tbody>\n";
            for [name, value, unit, note] in self.keys.iter().map(|row| row.each_ref().map(|text| escape(text))) {
                out += &format!(
                    "<tr><td>{name}</td><td class=\"n\">{value}</td><td class=\"unit\">{unit}</td><td class=\"note\">{note}</td></tr>\n"
                );
            }
            out += "</tbody></table></div>\n";
        }
        out += &self.body;
        if let Some(config) = &self.config {
            out += &format!("<details><summary>Configuration of this run</summary><pre>{}</pre></details>\n", escape(config));
        }
        out + "</main>\n</body>\n</html>\n"
    }

    /// Writes the page; a reader sees the old file or the new one, never a part.
    ///
    /// # Errors
    /// The operating system refused.
    pub(crate) fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        strait::io::atomic::write_atomic_bytes(path.as_ref(), self.render().as_bytes())
    }
}

fn figcaption(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<figcaption>{}</figcaption>", escape(text)) }
}

fn image(png: &[u8], alternative: &str) -> String {
    format!("<img alt=\"{}\" src=\"data:image/png;base64,{}\">", escape(alternative), base64(png))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::check::markup;
    use strait::plot::svg::{Axis, LineChart};

    #[test]
    fn everything_is_escaped_and_inside_the_file() {
        let evil = "<script>\"'&";
        let mut report = Report::new(evil);
        report.subtitle(evil).key(evil, evil, evil, evil).heading(evil).paragraph(evil).png(b"png", evil).config(evil);
        report.table(&[evil, "n"], &[vec![evil.into(), "-1".into()], vec!["short".into()]], evil);
        report.svg(&LineChart::new(evil, Axis::linear(evil), Axis::log(evil)).render(), evil);
        report.strip([(&[1, 2][..], evil)], evil).charts([&LineChart::default().render()[..]], evil);
        let example = Example { png: vec![1, 2, 3], truth: evil.into(), predicted: evil.into(), probability: f64::NAN };
        report.examples(&[example.clone(), Example { probability: 0.5, ..example }], evil);
        let page = report.render();
        markup(&page.replace(CSS, ""));
        assert!(!page.contains("<script") && !page.contains("href=") && !page.contains("src=\"http"));
        assert!(
            page.contains("<td class=\"n\">-1</td>") && page.contains("<br>50.0 %<") && page.contains("src=\"data:image/png;base64,AQID\"")
        );
        assert!(page.ends_with("</html>\n"));
        markup(&Report::default().render().replace(CSS, ""));
    }

    #[test]
    fn reports_are_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        Report::new("t").write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), Report::new("t").render());
    }
}
