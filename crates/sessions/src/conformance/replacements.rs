//! The part of the suite about sessions that replace others. Called by [`super`].

use super::user;
use crate::{Cause, Closing, Error, PER_USER, SharedSessions, Token};

pub(super) async fn a_login_replaces_every_session_of_its_request(
    sessions: SharedSessions,
) -> Result<(), Error> {
    let (alice, bob) = (user("alice"), user("bob"));
    let mut opened = Vec::new();
    for _ in 0..PER_USER {
        opened.push(sessions.open(&alice).await?);
    }
    let other = sessions.open(&bob).await?;
    let mut closings = sessions.closings();
    let old = [opened[3].clone(), Token::generate()?, other.clone(), opened[7].clone()];
    let new = sessions.replace(&alice, &old).await?;
    assert!(sessions.find(&new).await?.is_some());
    let mut closed = Vec::new();
    for _ in 0..3 {
        closed.push(closings.recv().await.expect("watched"));
    }
    for token in [&opened[3], &other, &opened[7]] {
        assert!(closed.contains(&Closing { id: token.id(), cause: Cause::Replaced }));
        assert_eq!(sessions.find(token).await?, None);
        assert!(!sessions.is_live(&token.id()).await?);
        assert!(!sessions.close(token).await?, "it is closed already");
    }
    assert!(sessions.is_live(&new.id()).await? && sessions.is_live(&opened[0].id()).await?);
    let last = sessions.open(&alice).await?;
    assert!(sessions.is_live(&opened[0].id()).await?, "replaced sessions do not count");
    sessions.close(&last).await?;
    assert_eq!(closings.recv().await, Ok(Closing::ended(last.id())), "each closing is published once");
    Ok(())
}

pub(super) async fn a_replaced_session_ends_at_the_first_use_of_the_new_one(
    sessions: SharedSessions,
    superseded: bool,
) -> Result<(), Error> {
    let alice = user("alice");
    let mut earlier = Vec::new();
    for _ in 1..PER_USER {
        earlier.push(sessions.open(&alice).await?);
    }
    let old = sessions.open(&alice).await?;
    let mut closings = sessions.closings();
    let (one, two) = (
        sessions.replace(&alice, std::slice::from_ref(&old)).await?,
        sessions.replace(&alice, std::slice::from_ref(&old)).await?,
    );
    assert_eq!(
        closings.recv().await,
        Ok(Closing::evicted(earlier[0].id())),
        "the second login exceeds the maximum"
    );
    if superseded {
        sessions.supersede(&one.id()).await?;
        assert_eq!(closings.recv().await, Ok(Closing::replaced(old.id())));
        sessions.supersede(&two.id()).await?;
    }
    assert!(closings.is_empty());
    for _ in 0..2 {
        assert_eq!(sessions.find(&old).await?.is_none(), superseded, "for requests");
        assert!(sessions.find_for_socket(&old).await?.is_some() && sessions.is_live(&old.id()).await?);
    }
    assert!(sessions.find_for_socket(&one).await?.is_some());
    assert_eq!(closings.recv().await, Ok(Closing::replaced(old.id())));
    assert!(sessions.find_for_socket(&old).await?.is_none() && sessions.find(&old).await?.is_none());
    sessions.supersede(&two.id()).await?;
    assert!(sessions.find(&two).await?.is_some() && sessions.find(&one).await?.is_some());
    assert!(!sessions.close(&old).await?);
    assert!(sessions.find(&two).await?.is_some(), "a used session is independent of the one it replaced");
    assert!(closings.is_empty());
    Ok(())
}

pub(super) async fn a_logout_ends_both_sides_of_a_replacement(
    sessions: SharedSessions,
    superseded: bool,
) -> Result<(), Error> {
    let alice = user("alice");
    for closes_new in [false, true] {
        let (old, unrelated) = (sessions.open(&alice).await?, sessions.open(&alice).await?);
        let first = sessions.replace(&alice, std::slice::from_ref(&old)).await?;
        let new = sessions.replace(&alice, &[old.clone(), Token::generate()?]).await?;
        if superseded {
            sessions.supersede(&new.id()).await?;
        }
        assert!(sessions.close(if closes_new { &new } else { &old }).await?);
        for token in [&old, &first, &new] {
            assert!(sessions.find_for_socket(token).await?.is_none(), "closes new: {closes_new}");
            assert!(!sessions.close(token).await?);
        }
        assert!(sessions.find(&unrelated).await?.is_some());
    }
    Ok(())
}
