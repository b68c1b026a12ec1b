//! Notifications for a systemd service of `Type=notify`: ready, stopping and, with `WatchdogSec=`, alive. Nothing is sent without the
//! variable `NOTIFY_SOCKET` of systemd.

use sd_notify::NotifyState;

/// Reports that the service accepts work.
pub fn ready() {
    send(NotifyState::Ready);
}

/// Reports that the service drains.
pub fn stopping() {
    send(NotifyState::Stopping);
}

/// Reports that all threads run. Without this message systemd restarts a service with `WatchdogSec=`.
pub fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        send(NotifyState::Watchdog);
    }
}

fn send(message: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[message]) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}
