//! A process with a gateway drains under load: a client that polls, clients with a WebSocket and a client of the HTTP API get answers until
//! the process refuses connections.

use serde_json::json;

use crate::support::{Request, Response, Socket, TestServer, TestUser, with_timeout};

/// The number of messages that the HTTP client must at least have sent during a drain.
const MIN_SENT: usize = 5;

/// A session with long-polling.
#[derive(Clone)]
struct Poller {
    user: TestUser,
    /// The query parameter with the id.
    sid: String,
}

/// How the polls of a session ended.
#[derive(Debug, PartialEq)]
enum End {
    /// By the close packet of the node.
    Closed,
    /// The server refused the next connection.
    Refused,
}

impl Poller {
    /// Opens a session and joins the main namespace.
    async fn open(user: TestUser) -> Self {
        let target = "/socket.io/?EIO=4&transport=polling";
        let open = user.get(target).await.expect(200).body;
        let sid = format!("&sid={}", open.split('"').nth(3).expect("the open packet has an id"));
        let poller = Self { user, sid };
        poller.send(poller.post("40")).await.expect("listens").expect(200);
        poller
    }

    /// The name of its node.
    fn node(&self) -> &str {
        self.sid.rsplit_once('.').expect("a node").1
    }

    fn target(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling{}", self.sid)
    }

    fn post(&self, packet: &str) -> Request {
        Request::new("POST", &self.target()).body("text/plain;charset=UTF-8", packet)
    }

    async fn send(&self, request: Request) -> Option<Response> {
        answered(&self.user, request).await
    }

    /// Polls and responds to pings until the session is closed or connections are refused.
    async fn poll(self) -> End {
        loop {
            let Some(response) = self.send(Request::get(&self.target())).await else { return End::Refused };
            let received = response.expect(200).body;
            for packet in received.split('\u{1e}') {
                match packet {
                    "1" => return End::Closed,
                    "2" => match self.send(self.post("3")).await {
                        Some(response) => drop(response.expect(200)),
                        None => return End::Refused,
                    },
                    _ => {}
                }
            }
        }
    }
}

/// The response to a request of `user` over a new connection. `None` when the server refuses connections. A connection that ends without a
/// response must be the last one that the server accepts: it can arrive in the moment in which the server stops listening.
async fn answered(user: &TestUser, request: Request) -> Option<Response> {
    let request = request.cookie(user.token());
    match request.clone().send_unless_refused(user.source, user.server).await? {
        Some(response) => Some(response),
        None => {
            let next = request.send_unless_refused(user.source, user.server).await;
            assert!(next.is_none(), "a request was reset, and the next one got {next:?}");
            None
        }
    }
}

/// Posts messages until one is not answered 201. Returns the ids of the others, and the answer if there is one.
async fn post_messages(user: TestUser) -> (Vec<serde_json::Value>, Option<Response>) {
    let mut acked = Vec::new();
    loop {
        let body = json!({"text": format!("message {}", acked.len()), "clientId": acked.len().to_string()});
        match answered(&user, Request::post("/rooms/lobby/messages", &body)).await {
            Some(response) if response.status == 201 => acked.push(response.json()["id"].clone()),
            // A limit of the rate is no effect of the drain.
            Some(response) if response.status == 429 => tokio::time::sleep(response.retry_after()).await,
            other => return (acked, other),
        }
    }
}

/// A session with long-polling and a WebSocket of one user on this node.
async fn clients_on(server: &TestServer, node: &str) -> (Poller, Socket) {
    for n in 0.. {
        let poller = Poller::open(server.user(&format!("{node}{n}")).await).await;
        if poller.node() == node {
            let socket = poller.user.connect().await;
            return (poller, socket);
        }
    }
    unreachable!("the users are distributed over the nodes")
}

/// The processes of a system: sets of roles, or the roles as processes of their own; the process that drains, and the nodes whose clients
/// use the gateway.
struct Row {
    sets: Option<&'static [&'static str]>,
    draining: usize,
    /// Each with the end of its polls and the close code of its WebSockets.
    nodes: &'static [(&'static str, End, Option<u16>)],
}

const ROWS: [Row; 3] = [
    Row {
        sets: Some(&["gateway,accounts,chat,presence"]),
        draining: 0,
        nodes: &[("one", End::Closed, Some(1001))],
    },
    Row {
        sets: Some(&["gateway,chat", "accounts,presence,chat"]),
        draining: 0,
        nodes: &[("one", End::Closed, Some(1001)), ("two", End::Refused, None)],
    },
    Row { sets: None, draining: 0, nodes: &[("one", End::Refused, None), ("two", End::Refused, None)] },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_draining_gateway_get_answers_until_it_refuses_connections() {
    for Row { sets, draining, nodes } in ROWS {
        let mut server = match sets {
            Some(sets) => Box::pin(TestServer::start_sets(sets)).await,
            None => Box::pin(TestServer::start_split()).await,
        };
        let mut clients = Vec::new();
        for (node, end, code) in nodes {
            let (poller, socket) = clients_on(&server, node).await;
            clients.push((tokio::spawn(poller.poll()), socket, end, code));
        }
        let sender = server.user("sender").await;
        let posting = tokio::spawn(post_messages(sender.clone()));
        server.system.processes[draining].signal("TERM");
        assert_eq!(server.system.wait_for_exit(draining).await.code(), Some(0), "{}", server.system.log());
        let (acked, refused) = with_timeout("the end of the posts", posting).await.expect("no failure");
        assert!(refused.is_none(), "{sets:?}: {refused:?} after {} messages", acked.len());
        assert!(acked.len() >= MIN_SENT, "{sets:?}: {}", acked.len());
        for (polls, mut socket, end, code) in clients {
            let ended = with_timeout("the end of the polls", polls).await.expect("no failure");
            assert_eq!(ended, *end, "{sets:?}");
            assert_eq!(socket.closed().await.code, *code, "{sets:?}");
        }
        let log = server.system.log();
        assert!(!log.contains("drain did not finish") && !log.contains("ERROR"), "{sets:?}: {log}");
        server.system.restart_process(draining).await;
        let stored = sender.read_history("lobby").await;
        let stored: Vec<_> = stored.iter().map(|message| &message["id"]).collect();
        assert!(acked.iter().all(|id| stored.contains(&id)), "{sets:?}: a message is lost");
    }
}
