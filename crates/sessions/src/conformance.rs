//! The conformance suite of [`Sessions`](crate::Sessions). The tests of each backend call [`run`].

use futures_util::FutureExt;
use proto::Username;

use crate::{Cause, Closing, Closings, Error, PER_USER, SessionId, SharedSessions, Token};

/// Runs the suite on a backend without sessions.
///
/// # Panics
/// When a test fails.
pub async fn run(sessions: SharedSessions) -> Result<(), Error> {
    an_opened_session_is_found_until_it_is_closed(&sessions).await?;
    a_token_that_was_never_issued_finds_no_session(&sessions).await?;
    a_session_beyond_the_maximum_evicts_the_oldest(&sessions).await?;
    a_login_replaces_every_session_of_its_request(&sessions).await?;
    a_replaced_session_ends_at_the_first_use_of_the_new_one(&sessions).await?;
    a_chain_of_logins_leaves_one_session(&sessions).await?;
    a_logout_ends_the_replaced_session(&sessions).await
}

async fn an_opened_session_is_found_until_it_is_closed(sessions: &SharedSessions) -> Result<(), Error> {
    let (mut one, mut two) = (sessions.closings(), sessions.closings());
    let (alice, bob) = (user("Alice"), user("bob"));
    let (first, second) = (sessions.open(&alice, &[]).await?, sessions.open(&bob, &[]).await?);
    assert_ne!(first, second);
    assert_eq!(sessions.find(&first.id()).await?, Some(alice), "in the spelling of the login");
    for _ in 0..2 {
        sessions.close(&first.id()).await?;
        assert_eq!(sessions.find(&first.id()).await?, None);
    }
    assert_eq!(sessions.find(&second.id()).await?, Some(bob), "bob's session stays open");
    sessions.close(&second.id()).await?;
    for watcher in [&mut one, &mut two] {
        for token in [&first, &second] {
            assert_eq!(watcher.recv().await, closing(token, Cause::Ended), "once");
        }
        assert!(is_silent(watcher));
    }
    Ok(())
}

async fn a_token_that_was_never_issued_finds_no_session(sessions: &SharedSessions) -> Result<(), Error> {
    let opened = sessions.open(&user("carol"), &[]).await?;
    let id_as_token: Token = opened.id().as_str().parse().expect("64 hex digits");
    for guess in [Token::generate()?, id_as_token] {
        assert_eq!(sessions.find(&guess.id()).await?, None);
        sessions.close(&guess.id()).await?;
    }
    assert!(is_live(sessions, &opened).await?);
    Ok(())
}

async fn a_session_beyond_the_maximum_evicts_the_oldest(sessions: &SharedSessions) -> Result<(), Error> {
    let bob = sessions.open(&user("bob"), &[]).await?;
    let mut closings = sessions.closings();
    let mut opened = Vec::new();
    for number in 0..PER_USER {
        // Usernames are case-insensitive.
        opened.push(sessions.open(&user(if number % 2 == 0 { "dave" } else { "DAVE" }), &[]).await?);
    }
    assert!(is_live(sessions, &opened[0]).await?, "the maximum is reached");
    opened.push(sessions.open(&user("dave"), &[]).await?);
    assert_eq!(closings.recv().await, closing(&opened[0], Cause::Evicted));
    assert!(is_silent(&mut closings) && !is_live(sessions, &opened[0]).await?, "the maximum is exceeded");
    for token in opened[1..].iter().chain([&bob]) {
        assert!(is_live(sessions, token).await?);
    }
    Ok(())
}

async fn a_login_replaces_every_session_of_its_request(sessions: &SharedSessions) -> Result<(), Error> {
    let (erin, bob) = (user("erin"), user("bob"));
    let mut opened = Vec::new();
    for _ in 0..PER_USER {
        opened.push(sessions.open(&erin, &[]).await?);
    }
    let other = sessions.open(&bob, &[]).await?;
    let mut closings = sessions.closings();
    let old = [opened[3].clone(), Token::generate()?, other.clone(), opened[7].clone()];
    let new = sessions.open(&erin, &old).await?;
    assert!(is_live(sessions, &new).await? && is_live(sessions, &opened[0]).await?, "nothing is evicted");
    let mut closed = Vec::new();
    for _ in 0..3 {
        closed.push(closings.recv().await.expect("watched"));
    }
    for token in [&opened[3], &other, &opened[7]] {
        assert!(closed.contains(&Closing { id: token.id(), cause: Cause::Replaced }));
        assert!(!is_live(sessions, token).await?);
    }
    assert!(is_silent(&mut closings), "each closing is published once");
    Ok(())
}

async fn a_replaced_session_ends_at_the_first_use_of_the_new_one(
    sessions: &SharedSessions,
) -> Result<(), Error> {
    let frank = user("frank");
    let old = sessions.open(&frank, &[]).await?;
    let mut closings = sessions.closings();
    let replacing = std::slice::from_ref(&old);
    let (one, two) = (sessions.open(&frank, replacing).await?, sessions.open(&frank, replacing).await?);
    assert!(is_live(sessions, &old).await? && is_silent(&mut closings), "no new session was used");
    assert!(is_live(sessions, &one).await?);
    assert_eq!(closings.recv().await, closing(&old, Cause::Replaced));
    assert!(!is_live(sessions, &old).await?);
    sessions.close(&old.id()).await?;
    for token in [&two, &one] {
        assert!(is_live(sessions, token).await?, "parallel logins do not end each other");
    }
    assert!(is_silent(&mut closings));
    Ok(())
}

async fn a_chain_of_logins_leaves_one_session(sessions: &SharedSessions) -> Result<(), Error> {
    let grace = user("grace");
    let mut chain = vec![sessions.open(&grace, &[]).await?];
    for _ in 0..3 {
        let last = chain.last().cloned();
        chain.push(sessions.open(&grace, last.as_slice()).await?);
    }
    let last = chain.pop().expect("four");
    assert!(is_live(sessions, &last).await?);
    for token in &chain {
        assert!(!is_live(sessions, token).await?);
    }
    Ok(())
}

async fn a_logout_ends_the_replaced_session(sessions: &SharedSessions) -> Result<(), Error> {
    let heidi = user("heidi");
    let (old, unrelated) = (sessions.open(&heidi, &[]).await?, sessions.open(&heidi, &[]).await?);
    let new = sessions.open(&heidi, &[old.clone(), Token::generate()?]).await?;
    sessions.close(&new.id()).await?;
    assert!(!is_live(sessions, &new).await? && !is_live(sessions, &old).await?);
    assert!(is_live(sessions, &unrelated).await?);
    Ok(())
}

async fn is_live(sessions: &SharedSessions, token: &Token) -> Result<bool, Error> {
    Ok(sessions.find(&token.id()).await?.is_some())
}

/// Whether no closing waits for the watcher.
fn is_silent(closings: &mut Closings) -> bool {
    closings.recv().now_or_never().is_none()
}

fn closing(token: &Token, cause: Cause) -> Result<Closing, crate::RecvError> {
    let id: SessionId = token.id();
    Ok(Closing { id, cause })
}

fn user(name: &str) -> Username {
    name.parse().expect("a valid name")
}
