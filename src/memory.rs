//! The allocator, jemalloc. Freed memory is returned to the system after one second, on jemalloc's own threads, because
//! the threads that freed it can stay idle. Called by `main`.

use tikv_jemalloc_ctl::{Access, AsName, Result, background_thread};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long freed memory is kept for reuse, in milliseconds.
const KEPT: isize = 1_000;

/// Configures the return of freed memory to the system. Where jemalloc has no threads of its own (outside Linux),
/// memory is returned on the next deallocation.
pub fn configure() -> Result<()> {
    // For future arenas, and for arena 0, which exists before `main`.
    for setting in [&b"arenas.dirty_decay_ms\0"[..], &b"arena.0.dirty_decay_ms\0"[..]] {
        setting.name().write(KEPT)?;
    }
    background_thread::write(true)
}
