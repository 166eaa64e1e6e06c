//! Data sets from a user's own arrays: `.npy` and `.safetensors` files.

use std::path::Path;

use crate::data::files::{sizes_differ, wrong_shape};
use crate::data::{Dataset, Layout, Pixels, Split};
use crate::device::cpu::memory;
use crate::error::{Error, Result};
use crate::io::{Stored, npy, safetensors};
use crate::shape::Shape;

/// The part of a file without test images that becomes the test part: one in this many, from the end. MNIST has the same share.
const TEST_SHARE: usize = 6;

/// Images of a `.npy` file, without labels; the last sixth becomes the test part.
pub(super) fn load_npy(path: &Path, layout: Option<Layout>) -> Result<Dataset> {
    let npy = npy::read(path)?;
    let (images, image) = read_images(path, "the array", npy.shape, npy.dtype, npy.bytes, layout)?;
    let train = Split::new(path, images, Vec::new(), image.iter().product(), 0, u8::MAX)?;
    from_parts(path, train, None, image, 0)
}

/// The tensors `images`, `labels`, `test_images` and `test_labels` of a `.safetensors` file; all but the first may be
/// missing. The classes are 0 to the largest label. Without test images the last sixth of the images becomes the test part.
pub(super) fn load_safetensors(path: &Path, layout: Option<Layout>) -> Result<Dataset> {
    let mut file = safetensors::read(path)?;
    let bad = |found: String, expected: &str| Error::BadFile { path: path.into(), found, expected: expected.into() };
    let names: Vec<_> = file.tensors.iter().map(|t| t.name.chars().take(40).collect::<String>()).take(8).collect();
    for name in ["images", "labels", "test_images", "test_labels"] {
        if let Some(what) = file.others.get(name) {
            return Err(bad(format!("'{name}' with {what}"), "images of bytes or floats, labels of integers"));
        }
    }
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
        let safetensors::NamedTensor { name, dtype, shape, bytes } = tensor;
        let (images, image) = read_images(path, &format!("'{name}'"), shape, dtype, bytes.into_owned(), layout)?;
        let (found, expected) = (shape[0], labels.as_ref().map_or(shape[0], Vec::len));
        if found != expected {
            return Err(bad(format!("{expected} labels for {found} '{name}'"), "a label for each image"));
        }
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

/// Images of an array called `name`, with channels, height and width.
fn read_images(
    path: &Path,
    name: &str,
    shape: Shape,
    dtype: Stored,
    bytes: Vec<u8>,
    layout: Option<Layout>,
) -> Result<(Pixels, [usize; 3])> {
    // Channels come in these numbers; where only the last axis has one of them, it is most likely theirs.
    let channels = |length: usize| matches!(length, 1 | 3 | 4);
    let image = match shape[..] {
        _ if shape.contains(&0) => return Err(wrong_shape(path, shape, "at least one image of at least one pixel")),
        [_, width] => [1, 1, width],
        [_, height, width] => [1, height, width],
        [_, height, width, channels] if layout == Some(Layout::Nhwc) => [channels, height, width],
        [_, second, _, last] if layout.is_none() && channels(last) && !channels(second) => {
            let found = format!("{name} of shape {shape}, whose channels may be the last axis");
            let (nhwc, nchw) = ("--layout nhwc (data = \"nhwc:FILE\")", "--layout nchw (data = \"nchw:FILE\")");
            let expected = format!("{nhwc} if the images have {last} channels, {nchw} if they have {second}");
            return Err(Error::BadFile { path: path.into(), found, expected });
        }
        [_, channels, height, width] => [channels, height, width],
        _ => return Err(wrong_shape(path, shape, &format!("images [n, d], [n, H, W] or [n, C, H, W] in {name}"))),
    };
    let moved = shape.rank() == 4 && layout == Some(Layout::Nhwc);
    let pixels = match dtype {
        Stored::U8 => Pixels::U8(if moved { channels_first(&bytes, image)? } else { bytes }),
        _ => match dtype.floats(&bytes)? {
            Some(values) => Pixels::F32(if moved { channels_first(&values, image)? } else { values }),
            None => {
                let (found, expected) = (format!("{name} of dtype {dtype}"), "u8 from 0 to 255, floats from 0 to 1 or booleans".into());
                return Err(Error::BadFile { path: path.into(), found, expected });
            }
        },
    };
    Ok((pixels, image))
}

/// Images [n, height, width, channels] as [n, channels, height, width].
fn channels_first<T: Copy>(values: &[T], [channels, height, width]: [usize; 3]) -> Result<Vec<T>> {
    let mut out = memory::vector("images", values.len())?;
    for image in values.chunks_exact(channels * height * width) {
        (0..channels).for_each(|channel| out.extend(image[channel..].iter().step_by(channels)));
    }
    Ok(out)
}

fn read_labels(path: &Path, tensor: safetensors::NamedTensor) -> Result<Vec<i64>> {
    let labels = if tensor.shape.rank() == 1 { tensor.dtype.integers(&tensor.bytes)? } else { None };
    labels.ok_or_else(|| {
        let found = format!("'{}' {} of shape {}", tensor.name, tensor.dtype, tensor.shape);
        Error::BadFile { path: path.into(), found, expected: "labels [n] of integers".into() }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::testing::{load, message};
    use crate::io::safetensors::NamedTensor;

    #[test]
    fn npy_files_of_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faces.npy");
        let put = |dtype, dims: &[usize], bytes: Vec<u8>| npy::write(&path, &npy::Npy { dtype, shape: Shape::new(dims).unwrap(), bytes });
        let floats = |images: &Pixels| match images {
            Pixels::F32(values) => values.clone(),
            Pixels::U8(_) => panic!("bytes"),
        };
        put(Stored::U8, &[13, 2, 3], (0..78).collect()).unwrap();
        let data = load("", &path).unwrap();
        assert_eq!(data.to_string(), "faces: 11 training and 2 test images of 1 x 2 x 3, no labels");
        assert_eq!(data.test.images(), &Pixels::U8((66..78).collect()));
        put(Stored::F32, &[2, 3], bytemuck::cast_slice(&[0f32, 0.5, 1.0, 0.0, 0.0, 1.5]).to_vec()).unwrap();
        assert!(message("", &path).contains("faces.npy: found the value 1.5 in image 1"));
        // Rounded once: 1/3 in f64 lies between two floats, and not where a cut would take it.
        put(Stored::F64, &[2, 1], bytemuck::cast_slice(&[1.0f64 / 3.0, 0.1]).to_vec()).unwrap();
        let data = load("", &path).unwrap();
        assert_eq!((floats(data.train.images()), floats(data.test.images())), (vec![1.0f32 / 3.0], vec![0.1f32]));
        put(Stored::F16, &[2, 1], [0x00, 0x3c, 0x00, 0x38].to_vec()).unwrap();
        assert_eq!(floats(load("", &path).unwrap().test.images()), [0.5]);
        put(Stored::Bool, &[2, 1], vec![0, 1]).unwrap();
        assert_eq!(floats(load("", &path).unwrap().test.images()), [1.0]);
        for dtype in [Stored::I8, Stored::U16, Stored::I16, Stored::U32, Stored::I32, Stored::U64, Stored::I64] {
            put(dtype, &[2, 1], vec![0; 2 * dtype.size()]).unwrap();
            assert!(message("", &path).contains(&format!("the array of dtype {dtype}: expected u8 from 0 to 255")));
        }
        put(Stored::U8, &[4], vec![0; 4]).unwrap();
        assert!(message("", &path).contains("an array of shape [4]"));
        put(Stored::U8, &[1, 4], vec![0; 4]).unwrap();
        assert!(message("", &path).contains("one image"));
        put(Stored::U8, &[0, 4], vec![]).unwrap();
        assert!(message("", &path).contains("an array of shape [0, 4]"));
    }

    #[test]
    fn the_place_of_the_channels_is_asked_for_where_it_is_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.npy");
        let put = |dims: &[usize]| {
            let shape = Shape::new(dims).unwrap();
            npy::write(&path, &npy::Npy { dtype: Stored::U8, shape, bytes: (0..shape.len() as u8).collect() }).unwrap();
        };
        for channels in [1, 3, 4] {
            put(&[3, 2, 5, channels]);
            let text = message("", &path);
            assert!(text.contains(&format!("shape [3, 2, 5, {channels}], whose channels may be the last axis")), "{text}");
            assert!(text.contains("--layout nhwc") && text.contains("nchw:FILE"), "{text}");
            let data = load("nhwc:", &path).unwrap();
            assert_eq!(data.image, [channels, 2, 5]);
            let first: Vec<u8> = (0..channels).flat_map(|c| (0..10).map(move |pixel| (pixel * channels + c) as u8)).collect();
            let Pixels::U8(values) = data.train.images() else { panic!("not bytes") };
            assert_eq!(values[..first.len()], first);
            assert_eq!(load("nchw:", &path).unwrap().image, [2, 5, channels]);
        }
        // Not in doubt: the second axis can be that of the channels too, the last cannot, or there is none.
        for (dims, image) in
            [(&[2, 3, 4, 4][..], [3, 4, 4]), (&[2, 1, 2, 3], [1, 2, 3]), (&[2, 5, 2, 2], [5, 2, 2]), (&[2, 5, 3], [1, 5, 3])]
        {
            put(dims);
            assert_eq!(load("", &path).unwrap().image, image);
        }
        put(&[2, 5, 3]);
        assert_eq!(load("nhwc:", &path).unwrap().image, [1, 5, 3]);
    }

    #[test]
    fn labels_of_any_integers_and_tensors_that_are_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.safetensors");
        let tensor = |name: &str, dtype: Stored, bytes: Vec<u8>| {
            let shape = Shape::from([bytes.len() / dtype.size()]);
            NamedTensor { name: name.into(), dtype, shape, bytes: bytes.into() }
        };
        let images = NamedTensor::from_slice("images", Shape::from([2, 1]), &[0.0f32, 1.0]).unwrap();
        for dtype in Stored::ALL.into_iter().filter(|d| d.integers(&[]).unwrap().is_some()) {
            let one: Vec<u8> = (0..dtype.size()).map(|i| u8::from(i == 0)).collect();
            let labels = tensor("labels", dtype, [one, vec![0; dtype.size()]].concat());
            // Tensors of every type beside them do not matter.
            let beside = Stored::ALL.map(|d| tensor(&format!("beside {d}"), d, vec![0; 3 * d.size()]));
            safetensors::write(&path, &[&[images.clone(), labels], &beside[..]].concat(), &BTreeMap::new()).unwrap();
            let data = load("", &path).unwrap();
            assert_eq!((data.train.labels(), data.test.labels(), data.classes), (&[1][..], &[0][..], 2), "{dtype}");
        }
        for dtype in [Stored::F16, Stored::BF16, Stored::F32, Stored::F64] {
            let labels = tensor("labels", dtype, vec![0; 2 * dtype.size()]);
            safetensors::write(&path, &[images.clone(), labels], &BTreeMap::new()).unwrap();
            assert!(message("", &path).contains(&format!("'labels' {dtype} of shape [2]: expected labels [n] of integers")));
        }
        let labels = tensor("labels", Stored::U64, [u64::MAX.to_le_bytes(), [0; 8]].concat());
        safetensors::write(&path, &[images, labels], &BTreeMap::new()).unwrap();
        assert!(message("", &path).contains("at most 65536"));
        // A type that this program has no numbers for, where it is needed.
        let header = r#"{"images":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#;
        std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0, 0]].concat()).unwrap();
        assert!(message("", &path).contains("'images' with elements of type F8_E4M3"));
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
