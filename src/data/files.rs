//! Data sets from folders of files in their published formats.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::data::{Dataset, Pixels, Split};
use crate::device::cpu::memory;
use crate::error::{Error, Result};
use crate::io::{cifar, idx, open};
use crate::shape::Shape;

/// The first of `names`, each with and without `.gz`, that is a file in one of `folders`. What is not a file is passed over, as the
/// folders are that unpacking some archives makes beside or around the files; if nothing is found, the error says what there was.
fn find(folders: &[PathBuf], names: &[&str]) -> Result<PathBuf> {
    let tried = || names.iter().flat_map(|name| [(*name).to_string(), format!("{name}.gz")]);
    let mut passed = Vec::new();
    for path in folders.iter().flat_map(|folder| tried().map(|name| folder.join(name))) {
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Ok(path),
            Ok(metadata) => passed.push(format!("{} is {}", path.display(), open::kind(metadata.file_type()))),
            // There is no file, or a broken link.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                if let Ok(target) = std::fs::read_link(&path) {
                    passed.push(format!("{} is a link to {}, which cannot be found", path.display(), target.display()));
                }
            }
            Err(e) => passed.push(format!("{} cannot be looked at ({e})", path.display())),
        }
    }
    let folder = &folders[0];
    let found = match std::fs::metadata(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => "no such folder".into(),
        Err(source) => return Err(Error::Io { path: folder.clone(), action: "look into the folder", source }),
        Ok(metadata) if !metadata.is_dir() => "a file, not a folder".into(),
        Ok(_) if passed.is_empty() => "none of the names looked for".into(),
        Ok(_) => format!("no file of the names looked for ({})", passed.join(", ")),
    };
    let mut expected = format!("one of {} in it", tried().collect::<Vec<_>>().join(", "));
    for folder in &folders[1..] {
        expected.push_str(&format!(" or in {}", folder.display()));
    }
    Err(Error::BadFile { path: folder.clone(), found, expected })
}

/// MNIST and what is published in the same four files. Ten classes; images of any size, the same in both parts.
pub(super) fn load_idx(name: &str, folder: &Path) -> Result<Dataset> {
    const CLASSES: usize = 10;
    let folders = [folder.to_path_buf()];
    let part = |prefix: &str| -> Result<(Split, [usize; 3])> {
        let images_path = find(&folders, &[&format!("{prefix}-images-idx3-ubyte"), &format!("{prefix}-images.idx3-ubyte")])?;
        let labels_path = find(&folders, &[&format!("{prefix}-labels-idx1-ubyte"), &format!("{prefix}-labels.idx1-ubyte")])?;
        let images = idx::read(&images_path)?;
        let image = match images.shape[..] {
            [n, height, width] if n * height * width > 0 => [1, height, width],
            _ => return Err(wrong_shape(&images_path, images.shape, "images [n, rows, columns]")),
        };
        let labels = idx::read(&labels_path)?;
        if labels.shape.rank() != 1 {
            return Err(wrong_shape(&labels_path, labels.shape, "labels [n]"));
        }
        if labels.shape[0] != images.shape[0] {
            let found = format!("{} labels", labels.shape[0]);
            let expected = format!("{}, one for each image of {}", images.shape[0], images_path.display());
            return Err(Error::BadFile { path: labels_path, found, expected });
        }
        let labels = labels.data.into_iter().map(i64::from).collect();
        // Only a label can still be wrong, so errors name the labels' path.
        Ok((Split::new(&labels_path, Pixels::U8(images.data), labels, image.iter().product(), CLASSES, u8::MAX)?, image))
    };
    let ((train, image), (test, test_image)) = (part("train")?, part("t10k")?);
    if image != test_image {
        return Err(sizes_differ(folder, image, test_image));
    }
    Ok(Dataset { name: name.into(), train, test, image, classes: CLASSES })
}

/// CIFAR-10 in its binary version. The first training batch alone is taken as a small data set; if there is any other, all
/// five must be there, since a missing one would only show in worse results.
pub(super) fn load_cifar10(folder: &Path) -> Result<Dataset> {
    // The second is what unpacking the published archive makes.
    let folders = [folder.to_path_buf(), folder.join("cifar-10-batches-bin")];
    let batch = |k: usize| find(&folders, &[&format!("data_batch_{k}.bin")]);
    let first = batch(1)?;
    let rest: Vec<_> = (2..=5).map(batch).collect();
    let mut train_paths = vec![first];
    if rest.iter().any(Result::is_ok) {
        for path in rest {
            train_paths.push(path?);
        }
    }
    let part = |paths: &[PathBuf]| -> Result<Split> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for path in paths {
            let batch = cifar::read(path)?;
            labels.extend(batch.labels.into_iter().map(i64::from));
            if images.is_empty() {
                // One allocation for all batches, which are of the same size as published.
                images = batch.images;
                let more = images.len().saturating_mul(paths.len() - 1);
                memory::check(more)?;
                images.try_reserve_exact(more).map_err(|_| memory::refused(more as u128))?;
            } else {
                images.extend_from_slice(&batch.images);
            }
        }
        Split::new(&paths[0], Pixels::U8(images), labels, cifar::IMAGE.iter().product(), cifar::CLASSES, u8::MAX)
    };
    let test_path = find(&folders, &["test_batch.bin"])?;
    Ok(Dataset {
        name: "cifar10".into(),
        train: part(&train_paths)?,
        test: part(&[test_path])?,
        image: cifar::IMAGE,
        classes: cifar::CLASSES,
    })
}

pub(super) fn wrong_shape(path: &Path, shape: Shape, expected: &str) -> Error {
    Error::BadFile { path: path.into(), found: format!("an array of shape {shape}"), expected: expected.into() }
}

pub(super) fn sizes_differ(path: &Path, train: [usize; 3], test: [usize; 3]) -> Error {
    let found = format!("training images of {train:?} and test images of {test:?}");
    Error::BadFile { path: path.into(), found, expected: "images of one size (channels, height, width)".into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::testing::{load, message};

    fn put_idx(folder: &Path, name: &str, dims: &[usize], modulus: usize) {
        let shape = Shape::new(dims).unwrap();
        let idx = idx::Idx { shape, data: (0..shape.len()).map(|i| (i % modulus) as u8).collect() };
        let bytes = idx::encode(&idx).unwrap();
        let mut file = std::fs::File::create(folder.join(name)).unwrap();
        if name.ends_with(".gz") {
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap();
        } else {
            file.write_all(&bytes).unwrap();
        }
    }

    fn put_mnist(folder: &Path) {
        put_idx(folder, "train-images-idx3-ubyte.gz", &[12, 4, 3], 256);
        put_idx(folder, "train-labels.idx1-ubyte", &[12], 10);
        put_idx(folder, "t10k-images.idx3-ubyte.gz", &[5, 4, 3], 256);
        put_idx(folder, "t10k-labels-idx1-ubyte", &[5], 10);
    }

    #[test]
    fn the_four_files_of_mnist_under_any_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        put_mnist(folder.path());
        let data = load("fashion-mnist:", folder.path()).unwrap();
        assert_eq!(data.to_string(), "fashion-mnist: 12 training and 5 test images of 1 x 4 x 3, 10 classes");
        assert_eq!(data.train.labels(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    #[test]
    fn what_is_no_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        put_mnist(path);
        let data = load("mnist:", path).unwrap();
        // Folders of the names that are looked for first, as an archive unpacks to, and links to nothing.
        for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("nowhere", path.join("train-labels-idx1-ubyte.gz")).unwrap();
        assert_eq!(load("mnist:", path).unwrap(), data);
        std::fs::remove_file(path.join("train-labels.idx1-ubyte")).unwrap();
        let text = message("mnist:", path);
        assert!(text.contains("train-labels-idx1-ubyte is a folder"), "{text}");
        #[cfg(unix)]
        assert!(text.contains("train-labels-idx1-ubyte.gz is a link to nowhere, which cannot be found"), "{text}");
        // The same for batches, where a missing one must not make a smaller data set.
        let record: Vec<u8> = (0..cifar::RECORD).map(|i| (i % 9) as u8).collect();
        for name in ["data_batch_1.bin.gz", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "test_batch.bin"] {
            std::fs::write(path.join(name), &record).unwrap();
        }
        std::fs::create_dir(path.join("data_batch_1.bin")).unwrap();
        std::fs::create_dir(path.join("data_batch_5.bin")).unwrap();
        assert!(message("cifar10:", path).contains("data_batch_5.bin is a folder"));
    }

    #[test]
    fn folders_that_are_not_mnist() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(message("mnist:", &path.join("no")).contains("no such folder: expected one of train-images-idx3-ubyte, train-im"));
        assert!(message("mnist:", path).contains("none of the names looked for"));
        put_mnist(path);
        put_idx(path, "train-labels.idx1-ubyte", &[11], 10);
        let text = message("mnist:", path);
        assert!(
            text.contains("train-labels.idx1-ubyte: found 11 labels: expected 12") && text.contains("train-images-idx3-ubyte.gz"),
            "{text}"
        );
        put_idx(path, "train-labels.idx1-ubyte", &[12], 11);
        assert!(message("mnist:", path).contains("train-labels.idx1-ubyte: found label 10 of image 10"));
        put_idx(path, "train-labels.idx1-ubyte", &[3, 4], 10);
        assert!(message("mnist:", path).contains("an array of shape [3, 4]: expected labels [n]"));
        put_idx(path, "train-labels.idx1-ubyte", &[12], 10);
        put_idx(path, "t10k-images.idx3-ubyte.gz", &[5, 3, 4], 256);
        assert!(message("mnist:", path).contains("training images of [1, 4, 3] and test images of [1, 3, 4]"));
        put_idx(path, "t10k-images.idx3-ubyte.gz", &[0, 4, 3], 256);
        assert!(message("mnist:", path).contains("an array of shape [0, 4, 3]"));
        std::fs::write(path.join("t10k-images.idx3-ubyte.gz"), b"<html>404</html>").unwrap();
        assert!(message("mnist:", path).contains("t10k-images.idx3-ubyte.gz: found text (HTML or XML?)"));
    }

    #[test]
    fn cifar10_takes_one_batch_or_all_five() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&inner).unwrap();
        let put = |name: &str, label: u8| {
            let record: Vec<u8> = std::iter::once(label).chain((1..cifar::RECORD).map(|i| i as u8)).collect();
            std::fs::write(inner.join(name), record.repeat(2)).unwrap();
        };
        assert!(message("cifar10:", folder.path()).contains("data_batch_1.bin, data_batch_1.bin.gz in it or in"));
        put("data_batch_1.bin", 1);
        put("test_batch.bin", 9);
        let data = load("cifar10:", folder.path()).unwrap();
        assert_eq!((data.train.labels(), data.test.labels(), data.image), (&[1, 1][..], &[9, 9][..], [3, 32, 32]));
        for k in [2, 3, 5] {
            put(&format!("data_batch_{k}.bin"), k);
        }
        assert!(message("cifar10:", folder.path()).contains("data_batch_4.bin"));
        put("data_batch_4.bin", 4);
        let data = load("cifar10:", folder.path()).unwrap();
        assert_eq!(data.train.labels(), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(load("cifar10:", &inner).unwrap(), data);
    }
}
