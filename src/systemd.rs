//! Notifications for a systemd service of `Type=notify`: ready, stopping and, with `WatchdogSec=`, alive. Started by
//! `main` when systemd sets `NOTIFY_SOCKET`; without it no notification is sent. Called by [`crate::admin`].

use std::{
    ffi::OsStr,
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

/// Starts the notification thread; `address` is the value of `NOTIFY_SOCKET`. It is a separate thread because a systemd that does not read blocks it.
///
/// # Errors
/// When the system provides no thread.
pub fn start(address: &OsStr) -> io::Result<()> {
    let (sender, messages) = sync_channel::<Message>(QUEUE);
    let unsupported = address.to_str().and_then(unsupported);
    let send = move || {
        // The process ends with this thread, because systemd's watchdog would end it otherwise.
        let _alive = Part::new("systemd");
        for (message, _sent) in messages {
            supervision::fault!("systemd");
            let sent = sd_notify::notify(&[message]).map_err(|error| error.to_string());
            let sent = unsupported.map_or(sent, |cause| Err(cause.to_owned()));
            if let Err(error) = sent {
                tracing::warn!(error, "systemd cannot be notified");
            }
        }
    };
    thread::Builder::new().name("systemd".to_owned()).spawn(send)?;
    // `start` is called once.
    _ = MESSAGES.set(sender);
    Ok(())
}

/// Why no message can be sent to this address of `NOTIFY_SOCKET`. `None` for a path and for an abstract socket.
fn unsupported(address: &str) -> Option<&'static str> {
    match address {
        _ if address.starts_with(['/', '@']) => None,
        _ if address.starts_with("vsock") => {
            Some("NOTIFY_SOCKET is a vsock address, which is not supported: use Type=exec, or a path")
        }
        _ => Some("NOTIFY_SOCKET must be an absolute path, or @ and the name of an abstract socket"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_address_is_named() {
        for (address, words) in [
            ("/run/systemd/notify", None),
            ("@/org/freedesktop/systemd1/notify", None),
            ("vsock:2:1234", Some("vsock")),
            ("vsock-stream:2:1234", Some("vsock")),
            ("notify", Some("absolute path")),
        ] {
            let cause = unsupported(address);
            assert_eq!(cause.is_some(), words.is_some(), "{address}: {cause:?}");
            assert!(words.is_none_or(|words| cause.unwrap().contains(words)), "{address}: {cause:?}");
        }
    }
}
