//! The example `chat` as a process of its own, which cargo builds with the tests: what its documentation
//! promises to a client.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use support::{Client, Frame, TestServer};

/// The running example. It is killed at the end of the test.
struct Example {
    process: Child,
    address: SocketAddr,
}

impl Example {
    fn start() -> Self {
        let this = std::env::current_exe().unwrap();
        let program = this.ancestors().nth(2).unwrap().join("examples/chat");
        let mut process = Command::new(program).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("the address").parse().unwrap();
        Self { process, address }
    }

    /// A client that sent its CONNECT, and the answer.
    async fn connect(&self, auth: &str) -> (Client, String) {
        let mut client = Client::open(&TestServer::of(self.address)).await;
        client.send_text(&format!("40{auth}")).await;
        let answer = text(&mut client).await;
        (client, answer)
    }

    async fn member(&self, name: &str) -> Client {
        let (client, answer) = self.connect(&format!(r#"{{"name":"{name}"}}"#)).await;
        assert!(answer.starts_with("40{\"sid\":"), "{answer}");
        client
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The next text message.
async fn text(client: &mut Client) -> String {
    match client.next().await {
        Frame::Text(text) => text,
        other => panic!("{other:?} is not a text message"),
    }
}

/// The notice that the first member has joined. It may be delivered after the next member has joined.
const FIRST_JOIN: &str = r#"42["joined","tea","alice"]"#;

/// Sends `packet` and asserts the next message except [`FIRST_JOIN`].
async fn ask(client: &mut Client, packet: &str, expected: &str) {
    client.send_text(packet).await;
    let mut answer = text(client).await;
    while answer == FIRST_JOIN {
        answer = text(client).await;
    }
    assert_eq!(answer, expected, "answer to {packet}");
}

#[actix_rt::test]
async fn members_of_a_room_receive_messages_typing_and_who_joins_and_leaves() {
    let example = Example::start();
    let (mut alice, mut bob) = (example.member("alice").await, example.member("bob").await);
    ask(&mut alice, r#"420["join","tea"]"#, r#"430[{"members":["alice"]}]"#).await;
    bob.send_text(r#"42["join","tea"]"#).await;
    assert_eq!(text(&mut alice).await, r#"42["joined","tea","bob"]"#);
    ask(&mut bob, r#"421["message","tea","hello"]"#, r#"431[{"id":1}]"#).await;
    assert_eq!(text(&mut alice).await, r#"42["message","tea",{"from":"bob","id":1,"text":"hello"}]"#);
    bob.send_text(r#"42["typing","tea",true]"#).await;
    assert_eq!(text(&mut alice).await, r#"42["typing","tea","bob",true]"#);
    drop(bob);
    assert_eq!(text(&mut alice).await, r#"42["left","tea","bob"]"#);
    ask(&mut alice, r#"422["leave","tea"]"#, r#"432[{"members":[]}]"#).await;
}

#[actix_rt::test]
async fn a_poll_is_acknowledged_with_the_answers_of_all_members() {
    let example = Example::start();
    let mut alice = example.member("alice").await;
    ask(&mut alice, r#"420["join","tea"]"#, r#"430[{"members":["alice"]}]"#).await;
    ask(&mut alice, r#"421["poll","tea","more?"]"#, r#"420["question","more?"]"#).await;
    ask(&mut alice, r#"430["yes"]"#, r#"431[{"answers":["yes"],"missing":0}]"#).await;
}

#[actix_rt::test]
async fn names_and_commands_that_are_not_valid_are_refused() {
    let example = Example::start();
    let (_, answer) = example.connect(r#"{"name":""}"#).await;
    assert_eq!(answer, r#"44{"message":"a name has 1 to 64 bytes","data":{"code":"invalid_name"}}"#);
    let mut alice = example.member("alice").await;
    for (command, error) in [
        (r#"["message","tea","hello"]"#, "not a member of this room"),
        (r#"["leave","tea"]"#, "not a member of this room"),
        (r#"["dance","tea"]"#, "unknown event"),
    ] {
        ask(&mut alice, &format!("420{command}"), &format!(r#"430[{{"error":"{error}"}}]"#)).await;
    }
    for (command, message) in [
        (r#"["message","tea"]"#, r#"invalid type: string \"tea\", expected a tuple of size 2"#),
        (r#"["join",5]"#, "invalid type: integer `5`, expected a string"),
        (r#"["join",""]"#, "a room has 1 to 64 bytes"),
    ] {
        let answer = format!(r#"430[{{"error":"invalid_payload","message":"{message}"}}]"#);
        ask(&mut alice, &format!("420{command}"), &answer).await;
    }
}
