//! Changes are checked against the state of the room at the time of the write. Each change is refused if the room no longer allows it,
//! also when the caller has read an earlier state that allowed it.

use super::{Additions, Directory, Error, LIMIT, Member, NewRoom, add, create, nobody, room, spelled, user};

/// An event between the caller's read and the change. At the time of the read alice owned the room, it was public, and bob and carol
/// were members.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// The room has become private.
    Private,
    /// The room was archived.
    Archived,
    /// Alice has left the room, and bob owns it.
    Left,
    /// Alice has left the room, and bob has made it private.
    LeftAndPrivate,
    /// The room was archived, and another room has its name.
    Renewed,
}

/// A change that the room allowed at the time of the read.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// Dave joins.
    Enters,
    /// Alice adds dave.
    Adds,
    /// Alice removes carol.
    Removes,
    /// Alice makes the room public.
    Opens,
    /// Alice archives the room.
    Archives,
}

const ALL: [Change; 5] = [Change::Enters, Change::Adds, Change::Removes, Change::Opens, Change::Archives];

impl Before {
    async fn happens(self, directory: &dyn Directory, name: &str) {
        let (tea, alice, bob) = (room(name), user("alice"), user("bob"));
        let new = NewRoom { name: tea.clone(), owner: alice.clone(), private: false, ephemeral: true };
        directory.create(new, LIMIT, nobody()).await.expect("creates");
        for member in ["bob", "carol"] {
            add(directory, name, member).await.expect("adds");
        }
        match self {
            Self::Private => directory.set_private(&tea, &alice, true, nobody()).await.expect("changes"),
            Self::Archived => directory.archive(&tea, &alice, nobody()).await.expect("archives"),
            Self::Left => drop(directory.leave(&tea, &alice, nobody()).await.expect("leaves")),
            Self::LeftAndPrivate => {
                directory.leave(&tea, &alice, nobody()).await.expect("leaves");
                directory.set_private(&tea, &bob, true, nobody()).await.expect("changes");
            }
            Self::Renewed => {
                directory.archive(&tea, &alice, nobody()).await.expect("archives");
                create(directory, name, "zoe", true).await;
            }
        }
    }

    /// The expected refusal of `change`. `None` when it is allowed.
    fn refuses(self, change: Change) -> Option<Error> {
        match (self, change) {
            (Self::Private, Change::Enters) => Some(Error::NotFound),
            (Self::Private, _) => None,
            (Self::Left, Change::Enters) => None,
            (Self::Left, _) => Some(Error::Forbidden("only members of the room may do this")),
            (Self::Archived | Self::LeftAndPrivate | Self::Renewed, _) => Some(Error::NotFound),
        }
    }
}

impl Change {
    async fn tries(self, directory: &dyn Directory, name: &str) -> Result<(), Error> {
        let (tea, alice, carol, dave) = (room(name), user("alice"), user("carol"), user("dave"));
        let limits = Additions { per_user: LIMIT, per_adder: LIMIT };
        match self {
            Self::Enters => directory.add(&tea, &dave, LIMIT, nobody()).await.map(drop),
            Self::Adds => directory.add_by(&tea, &dave, &alice, limits, nobody()).await.map(drop),
            Self::Removes => directory.remove(&tea, &carol, &alice, nobody()).await.map(drop),
            Self::Opens => directory.set_private(&tea, &alice, false, nobody()).await,
            Self::Archives => directory.archive(&tea, &alice, nobody()).await,
        }
    }
}

pub async fn checks_each_change_against_the_room_as_it_is(directory: &dyn Directory) {
    let cases = [Before::Private, Before::Archived, Before::Left, Before::LeftAndPrivate, Before::Renewed];
    for before in cases {
        for change in ALL {
            let name = format!("{before:?}-{change:?}");
            before.happens(directory, &name).await;
            let then = directory.find(&room(&name)).await.expect("answers");
            let outcome = change.tries(directory, &name).await;
            assert_eq!(outcome.err(), before.refuses(change), "{before:?}, {change:?}");
            let after = directory.find(&room(&name)).await.expect("answers");
            assert_eq!(before.refuses(change).is_some(), then == after, "{before:?}, {change:?}: {after:?}");
        }
    }
    refuses_a_member_who_is_not_the_owner(directory).await;
}

/// A member who is not the owner cannot change the membership of others.
async fn refuses_a_member_who_is_not_the_owner(directory: &dyn Directory) {
    create(directory, "den", "alice", false).await;
    let members: Vec<Member> = add(directory, "den", "bob").await.expect("adds");
    let refused = directory.remove(&room("den"), &user("alice"), &user("bob"), nobody()).await;
    assert_eq!(refused, Err(Error::Forbidden("only the owner of the room may do this")));
    let entry = directory.find(&room("den")).await.expect("answers").expect("exists");
    assert_eq!(spelled(&entry.members), spelled(&members));
}
