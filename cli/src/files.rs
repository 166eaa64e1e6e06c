//! Folders and the files in them.

use std::path::Path;

use strait::io::atomic::write_atomic_bytes;
use strait::{Error, Result};

/// The file that marks a folder of runs of several seeds, and holds their settings.
pub(crate) const SEEDS_FILE: &str = "seeds.toml";

/// The file that marks the folder of a sweep, and holds its settings.
pub(crate) const SWEEP_FILE: &str = "sweep.toml";

/// The file that marks the folder of a transfer, and says which rewards and policies it is of.
pub(crate) const TRANSFER_FILE: &str = "transfer.toml";

/// The checkpoint in a run's folder.
pub(crate) const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

/// Writes a file into a folder that is made if there is none.
pub(crate) fn write_in(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    make(folder)?;
    write_atomic_bytes(&folder.join(name), bytes)
}

/// Makes a folder if there is none.
pub(crate) fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), action: "create the folder", source })
}
