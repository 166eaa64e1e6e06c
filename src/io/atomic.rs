//! Atomic replacement of files: after a crash there is either the old file or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Ending of the temporary files that [`write_atomic`] makes.
const SUFFIX: &str = ".tmp";

/// Writes the file `path` through `fill`, so that a reader sees the old file or the whole new one and never anything else.
///
/// The contents go to a temporary file in the same folder, which is flushed, synced to the disk and renamed over `path`; then
/// the folder is synced. A process killed on the way leaves the old file and perhaps a temporary file behind, whose name no
/// later call uses again ([`remove_leftovers`] deletes such files). A symbolic link at `path` is replaced, not followed.
///
/// # Errors
/// Errors of the operating system and of `fill`, as [`Error::Io`] with `path`. The old file is then
/// untouched and the temporary file gone; only if syncing the folder fails the new file is already in place.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let fail = |source| Error::Io { path: path.to_path_buf(), action: "write the file", source };
    let Some(name) = path.file_name() else {
        return Err(fail(io::Error::new(ErrorKind::InvalidInput, "the path does not end in a file name")));
    };
    let folder = folder_of(path);
    let (file, mut temporary) = Temporary::create(folder, name).map_err(fail)?;
    let mut writer = BufWriter::with_capacity(256 * 1024, file);
    fill(&mut writer).map_err(fail)?;
    let file = writer.into_inner().map_err(|e| fail(e.into_error()))?;
    file.sync_all().map_err(fail)?;
    // Closed before the rename: some systems do not rename open files.
    drop(file);
    fs::rename(&temporary.path, path).map_err(fail)?;
    temporary.renamed = true;
    sync_folder(folder).map_err(|source| Error::Io { path: path.to_path_buf(), action: "sync the folder of the file", source })
}

/// Lets the file `from` take the place of `path`, in the same folder, which is synced then: a reader sees one or the other.
///
/// # Errors
/// Errors of the operating system, with `path`.
pub fn rename_atomic(from: &Path, path: &Path) -> Result<()> {
    let renamed = fs::rename(from, path).and_then(|()| sync_folder(folder_of(path)));
    renamed.map_err(|source| Error::Io { path: path.to_path_buf(), action: "put a file in the place of", source })
}

/// Writes `bytes` as the file `path`, as [`write_atomic`] does.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |writer| writer.write_all(bytes))
}

/// Deletes the temporary files that killed processes left in `folder`, and returns how many there were. A folder that does not
/// exist has none. What a process is writing meanwhile is locked, where the system has locks, and stays.
///
/// # Errors
/// The folder cannot be listed or a file in it cannot be deleted.
pub fn remove_leftovers(folder: &Path) -> Result<usize> {
    let fail = |path: &Path, action, source| Error::Io { path: path.to_path_buf(), action, source };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|e| fail(folder, "list the folder", e))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|e| fail(folder, "list the folder", e))?;
        let written = || File::open(entry.path()).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        if is_temporary(&entry.file_name()) && !written() {
            fs::remove_file(entry.path()).map_err(|e| fail(&entry.path(), "delete the leftover file", e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The folder that holds `path`; a bare file name lies in the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `.NAME.PID-COUNT.tmp`: hidden, and no two writers of one machine share it.
fn temporary_name(name: &OsStr, count: u64) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{count}{SUFFIX}", std::process::id()));
    temporary
}

fn is_temporary(candidate: &OsStr) -> bool {
    let middle = |name: &str| Some(name.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.')?.1.to_string());
    let Some(numbers) = candidate.to_str().and_then(middle) else { return false };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split_once('-').is_some_and(|(pid, count)| digits(pid) && digits(count))
}

/// The temporary file: deleted when dropped, unless it was renamed.
struct Temporary {
    path: PathBuf,
    renamed: bool,
    /// Locked until the file has its name, so that no other process deletes it as a leftover.
    _lock: Option<File>,
}

impl Temporary {
    fn create(folder: &Path, name: &OsStr) -> io::Result<(File, Temporary)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let path = folder.join(temporary_name(name, COUNT.fetch_add(1, Ordering::Relaxed)));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    // It works without a lock too. Other systems do not rename open files.
                    let lock = if cfg!(unix) { file.try_clone().ok().filter(|file| file.try_lock().is_ok()) } else { None };
                    return Ok((file, Temporary { path, renamed: false, _lock: lock }));
                }
                // A killed process with our number left it, or a live one in another container owns it: take the next name.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // The first error is the one to report; that the clean-up failed too adds nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the rename itself durable. File systems that cannot sync a folder say so, and need no more than what was done.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|f| f.sync_all()) {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Ok(()),
        result => result,
    }
}

/// Folders cannot be opened as files here; the rename is as durable as the system makes it.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_new_file_replaces_the_old_one_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_atomic_bytes(&path, b"a much longer old file").unwrap();
        write_atomic_bytes(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn an_error_half_way_keeps_the_old_file_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_atomic_bytes(&path, b"old").unwrap();
        let result = write_atomic(&path, |writer| {
            writer.write_all(&[7; 1 << 20])?;
            Err(io::Error::new(ErrorKind::StorageFull, "no space left"))
        });
        let message = result.unwrap_err().to_string();
        assert!(message.contains("state") && message.contains("no space left"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn a_panic_half_way_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let result = std::panic::catch_unwind(|| write_atomic(&path, |_| panic!("in the middle")));
        assert!(result.is_err() && names(folder.path()).is_empty());
    }

    #[test]
    fn refusals_of_the_system_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing").join("state");
        assert!(write_atomic_bytes(&missing, b"x").unwrap_err().to_string().contains("missing"));
        // A folder cannot be replaced by a file: this fails at the rename, when the temporary file is complete.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(matches!(write_atomic_bytes(&taken, b"x"), Err(Error::Io { path, .. }) if path == taken));
        assert_eq!(names(folder.path()), ["taken"]);
        assert!(matches!(write_atomic_bytes(Path::new("/"), b"x"), Err(Error::Io { .. })));
    }

    #[test]
    fn leftovers_neither_disturb_nor_stay_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let pid = std::process::id();
        // Names that this very process is about to use, as a killed process with its number would leave them.
        for count in 0..200 {
            fs::write(folder.path().join(format!(".state.{pid}-{count}.tmp")), b"half").unwrap();
        }
        write_atomic_bytes(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        fs::write(folder.path().join(".state.best.1-1.tmp"), b"of another file").unwrap();
        let others = [".1-1.tmp", ".state.-1.tmp", ".state.1-1-1.tmp", ".state.x.tmp", "state.1-1.tmp"];
        others.iter().for_each(|name| fs::write(folder.path().join(name), b"not ours").unwrap());
        assert_eq!(remove_leftovers(folder.path()).unwrap(), 201);
        assert_eq!(names(folder.path()), [&others[..4], &["state", others[4]]].concat());
        assert_eq!(remove_leftovers(&folder.path().join("missing")).unwrap(), 0);
        if cfg!(unix) {
            // a file that is being written is not a leftover
            let looks = |writer: &mut dyn Write| writer.write_all(&[u8::try_from(remove_leftovers(folder.path()).unwrap()).unwrap()]);
            write_atomic(&path, looks).unwrap();
            assert_eq!(fs::read(&path).unwrap(), [0]);
        }
    }
}
