//! Connection state recovery in memory, for applications without a log of their own: what was sent, to which rooms, and who
//! was where. Called by the application, in [`crate::App::connect`], [`crate::Peer::closed`] and wherever it sends.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Encoded, Room,
    app::Resume,
    engine::handshake::new_id,
    fanout::Broadcast,
    socket::{Recovered, SocketId},
};

/// What was sent lately, and who may come back for it. Cheap to clone.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<State>>);

/// A client that is recognised.
pub struct Returned {
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
    sent: VecDeque<Broadcast>,
    capacity: usize,
    window: Duration,
    clients: HashMap<String, Client>,
}

struct Client {
    sid: SocketId,
    namespace: Arc<str>,
    /// The log's end when it connected: where to go on when it has seen nothing.
    since: u64,
    /// Its rooms and when it left; none while it is connected.
    left: Option<(Vec<Room>, Instant)>,
}

impl Memory {
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
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    ) -> Result<Broadcast, serde_json::Error> {
        let mut state = self.state();
        let position = state.last + 1;
        let packet = Encoded::event(namespace, name, args, Some(&state.offset(position)))?.at(position);
        let broadcast = Broadcast { namespace: namespace.into(), rooms, except, packet, volatile: false };
        state.last = position;
        state.sent.push_back(broadcast.clone());
        if state.sent.len() > state.capacity {
            state.sent.pop_front();
        }
        Ok(broadcast)
    }

    /// The offset of the last event. A volatile event whose last argument is a string must carry it too: stock clients take
    /// any such string for an offset.
    pub fn offset(&self) -> String {
        let state = self.state();
        state.offset(state.last)
    }

    /// A new client: answers with the private id for its [`crate::Entry`].
    pub fn start(&self, sid: SocketId, namespace: &str) -> String {
        let mut state = self.state();
        let pid = new_id();
        let client = Client { sid, namespace: namespace.into(), since: state.last, left: None };
        state.clients.insert(pid.clone(), client);
        pid
    }

    /// A client has left for a recoverable reason; `rooms` are those it was in.
    pub fn keep(&self, pid: &str, rooms: Vec<Room>) {
        let mut state = self.state();
        let now = Instant::now();
        let window = state.window;
        state.clients.retain(|_, client| {
            client.left.as_ref().is_none_or(|(_, left)| now.saturating_duration_since(*left) <= window)
        });
        if let Some(client) = state.clients.get_mut(pid) {
            client.left = Some((rooms, now));
        }
    }

    /// A client has left for good.
    pub fn forget(&self, pid: &str) {
        self.state().clients.remove(pid);
    }

    /// Recognises a client that comes back, if nothing it has missed is forgotten.
    pub fn resume(&self, resume: &Resume) -> Option<Returned> {
        let mut state = self.state();
        let client = state.clients.get(&resume.pid)?;
        let (rooms, left) = client.left.clone()?;
        let since = match &resume.offset {
            Some(offset) => state.position(offset)?,
            None => client.since,
        };
        let oldest = state.last - state.sent.len() as u64;
        if left.elapsed() > state.window || since < oldest || since > state.last {
            return None;
        }
        let missed = state.sent.iter().skip((since - oldest) as usize);
        let missed = missed.filter(|sent| client.was_meant(sent, &rooms)).map(|sent| sent.packet.clone());
        let recovered = Recovered { missed: missed.collect(), reached: state.last };
        let sid = client.sid.clone();
        if let Some(client) = state.clients.get_mut(&resume.pid) {
            client.left = None;
        }
        Some(Returned { sid, pid: resume.pid.clone(), rooms, recovered })
    }
}

impl State {
    fn offset(&self, position: u64) -> String {
        format!("{}.{position}", self.epoch)
    }

    fn position(&self, offset: &str) -> Option<u64> {
        let (epoch, position) = offset.rsplit_once('.')?;
        (epoch == self.epoch).then(|| position.parse().ok()).flatten()
    }
}

impl Client {
    fn was_meant(&self, sent: &Broadcast, rooms: &[Room]) -> bool {
        let own = self.sid.room();
        let in_rooms =
            sent.rooms.is_empty() || sent.rooms.iter().any(|room| *room == own || rooms.contains(room));
        sent.namespace == self.namespace && sent.except.as_ref() != Some(&self.sid) && in_rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(3, Duration::from_secs(60))
    }

    fn sid(name: &str) -> SocketId {
        SocketId::from_stored(name)
    }

    fn send(memory: &Memory, rooms: &[&str], except: Option<&str>, name: &str) {
        let rooms = rooms.iter().map(|room| (*room).into()).collect();
        memory.event("/", rooms, except.map(sid), name, &()).unwrap();
    }

    fn resume(memory: &Memory, pid: &str, offset: Option<String>) -> Option<usize> {
        let resume = Resume { pid: pid.into(), offset };
        memory.resume(&resume).map(|returned| returned.recovered.missed.len())
    }

    #[test]
    fn a_client_gets_what_it_missed_in_its_rooms_and_nothing_else() {
        let memory = memory();
        let pid = memory.start(sid("alice"), "/");
        send(&memory, &["a"], None, "seen");
        let offset = memory.offset();
        memory.keep(&pid, vec!["a".into()]);
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
        memory.keep(&pid, Vec::new());
        assert_eq!(resume(&memory, &pid, None), Some(1));
        assert_eq!(resume(&memory, &pid, None), None, "it is connected again");
    }

    #[test]
    fn nothing_is_recovered_in_part() {
        let memory = memory();
        let pid = memory.start(sid("alice"), "/");
        let offset = memory.offset();
        memory.keep(&pid, Vec::new());
        (0..4).for_each(|_| send(&memory, &[], None, "too many"));
        assert_eq!(resume(&memory, &pid, Some(offset)), None);
        let (last, other) = (memory.offset(), Memory::new(1, Duration::from_secs(1)).offset());
        for strange in ["", "x", "1.1", &other, &last.replace(".4", ".5"), &last.replace(".4", ".-1")] {
            assert_eq!(resume(&memory, &pid, Some(strange.into())), None, "{strange}");
        }
        assert_eq!(resume(&memory, "unknown", Some(last.clone())), None);
        assert_eq!(resume(&memory, &pid, Some(last)), Some(0));
    }

    #[test]
    fn a_client_that_stays_away_is_forgotten() {
        let memory = Memory::new(3, Duration::ZERO);
        let pid = memory.start(sid("alice"), "/");
        memory.keep(&pid, Vec::new());
        let other = memory.start(sid("bob"), "/");
        while memory.state().clients.contains_key(&pid) {
            memory.keep(&other, Vec::new());
        }
        assert_eq!(resume(&memory, &pid, Some(memory.offset())), None);
    }
}
