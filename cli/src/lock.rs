//! One process at a time in a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use strait::io::open;
use strait::{Error, Result};

use crate::terminal::say;

/// The file that is locked. It stays in the folder: the system releases the lock when the process ends, however it ends.
pub(crate) const FILE: &str = ".lock";

/// The lock of a process that writes the state of one or several runs. Readers need none: files are replaced as a whole.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks a folder that exists.
    pub(crate) fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(FILE);
        let failed = |source| Error::Io { path: path.clone(), action: "open the lock", source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        // A process that tests the lock holds it for a moment.
        for _ in 0..5 {
            match file.try_lock() {
                Ok(()) => {
                    // The process id is for people; nothing depends on it.
                    let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
                    return Ok(Lock { _file: file });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::Error(error)) => {
                    say!("{}: cannot be locked ({error}); make sure that only one process works in this folder", folder.display());
                    return Ok(Lock { _file: file });
                }
            }
        }
        Err(Error::BadFile {
            path: folder.into(),
            found: format!("a folder in which process {} is at work", owner(&mut file)),
            expected: "one that is free: wait until it has ended, or stop it with Ctrl-C, which writes a checkpoint".into(),
        })
    }

    /// The process that holds the lock of a folder, if one does.
    pub(crate) fn holder(folder: &Path) -> Option<String> {
        let (mut file, _) = open::regular(&folder.join(FILE), "a lock").ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| owner(&mut file))
    }
}

/// The process id in the file.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    if read.is_ok() && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) { text } else { "of another user".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lock::holder(folder.path()), None);
        let lock = Lock::take(folder.path()).unwrap();
        let process = std::process::id().to_string();
        assert_eq!(Lock::holder(folder.path()), Some(process.clone()));
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&process) && error.contains(&folder.path().display().to_string()), "{error}");
        drop(lock);
        assert_eq!(Lock::holder(folder.path()), None);
        Lock::take(folder.path()).unwrap();
    }
}
