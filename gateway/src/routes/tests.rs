//! The table against the documents, and lookups.

use super::*;

fn find_path(method: &str, path: &str) -> Result<&'static str, Error> {
    let segments: Vec<_> = path.split('/').skip(1).map(Cow::Borrowed).collect();
    let is_root = path == "/";
    find(method, if is_root { &[] } else { &segments }).map(|(route, _)| route.path)
}

#[test]
fn each_route_is_found_with_exactly_its_methods() {
    for route in &ROUTES {
        let path = route.path.replace("{room}", "team:red").replace("{user}", "bob");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "BREW", ""] {
            let allowed = route.allow.split(", ").any(|one| one == method);
            let want = if allowed { Ok(route.path) } else { Err(Error::Method(route.allow)) };
            assert_eq!(find_path(method, &path), want, "{method} {path}");
        }
    }
}

/// The paths and methods of `docs/openapi.yaml`: lines with an indentation of 2 and 4 in its section `paths`.
fn documented() -> Vec<(String, String)> {
    let (_, paths) = crate::pages::OPENAPI.split_once("\npaths:\n").unwrap();
    let (paths, _) = paths.split_once("\ncomponents:\n").unwrap();
    let mut found = Vec::new();
    let mut path = "";
    for line in paths.lines().filter_map(|line| line.strip_suffix(':')) {
        match line.len() - line.trim_start().len() {
            2 => path = line.trim_start(),
            4 if line != "    parameters" => found.push((path.to_owned(), line.trim().to_uppercase())),
            _ => {}
        }
    }
    found.sort();
    found
}

#[test]
fn the_openapi_document_has_exactly_these_routes() {
    let pairs = |route: &'static Route| route.allow.split(", ").map(move |method| (route.path, method));
    let routes = ROUTES.iter().flat_map(pairs);
    let mut routes: Vec<_> = routes.map(|(path, method)| (path.to_owned(), method.to_owned())).collect();
    routes.sort();
    assert_eq!(documented(), routes);
}

#[test]
fn both_documents_have_the_version_of_the_program() {
    let version = format!("\n  version: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(
        crate::pages::OPENAPI.contains(&version) && crate::pages::ASYNCAPI.contains(&version),
        "{version}"
    );
}

#[test]
fn unlisted_paths_are_not_found() {
    let unlisted = [
        "/user",
        "/user/me/",
        "/User/me",
        "/socket.io",
        "/socket.io/x",
        "/rooms/",
        "/rooms/a/members/",
        "/rooms/a/b",
        "/metrics",
    ];
    for path in unlisted {
        assert_eq!(find_path("GET", path), Err(Error::NotFound), "{path}");
    }
}
