//! Axes as a caller describes them, the mapping from data to pixels, and where ticks go.

/// An axis of a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    /// The quantity, with its unit: "rate (nats)".
    pub label: String,
    /// Equal distances are equal ratios; values at or below 0 are left out.
    pub log: bool,
    /// First and last value; otherwise taken from the data.
    pub range: Option<(f64, f64)>,
    /// The axis starts at 0 if no value is below. Ignored on a logarithmic axis.
    pub from_zero: bool,
}

impl Axis {
    /// A linear axis over the range of the data.
    pub fn linear(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), ..Axis::default() }
    }

    /// A logarithmic axis over the range of the data.
    pub fn log(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), log: true, ..Axis::default() }
    }

    /// This axis from one value to another.
    pub fn range(mut self, first: f64, last: f64) -> Axis {
        self.range = Some((first, last));
        self
    }

    /// This axis starting at 0 where the data allow it.
    pub fn from_zero(mut self) -> Axis {
        self.from_zero = true;
        self
    }

    /// The value if it can be drawn on this axis. Numbers beyond 1e300 are left out, as differences of them overflow.
    pub(super) fn usable(&self, value: f64) -> Option<f64> {
        (value.abs() < 1e300 && (!self.log || value > 1e-300)).then_some(value)
    }

    /// The smallest and the largest drawable value.
    pub(super) fn extent(&self, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
        values.filter_map(|v| self.usable(v)).fold(None, |range, v| match range {
            None => Some((v, v)),
            Some((lo, hi)) => Some((lo.min(v), hi.max(v))),
        })
    }
}

/// The label of a tick: a plain number, or one with a power of ten.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub value: f64,
    pub text: String,
    pub exponent: Option<i32>,
}

/// Maps values to pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    log: bool,
    /// Ends of the axis, in logarithms if `log`.
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// The scale of an axis for data of this extent. `pad` widens it by a part of its length, and a linear one then to the next tick
    /// if that is near, so that lines do not touch the frame.
    pub(super) fn new(axis: &Axis, extent: Option<(f64, f64)>, pad: f64, (from, to): (f64, f64)) -> Scale {
        let given = axis.range.and_then(|(a, b)| Some((axis.usable(a.min(b))?, axis.usable(a.max(b))?)));
        let (lo, hi) = given.or(extent).unwrap_or(if axis.log { (1.0, 10.0) } else { (0.0, 1.0) });
        let (mut lo, mut hi) = if axis.log { (lo.log10(), hi.log10()) } else { (lo, hi) };
        let magnitude = lo.abs().max(hi.abs());
        if hi - lo <= magnitude * 1e-9 || hi - lo < 1e-290 {
            // One value: in the middle of an axis that is as long as the value is large.
            let half = if axis.log || magnitude < 1e-290 { 0.5 } else { magnitude * 0.5 };
            (lo, hi) = (lo - half, hi + half);
        } else if given.is_none() {
            let zero = !axis.log && axis.from_zero && lo >= 0.0;
            let margin = pad * (hi - lo);
            let floor = if zero || (!axis.log && lo == 0.0 && pad > 0.0) { 0.0 } else { lo - margin };
            (lo, hi) = (floor, hi + margin);
        }
        Scale { log: axis.log, lo, hi, from, to }
    }

    /// The pixel of a drawable value. Far outside the axis it stops at a hundred lengths away.
    pub(super) fn at(&self, value: f64) -> f64 {
        let t = if self.log { value.log10() } else { value };
        let part = ((t - self.lo) / (self.hi - self.lo)).clamp(-100.0, 100.0);
        self.from + part * (self.to - self.from)
    }

    /// The ends, in data units.
    pub(super) fn ends(&self) -> (f64, f64) {
        if self.log { (10f64.powf(self.lo), 10f64.powf(self.hi)) } else { (self.lo, self.hi) }
    }

    /// About `target` ticks: multiples of 1, 2 or 5 times a power of ten; on a logarithmic axis powers of ten, or 1, 2, 5 times those
    /// where the axis is shorter than two decades.
    pub(super) fn ticks(&self, target: usize) -> Vec<Tick> {
        let target = target.max(2);
        if !self.log {
            return linear_ticks(self.lo, self.hi, target);
        }
        let slack = 1e-9 * (self.hi - self.lo);
        let (first, last) = ((self.lo - slack).ceil() as i32, (self.hi + slack).floor() as i32);
        let decades = last - first + 1;
        if self.hi - self.lo < 0.7 {
            let (lo, hi) = self.ends();
            return linear_ticks(lo, hi, target);
        }
        if self.hi - self.lo < 2.0 {
            let values = (first - 1..=last).flat_map(|d| [1.0f64, 2.0, 5.0].map(|m| (m, d)));
            return values
                .filter(|(m, d)| (self.lo - slack..=self.hi + slack).contains(&(m.log10() + f64::from(*d))))
                .map(|(m, d)| {
                    let value = m * 10f64.powi(d);
                    match d {
                        -3..=3 => Tick { value, text: decimal(value, (-d).max(0) as usize), exponent: None },
                        _ => Tick { value, text: format!("{m:.0}·10"), exponent: Some(d) },
                    }
                })
                .collect();
        }
        let every = (decades as usize).div_ceil(target + 1) as i32;
        let short = first >= -2 && last <= 3;
        (first..=last)
            .filter(|d| d.rem_euclid(every) == 0)
            .map(|d| {
                let value = 10f64.powi(d);
                let plain = short || d == 0;
                let text = if plain { decimal(value, (-d).max(0) as usize) } else { "10".into() };
                Tick { value, text, exponent: (!plain).then_some(d) }
            })
            .collect()
    }

    /// Small ticks between those with labels: 2 to 9 times the powers of ten, or the powers that have no label. None on a linear axis.
    pub(super) fn minor_ticks(&self) -> Vec<f64> {
        let length = self.hi - self.lo;
        if !self.log || length > 40.0 {
            return Vec::new();
        }
        let within = |v: &f64| (self.lo..=self.hi).contains(&v.log10());
        let decades = (self.lo.floor() as i32)..=(self.hi.ceil() as i32);
        let steps = if length > 7.0 { 1..=1 } else { 1..=9 };
        decades.flat_map(|d| steps.clone().map(move |m| f64::from(m) * 10f64.powi(d))).filter(within).collect()
    }
}

/// The one of 1, 2, 5 times a power of ten whose ratio to `span / target` is nearest to 1, as (factor, power).
fn nice_step(span: f64, target: usize) -> (f64, i32) {
    let raw = span / target as f64;
    let mut power = raw.log10().floor() as i32;
    let mantissa = raw / 10f64.powi(power);
    let factor = match mantissa {
        m if m < 1.42 => 1.0,
        m if m < 3.16 => 2.0,
        m if m < 7.07 => 5.0,
        _ => {
            power += 1;
            1.0
        }
    };
    (factor, power)
}

fn linear_ticks(lo: f64, hi: f64, target: usize) -> Vec<Tick> {
    let (factor, power) = nice_step(hi - lo, target);
    let step = factor * 10f64.powi(power);
    if step <= 0.0 || !step.is_finite() {
        return Vec::new();
    }
    let first = (lo / step - 1e-9).ceil();
    let values: Vec<f64> = (0..50).map(|i| first + f64::from(i)).take_while(|k| *k <= hi / step + 1e-9).map(|k| k * step).collect();
    let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let decimals = (-power).max(0) as usize;
    let multiple = |unit: f64| values.iter().all(|v| (v / unit - (v / unit).round()).abs() < 1e-6);
    values
        .iter()
        .map(|&value| {
            if largest >= 1e10 || (decimals > 4 && largest < 1e-2) {
                // One power of ten for the whole axis, so that the numbers can be compared.
                let exponent = largest.log10().floor() as i32;
                let digits = (exponent - power).max(0) as usize;
                if value == 0.0 {
                    return Tick { value, text: "0".into(), exponent: None };
                }
                Tick { value, text: format!("{}·10", decimal(value / 10f64.powi(exponent), digits)), exponent: Some(exponent) }
            } else {
                let text = match largest {
                    l if l >= 1e7 && multiple(1e5) => with_suffix(value, 1e6, "M"),
                    l if l >= 1e4 && multiple(1e2) => with_suffix(value, 1e3, "k"),
                    _ => decimal(value, decimals),
                };
                Tick { value, text, exponent: None }
            }
        })
        .collect()
}

fn with_suffix(value: f64, unit: f64, suffix: &str) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let text = format!("{}", (value / unit * 10.0).round() / 10.0);
    format!("{}{suffix}", text.replace('-', "\u{2212}"))
}

/// A number with this many decimals and a true minus sign, never "-0".
pub(super) fn decimal(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.into(),
        Some(rest) => format!("\u{2212}{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis, lo: f64, hi: f64) -> Vec<String> {
        let ticks = Scale::new(axis, Some((lo, hi)), 0.0, (0.0, 100.0)).ticks(5);
        ticks.into_iter().map(|t| t.text + &t.exponent.map_or(String::new(), |e| format!("^{e}"))).collect()
    }

    #[test]
    fn linear_ticks_are_round_numbers() {
        let axis = Axis::linear("");
        assert_eq!(texts(&axis, 0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&axis, -3.0, 7.0), ["−2", "0", "2", "4", "6"]);
        assert_eq!(texts(&axis, 0.0, 60_000.0), ["0", "10k", "20k", "30k", "40k", "50k", "60k"]);
        assert_eq!(texts(&axis, 0.0, 1e-6), ["0", "0.2·10^-6", "0.4·10^-6", "0.6·10^-6", "0.8·10^-6", "1.0·10^-6"]);
        assert_eq!(texts(&axis, 98.71, 98.74), ["98.710", "98.715", "98.720", "98.725", "98.730", "98.735", "98.740"]);
        assert_eq!(texts(&axis, -2e7, 2e7), ["−20M", "−10M", "0", "10M", "20M"]);
    }

    #[test]
    fn log_ticks_are_decades() {
        let axis = Axis::log("");
        assert_eq!(texts(&axis, 1e-9, 1.0), ["10^-8", "10^-6", "10^-4", "10^-2", "1"]);
        assert_eq!(texts(&axis, 0.011, 100.0), ["0.1", "1", "10", "100"]);
        assert_eq!(texts(&axis, 0.4, 6.0), ["0.5", "1", "2", "5"]);
        assert_eq!(Scale::new(&axis, Some((1.0, 100.0)), 0.0, (0.0, 1.0)).minor_ticks().len(), 19);
    }

    #[test]
    fn odd_ranges_give_finite_scales() {
        let wild =
            [(0.0, 0.0), (5.0, 5.0), (-3.0, -3.0), (1e299, 1e299), (-9e299, 9e299), (1e-310, 2e-310), (1e16, 1e16 + 2.0), (0.0, 5e-324)];
        for (lo, hi) in wild {
            for axis in [Axis::linear(""), Axis::log(""), Axis::linear("").from_zero(), Axis::linear("").range(f64::NAN, 1.0)] {
                let extent = axis.extent([lo, hi].into_iter());
                let scale = Scale::new(&axis, extent, 0.05, (0.0, 100.0));
                let ticks = scale.ticks(5);
                assert!(ticks.len() <= 50 && ticks.iter().all(|t| scale.at(t.value).is_finite()), "{lo} {hi} {ticks:?}");
                assert!(scale.at(1.0).is_finite() && scale.minor_ticks().iter().all(|v| scale.at(*v).is_finite()));
            }
        }
        assert_eq!(Axis::log("").extent([f64::NAN, -1.0, 0.0, f64::INFINITY].into_iter()), None);
    }
}
