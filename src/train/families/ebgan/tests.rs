use super::*;
use crate::error::Error;
use crate::train::stopping::{bits, stopping_changes_nothing};
use crate::train::{Run, Samples, family};

const SMALL: &str = "steps = 6\nbatch = 16\nevaluate_every = 2\npreview_samples = 8\neval_samples = 0\n\
                     [discriminator]\nencoder = { kind = \"mlp\", hidden = [16] }\ncodes = { kind = \"vector\", size = 8 }\n\
                     [generator]\nlatent = 4\nema_decay = 0.9\narchitecture = { kind = \"mlp\", hidden = [16] }";

fn run(changes: &[&str]) -> Run {
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    Run::start(family("ebgan").unwrap().configure("small", SMALL, &changes).unwrap(), &Device::cpu()).unwrap()
}

const POINTS: &[&str] = &["data=25gaussians", "eval_samples=40", "margin.value=1"];

#[test]
fn stopping_changes_nothing_of_a_run() {
    let convolutions = [
        "discriminator.encoder={ kind = \"dcgan\", width = 4 }",
        "discriminator.codes={ kind = \"features\" }",
        "discriminator.decoder={ kind = \"dcgan\", width = 4 }",
        "generator.architecture={ kind = \"dcgan\", width = 4 }",
        "margin={ kind = \"decaying\", initial = 5.0, steps = 3 }",
    ];
    for changes in [&[][..], POINTS, &convolutions, &["pulling_away=0", "energy=mean", "margin.value=1"]] {
        stopping_changes_nothing(|| run(changes), 4, [2], |_, _| {});
    }
}

#[test]
fn a_nan_names_its_step() {
    let mut run = run(&["discriminator.learning_rate=1e30", "energy=squared_sum"]);
    let error = (0..6).find_map(|_| run.step().err()).unwrap();
    assert!(matches!(error, Error::Diverged { step: 1..=3, .. }), "{error}");
}

#[test]
fn the_term_that_pulls_away_moves_the_generator_alone() {
    // the first update of the discriminator is before any of the generator
    let weights = |weight: &str, part: &str| -> Vec<Vec<u64>> {
        let mut run = run(&[&format!("pulling_away={weight}")]);
        run.step().unwrap();
        bits(&mut run).into_iter().filter(|(name, _)| name.starts_with(part)).map(|(_, values)| values).collect()
    };
    assert_eq!(weights("0", "discriminator."), weights("5", "discriminator."));
    assert_ne!(weights("0", "generator."), weights("5", "generator."));
}

#[test]
fn figures_have_names_and_the_report_has_its_pictures() {
    let pictures = |changes: &[&str]| {
        let mut run = run(changes);
        (0..2).for_each(|_| drop(run.step().unwrap()));
        let values = run.evaluate().unwrap();
        let headline = run.trainer().headline(&values);
        let mut drawing = Drawing::default();
        run.trainer().draw(&mut drawing).unwrap();
        let names = drawing.files().map(|(name, _)| name).collect::<Vec<_>>();
        (headline, names)
    };
    let (headline, names) = pictures(POINTS);
    assert!(headline.contains("energy of data") && headline.contains("modes found") && headline.contains("pulling-away"), "{headline}");
    let expected = ["data", "landscape", "generated"].iter().flat_map(|name| [format!("{name}.svg"), format!("{name}.png")]);
    assert_eq!(names, expected.collect::<Vec<_>>());
    let (headline, names) = pictures(&[]);
    assert!(headline.contains("below the margin"), "{headline}");
    assert_eq!(names, ["generated.png", "reconstructions.png", "reconstructions-generated.png"]);
    let run = run(&[]);
    assert!(matches!(run.trainer().sample(3, 1).unwrap(), Samples::Images { images, .. } if images.dims() == [3, 1, 8, 8]));
}

#[test]
fn a_margin_belongs_to_its_energy() {
    let message = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
        let settings = family("ebgan").unwrap().configure("small", SMALL, &changes);
        settings.and_then(|settings| Run::start(settings, &Device::cpu())).unwrap_err().to_string()
    };
    // no mean of squares of images in [-1, 1] comes near 20, no norm of 64 pixels above 16
    assert!(message(&["energy=mean", "margin.value=20"]).contains("at most 4"));
    assert!(message(&["margin.value=17"]).contains("at most 16"));
    assert!(message(&["margin.value=0"]).contains("positive"));
    assert!(message(&["batch=1"]).contains("in pairs"));
    assert!(message(&["discriminator.codes={ kind = \"map\", channels = 2 }"]).contains("convolutional"));
}

/// Between evaluations nothing of a run may depend on how often it was looked at, and samples are those of the averages and a seed alone.
#[test]
fn samples_of_averaged_convolutions_have_statistics_of_their_own() {
    let convolutions = ["generator.architecture={ kind = \"dcgan\", width = 4 }", "generator.ema_decay=0.9"];
    let mut run = run(&convolutions);
    (0..6).for_each(|_| drop(run.step().unwrap()));
    let before = bits(&mut run);
    let images = |run: &Run| match run.trainer().sample(20, 3).unwrap() {
        crate::train::Samples::Images { images, .. } => images.to_f64_vec().unwrap(),
        other => panic!("{other:?}"),
    };
    let first = images(&run);
    assert_eq!(images(&run), first);
    assert_eq!(bits(&mut run), before);
    // Other running statistics beside the same weights change nothing: those of the averages are recorded anew.
    let mut checkpoint = run.checkpoint().unwrap();
    let statistics = |name: &str| name.starts_with("ema.generator") && name.contains("running_");
    let names: Vec<String> = checkpoint.tensors.keys().filter(|name| statistics(name)).cloned().collect();
    assert!(!names.is_empty());
    for name in names {
        let doubled = checkpoint.tensors[&name].affine(2.0, 0.0).unwrap();
        checkpoint.tensors.insert(name, doubled);
    }
    let mut other = self::run(&convolutions);
    other.restore(&checkpoint).unwrap();
    assert_eq!(images(&other), first);
}
