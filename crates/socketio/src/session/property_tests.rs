//! The session actor under any order of inputs: requests, frames, deaths. Whatever comes, it ends at most once, the peer hears it
//! once, nothing is left behind, and every request is answered.

use std::sync::Arc;

use actix::Addr;
use proptest::prelude::*;

use crate::{
    CloseReason, Config,
    connection::send_queue::{Limits, SendQueue},
    namespaces::Namespaces,
    session::{
        Admitted, Inbound, PipeInput, Session,
        polling::{Body, Get, GetAborted, Post, PostAborted, PostStart},
        transport_state::{PipeId, TransportState},
        upgrade::Probe,
    },
    tcp::TcpHandle,
    testing::{EventLog, RecordingApp, worker},
};

type Recorded = Addr<Session<Namespaces<RecordingApp>>>;

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Input {
    Get,
    GetAborted,
    PostStart,
    Post(&'static str),
    PostAborted(bool),
    Probe(u64),
    Text(u64, &'static str),
    Binary(u64),
    Broken(u64),
    Closed(u64),
    Time,
}

fn input() -> impl Strategy<Value = Input> {
    let texts = prop::sample::select(vec![
        "40",
        "41",
        "42[\"a\"]",
        "421[\"a\"]",
        "3",
        "6",
        "2probe",
        "5",
        "1",
        "bad",
    ]);
    let bodies =
        prop::sample::select(vec!["40", "421[\"a\"]\x1e422[\"b\"]", "41\x1e40", "3", "1", "40\x1e40", ""]);
    let pipe = 0_u64..3;
    prop_oneof![
        4 => Just(Input::Get),
        1 => Just(Input::GetAborted),
        3 => Just(Input::PostStart),
        4 => bodies.prop_map(Input::Post),
        1 => any::<bool>().prop_map(Input::PostAborted),
        3 => pipe.clone().prop_map(Input::Probe),
        6 => (pipe.clone(), texts).prop_map(|(pipe, text)| Input::Text(pipe, text)),
        1 => pipe.clone().prop_map(Input::Binary),
        1 => pipe.clone().prop_map(Input::Broken),
        1 => pipe.prop_map(Input::Closed),
        2 => Just(Input::Time),
    ]
}

/// Does `input`; answers with the body that a GET waits for.
async fn act(session: &Recorded, input: Input) -> Option<Body> {
    let say = |pipe, input| {
        session.do_send(Inbound { pipe: PipeId(pipe), input, permit: None });
        None
    };
    match input {
        Input::Get => return session.send(Get).await.ok()?.ok(),
        Input::GetAborted => session.do_send(GetAborted),
        Input::PostStart => {
            let _ = session.send(PostStart).await;
        }
        Input::Post(body) => {
            let _ = session.send(Post(body.into())).await;
        }
        Input::PostAborted(is_fatal) => {
            session.do_send(PostAborted { fatal: is_fatal.then_some(CloseReason::TransportError) });
        }
        Input::Probe(pipe) => {
            let send_queue = Arc::new(SendQueue::new(Limits::new(&Config::default())));
            let _ = session.send(Probe { pipe: PipeId(pipe), send_queue, tcp: TcpHandle::new(None) }).await;
        }
        Input::Text(pipe, text) => return say(pipe, PipeInput::Text(text.into())),
        Input::Binary(pipe) => return say(pipe, PipeInput::Binary(bytes::Bytes::from_static(b"x"))),
        Input::Broken(pipe) => return say(pipe, PipeInput::Failed(CloseReason::TransportClose)),
        Input::Closed(pipe) => return say(pipe, PipeInput::Closed(Some(1000))),
        Input::Time => tokio::task::yield_now().await,
    }
    None
}

/// A peer is told of its end once, and hears nothing after it.
fn assert_events_are_legal(events: &[String]) {
    let mut is_in = false;
    for entry in events {
        match (entry.as_str(), is_in) {
            ("connected", false) => is_in = true,
            (closed, true) if closed.starts_with("closed") => is_in = false,
            // A client that leaves while the application decides.
            ("closed: client namespace disconnect", false) => {}
            (_, true) if entry != "connected" => {}
            _ => panic!("{entry} in {events:?}"),
        }
    }
    assert!(!is_in, "the last peer was told: {events:?}");
}

async fn play(transport: TransportState, inputs: Vec<Input>) {
    let (worker, _) = worker(Config::default());
    let events = EventLog::default();
    let (session, connection) = Session::open(
        &worker,
        transport,
        TcpHandle::new(None),
        Admitted { admission: events.clone(), owner: None },
    );
    let sid = connection.sid.clone();
    let mut bodies = Vec::new();
    for input in inputs {
        bodies.extend(act(&session, input).await);
    }
    // The application ends it, if nothing else has; the last poll takes what is left.
    connection.end(CloseReason::TransportClose);
    while let Some(body) = act(&session, Input::Get).await {
        let Ok(_) = body.await else { break };
    }
    while session.connected() {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert!(worker.registry.find(&sid, None).is_err());
    assert_eq!(worker.local.count(), 0);
    assert_events_are_legal(&events.borrow());
    for body in bodies {
        // Answered or refused, but never left waiting: the sender is gone.
        let _ = body.await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_order_of_inputs_leaves_a_session_in_an_illegal_state(
        is_websocket in any::<bool>(),
        inputs in prop::collection::vec(input(), 0..40),
    ) {
        let transport = if is_websocket { TransportState::WebSocket(PipeId(0)) } else { TransportState::POLLING };
        actix_rt::System::new().block_on(async move {
            let play = tokio::time::timeout(std::time::Duration::from_secs(20), play(transport, inputs));
            play.await.expect("the session ends and every request is answered");
        });
    }
}
