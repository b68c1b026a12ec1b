//! A thousand clients in the lobby and ten people who talk to them, fifty messages a second. Used by the tests under load.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{Climber, Person, Socket, Stage, climber::THE_END};

/// As many sockets as one user may have.
const PER_USER: usize = 20;
/// So many that each stays below what one socket may say.
const SPEAKERS: usize = 10;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// How many clients connect at once.
const AT_ONCE: usize = 32;

/// Those who talk.
pub struct Crowd {
    speakers: Vec<Socket>,
    last: Person,
}

impl Stage {
    /// As many people as it takes for this many sockets; nobody has connected yet.
    pub async fn people_for(&self, name: &str, sockets: usize) -> Vec<Person> {
        let mut people = Vec::new();
        for n in 0..sockets.div_ceil(PER_USER) {
            people.push(self.person(&format!("{name}{n}")).await);
        }
        people
    }
}

impl Crowd {
    /// The speakers come in.
    pub async fn gathers(stage: &Stage) -> Self {
        let mut speakers = Vec::new();
        for n in 0..SPEAKERS {
            speakers.push(stage.person(&format!("speaker{n}")).await.connects().await);
        }
        Self { speakers, last: stage.person("last").await }
    }

    /// This many clients of these people connect, over long-polling.
    pub async fn climbers(people: &[Person], count: usize) -> Vec<Climber> {
        let connecting = (0..count).map(|n| Climber::connects(&people[n % people.len()]));
        stream::iter(connecting).buffer_unordered(AT_ONCE).collect().await
    }

    /// Says `count` things that are so many bytes long, each acked, then that this is the end. Returns all places.
    pub async fn talks(&mut self, count: usize, bytes: usize) -> Vec<u64> {
        let mut clock = tokio::time::interval(PAUSE);
        let (text, mut asked) = ("x".repeat(bytes), Vec::new());
        for n in 0..count {
            clock.tick().await;
            let speaker = n % self.speakers.len();
            asked.push((speaker, self.speakers[speaker].request("message", &json!({"text": text}))));
        }
        for (speaker, id) in asked {
            let ack = self.speakers[speaker].answer(id).await;
            assert_eq!(ack["ok"], true, "{ack}");
        }
        self.last.posts("/rooms/lobby/messages", &json!({"text": THE_END})).await.expect(201);
        (1..=count as u64 + 1).collect()
    }
}
