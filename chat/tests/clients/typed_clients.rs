//! Payloads as serializers of typed languages write them (absent fields as `null`, integers as floats), for every event and route.

use chat::Config;
use serde_json::{Value, json};

use crate::support::{Client, TestChat};

/// Events as text, because parsing would change the notation of numbers, and the code of the refusal (`None`: accepted).
const EVENTS: [(&str, Option<&str>); 38] = [
    (r#"["message",{"text":"a","room":null,"clientId":null,"userId":7}]"#, None),
    (r#"["message",{"text":"a"},null]"#, None),
    (r#"["message",{"text":"a","extra":{"deep":[null,1.5]}},null,null]"#, None),
    (r#"["message",{"text":null}]"#, Some("bad_request")),
    (r#"["message",{"text":"a","clientId":""}]"#, Some("bad_request")),
    (r#"["message",{"text":"a","clientId":5}]"#, Some("bad_request")),
    (r#"["message",null]"#, Some("bad_request")),
    (r#"["message"]"#, Some("bad_request")),
    (r#"["typing",{"isTyping":true,"room":null,"when":1.0}]"#, None),
    (r#"["typing",{"isTyping":false},null]"#, None),
    (r#"["typing",{"isTyping":1}]"#, Some("bad_request")),
    (r#"["typing",{"isTyping":"true"}]"#, Some("bad_request")),
    (r#"["typing",{"isTyping":null}]"#, Some("bad_request")),
    (r#"["typing"]"#, Some("bad_request")),
    (r#"["join",{"room":"tea","since":null}]"#, None),
    (r#"["join",{"room":"tea","since":0.0}]"#, None),
    (r#"["join",{"room":"tea","since":-0}]"#, None),
    (r#"["join",{"room":"tea","since":1e0,"other":null}]"#, None),
    (r#"["join",{"room":"tea","since":9007199254740993}]"#, None),
    (r#"["join",{"room":"tea","since":0.5}]"#, Some("bad_request")),
    (r#"["join",{"room":"tea","since":"3"}]"#, Some("bad_request")),
    (r#"["join",{"room":"tea","since":-1.0}]"#, Some("bad_request")),
    (r#"["join",{"room":"tea","since":true}]"#, Some("bad_request")),
    (r#"["join",{"room":null}]"#, Some("bad_request")),
    (r#"["join",null]"#, Some("bad_request")),
    (r#"["history"]"#, None),
    (r#"["history",null]"#, None),
    (r#"["history",{}]"#, None),
    (r#"["history",{"room":null,"before":null,"after":null,"limit":null}]"#, None),
    (r#"["history",{"limit":50.0,"before":3e0,"after":0.0,"page":2}]"#, None),
    (r#"["history",{"limit":0}]"#, Some("bad_request")),
    (r#"["history",{"limit":1.5}]"#, Some("bad_request")),
    (r#"["history",{"limit":"50"}]"#, Some("bad_request")),
    (r#"["history",{"limit":1e30}]"#, Some("bad_request")),
    (r#"["history",{"limit":[50]}]"#, Some("bad_request")),
    (r#"["leave",{"room":"tea","reason":null},null]"#, None),
    (r#"["leave",{"room":null}]"#, Some("bad_request")),
    (r#"["leave"]"#, Some("bad_request")),
];

/// Sends an event with this ack id and waits for the ack.
async fn answer(client: &mut Client, id: u64, event: &str) -> Value {
    client.send(&format!("42{id}{event}")).await;
    client.ack(id).await
}

#[actix_rt::test]
async fn events_of_typed_clients_are_accepted_or_refused() {
    let server = TestChat::with(Config { message_burst: 1000, ..Config::default() }).await;
    let mut alice = server.client("alice").await;
    server.create_room("tea", "bob", false).await;
    for (id, (event, code)) in EVENTS.into_iter().enumerate() {
        let ack = answer(&mut alice, id as u64, event).await;
        assert_eq!(ack["code"].as_str(), code, "{event}: {ack}");
        assert_eq!(ack["ok"], code.is_none(), "{event}: {ack}");
    }
    let ack = answer(&mut alice, 0, r#"["history",{"limit":1.0}]"#).await;
    assert_eq!((ack["messages"].as_array().unwrap().len(), &ack["next"]), (1, &json!(3)));
}

/// Requests of alice, who owns `tea` and is not a member of `den`, with the expected status.
const REQUESTS: [(&str, &str, &str, u16); 44] = [
    ("GET", "/rooms/tea/messages?limit=50&other=1", "", 200),
    ("GET", "/rooms/tea/messages?limit=0", "", 400),
    ("GET", "/rooms/tea/messages?limit=1.5", "", 400),
    ("GET", "/rooms/tea/messages?limit=-1", "", 400),
    ("GET", "/rooms/tea/messages?limit=NaN", "", 400),
    ("GET", "/rooms/tea/messages?limit=inf", "", 400),
    ("GET", "/rooms/tea/messages?limit=ten", "", 400),
    ("GET", "/rooms/tea/messages?limit=5&limit=6", "", 400),
    ("GET", "/rooms/den/messages?limit=0", "", 404),
    ("GET", "/rooms/den/messages?limit=ten", "", 404),
    ("GET", "/rooms/open/messages?before=-1", "", 403),
    ("POST", "/rooms/tea/messages", r#"{"text":"a","clientId":null,"room":"elsewhere","at":1.5}"#, 201),
    ("POST", "/rooms/tea/messages", r#"{"text":"nice \ud83d"}"#, 201),
    ("POST", "/rooms/tea/messages", r#"{"text":null}"#, 400),
    ("POST", "/rooms/tea/messages", r#"{"text":"a","clientId":""}"#, 400),
    ("POST", "/rooms/tea/messages", r#"{"text":"a","clientId":3}"#, 400),
    ("POST", "/rooms/tea/messages", r#"{"text":1e400}"#, 400),
    ("POST", "/rooms/tea/messages", "null", 400),
    ("POST", "/rooms/tea/messages", "", 400),
    ("POST", "/rooms/den/messages", r#"{"text":null}"#, 404),
    ("POST", "/rooms/den/messages", "nonsense", 404),
    ("POST", "/rooms/open/messages", r#"{"text":""}"#, 403),
    ("POST", "/rooms", r#"{"name":"a","private":null,"ephemeral":null,"topic":"x"}"#, 201),
    ("POST", "/rooms", r#"{"name":"b","private":0}"#, 400),
    ("POST", "/rooms", r#"{"name":"b","private":"true"}"#, 400),
    ("POST", "/rooms", r#"{"name":null}"#, 400),
    ("POST", "/rooms", r#"{"name":"\ud83d"}"#, 400),
    ("PATCH", "/rooms/tea", "{}", 200),
    ("PATCH", "/rooms/tea", r#"{"private":null}"#, 200),
    ("PATCH", "/rooms/tea", r#"{"private":true,"topic":"x"}"#, 200),
    ("PATCH", "/rooms/tea", r#"{"topic":"x"}"#, 200),
    ("PATCH", "/rooms/tea", r#"{"private":1}"#, 400),
    ("PATCH", "/rooms/tea", r#"{"private":"no"}"#, 400),
    ("PATCH", "/rooms/tea", "[]", 400),
    ("PATCH", "/rooms/tea", "", 400),
    ("PATCH", "/rooms/den", "{}", 404),
    ("PATCH", "/rooms/den", "nonsense", 404),
    ("PATCH", "/rooms/open", r#"{"private":1}"#, 403),
    ("PATCH", "/rooms/open", "", 403),
    ("PUT", "/rooms/tea/members/bob", "", 200),
    ("PUT", "/rooms/tea/members/bob", r#"{"role":null}"#, 200),
    ("PUT", "/rooms/den/members/carol", r#"{"role":"owner"}"#, 404),
    ("PUT", "/rooms/open/members/carol", "nonsense", 403),
    ("PUT", "/rooms/open/members/unregistered", "", 403),
];

#[actix_rt::test]
async fn requests_of_typed_clients_are_accepted_or_refused_after_the_permission_check() {
    let server = TestChat::with(Config { message_burst: 1000, ..Config::default() }).await;
    for (room, owner, private) in [("tea", "alice", false), ("den", "bob", true), ("open", "bob", false)] {
        server.create_room(room, owner, private).await;
    }
    for (method, path, body, status) in REQUESTS {
        let (actual, answer) = server.http_text("alice", method, path, body).await;
        assert_eq!(actual, status, "{method} {path} {body}: {answer}");
        assert_eq!(answer["status"] == "error", status >= 400, "{method} {path} {body}: {answer}");
    }
    let (_, room) = server.http("alice", "GET", "/rooms/tea", Value::Null).await;
    assert_eq!(room["private"], true, "an absent field is not changed");
    let (_, page) = server.http("alice", "GET", "/rooms/tea/messages?limit=1", Value::Null).await;
    assert_eq!(page["messages"][0]["data"]["text"], "nice \u{FFFD}");
}
