//! Connection state recovery in memory, for applications without a log of their own: what was sent, to which rooms, and who
//! was where. Called by the application, in [`crate::App::connect`], [`crate::Peer::closed`] and wherever it sends.

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
    engine::handshake::new_id,
    operation::{Emit, Operation},
    socket::{ReadPosition, Recovered, Socket, SocketId},
};

/// What was sent lately, and who may come back for it. Cheap to clone.
#[derive(Clone)]
pub struct InMemoryRecovery(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Somebody has left.
    left: Notify,
}

/// A client that is recognised.
pub struct RecoveredSession {
    /// The id its socket had, to [`crate::Socket::adopt`].
    pub sid: SocketId,
    /// The private id it came with and keeps.
    pub pid: String,
    /// The rooms it was in, without the one of its own id.
    pub rooms: Vec<Room>,
    /// What it has missed.
    pub recovered: Recovered,
}

struct State {
    /// Tells this log's offsets from those of another run.
    epoch: String,
    last: u64,
    sent: VecDeque<Emit>,
    capacity: usize,
    window: Duration,
    clients: HashMap<String, Client>,
}

struct Client {
    sid: SocketId,
    namespace: Arc<str>,
    /// The log's end when it connected: where to go on when it has seen nothing.
    since: u64,
    /// How it left; none while it is connected.
    left: Option<Left>,
}

#[derive(Clone)]
struct Left {
    rooms: Vec<Room>,
    at: Instant,
    read_position: ReadPosition,
}

/// What an offset send.
#[derive(Debug, PartialEq, Eq)]
enum ParsedOffset {
    /// A read_position in this log.
    ReadPosition(u64),
    /// A read_position in the log of another run.
    Elsewhere,
    /// Nothing: it is not one of ours.
    Nothing,
}

/// How long a client that comes back waits for the connection that still global_waits_left its read_position to end.
const SUPERSEDE_TIMEOUT: Duration = Duration::from_secs(2);

impl InMemoryRecovery {
    /// Remembers the last `capacity` events, and clients for `window` after they left.
    pub fn new(capacity: usize, window: Duration) -> Self {
        let state = State {
            epoch: new_id(),
            last: 0,
            sent: VecDeque::new(),
            capacity,
            window,
            clients: HashMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), left: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the broadcast of an event and remembers it. Its offset is the last argument that goes out. Send what this returns
    /// in the order in which it was made.
    ///
    /// # Errors
    /// When `args` does not serialise, or not to an array.
    pub fn event(
        &self,
        namespace: &str,
        rooms: Vec<Room>,
        except: Option<SocketId>,
        name: &str,
        args: &impl Serialize,
    ) -> Result<Emit, serde_json::Error> {
        let mut state = self.state();
        let position = state.last + 1;
        let packet = Encoded::event(namespace, name, args, Some(&state.offset(position)))?.at(position);
        let broadcast =
            Emit { namespace: namespace.into(), rooms, except, packet, volatile: false, backpressure: None };
        state.last = position;
        state.sent.push_back(broadcast.clone());
        if state.sent.len() > state.capacity {
            state.sent.pop_front();
        }
        Ok(broadcast)
    }

    /// The offset of the last event. A volatile event whose last argument is a string must apply it too: stock clients take
    /// any such string for an offset.
    pub fn offset(&self) -> String {
        let state = self.state();
        state.offset(state.last)
    }

    /// A new client: answers with the private id for its [`crate::Accepted`].
    pub fn start(&self, sid: SocketId, namespace: &str) -> String {
        let mut state = self.state();
        let pid = new_id();
        let client = Client { sid, namespace: namespace.into(), since: state.last, left: None };
        state.clients.insert(pid.clone(), client);
        pid
    }

    /// A client has left for a recoverable reason; `socket` is the one it had.
    pub fn keep(&self, pid: &str, socket: &Socket) {
        let own = socket.id().room();
        let rooms = socket.rooms().into_iter().filter(|room| *room != own).collect();
        self.store_disconnected(pid, rooms, socket.read_position());
    }

    fn store_disconnected(&self, pid: &str, rooms: Vec<Room>, read_position: ReadPosition) {
        let mut state = self.state();
        let now = Instant::now();
        let window = state.window;
        state.clients.retain(|_, client| {
            client.left.as_ref().is_none_or(|left| now.saturating_duration_since(left.at) <= window)
        });
        if let Some(client) = state.clients.get_mut(pid) {
            client.left = Some(Left { rooms, at: now, read_position });
        }
        drop(state);
        self.0.left.notify_waiters();
    }

    /// A client has left for good.
    pub fn forget(&self, pid: &str) {
        self.state().clients.remove(pid);
    }

    /// Recognises a client that comes back, if nothing it has missed is forgotten. A connection that still global_waits_left its read_position,
    /// because the server has not noticed its end, is closed first, over `io`; its peer has to [`InMemoryRecovery::keep`] it.
    pub async fn resume(&self, resume: &Resume, io: &Io) -> Option<RecoveredSession> {
        if let Some(sid) = self.connected_socket(&resume.pid) {
            let close = Operation::Close { of: sid.room(), reason: CloseReason::Superseded };
            io.send(vec![close]).await;
            timeout(SUPERSEDE_TIMEOUT, self.until_disconnected(&resume.pid)).await.ok()?;
        }
        self.recover(resume)
    }

    /// The socket of a client that is still connected, as far as is known.
    fn connected_socket(&self, pid: &str) -> Option<SocketId> {
        let state = self.state();
        state.clients.get(pid).filter(|client| client.left.is_none()).map(|client| client.sid.clone())
    }

    async fn until_disconnected(&self, pid: &str) {
        loop {
            // Registered before the look, so that no leaving between the two is missed.
            let mut left = std::pin::pin!(self.0.left.notified());
            left.as_mut().enable();
            if self.connected_socket(pid).is_none() {
                return;
            }
            left.await;
        }
    }

    fn recover(&self, resume: &Resume) -> Option<RecoveredSession> {
        let mut state = self.state();
        let client = state.clients.get(&resume.pid)?;
        let Left { rooms, at, read_position } = client.left.clone()?;
        let since = match resume.offset.as_deref().map(|offset| state.read(offset)) {
            None => client.since,
            Some(ParsedOffset::ReadPosition(position)) => position,
            // Stock clients take any string at the end of any event for an offset.
            Some(ParsedOffset::Nothing) => match read_position {
                ReadPosition::Start => client.since,
                ReadPosition::At(position) => position,
                ReadPosition::Unknown => return None,
            },
            Some(ParsedOffset::Elsewhere) => return None,
        };
        let oldest = state.last - state.sent.len() as u64;
        if at.elapsed() > state.window || since < oldest || since > state.last {
            return None;
        }
        let missed = state.sent.iter().skip((since - oldest) as usize);
        let missed = missed.filter(|sent| client.is_recipient(sent, &rooms)).map(|sent| sent.packet.clone());
        let recovered = Recovered { missed: missed.collect(), reached: state.last };
        let sid = client.sid.clone();
        if let Some(client) = state.clients.get_mut(&resume.pid) {
            client.left = None;
        }
        Some(RecoveredSession { sid, pid: resume.pid.clone(), rooms, recovered })
    }
}

impl State {
    fn offset(&self, position: u64) -> String {
        format!("{}.{position}", self.epoch)
    }

    fn read(&self, offset: &str) -> ParsedOffset {
        let parts = offset.rsplit_once('.').and_then(|(epoch, at)| Some((epoch, at.parse().ok()?)));
        match parts {
            Some((epoch, position)) if epoch == self.epoch => ParsedOffset::ReadPosition(position),
            Some((epoch, _)) if epoch.len() == self.epoch.len() => ParsedOffset::Elsewhere,
            _ => ParsedOffset::Nothing,
        }
    }
}

impl Client {
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

    fn memory() -> InMemoryRecovery {
        InMemoryRecovery::new(3, Duration::from_secs(60))
    }

    fn sid(name: &str) -> SocketId {
        SocketId::from_stored(name)
    }

    fn send(memory: &InMemoryRecovery, rooms: &[&str], except: Option<&str>, name: &str) {
        let rooms = rooms.iter().map(|room| (*room).into()).collect();
        memory.event("/", rooms, except.map(sid), name, &()).unwrap();
    }

    fn resume(memory: &InMemoryRecovery, pid: &str, offset: Option<String>) -> Option<usize> {
        let resume = Resume { pid: pid.into(), offset };
        memory.recover(&resume).map(|returned| returned.recovered.missed.len())
    }

    #[test]
    fn a_client_gets_what_it_missed_in_its_rooms_and_nothing_else() {
        let memory = memory();
        let pid = memory.start(sid("alice"), "/");
        send(&memory, &["a"], None, "seen");
        let offset = memory.offset();
        memory.store_disconnected(&pid, vec!["a".into()], ReadPosition::Unknown);
        send(&memory, &["b"], None, "not hers");
        send(&memory, &["alice"], None, "to her alone");
        send(&memory, &[], Some("alice"), "from her");
        assert_eq!(resume(&memory, &pid, Some(offset)), Some(1));
    }

    #[test]
    fn a_client_that_has_seen_nothing_goes_on_from_where_it_connected() {
        let memory = memory();
        send(&memory, &[], None, "before");
        let pid = memory.start(sid("alice"), "/");
        send(&memory, &[], None, "missed");
        memory.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        assert_eq!(resume(&memory, &pid, None), Some(1));
        assert_eq!(resume(&memory, &pid, None), None, "it is connected again");
    }

    #[test]
    fn nothing_is_recovered_in_part() {
        let memory = memory();
        let pid = memory.start(sid("alice"), "/");
        let offset = memory.offset();
        memory.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        (0..4).for_each(|_| send(&memory, &[], None, "too many"));
        assert_eq!(resume(&memory, &pid, Some(offset)), None);
        let (last, other) = (memory.offset(), InMemoryRecovery::new(1, Duration::from_secs(1)).offset());
        for strange in [&other, &last.replace(".4", ".5")] {
            assert_eq!(resume(&memory, &pid, Some(strange.clone())), None, "{strange}");
        }
        assert_eq!(resume(&memory, "unknown", Some(last.clone())), None);
        assert_eq!(resume(&memory, &pid, Some(last)), Some(0));
    }

    #[test]
    fn an_offset_that_is_none_of_ours_is_where_the_client_was_when_it_left() {
        let memory = memory();
        let pid = memory.start(sid("alice"), "/");
        send(&memory, &[], None, "seen");
        for strange in ["", "x", "hello world", "1.1", &memory.offset().replace(".1", ".-1")] {
            memory.store_disconnected(&pid, Vec::new(), ReadPosition::At(1));
            send(&memory, &[], None, "missed");
            assert_eq!(resume(&memory, &pid, Some(strange.into())), Some(1), "{strange}");
            memory.state().sent.pop_back();
            memory.state().last -= 1;
        }
    }

    #[actix_rt::test]
    async fn a_client_whose_end_was_not_noticed_gives_its_place_up() {
        let memory = memory();
        let pid = memory.start(sid("alice"), "/");
        send(&memory, &[], None, "missed");
        let back = Resume { pid: pid.clone(), offset: None };
        let io = Io::new();
        let (returned, ()) = tokio::join!(memory.resume(&back, &io), async {
            memory.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        });
        assert_eq!(returned.map(|returned| returned.recovered.missed.len()), Some(1));
    }

    #[test]
    fn a_client_that_stays_away_is_forgotten() {
        let memory = InMemoryRecovery::new(3, Duration::ZERO);
        let pid = memory.start(sid("alice"), "/");
        memory.store_disconnected(&pid, Vec::new(), ReadPosition::Unknown);
        let other = memory.start(sid("bob"), "/");
        while memory.state().clients.contains_key(&pid) {
            memory.store_disconnected(&other, Vec::new(), ReadPosition::Unknown);
        }
        assert_eq!(resume(&memory, &pid, Some(memory.offset())), None);
    }
}
