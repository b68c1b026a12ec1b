//! Which names and passwords are taken.

use super::*;

#[actix_rt::test]
async fn what_is_not_two_strings_in_json_is_refused_on_both_roads() {
    let fixture = Fixture::new();
    fixture.alice().await;
    let nested = format!(r#"{{"username":{}{},"password":"p"}}"#, "[".repeat(1000), "]".repeat(1000));
    let bodies = [
        r#"{"username":{"$gt":""},"password":{"$gt":""}}"#,
        r#"{"username":"alice","password":{"$regex":"."}}"#,
        r#"{"username":["alice"],"password":"correct horse"}"#,
        r#"{"username":"alice","password":null}"#,
        r#"{"username":1,"password":2}"#,
        r#"["alice","correct horse"]"#,
        r#"{"username":"alice"}"#,
        "{",
        "",
        r#"{"username":"alice","password":"wrong","password":"correct horse"}"#,
        &nested,
    ];
    let before = fixture.accounts.service.pool.verified();
    for path in ["/user/register", "/user/login"] {
        for body in bodies {
            let sent = TestRequest::post().uri(path).insert_header(("content-type", "application/json"));
            fixture.send(sent.set_payload(body.to_owned())).await.is_refusal(400);
        }
        let kind = TestRequest::post().uri(path).insert_header(("content-type", "text/plain"));
        fixture
            .send(kind.set_payload(r#"{"username":"alice","password":"correct horse"}"#))
            .await
            .is_refusal(415);
        fixture
            .post(path, &json!({ "username": "alice", "password": "x".repeat(1 << 20) }))
            .await
            .is_refusal(413);
    }
    assert_eq!(fixture.accounts.service.pool.verified(), before);
}

#[actix_rt::test]
async fn the_body_may_have_4096_bytes_and_no_more() {
    let fixture = Fixture::new();
    for (size, status) in [(4_096, 201), (4_097, 413)] {
        let bare = json!({ "username": "alice", "password": GOOD, "x": "" }).to_string().len();
        let body = json!({ "username": "alice", "password": GOOD, "x": "y".repeat(size - bare) });
        assert_eq!(body.to_string().len(), size);
        assert_eq!(fixture.post("/user/register", &body).await.status, status, "{size}");
    }
}

#[actix_rt::test]
async fn invalid_and_reserved_names_are_refused() {
    let fixture = Fixture::new();
    let too_long = "a".repeat(33);
    let bad = [
        "",
        " ",
        "a b",
        "a\r\nx-injected: 1",
        "a\nb",
        "a\0b",
        "a%0d%0ab",
        "\u{202e}ecila",
        "\u{430}lice",
        "al\u{200b}ice",
        "al\u{e9}",
        "a/b",
        "$gt",
        "a:b",
        "system",
        "System",
        "ADMIN",
        "null",
        &too_long,
    ];
    for name in bad {
        fixture.register(name, GOOD).await.is_refusal(400);
        fixture.login(name, GOOD).await.is_refusal(401);
    }
    assert_eq!(fixture.register(&"a".repeat(32), GOOD).await.status, 201);
}

#[actix_rt::test]
async fn passwords_are_never_cut() {
    let fixture = Fixture::new();
    let (longest, tail) = ("a".repeat(71), |tail: &str| format!("{}{tail}", "a".repeat(70)));
    let bad = [
        "".into(),
        "short".into(),
        "a".repeat(72),
        "a".repeat(73),
        "a".repeat(200),
        "nul\0 inside".into(),
        "line\nbreak".into(),
    ];
    for password in &bad {
        let refused = fixture.register("alice", password).await;
        refused.is_refusal(400);
        assert!(refused.body["message"].as_str().unwrap().starts_with("a password has"), "{}", refused.body);
    }
    assert_eq!(fixture.register("alice", &longest).await.status, 201);
    for wrong in [
        tail("b"),
        tail(""),
        tail("ab"),
        tail("aFAKE"),
        format!("{longest}\0"),
        format!("{longest}\0{longest}"),
    ] {
        fixture.login("alice", &wrong).await.is_refusal(401);
    }
    assert_eq!(fixture.login("alice", &longest).await.status, 200);
    assert_eq!(fixture.register("bob", "ab cd ef").await.status, 201);
    fixture.login("bob", "ab cd ef\0ab cd ef").await.is_refusal(401);
    let emoji = "\u{1f98e}".repeat(8);
    assert_eq!(fixture.register("carol", &emoji).await.status, 201);
    fixture.login("carol", &"\u{1f98e}".repeat(7)).await.is_refusal(401);
    assert_eq!(fixture.login("carol", &emoji).await.status, 200);
}
