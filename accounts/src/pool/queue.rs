//! The queue of the password pool. It is fair by client address: it serves addresses in turn, one job each.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The address of a job ([`proto::address::counted`]); `None` for a job without a client.
pub type Lane = Option<IpAddr>;

/// Inverse of the maximum share of the queue for one address.
const SHARE: usize = 4;

/// A bounded queue of jobs `W` with a lane per address.
pub struct Queue<W> {
    lanes: Mutex<Lanes<W>>,
    /// Notified for each job, and when the queue closes.
    filled: Condvar,
    /// Maximum number of jobs of all addresses.
    limit: usize,
    /// Maximum number of jobs of one address.
    share: usize,
}

struct Lanes<W> {
    waiting: HashMap<Lane, VecDeque<W>>,
    /// Addresses with jobs in the order of their turns.
    turns: VecDeque<Lane>,
    length: usize,
    /// Time of the last [`Queue::next`] with a job, or of the first job in an empty queue, whichever is later.
    progress: Instant,
    is_closed: bool,
}

/// Reason for refusing a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The address has reached its share of the queue.
    Share,
    /// The queue is full, and no address has more than one job in it.
    Queue,
}

impl<W> Queue<W> {
    /// A queue for at most `limit` jobs.
    pub fn new(limit: usize) -> Self {
        let lanes = Lanes {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            length: 0,
            progress: Instant::now(),
            is_closed: false,
        };
        let share = limit.div_ceil(SHARE);
        Self { lanes: Mutex::new(lanes), filled: Condvar::new(), limit, share }
    }

    /// Adds a job of `lane`. When the queue is full, the address with the most jobs loses its newest job, unless it has only one more than
    /// `lane`. Returns the removed job; dropping it refuses it.
    pub fn push(&self, lane: Lane, work: W) -> Result<Option<W>, Full> {
        let mut lanes = self.lanes();
        let own = lanes.waiting.get(&lane).map_or(0, VecDeque::len);
        if own >= self.share {
            return Err(Full::Share);
        }
        let mut removed = None;
        if lanes.length >= self.limit {
            let longest = lanes.waiting.iter().max_by_key(|(_, work)| work.len());
            let longest = longest.filter(|(_, work)| work.len() > own + 1).map(|(lane, _)| *lane);
            removed = lanes.waiting.get_mut(&longest.ok_or(Full::Queue)?).and_then(VecDeque::pop_back);
            lanes.length -= 1;
        }
        if lanes.length == 0 {
            lanes.progress = Instant::now();
        }
        lanes.waiting.entry(lane).or_default().push_back(work);
        lanes.length += 1;
        if own == 0 {
            lanes.turns.push_back(lane);
        }
        drop(lanes);
        self.filled.notify_one();
        Ok(removed)
    }

    /// Waits for the next job. Returns `None` when the queue is closed and empty.
    pub fn next(&self) -> Option<W> {
        let mut lanes = self.lanes();
        loop {
            if let Some(work) = lanes.take() {
                return Some(work);
            }
            if lanes.is_closed {
                return None;
            }
            lanes = self.filled.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether jobs have been in the queue for `limit` and no thread has taken any.
    pub fn is_stalled(&self, limit: Duration) -> bool {
        let lanes = self.lanes();
        lanes.length > 0 && lanes.progress.elapsed() >= limit
    }

    /// Ends [`Queue::next`] when the queue is empty.
    pub fn close(&self) {
        self.lanes().is_closed = true;
        self.filled.notify_all();
    }

    /// Whether the queue contains a job of `lane`.
    #[cfg(test)]
    pub fn has(&self, lane: Lane) -> bool {
        self.lanes().waiting.contains_key(&lane)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<W>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Lanes<W> {
    /// Takes the oldest job of the next address, which then moves to the end of the order.
    fn take(&mut self) -> Option<W> {
        let lane = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&lane)?;
        let work = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        self.length -= usize::from(work.is_some());
        self.progress = Instant::now();
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs: last byte of the address, number of the job.
    type Jobs = &'static [(u8, u8)];

    fn lane(number: u8) -> Lane {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    #[test]
    fn addresses_are_served_in_turn_within_their_share() {
        // Added jobs, refused or removed jobs, order of the others. The queue has 8 places, the share is 2.
        let table: [(&str, Jobs, Jobs, Jobs); 5] = [
            ("one address", &[(1, 1), (1, 2)], &[], &[(1, 1), (1, 2)]),
            ("beyond its share", &[(1, 1), (1, 2), (1, 3), (2, 1)], &[(1, 3)], &[(1, 1), (2, 1), (1, 2)]),
            (
                "turns",
                &[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)],
                &[],
                &[(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)],
            ),
            (
                "a new address in a full queue",
                &[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1)],
                &[(0, 2)],
                &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)],
            ),
            (
                "as many addresses as places",
                &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1)],
                &[(9, 1)],
                &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)],
            ),
        ];
        for (name, added, out, done) in table {
            let queue = Queue::new(8);
            let mut left = Vec::new();
            for &(address, job) in added {
                match queue.push(lane(address), (address, job)) {
                    Ok(removed) => left.extend(removed),
                    Err(_) => left.push((address, job)),
                }
            }
            // Among addresses with equal numbers of jobs, any can lose one.
            let fits =
                |(left, out): (&(u8, u8), &(u8, u8))| left.1 == out.1 && (out.0 == 0 || left.0 == out.0);
            assert!(left.len() == out.len() && left.iter().zip(out).all(fits), "{name}: {left:?}");
            queue.close();
            let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
            assert_eq!(order[..done.len()], *done, "{name}");
            assert_eq!(order.len() + left.len(), added.len(), "{name}");
        }
    }

    #[test]
    fn a_queue_stalls_when_jobs_wait_and_none_is_taken() {
        let (queue, none) = (Queue::new(4), Duration::ZERO);
        assert!(!queue.is_stalled(none), "an empty queue");
        queue.push(lane(1), 1).unwrap();
        assert!(queue.is_stalled(none) && !queue.is_stalled(Duration::from_secs(3600)));
        queue.lanes().progress -= Duration::from_secs(3600);
        queue.push(lane(2), 2).unwrap();
        assert!(queue.is_stalled(Duration::from_secs(3600)), "a second job is no progress");
        queue.next();
        assert!(!queue.is_stalled(Duration::from_secs(3600)), "a job was taken");
        queue.next();
        queue.lanes().progress -= Duration::from_secs(3600);
        queue.push(lane(3), 3).unwrap();
        assert!(!queue.is_stalled(Duration::from_secs(3600)), "the time of an empty queue does not count");
    }

    #[test]
    fn a_freed_place_is_reused() {
        let queue = Queue::new(4);
        for round in 0..3 {
            assert_eq!(queue.push(lane(1), round), Ok(None));
            assert_eq!(queue.push(lane(1), round), Err(Full::Share));
            assert_eq!(queue.next(), Some(round));
        }
        let lanes = queue.lanes();
        assert!(
            lanes.waiting.is_empty() && lanes.turns.is_empty() && lanes.length == 0,
            "the queue is empty"
        );
    }
}
