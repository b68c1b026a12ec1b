//! What systemd asks of a service of `Type=notify`: that it says when it is ready, when it stops and, with `WatchdogSec=`, that it
//! lives. Started by `main` when systemd gives an address; without it nothing happens. Called by [`crate::admin`].

use std::{
    io,
    sync::{
        OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use sd_notify::NotifyState;

use crate::supervision::{self, Part};

/// Messages that may wait for systemd.
const QUEUE: usize = 8;

/// How long the start of a drain waits until systemd has its message: the process may end right after it.
const DEADLINE: Duration = Duration::from_millis(200);

/// The way to the thread that speaks to systemd.
static MESSAGES: OnceLock<SyncSender<Message>> = OnceLock::new();

/// A message, and a channel that is closed when it is sent.
type Message = (NotifyState<'static>, SyncSender<()>);

/// Starts the thread that speaks to systemd. It is a thread of its own because systemd may not read.
///
/// # Errors
/// When the system has no thread for it.
pub fn start() -> io::Result<()> {
    let (sender, messages) = sync_channel::<Message>(QUEUE);
    let send = move || {
        // Without this thread a service that works would be ended by systemd's watchdog.
        let _alive = Part::new("systemd");
        for (message, _sent) in messages {
            supervision::fault!("systemd");
            if let Err(error) = sd_notify::notify(&[message]) {
                tracing::warn!(%error, "systemd cannot be notified");
            }
        }
    };
    thread::Builder::new().name("systemd".to_owned()).spawn(send)?;
    // The only call.
    _ = MESSAGES.set(sender);
    Ok(())
}

/// The service takes work.
pub fn ready() {
    send(NotifyState::Ready);
}

/// The service drains. Blocks for a moment if systemd does not read.
pub fn stopping() {
    // An error says that the message is sent, or that systemd does not read.
    _ = send(NotifyState::Stopping).recv_timeout(DEADLINE);
}

/// All threads run. Without this message systemd restarts a service with `WatchdogSec=`.
pub fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        send(NotifyState::Watchdog);
    }
}

fn send(message: NotifyState<'static>) -> Receiver<()> {
    let (sent, is_sent) = sync_channel(0);
    if let Some(sender) = MESSAGES.get() {
        // A systemd that does not read gets the next one.
        _ = sender.try_send((message, sent));
    }
    is_sent
}
