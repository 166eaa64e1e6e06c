//! Opens files to read: regular files only, since a pipe waits for a writer and a device may have no end.

use std::fs::{File, FileType};
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::describe::describe;
use crate::error::{Error, Result};

/// The longest text of settings that is read.
pub const MAX_SETTINGS: u64 = 1 << 20;

/// Opens a regular file that should be `expected` (in words, for error messages: "an IDX file") and says how long it is.
///
/// # Errors
/// The file is missing, is a folder, a pipe, a device or a socket, or may not be read.
pub fn regular(path: &Path, expected: &str) -> Result<(File, u64)> {
    let fail = |source| Error::Io { path: path.to_path_buf(), action: "read the file", source };
    // Asked before opening, since opening a pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(|e| dangling(path, expected).unwrap_or_else(|| fail(e)))?;
    if !metadata.is_file() {
        return Err(Error::BadFile { path: path.into(), found: kind(metadata.file_type()).into(), expected: expected.into() });
    }
    Ok((File::open(path).map_err(fail)?, metadata.len()))
}

/// All bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`regular`]; the file is longer, or cannot be read.
pub fn bytes(path: &Path, expected: &str, most: u64) -> Result<Vec<u8>> {
    let (file, _) = regular(path, expected)?;
    let mut bytes = Vec::new();
    // The length is not trusted: files of the system report 0, and others grow.
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| Error::Io { path: path.into(), action: "read the file", source })?;
    if bytes.len() as u64 > most {
        let (found, expected) = (format!("more than {most} bytes"), format!("{expected} of at most {most} bytes"));
        return Err(Error::BadFile { path: path.into(), found, expected });
    }
    Ok(bytes)
}

/// A regular file of settings, as text.
///
/// # Errors
/// As [`bytes`]; the bytes are not UTF-8.
pub fn settings(path: &Path, expected: &str) -> Result<String> {
    let bytes = bytes(path, expected, MAX_SETTINGS)?;
    String::from_utf8(bytes).map_err(|e| {
        let found = format!("{}, not text (byte {})", describe(e.as_bytes()), e.utf8_error().valid_up_to());
        Error::BadFile { path: path.into(), found, expected: expected.into() }
    })
}

/// Whether there is anything at this path. Unlike [`Path::exists`] it tells "nothing there" from "may not look".
///
/// # Errors
/// A folder on the way may not be searched; the path is a link that leads nowhere.
pub fn exists(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => dangling(path, "a file").map_or(Ok(false), Err),
        Err(source) => Err(Error::Io { path: path.into(), action: "look for the file", source }),
    }
}

/// The error of a link that leads nowhere.
fn dangling(path: &Path, expected: &str) -> Option<Error> {
    let target = std::fs::read_link(path).ok().filter(|_| !path.exists())?;
    let found = format!("a link to {}, which cannot be found", target.display());
    Some(Error::BadFile { path: path.into(), found, expected: expected.into() })
}

/// The name of a kind of file that is not a regular one.
pub fn kind(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "something that is not a regular file" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "a = 1").unwrap();
        assert_eq!(settings(&at("file"), "settings").unwrap(), "a = 1");
        assert_eq!(bytes(&at("file"), "settings", 5).unwrap(), b"a = 1");
        let message = |result: Result<Vec<u8>>| result.unwrap_err().to_string();
        assert!(message(bytes(&at("file"), "settings", 4)).contains("found more than 4 bytes: expected settings of at most 4 bytes"));
        assert!(message(bytes(folder.path(), "settings", 4)).contains("found a folder: expected settings"));
        assert!(message(bytes(&at("none"), "settings", 4)).contains("cannot read the file"));
        std::fs::write(at("image"), b"\x89PNG\r\n\x1a\n\xff").unwrap();
        assert!(settings(&at("image"), "settings").unwrap_err().to_string().contains("found a PNG image, not text"));
        assert!(exists(&at("file")).unwrap() && !exists(&at("none")).unwrap() && !exists(&at("file/below")).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_broken_links_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, found) in [
            (at("pipe"), "found a pipe"),
            (at("socket"), "found a socket"),
            ("/dev/zero".into(), "found a device"),
            (at("link"), "found a link to nowhere, which cannot be found"),
        ] {
            let text = settings(&path, "settings").unwrap_err().to_string();
            assert!(text.contains(found) && text.contains("expected settings"), "{text}");
        }
        assert!(exists(&at("pipe")).unwrap() && exists(&at("link")).unwrap_err().to_string().contains("a link to nowhere"));
    }
}
