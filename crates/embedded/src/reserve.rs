//! Whether the filesystem has room for a large write. A disk with a few KiB left accepts small commits and rejects large ones. Used for
//! `/readyz`.

use std::path::Path;

use nix::{sys::statvfs::statvfs, unistd::Uid};

/// The free bytes below which a store is not ready: four times the size of the log between two checkpoints (16 MiB).
/// docs/operations.md documents this value.
const RESERVE: u64 = 16 << 20;

/// Whether the filesystem of `path` has less free space than the reserve. False when the filesystem does not report its size.
pub fn is_used_up(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(about) = statvfs(directory) else { return false };
    // Some blocks are reserved for root.
    let free = if Uid::effective().is_root() { about.blocks_free() } else { about.blocks_available() };
    is_low(about.blocks() * about.fragment_size(), free * about.fragment_size())
}

fn is_low(all: u64, free: u64) -> bool {
    all > 0 && free < RESERVE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_of_unknown_size_is_not_full() {
        assert!(!is_low(0, 0));
        assert!(is_low(1 << 30, 4_096) && is_low(1 << 30, RESERVE - 1));
        assert!(!is_low(1 << 30, RESERVE));
        assert!(!is_used_up(Path::new("words.sqlite3")), "the tests need more free space");
    }
}
