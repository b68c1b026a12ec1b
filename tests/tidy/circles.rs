//! No circular dependencies among the modules of a crate: a reader can read the modules that a module uses before it. Checked at each
//! level of the module tree: among the top-level modules, and among the modules of each folder. A module and its own submodules are one
//! unit, so they may name each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, crates, none, sources};

/// A module by the names on its way from the root of the crate.
type Path = Vec<String>;

/// The modules that each module of one folder names.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Circles that exist, by folder and members. Remove a line when its circle is broken, and do not add lines.
const EXISTING: [(&str, &str); 1] = [("chat/src/broker/stream", "follow -> maintenance -> follow")];

#[test]
fn modules_have_no_circular_dependencies() {
    let sources = sources();
    let mut circles = BTreeSet::new();
    for folder in crates() {
        let prefix = if folder.is_empty() { "src/".to_owned() } else { format!("{folder}/src/") };
        let graphs = graphs(&prefix, sources.iter().filter(|source| source.path.starts_with(&prefix)));
        for (parent, graph) in graphs {
            let place = [&[prefix.trim_end_matches('/').to_owned()], &parent[..]].concat().join("/");
            circles.extend(circles_of(&graph).into_iter().map(|circle| (place.clone(), circle.join(" -> "))));
        }
    }
    let is_listed =
        |circle: &(String, String)| EXISTING.iter().any(|listed| *listed == (&*circle.0, &*circle.1));
    let new = circles.iter().filter(|circle| !is_listed(circle));
    none("modules that depend on each other", new.map(|(place, circle)| format!("{place}: {circle}")));
    let broken = EXISTING
        .iter()
        .filter(|(place, circle)| !circles.contains(&((*place).to_owned(), (*circle).to_owned())));
    none(
        "EXISTING lists a circle that does not exist",
        broken.map(|(place, circle)| format!("{place}: {circle}")),
    );
}

/// The graph of each folder of a crate, by the path of the folder's module. An edge between two modules deeper in the tree is one
/// between the modules of the folder that contain them.
fn graphs<'a>(prefix: &str, sources: impl Iterator<Item = &'a Source>) -> BTreeMap<Path, Graph> {
    let sources: Vec<(Path, &Source)> = sources
        .filter(|source| !source.is_test())
        .map(|source| (module_of(prefix, &source.path), source))
        .collect();
    let ancestors = |module: &Path| (1..=module.len()).map(|end| module[..end].to_vec()).collect::<Vec<_>>();
    let modules: BTreeSet<Path> = sources.iter().flat_map(|(module, _)| ancestors(module)).collect();
    let mut graphs: BTreeMap<Path, Graph> = BTreeMap::new();
    for (module, source) in &sources {
        let code: String = source.code().map(|(_, line)| line.to_owned() + "\n").collect();
        for named in paths_in(&code) {
            let other = resolved(module, &named, &modules);
            let common = module.iter().zip(&other).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), other.get(common)) {
                let graph = graphs.entry(module[..common].to_vec()).or_default();
                graph.entry(to.clone()).or_default();
                graph.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    graphs
}

/// The module of a file.
fn module_of(prefix: &str, path: &str) -> Path {
    let mut names: Path =
        path.trim_start_matches(prefix).trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
    if names.last().is_some_and(|last| last == "mod") || names == ["lib"] || names == ["main"] {
        names.pop();
    }
    names
}

/// The module that a path in `module` names: the longest beginning of the path that is a module.
fn resolved(module: &Path, named: &[String], modules: &BTreeSet<Path>) -> Path {
    let is_relative = named.first().is_some_and(|first| first != "crate");
    let mut found = if is_relative { module.clone() } else { Path::new() };
    for name in named {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => drop(found.pop()),
            name => {
                let deeper = [&found[..], &[name.to_owned()]].concat();
                if !modules.contains(&deeper) {
                    break;
                }
                found = deeper;
            }
        }
    }
    found
}

/// All paths in `code` that start with `crate`, `super` or `self`, also those inside `{...}`.
fn paths_in(code: &str) -> Vec<Path> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            let is_start = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            if is_start {
                path(&code[at..], &[], &mut paths);
            }
        }
    }
    paths
}

/// Adds the path at the start of `text` after `prefix`, or each of a `{...}` list. Returns the rest of the text.
fn path<'a>(mut text: &'a str, prefix: &[String], paths: &mut Vec<Path>) -> &'a str {
    let mut names = prefix.to_vec();
    loop {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        if let Some(list) = text.strip_prefix('{') {
            return entries(list, &names, paths);
        }
        names.push(text[..end].to_owned());
        match text[end..].strip_prefix("::") {
            Some(rest) => text = rest,
            None => {
                paths.push(names);
                return &text[end..];
            }
        }
    }
}

/// Adds the paths of a list up to its `}`. Returns the rest of the text.
fn entries<'a>(mut text: &'a str, prefix: &[String], paths: &mut Vec<Path>) -> &'a str {
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if text.is_empty() {
            return text;
        }
        if let Some(rest) = text.strip_prefix('}') {
            return rest;
        }
        let rest = path(text, prefix, paths);
        // Up to the next entry: `as name`, `*`.
        text = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
    }
}

/// One circle for every module that is on a circle; the shortest one is found first.
fn circles_of(graph: &Graph) -> Vec<Vec<String>> {
    let mut circles: Vec<Vec<String>> = Vec::new();
    for start in graph.keys() {
        if circles.iter().any(|circle| circle.contains(start)) {
            continue;
        }
        let mut paths: Vec<Vec<String>> = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        while let Some(path) = paths.pop() {
            let here = path.last().expect("a path has a start");
            for next in &graph[here] {
                let on = [path.clone(), vec![next.clone()]].concat();
                if next == start {
                    circles.push(on);
                    paths.clear();
                    break;
                }
                if seen.insert(next.clone()) {
                    paths.insert(0, on);
                }
            }
        }
    }
    circles
}

#[test]
fn a_circle_is_found_through_any_number_of_modules() {
    let edge = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(ToString::to_string).collect());
    let tree = Graph::from([edge("a", &["b", "c"]), edge("b", &["c"]), edge("c", &[])]);
    assert_eq!(circles_of(&tree), Vec::<Vec<String>>::new());
    let circle = Graph::from([edge("a", &["b"]), edge("b", &["c"]), edge("c", &["b"])]);
    assert_eq!(circles_of(&circle), [["b", "c", "b"]]);
}

#[test]
fn a_circle_is_found_at_each_level_of_a_crate() {
    let file = |path: &str, text: &str| Source { path: format!("x/src/{path}"), text: text.to_owned() };
    let found = |files: &[Source]| {
        let graphs = graphs("x/src/", files.iter());
        let circles = graphs.iter().flat_map(|(parent, graph)| {
            circles_of(graph)
                .into_iter()
                .map(|circle| format!("{}: {}", parent.join("::"), circle.join(" -> ")))
        });
        circles.collect::<Vec<_>>()
    };
    let parent = file("a.rs", "mod b;\nuse self::b::B;");
    assert_eq!(found(&[parent, file("a/b.rs", "use super::A;")]), [""; 0], "a module and its submodule");
    let top = [
        file("lib.rs", ""),
        file("a/b.rs", "use crate::{c::{D, E}, f};"),
        file("c/mod.rs", "fn g() { crate::a::b::B }"),
    ];
    assert_eq!(found(&top), [": a -> c -> a"], "through a module deeper in the tree");
    let siblings =
        [file("a/b.rs", "use super::{\n    c::{self, D},\n    E as F,\n};"), file("a/c.rs", "use super::b;")];
    assert_eq!(found(&siblings), ["a: b -> c -> b"], "in a folder");
    let cousins = [file("a/b/c.rs", "use super::super::d::D;"), file("a/d.rs", "use crate::a::b::c::C;")];
    assert_eq!(found(&cousins), ["a: b -> d -> b"]);
    assert_eq!(
        found(&[file("a/b.rs", "use other::crate_c::D; // self"), file("a/c.rs", "use super::b;")]),
        [""; 0]
    );
}
