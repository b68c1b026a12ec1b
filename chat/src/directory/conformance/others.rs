//! Limits on memberships that users create for others.

use super::{
    Directory, Error, Member, NewRoom, Role, Shorthand, create, names_and_roles, no_callback, room, settings,
    user,
};

/// The maximum number of memberships that one user may have created for others.
const LIMIT: usize = 3;

async fn add_by(
    directory: &dyn Directory,
    name: &str,
    user_name: &str,
    by: &str,
) -> Result<Vec<Member>, Error> {
    directory.add_by(&room(name), &user(user_name), &user(by), LIMIT, no_callback()).await
}

async fn leave(directory: &dyn Directory, name: &str, user_name: &str) {
    directory.leave(&room(name), &user(user_name), no_callback()).await.expect("leaves");
}

fn message_of<T>(refused: Result<T, Error>) -> String {
    refused.err().expect("refused").public()
}

pub async fn additions_by_others_are_limited(directory: &dyn Directory) {
    for name in ["r1", "r2"] {
        create(directory, name, "eve", false).await;
    }
    add_by(directory, "r1", "bob", "eve").await.expect("adds");
    let members = add_by(directory, "r2", "bob", "Eve").await.expect("adds");
    assert_eq!(names_and_roles(&members), [("eve", Role::Owner), ("bob", Role::Member)]);
    add_by(directory, "r2", "BOB", "eve").await.expect("the user is a member already");
    let own = NewRoom { name: room("r5"), owner: user("bob"), settings: settings(false, false) };
    directory.create(own, 1, no_callback()).await.expect("memberships created by others do not count");
    add_by(directory, "r1", "carol", "eve").await.expect("adds");
    assert!(message_of(add_by(directory, "r1", "dave", "eve").await).contains("you have added too many"));
    directory.remove(&room("r1"), &user("carol"), &user("eve"), no_callback()).await.expect("removes");
    add_by(directory, "r1", "dave", "eve").await.expect("a membership was removed");
    directory.archive(&room("r2"), &user("eve"), no_callback()).await.expect("archives");
    add_by(directory, "r1", "carol", "eve").await.expect("an archived room does not count");
    assert_eq!(add_by(directory, "lobby", "bob", "eve").await, Ok(vec![]));
    assert_eq!(add_by(directory, "nowhere", "bob", "eve").await, Err(Error::NotFound));
}

pub async fn departed_users_are_not_added_again(directory: &dyn Directory) {
    create(directory, "r1", "eve", false).await;
    add_by(directory, "r1", "Bob", "eve").await.expect("adds");
    directory.remove(&room("r1"), &user("bob"), &user("eve"), no_callback()).await.expect("removes");
    add_by(directory, "r1", "bob", "eve").await.expect("the user was removed and did not leave");
    leave(directory, "r1", "BOB").await;
    assert!(message_of(add_by(directory, "r1", "bob", "EVE").await).contains("has left this room"));
    create(directory, "r2", "eve", false).await;
    add_by(directory, "r2", "bob", "eve").await.expect("another room");
    directory.add(&room("r1"), &user("mallory"), 9, no_callback()).await.expect("joins");
    leave(directory, "r1", "eve").await;
    add_by(directory, "r1", "bob", "mallory").await.expect("another user adds");
    leave(directory, "r1", "bob").await;
    assert!(message_of(add_by(directory, "r1", "bob", "mallory").await).contains("has left this room"));
    directory.add(&room("r1"), &user("bob"), 9, no_callback()).await.expect("joins");
    leave(directory, "r1", "bob").await;
    add_by(directory, "r1", "bob", "mallory").await.expect("the user had joined in between");
}
