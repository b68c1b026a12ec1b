//! `/readyz` of a role whose services are killed or stopped. No client sends a request.

use std::time::Instant;

use serde_json::Value;

use crate::support::{ACCOUNTS, GATEWAY, NODES, PRESENCE, TIMEOUT, TestServer};

/// The cause in the report while a service is in the state after this signal.
const CAUSES: [(&str, &str); 2] = [("KILL", "connection refused"), ("STOP", "no answer in time")];

/// Waits until `/readyz` of a process has this status (`ok`, `degraded` or `error`) and all parts in its message.
async fn reports(server: &TestServer, process: usize, status: &str, parts: &[&str]) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let body: Value = serde_json::from_str(&server.system.readiness(process).await).expect("JSON");
        let message = body["message"].as_str().unwrap_or_default();
        if body["status"] == status && parts.iter().all(|part| message.contains(part)) {
            return;
        }
        assert!(Instant::now() < until, "expected {status} with {parts:?}: {body}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Makes processes unavailable.
fn send(server: &mut TestServer, signal: &str, processes: &[usize]) {
    for index in processes {
        match signal {
            "KILL" => server.system.processes[*index].kill(),
            _ => server.system.processes[*index].signal(signal),
        }
    }
}

/// Makes processes available again.
fn revive(server: &mut TestServer, signal: &str, processes: &[usize]) {
    for index in processes {
        match signal {
            "KILL" => server.system.start_process(*index),
            _ => server.system.processes[*index].signal("CONT"),
        }
    }
}

#[tokio::test]
async fn a_gateway_is_ready_while_one_of_its_nodes_works() {
    let [one, two] = NODES;
    for (signal, cause) in CAUSES {
        let mut server = Box::pin(TestServer::start_split()).await;
        reports(&server, GATEWAY, "ok", &[]).await;
        send(&mut server, signal, &[one]);
        reports(&server, GATEWAY, "degraded", &["chat has faulty nodes: one (http://", cause]).await;
        revive(&mut server, signal, &[one]);
        reports(&server, GATEWAY, "ok", &[]).await;
        send(&mut server, signal, &[one, two]);
        let both = ["chat has no usable node: one (http://", "two (http://", cause];
        reports(&server, GATEWAY, "error", &both).await;
        revive(&mut server, signal, &[one, two]);
        reports(&server, GATEWAY, "ok", &[]).await;
    }
}

#[tokio::test]
async fn services_that_a_role_works_without_degrade_it() {
    let rows = [(ACCOUNTS, GATEWAY, "accounts at http://"), (PRESENCE, NODES[0], "presence at 127.0.0.1:")];
    for (signal, _) in CAUSES {
        let mut server = Box::pin(TestServer::start_split()).await;
        for (service, role, part) in rows {
            reports(&server, role, "ok", &[]).await;
            send(&mut server, signal, &[service]);
            let cause = if signal == "KILL" { "refused" } else { "" };
            let address = server.system.processes[service].address().to_string();
            reports(&server, role, "degraded", &[part, &address, cause]).await;
            revive(&mut server, signal, &[service]);
            reports(&server, role, "ok", &[]).await;
        }
    }
}
