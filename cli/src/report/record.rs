//! Metrics as JSON lines: one flat object per line, `{"step":..,"epoch":..,"time_s":..,name:value,..}`.
//!
//! serde_json's feature `float_roundtrip` is on, so a number that was read is the number that was written.
//!
//! Keys keep the order in which the run gives them. Numbers are f64, printed with the fewest digits that read back as the
//! same number. JSON has no NaN and no infinity: all JSON of this program writes them as [`Number`] does, as the strings `"NaN"`,
//! `"Infinity"` and `"-Infinity"`, which `float()` of Python and `Number()` of JavaScript both understand. (`null` would not tell them
//! apart.) What does not exist, such as the standard deviation of one run, is `null`. TensorBoard's files are binary and hold them as they
//! are.

use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use strait::plot::Metric;
use strait::{Error, Result};

/// The description of a file of metrics in errors.
pub(crate) const FORMAT: &str = "a file of metrics: one JSON object of step, epoch, time_s and numbers on each line";

/// The metrics of one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Record {
    /// Optimiser steps taken so far.
    pub step: u64,
    /// Epochs completed or begun, as the run counts them.
    pub epoch: u64,
    /// Wall time of the run so far, in seconds. The only part that may differ between two equal runs.
    pub time_s: f64,
    /// Names and values, in the order in which they are written. The names `step`, `epoch` and `time_s` are taken.
    pub values: Vec<(String, f64)>,
}

impl Record {
    /// A record without values yet.
    pub(crate) fn new(step: u64, epoch: u64, time_s: f64) -> Record {
        Record { step, epoch, time_s, values: Vec::new() }
    }

    /// This record with one value more.
    pub(crate) fn with(mut self, name: impl Into<String>, value: f64) -> Record {
        self.values.push((name.into(), value));
        self
    }

    /// The value of this name; the last one where a name was given twice.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().rev().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

/// Every metric with its points (step, value), for charts, in the order in which the names come first; records without it are left out.
pub(crate) fn series(records: &[Record]) -> Vec<Metric> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in records.iter().flat_map(|r| &r.values) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let points = |name: &str| records.iter().filter_map(|r| Some((r.step as f64, r.get(name)?))).collect();
    names.into_iter().map(|name| (name.clone(), points(name))).collect()
}

/// A number as it stands in JSON: the one way in which this program writes and reads those that JSON does not have. `null` reads
/// as NaN, since other programs write it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_finite() => serializer.serialize_f64(v),
            v if v.is_nan() => serializer.serialize_str("NaN"),
            v if v > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Number, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, null, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }
            fn visit_f64<E>(self, v: f64) -> std::result::Result<Number, E> {
                Ok(Number(v))
            }
            fn visit_u64<E>(self, v: u64) -> std::result::Result<Number, E> {
                Ok(Number(v as f64))
            }
            fn visit_i64<E>(self, v: i64) -> std::result::Result<Number, E> {
                Ok(Number(v as f64))
            }
            fn visit_unit<E>(self) -> std::result::Result<Number, E> {
                Ok(Number(f64::NAN))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> std::result::Result<Number, E> {
                match v {
                    "NaN" => Ok(Number(f64::NAN)),
                    "Infinity" => Ok(Number(f64::INFINITY)),
                    "-Infinity" => Ok(Number(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3 + self.values.len()))?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("epoch", &self.epoch)?;
        map.serialize_entry("time_s", &Number(self.time_s))?;
        for (name, value) in &self.values {
            map.serialize_entry(name, &Number(*value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Record, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with step, epoch, time_s and numbers")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Record, M::Error> {
                let (mut step, mut epoch, mut time) = (None, None, None);
                let mut values = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "step" => step = Some(map.next_value()?),
                        "epoch" => epoch = Some(map.next_value()?),
                        "time_s" => time = Some(map.next_value::<Number>()?.0),
                        _ => values.push((key, map.next_value::<Number>()?.0)),
                    }
                }
                Ok(Record {
                    step: step.ok_or_else(|| M::Error::missing_field("step"))?,
                    epoch: epoch.ok_or_else(|| M::Error::missing_field("epoch"))?,
                    time_s: time.ok_or_else(|| M::Error::missing_field("time_s"))?,
                    values,
                })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads metrics from memory; `path` is what errors call them.
///
/// # Errors
/// A line before the last is not a record; the error names the line.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<Record>> {
    Ok(parse(path, bytes)?.into_iter().map(|(_, record)| record).collect())
}

/// The lines of a metrics file and their records. An incomplete line at the end is skipped if it does not parse.
pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], Record)>> {
    let mut out = Vec::new();
    let mut lines = bytes.split(|&b| b == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let last = lines.peek().is_none();
        match serde_json::from_slice(line) {
            Ok(record) => out.push((line, record)),
            Err(_) if last => {}
            Err(error) => {
                return Err(Error::BadFile {
                    path: path.into(),
                    found: format!("in line {}: {error}", index + 1),
                    expected: FORMAT.into(),
                });
            }
        }
    }
    Ok(out)
}
