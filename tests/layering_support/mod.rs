//! Reads which file of a package names which: `use` with groups and re-exports, paths in the code and in macros, `super`, and names that
//! stand for a module. Methods cannot be seen: `x.matmul(y)` names no file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path of names from the crate's root.
type Names = Vec<String>;

/// One file: a module of the crate.
pub struct Source {
    pub path: PathBuf,
    pub module: Names,
    /// What `use` and `mod` bind here: a name, and what it stands for.
    bound: BTreeMap<String, Names>,
    /// Modules all of whose names are bound here.
    globs: Vec<Names>,
    /// All paths that are named here.
    named: BTreeSet<Names>,
    /// Names of macros that are exported from here.
    macros: Vec<String>,
    /// All words of the code but comments and strings.
    pub words: BTreeSet<String>,
}

impl Source {
    /// The name of its layer: the first of its module's names, or none for the root.
    pub fn layer(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// All files of the package with this folder of sources but those of unit tests, which may use anything.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = Vec::new();
    rust_files(&root, &mut paths);
    paths.sort();
    let modules: Vec<Names> = paths.iter().map(|path| module_of(path.strip_prefix(&root).unwrap())).collect();
    let mut tests = BTreeSet::new();
    let mut sources: Vec<Source> = paths.into_iter().zip(modules).map(|(path, module)| read(path, module, &mut tests)).collect();
    sources.retain(|source| !(1..=source.module.len()).any(|n| tests.contains(&source.module[..n])));
    assert!(sources.len() > 15, "{folder}: the sources were not found");
    sources
}

fn module_of(path: &Path) -> Names {
    let mut names: Names = path.with_extension("").iter().map(|name| name.to_str().unwrap().to_string()).collect();
    if names.last().is_some_and(|name| name == "mod" || name == "lib" || name == "main") {
        names.pop();
    }
    names
}

fn read(path: PathBuf, module: Names, tests: &mut BTreeSet<Names>) -> Source {
    let text = fs::read_to_string(&path).unwrap();
    let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (bound, globs, named, macros, words) = Default::default();
    let mut source = Source { path, module, bound, globs, named, macros, words };
    let tokens = without_tests(tokens, &source.module, tests);
    source.items(&tokens);
    source.paths(&tokens);
    source
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == c)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    if let Some(TokenTree::Ident(name)) = token { Some(name.to_string()) } else { None }
}

/// The tokens of a file without `#[cfg(test)] mod x { .. }`; the module of a `#[cfg(test)] mod x;` goes to `tests`.
fn without_tests(tokens: TokenStream, module: &[String], tests: &mut BTreeSet<Names>) -> Vec<TokenTree> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut out, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        let marked = is_punct(tokens.get(i), '#')
            && matches!(tokens.get(i + 1), Some(TokenTree::Group(g)) if g.to_string().replace(' ', "") == "[cfg(test)]");
        // `pub(super)` may stand before `mod`.
        let at = (i + 2..i + 5).find(|&at| marked && ident(tokens.get(at)).is_some_and(|word| word == "mod"));
        if let Some(at) = at {
            if is_punct(tokens.get(at + 2), ';') {
                tests.insert([module, &[ident(tokens.get(at + 1)).unwrap()]].concat());
            }
            i = at + 3;
        } else {
            out.push(tokens[i].clone());
            i += 1;
        }
    }
    out
}

impl Source {
    /// Reads what `use`, `mod` and `macro_rules!` say.
    fn items(&mut self, tokens: &[TokenTree]) {
        for (i, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "use" => {
                    let end = tokens[i..].iter().position(|t| is_punct(Some(t), ';')).map_or(tokens.len(), |n| i + n);
                    self.tree(&[], &tokens[i + 1..end]);
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let Some(name) = ident(tokens.get(i + 1)) {
                        let child = [&self.module[..], std::slice::from_ref(&name)].concat();
                        self.bound.insert(name, child);
                    }
                }
                TokenTree::Ident(word) if word == "macro_rules" => self.macros.extend(ident(tokens.get(i + 2))),
                TokenTree::Group(group) => self.items(&group.stream().into_iter().collect::<Vec<_>>()),
                _ => {}
            }
        }
    }

    /// One tree of a `use`, after `prefix`.
    fn tree(&mut self, prefix: &[String], tokens: &[TokenTree]) {
        let (mut path, mut alias) = (prefix.to_vec(), None);
        let mut rest = tokens.iter().peekable();
        while let Some(token) = rest.next() {
            match token {
                TokenTree::Ident(word) if word == "as" => alias = ident(rest.next()),
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    inner.split(|t| is_punct(Some(t), ',')).filter(|part| !part.is_empty()).for_each(|part| self.tree(&path, part));
                    return;
                }
                TokenTree::Punct(p) if p.as_char() == '*' => {
                    let path = self.absolute(&path);
                    self.globs.extend(path.clone());
                    self.named.extend(path);
                    return;
                }
                _ => {}
            }
        }
        if path.last().is_some_and(|name| name == "self") && path.len() > 1 {
            path.pop();
        }
        let name = alias.or_else(|| path.last().cloned());
        if let (Some(name), Some(path)) = (name, self.absolute(&path)) {
            self.named.insert(path.clone());
            self.bound.insert(name, path);
        }
    }

    /// The path from the root that these names mean here; none for other crates.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&self.module, &path[1..]].concat()),
            "super" => {
                let up = path.iter().take_while(|name| *name == "super").count();
                let above = &self.module[..self.module.len().checked_sub(up)?];
                Some([above, &path[up..]].concat())
            }
            first => self.bound.get(first).map(|path_of_first| [&path_of_first[..], &path[1..]].concat()),
        }
    }

    /// Reads the paths of several names everywhere in the code, those in macros and `$crate::` included.
    fn paths(&mut self, tokens: &[TokenTree]) {
        let mut i = 0;
        while i < tokens.len() {
            if let TokenTree::Group(group) = &tokens[i] {
                self.paths(&group.stream().into_iter().collect::<Vec<_>>());
            }
            let Some(first) = ident(tokens.get(i)) else {
                i += 1;
                continue;
            };
            let mut path = vec![first];
            i += 1;
            while is_punct(tokens.get(i), ':')
                && is_punct(tokens.get(i + 1), ':')
                && let Some(name) = ident(tokens.get(i + 2))
            {
                path.push(name);
                i += 3;
            }
            self.words.extend(path.iter().cloned());
            if path.len() > 1 {
                self.named.extend(self.absolute(&path));
            }
        }
    }
}

/// Which file names which, by their numbers; re-exports are followed to the file that has the item.
pub fn edges(sources: &[Source]) -> BTreeSet<(usize, usize)> {
    let by_module: BTreeMap<&[String], usize> = sources.iter().enumerate().map(|(i, s)| (&s.module[..], i)).collect();
    let macros: BTreeMap<&str, usize> =
        sources.iter().enumerate().flat_map(|(i, s)| s.macros.iter().map(move |name| (name.as_str(), i))).collect();
    let mut edges = BTreeSet::new();
    for (from, source) in sources.iter().enumerate() {
        for path in &source.named {
            let to = match path.as_slice() {
                [name] if macros.contains_key(name.as_str()) => Some(macros[name.as_str()]),
                path => home(sources, &by_module, path, 0),
            };
            edges.extend(to.filter(|to| *to != from).map(|to| (from, to)));
        }
    }
    edges
}

/// The file that has what a path names.
fn home(sources: &[Source], by_module: &BTreeMap<&[String], usize>, path: &[String], depth: usize) -> Option<usize> {
    assert!(depth < 20, "re-exports go in a circle: {path:?}");
    let length = (0..=path.len()).rev().find(|&n| by_module.contains_key(&path[..n]))?;
    let file = by_module[&path[..length]];
    let (source, rest) = (&sources[file], &path[length..]);
    let Some(name) = rest.first() else { return Some(file) };
    let follow = |target: &[String]| home(sources, by_module, &[target, &rest[1..]].concat(), depth + 1);
    match source.bound.get(name) {
        Some(target) if target[..] != path[..=length] => follow(target),
        _ => {
            let globbed = source.globs.iter().find(|glob| {
                let inside = by_module.get(&glob[..]).map(|&i| &sources[i]);
                inside.is_some_and(|inside| inside.bound.contains_key(name) || inside.words.contains(name)) && **glob != source.module
            });
            match globbed {
                Some(glob) if !source.words.contains(name) => follow(&[&glob[..], std::slice::from_ref(name)].concat()),
                _ => Some(file),
            }
        }
    }
}

/// Whether one module lies in the other.
pub fn is_family(a: &Source, b: &Source) -> bool {
    a.module.starts_with(&b.module) || b.module.starts_with(&a.module)
}

/// The rings: sets of several files each of which leads to all others.
pub fn rings(count: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let reach = |start: usize| {
        let (mut seen, mut pending) = (BTreeSet::new(), vec![start]);
        while let Some(at) = pending.pop() {
            for &(_, to) in edges.range((at, 0)..(at + 1, 0)) {
                if seen.insert(to) {
                    pending.push(to);
                }
            }
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..count).map(reach).collect();
    let mut rings: BTreeSet<Vec<usize>> = BTreeSet::new();
    for at in 0..count {
        if reached[at].contains(&at) {
            rings.insert((0..count).filter(|&other| reached[at].contains(&other) && reached[other].contains(&at)).collect());
        }
    }
    rings.into_iter().collect()
}
