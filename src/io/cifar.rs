//! The binary version of CIFAR-10: records of one label byte and 3 x 32 x 32 image bytes (red plane, green, blue), no header.
//! Format: A. Krizhevsky, "The CIFAR-10 dataset", section "Binary version".

use std::path::Path;

use super::describe::describe;
use crate::error::Result;
use crate::io::input::Input;

const FORMAT: &str = "a CIFAR-10 binary batch (records of 3073 bytes: a label from 0 to 9 and an image)";

/// Channels, height and width of an image.
pub const IMAGE: [usize; 3] = [3, 32, 32];

/// Number of classes.
pub const CLASSES: usize = 10;

/// Bytes of an image.
const PIXELS: usize = IMAGE[0] * IMAGE[1] * IMAGE[2];

/// Bytes of a record.
pub const RECORD: usize = 1 + PIXELS;

/// The most records that a compressed file may unpack to: all of CIFAR-10. The format has no header that could say how many
/// there are, so without a bound a small file could fill the memory.
const MAX_COMPRESSED_RECORDS: usize = 60_000;

/// The images and labels of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cifar {
    /// Pixels, [n, 3, 32, 32] row-major.
    pub images: Vec<u8>,
    /// n labels from 0 to 9.
    pub labels: Vec<u8>,
}

/// Reads a batch file, plain or gzip.
///
/// # Errors
/// The file cannot be read, is not whole records, or has a label above 9.
pub fn read(path: &Path) -> Result<Cifar> {
    parse(Input::open(path, FORMAT)?)
}

/// Reads a batch file from memory, plain or gzip; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Cifar> {
    parse(Input::from_bytes(path, FORMAT, bytes)?)
}

fn parse(mut input: Input<'_>) -> Result<Cifar> {
    let mut cifar = Cifar { images: Vec::new(), labels: Vec::new() };
    let mut most = MAX_COMPRESSED_RECORDS;
    if let Some(length) = input.known_length() {
        if length % RECORD as u64 != 0 {
            return Err(input.bad(format!("{} of {length} bytes", describe(input.head())), FORMAT));
        }
        most = (length / RECORD as u64) as usize;
        cifar.images = input.allocate(most * PIXELS, "images")?;
        cifar.labels = input.allocate(most, "labels")?;
    }
    let mut record = [0; RECORD];
    for index in 0.. {
        match input.fill_counted(&mut record)? {
            0 => break,
            RECORD if index == most => {
                return Err(input.bad(format!("more than {most} records"), FORMAT));
            }
            RECORD => {}
            got => return Err(input.bad(format!("record {index} cut off after {got} bytes"), FORMAT)),
        }
        if record[0] as usize >= CLASSES {
            let found = match index {
                // The first label is also the first byte of a file of another format.
                0 => format!("{} (a first label of {})", describe(input.head()), record[0]),
                _ => format!("label {} in record {index}", record[0]),
            };
            return Err(input.bad(found, FORMAT));
        }
        cifar.labels.push(record[0]);
        cifar.images.extend_from_slice(&record[1..]);
    }
    Ok(cifar)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn batch(labels: &[u8]) -> Vec<u8> {
        labels.iter().flat_map(|&l| std::iter::once(l).chain((0..PIXELS).map(move |i| (i % 251) as u8 ^ l))).collect()
    }

    fn decode(bytes: &[u8]) -> Result<Cifar> {
        super::decode(Path::new("batch.bin"), bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn records_split_into_labels_and_images() {
        let bytes = batch(&[3, 0, 9]);
        let cifar = decode(&bytes).unwrap();
        assert_eq!(cifar.labels, [3, 0, 9]);
        assert_eq!(cifar.images.len(), 3 * PIXELS);
        assert_eq!(cifar.images[PIXELS..2 * PIXELS], bytes[RECORD + 1..2 * RECORD]);
        assert_eq!(decode(&gzip(&bytes)).unwrap(), cifar);
    }

    #[test]
    fn wrong_files_are_errors() {
        let message = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert!(message(&batch(&[1, 2])[..RECORD + 5]).contains("of 3078 bytes"));
        assert!(message(&gzip(&batch(&[1, 2])[..RECORD + 5])).contains("record 1 cut off after 5 bytes"));
        assert!(message(&batch(&[1, 10])).contains("label 10 in record 1"));
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        png.resize(RECORD, 0);
        assert!(message(&png).contains("a PNG image (a first label of 137)"));
        assert!(message(&[]).contains("an empty file"));
    }

    #[test]
    fn a_bomb_ends_at_the_size_of_the_data_set() {
        // Zeros are records with label 0, so only the number of records tells.
        let bytes = gzip(&vec![0; RECORD * (MAX_COMPRESSED_RECORDS + 1)]);
        assert!(decode(&bytes).unwrap_err().to_string().contains("more than 60000 records"));
    }
}
