//! TensorBoard event files: TFRecord framing around hand-encoded protobuf messages, for scalars and PNG images.
//!
//! A record is the length (u64), a masked CRC-32C of the length, the bytes, and a masked CRC-32C of the bytes, all little endian.
//! Messages and field numbers are those of TensorFlow's `event.proto` and `summary.proto`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use strait::error::{Error, Result};

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of each byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { 0x82F6_3B78 } else { 0 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// The CRC-32C of these bytes. (Not the CRC-32 of zip and PNG, which has another polynomial.)
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| (crc >> 8) ^ TABLE[((crc ^ b as u32) & 0xff) as usize])
}

/// The checksum as TFRecord stores it: rotated and shifted, so that a file holding checksums of itself stays well mixed.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Just enough of protobuf's wire format. The field number comes first, as on the wire.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: u64) -> Message {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Message {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
}

/// `Event.wall_time`, seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Writes one event file into a folder that TensorBoard watches.
#[derive(Debug)]
pub(crate) struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new event file `events.out.tfevents.<unix time>.strait` in `folder`, which is created if missing.
    ///
    /// A run that continues after some step passes `Some(step + 1)`: TensorBoard then forgets what earlier files of the folder
    /// say about that step and later ones.
    ///
    /// # Errors
    /// The operating system refused to create or write.
    pub(crate) fn create(folder: impl AsRef<Path>, restart_at: Option<u64>) -> Result<EventWriter> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), action: "create the folder", source })?;
        // TensorBoard reads the files of a folder in the order of their names, so a second file of the same second gets the next one.
        let mut seconds = wall_time() as u64;
        let (path, file) = loop {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.strait"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => seconds += 1,
                Err(source) => return Err(Error::Io { path, action: "create", source }),
            }
        };
        let mut writer = EventWriter { path, file: BufWriter::new(file) };
        writer.record(&Message::default().double(1, wall_time()).bytes(3, b"brain.Event:2").0)?;
        if let Some(step) = restart_at {
            // Event.session_log = 7, SessionLog.status = 1, START = 1.
            let start = Message::default().int(1, 1);
            writer.record(&Message::default().double(1, wall_time()).int(2, step).bytes(7, &start.0).0)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// A number at a step. `tag` is its name; a slash groups. The format holds f32.
    ///
    /// # Errors
    /// The operating system refused to write.
    pub(crate) fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<()> {
        self.value(step, Message::default().bytes(1, tag.as_bytes()).float(2, value as f32))
    }

    /// A picture at a step: the bytes of a PNG file, with its size in pixels and its channels (1 gray, 3 RGB, 4 RGBA).
    ///
    /// # Errors
    /// The operating system refused to write.
    pub(crate) fn image(&mut self, step: u64, tag: &str, png: &[u8], width: u32, height: u32, channels: u32) -> Result<()> {
        // Summary.Image: height, width, colorspace, encoded_image_string.
        let image = Message::default().int(1, height.into()).int(2, width.into()).int(3, channels.into()).bytes(4, png);
        self.value(step, Message::default().bytes(1, tag.as_bytes()).bytes(4, &image.0))
    }

    /// Hands everything to the operating system, where TensorBoard sees it. Once an epoch is often enough.
    ///
    /// # Errors
    /// The operating system refused to write.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|source| Error::Io { path: self.path.clone(), action: "write", source })
    }

    /// An event with a summary of one value: Event.wall_time = 1, step = 2, summary = 5; Summary.value = 1.
    fn value(&mut self, step: u64, value: Message) -> Result<()> {
        let summary = Message::default().bytes(1, &value.0);
        self.record(&Message::default().double(1, wall_time()).int(2, step).bytes(5, &summary.0).0)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()];
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        written.map_err(|source| Error::Io { path: self.path.clone(), action: "write", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One field of a protobuf message: its number, its wire type's bits or its bytes.
    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Bits(u64, u64),
        Bytes(u64, &'a [u8]),
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = bytes.split_at(count);
        *bytes = tail;
        head
    }

    fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            out.push(match key & 7 {
                0 => Field::Bits(key >> 3, varint(&mut bytes)),
                1 => Field::Bits(key >> 3, u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                5 => Field::Bits(key >> 3, u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into()),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(key >> 3, take(&mut bytes, length))
                }
                other => panic!("wire type {other}"),
            });
        }
        out
    }

    fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let length = take(&mut bytes, 8);
            assert_eq!(take(&mut bytes, 4), masked(length).to_le_bytes());
            let data = take(&mut bytes, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            assert_eq!(take(&mut bytes, 4), masked(data).to_le_bytes());
            out.push(data);
        }
        out
    }

    #[test]
    fn crc32c_known_answers() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
    }

    #[test]
    fn events_parse_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), Some(200)).unwrap();
        writer.scalar(300, "loss/train", 0.25).unwrap();
        writer.image(301, "digits", b"not really a png", 28, 14, 1).unwrap();
        writer.flush().unwrap();
        let name = writer.path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("events.out.tfevents.") && name.ends_with(".strait"), "{name}");

        let bytes = fs::read(writer.path).unwrap();
        let events: Vec<_> = records(&bytes).into_iter().map(fields).collect();
        assert_eq!(events.len(), 4);
        assert_eq!(events[0][1], Field::Bytes(3, b"brain.Event:2"));
        assert_eq!(events[1][1..], [Field::Bits(2, 200), Field::Bytes(7, &[8, 1])]);
        let Field::Bytes(5, summary) = events[2][2] else { panic!("{events:?}") };
        let Field::Bytes(1, value) = fields(summary)[0] else { panic!() };
        assert_eq!(fields(value), [Field::Bytes(1, b"loss/train"), Field::Bits(2, 0.25f32.to_bits().into())]);
        assert_eq!(events[3][1], Field::Bits(2, 301));
        let Field::Bytes(5, summary) = events[3][2] else { panic!("{events:?}") };
        let Field::Bytes(1, value) = fields(summary)[0] else { panic!() };
        let Field::Bytes(4, image) = fields(value)[1] else { panic!() };
        assert_eq!(fields(image), [Field::Bits(1, 14), Field::Bits(2, 28), Field::Bits(3, 1), Field::Bytes(4, b"not really a png")]);
    }

    #[test]
    fn a_second_file_of_the_same_second_sorts_later() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path(), None).unwrap();
        let second = EventWriter::create(folder.path(), None).unwrap();
        assert!(first.path < second.path);
        assert!(matches!(EventWriter::create(first.path, None), Err(Error::Io { .. })));
    }
}
