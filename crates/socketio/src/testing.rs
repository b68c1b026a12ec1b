//! Support for the actors' unit tests: an application that records the calls to its peers, and a session
//! without a network.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use actix::Addr;
use futures_util::future::LocalBoxFuture;
use tokio::sync::Notify;

use crate::{
    Accepted, App, CloseReason, Config, Connect, Encoded, Event, Peer, Refusal, Reply, Socket,
    connection::{Connection, send_queue::QueueItem},
    namespaces::Namespaces,
    server::{Mounted, SocketIo},
    session::{
        Admitted, Inbound, PipeInput, Session,
        transport_state::{PipeId, TransportState},
        worker::Worker,
    },
    tcp::TcpHandle,
};

/// A worker of a server for [`RecordingApp`].
pub(crate) type RecordingWorker = Worker<SocketIo<RecordingApp>>;

/// The pipe id of every test session.
pub(crate) const PIPE: PipeId = PipeId(0);

/// Accepts clients. `auth.wait` delays the answer until `gate` is notified, `auth.fail` is refused.
#[derive(Default)]
pub(crate) struct RecordingApp {
    /// Notified when a waiting client may be accepted.
    pub(crate) gate: Arc<Notify>,
}

/// The recorded calls, in order.
pub(crate) type EventLog = Rc<RefCell<Vec<String>>>;

pub(crate) struct Recorded {
    events: EventLog,
    socket: Socket,
    warns: bool,
}

impl App for RecordingApp {
    type Admission = EventLog;
    type Peer = Recorded;

    fn admit(&self, _: &actix_web::HttpRequest) -> Result<Self::Admission, Refusal> {
        Ok(Default::default())
    }

    fn connect(
        &self,
        connect: Connect<Self::Admission>,
    ) -> LocalBoxFuture<'static, Result<Accepted<Recorded>, Refusal>> {
        let gate = self.gate.clone();
        Box::pin(async move {
            let Connect { auth, admission, socket, .. } = connect;
            if auth.get("wait").is_some() {
                gate.notified().await;
            }
            match auth.get("fail") {
                Some(_) => Err(Refusal::new("no")),
                None => {
                    let warns = auth.get("warn").is_some();
                    Ok(Accepted::new(Recorded { events: EventLog::clone(&admission), socket, warns }))
                }
            }
        })
    }
}

impl Peer for Recorded {
    fn connected(&mut self) {
        self.events.borrow_mut().push("connected".into());
    }

    fn event(&mut self, event: Event, reply: Option<Reply>) {
        self.events.borrow_mut().push(event.name.clone());
        if let Some(reply) = reply {
            reply.send(&(event.name,));
        }
    }

    fn ending(&mut self, reason: CloseReason) {
        self.events.borrow_mut().push(format!("ending: {}", reason.as_str()));
        if let Some(event) = Encoded::event("/", "warned", &(), None).ok().filter(|_| self.warns) {
            self.socket.emit(&event);
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        self.events.borrow_mut().push(format!("closed: {}", reason.as_str()));
    }
}

/// A session on a worker. The test reads its send queue.
pub(crate) struct TestSession {
    pub(crate) gate: Arc<Notify>,
    pub(crate) worker: Rc<RecordingWorker>,
    pub(crate) session: Addr<Session<Namespaces<RecordingApp>>>,
    pub(crate) connection: Rc<Connection>,
    pub(crate) events: EventLog,
}

/// A worker of a new server.
pub(crate) fn worker(config: Config) -> (Rc<RecordingWorker>, Arc<Notify>) {
    let recorder = RecordingApp::default();
    let gate = recorder.gate.clone();
    let mounted = Mounted::new(crate::Io::new(), SocketIo::new(recorder), config);
    (Rc::new(mounted.worker()), gate)
}

/// Opens a session on `worker`.
pub(crate) fn open_session((worker, gate): &(Rc<RecordingWorker>, Arc<Notify>)) -> TestSession {
    let events = EventLog::default();
    let (session, connection) = Session::open(
        worker,
        TransportState::WebSocket(PIPE),
        TcpHandle::new(None),
        Admitted { sid: worker.new_sid().unwrap(), admission: events.clone(), owner: None, head: None },
    );
    TestSession { gate: gate.clone(), worker: worker.clone(), session, connection, events }
}

impl TestSession {
    /// Sends a text from the client and waits until the session has processed it. No effect on a session that
    /// has ended.
    pub(crate) async fn send(&self, text: &'static str) {
        let _ = self
            .session
            .send(Inbound { pipe: PIPE, input: PipeInput::Text(text.into()), permit: None })
            .await;
        tokio::task::yield_now().await;
    }

    /// Everything queued for the client: texts without their frame header, a close frame as `close <code>
    /// <reason>`.
    pub(crate) fn received(&self) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut texts = Vec::new();
        while let Poll::Ready(QueueItem::Frame(frame)) = self.connection.send_queue.poll_take(&mut cx) {
            let text = match frame[0] {
                0x88 => {
                    let code = u16::from_be_bytes([frame[2], frame[3]]);
                    format!("close {code} {}", String::from_utf8_lossy(&frame[4..])).trim_end().to_owned()
                }
                _ => String::from_utf8_lossy(&frame[2..]).into_owned(),
            };
            texts.push(text);
        }
        texts
    }
}
