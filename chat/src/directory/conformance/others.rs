//! Limits on memberships that users create for others, and reuse of the names of archived rooms.

use super::{
    Additions, Directory, Error, Member, NewRoom, Role, create, names_of, nobody, room, spelled, user,
};

const LIMITS: Additions = Additions { per_user: 2, per_adder: 3 };

async fn add_by(directory: &dyn Directory, name: &str, who: &str, by: &str) -> Result<Vec<Member>, Error> {
    directory.add_by(&room(name), &user(who), &user(by), LIMITS, nobody()).await
}

async fn leave(directory: &dyn Directory, name: &str, who: &str) {
    directory.leave(&room(name), &user(who), nobody()).await.expect("leaves");
}

fn words<T>(refused: Result<T, Error>) -> String {
    refused.err().expect("refused").public()
}

pub async fn bounds_what_others_do_to_a_user(directory: &dyn Directory) {
    for (name, owner) in [("r1", "eve"), ("r2", "eve"), ("r3", "mallory"), ("r4", "mallory")] {
        create(directory, name, owner, false).await;
    }
    add_by(directory, "r1", "bob", "eve").await.expect("adds");
    let members = add_by(directory, "r2", "bob", "Eve").await.expect("adds");
    assert_eq!(spelled(&members), [("eve", Role::Owner), ("bob", Role::Member)]);
    add_by(directory, "r2", "BOB", "eve").await.expect("who is in it already may be");
    assert!(words(add_by(directory, "r3", "bob", "mallory").await).contains("too many rooms"));
    for name in ["r3", "r4"] {
        directory.add(&room(name), &user("bob"), 2, nobody()).await.expect("what others did does not count");
    }
    let over = directory.create(
        NewRoom { name: room("r5"), owner: user("bob"), private: false, ephemeral: false },
        2,
        nobody(),
    );
    assert!(words(over.await).contains("too many rooms"));
    add_by(directory, "r1", "carol", "eve").await.expect("adds");
    assert!(words(add_by(directory, "r1", "dave", "eve").await).contains("you have added too many"));
    directory.remove(&room("r1"), &user("carol"), &user("eve"), nobody()).await.expect("removes");
    add_by(directory, "r1", "dave", "eve").await.expect("one was removed");
    directory.archive(&room("r2"), &user("eve"), nobody()).await.expect("archives");
    add_by(directory, "r1", "carol", "eve").await.expect("an archived room does not count");
    add_by(directory, "r1", "carol", "eve").await.expect("answers");
    assert_eq!(add_by(directory, "lobby", "bob", "eve").await, Ok(vec![]));
    assert_eq!(add_by(directory, "nowhere", "bob", "eve").await, Err(Error::NotFound));
}

pub async fn keeps_away_who_has_left(directory: &dyn Directory) {
    for name in ["r1", "r2", "r3", "r4"] {
        create(directory, name, "eve", false).await;
    }
    add_by(directory, "r1", "Bob", "eve").await.expect("adds");
    directory.remove(&room("r1"), &user("bob"), &user("eve"), nobody()).await.expect("removes");
    add_by(directory, "r1", "bob", "eve").await.expect("they did not leave");
    leave(directory, "r1", "BOB").await;
    assert!(words(add_by(directory, "r1", "bob", "eve").await).contains("has left this room"));
    create(directory, "r5", "zoe", false).await;
    add_by(directory, "r5", "bob", "zoe").await.expect("adds");
    leave(directory, "r5", "bob").await;
    directory.add(&room("r5"), &user("mallory"), 9, nobody()).await.expect("they enter");
    leave(directory, "r5", "zoe").await;
    assert!(words(add_by(directory, "r5", "bob", "mallory").await).contains("has left this room"));
    directory.add(&room("r1"), &user("bob"), 9, nobody()).await.expect("they enter");
    leave(directory, "r1", "bob").await;
    for name in ["r1", "r2", "r3"] {
        add_by(directory, name, "bob", "eve").await.expect("adds");
        leave(directory, name, "bob").await;
    }
    assert!(words(add_by(directory, "r4", "bob", "EVE").await).contains("has left several rooms"));
    create(directory, "r6", "mallory", false).await;
    add_by(directory, "r6", "bob", "mallory").await.expect("others may");
    add_by(directory, "r4", "carol", "eve").await.expect("and others may be added");
}

pub async fn gives_the_names_of_ended_rooms_again(directory: &dyn Directory) {
    let again = async |name: &str, owner: &str, private: bool, ephemeral: bool| {
        let new = NewRoom { name: room(name), owner: user(owner), private, ephemeral };
        directory.create(new, 100, nobody()).await
    };
    again("short", "alice", false, true).await.expect("creates");
    directory.add(&room("short"), &user("bob"), 100, nobody()).await.expect("adds");
    assert!(words(again("short", "carol", false, true).await).contains("taken"));
    directory.archive(&room("short"), &user("alice"), nobody()).await.expect("archives");
    let room_info = again("short", "carol", true, false).await.expect("the name is free");
    assert_eq!((room_info.private, room_info.ephemeral, room_info.owner), (true, false, Some(user("carol"))));
    let entry = directory.find(&room("short")).await.expect("answers").expect("exists");
    assert_eq!(spelled(&entry.members), [("carol", Role::Owner)]);
    assert_eq!(names_of(directory, "bob").await, ["lobby"]);

    create(directory, "den", "alice", true).await;
    leave(directory, "den", "alice").await;
    again("den", "bob", false, false).await.expect("nobody was left in it");

    create(directory, "kept", "alice", false).await;
    create(directory, "hidden", "alice", true).await;
    for name in ["kept", "hidden"] {
        directory.archive(&room(name), &user("alice"), nobody()).await.expect("archives");
    }
    assert!(words(again("kept", "bob", false, false).await).contains("belongs to an archived room"));
    let hidden = words(again("hidden", "bob", false, false).await);
    assert_eq!(
        hidden,
        words(again("short", "bob", false, false).await),
        "no difference to a room that exists"
    );
}
