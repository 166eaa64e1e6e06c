//! Files of metrics, one [`Record`] on each line: written while a run trains, cut back when it is resumed, and read for reports.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use strait::io::atomic::write_atomic_bytes;
use strait::io::open;
use strait::{Error, Result};

use super::record::{FORMAT, Record, decode, parse};

/// The longest file that is read: ten million lines.
const MAX_LENGTH: u64 = 1 << 30;

/// Appends records to a metrics file, each reaching the operating system before the call returns.
#[derive(Debug)]
pub(crate) struct MetricsWriter {
    path: PathBuf,
    file: File,
    /// Bytes that it must have by now.
    length: u64,
}

impl MetricsWriter {
    /// Starts an empty file, and replaces an existing one.
    ///
    /// # Errors
    /// The operating system refused to create it.
    pub(crate) fn create(path: impl Into<PathBuf>) -> Result<MetricsWriter> {
        let path = path.into();
        File::create(&path).map_err(|source| Error::Io { path: path.clone(), action: "create", source })?;
        let file = open(&path)?;
        Ok(MetricsWriter { path, file, length: 0 })
    }

    /// Opens the file of a run that continues after `step`, and returns the records that stay.
    ///
    /// Records of later steps are dropped, as the run will write them again, and so is the half line that a killed process
    /// may have left. The kept lines keep their bytes, so the file of a resumed run equals that of an uninterrupted one
    /// apart from times. A missing file is started empty.
    ///
    /// # Errors
    /// Garbage before the last line, or the operating system refused.
    pub(crate) fn resume(path: impl Into<PathBuf>, step: u64) -> Result<(MetricsWriter, Vec<Record>)> {
        let path = path.into();
        if !open::exists(&path)? {
            return Ok((MetricsWriter::create(path)?, Vec::new()));
        }
        let bytes = open::bytes(&path, FORMAT, MAX_LENGTH)?;
        let mut kept = Vec::with_capacity(bytes.len());
        let mut records = Vec::new();
        for (line, record) in parse(&path, &bytes)? {
            if record.step <= step {
                kept.extend_from_slice(line);
                kept.push(b'\n');
                records.push(record);
            }
        }
        if kept != bytes {
            write_atomic_bytes(&path, &kept)?;
        }
        let (file, length) = (open(&path)?, kept.len() as u64);
        Ok((MetricsWriter { path, file, length }, records))
    }

    /// Appends one line.
    ///
    /// # Errors
    /// The operating system refused to write.
    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let failed = |source: std::io::Error| Error::Io { path: self.path.clone(), action: "write", source };
        let mut line = serde_json::to_vec(record).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        // One call for the whole line: a kill leaves at most this line cut, and nothing waits in a buffer of this process.
        self.file.write_all(&line).map_err(failed)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Waits until everything written is on the disk. A run does this before it writes a checkpoint, so that after a power
    /// failure the file has at least what the checkpoint knows of.
    ///
    /// A file that was deleted or replaced in the meantime is written again with all its lines; one that was cut short is continued.
    /// The answer tells which of them happened.
    ///
    /// # Errors
    /// The operating system refused.
    pub(crate) fn sync(&mut self) -> Result<Option<&'static str>> {
        let failed = |action, source| Error::Io { path: self.path.clone(), action, source };
        self.file.sync_data().map_err(|source| failed("sync", source))?;
        let length = self.file.metadata().map_err(|source| failed("look at", source))?.len();
        let cut = length < self.length;
        self.length = length;
        if !self.is_in_place() {
            let mut bytes = Vec::new();
            let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut bytes));
            read.map_err(|source| Error::Io { path: self.path.clone(), action: "read what was deleted of", source })?;
            write_atomic_bytes(&self.path, &bytes)?;
            self.file = open(&self.path)?;
            return Ok(Some("was deleted or replaced while the run was writing it: it was written again, whole"));
        }
        Ok(cut.then_some("was cut short while the run was writing it: earlier metrics are lost, later ones follow"))
    }

    /// Whether the file of this name is still the open one.
    fn is_in_place(&self) -> bool {
        let (Ok(named), Ok(ours)) = (fs::metadata(&self.path), self.file.metadata()) else { return false };
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            (named.dev(), named.ino()) == (ours.dev(), ours.ino())
        }
        #[cfg(not(unix))]
        {
            named.len() == ours.len()
        }
    }
}

/// Opens a file to append to it, and to read it again should it be deleted.
fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().append(true).read(true).open(path);
    file.map_err(|source| Error::Io { path: path.into(), action: "append", source })
}

/// Reads a metrics file. A last line that a killed process cut short is left out.
///
/// # Errors
/// The file cannot be read, or a line before the last is not a record; the error names the line.
pub(crate) fn read_metrics(path: impl AsRef<Path>) -> Result<Vec<Record>> {
    let path = path.as_ref();
    decode(path, &open::bytes(path, FORMAT, MAX_LENGTH)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::record::series;
    use super::*;

    fn record(step: u64) -> Record {
        Record::new(step, step / 2, 0.5 * step as f64).with("z/loss", 0.1 + step as f64).with("a/rate", -1e-300)
    }

    fn written(steps: std::ops::RangeInclusive<u64>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        steps.for_each(|s| writer.write(&record(s)).unwrap());
        (folder, path)
    }

    #[test]
    fn keys_keep_their_order_and_values_read_back() {
        let (_folder, path) = written(1..=2);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().next().unwrap(), r#"{"step":1,"epoch":0,"time_s":0.5,"z/loss":1.1,"a/rate":-1e-300}"#);
        assert_eq!(read_metrics(&path).unwrap(), vec![record(1), record(2)]);
        let (loss, rate) = (vec![(1.0, 1.1), (3.0, 3.1)], vec![(1.0, -1e-300), (3.0, -1e-300)]);
        assert_eq!(series(&[record(1), record(3)]), [("z/loss".into(), loss), ("a/rate".into(), rate)]);
    }

    #[test]
    fn values_without_a_number_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let r = Record::new(1, 0, 0.0).with("a", f64::NAN).with("b", f64::INFINITY).with("c", f64::NEG_INFINITY).with("d", 3.0);
        MetricsWriter::create(&path).unwrap().write(&r).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("\"a\":\"NaN\",\"b\":\"Infinity\",\"c\":\"-Infinity\",\"d\":3.0}\n"), "{text}");
        let back = &read_metrics(&path).unwrap()[0];
        assert!(back.get("a").unwrap().is_nan());
        assert_eq!((back.get("b"), back.get("c")), (Some(f64::INFINITY), Some(f64::NEG_INFINITY)));
    }

    #[test]
    fn a_resumed_file_equals_an_uninterrupted_one() {
        let (_whole_folder, whole) = written(1..=9);
        let whole = fs::read(whole).unwrap();
        let (_folder, path) = written(1..=7);
        let full = fs::read(&path).unwrap();
        // Killed at any byte of the file, then resumed after the checkpoint of step 4.
        let four = full.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(3).unwrap().0 + 1;
        for cut in four..=full.len() {
            fs::write(&path, &full[..cut]).unwrap();
            let (mut writer, kept) = MetricsWriter::resume(&path, 4).unwrap();
            assert_eq!(kept.len(), 4);
            (5..=9).for_each(|s| writer.write(&record(s)).unwrap());
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
        fs::remove_file(&path).unwrap();
        assert!(MetricsWriter::resume(&path, 4).unwrap().1.is_empty());
    }

    #[test]
    fn garbage_names_its_line_and_a_partial_end_does_not_hurt() {
        let (_folder, path) = written(1..=3);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"step\":4,\"epo");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 3);
        for bad in [&b"{\"step\":4}\n"[..], b"\xff\xfe\n", b"\n", b"{\"step\":-1,\"epoch\":0,\"time_s\":0,\"x\":[]}\n"] {
            let mut bytes = bad.to_vec();
            bytes.extend_from_slice(b"{\"step\":4,\"epoch\":0,\"time_s\":1}\n");
            fs::write(&path, bytes).unwrap();
            let error = read_metrics(&path).unwrap_err();
            assert!(matches!(error, Error::BadFile { .. }) && error.to_string().contains("line 1"), "{error}");
            assert!(MetricsWriter::resume(&path, 9).is_err());
        }
    }
}
