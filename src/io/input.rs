//! The input of every reader: a file or bytes, plain or gzip. It never allocates on the word of a header alone.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::device::cpu::memory;
use crate::error::{Error, Result};
use crate::io::describe::describe;
use crate::io::gzip::{self, Members, Trailing};
use crate::io::open;
use crate::shape::Shape;

/// No deflate stream unpacks to more than this many times its own size (258 bytes from 2 bits).
const MAX_INFLATION: u64 = 1032;

/// Bytes kept to say what a wrong file looks like.
const HEAD: usize = 64;

/// The first allocation for compressed contents; it doubles only as bytes really arrive.
const FIRST_CHUNK: usize = 64 * 1024;

/// An open file, or bytes in memory, that is being read as one format.
pub struct Input<'a> {
    path: PathBuf,
    format: &'static str,
    reader: Box<dyn Read + 'a>,
    head: Vec<u8>,
    compressed: bool,
    /// The most bytes that the (unpacked) contents can have.
    limit: u64,
    read: u64,
}

impl Input<'static> {
    /// Opens a file that should be `format` (in words, for error messages: "an IDX file").
    ///
    /// # Errors
    /// The file is missing, is not a regular file, cannot be read, is empty, or starts like gzip and is not.
    pub fn open(path: &Path, format: &'static str) -> Result<Input<'static>> {
        let (file, length) = open::regular(path, format)?;
        Input::new(path, format, BufReader::with_capacity(64 * 1024, file), length)
    }
}

impl<'a> Input<'a> {
    /// Reads from memory what would otherwise be in a file; `path` is what errors call it.
    ///
    /// # Errors
    /// There are no bytes, or they start like gzip and are not.
    pub fn from_bytes(path: &Path, format: &'static str, bytes: &'a [u8]) -> Result<Input<'a>> {
        Input::new(path, format, Cursor::new(bytes), bytes.len() as u64)
    }

    fn new(path: &Path, format: &'static str, mut source: impl BufRead + 'a, length: u64) -> Result<Input<'a>> {
        let mut input =
            Input { path: path.into(), format, reader: Box::new(io::empty()), head: Vec::new(), compressed: false, limit: length, read: 0 };
        // Two steps, since a buffered source may hand out a single byte first.
        let mut magic = Vec::with_capacity(2);
        (&mut source).take(2).read_to_end(&mut magic).map_err(|e| input.failed(e))?;
        let whole = Cursor::new(magic.clone()).chain(source);
        let mut reader: Box<dyn Read + 'a> = if magic == gzip::MAGIC {
            input.compressed = true;
            input.limit = length.saturating_mul(MAX_INFLATION);
            Box::new(Members::new(whole))
        } else {
            Box::new(whole)
        };
        let mut head = vec![0; HEAD];
        let length = fill(&mut reader, &mut head).map_err(|(_, e)| input.failed(e))?;
        head.truncate(length);
        if head.is_empty() {
            return Err(input.bad(if input.compressed { "an empty gzip stream" } else { "an empty file" }, format));
        }
        input.reader = Box::new(Cursor::new(head.clone()).chain(reader));
        input.head = head;
        Ok(input)
    }

    /// The first bytes of the contents, 64 of them where there are as many.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The length of the contents in bytes, where that is known without reading: not for gzip.
    pub fn known_length(&self) -> Option<u64> {
        (!self.compressed).then_some(self.limit)
    }

    /// Whether `length` more bytes are possible: for plain files whether they exist, for gzip whether the stream can hold that many.
    pub fn may_hold(&self, length: u64) -> bool {
        length <= self.limit.saturating_sub(self.read)
    }

    /// The next `N` bytes, called `what` in errors.
    ///
    /// # Errors
    /// The file ends before, or cannot be read.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        match self.fill_counted(&mut bytes)? {
            n if n == N => Ok(bytes),
            n => Err(self.truncated(n, N as u64, what)),
        }
    }

    /// The next `length` bytes, called `what` in errors. Memory is taken as the bytes arrive, so that a header that lies
    /// about its length costs nothing.
    ///
    /// # Errors
    /// The file cannot hold that many, ends before, or cannot be read.
    pub fn bytes(&mut self, length: u64, what: &str) -> Result<Vec<u8>> {
        if !self.may_hold(length) {
            let room = self.limit.saturating_sub(self.read);
            let held = if length == u64::MAX {
                format!("a header that promises more bytes of {what} than 64 bits can count")
            } else if self.compressed {
                format!("a header that promises {length} bytes of {what} in a gzip stream that can hold at most {room} more")
            } else {
                format!("a header that promises {length} bytes of {what} in a file with {room} more")
            };
            return Err(self.bad(held, format!("{} that is complete", self.format)));
        }
        let Ok(length) = usize::try_from(length) else { return Err(self.too_large(length, what)) };
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let have = bytes.len();
            let next = if self.compressed { length.min((2 * have).max(FIRST_CHUNK)) } else { length };
            let granted = memory::check(next - have).is_ok() && bytes.try_reserve_exact(next - have).is_ok();
            if !granted {
                return Err(self.too_large(length as u64, what));
            }
            bytes.resize(next, 0);
            let got = self.fill_counted(&mut bytes[have..])?;
            if have + got < next {
                return Err(self.truncated(have + got, length as u64, what));
            }
        }
        Ok(bytes)
    }

    /// Reads over the next `length` bytes, called `what` in errors.
    ///
    /// # Errors
    /// As [`Input::bytes`].
    pub fn skip(&mut self, length: u64, what: &str) -> Result<()> {
        let mut scratch = [0; 4096];
        let mut left = length;
        while left > 0 {
            let next = left.min(scratch.len() as u64) as usize;
            match self.fill_counted(&mut scratch[..next])? {
                got if got == next => left -= got as u64,
                got => return Err(self.truncated((length - left) as usize + got, length, what)),
            }
        }
        Ok(())
    }

    /// Allocates a vector with capacity for `count` values made from these contents, called `what` in errors.
    pub fn allocate<T>(&self, count: usize, what: &str) -> Result<Vec<T>> {
        let length = (count as u64).saturating_mul(size_of::<T>() as u64);
        memory::vector("file", count).map_err(|_| self.too_large(length, what))
    }

    /// The error of what does not fit into memory.
    fn too_large(&self, length: u64, what: &str) -> Error {
        let free = memory::free_and_total().map_or(String::new(), |(free, _)| format!("; {free} are free"));
        self.bad(format!("{length} bytes of {what}, more than memory can hold{free}"), format!("{} that fits into memory", self.format))
    }

    /// Fills as much of `buffer` as there are bytes and returns how many there were.
    ///
    /// # Errors
    /// The file cannot be read, or its gzip stream is damaged.
    pub fn fill_counted(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (got, error) = match fill(&mut self.reader, buffer) {
            Ok(got) => (got, None),
            Err((got, error)) => (got, Some(error)),
        };
        self.read += got as u64;
        error.map_or(Ok(got), |e| Err(self.failed(e)))
    }

    /// Checks that the contents end here; for gzip this also checks the checksum.
    ///
    /// # Errors
    /// There are more bytes, or the gzip stream is damaged.
    pub fn finish(mut self) -> Result<()> {
        let expected = self.read;
        match self.fill_counted(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.bad(
                match self.known_length() {
                    Some(length) => format!("{length} bytes"),
                    None => format!("more than {expected} bytes"),
                },
                format!("{} of {expected} bytes, as its header says", self.format),
            )),
        }
    }

    /// An error about these contents.
    pub fn bad(&self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::BadFile { path: self.path.clone(), found: found.into(), expected: expected.into() }
    }

    /// An error that describes the contents, which do not have the expected format.
    pub fn wrong_format(&self) -> Error {
        self.bad(describe(&self.head), self.format)
    }

    fn truncated(&self, got: usize, length: u64, what: &str) -> Error {
        self.bad(
            format!("the end of the file after {got} of {length} bytes of {what} (byte {})", self.read),
            format!("{} that is complete", self.format),
        )
    }

    /// Errors with a number come from the operating system; the others say that the gzip stream is damaged.
    fn failed(&self, source: io::Error) -> Error {
        if source.raw_os_error().is_some() || !self.compressed {
            return Error::Io { path: self.path.clone(), action: "read the file", source };
        }
        if let Some(trailing) = source.get_ref().and_then(|e| e.downcast_ref::<Trailing>()) {
            return self.bad(trailing.to_string(), format!("{} and at most zeros after it", self.format));
        }
        let found = match source.kind() {
            ErrorKind::OutOfMemory => return Error::Io { path: self.path.clone(), action: "read the file", source },
            ErrorKind::UnexpectedEof => format!("a gzip stream that ends too early, after {} unpacked bytes", self.read),
            _ => format!("a damaged gzip stream ({source}) after {} unpacked bytes", self.read),
        };
        self.bad(found, format!("{} that is complete", self.format))
    }
}

/// Reads until `buffer` is full or the source ends; an error comes with the number of bytes read before it.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> std::result::Result<usize, (usize, io::Error)> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err((got, e)),
        }
    }
    Ok(got)
}

/// The bytes that a row-major array of this shape takes, or [`u64::MAX`], which no file has, where that overflows. Axes of
/// length 0 are left out of the check: sizes and strides of such an array must not overflow either.
pub fn byte_length(shape: &Shape, element: usize) -> u64 {
    let length = shape.iter().filter(|&&n| n > 0).try_fold(element as u64, |a, &n| a.checked_mul(n as u64));
    // Below the last sixteenth there is room to multiply by another element size later on.
    let length = length.filter(|&n| n <= u64::MAX / 16).unwrap_or(u64::MAX);
    if length != u64::MAX && shape.contains(&0) { 0 } else { length }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], length: u64) -> Result<Vec<u8>> {
        let mut input = Input::from_bytes(Path::new("some.file"), "a test file", bytes)?;
        let bytes = input.bytes(length, "values")?;
        input.finish().map(|()| bytes)
    }

    #[test]
    fn plain_and_gzip_read_alike() {
        let contents: Vec<u8> = (0..300_000).map(|i| (i * i / 7) as u8).collect();
        assert_eq!(read(&contents, 300_000).unwrap(), contents);
        assert_eq!(read(&gzip(&contents), 300_000).unwrap(), contents);
        let mut members = gzip(&contents[..1000]);
        members.extend(gzip(&contents[1000..]));
        assert_eq!(read(&members, 300_000).unwrap(), contents);
    }

    #[test]
    fn lengths_that_disagree_are_errors() {
        for bytes in [vec![1; 100], gzip(&[1; 100])] {
            let message = read(&bytes, 90).unwrap_err().to_string();
            assert!(message.contains("some.file") && message.contains("of 90 bytes"), "{message}");
            assert!(read(&bytes, 101).is_err() && read(&bytes, u64::MAX).is_err());
        }
        assert!(read(&[], 0).unwrap_err().to_string().contains("an empty file"));
        assert!(read(&gzip(&[]), 0).unwrap_err().to_string().contains("an empty gzip stream"));
    }

    #[test]
    fn damaged_gzip_is_a_bad_file() {
        let whole = gzip(&(0..5000u32).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>());
        for length in 0..whole.len() {
            assert!(matches!(read(&whole[..length], 5000), Err(Error::BadFile { .. })), "cut at {length}");
        }
        // A wrong checksum shows only at the end, after all bytes were right.
        let mut wrong = whole.clone();
        let at = wrong.len() - 6;
        wrong[at] ^= 1;
        assert!(read(&wrong, 5000).unwrap_err().to_string().contains("damaged gzip"));
    }

    #[test]
    fn zeros_after_gzip_are_read_over_and_other_bytes_are_named() {
        let padded = [gzip(&[7; 90]), vec![0; 512]].concat();
        assert_eq!(read(&padded, 90).unwrap(), [7; 90]);
        let message = read(&[gzip(&[7; 90]), b"garbage".to_vec()].concat(), 90).unwrap_err().to_string();
        assert!(message.contains("after the end of the gzip stream (text that starts \"garbage\"): expected a test file"), "{message}");
    }

    #[test]
    fn a_bomb_is_not_unpacked_beyond_what_was_asked() {
        let bomb = gzip(&vec![0; 20 << 20]);
        let mut input = Input::from_bytes(Path::new("bomb"), "a test file", &bomb).unwrap();
        let bytes = input.bytes(16, "values").unwrap();
        assert_eq!((bytes.len(), bytes.capacity()), (16, 16));
        assert!(input.finish().unwrap_err().to_string().contains("more than 16 bytes"));
        // A small stream cannot hold what this header promises, so nothing is allocated at all.
        assert!(read(&gzip(b"tiny"), 1 << 40).unwrap_err().to_string().contains("promises"));
    }

    #[test]
    fn folders_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| Input::open(path, "a test file").err().unwrap().to_string();
        assert!(open(folder.path()).contains("found a folder: expected a test file"));
        assert!(open(&folder.path().join("nothing")).contains("nothing: cannot read the file"));
    }
}
