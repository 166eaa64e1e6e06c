//! Gzip files: streams one after the other, and zeros between and behind them, as gzip itself and Python read them.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;

use crate::io::describe::describe;

/// The two bytes that every stream starts with.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes kept to say what follows the last stream.
const SHOWN: u64 = 32;

/// The unpacked contents of all gzip members of a file, one after the other.
pub(super) struct Members<R> {
    /// The stream that is being read; none behind the last one.
    decoder: Option<GzDecoder<R>>,
}

/// Bytes behind the last stream that are not zeros.
#[derive(Debug)]
pub(super) struct Trailing(Vec<u8>);

impl<R: BufRead> Members<R> {
    /// The streams of a source that starts with [`MAGIC`].
    pub(super) fn new(source: R) -> Members<R> {
        Members { decoder: Some(GzDecoder::new(source)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let got = decoder.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            let source = self.decoder.take().map(GzDecoder::into_inner);
            self.decoder = source.map(next).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// The stream after the zeros that come next, if there is one.
fn next<R: BufRead>(mut source: R) -> io::Result<Option<GzDecoder<R>>> {
    let first = loop {
        let bytes = match source.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        match bytes.iter().position(|&b| b != 0) {
            _ if bytes.is_empty() => return Ok(None),
            Some(zeros) => {
                let first = bytes[zeros];
                source.consume(zeros);
                break first;
            }
            None => {
                let zeros = bytes.len();
                source.consume(zeros);
            }
        }
    };
    if first == MAGIC[0] {
        return Ok(Some(GzDecoder::new(source)));
    }
    let mut shown = Vec::new();
    source.take(SHOWN).read_to_end(&mut shown)?;
    Err(io::Error::new(ErrorKind::InvalidData, Trailing(shown)))
}

impl fmt::Display for Trailing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more after the end of the gzip stream ({})", describe(&self.0))
    }
}

impl std::error::Error for Trailing {}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let (bytes, mut out) = (parts.concat(), Vec::new());
        // A small buffer, so that zeros and streams begin in the middle of one and at its edge.
        Members::new(io::BufReader::with_capacity(7, &bytes[..])).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn zeros_and_further_streams_may_follow_and_nothing_else() {
        let (a, b) = (gzip(b"first "), gzip(b"second"));
        for parts in [&[&a[..], &b][..], &[&a, &[0; 512], &b], &[&a, &b, &[0; 20]], &[&a, &gzip(b""), &b, &[0]]] {
            assert_eq!(read(parts).unwrap(), b"first second");
        }
        for (parts, part) in [
            (&[&a[..], b"garbage"][..], "(text that starts \"garbage\")"),
            (&[&a, &[0; 9], b"garbage"], "(text that starts \"garbage\")"),
            (&[&a, &[1, 0]], "(a file that starts with the bytes 01 00)"),
        ] {
            let error = read(parts).unwrap_err();
            assert!(error.get_ref().is_some_and(|e| e.is::<Trailing>()) && error.to_string().contains(part), "{error}");
        }
        assert!(read(&[&a, &b[..b.len() - 3]]).is_err() && read(&[&a, &[0x1f, 0, 0]]).is_err());
    }
}
