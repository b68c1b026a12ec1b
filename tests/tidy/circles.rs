//! No circular dependencies among the modules of a crate: a reader can read the modules that a module uses before it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, crates, none, sources};

/// The modules that each module names, by top-level module of a crate.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_have_no_circular_dependencies() {
    let sources = sources();
    let mut circles = Vec::new();
    for folder in crates() {
        let prefix = if folder.is_empty() { "src/".to_owned() } else { format!("{folder}/src/") };
        let graph = graph(&prefix, sources.iter().filter(|source| source.path.starts_with(&prefix)));
        circles.extend(
            circles_of(&graph).into_iter().map(|circle| format!("{prefix}: {}", circle.join(" -> "))),
        );
    }
    none("modules that depend on each other", circles);
}

/// Edges between top-level modules: from a module to each `other` of a `crate::other` in it.
fn graph<'a>(prefix: &str, sources: impl Iterator<Item = &'a Source>) -> Graph {
    let mut graph = Graph::new();
    for source in sources.filter(|source| !source.is_test()) {
        let path = source.path.trim_start_matches(prefix).trim_end_matches(".rs");
        let module = path.split('/').next().unwrap_or_default().to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let code: String = source.code().map(|(_, line)| line.to_owned() + "\n").collect();
        let named = graph.entry(module.clone()).or_default();
        named.extend(modules_named(&code).into_iter().filter(|other| *other != module));
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    graph.values_mut().for_each(|named| named.retain(|other| modules.contains(other)));
    graph
}

/// The first segments after `crate::`, also inside `use crate::{a::B, c}`.
fn modules_named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(heads(list)),
            None => names.extend(word(rest)),
        }
    }
    names
}

/// The first word of every entry of a `{...}` list, without nested entries.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0, true, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && c.is_ascii_alphabetic() => {
                names.extend(word(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
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
    assert_eq!(modules_named("use crate::{a::{B, c}, d::E};\ncrate::f::g()"), ["a", "d", "f"]);
}
