//! NumPy's `.npy` arrays, format versions 1.0, 2.0 and 3.0; read in either byte order, written little-endian.
//! Format: NumPy Enhancement Proposal 1 and the documentation of `numpy.lib.format`.

use std::path::Path;

use crate::device::Device;
use crate::device::cpu::memory;
use crate::dispatch;
use crate::error::{Error, Result};
use crate::io::Stored;
use crate::io::atomic::write_atomic;
use crate::io::input::{Input, byte_length};
use crate::io::npy_header::{self, Header, MAGIC};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

const FORMAT: &str = "a NumPy .npy file (magic \\x93NUMPY, format version 1 to 3)";

/// The longest header that is read. NumPy itself refuses more than 10,000 bytes.
const MAX_HEADER: u32 = 64 * 1024;

/// An array of a `.npy` file.
#[derive(Debug, Clone, PartialEq)]
pub struct Npy {
    /// The type of the elements.
    pub dtype: Stored,
    /// The lengths of the axes.
    pub shape: Shape,
    /// The elements, row-major and little-endian.
    pub bytes: Vec<u8>,
}

impl Npy {
    /// The array as a tensor. Integers that tensors do not have become i64 (unsigned ones above the largest i64 become that), booleans u8.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        if self.dtype == Stored::Bool {
            return Tensor::from_slice(&self.bytes, self.shape, device);
        }
        match self.dtype.dtype("array") {
            Ok(dtype) => dispatch!(dtype, T => Tensor::from_vec(bytemuck::pod_collect_to_vec::<u8, T>(&self.bytes), self.shape, device)),
            Err(other) => match self.dtype.integers(&self.bytes)? {
                Some(integers) => Tensor::from_vec(integers, self.shape, device),
                None => Err(other),
            },
        }
    }

    /// A tensor as it is written to a file.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for a tensor that does not fit into memory once more.
    pub fn from_tensor(tensor: &Tensor) -> Result<Npy> {
        dispatch!(tensor.dtype(), T => {
            let elements = tensor.to_vec::<T>()?;
            let mut bytes = memory::vector("npy", size_of_val(&elements[..]))?;
            bytes.extend_from_slice(bytemuck::cast_slice(&elements));
            Ok(Npy { dtype: tensor.dtype().into(), shape: tensor.shape(), bytes })
        })
    }
}

/// Reads a `.npy` file of floats, integers or booleans, in C or Fortran order and either byte order, plain or gzip.
///
/// # Errors
/// The file cannot be read, is not `.npy`, has another element type, has more than [`MAX_RANK`] axes, or is shorter or longer
/// than its header says.
pub fn read(path: &Path) -> Result<Npy> {
    parse(Input::open(path, FORMAT)?)
}

/// Reads a `.npy` file from memory; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Npy> {
    parse(Input::from_bytes(path, FORMAT, bytes)?)
}

/// The types that NumPy has, by what it calls them after the byte order.
const TYPES: [(&str, Stored); 12] = [
    ("b1", Stored::Bool),
    ("u1", Stored::U8),
    ("i1", Stored::I8),
    ("u2", Stored::U16),
    ("i2", Stored::I16),
    ("u4", Stored::U32),
    ("i4", Stored::I32),
    ("u8", Stored::U64),
    ("i8", Stored::I64),
    ("f2", Stored::F16),
    ("f4", Stored::F32),
    ("f8", Stored::F64),
];

/// The type that a `descr` string names, and whether the highest byte of an element comes first.
fn from_descr(descr: &str) -> Option<(Stored, bool)> {
    let (order, name) = descr.split_at_checked(1)?;
    let (_, stored) = *TYPES.iter().find(|(n, _)| *n == name)?;
    match order {
        // Bytes have no order; old NumPy wrote one all the same.
        "|" if stored.size() > 1 => None,
        "<" | "|" => Some((stored, false)),
        ">" => Some((stored, true)),
        _ => None,
    }
}

fn parse(mut input: Input<'_>) -> Result<Npy> {
    if !input.head().starts_with(MAGIC) {
        return Err(input.wrong_format());
    }
    let [.., major, minor] = input.array::<8>("the magic number")?;
    let length = match (major, minor) {
        (1, 0) => u16::from_le_bytes(input.array("the header length")?).into(),
        (2 | 3, 0) => u32::from_le_bytes(input.array("the header length")?),
        _ => return Err(input.bad(format!("format version {major}.{minor}"), FORMAT)),
    };
    if length > MAX_HEADER {
        return Err(input.bad(format!("a header of {length} bytes"), format!("at most {MAX_HEADER} bytes of header")));
    }
    let text = input.bytes(length.into(), "the header")?;
    // Version 3 is UTF-8 and the others Latin-1; only ASCII can occur in the headers that are accepted.
    let header = npy_header::parse(&text).map_err(|what| {
        input.bad(
            format!("a header with {what}: {:?}", String::from_utf8_lossy(&text[..text.len().min(120)]).trim_end()),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } or the like",
        )
    })?;
    let Some((dtype, big_endian)) = from_descr(&header.descr) else {
        let expected = format!("floats, integers or booleans ({})", TYPES.map(|(name, _)| name).join(", "));
        return Err(input.bad(format!("elements of type '{}'", header.descr), expected));
    };
    let shape = Shape::new(&header.shape)
        .map_err(|_| input.bad(format!("an array with {} axes", header.shape.len()), format!("at most {MAX_RANK} axes")))?;
    let mut bytes = input.bytes(byte_length(&shape, dtype.size()), "elements")?;
    if let (Stored::Bool, Some(at)) = (dtype, bytes.iter().position(|&b| b > 1)) {
        return Err(input.bad(format!("the value {} in element {at} of a boolean array", bytes[at]), "0 or 1"));
    }
    if big_endian {
        bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
    if header.fortran_order {
        let mut ordered = input.allocate(bytes.len(), "reordered elements")?;
        to_c_order(&bytes, &shape, dtype.size(), &mut ordered);
        bytes = ordered;
    }
    input.finish()?;
    Ok(Npy { dtype, shape, bytes })
}

/// Appends elements of `size` bytes to `out`, reordered from first-axis-fastest to last-axis-fastest.
fn to_c_order(bytes: &[u8], shape: &Shape, size: usize, out: &mut Vec<u8>) {
    let mut strides = [0; MAX_RANK];
    let mut step = size;
    for (stride, &length) in strides.iter_mut().zip(shape.iter()) {
        *stride = step;
        step *= length;
    }
    let mut index = [0; MAX_RANK];
    let mut at = 0;
    while out.len() < bytes.len() {
        out.extend_from_slice(&bytes[at..at + size]);
        for axis in (0..shape.rank()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

/// The bytes of a `.npy` file (version 1.0, C order), the same that NumPy writes.
///
/// # Errors
/// The bytes do not fit shape and dtype, or the dtype is bf16, which NumPy does not have.
pub fn encode(npy: &Npy) -> Result<Vec<u8>> {
    let mut bytes = header(npy)?;
    bytes.extend_from_slice(&npy.bytes);
    Ok(bytes)
}

/// The bytes in front of the elements.
fn header(npy: &Npy) -> Result<Vec<u8>> {
    let Some((name, _)) = TYPES.iter().find(|(_, stored)| *stored == npy.dtype) else {
        let (found, expected) = (npy.dtype.dtype("npy")?, "f32, which NumPy has instead of bf16");
        return Err(Error::BadDType { op: "npy", found, expected });
    };
    let descr = format!("{}{name}", if npy.dtype.size() == 1 { '|' } else { '<' });
    if npy.bytes.len() != npy.shape.len() * npy.dtype.size() {
        return Err(Error::WrongLength { op: "npy", found: npy.bytes.len() / npy.dtype.size(), shape: npy.shape });
    }
    let header = Header { descr, fortran_order: false, shape: npy.shape.to_vec() };
    Ok(npy_header::encode(&header))
}

/// Writes a `.npy` file, atomically.
///
/// # Errors
/// As [`encode`], and errors of the operating system.
pub fn write(path: &Path, npy: &Npy) -> Result<()> {
    let header = header(npy)?;
    write_atomic(path, |writer| writer.write_all(&header).and_then(|()| writer.write_all(&npy.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    fn decode(bytes: &[u8]) -> Result<Npy> {
        super::decode(Path::new("x.npy"), bytes)
    }

    fn message(bytes: &[u8]) -> String {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
        error.to_string()
    }

    /// A file as NumPy 2.4 writes it: 128 bytes up to the data.
    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        let prefix = if version == 1 { 10 } else { 12 };
        let length = 128 - prefix;
        bytes.extend(&(length as u32).to_le_bytes()[..prefix - 8]);
        bytes.extend(format!("{header:<0$}\n", length - 1).bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn files_of_numpy_read_and_write_byte_for_byte() {
        // np.arange(6, dtype='<f4').reshape(2, 3)
        let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let bytes = file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &data);
        let npy = decode(&bytes).unwrap();
        assert_eq!((npy.dtype, npy.shape.dims(), &npy.bytes), (Stored::F32, &[2, 3][..], &data));
        assert_eq!(encode(&npy).unwrap(), bytes);
        // A transposed view is written in the order of its own axes.
        let tensor = Tensor::from_vec(vec![0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0], [3, 2], &Device::cpu()).unwrap().t().unwrap();
        assert_eq!(Npy::from_tensor(&tensor).unwrap(), npy);
        // np.array(1.5), np.arange(3, dtype='u1')
        let scalar = file(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", &1.5f64.to_le_bytes());
        assert_eq!(encode(&decode(&scalar).unwrap()).unwrap(), scalar);
        let bytes = file(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", &[0, 1, 2]);
        assert_eq!(encode(&decode(&bytes).unwrap()).unwrap(), bytes);
    }

    #[test]
    fn versions_2_and_3_and_fortran_order() {
        // np.asfortranarray(np.arange(6, dtype='<i4').reshape(2, 3) - 1)
        let data: Vec<u8> = [-1, 2, 0, 3, 1, 4].into_iter().flat_map(i32::to_le_bytes).collect();
        for version in [2, 3] {
            let npy = decode(&file(version, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", &data)).unwrap();
            let expected: Vec<u8> = (-1..5i32).flat_map(i32::to_le_bytes).collect();
            assert_eq!((npy.dtype, npy.shape.dims(), npy.bytes), (Stored::I32, &[2, 3][..], expected));
        }
        // np.asfortranarray(np.arange(24, dtype='u1').reshape(2, 3, 4))
        let data: Vec<u8> = (0..24).map(|i| (i % 2) * 12 + (i / 2 % 3) * 4 + i / 6).collect();
        let npy = decode(&file(1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }", &data)).unwrap();
        assert_eq!(npy.bytes, (0..24).collect::<Vec<u8>>());
        let npy = decode(&file(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", &[1, 0])).unwrap();
        assert_eq!((npy.dtype, &npy.bytes[..]), (Stored::Bool, &[1, 0][..]));
    }

    #[test]
    fn either_byte_order_is_read() {
        // np.arange(3, dtype='>u2') + 256, and the same of other types.
        let file = |descr: &str, data: &[u8]| file(1, &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (3,), }}"), data);
        let npy = decode(&file(">u2", &[1, 0, 1, 1, 1, 2])).unwrap();
        assert_eq!((npy.dtype, npy.dtype.integers(&npy.bytes).unwrap().unwrap()), (Stored::U16, vec![256, 257, 258]));
        let data: Vec<u8> = [0.1f64, -2.0, 1e300].into_iter().flat_map(f64::to_be_bytes).collect();
        let npy = decode(&file(">f8", &data)).unwrap();
        assert_eq!((npy.dtype, npy.dtype.floats(&npy.bytes).unwrap().unwrap()), (Stored::F64, vec![0.1, -2.0, f32::INFINITY]));
        let data: Vec<u8> = [-3i64, 0, i64::MAX].into_iter().flat_map(i64::to_be_bytes).collect();
        let npy = decode(&file(">i8", &data)).unwrap();
        assert_eq!((npy.dtype, npy.dtype.integers(&npy.bytes).unwrap().unwrap()), (Stored::I64, vec![-3, 0, i64::MAX]));
    }

    #[test]
    fn empty_arrays() {
        let npy = decode(&file(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (0, 3), }", &[])).unwrap();
        assert_eq!((npy.shape.dims(), npy.bytes.len()), (&[0, 3][..], 0));
    }

    #[test]
    fn wrong_files_are_named_with_what_they_are() {
        let typed = |descr: &str| message(&file(1, &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}"), &[0; 8]));
        assert!(typed("'>c8'").contains("elements of type '>c8'"));
        assert!(typed("'|i8'").contains("elements of type '|i8'"));
        assert!(typed("'|O'").contains("elements of type '|O'"));
        assert!(typed("[('a', '<f4')]").contains("a structured or unknown 'descr'"));
        assert!(typed("'<f4'").contains("132"), "one element more than the header says");
        let shaped = |shape: &str| message(&file(1, &format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"), &[0; 8]));
        assert!(shaped("(2,)").contains("promises 16 bytes"));
        assert!(shaped("(4294967296, 4294967296)").contains("promises"));
        assert!(shaped("(4294967296, 4294967296, 0)").contains("promises"));
        assert!(shaped("(1, 1, 1, 1, 1, 1, 1)").contains("7 axes"));
        assert!(message(b"PK\x03\x04....").contains("zip archive"));
        assert!(message(b"\x93NUMPY\x04\x00").contains("format version 4.0"));
        assert!(message(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("4294967295 bytes"));
        assert!(message(b"\x93NUMPY").contains("the magic number"));
        assert!(message(&file(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", &[1, 2])).contains("value 2"));
    }

    #[test]
    fn round_trip_through_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for (_, dtype) in TYPES {
            let npy = Npy { dtype, shape: Shape::from([2, 1, 5]), bytes: (0..10 * dtype.size()).map(|i| (i % 2) as u8).collect() };
            write(&path, &npy).unwrap();
            assert_eq!(read(&path).unwrap(), npy);
        }
        assert!(encode(&Npy { dtype: DType::BF16.into(), shape: Shape::SCALAR, bytes: vec![0; 2] }).is_err());
        assert!(encode(&Npy { dtype: Stored::F32, shape: Shape::from(3), bytes: vec![0; 8] }).is_err());
    }
}
