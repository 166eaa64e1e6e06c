//! Zip archives, as far as NumPy's `.npz` files need them: members that are stored or deflated, without encryption, below 4 GiB.
//! Format: PKWARE's APPNOTE.
//!
//! A member is unpacked when it is asked for and never beyond the size that the archive declares, which in turn may not be more than its
//! compressed bytes can hold.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::device::cpu::memory;
use crate::error::{Error, Result};
use crate::io::input::Input;
use crate::words::{QUOTED, shorten};

/// The longest comment at the end of an archive, and what stands before it.
const TAIL: usize = u16::MAX as usize + 22;

/// No deflate stream unpacks to more than this many times its own size.
const MAX_INFLATION: u64 = 1032;

/// An archive in memory.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    format: &'static str,
    bytes: Vec<u8>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    encrypted: bool,
    method: u16,
    crc: u32,
    packed: u64,
    unpacked: u64,
    /// The position of its own header.
    at: u64,
}

/// Reads an archive that should be `format` (in words, for error messages).
///
/// # Errors
/// The file cannot be read, or is no archive of this kind.
pub fn read(path: &Path, format: &'static str) -> Result<Archive> {
    parse(path, format, Input::open(path, format)?)
}

/// Reads an archive from memory; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn decode(path: &Path, format: &'static str, bytes: &[u8]) -> Result<Archive> {
    parse(path, format, Input::from_bytes(path, format, bytes)?)
}

/// The little-endian numbers of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }
}

fn parse(path: &Path, format: &'static str, mut input: Input<'_>) -> Result<Archive> {
    let (true, Some(length)) = (input.head().starts_with(b"PK"), input.known_length()) else { return Err(input.wrong_format()) };
    let bytes = input.bytes(length, "the archive")?;
    let mut archive = Archive { path: path.into(), format, bytes, members: Vec::new() };
    archive.members = archive.directory()?;
    Ok(archive)
}

impl Archive {
    /// The names of the members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &member.name[..])
    }

    fn bad(&self, found: impl Into<String>) -> Error {
        Error::BadFile { path: self.path.clone(), found: found.into(), expected: format!("{} that is complete", self.format) }
    }

    fn slice(&self, at: u64, length: u64) -> Option<&[u8]> {
        let end = at.checked_add(length)?;
        self.bytes.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
    }

    fn directory(&self) -> Result<Vec<Member>> {
        let tail = self.bytes.len().saturating_sub(TAIL);
        let end = self.bytes[tail..].windows(22).rposition(|window| window.starts_with(b"PK\x05\x06"));
        let end = end.ok_or_else(|| self.bad("a zip archive without a list of its members, as if it had been cut"))?;
        let end = Fields(&self.bytes[tail + end..]);
        let (count, length, start) = (end.u16(10), end.u32(12), end.u32(16));
        if count == u16::MAX || length == u32::MAX || start == u32::MAX {
            return Err(self.bad("a zip archive of more than 4 GiB or 65,534 members"));
        }
        let mut list = self.slice(start.into(), length.into()).ok_or_else(|| self.bad("a list of members beyond the end of the file"))?;
        let mut members = Vec::new();
        for _ in 0..count {
            let header = list.get(..46).filter(|header| header.starts_with(b"PK\x01\x02"));
            let header = Fields(header.ok_or_else(|| self.bad("a damaged list of members"))?);
            let lengths = [28, 30, 32].map(|at| usize::from(header.u16(at)));
            let name = list.get(46..46 + lengths[0]).ok_or_else(|| self.bad("a damaged list of members"))?;
            members.push(Member {
                name: String::from_utf8_lossy(name).into_owned(),
                encrypted: header.u16(8) & 1 == 1,
                method: header.u16(10),
                crc: header.u32(16),
                packed: header.u32(20).into(),
                unpacked: header.u32(24).into(),
                at: header.u32(42).into(),
            });
            list = list.get(46 + lengths.iter().sum::<usize>()..).unwrap_or(&[]);
        }
        Ok(members)
    }

    /// The unpacked contents of the member of this name, or none if there is no such member.
    ///
    /// # Errors
    /// The member is encrypted, packed by another method, larger than it can be, or damaged; it does not fit into memory.
    pub fn member(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.members.iter().find(|member| member.name == name) else { return Ok(None) };
        let name = shorten(name, QUOTED);
        if member.encrypted {
            return Err(self.bad(format!("an encrypted member '{name}'")));
        }
        let most = match member.method {
            0 => member.packed,
            8 => member.packed.saturating_mul(MAX_INFLATION),
            other => return Err(self.bad(format!("member '{name}' packed by method {other}, neither stored nor deflated"))),
        };
        if member.unpacked > most || member.unpacked == u64::from(u32::MAX) {
            let (unpacked, packed) = (member.unpacked, member.packed);
            return Err(self.bad(format!("member '{name}' that should have {unpacked} bytes, which its {packed} packed ones cannot hold")));
        }
        let damaged = |what: &str| self.bad(format!("member '{name}' {what}"));
        // The lengths in the member's own header may differ from those in the list.
        let header = self.slice(member.at, 30).filter(|header| header.starts_with(b"PK\x03\x04"));
        let header = Fields(header.ok_or_else(|| damaged("without a header"))?);
        let start = member.at + 30 + u64::from(header.u16(26)) + u64::from(header.u16(28));
        let packed = self.slice(start, member.packed).ok_or_else(|| damaged("beyond the end of the file"))?;
        let length = member.unpacked as usize;
        let mut unpacked = memory::vector("a member of an archive", length)?;
        if member.method == 0 {
            unpacked.extend_from_slice(&packed[..length]);
        } else {
            let decoder = DeflateDecoder::new(packed).take(member.unpacked + 1);
            { decoder }.read_to_end(&mut unpacked).map_err(|e| damaged(&format!("that cannot be unpacked ({e})")))?;
        }
        let mut crc = Crc::new();
        crc.update(&unpacked);
        if unpacked.len() != length || crc.sum() != member.crc {
            return Err(damaged("that is not what its size and checksum say"));
        }
        Ok(Some(unpacked))
    }
}

/// Archives for tests of readers.
#[cfg(test)]
pub(crate) mod testing {
    use std::io::Write;

    use flate2::{Compression, Crc, write::DeflateEncoder};

    /// An archive of these members, deflated or stored.
    pub(crate) fn archive(members: &[(&str, Vec<u8>)], deflated: bool) -> Vec<u8> {
        let (mut bytes, mut list) = (Vec::new(), Vec::new());
        for (name, contents) in members {
            let packed = if deflated {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(contents).unwrap();
                encoder.finish().unwrap()
            } else {
                contents.clone()
            };
            let mut crc = Crc::new();
            crc.update(contents);
            let at = bytes.len() as u32;
            let mut common = vec![20, 0, 0, 0, if deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
            common.extend(crc.sum().to_le_bytes());
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((contents.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            bytes.extend(b"PK\x03\x04");
            bytes.extend(&common);
            // Four bytes of extra field, which the list does not have.
            bytes.extend([4, 0]);
            bytes.extend(name.as_bytes());
            bytes.extend([9, 9, 0, 0]);
            bytes.extend(packed);
            list.extend(b"PK\x01\x02\x14\x00");
            list.extend(&common);
            list.extend([0; 12]);
            list.extend(at.to_le_bytes());
            list.extend(name.as_bytes());
        }
        let (start, length, count) = (bytes.len() as u32, list.len() as u32, members.len() as u16);
        bytes.extend(list);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
        bytes.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
        bytes.extend([0, 0]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Result<Archive> {
        decode(Path::new("some.zip"), "a test archive", bytes)
    }

    fn members() -> Vec<(&'static str, Vec<u8>)> {
        vec![("a.npy", (0..5000u32).map(|i| (i * i / 9) as u8).collect()), ("empty", Vec::new()), ("zeros", vec![0; 100_000])]
    }

    #[test]
    fn members_are_stored_or_deflated() {
        for deflated in [false, true] {
            let bytes = testing::archive(&members(), deflated);
            let archive = open(&bytes).unwrap();
            assert_eq!(archive.names().collect::<Vec<_>>(), ["a.npy", "empty", "zeros"]);
            for (name, contents) in members() {
                assert_eq!(archive.member(name).unwrap().unwrap(), contents);
            }
            assert!(archive.member("other").unwrap().is_none());
            // A comment, and whatever it may hold.
            let commented = [&bytes[..bytes.len() - 2], &[5, 0], b"PK\x05\x06!"].concat();
            assert_eq!(open(&commented).unwrap().names().count(), 3);
        }
    }

    #[test]
    fn damage_is_found_and_named() {
        let whole = testing::archive(&members()[..1], true);
        for at in 0..whole.len() {
            for bit in [0, 3, 7] {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                // Dates, versions and the like are not looked at; what is read is right.
                match open(&damaged).and_then(|archive| archive.member("a.npy")) {
                    Ok(contents) => assert!(contents.is_none_or(|contents| contents == members()[0].1), "{at}"),
                    Err(error) => assert!(error.to_string().starts_with("some.zip: found "), "{error}"),
                }
            }
        }
        for length in 0..whole.len() {
            assert!(open(&whole[..length]).is_err(), "{length}");
        }
        assert!(open(b"\x89HDF\r\n\x1a\n").unwrap_err().to_string().contains("an HDF5 file"));
    }

    /// Sizes are those of the list: 20 bytes before the name's length, and 8 before that.
    #[test]
    fn sizes_that_cannot_be_are_not_believed() {
        let whole = testing::archive(&[("zeros", vec![0; 3_000_000])], true);
        let list = whole.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        let with = |at: usize, value: &[u8]| {
            let mut changed = whole.clone();
            changed[list + at..list + at + value.len()].copy_from_slice(value);
            open(&changed).unwrap().member("zeros").unwrap_err().to_string()
        };
        assert!(with(24, &4_000_000_000u32.to_le_bytes()).contains("should have 4000000000 bytes, which its"));
        assert!(with(24, &1000u32.to_le_bytes()).contains("not what its size and checksum say"));
        assert!(with(8, &[1]).contains("an encrypted member"));
        assert!(with(10, &[12]).contains("packed by method 12"));
        assert!(with(20, &4_000_000_000u32.to_le_bytes()).contains("beyond the end"));
        assert!(with(42, &1u32.to_le_bytes()).contains("without a header"));
    }
}
