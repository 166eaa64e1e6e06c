//! `.safetensors`: named tensors and a table of strings, written atomically and with the same bytes every time.
//!
//! The `safetensors` crate says what a header entry is and checks that the entries fit each other. The header as a whole is
//! taken apart and written here: the crate's table of strings is a hash map, whose order changes from run to run. Format: <https://github.com/huggingface/safetensors#format>.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use crate::device::Device;
use crate::dispatch;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::io::Stored;
use crate::io::atomic::write_atomic;
use crate::io::input::{Input, byte_length};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;
use crate::words::shorten;

const FORMAT: &str = "a safetensors file (8 bytes of header length, a JSON header, tensors)";

/// The longest header that is read: room for 100,000 tensors, and little enough to take apart.
const MAX_HEADER: u64 = 16 << 20;

/// Characters of a tensor's name that errors show.
const NAME: usize = 64;

/// The header key of the table of strings.
const METADATA: &str = "__metadata__";

/// A tensor in a file: name, dtype, shape and little-endian, row-major elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor<'a> {
    /// The name in the file.
    pub name: String,
    /// The type of the elements.
    pub dtype: Stored,
    /// The lengths of the axes.
    pub shape: Shape,
    /// The elements, as they lie in memory.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> NamedTensor<'a> {
    /// A tensor from elements.
    ///
    /// # Errors
    /// The number of elements does not fit the shape.
    pub fn from_slice<T: Element>(name: impl Into<String>, shape: Shape, values: &[T]) -> Result<NamedTensor<'static>> {
        if values.len() != shape.len() {
            return Err(Error::WrongLength { op: "safetensors", found: values.len(), shape });
        }
        Ok(NamedTensor { name: name.into(), dtype: T::DTYPE.into(), shape, bytes: bytemuck::cast_slice(values).to_vec().into() })
    }

    /// A tensor as it is written to a file.
    pub fn from_tensor(name: &str, tensor: &'a Tensor) -> Result<NamedTensor<'a>> {
        let lies_here = tensor.device() == Device::Cpu && tensor.layout().is_contiguous();
        let bytes = dispatch!(tensor.dtype(), T => match lies_here {
            true => Cow::Borrowed(bytemuck::cast_slice(tensor.slice::<T>())),
            false => Cow::Owned(bytemuck::cast_slice(&tensor.to_vec::<T>()?).to_vec()),
        });
        Ok(NamedTensor { name: name.into(), dtype: tensor.dtype().into(), shape: tensor.shape(), bytes })
    }

    /// The tensor on a device.
    ///
    /// # Errors
    /// Elements of a type that tensors do not have.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_bytes(&self.bytes, self.shape, self.dtype.dtype(&self.name)?, device)
    }

    /// The elements.
    ///
    /// # Errors
    /// The tensor has another dtype than `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype != T::DTYPE.into() {
            return Err(Error::BadTensor { name: self.name.clone(), found: self.dtype.to_string(), expected: T::DTYPE.to_string() });
        }
        // Copies element by element, since bytes need not lie where a `T` may.
        Ok(bytemuck::pod_collect_to_vec(&self.bytes))
    }
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorFile {
    /// The tensors in the order of the file: by falling size and type of their elements, then by name, if [`write()`] wrote it.
    pub tensors: Vec<NamedTensor<'static>>,
    /// The names of tensors that were passed over, and why: elements that are not in [`Stored`], or more axes than [`MAX_RANK`].
    pub others: BTreeMap<String, String>,
    /// The table of strings.
    pub metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// The tensor of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<&NamedTensor<'static>> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// Reads a safetensors file.
///
/// # Errors
/// The file cannot be read, is not safetensors, or is shorter or longer than its header says.
pub fn read(path: &Path) -> Result<TensorFile> {
    parse(Input::open(path, FORMAT)?)
}

/// Reads a safetensors file from memory; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn decode(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
    parse(Input::from_bytes(path, FORMAT, bytes)?)
}

fn parse(mut input: Input<'_>) -> Result<TensorFile> {
    // Any JSON object after the length: this tells other formats apart before their bytes are taken for a length.
    if input.head().get(8).is_none_or(|&b| b != b'{') {
        return Err(input.wrong_format());
    }
    let length = u64::from_le_bytes(input.array("the header length")?);
    if length > MAX_HEADER {
        return Err(input.bad(format!("a header of {length} bytes"), format!("{FORMAT} with a header of at most {MAX_HEADER} bytes")));
    }
    let header = input.bytes(length, "the header")?;
    let invalid = |e: &dyn fmt::Display| input.bad(format!("a header that is not valid ({e})"), FORMAT);
    let Header { tensors: mut infos, metadata } = serde_json::from_slice(&header).map_err(|e| invalid(&e))?;
    // Empty tensors share an offset, hence the name.
    infos.sort_by(|(a, left), (b, right)| (left.data_offsets, a).cmp(&(right.data_offsets, b)));
    // The crate checks that the tensors follow each other without gaps and that their lengths fit their shapes.
    Metadata::new(None, infos.clone()).map_err(|e| invalid(&e))?;
    let (mut tensors, mut others) = (Vec::with_capacity(infos.len()), BTreeMap::new());
    for (name, info) in infos {
        let what = format!("tensor '{}'", shorten(&name, NAME));
        // Tensors that this program cannot hold may stand beside those that are wanted.
        let other = match (from_file(info.dtype), Shape::new(&info.shape)) {
            (Some(dtype), Ok(shape)) => {
                let bytes = input.bytes(byte_length(&shape, dtype.size()), &what)?;
                tensors.push(NamedTensor { name, dtype, shape, bytes: bytes.into() });
                continue;
            }
            (None, _) => format!("elements of type {}", info.dtype),
            (_, Err(_)) => format!("{} axes, more than {MAX_RANK}", info.shape.len()),
        };
        let (start, end) = info.data_offsets;
        input.skip((end - start) as u64, &what)?;
        others.insert(name, other);
    }
    input.finish()?;
    Ok(TensorFile { tensors, others, metadata })
}

/// The JSON of the header. The crate's own reader of it keeps the last of two tensors with one name, and takes it apart twice.
struct Header {
    tensors: Vec<(String, TensorInfo)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Header, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let (mut names, mut tensors, mut metadata) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("'{}' occurs twice", shorten(&name, NAME))));
                    }
                    if name == METADATA {
                        metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header { tensors, metadata })
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// The bytes of a file with these tensors and this table of strings. They depend on nothing else: neither on the order in
/// which the tensors are given nor on the run.
///
/// # Errors
/// Two tensors have the same name, a tensor is called `__metadata__`, or its bytes do not fit its shape and dtype.
pub fn encode(tensors: &[NamedTensor], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (mut bytes, order) = header(tensors, metadata)?;
    order.iter().for_each(|t| bytes.extend_from_slice(&t.bytes));
    Ok(bytes)
}

/// Writes a file as [`encode`] makes it, atomically.
///
/// # Errors
/// As [`encode`], and errors of the operating system.
pub fn write(path: &Path, tensors: &[NamedTensor], metadata: &BTreeMap<String, String>) -> Result<()> {
    let (header, order) = header(tensors, metadata)?;
    write_atomic(path, |writer| {
        writer.write_all(&header)?;
        order.iter().try_for_each(|t| writer.write_all(&t.bytes))
    })
}

/// The header with its length in front, and the tensors in the order in which they follow it: falling alignment first, as the
/// crate sorts them, so that readers which map the file find every element aligned.
fn header<'a>(tensors: &'a [NamedTensor<'a>], metadata: &BTreeMap<String, String>) -> Result<(Vec<u8>, Vec<&'a NamedTensor<'a>>)> {
    let mut names = BTreeSet::from([METADATA]);
    for tensor in tensors {
        let bad = |found: String, expected: String| Error::BadTensor { name: tensor.name.clone(), found, expected };
        if !names.insert(&tensor.name) {
            return Err(bad("this name twice, or where the table of strings belongs".into(), "a name of its own".into()));
        }
        let length = byte_length(&tensor.shape, tensor.dtype.size());
        if tensor.bytes.len() as u64 != length {
            return Err(bad(format!("{} bytes", tensor.bytes.len()), format!("{length} for {} {}", tensor.dtype, tensor.shape)));
        }
    }
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by(|a, b| to_file(b.dtype).cmp(&to_file(a.dtype)).then_with(|| a.name.cmp(&b.name)));

    let mut json = Vec::new();
    let invalid = |e: serde_json::Error| Error::BadTensor {
        name: METADATA.into(),
        found: e.to_string(),
        expected: "strings that can be written as JSON".into(),
    };
    let mut serializer = serde_json::Serializer::new(&mut json);
    let mut map = serializer.serialize_map(None).map_err(invalid)?;
    if !metadata.is_empty() {
        map.serialize_entry(METADATA, metadata).map_err(invalid)?;
    }
    let mut start = 0;
    for tensor in &order {
        let end = start + tensor.bytes.len();
        let info = TensorInfo { dtype: to_file(tensor.dtype), shape: tensor.shape.to_vec(), data_offsets: (start, end) };
        map.serialize_entry(&tensor.name, &info).map_err(invalid)?;
        start = end;
    }
    map.end().map_err(invalid)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    Ok((bytes, order))
}

fn from_file(dtype: Dtype) -> Option<Stored> {
    Stored::ALL.into_iter().find(|&d| to_file(d) == dtype)
}

fn to_file(dtype: Stored) -> Dtype {
    match dtype {
        Stored::Bool => Dtype::BOOL,
        Stored::U8 => Dtype::U8,
        Stored::I8 => Dtype::I8,
        Stored::U16 => Dtype::U16,
        Stored::I16 => Dtype::I16,
        Stored::U32 => Dtype::U32,
        Stored::I32 => Dtype::I32,
        Stored::U64 => Dtype::U64,
        Stored::I64 => Dtype::I64,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::BF16,
        Stored::F32 => Dtype::F32,
        Stored::F64 => Dtype::F64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<TensorFile> {
        super::decode(Path::new("x.safetensors"), bytes)
    }

    fn message(bytes: &[u8]) -> String {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
        error.to_string()
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn tensors() -> Vec<NamedTensor<'static>> {
        let mut tensors: Vec<_> = Stored::ALL
            .into_iter()
            .map(|dtype| NamedTensor {
                name: format!("of.{dtype}"),
                dtype,
                shape: Shape::from([2, 3]),
                bytes: (0..6 * dtype.size()).map(|i| i as u8).collect(),
            })
            .collect();
        tensors.push(NamedTensor::from_slice("scalar", Shape::SCALAR, &[1.5f32]).unwrap());
        for name in ["empty b", "empty a"] {
            tensors.push(NamedTensor::from_slice::<f32>(name, Shape::from([0, 4]), &[]).unwrap());
        }
        tensors
    }

    fn metadata(entries: usize) -> BTreeMap<String, String> {
        (0..entries).map(|i| (format!("key \"{i}\""), format!("v\n{i}"))).collect()
    }

    #[test]
    fn what_is_written_is_read_in_a_fixed_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        write(&path, &tensors(), &metadata(20)).unwrap();
        let file = read(&path).unwrap();
        assert_eq!(file.metadata, metadata(20));
        let names: Vec<_> = file.tensors.iter().map(|t| &t.name[..]).collect();
        let long = ["of.u64", "of.i64", "of.f64", "empty a", "empty b", "of.f32", "scalar", "of.u32", "of.i32"];
        assert_eq!(names, [&long[..], &["of.bf16", "of.f16", "of.u16", "of.i16", "of.i8", "of.u8", "of.bool"]].concat());
        for tensor in tensors() {
            assert_eq!(file.get(&tensor.name), Some(&tensor));
        }
        assert_eq!(file.get("scalar").unwrap().to_vec::<f32>().unwrap(), [1.5]);
        assert!(file.get("scalar").unwrap().to_vec::<f64>().is_err());
        // Any order in gives the same bytes, and so does reading and writing.
        let mut reversed = tensors();
        reversed.reverse();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(encode(&reversed, &metadata(20)).unwrap(), bytes);
        assert_eq!(encode(&file.tensors, &file.metadata).unwrap(), bytes);
    }

    #[test]
    fn the_bytes_are_those_of_the_crate() {
        // With one entry the order of the crate's hash map does not matter.
        for entries in [0, 1] {
            let map = (entries > 0).then(|| metadata(entries).into_iter().collect());
            let views = tensors();
            let views = views
                .iter()
                .map(|t| (&t.name, ::safetensors::tensor::TensorView::new(to_file(t.dtype), t.shape.to_vec(), &t.bytes).unwrap()));
            assert_eq!(encode(&tensors(), &metadata(entries)).unwrap(), ::safetensors::serialize(views, map).unwrap());
        }
    }

    #[test]
    fn wrong_files_are_errors() {
        assert!(message(b"\x93NUMPY\x01\x00v\x00{'desc").contains("found a NumPy .npy file: expected a safetensors file"));
        assert!(message(b"{\"a\": 1}").contains("text that starts"));
        assert!(message(&[0; 4]).contains("bytes 00 00 00 00"));
        assert!(message(&file("{\"a\":1}", &[])).contains("not valid"));
        assert!(message(&file("{", &[])).contains("not valid"));
        let entry = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
        assert!(message(&file(&format!("{{{entry},{entry}}}"), &[0])).contains("'a' occurs twice"));
        let one = |dtype: &str, shape: &str, end: usize| {
            file(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#), &[0; 8])
        };
        assert!(decode(&one("F32", "[2]", 8)).is_ok());
        assert!(message(&one("F8_E4M3", "[9]", 9)).contains("8 of 9 bytes of tensor 'a'"));
        assert!(message(&one("F32", "[3]", 12)).contains("12 bytes of tensor 'a'"));
        assert!(message(&one("F32", "[1]", 4)).contains("bytes, as its header says"));
        assert!(message(&one("F32", "[3]", 8)).contains("not valid"));
        assert!(message(&one("F32", "[0,4294967296,4294967296]", 0)).contains("promises"));
        assert!(message(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat()).contains("a header of 18446744073709551615 bytes"));
        assert!(message(&[&1000u64.to_le_bytes()[..], b"{}"].concat()).contains("1000 bytes of the header"));
    }

    #[test]
    fn tensors_that_cannot_be_held_are_passed_over() {
        let header = r#"{"a":{"dtype":"F8_E4M3","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"I32","shape":[1],"data_offsets":[5,9]},
            "c":{"dtype":"U8","shape":[1,1,1,1,1,1,3],"data_offsets":[9,12]},"d":{"dtype":"BOOL","shape":[2],"data_offsets":[12,14]}}"#;
        let file = decode(&file(header, &[9, 9, 9, 9, 9, 7, 0, 0, 0, 8, 8, 8, 0, 1])).unwrap();
        let tensors: Vec<_> = file.tensors.iter().map(|t| (&t.name[..], t.dtype, t.dtype.integers(&t.bytes).unwrap().unwrap())).collect();
        assert_eq!(tensors, [("b", Stored::I32, vec![7]), ("d", Stored::Bool, vec![0, 1])]);
        let others: Vec<_> = file.others.iter().map(|(name, what)| (&name[..], &what[..])).collect();
        assert_eq!(others, [("a", "elements of type F8_E4M3"), ("c", "7 axes, more than 6")]);
    }

    #[test]
    fn tensors_that_cannot_be_written_are_errors() {
        let none = BTreeMap::new();
        let a = NamedTensor::from_slice("a", Shape::from(2), &[1i64, 2]).unwrap();
        assert!(encode(&[a.clone(), a.clone()], &none).is_err());
        assert!(encode(&[NamedTensor { name: METADATA.into(), ..a.clone() }], &none).is_err());
        assert!(encode(&[NamedTensor { shape: Shape::from(3), ..a }], &none).is_err());
        assert!(NamedTensor::from_slice("a", Shape::from(2), &[1i64]).is_err());
    }
}
