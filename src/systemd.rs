//! Notifications for a systemd service of `Type=notify`: ready, stopping and, with `WatchdogSec=`, alive. Started by
//! `main` when systemd sets `NOTIFY_SOCKET`; without it no notification is sent. Called by [`crate::admin`].

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

/// Maximum number of messages that wait for systemd.
const QUEUE: usize = 8;

/// How long the start of a drain waits until the message is sent, because the process can end right after it.
const DEADLINE: Duration = Duration::from_millis(200);

/// Sends messages to the notification thread.
static MESSAGES: OnceLock<SyncSender<Message>> = OnceLock::new();

/// A message, and a channel that is closed when the message was sent.
type Message = (NotifyState<'static>, SyncSender<()>);

/// Starts the notification thread. It is a separate thread because a systemd that does not read blocks it.
///
/// # Errors
/// When the system provides no thread.
pub fn start() -> io::Result<()> {
    let (sender, messages) = sync_channel::<Message>(QUEUE);
    let send = move || {
        // The process ends with this thread, because systemd's watchdog would end it otherwise.
        let _alive = Part::new("systemd");
        for (message, _sent) in messages {
            supervision::fault!("systemd");
            if let Err(error) = sd_notify::notify(&[message]) {
                tracing::warn!(%error, "systemd cannot be notified");
            }
        }
    };
    thread::Builder::new().name("systemd".to_owned()).spawn(send)?;
    // `start` is called once.
    _ = MESSAGES.set(sender);
    Ok(())
}

/// Reports that the service accepts work.
pub fn ready() {
    send(NotifyState::Ready);
}

/// Reports that the service drains. Blocks for up to 200 ms when systemd does not read.
pub fn stopping() {
    // An error means that the message was sent, or that systemd does not read in time.
    _ = send(NotifyState::Stopping).recv_timeout(DEADLINE);
}

/// Reports that all threads run. Without this message systemd restarts a service with `WatchdogSec=`.
pub fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        send(NotifyState::Watchdog);
    }
}

fn send(message: NotifyState<'static>) -> Receiver<()> {
    let (sent, is_sent) = sync_channel(0);
    if let Some(sender) = MESSAGES.get() {
        // When the queue is full the message is dropped. The next one follows.
        _ = sender.try_send((message, sent));
    }
    is_sent
}
