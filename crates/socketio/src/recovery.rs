//! Connection state recovery in memory, for applications without a log of their own: the events that were
//! sent, their rooms, and the state of disconnected clients. The application calls it in
//! [`crate::App::connect`], [`crate::Peer::closed`] and for each event that it sends.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::Notify, time::timeout};

use crate::{
    Encoded, Io, Room,
    app::Resume,
    close::CloseReason,
    engine::handshake::{NoEntropy, new_id},
    operation::{Emit, Operation},
    socket::{ReadPosition, Recovered, Socket, SocketId},
};

/// The last events and the sessions that can be recovered. Cheap to clone.
#[derive(Clone)]
pub struct InMemoryRecovery(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Notified when a client has disconnected.
    disconnected: Notify,
}

/// A recovered session.
pub struct RecoveredSession {
    /// The socket id of the session, for [`crate::Socket::adopt`].
    pub sid: SocketId,
    /// The session's private id. It stays the same.
    pub pid: String,
    /// The session's rooms, without the room of its own id.
    pub rooms: Vec<Room>,
    /// The missed events.
    pub recovered: Recovered,
}

struct State {
    /// Distinguishes the offsets of this instance from those of another one.
    epoch: String,
    last_position: u64,
    sent: VecDeque<Emit>,
    capacity: usize,
    window: Duration,
    sessions: HashMap<String, StoredSession>,
}

struct StoredSession {
    sid: SocketId,
    namespace: Arc<str>,
    /// The position of the log's end when the client connected. Recovery starts there if the client has
    /// received no event.
    since: u64,
    /// The state at disconnect. `None` while the client is connected.
    disconnected: Option<Disconnected>,
}

#[derive(Clone)]
struct Disconnected {
    rooms: Vec<Room>,
    at: Instant,
    read_position: ReadPosition,
}

/// A parsed offset.
#[derive(Debug, PartialEq, Eq)]
enum ParsedOffset {
    /// A position in this log.
    Position(u64),
    /// A position in the log of another instance.
    OtherLog,
    /// Not an offset of such a log.
    Invalid,
}

/// The longest wait for the session's earlier connection to close.
const SUPERSEDE_TIMEOUT: Duration = Duration::from_secs(2);

impl InMemoryRecovery {
    /// Keeps the last `capacity` events, and disconnected sessions for `window`.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub fn new(capacity: usize, window: Duration) -> Result<Self, NoEntropy> {
        let state = State {
            epoch: new_id()?,
            last_position: 0,
            sent: VecDeque::new(),
            capacity,
            window,
            sessions: HashMap::new(),
        };
        Ok(Self(Arc::new(Inner { state: Mutex::new(state), disconnected: Notify::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the emit of an event and stores it. The offset becomes the event's last argument. Send the
    /// emits in the order of their creation.
    ///
    /// # Errors
    /// If `args` does not serialise to an array.
    pub fn event(
        &self,
        namespace: &str,
        rooms: Vec<Room>,
        except: Option<SocketId>,
        name: &str,
        args: &impl Serialize,
    ) -> Result<Emit, serde_json::Error> {
        let mut state = self.state();
        let position = state.last_position + 1;
        let packet = Encoded::event(namespace, name, args, Some(&state.offset(position)))?.at(position);
        let emit =
            Emit { namespace: namespace.into(), rooms, except, packet, volatile: false, backpressure: None };
        state.last_position = position;
        state.sent.push_back(emit.clone());
        if state.sent.len() > state.capacity {
            state.sent.pop_front();
        }
        Ok(emit)
    }

    /// The offset of the last event. A volatile event whose last argument is a string must end with it too,
    /// because stock clients store any such string as an offset.
    pub fn offset(&self) -> String {
        let state = self.state();
        state.offset(state.last_position)
    }

    /// Registers a new session. Returns the private id for its [`crate::Accepted`].
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub fn start(&self, sid: SocketId, namespace: &str) -> Result<String, NoEntropy> {
        let pid = new_id()?;
        let mut state = self.state();
        let session = StoredSession {
            sid,
            namespace: namespace.into(),
            since: state.last_position,
            disconnected: None,
        };
        state.sessions.insert(pid.clone(), session);
        Ok(pid)
    }

    /// A client has disconnected for a recoverable reason. `socket` is its socket.
    pub fn disconnected(&self, pid: &str, socket: &Socket) {
        let own = socket.id().room();
        let rooms = socket.rooms().into_iter().filter(|room| *room != own).collect();
        self.store_disconnected(pid, rooms, socket.read_position());
    }

    fn store_disconnected(&self, pid: &str, rooms: Vec<Room>, read_position: ReadPosition) {
        let mut state = self.state();
        let now = Instant::now();
        let window = state.window;
        state.sessions.retain(|_, session| {
            session
                .disconnected
                .as_ref()
                .is_none_or(|disconnected| now.saturating_duration_since(disconnected.at) <= window)
        });
        if let Some(session) = state.sessions.get_mut(pid) {
            session.disconnected = Some(Disconnected { rooms, at: now, read_position });
        }
        drop(state);
        self.0.disconnected.notify_waiters();
    }

    /// A client has disconnected for a reason that is not recoverable: removes its session.
    pub fn remove(&self, pid: &str) {
        self.state().sessions.remove(pid);
    }

    /// Recovers a session if all missed events are still stored. If its earlier connection is still open,
    /// because the server has not noticed its end, that connection is closed first over `io`, and its peer
    /// must call [`InMemoryRecovery::disconnected`].
    pub async fn resume(&self, resume: &Resume, io: &Io) -> Option<RecoveredSession> {
        if let Some(sid) = self.connected_socket(&resume.pid) {
            let close = Operation::Close { of: sid.room(), reason: CloseReason::Superseded };
            io.send(vec![close]).await;
            timeout(SUPERSEDE_TIMEOUT, self.until_disconnected(&resume.pid)).await.ok()?;
        }
        self.recover(resume)
    }

    /// The socket of a session that is still connected, as far as the server has noticed.
    fn connected_socket(&self, pid: &str) -> Option<SocketId> {
        let state = self.state();
        state
            .sessions
            .get(pid)
            .filter(|session| session.disconnected.is_none())
            .map(|session| session.sid.clone())
    }

    async fn until_disconnected(&self, pid: &str) {
        loop {
            // Registered before the check, so that a disconnect between the two is not missed.
            let mut disconnected = std::pin::pin!(self.0.disconnected.notified());
            disconnected.as_mut().enable();
            if self.connected_socket(pid).is_none() {
                return;
            }
            disconnected.await;
        }
    }

    fn recover(&self, resume: &Resume) -> Option<RecoveredSession> {
        let mut state = self.state();
        let session = state.sessions.get(&resume.pid)?;
        let Disconnected { rooms, at, read_position } = session.disconnected.clone()?;
        let since = match resume.offset.as_deref().map(|offset| state.parse_offset(offset)) {
            None => session.since,
            Some(ParsedOffset::Position(position)) => position,
            // Stock clients store the last argument of any event as offset if it is a string.
            Some(ParsedOffset::Invalid) => match read_position {
                ReadPosition::Start => session.since,
                ReadPosition::At(position) => position,
                ReadPosition::Unknown => return None,
            },
            Some(ParsedOffset::OtherLog) => return None,
        };
        let oldest = state.last_position - state.sent.len() as u64;
        if at.elapsed() > state.window || since < oldest || since > state.last_position {
            return None;
        }
        let missed = state.sent.iter().skip((since - oldest) as usize);
        let missed = missed.filter(|sent| session.is_recipient(sent, &rooms)).map(|sent| sent.packet.clone());
        let recovered = Recovered { missed: missed.collect(), reached: state.last_position };
        let sid = session.sid.clone();
        if let Some(session) = state.sessions.get_mut(&resume.pid) {
            session.disconnected = None;
        }
        Some(RecoveredSession { sid, pid: resume.pid.clone(), rooms, recovered })
    }
}

impl State {
    fn offset(&self, position: u64) -> String {
        format!("{}.{position}", self.epoch)
    }

    fn parse_offset(&self, offset: &str) -> ParsedOffset {
        let parts = offset.rsplit_once('.').and_then(|(epoch, at)| Some((epoch, at.parse().ok()?)));
        match parts {
            Some((epoch, position)) if epoch == self.epoch => ParsedOffset::Position(position),
            Some((epoch, _)) if epoch.len() == self.epoch.len() => ParsedOffset::OtherLog,
            _ => ParsedOffset::Invalid,
        }
    }
}

impl StoredSession {
    fn is_recipient(&self, sent: &Emit, rooms: &[Room]) -> bool {
        let own = self.sid.room();
        let in_rooms =
            sent.rooms.is_empty() || sent.rooms.iter().any(|room| *room == own || rooms.contains(room));
        sent.namespace == self.namespace && sent.except.as_ref() != Some(&self.sid) && in_rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery() -> InMemoryRecovery {
        InMemoryRecovery::new(3, Duration::from_secs(60)).unwrap()
    }

    fn sid(name: &str) -> SocketId {
        SocketId::from_stored(name)
    }

    fn send(recovery: &InMemoryRecovery, rooms: &[&str], except: Option<&str>, name: &str) {
        let rooms = rooms.iter().map(|room| (*room).into()).collect();
        recovery.event("/", rooms, except.map(sid), name, &()).unwrap();
    }

    fn resume(recovery: &InMemoryRecovery, pid: &str, offset: Option<String>) -> Option<usize> {
        let resume = Resume { pid: pid.into(), offset };
        recovery.recover(&resume).map(|recovered| recovered.recovered.missed.len())
    }

    #[test]
    fn a_recovered_session_receives_exactly_the_missed_events_of_its_rooms() {
        let recovery = recovery();
        let pid = recovery.start(sid("alice"), "/").unwrap();
        send(&recovery, &["a"], None, "received");
        let offset = recovery.offset();
        recovery.store_disconnected(&pid, vec!["a".into()], ReadPosition::Unknown);
        send(&recovery, &["b"], None, "other room");
        send(&recovery, &["alice"], None, "own room");
        send(&recovery, &[], Some("alice"), "own event");
        assert_eq!(resume(&recovery, &pid, Some(offset)), Some(1));
    }

    #[test]
    fn a_session_without_an_offset_recovers_from_its_connect() {
        let recovery = recovery();
        send(&recovery, &[], None, "before");
        let pid = recovery.start(sid("alice"), "/").unwrap();
        send(&recovery, &[], None, "missed");
        recovery.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        assert_eq!(resume(&recovery, &pid, None), Some(1));
        assert_eq!(resume(&recovery, &pid, None), None, "it is connected again");
    }

    #[test]
    fn a_session_is_not_recovered_in_part() {
        let recovery = recovery();
        let pid = recovery.start(sid("alice"), "/").unwrap();
        let offset = recovery.offset();
        recovery.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        (0..4).for_each(|_| send(&recovery, &[], None, "too many"));
        assert_eq!(resume(&recovery, &pid, Some(offset)), None);
        let (last, other) =
            (recovery.offset(), InMemoryRecovery::new(1, Duration::from_secs(1)).unwrap().offset());
        for invalid in [&other, &last.replace(".4", ".5")] {
            assert_eq!(resume(&recovery, &pid, Some(invalid.clone())), None, "{invalid}");
        }
        assert_eq!(resume(&recovery, "unknown", Some(last.clone())), None);
        assert_eq!(resume(&recovery, &pid, Some(last)), Some(0));
    }

    #[test]
    fn an_invalid_offset_is_replaced_by_the_read_position() {
        let recovery = recovery();
        let pid = recovery.start(sid("alice"), "/").unwrap();
        send(&recovery, &[], None, "received");
        for invalid in ["", "x", "hello world", "1.1", &recovery.offset().replace(".1", ".-1")] {
            recovery.store_disconnected(&pid, Vec::new(), ReadPosition::At(1));
            send(&recovery, &[], None, "missed");
            assert_eq!(resume(&recovery, &pid, Some(invalid.into())), Some(1), "{invalid}");
            recovery.state().sent.pop_back();
            recovery.state().last_position -= 1;
        }
    }

    #[actix_rt::test]
    async fn an_open_earlier_connection_is_closed_before_recovery() {
        let recovery = recovery();
        let pid = recovery.start(sid("alice"), "/").unwrap();
        send(&recovery, &[], None, "missed");
        let resume = Resume { pid: pid.clone(), offset: None };
        let io = Io::new();
        let (recovered, ()) = tokio::join!(recovery.resume(&resume, &io), async {
            recovery.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        });
        assert_eq!(recovered.map(|recovered| recovered.recovered.missed.len()), Some(1));
    }

    #[test]
    fn a_session_is_removed_after_the_window() {
        let recovery = InMemoryRecovery::new(3, Duration::ZERO).unwrap();
        let pid = recovery.start(sid("alice"), "/").unwrap();
        recovery.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        let other = recovery.start(sid("bob"), "/").unwrap();
        while recovery.state().sessions.contains_key(&pid) {
            recovery.store_disconnected(&other, Vec::new(), ReadPosition::Unknown);
        }
        assert_eq!(resume(&recovery, &pid, Some(recovery.offset())), None);
    }
}
