//! Metrics as a person reads them: each is described once, in a table of its family.

/// A metric of a family: how its values are shown.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in `metrics.jsonl`, after the prefix of its [`MetricGroup`]. It ends in its unit where it has one: `rate_nats`.
    pub name: &'static str,
    /// Its name in the results.
    pub title: &'static str,
    /// A remark that readers need: what is averaged, and over which data.
    pub note: &'static str,
    digits: Digits,
    shown: Shown,
    headline: bool,
    unless: Option<&'static str>,
}

/// The digits that are shown.
#[derive(Debug, Clone, Copy)]
enum Digits {
    /// Four or five.
    Short,
    /// So many after the point.
    Fixed(usize),
    /// As a percentage, with two after the point.
    Percent,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    InResults,
    InFiles,
}

impl Metric {
    /// A metric that the results at the end show.
    pub const fn new(name: &'static str, title: &'static str, note: &'static str) -> Metric {
        Metric { name, title, note, digits: Digits::Short, shown: Shown::InResults, headline: false, unless: None }
    }

    /// A metric that only `metrics.jsonl`, TensorBoard and curves show.
    pub const fn in_files(name: &'static str) -> Metric {
        Metric { shown: Shown::InFiles, ..Metric::new(name, "", "") }
    }

    /// The same, shown in the line about an evaluation too.
    pub const fn headline(self) -> Metric {
        Metric { headline: true, ..self }
    }

    /// The same, left out where there is the metric of this name, which says it better.
    pub const fn unless(self, other: &'static str) -> Metric {
        Metric { unless: Some(other), ..self }
    }

    /// The same, a share that is shown as a percentage.
    pub const fn percent(self) -> Metric {
        Metric { digits: Digits::Percent, ..self }
    }

    /// The same, with so many digits after the point.
    pub const fn fixed(self, digits: usize) -> Metric {
        Metric { digits: Digits::Fixed(digits), ..self }
    }
}

/// Metrics that are measured of several things, whose names begin with a prefix: `test_`, `train_part_`.
#[derive(Debug, Clone, Copy)]
pub struct MetricGroup {
    /// Before the names of the metrics.
    pub prefix: &'static str,
    /// Before their titles.
    pub title: &'static str,
    /// The metrics, in the order in which they are shown.
    pub metrics: &'static [Metric],
}

impl MetricGroup {
    /// Metrics whose names have no prefix.
    pub const fn of(metrics: &'static [Metric]) -> MetricGroup {
        MetricGroup { prefix: "", title: "", metrics }
    }
}

/// One line of a run's results as a person reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricLine {
    /// The metric's title.
    pub name: String,
    /// Its value, with the digits that mean something.
    pub value: String,
    /// Its unit, or nothing.
    pub unit: String,
    /// A remark that readers need: what is averaged, and over which data.
    pub note: String,
}

impl MetricLine {
    /// The line that the name and the value of a metric make by themselves: `test_rate_nats` is the test rate, in nats.
    pub fn of_name(name: &str, value: f64) -> MetricLine {
        let units = ["nats", "bits", "s"];
        let (stem, unit) = units.iter().find_map(|u| Some((name.strip_suffix(u)?.strip_suffix('_')?, *u))).unwrap_or((name, ""));
        MetricLine { name: stem.replace('_', " "), value: short(value), unit: unit.into(), note: String::new() }
    }

    /// Name, value and unit, as part of a line.
    pub fn in_line(&self) -> String {
        [&self.name, &self.value, &self.unit].into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Four or five digits of a number.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if !(1e-3..1e5).contains(&a) => format!("{value:.3e}"),
        a if a < 10.0 => format!("{value:.4}"),
        a if a < 1000.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// The lines that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    Results,
    Headline,
}

/// The lines of these values, in the order of the groups, each changed by `refine`; in results, metrics that no group describes come last.
pub(super) fn lines(
    wanted: Lines,
    groups: &[MetricGroup],
    values: &[(String, f64)],
    refine: impl Fn(&str, &mut MetricLine),
) -> Vec<MetricLine> {
    let value = |name: &str| values.iter().find(|(n, _)| n == name).map(|(_, value)| *value);
    let line = |group: &MetricGroup, metric: &Metric| {
        let name = format!("{}{}", group.prefix, metric.name);
        let is_wanted = metric.shown == Shown::InResults && (wanted == Lines::Results || metric.headline);
        if !is_wanted || metric.unless.is_some_and(|other| value(other).is_some()) {
            return None;
        }
        let value = value(&name)?;
        let plain = MetricLine::of_name(&name, value);
        let (value, unit) = match metric.digits {
            Digits::Short => (plain.value, plain.unit),
            Digits::Fixed(digits) => (format!("{value:.digits$}"), plain.unit),
            Digits::Percent => (format!("{:.2}", 100.0 * value), "%".into()),
        };
        let mut line = MetricLine { name: format!("{}{}", group.title, metric.title), value, unit, note: metric.note.into() };
        refine(&name, &mut line);
        Some(line)
    };
    let known = groups.iter().flat_map(|group| group.metrics.iter().filter_map(move |metric| line(group, metric)));
    let is_described =
        |name: &str| groups.iter().any(|g| name.strip_prefix(g.prefix).is_some_and(|n| g.metrics.iter().any(|m| m.name == n)));
    let others = values.iter().filter(|(name, _)| wanted == Lines::Results && !is_described(name));
    known.chain(others.map(|(name, value)| MetricLine::of_name(name, *value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &[MetricGroup] = &[
        MetricGroup {
            prefix: "test_",
            title: "test: ",
            metrics: &[Metric::new("error", "error", "of all").percent().headline(), Metric::new("rate_nats", "rate", "").fixed(1)],
        },
        MetricGroup::of(&[Metric::in_files("norm"), Metric::new("loss", "loss", "").unless("test_error").headline()]),
    ];

    fn shown(wanted: Lines, values: &[(&str, f64)]) -> Vec<String> {
        let values: Vec<(String, f64)> = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        lines(wanted, GROUPS, &values, |name, line| line.note += if name == "test_rate_nats" { "refined" } else { "" })
            .iter()
            .map(|line| format!("{}|{}", line.in_line(), line.note))
            .collect()
    }

    #[test]
    fn tables_say_what_is_shown_where_and_how() {
        let values = [("loss", 2.0), ("norm", 3.0), ("test_rate_nats", 1.26), ("test_error", 0.125), ("own_thing_bits", 7.0)];
        assert_eq!(shown(Lines::Results, &values), ["test: error 12.50 %|of all", "test: rate 1.3 nats|refined", "own thing 7.0000 bits|"]);
        assert_eq!(shown(Lines::Headline, &values), ["test: error 12.50 %|of all"]);
        assert_eq!(shown(Lines::Headline, &values[..2]), ["loss 2.0000|"]);
    }
}
