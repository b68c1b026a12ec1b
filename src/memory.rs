//! The allocator, jemalloc, and that it gives memory back: what a burst took goes back to the system a second after it was freed, on
//! threads of jemalloc's own, because the threads that freed it may be idle from then on. Called by `main`.

use tikv_jemalloc_ctl::{Access, AsName, Result, background_thread};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long freed memory is kept for reuse, in milliseconds.
const KEPT: isize = 1_000;

/// Lets freed memory go back. Where jemalloc has no threads of its own (outside Linux) it goes back when somebody frees more.
pub fn configure() -> Result<()> {
    // For arenas to come, and for the one that is there since before `main`.
    for setting in [&b"arenas.dirty_decay_ms\0"[..], &b"arena.0.dirty_decay_ms\0"[..]] {
        setting.name().write(KEPT)?;
    }
    background_thread::write(true)
}
