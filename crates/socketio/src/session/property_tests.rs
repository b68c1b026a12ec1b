//! The session actor under any order of inputs: requests, frames, failures. It ends at most once, calls
//! `closed` on its peer once, leaves no state behind, and answers every request.

use std::sync::Arc;

use actix::Addr;
use proptest::prelude::*;

use crate::{
    CloseReason, Config,
    connection::send_queue::{Limits, SendQueue},
    namespaces::Namespaces,
    session::{
        Admitted, Inbound, PipeInput, Session,
        polling::{Get, GetAborted, PollBody, Post, PostAborted, PostStart},
        transport_state::{PipeId, TransportState},
        upgrade::Probe,
    },
    tcp::TcpHandle,
    testing::{EventLog, RecordingApp, worker},
};

type RecordedSession = Addr<Session<Namespaces<RecordingApp>>>;

/// An input to a session.
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
    Lost(u64),
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
        1 => pipe.clone().prop_map(Input::Lost),
        1 => pipe.prop_map(Input::Closed),
        2 => Just(Input::Time),
    ]
}

/// Applies `input`. Returns the body of a GET.
async fn apply(session: &RecordedSession, input: Input) -> Option<PollBody> {
    let send = |pipe, input| {
        session.do_send(Inbound { pipe: PipeId(pipe), input, permit: None });
        None
    };
    match input {
        Input::Get => return session.send(Get(None)).await.ok()?.ok(),
        Input::GetAborted => session.do_send(GetAborted),
        Input::PostStart => {
            let _ = session.send(PostStart(None)).await;
        }
        Input::Post(body) => {
            let _ = session.send(Post(body.into())).await;
        }
        Input::PostAborted(is_fatal) => {
            session.do_send(PostAborted { fatal: is_fatal.then_some(CloseReason::TransportError) });
        }
        Input::Probe(pipe) => {
            let send_queue = Arc::new(SendQueue::new(Limits::new(&Config::default())));
            let _ = session
                .send(Probe { pipe: PipeId(pipe), send_queue, tcp: TcpHandle::new(None), head: None })
                .await;
        }
        Input::Text(pipe, text) => return send(pipe, PipeInput::Text(text.into())),
        Input::Binary(pipe) => return send(pipe, PipeInput::Binary(bytes::Bytes::from_static(b"x"))),
        Input::Lost(pipe) => return send(pipe, PipeInput::Failed(CloseReason::TransportClose)),
        Input::Closed(pipe) => return send(pipe, PipeInput::Closed(Some(1000))),
        Input::Time => tokio::task::yield_now().await,
    }
    None
}

/// `closed` is called once per peer, and no method after it.
fn assert_events_are_legal(events: &[String]) {
    let mut is_in = false;
    for entry in events {
        match (entry.as_str(), is_in) {
            ("connected", false) => is_in = true,
            (closed, true) if closed.starts_with("closed") => is_in = false,
            // A client that leaves before the application answers.
            ("closed: client namespace disconnect", false) => {}
            (_, true) if entry != "connected" => {}
            _ => panic!("{entry} in {events:?}"),
        }
    }
    assert!(!is_in, "`closed` was called on the last peer: {events:?}");
}

async fn run(transport: TransportState, inputs: Vec<Input>) {
    let (worker, _) = worker(Config::default());
    let events = EventLog::default();
    let (session, connection) = Session::open(
        &worker,
        transport,
        TcpHandle::new(None),
        Admitted { sid: worker.new_sid().unwrap(), admission: events.clone(), owner: None, head: None },
    );
    let sid = connection.sid.clone();
    let mut bodies = Vec::new();
    for input in inputs {
        bodies.extend(apply(&session, input).await);
    }
    // End the session if no input has. The last poll drains the queue.
    connection.end(CloseReason::TransportClose);
    while let Some(body) = apply(&session, Input::Get).await {
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
        // Answered or refused, but not pending: the sender is dropped.
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
            let run = tokio::time::timeout(std::time::Duration::from_secs(20), run(transport, inputs));
            run.await.expect("the session ends and every request is answered");
        });
    }
}
