//! Files: readers that reject what is wrong with a sentence, and writers that never leave half a file.
//!
//! Every reader takes plain or gzip-compressed files (told apart by their first bytes, not by their names), allocates no more
//! than the file can really hold, and names the file, what was found and what was expected when something is wrong.

#[cfg(target_endian = "big")]
compile_error!("the file formats here are little-endian and elements are copied as they lie in memory");

pub mod atomic;
pub mod checksum;
pub mod cifar;
pub(crate) mod describe;
mod gzip;
pub mod idx;
pub mod input;
pub mod npy;
mod npy_header;
pub mod open;
pub mod safetensors;
mod stored;
pub mod zip;

pub use stored::Stored;
