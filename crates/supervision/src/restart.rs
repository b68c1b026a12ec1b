//! Parts that restart cleanly, because they keep nothing that a panic could leave half done.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use crate::Part;

/// Between a panic and the next start.
const PAUSE: Duration = Duration::from_millis(50);

/// More panics than this within [`WINDOW`] are no accident: the part has failed.
const PANICS: u32 = 5;

/// See [`PANICS`].
const WINDOW: Duration = Duration::from_secs(60);

/// Runs the future that `make` returns, and another one after each panic. When it returns, or panics more than five times
/// in a minute, `part` has failed: see [`Part`]. It exists from the call on.
pub fn restart<F: Future<Output = ()>>(
    part: &'static str,
    mut make: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let alive = Part::new(part);
    async move {
        let _alive = alive;
        let (mut panics, mut since) = (0, Instant::now());
        while AssertUnwindSafe(crate::faulty(part, make())).catch_unwind().await.is_err() {
            metrics::counter!("godzilla_parts_restarted_total", "part" => part).increment(1);
            if since.elapsed() > WINDOW {
                (panics, since) = (0, Instant::now());
            }
            panics += 1;
            if panics > PANICS {
                return;
            }
            tracing::warn!(part, "a part panicked and restarts");
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_part_restarts_until_it_panics_too_often() {
        let starts = Cell::new(0);
        restart("panicking", || async {
            starts.set(starts.get() + 1);
            panic!("on purpose");
        })
        .await;
        assert_eq!(starts.get(), PANICS + 1);
    }
}
