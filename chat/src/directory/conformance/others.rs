//! Limits on memberships that users create for others, and reuse of the names of archived rooms.

use super::{
    Additions, Directory, Error, Member, NewRoom, Role, Shorthand, create, names_and_roles, names_of,
    no_callback, room, settings, user,
};

const LIMITS: Additions = Additions { per_user: 2, per_adder: 3 };

async fn add_by(
    directory: &dyn Directory,
    name: &str,
    user_name: &str,
    by: &str,
) -> Result<Vec<Member>, Error> {
    directory.add_by(&room(name), &user(user_name), &user(by), LIMITS, no_callback()).await
}

async fn leave(directory: &dyn Directory, name: &str, user_name: &str) {
    directory.leave(&room(name), &user(user_name), no_callback()).await.expect("leaves");
}

fn message_of<T>(refused: Result<T, Error>) -> String {
    refused.err().expect("refused").public()
}

pub async fn additions_by_others_are_limited(directory: &dyn Directory) {
    for (name, owner) in [("r1", "eve"), ("r2", "eve"), ("r3", "mallory"), ("r4", "mallory")] {
        create(directory, name, owner, false).await;
    }
    add_by(directory, "r1", "bob", "eve").await.expect("adds");
    let members = add_by(directory, "r2", "bob", "Eve").await.expect("adds");
    assert_eq!(names_and_roles(&members), [("eve", Role::Owner), ("bob", Role::Member)]);
    add_by(directory, "r2", "BOB", "eve").await.expect("the user is a member already");
    assert!(message_of(add_by(directory, "r3", "bob", "mallory").await).contains("too many rooms"));
    for name in ["r3", "r4"] {
        directory
            .add(&room(name), &user("bob"), 2, no_callback())
            .await
            .expect("memberships created by others do not count");
    }
    let over = directory.create(
        NewRoom { name: room("r5"), owner: user("bob"), settings: settings(false, false) },
        2,
        no_callback(),
    );
    assert!(message_of(over.await).contains("too many rooms"));
    add_by(directory, "r1", "carol", "eve").await.expect("adds");
    assert!(message_of(add_by(directory, "r1", "dave", "eve").await).contains("you have added too many"));
    directory.remove(&room("r1"), &user("carol"), &user("eve"), no_callback()).await.expect("removes");
    add_by(directory, "r1", "dave", "eve").await.expect("a membership was removed");
    directory.archive(&room("r2"), &user("eve"), no_callback()).await.expect("archives");
    add_by(directory, "r1", "carol", "eve").await.expect("an archived room does not count");
    add_by(directory, "r1", "carol", "eve").await.expect("answers");
    assert_eq!(add_by(directory, "lobby", "bob", "eve").await, Ok(vec![]));
    assert_eq!(add_by(directory, "nowhere", "bob", "eve").await, Err(Error::NotFound));
}

pub async fn departed_users_are_not_added_again(directory: &dyn Directory) {
    for name in ["r1", "r2", "r3", "r4"] {
        create(directory, name, "eve", false).await;
    }
    add_by(directory, "r1", "Bob", "eve").await.expect("adds");
    directory.remove(&room("r1"), &user("bob"), &user("eve"), no_callback()).await.expect("removes");
    add_by(directory, "r1", "bob", "eve").await.expect("the user was removed and did not leave");
    leave(directory, "r1", "BOB").await;
    assert!(message_of(add_by(directory, "r1", "bob", "eve").await).contains("has left this room"));
    create(directory, "r5", "zoe", false).await;
    add_by(directory, "r5", "bob", "zoe").await.expect("adds");
    leave(directory, "r5", "bob").await;
    directory.add(&room("r5"), &user("mallory"), 9, no_callback()).await.expect("joins");
    leave(directory, "r5", "zoe").await;
    assert!(message_of(add_by(directory, "r5", "bob", "mallory").await).contains("has left this room"));
    directory.add(&room("r1"), &user("bob"), 9, no_callback()).await.expect("joins");
    leave(directory, "r1", "bob").await;
    for name in ["r1", "r2", "r3"] {
        add_by(directory, name, "bob", "eve").await.expect("adds");
        leave(directory, name, "bob").await;
    }
    assert!(message_of(add_by(directory, "r4", "bob", "EVE").await).contains("has left several rooms"));
    create(directory, "r6", "mallory", false).await;
    add_by(directory, "r6", "bob", "mallory").await.expect("other users may add them");
    add_by(directory, "r4", "carol", "eve").await.expect("other users may be added");
}

pub async fn names_of_archived_rooms_are_reused(directory: &dyn Directory) {
    let create_room = async |name: &str, owner: &str, private: bool, ephemeral: bool| {
        let new = NewRoom { name: room(name), owner: user(owner), settings: settings(private, ephemeral) };
        directory.create(new, 100, no_callback()).await
    };
    create_room("short", "alice", false, true).await.expect("creates");
    directory.add(&room("short"), &user("bob"), 100, no_callback()).await.expect("adds");
    assert!(message_of(create_room("short", "carol", false, true).await).contains("taken"));
    directory.archive(&room("short"), &user("alice"), no_callback()).await.expect("archives");
    let room_info = create_room("short", "carol", true, false).await.expect("the name is free");
    assert_eq!(
        (room_info.settings.private, room_info.settings.ephemeral, room_info.owner),
        (true, false, Some(user("carol")))
    );
    let record = directory.find(&room("short")).await.expect("answers").expect("exists");
    assert_eq!(names_and_roles(&record.members), [("carol", Role::Owner)]);
    assert_eq!(names_of(directory, "bob").await, ["lobby"]);

    create(directory, "den", "alice", true).await;
    leave(directory, "den", "alice").await;
    create_room("den", "bob", false, false).await.expect("the room has no members");

    create(directory, "kept", "alice", false).await;
    create(directory, "hidden", "alice", true).await;
    for name in ["kept", "hidden"] {
        directory.archive(&room(name), &user("alice"), no_callback()).await.expect("archives");
    }
    assert!(
        message_of(create_room("kept", "bob", false, false).await).contains("belongs to an archived room")
    );
    let hidden = message_of(create_room("hidden", "bob", false, false).await);
    assert_eq!(
        hidden,
        message_of(create_room("short", "bob", false, false).await),
        "the text is the same as for an existing room"
    );
}
