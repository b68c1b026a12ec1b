//! Posts that wait for their batch. Pure: time is an argument, and so is what waits with a post. [`super::posts`] feeds and
//! empties it.

use std::{collections::VecDeque, time::Instant};

/// The most posts that may wait in one room.
pub const WAITING: usize = 1024;

/// The most posts in one batch.
pub const BATCH: usize = 64;

/// The most bytes of one batch as it goes out: a quarter of what may wait for one client, so that a burst alone fills nobody's
/// outbox; and a batch is one write, for which other rooms' writes wait.
pub const BATCH_BYTES: usize = 64 * 1024;

/// What a queue must know of what it holds.
pub trait Waiting {
    /// Its share of [`BATCH_BYTES`].
    fn bytes(&self) -> usize;
    /// Whether it is too late, or nobody waits for it any more: then it is not said.
    fn is_over(&self, now: Instant) -> bool;
}

/// Posts in the order they came, at most [`WAITING`].
#[derive(Debug)]
pub struct Queue<T> {
    posts: VecDeque<T>,
}

impl<T: Waiting> Queue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { posts: VecDeque::new() }
    }

    /// Puts a post last, or gives it back when the queue is full.
    pub fn push(&mut self, post: T) -> Result<(), T> {
        if self.posts.len() >= WAITING {
            return Err(post);
        }
        self.posts.push_back(post);
        Ok(())
    }

    /// The next batch, in order, and the posts before its end that are over. Both empty: nothing waits.
    pub fn next(&mut self, now: Instant) -> (Vec<T>, Vec<T>) {
        let (mut batch, mut over, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(first) = self.posts.front() {
            bytes += first.bytes();
            if batch.len() == BATCH || (bytes > BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            let Some(post) = self.posts.pop_front() else { break };
            if post.is_over(now) {
                bytes -= post.bytes();
                over.push(post);
            } else {
                batch.push(post);
            }
        }
        (batch, over)
    }

    /// How many posts wait.
    pub fn len(&self) -> usize {
        self.posts.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Post(u32, usize, Option<Instant>);

    impl Waiting for Post {
        fn bytes(&self) -> usize {
            self.1
        }
        fn is_over(&self, now: Instant) -> bool {
            self.2.is_some_and(|deadline| deadline <= now)
        }
    }

    fn numbers(posts: &[Post]) -> Vec<u32> {
        posts.iter().map(|post| post.0).collect()
    }

    #[test]
    fn keeps_the_order_over_batches() {
        let mut queue = Queue::new();
        (0..300).for_each(|n| queue.push(Post(n, 1, None)).unwrap());
        let mut seen = Vec::new();
        for size in [BATCH, BATCH, BATCH, BATCH, 300 - 4 * BATCH, 0] {
            let (batch, over) = queue.next(Instant::now());
            assert_eq!((batch.len(), over.len()), (size, 0));
            seen.extend(numbers(&batch));
        }
        assert!(seen.iter().copied().eq(0..300));
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_never_empty_for_a_big_post() {
        let mut queue = Queue::new();
        for (n, bytes) in [(0, BATCH_BYTES / 2), (1, BATCH_BYTES / 2), (2, 1), (3, 2 * BATCH_BYTES), (4, 1)] {
            queue.push(Post(n, bytes, None)).unwrap();
        }
        let batches: Vec<_> = (0..4).map(|_| numbers(&queue.next(Instant::now()).0)).collect();
        assert_eq!(batches, [vec![0, 1], vec![2], vec![3], vec![4]]);
    }

    #[test]
    fn the_1025th_waiting_post_comes_back() {
        let mut queue = Queue::new();
        (0..1024).for_each(|n| queue.push(Post(n, 1, None)).unwrap());
        assert_eq!(queue.push(Post(1024, 1, None)), Err(Post(1024, 1, None)));
        queue.next(Instant::now());
        assert_eq!(queue.push(Post(1025, 1, None)), Ok(()));
        assert_eq!(queue.len(), 1024 - BATCH + 1);
    }

    #[test]
    fn what_is_over_is_not_said() {
        let now = Instant::now();
        let mut queue = Queue::new();
        queue.push(Post(0, 1, None)).unwrap();
        queue.push(Post(1, BATCH_BYTES, Some(now))).unwrap();
        queue.push(Post(2, 1, Some(now + Duration::from_secs(1)))).unwrap();
        let (batch, over) = queue.next(now);
        assert_eq!((numbers(&batch), numbers(&over)), (vec![0], vec![]));
        let (batch, over) = queue.next(now);
        assert_eq!((numbers(&batch), numbers(&over)), (vec![2], vec![1]));
    }
}
