//! The state machines under any order of inputs, each compared with a simple model.

use std::collections::HashMap;

use bytes::Bytes;

use super::Choices;
use crate::{
    Config,
    namespaces::machine::{Effect, Machine},
    session::transport_state::{PipeId, PipeRole, ProbeAction, TransportState},
};

/// The namespace limit: less than the number of namespaces that the client requests.
const MAX_NAMESPACES: usize = 3;

const NAMESPACES: [&str; 5] = ["/", "/a", "/b", "/c", "/d"];

/// Drives the Socket.IO machine and the transport state of one session.
pub fn machine(data: &[u8]) {
    let (sockets, transport) = data.split_at(data.len() / 2);
    drive_machine(Choices(sockets));
    drive_transport(Choices(transport));
}

/// The state of a namespace in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModelPhase {
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
        let received = match choices.below(16) {
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
        match received {
            Ok(effect) => check(&effect, &mut model),
            Err(_) => return,
        }
        for (namespace, phase) in &model {
            assert_eq!(machine.is_joining(namespace), *phase == ModelPhase::Joining, "{namespace}");
        }
    }
}

fn packet(kind: &str, namespace: &str, rest: &str) -> String {
    match namespace {
        "/" => format!("{kind}{rest}"),
        other => format!("{kind}{other},{rest}"),
    }
}

/// The application answers a CONNECT, or disconnects the client from a namespace.
fn decide(
    machine: &mut Machine,
    model: &mut HashMap<String, ModelPhase>,
    namespace: &str,
    choices: &mut Choices<'_>,
) {
    match (model.get(namespace), choices.below(2)) {
        (Some(ModelPhase::Joining), 0) => {
            machine.joined(namespace);
            model.insert(namespace.to_owned(), ModelPhase::Joined);
        }
        (Some(ModelPhase::Joining), _) => {
            machine.refused(namespace);
            model.remove(namespace);
        }
        (Some(ModelPhase::Joined), _) => {
            machine.left(namespace);
            model.insert(namespace.to_owned(), ModelPhase::Left);
        }
        _ => {}
    }
}

/// Checks that the model allows an effect, and applies it.
fn check(effect: &Effect, model: &mut HashMap<String, ModelPhase>) {
    match effect {
        Effect::None | Effect::StrayAck => {}
        Effect::DuplicateConnect { namespace } => {
            assert_eq!(model.get(namespace), Some(&ModelPhase::Joining))
        }
        Effect::Connect { namespace, auth } => {
            assert!(auth.is_object());
            let before = model.insert(namespace.clone(), ModelPhase::Joining);
            assert!(matches!(before, None | Some(ModelPhase::Left)), "{namespace}: {before:?}");
            assert!(model.len() <= MAX_NAMESPACES);
        }
        Effect::Refuse { namespace, .. } => {
            let phase = model.get(namespace);
            assert!(matches!(phase, None | Some(ModelPhase::Left)), "{namespace}: {phase:?}");
        }
        Effect::Unreadable { namespace, .. } => assert_eq!(model.get(namespace), Some(&ModelPhase::Joined)),
        Effect::Event { namespace, args, .. } => {
            assert_eq!(model.get(namespace), Some(&ModelPhase::Joined));
            assert!(!args.is_empty());
        }
        Effect::Ack { namespace, .. } => assert_eq!(model.get(namespace), Some(&ModelPhase::Joined)),
        Effect::Leave { namespace } => {
            let before = model.insert(namespace.clone(), ModelPhase::Left);
            assert!(
                matches!(before, Some(ModelPhase::Joining | ModelPhase::Joined)),
                "{namespace}: {before:?}"
            );
        }
    }
}

/// The model of a transport state.
#[derive(Debug, Default)]
struct TransportModel {
    get: bool,
    post: bool,
    /// The probing pipe, and whether it was answered.
    probe: Option<(u64, bool)>,
    /// The active pipe.
    pipe: Option<u64>,
}

fn drive_transport(mut choices: Choices<'_>) {
    let (mut transport, mut model) = (TransportState::POLLING, TransportModel::default());
    while !choices.is_over() {
        let pipe = choices.below(3) as u64;
        step(&mut transport, &mut model, choices.below(8), pipe);
        for pipe in 0..3 {
            let role = match (model.pipe, model.probe) {
                (Some(active), _) if active == pipe => PipeRole::Active,
                (None, Some((probing, _))) if probing == pipe => PipeRole::Probing,
                _ => PipeRole::Unrelated,
            };
            assert_eq!(transport.role(PipeId(pipe)), role);
        }
        let is_answered = model.probe.is_some_and(|(_, answered)| answered);
        assert_eq!(transport.must_release_get(), model.pipe.is_none() && model.get && is_answered);
        assert_eq!(transport.name() == "websocket", model.pipe.is_some());
    }
}

/// Applies one input to both and compares the results.
fn step(transport: &mut TransportState, model: &mut TransportModel, input: usize, pipe: u64) {
    let polls = model.pipe.is_none();
    match input {
        0 => {
            assert_eq!(transport.start_get().is_ok(), polls && !model.get);
            model.get |= polls;
        }
        1 => {
            transport.end_get();
            model.get = false;
        }
        2 => {
            assert_eq!(transport.start_post().is_ok(), polls && !model.post);
            model.post |= polls;
        }
        3 => {
            transport.end_post();
            model.post = false;
        }
        4 => {
            let may = polls && model.probe.is_none();
            assert_eq!(transport.start_probe(PipeId(pipe)).is_ok(), may);
            if may {
                model.probe = Some((pipe, false));
            }
        }
        5 => {
            transport.end_probe();
            model.probe = model.probe.filter(|_| !polls);
        }
        other => receive_probe(transport, model, if other == 6 { "2probe" } else { "5" }),
    }
}

fn receive_probe(transport: &mut TransportState, model: &mut TransportModel, text: &str) {
    let probe = model.probe.filter(|_| model.pipe.is_none());
    let want = match (probe, text) {
        (None, _) => ProbeAction::Close,
        (Some((pipe, _)), "2probe") => {
            model.probe = Some((pipe, true));
            ProbeAction::Answer
        }
        (Some((pipe, _)), _) => {
            model.pipe = Some(pipe);
            ProbeAction::Upgrade
        }
    };
    assert_eq!(transport.receive_probe(text), want);
}
