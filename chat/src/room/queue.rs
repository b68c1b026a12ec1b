//! The queue of posts that wait for their batch. Pure: time is an argument, and the queued type is generic. Used by [`super::posts`].

use std::{collections::VecDeque, time::Instant};

/// The maximum number of posts that wait in one room.
pub const MAX_WAITING: usize = 1024;

/// The maximum number of posts in one batch.
pub const BATCH: usize = 64;

/// The maximum size of one batch as it is sent, in bytes. It is a quarter of a client's send queue, so one burst does not fill the queue.
/// It also bounds the time that other rooms' writes wait, because a batch is one write.
pub const BATCH_BYTES: usize = 64 * 1024;

/// An item of a [`Queue`].
pub trait QueueItem {
    /// The item's size, counted against [`BATCH_BYTES`].
    fn bytes(&self) -> usize;
    /// Whether the item's deadline has passed or its caller has stopped waiting. An expired item is not stored.
    fn is_expired(&self, now: Instant) -> bool;
}

/// At most [`MAX_WAITING`] posts in order of arrival.
#[derive(Debug)]
pub struct Queue<T> {
    posts: VecDeque<T>,
}

impl<T: QueueItem> Queue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self { posts: VecDeque::new() }
    }

    /// Appends a post, or returns it if the queue is full.
    pub fn push(&mut self, post: T) -> Result<(), T> {
        if self.posts.len() >= MAX_WAITING {
            return Err(post);
        }
        self.posts.push_back(post);
        Ok(())
    }

    /// Puts posts of a batch back before the others, in their order.
    pub fn put_back(&mut self, posts: Vec<T>) {
        posts.into_iter().rev().for_each(|post| self.posts.push_front(post));
    }

    /// Removes the next batch, in order, and the expired posts before its end. Both are empty if the queue is empty.
    pub fn next(&mut self, now: Instant) -> (Vec<T>, Vec<T>) {
        let (mut batch, mut expired, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(first) = self.posts.front() {
            bytes += first.bytes();
            if batch.len() == BATCH || (bytes > BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            let Some(post) = self.posts.pop_front() else { break };
            if post.is_expired(now) {
                bytes -= post.bytes();
                expired.push(post);
            } else {
                batch.push(post);
            }
        }
        (batch, expired)
    }

    /// The number of queued posts.
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

    impl QueueItem for Post {
        fn bytes(&self) -> usize {
            self.1
        }
        fn is_expired(&self, now: Instant) -> bool {
            self.2.is_some_and(|deadline| deadline <= now)
        }
    }

    fn numbers(posts: &[Post]) -> Vec<u32> {
        posts.iter().map(|post| post.0).collect()
    }

    #[test]
    fn posts_keep_their_order_across_batches() {
        let mut queue = Queue::new();
        (0..300).for_each(|n| queue.push(Post(n, 1, None)).unwrap());
        let mut seen = Vec::new();
        for size in [BATCH, BATCH, BATCH, BATCH, 300 - 4 * BATCH, 0] {
            let (batch, expired) = queue.next(Instant::now());
            assert_eq!((batch.len(), expired.len()), (size, 0));
            seen.extend(numbers(&batch));
        }
        assert!(seen.iter().copied().eq(0..300));
    }

    #[test]
    fn a_batch_is_limited_in_bytes_but_takes_at_least_one_post() {
        let mut queue = Queue::new();
        for (n, bytes) in [(0, BATCH_BYTES / 2), (1, BATCH_BYTES / 2), (2, 1), (3, 2 * BATCH_BYTES), (4, 1)] {
            queue.push(Post(n, bytes, None)).unwrap();
        }
        let batches: Vec<_> = (0..4).map(|_| numbers(&queue.next(Instant::now()).0)).collect();
        assert_eq!(batches, [vec![0, 1], vec![2], vec![3], vec![4]]);
    }

    #[test]
    fn a_full_queue_returns_the_post() {
        let mut queue = Queue::new();
        (0..1024).for_each(|n| queue.push(Post(n, 1, None)).unwrap());
        assert_eq!(queue.push(Post(1024, 1, None)), Err(Post(1024, 1, None)));
        queue.next(Instant::now());
        assert_eq!(queue.push(Post(1025, 1, None)), Ok(()));
        assert_eq!(queue.len(), 1024 - BATCH + 1);
    }

    #[test]
    fn expired_posts_are_not_in_the_batch() {
        let now = Instant::now();
        let mut queue = Queue::new();
        queue.push(Post(0, 1, None)).unwrap();
        queue.push(Post(1, BATCH_BYTES, Some(now))).unwrap();
        queue.push(Post(2, 1, Some(now + Duration::from_secs(1)))).unwrap();
        let (batch, expired) = queue.next(now);
        assert_eq!((numbers(&batch), numbers(&expired)), (vec![0], vec![]));
        let (batch, expired) = queue.next(now);
        assert_eq!((numbers(&batch), numbers(&expired)), (vec![2], vec![1]));
    }
}
