//! Which chat node a request goes to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use gateway::{Backend, Node, Nodes};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::stage::{FINE, PATIENCE, Service, Stage, header, identity, open, status};

/// A poll's head with this query.
fn poll(stage: &Stage, query: &str) -> String {
    stage.head(&format!("GET /socket.io/?EIO=4&transport=polling{query}"), "Connection: close\r\n")
}

/// What the client of this query hears when `node` answers.
async fn answered_by(stage: &Stage, node: &Service, query: &str) -> String {
    let mut client = stage.sends(poll(stage, query)).await;
    let mut peer = node.accepts().await;
    let head = peer.head().await;
    assert!(
        head.starts_with(&format!("GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\n")),
        "{head}"
    );
    assert_eq!(identity(&head).unwrap().username.as_str(), "alice", "on every request");
    peer.writes(FINE).await;
    client.rest().await
}

#[actix_web::test]
async fn a_session_is_asked_for_at_the_node_that_its_id_names() {
    let stage = Stage::opens(&[]).await;
    let id = "0a".repeat(16);
    for _ in 0..3 {
        assert!(answered_by(&stage, &stage.two, &format!("&sid={id}.due")).await.ends_with("fine"));
    }
    assert!(answered_by(&stage, &stage.one, &format!("&sid={id}.one&t=abc")).await.ends_with("fine"));
    assert!(answered_by(&stage, &stage.one, &format!("&t=1&sid={id}%2Eone")).await.ends_with("fine"));
    stage.one.is_untouched();
    stage.two.is_untouched();
}

#[actix_web::test]
async fn a_session_of_no_live_node_is_unknown() {
    let stage = Stage::opens(&[]).await;
    let unknown = r#"{"code":1,"message":"Session ID unknown"}"#;
    let sids = [
        "abc.three",
        "abc",
        "abc.",
        ".one",
        "__proto__",
        "constructor",
        "%00.one",
        "abc.one.one",
        "abc.o%20ne",
    ];
    let answers = sids.map(async |sid| {
        let polled = stage.sends(poll(&stage, &format!("&sid={sid}"))).await.rest().await;
        let upgrade = stage.handshake(&format!("EIO=4&transport=websocket&sid={sid}"));
        (sid, polled, stage.sends(upgrade).await.rest().await)
    });
    for (sid, polled, upgraded) in join_all(answers).await {
        assert_eq!((status(&polled), status(&upgraded)), (400, 400), "{sid}: {polled} {upgraded}");
        assert!(polled.ends_with(unknown), "{sid}: {polled}");
        assert_eq!(header(&upgraded, "connection").as_deref(), Some("close"), "{upgraded}");
    }
    stage.nodes.send_replace(Nodes::new([open("due", &stage.two.backend)]));
    let answer = stage.sends(poll(&stage, "&sid=abc.one")).await.rest().await;
    assert!(answer.ends_with(unknown), "it was live a moment ago: {answer}");
    stage.one.is_untouched();
    stage.two.is_untouched();
}

#[actix_web::test]
async fn new_sessions_go_to_their_users_node_and_past_those_that_cannot_be_reached() {
    let stage = Stage::opens(&[]).await;
    for _ in 0..3 {
        assert!(answered_by(&stage, &stage.one, "").await.ends_with("fine"));
    }
    let gone = Service::opens().await.closes();
    let table = [open("a", &gone.backend), open("due", &stage.two.backend)];
    stage.nodes.send_replace(Nodes::new(table));
    for _ in 0..4 {
        assert!(answered_by(&stage, &stage.two, "").await.ends_with("fine"));
    }
    for _ in 0..2 {
        let mut client = stage.sends(stage.handshake("EIO=4&transport=websocket")).await;
        let mut node = stage.two.accepts().await;
        node.head().await;
        node.writes(crate::stage::ACCEPTED).await;
        assert_eq!(status(&client.head().await), 101);
    }
    stage.one.is_untouched();
}

#[actix_web::test]
async fn a_node_that_ends_keeps_its_sessions_and_gets_nothing_new() {
    let stage = Stage::opens(&[]).await;
    let closed = ("one".to_owned(), Node { backend: stage.one.backend.clone(), is_open: false });
    stage.nodes.send_replace(Nodes::new([closed.clone(), open("due", &stage.two.backend)]));
    for _ in 0..2 {
        assert!(answered_by(&stage, &stage.one, "&sid=abc.one").await.ends_with("fine"));
        assert!(answered_by(&stage, &stage.two, "").await.ends_with("fine"));
    }
    assert!(stage.proxy.has_nodes());
    stage.nodes.send_replace(Nodes::new([closed]));
    assert!(!stage.proxy.has_nodes());
    assert_eq!(status(&stage.sends(poll(&stage, "")).await.rest().await), 503);
    assert!(answered_by(&stage, &stage.one, "&sid=abc.one").await.ends_with("fine"));
}

#[actix_web::test]
async fn a_node_that_says_that_it_takes_no_new_sessions_is_passed_over() {
    let refusal = "HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for alone in [false, true] {
        let stage = Stage::opens(&[]).await;
        if alone {
            stage.nodes.send_replace(Nodes::new([open("one", &stage.one.backend)]));
        }
        for (turn, request) in
            [poll(&stage, ""), stage.handshake("EIO=4&transport=websocket")].into_iter().enumerate()
        {
            let mut client = stage.sends(request).await;
            // The second time it would be asked last.
            if alone || turn == 0 {
                let mut ends = stage.one.accepts().await;
                ends.head().await;
                ends.writes(refusal).await;
            }
            if !alone {
                let mut next = stage.two.accepts().await;
                next.head().await;
                next.writes(FINE).await;
            }
            assert_eq!(status(&client.head().await), if alone { 503 } else { 200 });
        }
    }
}

#[actix_web::test]
async fn a_node_that_takes_requests_and_does_not_answer_is_passed_over() {
    let stage = Stage::opens(&[]).await;
    // The kernel takes the connection, and alice's own node never looks at it; the next one answers, and from then on first.
    for first in [true, false] {
        for request in [
            poll(&stage, ""),
            stage.head("GET /rooms", "Connection: close\r\n"),
            stage.handshake("EIO=4&transport=websocket"),
        ] {
            let mut client = stage.sends(request).await;
            let hung = if first { Some(stage.one.accepts().await) } else { None };
            let mut peer = stage.two.accepts().await;
            peer.head().await;
            peer.writes(FINE).await;
            assert_eq!(status(&client.head().await), 200);
            drop(hung);
            if first {
                break;
            }
        }
    }
    stage.one.is_untouched();
}

#[actix_web::test]
async fn a_post_that_is_not_answered_is_not_sent_to_anybody_else() {
    let stage = Stage::opens(&[]).await;
    let post = stage
        .head("POST /rooms", "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n");
    let mut client = stage.sends(format!("{post}{{}}")).await;
    let mut peer = stage.one.accepts().await;
    peer.head().await;
    assert_eq!(peer.takes(2).await, "{}");
    drop(peer);
    assert_eq!(status(&client.head().await), 502);
    stage.two.is_untouched();
}

#[actix_web::test]
async fn a_node_that_another_gateway_knows_already_is_looked_for_before_its_session_is_unknown() {
    let stage = Stage::opens(&[]).await;
    let three = Service::opens().await;
    let mut client = stage.sends(poll(&stage, "&sid=abc.three")).await;
    stage.look.notified().await;
    stage.nodes.send_replace(Nodes::new([open("three", &three.backend)]));
    let mut peer = three.accepts().await;
    peer.head().await;
    peer.writes(FINE).await;
    assert!(client.rest().await.ends_with("fine"));
}

#[actix_web::test]
async fn without_a_node_that_can_be_reached_the_answer_is_503_in_time() {
    let stage = Stage::opens(&[]).await;
    let (one, two) = (Service::opens().await.closes(), Service::opens().await.closes());
    let gone = [open("one", &one.backend), open("due", &two.backend)];
    for nodes in [Nodes::default(), Nodes::new(gone)] {
        stage.nodes.send_replace(nodes);
        for request in [
            poll(&stage, ""),
            stage.handshake("EIO=4&transport=websocket"),
            stage.head("GET /rooms", "Connection: close\r\n"),
        ] {
            let started = std::time::Instant::now();
            let answer = stage.sends(request).await.rest().await;
            assert_eq!(status(&answer), 503, "{answer}");
            assert!(
                answer.ends_with(r#"{"status":"error","code":503,"message":"Service Unavailable"}"#),
                "{answer}"
            );
            assert!(started.elapsed() < PATIENCE / 2);
        }
    }
}

#[actix_web::test]
async fn a_listed_page_may_be_nobody_and_then_nobody_is_told() {
    let stage = Stage::opens(&["--allow-origin=https://app.example.org"]).await;
    let head = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example.org\r\nX-Authenticated-Identity: 1:eve:0:9:00\r\n\r\n";
    let _client = stage.sends(head).await;
    // Nobody's requests go to every node in turn, by name.
    let head = stage.two.accepts().await.head().await;
    assert_eq!(
        (identity(&head), header(&head, "origin").as_deref()),
        (None, Some("https://app.example.org"))
    );
}

/// A node that is killed cuts its connections: before the head of an answer, in it, or in its body.
#[actix_web::test]
async fn a_get_that_a_node_cuts_off_is_asked_of_the_next_node() {
    let parts = [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    ];
    for part in parts {
        for reset in [false, true] {
            let mut stage = Stage::opens(&[]).await;
            let mut client =
                stage.sends(stage.head("GET /rooms/lobby/messages", "Connection: close\r\n")).await;
            let mut killed = stage.one.accepts().await;
            killed.head().await;
            killed.writes(part).await;
            if reset {
                // What a process that is killed with unread bytes does.
                killed.stream.set_zero_linger().unwrap();
            }
            let one = std::mem::replace(&mut stage.one, Service::opens().await).closes();
            drop(killed);
            let mut next = stage.two.accepts().await;
            let head = next.head().await;
            assert!(head.starts_with("GET /rooms/lobby/messages "), "{head}");
            next.writes(FINE).await;
            let answer = client.rest().await;
            assert!(status(&answer) == 200 && answer.ends_with("fine"), "{part:?}, reset {reset}: {answer}");
            drop(one);
        }
    }
}

#[actix_web::test]
async fn a_poll_that_its_node_cuts_off_is_not_asked_again() {
    let stage = Stage::opens(&[]).await;
    let mut client = stage.sends(poll(&stage, "&sid=abc.one")).await;
    let mut node = stage.one.accepts().await;
    node.head().await;
    drop(node);
    assert_eq!(status(&client.head().await), 502);
    stage.one.is_untouched();
    stage.two.is_untouched();
}

/// Each node refuses what the gateway signs, then one accepts it again.
#[actix_web::test]
async fn nodes_that_refuse_the_key_of_the_gateway_are_named_and_passed_over() {
    let stage = Stage::opens(&[]).await;
    let (one, two) = (Arc::new(AtomicU16::new(401)), Arc::new(AtomicU16::new(401)));
    let accounts = Arc::new(AtomicU16::new(404));
    for (service, status) in [
        (stage.one.listener.clone(), &one),
        (stage.two.listener.clone(), &two),
        (stage.accounts.listener.clone(), &accounts),
    ] {
        actix_web::rt::spawn(answers_with(service, status.clone()));
    }
    stage.proxy.watch_nodes();
    let refused = async |address: &Backend| {
        let says =
            || stage.proxy.chat_not_ready_reason().filter(|words| words.contains(&address.to_string()));
        becomes(|| says().is_some()).await;
        let words = stage.proxy.chat_not_ready_reason().unwrap();
        assert!(words.contains("identity key") && words.contains("--secret-file"), "{words}");
    };
    // The first of the table is named.
    refused(&stage.two.backend).await;
    one.store(404, Ordering::SeqCst);
    becomes(|| stage.proxy.chat_not_ready_reason().is_none()).await;
    let words = stage.proxy.chat_degradation().unwrap();
    assert!(words.contains(&stage.two.backend.to_string()), "{words}");
    two.store(404, Ordering::SeqCst);
    becomes(|| stage.proxy.chat_degradation().is_none()).await;
    one.store(401, Ordering::SeqCst);
    becomes(|| stage.proxy.chat_degradation().is_some()).await;
    // Alice's own node is the one that refuses.
    let mut client = stage.sends(stage.head("GET /rooms", "Connection: close\r\n")).await;
    assert_eq!(status(&client.head().await), 404, "the other node answers");
    assert_eq!(stage.proxy.accounts_degradation(), None);
    accounts.store(401, Ordering::SeqCst);
    becomes(|| stage.proxy.accounts_degradation().is_some_and(|words| words.contains("identity key"))).await;
}

async fn becomes(holds: impl Fn() -> bool) {
    let until = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, until).await.expect("it becomes so");
}

/// Answers every request with this status.
async fn answers_with(listener: Arc<TcpListener>, status: Arc<AtomicU16>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let status = status.clone();
        actix_web::rt::spawn(async move {
            let mut head = [0; 4_096];
            while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                let status = status.load(Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} As Told\r\nContent-Length: 2\r\n\r\n{{}}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}
