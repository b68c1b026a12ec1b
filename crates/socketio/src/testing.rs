//! For the actors' unit tests: an application that writes down what happens to its peers, and a session without a network.

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
    App, CloseReason, Config, Connect, Encoded, Entry, Event, Peer, Refusal, Reply, Socket,
    link::{Link, outbox::Taken},
    server::{Mounted, SocketIo},
    session::{
        Admitted, Inbound, Said, Session,
        carrier::{Carrier, PipeId},
        host::Worker,
    },
    sockets::Namespaces,
    wire::Wire,
};

/// A worker of the recorder's server.
pub(crate) type RecorderWorker = Worker<SocketIo<Recorder>>;

/// The pipe of every session here.
pub(crate) const PIPE: PipeId = PipeId(0);

/// Lets clients in when told to; `auth.fail` is refused.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Notified when a waiting client may come in.
    pub(crate) gate: Arc<Notify>,
}

/// What happened, in order.
pub(crate) type Diary = Rc<RefCell<Vec<String>>>;

pub(crate) struct Recorded {
    diary: Diary,
    socket: Socket,
    warns: bool,
}

impl App for Recorder {
    type Admission = Diary;
    type Peer = Recorded;

    fn admit(&self, _: &actix_web::HttpRequest) -> Result<Self::Admission, Refusal> {
        Ok(Default::default())
    }

    fn connect(
        &self,
        connect: Connect<Self::Admission>,
    ) -> LocalBoxFuture<'static, Result<Entry<Recorded>, Refusal>> {
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
                    Ok(Entry::new(Recorded { diary: Diary::clone(&admission), socket, warns }))
                }
            }
        })
    }
}

impl Peer for Recorded {
    fn connected(&mut self) {
        self.diary.borrow_mut().push("connected".into());
    }

    fn event(&mut self, event: Event, reply: Option<Reply>) {
        self.diary.borrow_mut().push(event.name.clone());
        if let Some(reply) = reply {
            reply.send(&(event.name,));
        }
    }

    fn ending(&mut self, reason: CloseReason) {
        self.diary.borrow_mut().push(format!("ending: {}", reason.as_str()));
        if let Some(event) = Encoded::event("/", "warned", &(), None).ok().filter(|_| self.warns) {
            self.socket.emit(&event);
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        self.diary.borrow_mut().push(format!("closed: {}", reason.as_str()));
    }
}

/// A session on a worker of its own, whose outbox the test reads.
pub(crate) struct Stage {
    pub(crate) gate: Arc<Notify>,
    pub(crate) worker: Rc<RecorderWorker>,
    pub(crate) session: Addr<Session<Namespaces<Recorder>>>,
    pub(crate) link: Rc<Link>,
    pub(crate) diary: Diary,
}

/// A worker of a server of its own.
pub(crate) fn worker(config: Config) -> (Rc<RecorderWorker>, Arc<Notify>) {
    let recorder = Recorder::default();
    let gate = recorder.gate.clone();
    let mounted = Mounted::new(crate::Bus::new(), SocketIo::new(recorder), config);
    (Rc::new(mounted.worker()), gate)
}

/// A session on `worker`.
pub(crate) fn stage((worker, gate): &(Rc<RecorderWorker>, Arc<Notify>)) -> Stage {
    let diary = Diary::default();
    let (session, link) = Session::open(
        worker,
        Carrier::WebSocket(PIPE),
        Wire::new(None),
        Admitted { admission: diary.clone(), owner: None },
    );
    Stage { gate: gate.clone(), worker: worker.clone(), session, link, diary }
}

impl Stage {
    /// The client says this; answers once the session has dealt with it. A session that has ended hears nothing.
    pub(crate) async fn says(&self, text: &'static str) {
        let _ = self.session.send(Inbound { pipe: PIPE, said: Said::Text(text.into()), counted: None }).await;
        tokio::task::yield_now().await;
    }

    /// Everything queued toward the client: texts without their frame header, a close frame as `close <code> <reason>`.
    pub(crate) fn sent(&self) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut texts = Vec::new();
        while let Poll::Ready(Taken::Frame(frame)) = self.link.outbox.poll_take(&mut cx) {
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
