//! `godzilla chat` while its stores and services are unavailable.

use proto::signature::HEADER;
use testkit::{Mongo, Redis};

use super::{KEY, Role, key_file, signed};
use crate::support::Request;

#[tokio::test]
async fn a_chat_node_waits_for_its_stores_and_reports_them() {
    let (mut mongo, mut redis) = (Mongo::start().await, Redis::start());
    mongo.kill();
    redis.kill();
    let key = key_file();
    let stores = ["--mongo-uri", &mongo.uri(), "--redis-url", &redis.url()];
    let more = ["--node", "one", "--secret-file", &key.path().to_string_lossy()];
    let mut chat = Role::start_unready("chat", &[&stores[..], &more[..]].concat());
    chat.wait_for_admin().await;
    assert_eq!(chat.admin("/livez").await.0, 200);
    let (status, why) = chat.admin("/readyz").await;
    assert!(status == 503 && why.contains("MongoDB") && why.contains("Redis"), "{status} {why}");
    mongo.restart().await;
    redis.restart();
    // Presence is still unavailable; readiness does not depend on it.
    chat.wait_until_ready();
    for target in ["/rooms", "/socket.io/?EIO=4&transport=polling"] {
        chat.request(Request::get(target)).await.expect_refusal(401);
        let forged = Request::get(target).header("x-authenticated-identity", "1:alice:0:9999999999999:00");
        chat.request(forged).await.expect_refusal(401);
    }
    let target = "/socket.io/?EIO=4&transport=polling";
    chat.request(Request::get(target).header(HEADER, &signed(KEY, "alice", target))).await.expect(200);
    assert_eq!(chat.stop(), Some(0));
}
