//! Settings that change in the course of training: learning rates, and the weight beta of an information term.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A schedule: a value as a function of its base and the time in training. Time is counted from 0, in the caller's unit (epochs or steps).
///
/// In configurations a table with the key `kind`: `schedule = { kind = "step", factor = 0.97, every = 2 }`, or, from the base to 0 in
/// the course of the run, `{ kind = "linear", to = 0.0 }`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Always the base.
    #[default]
    Constant,
    /// `base factor^floor(time / every)`: a staircase. VIB on MNIST uses 0.97 every 2 epochs (Alemi et al. 2017).
    Step {
        /// Above 0.
        factor: f64,
        /// Length of a stair, at least 1.
        every: u64,
    },
    /// `base factor^(time / every)`: the smooth curve through the corners of [`Schedule::Step`].
    Exponential {
        /// Above 0.
        factor: f64,
        /// Time in which the value changes by the factor, at least 1.
        every: u64,
    },
    /// From the base to `to` along half a cosine, then `to` (Loshchilov and Hutter 2017, equation 5, without restarts).
    Cosine {
        /// The value at the end, not a fraction of the base.
        to: f64,
        /// The time it takes, at least 1; a run's settings may leave it out, and mean the whole run.
        #[serde(default)]
        over: u64,
    },
    /// From the base to `to` along a line, then `to`.
    Linear {
        /// The value at the end, not a fraction of the base.
        to: f64,
        /// The time it takes, at least 1; a run's settings may leave it out, and mean the whole run.
        #[serde(default)]
        over: u64,
    },
    /// From `from` to the base along a line, then the base: a warm-up, of beta for example.
    WarmUp {
        /// The value at time 0, not a fraction of the base.
        from: f64,
        /// The time it takes, at least 1; a run's settings may leave it out, and mean the whole run.
        #[serde(default)]
        over: u64,
    },
}

impl Schedule {
    /// The name in configurations and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Schedule::Constant => "constant",
            Schedule::Step { .. } => "step",
            Schedule::Exponential { .. } => "exponential",
            Schedule::Cosine { .. } => "cosine",
            Schedule::Linear { .. } => "linear",
            Schedule::WarmUp { .. } => "warm_up",
        }
    }

    /// This schedule, which takes `length` if it does not say how long it takes: with `over` left out, or 0.
    pub fn spread_over(self, length: u64) -> Schedule {
        let whole = |over| if over == 0 { length } else { over };
        match self {
            Schedule::Cosine { to, over } => Schedule::Cosine { to, over: whole(over) },
            Schedule::Linear { to, over } => Schedule::Linear { to, over: whole(over) },
            Schedule::WarmUp { from, over } => Schedule::WarmUp { from, over: whole(over) },
            Schedule::Constant | Schedule::Step { .. } | Schedule::Exponential { .. } => self,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A time of 0, a factor that is not above 0 and finite, or an end that is negative or not finite.
    pub fn check(&self) -> Result<()> {
        let op = self.name();
        let time = |name, value: u64| match value {
            0 => Err(Error::OutOfRange { op, name, value: 0.0, expected: "at least 1" }),
            _ => Ok(()),
        };
        let end = |name, value: f64| match (0.0..f64::INFINITY).contains(&value) {
            true => Ok(()),
            false => Err(Error::OutOfRange { op, name, value, expected: "at least 0 and finite" }),
        };
        match *self {
            Schedule::Constant => Ok(()),
            Schedule::Step { factor, every } | Schedule::Exponential { factor, every } => {
                if !(factor > 0.0 && factor.is_finite()) {
                    return Err(Error::OutOfRange { op, name: "factor", value: factor, expected: "above 0 and finite" });
                }
                time("every", every)
            }
            Schedule::Cosine { to, over } | Schedule::Linear { to, over } => end("to", to).and(time("over", over)),
            Schedule::WarmUp { from, over } => end("from", from).and(time("over", over)),
        }
    }

    /// The value at `time` of a setting whose base is `base`. Settings that [`Schedule::check`] rejects give no panic: a time
    /// of 0 counts as 1.
    pub fn value(&self, base: f64, time: u64) -> f64 {
        let passed = |over: u64| time as f64 / over.max(1) as f64;
        // Weights that add up to 1 exactly at both ends, so that both values are met exactly.
        let mix = |from: f64, to: f64, share: f64| if share >= 1.0 { to } else { from * (1.0 - share) + to * share };
        match *self {
            Schedule::Constant => base,
            Schedule::Step { factor, every } => base * factor.powf((time / every.max(1)) as f64),
            Schedule::Exponential { factor, every } => base * factor.powf(passed(every)),
            Schedule::Cosine { to, over } => {
                let passed = passed(over).min(1.0);
                mix(base, to, 0.5 * (1.0 - (std::f64::consts::PI * passed).cos()))
            }
            Schedule::Linear { to, over } => mix(base, to, passed(over)),
            Schedule::WarmUp { from, over } => mix(from, base, passed(over)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_say_how_long_it_takes_takes_as_long_as_the_run() {
        #[derive(Deserialize)]
        struct Settings {
            schedule: Schedule,
        }
        let parse = |text: &str| toml::from_str::<Settings>(&format!("schedule = {text}")).unwrap().schedule;
        for (short, whole) in [
            ("{ kind = \"linear\", to = 0.5 }", Schedule::Linear { to: 0.5, over: 40 }),
            ("{ kind = \"cosine\", to = 0.5 }", Schedule::Cosine { to: 0.5, over: 40 }),
            ("{ kind = \"warm_up\", from = 0.5 }", Schedule::WarmUp { from: 0.5, over: 40 }),
            ("{ kind = \"linear\", to = 0.5, over = 7 }", Schedule::Linear { to: 0.5, over: 7 }),
            ("{ kind = \"step\", factor = 0.5, every = 7 }", Schedule::Step { factor: 0.5, every: 7 }),
        ] {
            assert_eq!(parse(short).spread_over(40), whole);
        }
        assert!(parse("{ kind = \"linear\", to = 0.5 }").check().is_err(), "unless it is spread over a run");
    }

    #[test]
    fn values_are_the_formulas() {
        let close = |schedule: Schedule, base: f64, values: &[(u64, f64)]| {
            for &(time, expected) in values {
                let found = schedule.value(base, time);
                assert!((found - expected).abs() <= 1e-15 * expected.abs(), "{schedule:?} at {time}: {found} for {expected}");
            }
        };
        close(Schedule::Constant, 0.3, &[(0, 0.3), (u64::MAX, 0.3)]);
        let step = Schedule::Step { factor: 0.97, every: 2 };
        close(step, 1e-4, &[(0, 1e-4), (1, 1e-4), (2, 0.97e-4), (3, 0.97e-4), (4, 0.97 * 0.97e-4)]);
        close(Schedule::Exponential { factor: 0.25, every: 2 }, 8.0, &[(0, 8.0), (1, 4.0), (2, 2.0), (5, 0.25)]);
        close(Schedule::Cosine { to: 1.0, over: 6 }, 3.0, &[(0, 3.0), (2, 2.5), (3, 2.0), (4, 1.5), (6, 1.0), (7, 1.0)]);
        close(Schedule::Linear { to: 0.0, over: 4 }, 2.0, &[(0, 2.0), (1, 1.5), (3, 0.5), (4, 0.0), (9, 0.0)]);
        close(Schedule::WarmUp { from: 0.0, over: 4 }, 1e-3, &[(0, 0.0), (1, 0.25e-3), (4, 1e-3), (9, 1e-3)]);
        close(Schedule::WarmUp { from: 5.0, over: 2 }, 1.0, &[(0, 5.0), (1, 3.0), (2, 1.0)]);
    }

    #[test]
    fn settings_out_of_range_are_rejected_and_never_panic() {
        let bad = |schedule: Schedule, setting: &str| {
            assert!(matches!(schedule.check(), Err(Error::OutOfRange { name, .. }) if name == setting), "{schedule:?}");
            let _ = schedule.value(1.0, 3);
        };
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            bad(Schedule::Step { factor, every: 1 }, "factor");
            bad(Schedule::Exponential { factor, every: 1 }, "factor");
        }
        bad(Schedule::Step { factor: 0.5, every: 0 }, "every");
        bad(Schedule::Exponential { factor: 0.5, every: 0 }, "every");
        for end in [-1.0, f64::NAN, f64::INFINITY] {
            bad(Schedule::Cosine { to: end, over: 1 }, "to");
            bad(Schedule::Linear { to: end, over: 1 }, "to");
            bad(Schedule::WarmUp { from: end, over: 1 }, "from");
        }
        bad(Schedule::Cosine { to: 0.0, over: 0 }, "over");
        bad(Schedule::Linear { to: 0.0, over: 0 }, "over");
        bad(Schedule::WarmUp { from: 0.0, over: 0 }, "over");
        assert!(Schedule::default().check().is_ok() && Schedule::Step { factor: 0.97, every: 2 }.check().is_ok());
    }

    #[test]
    fn configurations_name_schedules() {
        let read = |text: &str| toml::from_str::<Schedule>(text);
        for schedule in [
            Schedule::Constant,
            Schedule::Step { factor: 0.97, every: 2 },
            Schedule::Exponential { factor: 0.5, every: 10 },
            Schedule::Cosine { to: 1e-6, over: 200 },
            Schedule::Linear { to: 0.0, over: 3 },
            Schedule::WarmUp { from: 0.0, over: 100 },
        ] {
            let text = toml::to_string(&schedule).unwrap();
            assert!(text.contains(&format!("kind = \"{}\"", schedule.name())), "{text}");
            assert_eq!(read(&text).unwrap(), schedule);
        }
        for wrong in ["kind = 'stair'", "kind = 'step'\nfactor = 0.9", "kind = 'linear'\nto = 0\nover = 2\nevery = 2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
