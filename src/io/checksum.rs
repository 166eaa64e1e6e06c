//! Checksums of tensors and of a file's table of strings, kept in that table, so that damage does not pass for numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;
use std::path::Path;

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};
use crate::io::safetensors::{NamedTensor, TensorFile};
use crate::words::{QUOTED, shorten};

/// The entry with the hash of each tensor: a line "HASH NAME" for each, by name.
const TENSORS: &str = "checksums";

/// The entry with the hash of all other entries.
const TABLE: &str = "checksum";

/// The 64-bit XXH3 hash of some parts, each with its length, so that no two lists of parts are the same bytes.
#[derive(Clone)]
pub struct Hash(XxHash3_64);

impl Hash {
    /// Of no parts yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Hash {
        Hash(XxHash3_64::new())
    }

    /// Adds a part.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.finish())
    }
}

fn of_tensor(tensor: &NamedTensor) -> String {
    let mut hash = Hash::new();
    hash.part(format!("{} {}", tensor.dtype, tensor.shape).as_bytes());
    hash.part(&tensor.bytes);
    hash.to_string()
}

fn of_table(metadata: &BTreeMap<String, String>) -> String {
    let mut hash = Hash::new();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != TABLE) {
        hash.part(key.as_bytes());
        hash.part(value.as_bytes());
    }
    hash.to_string()
}

/// Adds the checksums of `tensors` and of all other entries to the table of strings of a file.
pub fn seal(tensors: &[NamedTensor], metadata: &mut BTreeMap<String, String>) {
    let hashes: BTreeMap<&str, String> = tensors.iter().map(|t| (&t.name[..], of_tensor(t))).collect();
    let lines = hashes.into_iter().map(|(name, hash)| format!("{hash} {name}\n")).collect();
    metadata.insert(TENSORS.into(), lines);
    metadata.insert(TABLE.into(), of_table(metadata));
}

/// Whether there are checksums, complete or damaged.
pub fn is_sealed(metadata: &BTreeMap<String, String>) -> bool {
    metadata.contains_key(TENSORS) || metadata.contains_key(TABLE)
}

/// Checks that a file is as it was when [`seal`] was called.
///
/// # Errors
/// The file has no checksums, a tensor or the table of strings was changed, or a tensor is missing or was added; named by `path`.
pub fn verify(path: &Path, file: &TensorFile) -> Result<()> {
    let bad = |found: String| {
        let expected = "the file as it was written: it is damaged, take an older copy".into();
        Err(Error::BadFile { path: path.into(), found, expected })
    };
    let (Some(lines), Some(table)) = (file.metadata.get(TENSORS), file.metadata.get(TABLE)) else {
        return bad("no checksums".into());
    };
    if *table != of_table(&file.metadata) {
        return bad("a table of strings that does not fit its checksum".into());
    }
    let expected: BTreeMap<&str, &str> = lines.lines().filter_map(|line| line.split_once(' ')).map(|(hash, name)| (name, hash)).collect();
    for tensor in &file.tensors {
        if expected.get(&tensor.name[..]) != Some(&&of_tensor(tensor)[..]) {
            return bad(format!("tensor '{}' that does not fit its checksum", shorten(&tensor.name, QUOTED)));
        }
    }
    match expected.keys().find(|name| file.get(name).is_none()) {
        Some(name) => bad(format!("no tensor '{}'", shorten(name, QUOTED))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::safetensors::{decode, encode};
    use crate::shape::Shape;

    #[test]
    fn the_hash_is_xxh3() {
        // XXH3_64bits of no bytes and of "a", seed 0, as the reference has them.
        assert_eq!(XxHash3_64::oneshot(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(XxHash3_64::oneshot(b"a"), 0xe6c6_32b6_1e96_4e1f);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let tensors = [
            NamedTensor::from_slice("model.weight", Shape::from([2, 3]), &[0.1f32, 0.2, 0.3, 0.4, 0.5, 0.6]).unwrap(),
            NamedTensor::from_slice("run.steps", Shape::from([1]), &[7i64]).unwrap(),
        ];
        let mut metadata = BTreeMap::from([("model".to_string(), "vib".to_string())]);
        seal(&tensors, &mut metadata);
        let bytes = encode(&tensors, &metadata).unwrap();
        let path = Path::new("some.file");
        let check = |bytes: &[u8]| decode(path, bytes).and_then(|file| verify(path, &file));
        check(&bytes).unwrap();
        let elements = bytes.len() - (6 * 4 + 8);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let error = check(&damaged).expect_err("damage").to_string();
                assert!(error.contains("some.file"), "{error}");
                if at >= elements {
                    let name = if at < elements + 8 { "run.steps" } else { "model.weight" };
                    assert!(error.contains(&format!("tensor '{name}' that does not fit its checksum")), "{error}");
                }
            }
        }
    }

    #[test]
    fn tensors_cannot_go_missing_or_be_added() {
        let tensor = |name: &str| NamedTensor::from_slice(name, Shape::from([1]), &[1.5f32]).unwrap();
        let mut metadata = BTreeMap::new();
        seal(&[tensor("a"), tensor("b")], &mut metadata);
        let check = |tensors: &[NamedTensor<'static>], metadata: &BTreeMap<String, String>| {
            let file = TensorFile { tensors: tensors.to_vec(), metadata: metadata.clone(), ..Default::default() };
            verify(Path::new("f"), &file).map_err(|e| e.to_string())
        };
        assert_eq!(check(&[tensor("b"), tensor("a")], &metadata), Ok(()));
        assert!(check(&[tensor("a")], &metadata).unwrap_err().contains("no tensor 'b'"));
        assert!(check(&[tensor("a"), tensor("b"), tensor("c")], &metadata).unwrap_err().contains("tensor 'c'"));
        assert!(check(&[tensor("a"), tensor("b")], &BTreeMap::new()).unwrap_err().contains("no checksums"));
        metadata.insert("more".into(), String::new());
        assert!(check(&[tensor("a"), tensor("b")], &metadata).unwrap_err().contains("a table of strings"));
    }
}
