//! A chat node that has lost MongoDB only for itself, between a gateway and a node that works.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use serde_json::{Value, json};
use testkit::{Mongo, Redis};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Role, key_file};
use crate::support::{Request, TIMEOUT};

/// A TCP forwarder. While it is cut, it closes every connection.
struct Forwarder {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Forwarder {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (is_cut, watched) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut watched = watched.clone();
                tokio::spawn(async move {
                    let forward = async {
                        let Ok(mut server) = TcpStream::connect(server).await else { return };
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    };
                    tokio::select! {
                        biased;
                        _ = watched.wait_for(|is_cut| *is_cut) => {}
                        () = forward => {}
                    }
                });
            }
        });
        Self { address, is_cut }
    }
}

/// The deployment of the test.
struct Deployment {
    gateway: Role,
    _services: [Role; 3],
    /// The connection of the node `one` to MongoDB.
    network: Forwarder,
    _stores: (Mongo, Redis),
}

impl Deployment {
    async fn start() -> Self {
        let (mongo, redis) = (Mongo::start().await, Redis::start());
        let uri = mongo.uri();
        let server = uri.trim_start_matches("mongodb://").split('/').next().expect("an address");
        let network = Forwarder::to(server.parse().expect("an address")).await;
        let key = key_file();
        let (key, url) = (key.path().to_string_lossy().into_owned(), redis.url());
        let shared = ["--redis-url", &url, "--secret-file", &key];
        let accounts =
            Role::start("accounts", &[&shared[..], &["--mongo-uri", &uri, "--bcrypt-cost", "4"]].concat());
        // Directly: the driver connects to no other address.
        let cut = format!("mongodb://{}/godzilla?directConnection=true", network.address);
        let one = Role::start("chat", &[&shared[..], &["--node", "one", "--mongo-uri", &cut]].concat());
        let two = Role::start("chat", &[&shared[..], &["--node", "two", "--mongo-uri", &uri]].concat());
        let accounts_url = format!("http://{}", accounts.address);
        let flags = ["--accounts-url", &accounts_url, "--login-rate", "1000", "--login-burst", "1000"];
        let gateway = Role::start("gateway", &[&shared[..], &flags].concat());
        Self { gateway, _services: [accounts, one, two], network, _stores: (mongo, redis) }
    }

    /// Waits until `/readyz` of the gateway has this status and all parts in its message.
    async fn reports(&self, status: &str, parts: &[&str]) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let body: Value = serde_json::from_str(&self.gateway.admin("/readyz").await.1).expect("JSON");
            let message = body["message"].as_str().unwrap_or_default();
            if body["status"] == status && parts.iter().all(|part| message.contains(part)) {
                return;
            }
            assert!(Instant::now() < until, "expected {status} with {parts:?}: {body}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The token of a new user.
    async fn user(&self, number: usize) -> String {
        let user = json!({ "username": format!("user{number}"), "password": "correct horse" });
        self.gateway.request(Request::post("/user/register", &user)).await.expect(201);
        let login = self.gateway.request(Request::post("/user/login", &user)).await.expect(200);
        login.token().expect("a cookie")
    }

    /// Posts a message, opens a session and connects its socket. Returns the node of the session.
    async fn use_chat(&self, token: &str) -> String {
        let post = Request::post("/rooms/lobby/messages", &json!({"text": "hello"})).cookie(token);
        self.gateway.request(post).await.expect(201);
        let target = "/socket.io/?EIO=4&transport=polling";
        let open = self.gateway.request(Request::get(target).cookie(token)).await.expect(200).body;
        let sid = open.split('"').nth(3).expect("the open packet has an id").to_owned();
        let target = format!("{target}&sid={sid}");
        let connect = Request::new("POST", &target).body("text/plain;charset=UTF-8", "40").cookie(token);
        self.gateway.request(connect).await.expect(200);
        let connected = self.gateway.request(Request::get(&target).cookie(token)).await.expect(200).body;
        assert!(connected.starts_with("40{"), "{sid}: {connected}");
        sid.rsplit_once('.').expect("a node").1.to_owned()
    }
}

/// The number of users. They prefer different nodes.
const USERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_node_without_mongodb_use_another_node_until_it_is_back() {
    let deployment = Box::pin(Deployment::start()).await;
    deployment.reports("ok", &[]).await;
    let (mut tokens, mut nodes) = (Vec::new(), Vec::new());
    for number in 0..USERS {
        let token = deployment.user(number).await;
        nodes.push(deployment.use_chat(&token).await);
        tokens.push(token);
    }
    assert!(["one", "two"].iter().all(|node| nodes.iter().any(|other| other == node)), "{nodes:?}");
    deployment.network.is_cut.send_replace(true);
    deployment.reports("degraded", &["chat has faulty nodes: one (http://", "is not ready: MongoDB "]).await;
    for token in &tokens {
        assert_eq!(deployment.use_chat(token).await, "two");
    }
    deployment.network.is_cut.send_replace(false);
    deployment.reports("ok", &[]).await;
    // A recent failure counts for some seconds.
    let until = Instant::now() + TIMEOUT;
    for (token, node) in tokens.iter().zip(&nodes) {
        while deployment.use_chat(token).await != *node {
            assert!(Instant::now() < until, "the user does not return to {node}");
        }
    }
}
