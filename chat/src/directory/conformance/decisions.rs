//! Changes are checked against the state of the room at the time of the write. Each change is refused if the room no longer allows it,
//! even when the caller has read an earlier state that allowed it.

use super::{
    Directory, Error, LIMIT, Member, NewRoom, Shorthand, add, create, names_and_roles, no_callback, room,
    set_private, settings, user,
};

/// An event between the caller's read and the change. At the time of the read alice owned the room, it was public, and bob and carol
/// were members.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The room has become private.
    Private,
    /// The room was archived.
    Archived,
    /// Alice has left the room, and bob owns it.
    Left,
    /// Alice has left the room, and bob has made it private.
    LeftAndPrivate,
}

/// A change that the room allowed at the time of the read.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// Dave joins.
    Join,
    /// Alice adds dave.
    Add,
    /// Alice removes carol.
    Remove,
    /// Alice makes the room public.
    MakePublic,
    /// Alice archives the room.
    Archive,
}

const ALL: [Change; 5] = [Change::Join, Change::Add, Change::Remove, Change::MakePublic, Change::Archive];

impl Event {
    async fn apply(self, directory: &dyn Directory, name: &str) {
        let (tea, alice, bob) = (room(name), user("alice"), user("bob"));
        let new = NewRoom { name: tea.clone(), owner: alice.clone(), settings: settings(false, true) };
        directory.create(new, LIMIT, no_callback()).await.expect("creates");
        for member in ["bob", "carol"] {
            add(directory, name, member).await.expect("adds");
        }
        match self {
            Self::Private => directory
                .change_settings(&tea, &alice, &set_private(true), no_callback())
                .await
                .expect("changes"),
            Self::Archived => directory.archive(&tea, &alice, no_callback()).await.expect("archives"),
            Self::Left => drop(directory.leave(&tea, &alice, no_callback()).await.expect("leaves")),
            Self::LeftAndPrivate => {
                directory.leave(&tea, &alice, no_callback()).await.expect("leaves");
                directory
                    .change_settings(&tea, &bob, &set_private(true), no_callback())
                    .await
                    .expect("changes");
            }
        }
    }

    /// The expected refusal of `change`. `None` when it is allowed.
    fn expected_refusal(self, change: Change) -> Option<Error> {
        match (self, change) {
            (Self::Private, Change::Join) => Some(Error::NotFound),
            (Self::Private, _) => None,
            (Self::Left, Change::Join) => None,
            (Self::Left, _) => Some(Error::Forbidden("only members of the room may do this")),
            (Self::Archived | Self::LeftAndPrivate, _) => Some(Error::NotFound),
        }
    }
}

impl Change {
    async fn attempt(self, directory: &dyn Directory, name: &str) -> Result<(), Error> {
        let (tea, alice, carol, dave) = (room(name), user("alice"), user("carol"), user("dave"));
        match self {
            Self::Join => directory.add(&tea, &dave, LIMIT, no_callback()).await.map(drop),
            Self::Add => directory.add_by(&tea, &dave, &alice, LIMIT, no_callback()).await.map(drop),
            Self::Remove => directory.remove(&tea, &carol, &alice, no_callback()).await.map(drop),
            Self::MakePublic => {
                directory.change_settings(&tea, &alice, &set_private(false), no_callback()).await
            }
            Self::Archive => directory.archive(&tea, &alice, no_callback()).await,
        }
    }
}

pub async fn changes_are_checked_against_the_current_room(directory: &dyn Directory) {
    for event in [Event::Private, Event::Archived, Event::Left, Event::LeftAndPrivate] {
        for change in ALL {
            let name = format!("{event:?}-{change:?}");
            event.apply(directory, &name).await;
            let room_before = directory.find(&room(&name)).await.expect("answers");
            let outcome = change.attempt(directory, &name).await;
            assert_eq!(outcome.err(), event.expected_refusal(change), "{event:?}, {change:?}");
            let room_after = directory.find(&room(&name)).await.expect("answers");
            assert_eq!(
                event.expected_refusal(change).is_some(),
                room_before == room_after,
                "{event:?}, {change:?}: {room_after:?}"
            );
        }
    }
    member_who_is_not_the_owner_is_refused(directory).await;
}

/// A member who is not the owner cannot change the membership of others.
async fn member_who_is_not_the_owner_is_refused(directory: &dyn Directory) {
    create(directory, "den", "alice", false).await;
    let members: Vec<Member> = add(directory, "den", "bob").await.expect("adds");
    let refused = directory.remove(&room("den"), &user("alice"), &user("bob"), no_callback()).await;
    assert_eq!(refused, Err(Error::Forbidden("only the owner of the room may do this")));
    let record = directory.find(&room("den")).await.expect("answers").expect("exists");
    assert_eq!(names_and_roles(&record.members), names_and_roles(&members));
}
