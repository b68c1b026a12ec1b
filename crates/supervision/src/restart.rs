//! Parts that can be restarted after a panic, because they keep no state across it.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use crate::Part;

/// The delay between a panic and the next start.
const RESTART_DELAY: Duration = Duration::from_millis(50);

/// The largest number of panics within [`WINDOW`]. One more is a failure of the part.
const MAX_PANICS: u32 = 5;

/// The window of [`MAX_PANICS`].
const WINDOW: Duration = Duration::from_secs(60);

/// Runs the future that `make` returns, and a new one after each panic. If a future returns, or more than
/// five panic in one minute, `part` has failed: see [`Part`]. The part exists from the call on.
pub fn restart<F: Future<Output = ()>>(
    part: &'static str,
    mut make: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let guard = Part::new(part);
    async move {
        let _guard = guard;
        let (mut panics, mut since) = (0, Instant::now());
        while AssertUnwindSafe(crate::with_fault_point(part, make())).catch_unwind().await.is_err() {
            metrics::counter!("godzilla_part_restarts_total", "part" => part).increment(1);
            if since.elapsed() > WINDOW {
                (panics, since) = (0, Instant::now());
            }
            panics += 1;
            if panics > MAX_PANICS {
                return;
            }
            tracing::warn!(
                part,
                panics,
                max_panics = MAX_PANICS,
                "a part of the process panicked and is restarted"
            );
            sleep(RESTART_DELAY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_part_is_restarted_until_it_panics_too_often() {
        let starts = Cell::new(0);
        restart("panicking", || async {
            starts.set(starts.get() + 1);
            panic!("test");
        })
        .await;
        assert_eq!(starts.get(), MAX_PANICS + 1);
    }
}
