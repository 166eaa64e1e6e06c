//! Data sets from folders and files in their published formats.

use std::path::{Path, PathBuf};

use crate::data::{Dataset, Pixels, Split};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::{cifar, idx, npy, safetensors};
use crate::shape::Shape;

/// The part of a file without test images that becomes the test part: the last of this many, as in MNIST.
const TEST_SHARE: usize = 6;

/// The first of `names`, each with and without `.gz`, that is a file in one of `folders`.
fn find(folders: &[PathBuf], names: &[&str]) -> Result<PathBuf> {
    let tried = || names.iter().flat_map(|name| [(*name).to_string(), format!("{name}.gz")]);
    let found = folders.iter().flat_map(|folder| tried().map(|name| folder.join(name))).find(|path| path.exists());
    found.ok_or_else(|| {
        let folder = &folders[0];
        let found = if !folder.exists() {
            "no such folder"
        } else if !folder.is_dir() {
            "a file, not a folder"
        } else {
            "none of the names looked for"
        };
        let mut expected = format!("one of {} in it", tried().collect::<Vec<_>>().join(", "));
        for folder in &folders[1..] {
            expected.push_str(&format!(" or in {}", folder.display()));
        }
        Error::BadFile { path: folder.clone(), found: found.into(), expected }
    })
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
        // What can still be wrong is a label, hence the path.
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
                images.reserve_exact(images.len() * (paths.len() - 1));
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

/// Images of a `.npy` file, without labels; the last sixth becomes the test part.
pub(super) fn load_npy(path: &Path) -> Result<Dataset> {
    let npy = npy::read(path)?;
    let image = image_shape(path, "the array", npy.shape)?;
    let images = pixels(path, "the array", npy.dtype, npy.bytes)?;
    let train = Split::new(path, images, Vec::new(), image.iter().product(), 0, u8::MAX)?;
    from_parts(path, train, None, image, 0)
}

/// The tensors `images`, `labels`, `test_images` and `test_labels` of a `.safetensors` file; all but the first may be
/// missing. The classes are 0 to the largest label. Without test images the last sixth of the images becomes the test part.
pub(super) fn load_safetensors(path: &Path) -> Result<Dataset> {
    let mut file = safetensors::read(path)?;
    let bad = |found: String, expected: &str| Error::BadFile { path: path.into(), found, expected: expected.into() };
    let names: Vec<_> = file.tensors.iter().map(|t| t.name.chars().take(40).collect::<String>()).take(8).collect();
    let mut take = |name: &str| file.tensors.iter().position(|t| t.name == name).map(|at| file.tensors.swap_remove(at));
    let Some(images) = take("images") else {
        return Err(bad(format!("the tensors {names:?}"), "a tensor 'images', and perhaps 'labels', 'test_images' and 'test_labels'"));
    };
    let test_images = take("test_images");
    let labels = take("labels").map(|t| read_labels(path, t)).transpose()?;
    let test_labels = take("test_labels").map(|t| read_labels(path, t)).transpose()?;
    if labels.is_some() && test_images.is_some() != test_labels.is_some() || labels.is_none() && test_labels.is_some() {
        return Err(bad("labels for one of the training and test images only".into(), "labels for both or none"));
    }
    let classes = labels.iter().chain(&test_labels).flatten().max().map_or(0, |&most| (most.max(0) as usize).saturating_add(1));
    let part = |tensor: safetensors::NamedTensor, labels: Option<Vec<i64>>| -> Result<(Split, [usize; 3])> {
        let image = image_shape(path, &tensor.name, tensor.shape)?;
        let (found, expected) = (tensor.shape[0], labels.as_ref().map_or(tensor.shape[0], Vec::len));
        if found != expected {
            return Err(bad(format!("{expected} labels for {found} '{}'", tensor.name), "a label for each image"));
        }
        let images = pixels(path, &tensor.name, tensor.dtype, tensor.bytes)?;
        Ok((Split::new(path, images, labels.unwrap_or_default(), image.iter().product(), classes, u8::MAX)?, image))
    };
    let (train, image) = part(images, labels)?;
    let test = match test_images {
        None => None,
        Some(tensor) => match part(tensor, test_labels)? {
            (test, test_image) if test_image == image => Some(test),
            (_, test_image) => return Err(sizes_differ(path, image, test_image)),
        },
    };
    from_parts(path, train, test, image, classes)
}

/// Splits off the last sixth (rounded down, at least one image) as the test part where there is none.
fn from_parts(path: &Path, mut train: Split, test: Option<Split>, image: [usize; 3], classes: usize) -> Result<Dataset> {
    let test = match test {
        Some(test) => test,
        None if train.len() < 2 => {
            let expected = "at least two, to have one to test on".into();
            return Err(Error::BadFile { path: path.into(), found: "one image".into(), expected });
        }
        None => train.split_off(train.len() - (train.len() / TEST_SHARE).max(1)),
    };
    let name = path.file_stem().map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into_owned());
    Ok(Dataset { name, train, test, image, classes })
}

fn image_shape(path: &Path, name: &str, shape: Shape) -> Result<[usize; 3]> {
    match shape[..] {
        _ if shape.contains(&0) => Err(wrong_shape(path, shape, "at least one image of at least one pixel")),
        [_, width] => Ok([1, 1, width]),
        [_, height, width] => Ok([1, height, width]),
        [_, channels, height, width] => Ok([channels, height, width]),
        _ => Err(wrong_shape(path, shape, &format!("images [n, d], [n, H, W] or [n, C, H, W] in {name}"))),
    }
}

fn pixels(path: &Path, name: &str, dtype: DType, bytes: Vec<u8>) -> Result<Pixels> {
    match dtype {
        DType::U8 => Ok(Pixels::U8(bytes)),
        DType::F32 => Ok(Pixels::F32(bytemuck::pod_collect_to_vec(&bytes))),
        _ => {
            let (found, expected) = (format!("{name} of dtype {dtype}"), "u8 from 0 to 255 or f32 from 0 to 1".into());
            Err(Error::BadFile { path: path.into(), found, expected })
        }
    }
}

fn read_labels(path: &Path, tensor: safetensors::NamedTensor) -> Result<Vec<i64>> {
    match (tensor.shape.rank(), tensor.dtype) {
        (1, DType::U8) => Ok(tensor.bytes.into_iter().map(i64::from).collect()),
        (1, DType::I64) => tensor.to_vec(),
        _ => {
            let found = format!("'{}' {} of shape {}", tensor.name, tensor.dtype, tensor.shape);
            Err(Error::BadFile { path: path.into(), found, expected: "u8 or i64 labels [n]".into() })
        }
    }
}

fn wrong_shape(path: &Path, shape: Shape, expected: &str) -> Error {
    Error::BadFile { path: path.into(), found: format!("an array of shape {shape}"), expected: expected.into() }
}

fn sizes_differ(path: &Path, train: [usize; 3], test: [usize; 3]) -> Error {
    let found = format!("training images of {train:?} and test images of {test:?}");
    Error::BadFile { path: path.into(), found, expected: "images of one size (channels, height, width)".into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;

    use super::*;
    use crate::data::DataSpec;
    use crate::io::safetensors::NamedTensor;

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

    fn load(spec: &str, path: &Path) -> Result<Dataset> {
        format!("{spec}{}", path.display()).parse::<DataSpec>().unwrap().load()
    }

    fn message(spec: &str, path: &Path) -> String {
        let error = load(spec, path).unwrap_err();
        assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
        error.to_string()
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

    #[test]
    fn npy_files_of_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faces.npy");
        let put = |dtype, dims: &[usize], bytes: Vec<u8>| npy::write(&path, &npy::Npy { dtype, shape: Shape::new(dims).unwrap(), bytes });
        put(DType::U8, &[13, 2, 3], (0..78).collect()).unwrap();
        let data = load("", &path).unwrap();
        assert_eq!(data.to_string(), "faces: 11 training and 2 test images of 1 x 2 x 3, no labels");
        assert_eq!(data.test.images(), &Pixels::U8((66..78).collect()));
        put(DType::F32, &[2, 3], bytemuck::cast_slice(&[0f32, 0.5, 1.0, 0.0, 0.0, 1.5]).to_vec()).unwrap();
        assert!(message("", &path).contains("faces.npy: found the value 1.5 in image 1"));
        put(DType::F64, &[2, 1], vec![0; 16]).unwrap();
        assert!(message("", &path).contains("dtype f64"));
        put(DType::U8, &[4], vec![0; 4]).unwrap();
        assert!(message("", &path).contains("an array of shape [4]"));
        put(DType::U8, &[1, 4], vec![0; 4]).unwrap();
        assert!(message("", &path).contains("one image"));
        put(DType::U8, &[0, 4], vec![]).unwrap();
        assert!(message("", &path).contains("an array of shape [0, 4]"));
    }

    #[test]
    fn safetensors_files_with_and_without_a_test_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.safetensors");
        let images = |name: &str, n: usize| NamedTensor::from_slice(name, Shape::from([n, 2, 1, 2]), &vec![0.5f32; n * 4]).unwrap();
        let labels = |name: &str, labels: &[i64]| NamedTensor::from_slice(name, Shape::from([labels.len()]), labels).unwrap();
        let put = |tensors: &[NamedTensor]| safetensors::write(&path, tensors, &BTreeMap::new()).unwrap();
        put(&[images("images", 6), labels("labels", &[0, 2, 1, 1, 0, 1]), labels("unrelated", &[7])]);
        assert_eq!(load("", &path).unwrap().to_string(), "own: 5 training and 1 test images of 2 x 1 x 2, 3 classes");
        put(&[images("images", 2), labels("labels", &[0, 2]), images("test_images", 1), labels("test_labels", &[3])]);
        let data = load("", &path).unwrap();
        assert_eq!((data.train.len(), data.test.labels(), data.classes), (2, &[3][..], 4));
        put(&[images("images", 2), labels("labels", &[0, 2]), images("test_images", 1)]);
        assert!(message("", &path).contains("labels for one of"));
        put(&[images("images", 2), labels("labels", &[0, -1])]);
        assert!(message("", &path).contains("label -1 of image 1"));
        put(&[images("images", 2), labels("labels", &[0, i64::MAX])]);
        assert!(message("", &path).contains("at most 65536"));
        put(&[images("images", 2), labels("labels", &[0])]);
        assert!(message("", &path).contains("1 labels for 2 'images'"));
        put(&[images("pictures", 2)]);
        assert!(message("", &path).contains("[\"pictures\"]: expected a tensor 'images'"));
    }
}
