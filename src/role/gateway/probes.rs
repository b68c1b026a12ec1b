//! The probes of `/readyz` of a gateway.

use std::sync::Arc;

use ::gateway::Proxy;
use cluster::Watcher;
use sessions::RedisSessions;

use crate::{admin::Probe, role::harness::Process};

/// Ready while sessions can be verified and a chat node is available. Without accounts the gateway is only degraded: users
/// who are logged in can still chat, and other gateways would not do better.
pub(super) fn needed(
    sessions: Arc<RedisSessions>,
    watcher: Arc<Watcher>,
    proxy: Proxy,
) -> [(&'static str, Probe); 2] {
    let announcing = watcher.clone();
    let redis = move || {
        let (sessions, watcher) = (sessions.clone(), watcher.clone());
        Box::pin(async move {
            let not_ready_reason = sessions.not_ready_reason().await;
            if not_ready_reason.is_some() { not_ready_reason } else { watcher.not_ready_reason().await }
        }) as _
    };
    let chat = move || {
        let mut not_ready_reason = proxy.chat_not_ready_reason();
        // Nodes cannot announce themselves in a Redis that refuses writes.
        let cause = announcing.write_refusal().filter(|_| !announcing.nodes().borrow().has_open());
        if let (Some(reason), Some(cause)) = (&mut not_ready_reason, cause) {
            *reason = format!("{reason}: Redis {cause}");
        }
        if let (Some(reason), waiting) = (&mut not_ready_reason, announcing.waiting()) {
            waiting.iter().for_each(|(name, cause)| *reason = format!("{reason}; {name} waits: {cause}"));
        }
        Box::pin(async move { not_ready_reason }) as _
    };
    [("Redis", Box::new(redis)), ("chat", Box::new(chat))]
}

/// Services that cannot be reached or reject the requests of this gateway, and a Redis that refuses writes, while the gateway is ready.
pub(super) fn add_degrading(process: &Process, proxy: &Proxy, watcher: Arc<Watcher>) {
    let (of_chat, of_accounts) = (proxy.clone(), proxy.clone());
    let chat = move || {
        let degradation = of_chat.chat_degradation();
        Box::pin(async move { degradation }) as _
    };
    let accounts = move || {
        let degradation = of_accounts.accounts_degradation();
        Box::pin(async move { degradation }) as _
    };
    let redis = move || {
        let refusal = watcher.write_refusal();
        Box::pin(async move { refusal.map(|refusal| format!("{refusal}; logins are refused")) }) as _
    };
    process.add_degrading("Redis", Box::new(redis));
    process.add_degrading("chat", Box::new(chat));
    process.add_degrading("accounts", Box::new(accounts));
}
