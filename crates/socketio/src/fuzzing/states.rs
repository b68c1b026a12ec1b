//! The state machines under any order of inputs, each beside a simple model of what is legal.

use std::collections::HashMap;

use bytes::Bytes;

use super::Choices;
use crate::{
    Config,
    session::carrier::{Carrier, PipeId, Probed, Role},
    sockets::machine::{Effect, Machine},
};

/// The namespaces one client may have here: less than it asks for.
const MAX_NAMESPACES: usize = 3;

const NAMESPACES: [&str; 5] = ["/", "/a", "/b", "/c", "/d"];

/// Drives the Socket.IO machine and the carrier of one session.
pub fn machine(data: &[u8]) {
    let (sockets, carrier) = data.split_at(data.len() / 2);
    drive_machine(Choices(sockets));
    drive_carrier(Choices(carrier));
}

/// Where a client stands with a namespace, as the model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Joining,
    Joined,
    Left,
}

fn drive_machine(mut choices: Choices<'_>) {
    let config = Config { max_namespaces: MAX_NAMESPACES, ..Config::default() };
    let mut machine = Machine::new(&config);
    let mut model = HashMap::new();
    while !choices.is_over() {
        let namespace = NAMESPACES[choices.below(NAMESPACES.len())];
        let heard = match choices.below(16) {
            0..4 => machine.text(&packet("0", namespace, "")),
            4 => machine.text(&packet("1", namespace, "")),
            5..8 => machine.text(&packet("2", namespace, "7[\"a\",1]")),
            8 => machine.text(&packet("3", namespace, "7[]")),
            9 => machine.text(&packet("51-", namespace, "[\"a\",{\"_placeholder\":true,\"num\":0}]")),
            10 => machine.binary(Bytes::copy_from_slice(choices.bytes(3))),
            11 => {
                let length = choices.below(40);
                machine.text(&String::from_utf8_lossy(choices.bytes(length)))
            }
            _ => {
                decide(&mut machine, &mut model, namespace, &mut choices);
                Ok(Effect::None)
            }
        };
        match heard {
            Ok(effect) => check(&effect, &mut model),
            Err(_) => return,
        }
        for (namespace, standing) in &model {
            assert_eq!(machine.is_joining(namespace), *standing == Standing::Joining, "{namespace}");
        }
    }
}

fn packet(kind: &str, namespace: &str, rest: &str) -> String {
    match namespace {
        "/" => format!("{kind}{rest}"),
        other => format!("{kind}{other},{rest}"),
    }
}

/// The application decides about a namespace that the client asked for, or ends it.
fn decide(
    machine: &mut Machine,
    model: &mut HashMap<String, Standing>,
    namespace: &str,
    choices: &mut Choices<'_>,
) {
    match (model.get(namespace), choices.below(2)) {
        (Some(Standing::Joining), 0) => {
            machine.joined(namespace);
            model.insert(namespace.to_owned(), Standing::Joined);
        }
        (Some(Standing::Joining), _) => {
            machine.refused(namespace);
            model.remove(namespace);
        }
        (Some(Standing::Joined), _) => {
            machine.left(namespace);
            model.insert(namespace.to_owned(), Standing::Left);
        }
        _ => {}
    }
}

/// An effect is one that the model allows; it follows.
fn check(effect: &Effect, model: &mut HashMap<String, Standing>) {
    match effect {
        Effect::None | Effect::StrayAck => {}
        Effect::Repeated { namespace } => assert_eq!(model.get(namespace), Some(&Standing::Joining)),
        Effect::Connect { namespace, auth } => {
            assert!(auth.is_object());
            let before = model.insert(namespace.clone(), Standing::Joining);
            assert!(matches!(before, None | Some(Standing::Left)), "{namespace}: {before:?}");
            assert!(model.len() <= MAX_NAMESPACES);
        }
        Effect::Refuse { namespace, .. } => {
            let standing = model.get(namespace);
            assert!(matches!(standing, None | Some(Standing::Left)), "{namespace}: {standing:?}");
        }
        Effect::Unreadable { namespace, .. } => assert_eq!(model.get(namespace), Some(&Standing::Joined)),
        Effect::Event { namespace, args, .. } => {
            assert_eq!(model.get(namespace), Some(&Standing::Joined));
            assert!(!args.is_empty());
        }
        Effect::Ack { namespace, .. } => assert_eq!(model.get(namespace), Some(&Standing::Joined)),
        Effect::Leave { namespace } => {
            let before = model.insert(namespace.clone(), Standing::Left);
            assert!(matches!(before, Some(Standing::Joining | Standing::Joined)), "{namespace}: {before:?}");
        }
    }
}

/// What the model knows of a carrier.
#[derive(Debug, Default)]
struct Carried {
    get: bool,
    post: bool,
    /// The pipe that probes, and whether it was answered.
    probe: Option<(u64, bool)>,
    /// The pipe that carries the session.
    pipe: Option<u64>,
}

fn drive_carrier(mut choices: Choices<'_>) {
    let (mut carrier, mut model) = (Carrier::POLLING, Carried::default());
    while !choices.is_over() {
        let pipe = choices.below(3) as u64;
        step(&mut carrier, &mut model, choices.below(8), pipe);
        for pipe in 0..3 {
            let role = match (model.pipe, model.probe) {
                (Some(own), _) if own == pipe => Role::Carrier,
                (None, Some((own, _))) if own == pipe => Role::Probe,
                _ => Role::Stranger,
            };
            assert_eq!(carrier.role(PipeId(pipe)), role);
        }
        let is_answered = model.probe.is_some_and(|(_, answered)| answered);
        assert_eq!(carrier.must_release(), model.pipe.is_none() && model.get && is_answered);
        assert_eq!(carrier.name() == "websocket", model.pipe.is_some());
    }
}

/// One input to both; the two agree on what comes of it.
fn step(carrier: &mut Carrier, model: &mut Carried, input: usize, pipe: u64) {
    let polls = model.pipe.is_none();
    match input {
        0 => {
            assert_eq!(carrier.start_get().is_ok(), polls && !model.get);
            model.get |= polls;
        }
        1 => {
            carrier.end_get();
            model.get = false;
        }
        2 => {
            assert_eq!(carrier.start_post().is_ok(), polls && !model.post);
            model.post |= polls;
        }
        3 => {
            carrier.end_post();
            model.post = false;
        }
        4 => {
            let may = polls && model.probe.is_none();
            assert_eq!(carrier.start_probe(PipeId(pipe)).is_ok(), may);
            if may {
                model.probe = Some((pipe, false));
            }
        }
        5 => {
            carrier.end_probe();
            model.probe = model.probe.filter(|_| !polls);
        }
        other => hear_probe(carrier, model, if other == 6 { "2probe" } else { "5" }),
    }
}

fn hear_probe(carrier: &mut Carrier, model: &mut Carried, text: &str) {
    let probe = model.probe.filter(|_| model.pipe.is_none());
    let want = match (probe, text) {
        (None, _) => Probed::Close,
        (Some((pipe, _)), "2probe") => {
            model.probe = Some((pipe, true));
            Probed::Answer
        }
        (Some((pipe, _)), _) => {
            model.pipe = Some(pipe);
            Probed::TakeOver
        }
    };
    assert_eq!(carrier.probe_says(text), want);
}
