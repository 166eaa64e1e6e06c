//! Folders for new work: each belongs to one process, and holds nothing else.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use strait::io::open;
use strait::{Error, Result};

use crate::files::write_in;
use crate::lock::{self, Lock};

/// The folder `out`, or the first of `runs/NAME`, `runs/NAME-2`, ... that is new or, as `ours` finds, of the same work; locked.
///
/// A folder that exists must be empty or ours: other files in it could be taken for part of the run.
pub(crate) fn claim(out: Option<&Path>, name: &str, ours: impl Fn(&Path) -> Result<bool>) -> Result<(PathBuf, Lock)> {
    let make = |path: &Path, source| Error::Io { path: path.into(), action: "create the folder", source };
    if let Some(out) = out {
        let fits = || if is_empty(out)? || ours(out)? { Ok(()) } else { Err(taken(out)) };
        match std::fs::metadata(out) {
            Ok(_) => fits()?,
            Err(_) => std::fs::create_dir_all(out).map_err(|source| make(out, source))?,
        }
        let lock = Lock::take(out)?;
        // Another process may have had it in between.
        fits()?;
        return Ok((out.into(), lock));
    }
    let runs = Path::new("runs");
    std::fs::create_dir_all(runs).map_err(|source| make(runs, source))?;
    for number in 1u64.. {
        let path = runs.join(if number == 1 { name.to_string() } else { format!("{name}-{number}") });
        match std::fs::create_dir(&path) {
            Ok(()) => {}
            // A folder that cannot be read is not ours.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !ours(&path).unwrap_or(false) {
                    continue;
                }
            }
            Err(source) => return Err(make(&path, source)),
        }
        let lock = Lock::take(&path)?;
        return Ok((path, lock));
    }
    unreachable!("numbers do not end")
}

/// The folder of several runs of `this` work, new or begun by an earlier command. The contents of `file` identify the work.
pub(crate) fn claim_for<T: Serialize + DeserializeOwned>(
    out: Option<&Path>,
    name: &str,
    file: &str,
    this: &T,
    same: impl Fn(&T) -> bool,
) -> Result<(PathBuf, Lock)> {
    let ours = |folder: &Path| match open::exists(&folder.join(file))? {
        false => Ok(false),
        true if same(&read_toml(&folder.join(file), "the settings of several runs")?) => Ok(true),
        true => Err(Error::BadFile {
            path: folder.into(),
            found: "runs with other settings".into(),
            expected: "the settings of this command; choose another --out".into(),
        }),
    };
    let (folder, lock) = claim(out, name, ours)?;
    write_in(&folder, file, toml::to_string(this).expect("plain values can always be written").as_bytes())?;
    Ok((folder, lock))
}

/// Reads a file of a few settings.
pub(crate) fn read_toml<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T> {
    let text = open::settings(path, what)?;
    let syntax = |e: toml::de::Error| Error::ConfigSyntax { origin: path.display().to_string(), message: e.message().into() };
    toml::from_str(&text).map_err(syntax)
}

/// Whether there is nothing in a folder but what a process that was killed at once may leave.
fn is_empty(folder: &Path) -> Result<bool> {
    Ok(contents(folder)?.is_empty())
}

fn contents(folder: &Path) -> Result<Vec<String>> {
    let list = |source| Error::Io { path: folder.into(), action: "list the folder", source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(list)? {
        let name = entry.map_err(list)?.file_name().to_string_lossy().into_owned();
        if name != lock::FILE && !(name.starts_with('.') && name.ends_with(".tmp")) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn taken(folder: &Path) -> Error {
    let names = contents(folder).unwrap_or_default();
    let (found, expected) = if names.iter().any(|name| name == "config.toml") {
        ("the folder of another run".into(), "a new folder; to go on with that run, write 'strait resume' and its folder")
    } else {
        let more = if names.len() > 3 { ", ..." } else { "" };
        (format!("a folder with other files in it ({}{more})", names[..names.len().min(3)].join(", ")), "a new or an empty folder")
    };
    Error::BadFile { path: folder.into(), found, expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_something_in_them_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let none = |_: &Path| Ok(false);
        let (path, lock) = claim(Some(&at("new/deep")), "", none).unwrap();
        assert_eq!(path, at("new/deep"));
        // locked while this process lives
        assert!(claim(Some(&path), "", none).unwrap_err().to_string().contains("is at work"));
        drop(lock);
        // leftovers of a killed process do not count
        std::fs::write(path.join(".config.toml.12-0.tmp"), "half").unwrap();
        claim(Some(&path), "", none).unwrap();
        std::fs::write(path.join("checkpoint.safetensors"), "stale").unwrap();
        let error = claim(Some(&path), "", none).unwrap_err().to_string();
        assert!(error.contains("checkpoint.safetensors") && error.contains("an empty folder"), "{error}");
        std::fs::write(at("file"), "").unwrap();
        assert!(claim(Some(&at("file")), "", none).unwrap_err().to_string().contains("file"));
        assert!(claim(Some(&at("file/inside")), "", none).is_err());
    }
}
