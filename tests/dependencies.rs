//! The crates that this one is built from, by the lists of deny.toml: licences, sources, bans and duplicates. What needs a network, the
//! advisory database, is left to `cargo deny check`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Exception>,
    deny: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
    #[serde(default)]
    wrappers: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// A crate of a lock file; of this repository if it has no source.
#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The lock files: of the crate, and of what fuzzes it.
fn locks() -> [(&'static str, Lock); 2] {
    ["Cargo.lock", "fuzz/Cargo.lock"].map(|name| (name, read(name)))
}

#[test]
fn crates_come_from_the_registry_with_their_checksums() {
    let allowed = read::<Deny>("deny.toml").sources.allow_registry;
    for (lock, Lock { package }) in locks() {
        assert!(package.len() > 20, "{lock}");
        for Locked { name, source, checksum, .. } in package {
            match source {
                None => assert!(name.starts_with("strait"), "{lock}: {name} is outside of the registry"),
                Some(source) => {
                    let known = allowed.iter().any(|url| source == format!("registry+{url}"));
                    assert!(known && checksum.is_some(), "{lock}: {name} comes from {source}");
                }
            }
        }
    }
}

#[test]
fn unmaintained_crates_are_used_by_none_but_the_listed_ones() {
    let denied = read::<Deny>("deny.toml").bans.deny;
    for (lock, Lock { package }) in locks() {
        for Exception { name, reason, wrappers } in &denied {
            // "name", or "name version" where there are several.
            let uses = |p: &&Locked| p.dependencies.iter().any(|d| d.split(' ').next() == Some(name));
            let users: BTreeSet<String> = package.iter().filter(uses).map(|p| p.name.clone()).collect();
            let more: Vec<_> = users.difference(wrappers).collect();
            assert!(more.is_empty(), "{lock}: {name} ({reason}) is used by {more:?}");
            let gone: Vec<_> = wrappers.difference(&users).collect();
            assert!(gone.is_empty() || lock != "Cargo.lock", "deny.toml: {gone:?} use {name} no more");
        }
    }
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let skipped: BTreeMap<String, String> = read::<Deny>("deny.toml").bans.skip.into_iter().map(|e| (e.name, e.reason)).collect();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Locked { name, version, .. } in read::<Lock>("Cargo.lock").package {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let names = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<BTreeSet<_>>();
    let reasons = skipped.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&versions), reasons, "crates with several versions ({versions:?}) and those that deny.toml has a reason for");
    assert!(skipped.values().all(|reason| !reason.is_empty()));
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    license: Option<String>,
}

/// What cargo knows of the crates: of all features if they were ever downloaded or can be, else of the usual ones.
fn metadata() -> Metadata {
    for arguments in [&["--offline", "--all-features"][..], &["--all-features"], &["--offline"]] {
        let mut command = Command::new(env!("CARGO"));
        command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]).args(arguments);
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
        eprintln!("cargo metadata {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    panic!("cargo metadata does not answer");
}

/// Whether an expression of licences can be met by the allowed ones: names, AND, OR and parentheses; AND binds closer. A slash is an old
/// way to write OR.
fn allows(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "-WITH-");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any(&words, allowed);
    assert!(rest.is_empty(), "the licence '{expression}' cannot be taken apart");
    met
}

fn any<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all(words, allowed);
    while let ["OR", after @ ..] = rest {
        let next = all(after, allowed);
        (met, rest) = (met | next.0, next.1);
    }
    (met, rest)
}

fn all<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words, allowed);
    while let ["AND", after @ ..] = rest {
        let next = one(after, allowed);
        (met, rest) = (met & next.0, next.1);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inside @ ..] => match any(inside, allowed) {
            (met, [")", rest @ ..]) => (met, rest),
            other => other,
        },
        [name, rest @ ..] => (allowed.contains(*name), rest),
        [] => (false, &[]),
    }
}

#[test]
fn licences_are_allowed() {
    let allowed = read::<Deny>("deny.toml").licenses.allow;
    let packages = metadata().packages;
    assert!(packages.len() > 40, "{} crates", packages.len());
    for Package { name, license } in packages {
        let license = license.unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(allows(&license, &allowed), "{name}: {license}");
    }
}

#[test]
fn expressions_of_licences_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_string(), "ISC".to_string()]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("MIT AND (GPL-3.0 OR BSD)", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
    ] {
        assert_eq!(allows(expression, &allowed), expected, "{expression}");
    }
}
