//! Talking in the lobby: who hears, what an ack says, what history keeps.

use serde_json::{Value, json};

use crate::stage::{Request, Stage};

#[tokio::test]
async fn two_people_chat() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;

    alice.says("is anybody here?").await;
    let heard = bob.hears("is anybody here?").await;
    assert_eq!((&heard["from"], &heard["room"]), (&json!("alice"), &json!("lobby")));

    bob.says("yes").await;
    assert_eq!(alice.hears("yes").await["from"], "bob");
}

#[tokio::test]
async fn the_sender_gets_an_ack_and_no_copy_but_the_senders_other_tab_hears() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut tab = alice.opens_tab().await;
    let mut bob = stage.enters("bob").await;

    let ack = alice.says("once").await;
    let heard = tab.hears("once").await;
    assert_eq!((&heard["id"], &heard["seq"]), (&ack["id"], &ack["seq"]));

    bob.says("fence").await;
    alice.hears("fence").await;
    assert!(!alice.has_heard("once"), "the sending socket heard its own message: {:?}", alice.heard);
}

#[tokio::test]
async fn an_ack_says_where_the_message_is_and_the_places_have_no_holes() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;

    let mut places = Vec::new();
    for n in 0..10 {
        let speaker = if n % 2 == 0 { &mut alice } else { &mut bob };
        let ack = speaker.says(&format!("number {n}")).await;
        assert!(ack["id"].as_str().is_some_and(|id| !id.is_empty()), "{ack}");
        places.push(ack["seq"].as_u64().unwrap());
    }
    assert_eq!(places, (1..=10).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_message_sent_without_an_ack_is_heard_and_kept_too() {
    let stage = Stage::opens().await;
    let alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;

    alice.emit("message", &json!({"text": "no answer wanted"}));
    bob.hears("no answer wanted").await;
    assert_eq!(texts(&alice.person.reads_all("lobby").await), ["no answer wanted"]);
}

#[tokio::test]
async fn the_same_client_id_again_answers_with_the_first_result_and_keeps_one_copy() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;
    let post = json!({"text": "only once", "clientId": "c-1"});

    let first = alice.asks("message", &post).await;
    let again = alice.asks("message", &post).await;
    let mut later = alice.opens_tab().await;
    let from_another_tab = later.asks("message", &post).await;
    assert_eq!(first["ok"], true, "{first}");
    assert_eq!((&first, &first), (&again, &from_another_tab));

    let other_text = alice.asks("message", &json!({"text": "something else", "clientId": "c-1"})).await;
    assert_eq!((&other_text["ok"], &other_text["code"]), (&json!(false), &json!("conflict")), "{other_text}");

    let bobs = bob.asks("message", &json!({"text": "bob's own", "clientId": "c-1"})).await;
    assert_eq!((&bobs["ok"], &bobs["seq"]), (&json!(true), &json!(2)), "{bobs}");
    alice.says("fence").await;
    bob.hears("fence").await;
    assert_eq!(texts(&bob.heard), ["only once", "fence"]);
    assert_eq!(texts(&alice.person.reads_all("lobby").await), ["only once", "bob's own", "fence"]);
}

#[tokio::test]
async fn the_same_client_id_from_three_tabs_at_once_is_one_message() {
    let stage = Stage::opens().await;
    let alice = stage.enters("alice").await;
    let post = json!({"text": "hello", "clientId": "c-1"});
    let mut tabs = [alice.opens_tab().await, alice.opens_tab().await, alice.opens_tab().await];

    let mut results = Vec::new();
    for _ in 0..5 {
        let ids: Vec<u64> = tabs.iter_mut().map(|tab| tab.request("message", &post)).collect();
        for (tab, id) in tabs.iter_mut().zip(ids) {
            results.push(tab.answer(id).await);
        }
    }
    assert_eq!(results[0]["ok"], true, "{results:?}");
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    assert_eq!(alice.person.reads_all("lobby").await.len(), 1);
}

#[tokio::test]
async fn a_message_posted_over_http_is_heard_on_sockets_like_any_other() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let mut bob = stage.enters("bob").await;

    let post = json!({"text": "from a script", "clientId": "h-1"});
    let posted = alice.person.posts("/rooms/lobby/messages", &post).await.expect(201).json();
    for listener in [&mut alice, &mut bob] {
        let heard = listener.hears("from a script").await;
        assert_eq!((&heard["id"], &heard["seq"]), (&posted["id"], &posted["seq"]));
    }
    let over_the_socket = alice.asks("message", &post).await;
    assert_eq!((&over_the_socket["id"], &over_the_socket["seq"]), (&posted["id"], &posted["seq"]));
}

#[tokio::test]
async fn history_comes_in_pages_newest_first_and_ends_with_null() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    for n in 1..=7 {
        alice.says(&format!("m{n}")).await;
    }

    let first = alice.person.gets("/rooms/lobby/messages?limit=3").await.expect(200).json();
    assert_eq!((texts_of(&first), &first["next"]), (vec!["m7", "m6", "m5"], &json!(5)));
    let second = alice.person.gets("/rooms/lobby/messages?limit=3&before=5").await.expect(200).json();
    assert_eq!((texts_of(&second), &second["next"]), (vec!["m4", "m3", "m2"], &json!(2)));
    let last = alice.person.gets("/rooms/lobby/messages?limit=3&before=2").await.expect(200).json();
    assert_eq!((texts_of(&last), &last["next"]), (vec!["m1"], &Value::Null));

    let after = alice.person.gets("/rooms/lobby/messages?after=5").await.expect(200).json();
    assert_eq!(texts_of(&after), ["m7", "m6"]);
    for bad in ["limit=0", "limit=101", "limit=x", "before=-1"] {
        alice.person.gets(&format!("/rooms/lobby/messages?{bad}")).await.expect_refusal(400);
    }
    let page = alice.asks("history", &json!({"room": "lobby", "before": 5, "limit": 3})).await;
    assert_eq!(texts_of(&page), ["m4", "m3", "m2"], "{page}");
}

#[tokio::test]
async fn somebody_who_was_away_joins_since_the_last_place_and_misses_nothing() {
    let stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let bob = stage.person("bob").await;
    for n in 1..=5 {
        alice.says(&format!("m{n}")).await;
    }

    let mut bob = bob.connects().await;
    let joined = bob.asks("join", &json!({"room": "lobby", "since": 2})).await;
    assert_eq!((&joined["ok"], &joined["head"]), (&json!(true), &json!(5)), "{joined}");
    assert_eq!(texts_of(&joined), ["m3", "m4", "m5"]);

    alice.says("m6").await;
    assert_eq!(bob.hears("m6").await["seq"], 6);
}

#[tokio::test]
async fn history_and_logins_outlive_a_crash() {
    let mut stage = Stage::opens().await;
    let mut alice = stage.enters("alice").await;
    let said = alice.says("remember me").await;

    stage.server.kill();
    stage.server.restart().await;

    let kept = alice.person.asks(Request::get("/rooms/lobby/messages")).await.expect(200).json();
    assert_eq!((texts_of(&kept), &kept["messages"][0]["id"]), (vec!["remember me"], &said["id"]));
    let mut again = alice.person.connects().await;
    assert_eq!(again.says("still here").await["seq"], 2);
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["data"]["text"].as_str()).collect()
}

fn texts_of(page: &Value) -> Vec<&str> {
    texts(page["messages"].as_array().map(Vec::as_slice).unwrap_or_default())
}
