//! Tables of request targets.

use super::*;

fn read(target: &str) -> Result<Vec<String>, Error> {
    let uri: Uri = target.parse().unwrap();
    let own = Origin::new(false, "chat.example:8080");
    segments(&uri, own.as_ref()).map(|all| all.into_iter().map(Cow::into_owned).collect())
}

#[test]
fn a_canonical_path_becomes_its_decoded_segments() {
    assert_eq!(read("/"), Ok(vec![]));
    assert_eq!(read("/user/me?a=//b"), Ok(vec!["user".into(), "me".into()]));
    assert_eq!(read("/rooms/team%3Ared"), Ok(vec!["rooms".into(), "team:red".into()]));
    assert_eq!(read("/socket.io/"), Ok(vec!["socket.io".into(), String::new()]));
}

#[test]
fn ambiguous_paths_are_refused() {
    let ambiguous = [
        "//user/me",
        "/user//me",
        "/user/me//",
        "/user/..",
        "/%2e%2e/user/me",
        "/%2E./user",
        "/user%2Fme",
        "/user%5cme",
        "/user/me%00",
        "/user/..;/me",
        "/user;a=b/me",
        "/user/%252fme",
        "/user/%ff",
        "/user/me%0d%0aX:1",
        "*",
    ];
    for target in ambiguous {
        assert!(matches!(read(target), Err(Error::Path(_))), "{target}");
    }
}

#[test]
fn an_absolute_target_must_match_the_host_header() {
    assert!(read("http://chat.example:8080/user/me").is_ok());
    assert!(read("http://CHAT.example:8080/user/me").is_ok());
    for other in ["http://evil.example:8080/user/me", "http://chat.example/user/me", "chat.example:8080"] {
        assert!(matches!(read(other), Err(Error::Path(_))), "{other}");
    }
}
