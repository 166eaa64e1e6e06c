//! The readers against damaged files: whatever the bytes, a reader returns contents that agree with themselves or an error
//! that names the file. It never panics and never allocates more than the bytes justify.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use strait::dtype::DType;
use strait::error::{Error, Result};
use strait::io::{Stored, cifar, idx, npy, safetensors};
use strait::shape::Shape;

/// What the errors must mention.
const NAME: &str = "the-fuzzed.file";

/// One damage to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip {
        at: usize,
        mask: u8,
    },
    Truncate {
        to: usize,
    },
    Insert {
        at: usize,
        bytes: Vec<u8>,
    },
    Remove {
        at: usize,
        count: usize,
    },
    /// Overwrites bytes near the start, where the headers are, with a number that tends to break sums and products.
    Field {
        at: usize,
        value: u64,
        big_endian: bool,
        width: usize,
    },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match self {
            _ if length == 0 => {}
            Damage::Flip { at, mask } => bytes[at % length] ^= mask,
            Damage::Truncate { to } => bytes.truncate(to % length),
            Damage::Insert { at, bytes: new } => drop(bytes.splice(at % length..at % length, new.iter().copied())),
            Damage::Remove { at, count } => drop(bytes.drain(at % length..(at % length + count).min(length))),
            Damage::Field { at, value, big_endian, width } => {
                let field = if *big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
                let field = if *big_endian { &field[8 - width..] } else { &field[..*width] };
                let at = at % length.min(160);
                let end = (at + width).min(length);
                bytes[at..end].copy_from_slice(&field[..end - at]);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let value = prop_oneof![
        any::<u64>(),
        Just(u64::MAX),
        Just(1 << 63),
        Just(1 << 31),
        Just(u64::from(u32::MAX)),
        0u64..300,
        Just(0x3938_3736_3534_3332)
    ];
    prop_oneof![
        // Half of the damage goes to the first bytes, where the headers are.
        (prop_oneof![0usize..160, any::<usize>()], any::<u8>()).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        any::<usize>().prop_map(|to| Damage::Truncate { to }),
        (prop_oneof![0usize..160, any::<usize>()], vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        (prop_oneof![0usize..160, any::<usize>()], 1usize..40).prop_map(|(at, count)| Damage::Remove { at, count }),
        (0usize..160, value, any::<bool>(), prop_oneof![Just(1), Just(2), Just(4), Just(8)])
            .prop_map(|(at, value, big_endian, width)| Damage::Field { at, value, big_endian, width }),
    ]
}

/// Damaged versions of one of `whole`, some of them in gzip that may itself be damaged, and plain random bytes.
fn damaged(whole: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutated = (prop::sample::select(whole), vec(damage(), 1..4), 0..4).prop_map(|(mut bytes, damages, packing)| {
        if packing == 0 {
            bytes = gzip(&bytes);
        }
        damages.iter().for_each(|d| d.apply(&mut bytes));
        if packing == 1 { gzip(&bytes) } else { bytes }
    });
    prop_oneof![9 => mutated, 1 => vec(any::<u8>(), 0..4000)]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The contents, if the reader took the file; an error must be about the file and name it.
fn outcome<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error @ (Error::BadFile { .. } | Error::Io { .. })) => {
            let text = error.to_string();
            assert!(text.contains(NAME) && text.len() < 2000, "{text}");
            None
        }
        Err(error) => panic!("not an error about a file: {error:?}"),
    }
}

fn decode<T>(reader: fn(&Path, &[u8]) -> Result<T>, bytes: &[u8]) -> Option<T> {
    outcome(reader(Path::new(NAME), bytes))
}

fn idx_files() -> Vec<Vec<u8>> {
    let file = |dims: &[usize]| {
        let shape = Shape::new(dims).unwrap();
        idx::encode(&idx::Idx { shape, data: (0..shape.len()).map(|i| (i % 10) as u8).collect() }).unwrap()
    };
    vec![file(&[50]), file(&[6, 5, 4]), file(&[2, 3, 4, 5])]
}

fn cifar_files() -> Vec<Vec<u8>> {
    vec![(0..3 * cifar::RECORD).map(|i| if i % cifar::RECORD == 0 { (i % 7) as u8 } else { (i % 253) as u8 }).collect()]
}

fn npy_files() -> Vec<Vec<u8>> {
    let file = |dtype: DType, dims: &[usize]| {
        let shape = Shape::new(dims).unwrap();
        npy::encode(&npy::Npy { dtype: dtype.into(), shape, bytes: (0..shape.len() * dtype.size()).map(|i| (i % 2) as u8).collect() })
            .unwrap()
    };
    let rewritten = |from: &str, to: &str, dtype| {
        let mut bytes = file(dtype, &[3, 4]);
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        bytes.splice(at..at + from.len(), to.bytes());
        bytes
    };
    vec![
        file(DType::F32, &[3, 4]),
        file(DType::U8, &[2, 3, 4]),
        file(DType::F64, &[]),
        rewritten("False", "True ", DType::F16),
        rewritten("<f4", "<i4", DType::F32),
        rewritten("<f8", ">u8", DType::F64),
        rewritten("|u1", "|b1", DType::U8),
    ]
}

fn tensors() -> Vec<safetensors::NamedTensor<'static>> {
    Stored::ALL
        .into_iter()
        .enumerate()
        .map(|(i, dtype)| {
            let shape = Shape::from([i, 3]);
            safetensors::NamedTensor { name: format!("t{i}"), dtype, shape, bytes: vec![1; shape.len() * dtype.size()].into() }
        })
        .collect()
}

fn safetensors_files() -> Vec<Vec<u8>> {
    let metadata = BTreeMap::from([("step".to_string(), "12".to_string()), ("seed".to_string(), "0".to_string())]);
    vec![safetensors::encode(&tensors(), &metadata).unwrap(), safetensors::encode(&tensors()[1..2], &BTreeMap::new()).unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn idx_survives(bytes in damaged(idx_files())) {
        if let Some(idx) = decode(idx::decode, &bytes) {
            prop_assert_eq!(idx.data.len(), idx.shape.len());
        }
    }

    #[test]
    fn npy_survives(bytes in damaged(npy_files())) {
        if let Some(npy) = decode(npy::decode, &bytes) {
            prop_assert_eq!(npy.bytes.len(), npy.shape.len() * npy.dtype.size());
            let _ = npy.shape.strides();
        }
    }

    #[test]
    fn safetensors_survives(bytes in damaged(safetensors_files())) {
        if let Some(file) = decode(safetensors::decode, &bytes) {
            for tensor in &file.tensors {
                prop_assert_eq!(tensor.bytes.len(), tensor.shape.len() * tensor.dtype.size());
                let _ = tensor.shape.strides();
            }
            // What was accepted can be written, and comes back.
            let again = safetensors::encode(&file.tensors, &file.metadata).unwrap();
            let again = safetensors::decode(Path::new(NAME), &again).unwrap();
            prop_assert_eq!(&again.metadata, &file.metadata);
            prop_assert_eq!(again.tensors.len(), file.tensors.len());
        }
    }

    #[test]
    fn idx_round_trips(dims in vec(0usize..6, 1..5), fill in any::<u8>(), packed in any::<bool>()) {
        let shape = Shape::new(&dims).unwrap();
        let idx = idx::Idx { shape, data: (0..shape.len()).map(|i| fill.wrapping_mul(i as u8)).collect() };
        let bytes = idx::encode(&idx).unwrap();
        let bytes = if packed { gzip(&bytes) } else { bytes };
        prop_assert_eq!(decode(idx::decode, &bytes), Some(idx));
    }

    #[test]
    fn npy_round_trips(dims in vec(0usize..5, 0..7), dtype in 0usize..13, fill in any::<u8>()) {
        let (shape, dtype) = (Shape::new(&dims).unwrap(), Stored::ALL[dtype]);
        let npy = npy::Npy { dtype, shape, bytes: (0..shape.len() * dtype.size()).map(|i| if dtype == Stored::Bool { i as u8 & 1 } else { fill ^ i as u8 }).collect() };
        match npy::encode(&npy) {
            Ok(bytes) => prop_assert_eq!(decode(npy::decode, &bytes), Some(npy)),
            Err(_) => prop_assert_eq!(dtype, Stored::BF16),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn cifar_survives(bytes in damaged(cifar_files())) {
        if let Some(cifar) = decode(cifar::decode, &bytes) {
            prop_assert_eq!(cifar.images.len(), cifar.labels.len() * (cifar::RECORD - 1));
            prop_assert!(cifar.labels.iter().all(|&l| l < 10));
        }
    }
}

/// Every file under every reader that it is not for, from a real file this time.
#[test]
fn one_format_is_never_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(NAME);
    let files = [idx_files(), cifar_files(), npy_files(), safetensors_files()];
    for (format, files) in files.iter().enumerate() {
        for file in files {
            std::fs::write(&path, file).unwrap();
            let accepted = [
                outcome(idx::read(&path)).is_some(),
                outcome(cifar::read(&path)).is_some(),
                outcome(npy::read(&path)).is_some(),
                outcome(safetensors::read(&path)).is_some(),
            ];
            assert_eq!(accepted, [0, 1, 2, 3].map(|reader| reader == format));
        }
    }
}

/// Headers that promise petabytes, and a bomb, must not raise the peak of this process's address space.
#[cfg(target_os = "linux")]
#[test]
fn lying_headers_allocate_nothing() {
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmPeak:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
    let npy = |shape: &str| {
        let text = format!("{{'descr': '<f8', 'fortran_order': True, 'shape': {shape}, }}");
        [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), &[0; 64]].concat()
    };
    let tensors = |shape: &str, end: u64| {
        let text = format!(r#"{{"a":{{"dtype":"U8","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 64]].concat()
    };
    // 512 GiB of zeros, thousandfold packed: the first part of them is all that is really there.
    let idx = [&[0, 0, 8, 3, 0, 0, 0x80, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0][..], &[0; 1 << 20]].concat();
    let before = peak();
    for bytes in [idx.clone(), gzip(&idx)] {
        assert!(decode(idx::decode, &bytes).is_none());
    }
    for shape in ["(1000000000000,)", "(1000000, 1000000, 1000)", "(9223372036854775807, 2)"] {
        assert!(decode(npy::decode, &npy(shape)).is_none());
        assert!(decode(npy::decode, &gzip(&npy(shape))).is_none());
    }
    for (shape, end) in [("[1099511627776]", 1 << 40), ("[18446744073709551615]", u64::MAX), ("[0,18446744073709551615]", 0)] {
        assert!(decode(safetensors::decode, &tensors(shape, end)).is_none());
        assert!(decode(safetensors::decode, &gzip(&tensors(shape, end))).is_none());
    }
    // Other tests run beside this one and threads map their stacks and heaps; the lies are far larger.
    assert!(peak() - before < 8 << 30, "the peak grew from {before} to {}", peak());
}
