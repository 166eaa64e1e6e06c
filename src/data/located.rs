//! Paths of data that are found from any working directory.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The same path, absolute. Behind a `/./` in it stays what was given, as rsync marks it: if the data were moved together with what uses
/// them, [`found`] finds them by that.
///
/// # Errors
/// The working directory no longer exists.
pub fn absolute(path: PathBuf) -> Result<PathBuf> {
    if path.is_absolute() {
        return Ok(path);
    }
    let given: PathBuf = path.components().skip_while(|part| *part == Component::CurDir).collect();
    match std::env::current_dir() {
        Ok(here) => Ok(here.join(".").join(given)),
        Err(source) => Err(Error::Io { path, action: "find the folder that holds", source }),
    }
}

/// A path, or what was given of it if only that exists; see [`absolute`].
pub fn found(path: &Path) -> &Path {
    let mark = format!("{0}.{0}", std::path::MAIN_SEPARATOR);
    let given = path.to_str().and_then(|text| text.split_once(&mark)).map(|(_, given)| Path::new(given));
    given.filter(|given| !path.exists() && given.exists()).unwrap_or(path)
}
