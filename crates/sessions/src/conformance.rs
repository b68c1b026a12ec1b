//! The conformance suite of [`Sessions`]. The tests of each backend call [`run`] with a constructor.

mod replacements;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use proto::{Timestamp, Username};

use crate::{Clock, Closing, Error, LIFETIME_SECONDS, PER_USER, SharedSessions, Token};

/// A clock that stands still until a test moves it.
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at the current time.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(Timestamp::now().0)))
    }

    /// The time of the clock.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    /// Moves the clock forward, by milliseconds.
    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    /// Moves the clock back, by milliseconds.
    pub fn rewind(&self, millis: u64) {
        self.0.fetch_sub(millis, Ordering::Relaxed);
    }

    /// The clock as a function, for the constructor of a backend.
    pub fn reading(&self) -> Clock {
        let this = self.clone();
        Arc::new(move || this.now())
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs the suite. `make` returns a backend without sessions that reads the given clock. It is called once per test.
///
/// # Panics
/// When a test fails.
pub async fn run<F, B>(make: F) -> Result<(), Error>
where
    F: Fn(Clock) -> B,
    B: Future<Output = SharedSessions>,
{
    let fresh = || async {
        let clock = ManualClock::new();
        (make(clock.reading()).await, clock)
    };
    let (sessions, clock) = fresh().await;
    an_opened_session_is_found_until_it_is_closed(sessions, clock).await?;
    let (sessions, _) = fresh().await;
    a_token_that_was_never_issued_finds_no_session(sessions).await?;
    let (sessions, clock) = fresh().await;
    a_session_expires_after_its_lifetime(sessions, clock).await?;
    let (sessions, clock) = fresh().await;
    a_session_dated_years_ahead_ends_when_the_clock_is_corrected(sessions, clock).await?;
    let (sessions, _) = fresh().await;
    watchers_receive_each_closing_once(sessions).await?;
    let (sessions, _) = fresh().await;
    a_session_beyond_the_maximum_evicts_the_oldest(sessions).await?;
    let (sessions, clock) = fresh().await;
    expired_sessions_do_not_evict_live_ones(sessions, clock).await?;
    let (sessions, _) = fresh().await;
    replacements::a_login_replaces_every_session_of_its_request(sessions).await?;
    for superseded in [false, true] {
        let (sessions, _) = fresh().await;
        replacements::a_replaced_session_ends_at_the_first_use_of_the_new_one(sessions, superseded).await?;
        let (sessions, _) = fresh().await;
        replacements::a_logout_ends_both_sides_of_a_replacement(sessions, superseded).await?;
    }
    Ok(())
}

async fn an_opened_session_is_found_until_it_is_closed(
    sessions: SharedSessions,
    clock: ManualClock,
) -> Result<(), Error> {
    let (alice, bob) = (user("Alice"), user("bob"));
    let (one, two) = (sessions.open(&alice).await?, sessions.open(&bob).await?);
    assert_ne!(one, two);
    let found = sessions.find(&one).await?.expect("an opened session is found");
    assert_eq!((found.username, found.id, found.issued_at), (alice, one.id(), clock.now()));
    assert!(sessions.close(&one).await?);
    assert_eq!(sessions.find(&one).await?, None);
    assert!(!sessions.is_live(&one.id()).await?);
    assert!(!sessions.close(&one).await?, "it is closed already");
    assert_eq!(sessions.find(&two).await?.expect("bob's session stays open").username, bob);
    assert!(sessions.is_live(&two.id()).await?);
    Ok(())
}

async fn a_token_that_was_never_issued_finds_no_session(sessions: SharedSessions) -> Result<(), Error> {
    let opened = sessions.open(&user("alice")).await?;
    let as_token = |text: &str| text.parse::<Token>().expect("allowed characters");
    let guesses =
        [Token::generate()?, as_token(opened.id().as_str()), as_token("x"), as_token(&"f".repeat(128))];
    for guess in guesses {
        assert_eq!(sessions.find(&guess).await?, None);
        assert!(!sessions.is_live(&guess.id()).await?);
        assert!(!sessions.close(&guess).await?);
    }
    assert!(sessions.is_live(&opened.id()).await?);
    Ok(())
}

async fn a_session_expires_after_its_lifetime(
    sessions: SharedSessions,
    clock: ManualClock,
) -> Result<(), Error> {
    let token = sessions.open(&user("alice")).await?;
    clock.advance(LIFETIME_SECONDS * 1_000 - 1);
    assert!(sessions.find(&token).await?.is_some(), "a millisecond before its end");
    assert!(sessions.is_live(&token.id()).await?);
    clock.advance(1);
    assert_eq!(sessions.find(&token).await?, None, "at its end");
    assert!(!sessions.is_live(&token.id()).await?);
    assert!(!sessions.close(&token).await?);
    Ok(())
}

async fn a_session_dated_years_ahead_ends_when_the_clock_is_corrected(
    sessions: SharedSessions,
    clock: ManualClock,
) -> Result<(), Error> {
    const YEARS: u64 = 12 * 365 * 24 * 3_600_000;
    let before = sessions.open(&user("alice")).await?;
    clock.advance(YEARS);
    assert!(sessions.find(&before).await?.is_none());
    clock.rewind(YEARS);
    assert!(sessions.find(&before).await?.is_some(), "a wrong clock does not delete the session");
    clock.advance(YEARS);
    let ahead = sessions.open(&user("bob")).await?;
    assert!(sessions.find(&ahead).await?.is_some());
    clock.rewind(YEARS);
    assert!(sessions.find(&ahead).await?.is_none() && !sessions.is_live(&ahead.id()).await?);
    clock.advance(1_800_000);
    let slightly = sessions.open(&user("carol")).await?;
    clock.rewind(1_800_000);
    assert!(sessions.find(&slightly).await?.is_some(), "a small correction of the clock ends no session");
    Ok(())
}

async fn watchers_receive_each_closing_once(sessions: SharedSessions) -> Result<(), Error> {
    let (mut one, mut two) = (sessions.closings(), sessions.closings());
    let (first, second) = (sessions.open(&user("alice")).await?, sessions.open(&user("alice")).await?);
    assert!(one.is_empty(), "an opening closes nothing");
    for token in [&second, &first, &first] {
        sessions.close(token).await?;
    }
    for watcher in [&mut one, &mut two] {
        assert_eq!(watcher.recv().await, Ok(Closing::ended(second.id())));
        assert_eq!(watcher.recv().await, Ok(Closing::ended(first.id())));
        assert!(watcher.is_empty());
    }
    Ok(())
}

async fn a_session_beyond_the_maximum_evicts_the_oldest(sessions: SharedSessions) -> Result<(), Error> {
    let mut closings = sessions.closings();
    let bob = sessions.open(&user("bob")).await?;
    let mut opened = Vec::new();
    for number in 0..PER_USER {
        // Usernames are case-insensitive.
        opened.push(sessions.open(&user(if number % 2 == 0 { "alice" } else { "ALICE" })).await?);
    }
    assert!(sessions.is_live(&opened[0].id()).await?, "the maximum is reached");
    opened.push(sessions.open(&user("alice")).await?);
    assert!(!sessions.is_live(&opened[0].id()).await?, "the maximum is exceeded");
    assert_eq!(closings.recv().await, Ok(Closing::evicted(opened[0].id())));
    assert!(closings.is_empty());
    for token in &opened[1..] {
        assert!(sessions.is_live(&token.id()).await?);
    }
    assert!(sessions.is_live(&bob.id()).await?, "sessions of other users do not count");
    Ok(())
}

async fn expired_sessions_do_not_evict_live_ones(
    sessions: SharedSessions,
    clock: ManualClock,
) -> Result<(), Error> {
    for _ in 0..PER_USER {
        sessions.open(&user("alice")).await?;
    }
    clock.advance(LIFETIME_SECONDS * 1_000);
    let mut opened = Vec::new();
    for _ in 0..PER_USER {
        opened.push(sessions.open(&user("alice")).await?);
    }
    for token in &opened {
        assert!(sessions.is_live(&token.id()).await?);
    }
    Ok(())
}

fn user(name: &str) -> Username {
    name.parse().expect("a valid name")
}
