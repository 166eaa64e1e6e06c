//! A case: one file with inputs, expected outputs, and hyper-parameters as text.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;

use strait::io::safetensors::{self, TensorFile};
use strait::{DType, Tensor};

use crate::device_support::device;

/// Whatever can go wrong in a case, as a sentence.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How the inputs of a case are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As they are, computed in f64.
    F64,
    /// Rounded to f32, computed in f64: what an f32 result can at best agree with.
    RoundedF64,
    /// Rounded to f32 and computed in f32.
    F32,
}

impl Precision {
    /// What it is computed in.
    pub fn dtype(self) -> DType {
        if self == Precision::F32 { DType::F32 } else { DType::F64 }
    }
}

/// A file of a case folder.
pub struct Case {
    /// The file's name without its ending: KIND__VARIANT.
    pub name: String,
    /// The kind, from the metadata.
    pub kind: String,
    file: TensorFile,
    read: RefCell<BTreeSet<String>>,
}

impl Case {
    /// Reads a case.
    pub fn open(path: &Path) -> Outcome<Case> {
        let file = safetensors::read(path)?;
        let kind = file.metadata.get("case").ok_or("the metadata has no `case`")?.clone();
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Case { name, kind, file, read: RefCell::new(BTreeSet::from(["case".to_string()])) })
    }

    /// What comes after the two underscores of the name.
    pub fn variant(&self) -> &str {
        self.name.split_once("__").map_or("", |(_, variant)| variant)
    }

    /// The names of the tensors that begin with `prefix`, without it, in alphabetical order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self.file.tensors.iter().filter_map(|t| t.name.strip_prefix(prefix)).map(String::from).collect();
        names.sort();
        names
    }

    /// The names of the differentiable inputs: those with a gradient.
    pub fn differentiable(&self) -> Vec<String> {
        self.names("grad.")
    }

    /// The names of the inputs of an op: cotangents and directions are not among them.
    pub fn inputs(&self) -> Vec<String> {
        self.names("in.").into_iter().filter(|n| n != "grad_out" && !n.starts_with("v.")).collect()
    }

    /// A tensor: floats in the precision asked for, integers as they are.
    pub fn tensor(&self, name: &str, precision: Precision) -> Outcome<Tensor> {
        let found = self.file.get(name).ok_or_else(|| format!("the case has no tensor '{name}'"))?;
        let device = device();
        if found.dtype == DType::I64.into() {
            return Ok(Tensor::from_vec(found.to_vec::<i64>()?, found.shape, &device)?);
        }
        let x = Tensor::from_vec(found.to_vec::<f64>()?, found.shape, &device)?;
        Ok(match precision {
            Precision::F64 => x,
            Precision::RoundedF64 => x.to_dtype(DType::F32)?.to_dtype(DType::F64)?,
            Precision::F32 => x.to_dtype(DType::F32)?,
        })
    }

    /// A hyper-parameter as text, if the case has it.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.read.borrow_mut().insert(key.to_string());
        self.file.metadata.get(key).map(String::as_str)
    }

    /// A hyper-parameter as text.
    pub fn text(&self, key: &str) -> Outcome<&str> {
        self.optional(key).ok_or_else(|| format!("the metadata has no `{key}`").into())
    }

    /// A hyper-parameter as a number.
    pub fn number<T: FromStr>(&self, key: &str) -> Outcome<T> {
        parse(key, self.text(key)?)
    }

    /// A hyper-parameter as a number, or `default` where the case does not name it.
    pub fn number_or<T: FromStr>(&self, key: &str, default: T) -> Outcome<T> {
        self.optional(key).map_or(Ok(default), |text| parse(key, text))
    }

    /// A hyper-parameter 0 or 1; 0 where the case does not name it.
    pub fn flag(&self, key: &str) -> Outcome<bool> {
        match self.optional(key) {
            None | Some("0" | "False") => Ok(false),
            Some("1" | "True") => Ok(true),
            Some(other) => Err(format!("`{key}` is '{other}': 0 or 1 was expected").into()),
        }
    }

    /// A hyper-parameter as numbers separated by commas.
    pub fn list<T: FromStr>(&self, key: &str) -> Outcome<Vec<T>> {
        self.text(key)?.split(',').map(|item| parse(key, item.trim())).collect()
    }

    /// The hyper-parameters that nobody asked for: ignoring one would test something else than the case means.
    pub fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.file.metadata.keys().filter(|k| !read.contains(*k)).cloned().collect()
    }
}

fn parse<T: FromStr>(key: &str, text: &str) -> Outcome<T> {
    text.parse().map_err(|_| format!("`{key}` is '{text}', which is not the number expected").into())
}
