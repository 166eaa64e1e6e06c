//! The IDX format of MNIST: two zero bytes, an element type, a rank, big-endian axis lengths, then the elements.
//! Here: unsigned bytes of rank 1 to 4, plain or gzip. Format: Y. LeCun, "The MNIST database", section "File formats".

use std::path::Path;

use crate::error::{Error, Result};
use crate::io::atomic::write_atomic_bytes;
use crate::io::input::{Input, byte_length};
use crate::shape::Shape;

const FORMAT: &str = "an IDX file of bytes (first bytes 00 00 08 and a rank of 1 to 4)";

const BIG_ENDIAN: &str = "an IDX file of bytes with magic number and axis lengths in big-endian order, the first byte the highest";

/// The element type "unsigned byte".
const UNSIGNED_BYTE: u8 = 8;

/// An array of bytes from an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// Axis lengths: `[n]` for labels, `[n, rows, columns]` for images.
    pub shape: Shape,
    /// The elements, row-major.
    pub data: Vec<u8>,
}

/// Reads an IDX file, plain or gzip.
///
/// # Errors
/// The file cannot be read, is not IDX, holds other elements than bytes, or is shorter or longer than its header says.
pub fn read(path: &Path) -> Result<Idx> {
    parse(Input::open(path, FORMAT)?)
}

/// Reads an IDX file from memory, plain or gzip; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Idx> {
    parse(Input::from_bytes(path, FORMAT, bytes)?)
}

fn parse(mut input: Input<'_>) -> Result<Idx> {
    if let Some([1..=4, UNSIGNED_BYTE, 0, 0]) = input.head().first_chunk() {
        return Err(input.bad("an IDX file with a little-endian magic number", BIG_ENDIAN));
    }
    if input.head().len() < 4 || input.head()[..2] != [0, 0] {
        return Err(input.wrong_format());
    }
    let [_, _, kind, rank] = input.array("the magic number")?;
    let other = match kind {
        UNSIGNED_BYTE => None,
        0x09 => Some("signed bytes"),
        0x0b => Some("16-bit integers"),
        0x0c => Some("32-bit integers"),
        0x0d => Some("32-bit floats"),
        0x0e => Some("64-bit floats"),
        _ => return Err(input.wrong_format()),
    };
    if let Some(other) = other {
        return Err(input.bad(format!("an IDX file of {other}"), FORMAT));
    }
    if !(1..=4).contains(&rank) {
        return Err(input.bad(format!("an IDX header with rank {rank}"), FORMAT));
    }
    let mut dims = [0; 4];
    let dims = &mut dims[..rank as usize];
    for dim in dims.iter_mut() {
        *dim = u32::from_be_bytes(input.array("the axis lengths")?) as usize;
    }
    let shape = Shape::new(dims)?;
    let swapped: Vec<usize> = dims.iter().map(|&n| (n as u32).swap_bytes() as usize).collect();
    let swapped_length = byte_length(&Shape::new(&swapped)?, 1);
    let fits = match input.known_length() {
        Some(length) => length - (4 + 4 * dims.len() as u64) == swapped_length,
        None => input.may_hold(swapped_length),
    };
    if fits && !input.may_hold(byte_length(&shape, 1)) {
        return Err(input.bad(format!("an IDX file with little-endian axis lengths {swapped:?}"), BIG_ENDIAN));
    }
    let data = input.bytes(byte_length(&shape, 1), "elements")?;
    input.finish()?;
    Ok(Idx { shape, data })
}

/// The bytes of an IDX file.
///
/// # Errors
/// The rank is not 1 to 4, an axis does not fit 32 bits, or the elements do not fit the shape.
pub fn encode(idx: &Idx) -> Result<Vec<u8>> {
    let shape = idx.shape;
    if !(1..=4).contains(&shape.rank()) || shape.iter().any(|&n| n > u32::MAX as usize) {
        return Err(Error::BadShape { op: "idx", shape, expected: "1 to 4 axes, each shorter than 2^32" });
    }
    if idx.data.len() != shape.len() {
        return Err(Error::WrongLength { op: "idx", found: idx.data.len(), shape });
    }
    let mut bytes = vec![0, 0, UNSIGNED_BYTE, shape.rank() as u8];
    bytes.extend(shape.iter().flat_map(|&n| (n as u32).to_be_bytes()));
    bytes.extend_from_slice(&idx.data);
    Ok(bytes)
}

/// Writes an IDX file (not compressed), atomically.
///
/// # Errors
/// As [`encode`], and errors of the operating system.
pub fn write(path: &Path, idx: &Idx) -> Result<()> {
    write_atomic_bytes(path, &encode(idx)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Idx> {
        super::decode(Path::new("x-idx"), bytes)
    }

    fn message(bytes: &[u8]) -> String {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
        error.to_string()
    }

    #[test]
    fn files_by_hand() {
        let images = decode(&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]).unwrap();
        assert_eq!((images.shape.dims(), &images.data[..]), (&[2, 1, 3][..], &[1, 2, 3, 4, 5, 255][..]));
        assert!(decode(&[0, 0, 8, 1, 0, 0, 0, 0]).unwrap().data.is_empty());
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        let labels = Idx { shape: Shape::from([300]), data: (0..300).map(|i| (i % 10) as u8).collect() };
        write(&path, &labels).unwrap();
        assert_eq!(read(&path).unwrap(), labels);
        assert!(encode(&Idx { shape: Shape::from([3]), data: vec![0; 4] }).is_err());
        assert!(encode(&Idx { shape: Shape::SCALAR, data: vec![0] }).is_err());
    }

    #[test]
    fn wrong_files_are_named_with_what_they_are() {
        assert!(message(b"\x89PNG\r\n\x1a\n____").contains("x-idx: found a PNG image: expected an IDX file of bytes"));
        assert!(message(b"label,pixel\n").contains("text that starts \"label,pixel\""));
        assert!(message(&[0, 0, 13, 1, 0, 0, 0, 0]).contains("32-bit floats"));
        assert!(message(&[0, 0, 8, 9, 0, 0, 0, 0]).contains("rank 9"));
        assert!(message(&[0, 0, 8]).contains("bytes 00 00 08"));
        assert!(message(&[0, 0, 8, 2, 0, 0, 0, 1]).contains("axis lengths"));
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 2, 7]).contains("promises 2 bytes of elements in a file with 1 more"));
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 1, 7, 7]).contains("found 10 bytes"));
    }

    #[test]
    fn little_endian_files_are_recognised() {
        let lengths = [0, 0, 8, 2, 3, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3, 4, 5, 6];
        assert!(message(&lengths).contains("little-endian axis lengths [3, 2]: expected an IDX file of bytes with magic number"));
        let all = [&[2, 8, 0, 0][..], &lengths[4..]].concat();
        assert!(message(&all).contains("a little-endian magic number"));
        // A length that fits in neither byte order is read as written.
        assert!(message(&[0, 0, 8, 1, 1, 1, 0, 0, 9]).contains("promises 16842752 bytes"));
    }

    #[test]
    fn a_header_that_promises_everything_allocates_nothing() {
        let mut bytes = vec![0, 0, 8, 4];
        bytes.extend([255; 16]);
        assert!(message(&bytes).contains("promises"));
    }
}
