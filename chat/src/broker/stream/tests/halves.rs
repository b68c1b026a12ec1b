//! A Redis that works by half, and one that loses a part of the log while nodes run.

use testkit::RedisFault;

use super::*;
use crate::{
    broker::stream::StreamRecord,
    redis::{HEADS, OFFSET, STREAM},
};

/// What is acked reaches every node while Redis answers reads and refuses writes, and the log is healed afterwards.
#[actix_rt::test]
async fn messages_reach_all_nodes_while_redis_refuses_writes() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    for (number, refusal) in RedisFault::ALL.into_iter().enumerate() {
        let text = |what: &str| format!("{what} {number}");
        cluster.says(&here, &[&text("before")]).await;
        here.told_exactly(&[&text("before")]).await;
        there.told_exactly(&[&text("before")]).await;
        refusal.inject(&cluster.server);
        cluster.says(&here, &[&text("away")]).await;
        here.told_exactly(&[&text("away")]).await;
        there.told_exactly(&[&text("away")]).await;
        let not_ready_reason = here.stream.redis.not_ready_reason().await;
        assert!(
            not_ready_reason.as_ref().is_some_and(|words| words.contains(refusal.word())),
            "{refusal:?}: {not_ready_reason:?}"
        );
        refusal.clear(&cluster.server);
        let healed = async || cluster.unpublished.all().await.unwrap().is_empty();
        soon(&format!("{refusal:?}: the log is healed"), healed).await;
        cluster.says(&there, &[&text("after")]).await;
        here.told_exactly(&[&text("after")]).await;
        there.told_exactly(&[&text("after")]).await;
    }
}

/// A client that comes back must get what was told while it was away, and the log does not have all of it.
#[actix_rt::test]
async fn nobody_goes_on_from_a_log_that_lacks_what_was_told() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    for (number, refusal) in RedisFault::ALL.into_iter().enumerate() {
        let text = |what: &str| format!("{what} {number}");
        cluster.says(&here, &[&text("before")]).await;
        here.told_exactly(&[&text("before")]).await;
        there.told_exactly(&[&text("before")]).await;
        let after = here.broker.reached();
        refusal.inject(&cluster.server);
        let entered = [here.broker.unplaced(), there.broker.unplaced()];
        cluster.says(&here, &[&text("away")]).await;
        here.told_exactly(&[&text("away")]).await;
        there.told_exactly(&[&text("away")]).await;
        for node in [&here, &there] {
            let missed = node.broker.missed(&[tea()], after, "x").await.unwrap();
            assert_eq!(missed, None, "{refusal:?}: something is missing that will not come again");
            let elsewhere = node.broker.missed(&[RoomName::lobby()], after, "x").await.unwrap();
            assert_eq!(elsewhere.map(|missed| missed.messages.len()), Some(0), "{refusal:?}");
        }
        refusal.clear(&cluster.server);
        let healed = async || cluster.unpublished.all().await.unwrap().is_empty();
        soon(&format!("{refusal:?}: the log is healed"), healed).await;
        for (node, entered) in [&here, &there].into_iter().zip(entered) {
            let Some(missed) = node.broker.missed(&[tea()], after, "x").await.unwrap() else { continue };
            let messages = || missed.messages.iter().map(|(_, message)| message);
            assert!(
                !node.broker.was_unplaced(messages(), node.broker.unplaced()),
                "{refusal:?}: nothing since"
            );
            assert!(
                messages().count() == 0 || node.broker.was_unplaced(messages(), entered),
                "{refusal:?}: a socket that was here has it, and would get it twice"
            );
        }
    }
}

/// One node has lost Redis, the others have not: they do not wait for it.
#[actix_rt::test]
async fn messages_of_a_node_without_redis_reach_the_others() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.says(&here, &["before"]).await;
    here.told_exactly(&["before"]).await;
    there.told_exactly(&["before"]).await;
    // What `here` says is stored, and its append fails.
    let kept = cluster.stores("alone").await;
    here.stream.alive.store(false, std::sync::atomic::Ordering::Release);
    here.broker.publish(&tea(), vec![kept]).await.unwrap();
    there.told_exactly(&["alone"]).await;
    drop(here);
    // The others heal what it cannot any more.
    soon("the log is healed", async || cluster.unpublished.all().await.unwrap().is_empty()).await;
}

/// Each of these happens to a log that nodes follow.
const LOSSES: [&str; 14] = [
    "DEL {log}:stream",
    "DEL {log}:offset",
    "DEL {log}:epoch",
    "DEL {log}:base",
    "DEL {log}:run",
    "DEL {log}:heads",
    "HDEL {log}:heads tea",
    "DEL {log}:last",
    "FLUSHALL",
    "SCRIPT FLUSH",
    "XTRIM {log}:stream MAXLEN 0",
    "SET {log}:stream another-application",
    "SET {log}:heads another-application",
    "SET {log}:offset 5",
];

#[actix_rt::test]
async fn nothing_is_lost_or_told_twice_when_parts_of_the_log_vanish() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    for (number, loss) in LOSSES.into_iter().enumerate() {
        let texts = ["a", "b", "c"].map(|part| format!("{number} {part}"));
        cluster.says(&here, &[&texts[0]]).await;
        cluster.server.execute(loss);
        cluster.says(&there, &[&texts[1]]).await;
        cluster.says(&here, &[&texts[2]]).await;
        let expected: Vec<&str> = texts.iter().map(String::as_str).collect();
        here.told_exactly(&expected).await;
        there.told_exactly(&expected).await;
    }
    cluster.server.execute("CLIENT KILL TYPE normal SKIPME yes");
    cluster.says(&there, &["killed"]).await;
    here.told_exactly(&["killed"]).await;
    there.told_exactly(&["killed"]).await;
    soon("the log is whole again", async || {
        let texts = there.broker.missed(&[tea()], there.broker.reached(), "x").await;
        cluster.unpublished.all().await.unwrap().is_empty() && matches!(texts, Ok(Some(_)))
    })
    .await;
}

/// An entry that is gone before it was read is not the end of its message.
#[actix_rt::test]
async fn a_message_whose_entry_vanishes_unread_is_told_from_the_store() {
    let cluster = Cluster::on(Server::start());
    let mut here = cluster.node("here").await;
    cluster.says(&here, &["before"]).await;
    here.told_exactly(&["before"]).await;
    cluster.stores("gone").await;
    let vanish = r"
        local offset = string.format('%.0f', redis.call('INCR', KEYS[1]))
        redis.call('XADD', KEYS[2], offset .. '-0', 'node', 'x', 'entry', '{}')
        redis.call('HSET', KEYS[3], 'tea', ARGV[1])
        redis.call('XTRIM', KEYS[2], 'MAXLEN', 0)
    ";
    let script = redis::Script::new(vanish);
    let mut script = script.prepare_invoke();
    script.key("{log}:offset").key("{log}:stream").key("{log}:heads").arg(2);
    raw(&here, async |mut redis| script.invoke_async::<()>(&mut redis).await).await;
    here.told_exactly(&["gone"]).await;
    cluster.says(&here, &["after"]).await;
    here.told_exactly(&["after"]).await;
}

/// A client that was shown a message before the log forgot its room is never shown it again as missed.
#[actix_rt::test]
async fn a_room_that_the_log_has_forgotten_is_not_recovered_twice() {
    let cluster = Cluster::on(Server::start());
    let mut here = cluster.node("here").await;
    cluster.says(&here, &["one", "two"]).await;
    here.told_exactly(&["one", "two"]).await;
    let after = here.broker.reached();
    cluster.server.execute("HDEL {log}:heads tea");
    cluster.says(&here, &["three"]).await;
    here.told_exactly(&["three"]).await;
    let missed = here.broker.missed(&[tea()], after, "x").await.unwrap();
    assert_eq!(missed.map(|missed| missed.messages.len()), None, "the log has older ones behind that");
}

/// An append that Redis refuses leaves the log as it was: clients that come back later recover.
#[actix_rt::test]
async fn a_refused_append_does_not_end_the_epoch() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    cluster.says(&here, &["before"]).await;
    here.told_exactly(&["before"]).await;
    there.told_exactly(&["before"]).await;
    let epoch = here.stream.position.epoch();
    cluster.server.execute("ACL SETUSER godzilla -xadd");
    cluster.says(&here, &["away"]).await;
    here.broker.announce(&Entry::Changed { room: tea() }).await;
    here.told_exactly(&["away"]).await;
    there.told_exactly(&["away"]).await;
    cluster.server.execute("ACL SETUSER godzilla +xadd");
    soon("the log is healed", async || cluster.unpublished.all().await.unwrap().is_empty()).await;
    cluster.says(&there, &["after"]).await;
    here.told_exactly(&["after"]).await;
    assert_eq!((here.stream.position.epoch(), there.stream.position.epoch()), (epoch.clone(), epoch));
}

/// A script that was refused half-way is not undone by Redis, and is tried again: what it writes must not be there twice.
#[actix_rt::test]
async fn a_right_that_an_append_lacks_leaves_the_log_as_it_was() {
    let cluster = Cluster::on(Server::start());
    let (mut here, mut there) = (cluster.node("here").await, cluster.node("there").await);
    for (number, right) in ["hset", "set", "xadd"].into_iter().enumerate() {
        let text = |what: &str| format!("{what} {number}");
        cluster.says(&here, &[&text("before")]).await;
        here.told_exactly(&[&text("before")]).await;
        there.told_exactly(&[&text("before")]).await;
        let state = async || {
            let key = |key| here.stream.redis.key(key);
            let (stream, offset, heads) = (key(STREAM), key(OFFSET), key(HEADS));
            raw(&here, async |mut redis| {
                let length: u64 = redis.xlen(stream).await?;
                let offset: u64 = redis.get(offset).await?;
                let head: u64 = redis.hget(heads, tea().as_str()).await?;
                Ok((length, offset, head))
            })
            .await
        };
        let epoch = here.stream.position.epoch();
        let before = state().await;
        cluster.server.execute(&format!("ACL SETUSER godzilla -{right}"));
        let kept = cluster.stores(&text("away")).await;
        for _ in 0..3 {
            let refused = here.stream.append_all(&tea(), vec![kept.clone()]).await;
            assert!(refused.is_err(), "{right}: {refused:?}");
            let line = StreamRecord::Joined { room: tea(), user: "bob".parse().unwrap() };
            if right != "hset" {
                assert!(here.stream.write(&line).await.is_err(), "{right}");
            }
            assert_eq!(state().await, before, "{right}: nothing is written");
        }
        cluster.server.execute(&format!("ACL SETUSER godzilla +{right}"));
        here.broker.publish(&tea(), vec![kept]).await.unwrap();
        here.told_exactly(&[&text("away")]).await;
        there.told_exactly(&[&text("away")]).await;
        assert_eq!(*here.stream.position.epoch(), *epoch, "{right}: clients can go on from the log");
    }
}
