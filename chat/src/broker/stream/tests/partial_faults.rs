//! A Redis that answers reads and refuses writes, and one that loses a part of the stream while nodes run.

use testkit::RedisFault;

use socketio::SocketId;

use super::*;

/// Acknowledged messages reach every node while Redis answers reads and refuses writes. The stream is repaired afterwards.
#[actix_rt::test]
async fn messages_reach_all_nodes_while_redis_refuses_writes() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    for (number, refusal) in RedisFault::ALL.into_iter().enumerate() {
        let text = |what: &str| format!("{what} {number}");
        cluster.publish_on(&first, &[&text("before")]).await;
        first.expect_messages(&[&text("before")]).await;
        second.expect_messages(&[&text("before")]).await;
        refusal.inject(&cluster.server);
        cluster.publish_on(&first, &[&text("away")]).await;
        first.expect_messages(&[&text("away")]).await;
        second.expect_messages(&[&text("away")]).await;
        assert!(first.stream.redis.problem().await.is_some(), "{refusal:?}");
        refusal.clear(&cluster.server);
        let repaired = async || cluster.unpublished.all().await.unwrap().is_empty();
        eventually(&format!("{refusal:?}: the stream is repaired"), repaired).await;
        cluster.publish_on(&second, &[&text("after")]).await;
        first.expect_messages(&[&text("after")]).await;
        second.expect_messages(&[&text("after")]).await;
    }
}

/// A client that reconnects must receive the messages that it has missed, and the stream does not have all of them.
#[actix_rt::test]
async fn recovery_fails_while_the_stream_lacks_delivered_messages() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    for (number, refusal) in RedisFault::ALL.into_iter().enumerate() {
        let text = |what: &str| format!("{what} {number}");
        cluster.publish_on(&first, &[&text("before")]).await;
        first.expect_messages(&[&text("before")]).await;
        second.expect_messages(&[&text("before")]).await;
        let after = first.broker.reached();
        refusal.inject(&cluster.server);
        let entered = [first.broker.fallback_deliveries(), second.broker.fallback_deliveries()];
        cluster.publish_on(&first, &[&text("away")]).await;
        first.expect_messages(&[&text("away")]).await;
        second.expect_messages(&[&text("away")]).await;
        for node in [&first, &second] {
            let missed = node.broker.missed(client(&[tea()]), after).await.unwrap();
            assert_eq!(missed, None, "{refusal:?}: a message is missing that is not delivered again");
            let elsewhere = node.broker.missed(client(&[RoomName::lobby()]), after).await.unwrap();
            assert_eq!(elsewhere.map(|missed| missed.messages.len()), Some(0), "{refusal:?}");
        }
        refusal.clear(&cluster.server);
        let repaired = async || cluster.unpublished.all().await.unwrap().is_empty();
        eventually(&format!("{refusal:?}: the stream is repaired"), repaired).await;
        for (node, entered) in [&first, &second].into_iter().zip(entered) {
            let Some(missed) = node.broker.missed(client(&[tea()]), after).await.unwrap() else { continue };
            let messages = &missed.messages;
            assert!(
                !node.broker.may_be_fallback_delivery(messages, node.broker.fallback_deliveries()),
                "{refusal:?}: no such delivery since"
            );
            assert!(
                messages.is_empty() || node.broker.may_be_fallback_delivery(messages, entered),
                "{refusal:?}: a socket that was connected has it, and would receive it twice"
            );
        }
    }
}

/// One node has lost its connection to Redis. The other nodes do not wait for it.
#[actix_rt::test]
async fn messages_of_a_node_without_redis_reach_the_others() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, &["before"]).await;
    first.expect_messages(&["before"]).await;
    second.expect_messages(&["before"]).await;
    // The message of `first` is stored, and its append fails.
    let stored = cluster.store_message("alone").await;
    first.stream.available.store(false, std::sync::atomic::Ordering::Release);
    first.broker.publish(&tea(), vec![stored]).await.unwrap();
    second.expect_messages(&["alone"]).await;
    drop(first);
    // The other node publishes the message, because this one has ended.
    eventually("the stream is repaired", async || cluster.unpublished.all().await.unwrap().is_empty()).await;
}

/// Losses in a stream that nodes follow.
const LOSSES: [&str; 4] = ["DEL {log}:stream", "DEL {log}:heads", "FLUSHALL", "SCRIPT FLUSH"];

#[actix_rt::test]
async fn no_message_is_lost_or_duplicated_when_parts_of_the_stream_are_lost() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    for (number, loss) in LOSSES.into_iter().enumerate() {
        let texts = ["a", "b", "c"].map(|part| format!("{number} {part}"));
        cluster.publish_on(&first, &[&texts[0]]).await;
        cluster.server.execute(loss);
        cluster.publish_on(&second, &[&texts[1]]).await;
        cluster.publish_on(&first, &[&texts[2]]).await;
        let expected: Vec<&str> = texts.iter().map(String::as_str).collect();
        first.expect_messages(&expected).await;
        second.expect_messages(&expected).await;
    }
    cluster.server.execute("CLIENT KILL TYPE normal SKIPME yes");
    cluster.publish_on(&second, &["killed"]).await;
    first.expect_messages(&["killed"]).await;
    second.expect_messages(&["killed"]).await;
    eventually("the stream is intact again", async || {
        let texts = second.broker.missed(client(&[tea()]), second.broker.reached()).await;
        cluster.unpublished.all().await.unwrap().is_empty() && matches!(texts, Ok(Some(_)))
    })
    .await;
}

/// A refused append leaves the stream unchanged, so clients can recover later.
#[actix_rt::test]
async fn a_refused_append_does_not_end_the_epoch() {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, &["before"]).await;
    first.expect_messages(&["before"]).await;
    second.expect_messages(&["before"]).await;
    let epoch = first.stream.position.epoch();
    cluster.server.execute("ACL SETUSER godzilla -xadd");
    cluster.publish_on(&first, &["away"]).await;
    let socket = SocketId::from_stored("s");
    first.stream.announce_superseded(&socket).await;
    first.expect_messages(&["away"]).await;
    second.expect_messages(&["away"]).await;
    cluster.server.execute("ACL SETUSER godzilla +xadd");
    eventually("the stream is repaired", async || cluster.unpublished.all().await.unwrap().is_empty()).await;
    cluster.publish_on(&second, &["after"]).await;
    first.expect_messages(&["after"]).await;
    assert_eq!((first.stream.position.epoch(), second.stream.position.epoch()), (epoch.clone(), epoch));
}

/// A message is delivered from the store, and its record follows after records of another room. A client that has received both must not
/// recover on another node from the offset of the other room's message: it would receive the first message again. `damage` is done to
/// Redis meanwhile.
async fn no_client_recovers_over_a_late_record(before: &[&str], damage: &str) {
    let cluster = Cluster::on(Server::start());
    let (mut first, mut second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, before).await;
    if !before.is_empty() {
        first.expect_messages(before).await;
        second.expect_messages(before).await;
    }
    let late = cluster.store_message("late").await;
    first.stream.add_to_backlog(&tea());
    first.stream.wake.notify_one();
    assert_eq!(first.messages_until("late").await, [("late".to_owned(), None)]);
    if !damage.is_empty() {
        cluster.server.execute(damage);
    }
    let mut resumable = None;
    for number in 0.. {
        let other = cluster.store_in(&RoomName::lobby(), &format!("other {number}")).await;
        second.broker.publish(&RoomName::lobby(), vec![other]).await.unwrap();
        let (offset, is_resumable) = first.next_message().await;
        resumable = resumable.or(offset.filter(|_| is_resumable));
        if resumable.is_some()
            && first.stream.published_head(&tea()).await.is_some_and(|seq| seq == late.message.seq)
        {
            break;
        }
    }
    let rooms = [tea(), RoomName::lobby()];
    let missed = second.broker.missed(client(&rooms), resumable.expect("an offset")).await.unwrap();
    let texts = missed.into_iter().flat_map(|missed| missed.messages);
    let texts: Vec<String> = texts.map(|(_, message)| message.data.text).collect();
    assert!(!texts.contains(&"late".to_owned()), "{texts:?}");
}

#[actix_rt::test]
async fn no_client_recovers_over_the_late_record_of_a_message_that_it_has() {
    no_client_recovers_over_a_late_record(&["before"], "").await;
}

#[actix_rt::test]
async fn no_client_recovers_over_the_late_record_of_the_first_message_of_a_room() {
    no_client_recovers_over_a_late_record(&[], "").await;
}

/// The stream has lost the number of a room that has one message. A resend of it writes its record again.
#[actix_rt::test]
async fn the_first_message_of_a_room_is_not_replayed_twice() {
    let cluster = Cluster::on(Server::start());
    let (mut first, second) = (cluster.node("first").await, cluster.node("second").await);
    cluster.publish_on(&first, &["one"]).await;
    first.expect_messages(&["one"]).await;
    let reached = first.broker.reached();
    cluster.server.execute("DEL {log}:heads {log}:last");
    first.broker.publish(&tea(), vec![]).await.unwrap();
    let missed = second.broker.missed(client(&[tea()]), reached).await.unwrap();
    assert_eq!(
        missed.map(|missed| missed.messages.len()),
        None,
        "a client that has it would receive it twice"
    );
}
