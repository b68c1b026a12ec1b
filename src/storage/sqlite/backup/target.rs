//! The directory of a copy. An absent directory appears complete, by a rename. An existing directory can be a mount
//! point, or in a directory of another user. The files are then created in a subdirectory and renamed at the end.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use super::{
    super::FILES,
    failed,
    partial::{self, Partial},
    refused,
};
use crate::error::Error;

/// A directory that filesystems create in their root.
const LOST_AND_FOUND: &str = "lost+found";

/// The destination of a copy.
pub enum Target {
    /// The directory does not exist. Its parent may also be absent.
    Absent(PathBuf),
    /// An empty directory, by its canonical path.
    Present(PathBuf),
}

impl Target {
    /// Refuses a destination that is unsuitable for a copy of the store in `data_dir`.
    pub fn examine(to: &Path, data_dir: &Path) -> Result<Self, Error> {
        refuse_inside(to, data_dir)?;
        match fs::metadata(to) {
            Ok(about) if !about.is_dir() => {
                Err(failed(to)("it is not a directory; name one that is to be made"))
            }
            Ok(about) => {
                partial::remove_abandoned(to);
                refuse_content(to)?;
                refuse_others(to, &about)?;
                Ok(Self::Present(fs::canonicalize(to).map_err(refused(to))?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(to) {
                Ok(linked) => {
                    let linked = linked.display();
                    Err(failed(to)(format!("it is a link to {linked}, which is absent; make that directory")))
                }
                Err(_) if to.file_name().is_none() => Err(failed(to)("name a directory that is to be made")),
                Err(_) => Ok(Self::Absent(to.to_owned())),
            },
            Err(error) => Err(refused(to)(error)),
        }
    }

    /// Creates a directory on the filesystem of the target that no other process has created. Only this directory is
    /// ever removed.
    pub fn make_partial(&self) -> Result<Partial, Error> {
        let (parent, name) = match self {
            Self::Absent(to) => (parent(to), to.file_name().unwrap_or_default().to_owned()),
            Self::Present(to) => (to.as_path(), OsString::from("backup")),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(refused(parent))?;
        Partial::make(parent, &name)
    }

    /// Syncs all files to the disk and renames the copy to its final name.
    pub fn publish(&self, partial: &Path) -> Result<(), Error> {
        for name in FILES.iter().flat_map(|name| [".lock", ".run"].map(|suffix| format!("{name}{suffix}"))) {
            let _ = fs::remove_file(partial.join(name));
        }
        for entry in fs::read_dir(partial).map_err(failed(partial))? {
            sync(&entry.map_err(failed(partial))?.path())?;
        }
        sync(partial)?;
        match self {
            Self::Absent(to) => {
                fs::rename(partial, to).map_err(refused(to))?;
                sync(parent(to))
            }
            Self::Present(to) => {
                // A start refuses a directory with only some of the files, so a crash between the renames leaves no
                // usable store.
                let renamed =
                    FILES.into_iter().try_for_each(|name| fs::rename(partial.join(name), to.join(name)));
                if let Err(error) = renamed {
                    // The directory was empty.
                    FILES.iter().for_each(|name| drop(fs::remove_file(to.join(name))));
                    return Err(refused(to)(error));
                }
                sync(to)?;
                fs::remove_dir(partial).map_err(refused(partial))
            }
        }
    }
}

/// A copy in the data directory would be lost with the store, and would be copied or restored with it.
fn refuse_inside(to: &Path, data_dir: &Path) -> Result<(), Error> {
    let whole = std::path::absolute(to).map_err(refused(to))?;
    let nearest = whole.ancestors().find_map(|place| fs::canonicalize(place).ok());
    match (nearest, fs::canonicalize(data_dir)) {
        (Some(nearest), Ok(data_dir)) if nearest.starts_with(&data_dir) => Err(failed(to)(format!(
            "it is inside the data directory {}, and would be lost with it; name a directory elsewhere",
            data_dir.display()
        ))),
        _ => Ok(()),
    }
}

fn refuse_content(to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(to).map_err(refused(to))? {
        if entry.map_err(failed(to))?.file_name() != LOST_AND_FOUND {
            return Err(failed(to)("it is not empty; name a directory that is empty or absent"));
        }
    }
    Ok(())
}

/// The copy contains password hashes. A directory of this user is made private. A directory of another user must be
/// private already.
fn refuse_others(to: &Path, about: &fs::Metadata) -> Result<(), Error> {
    if about.mode() & 0o022 == 0 {
        return Ok(());
    }
    if about.uid() == Uid::effective().as_raw() {
        return fs::set_permissions(to, Permissions::from_mode(0o700)).map_err(refused(to));
    }
    Err(failed(to)(format!(
        "other users can write to it; name a directory in it that is to be made, such as {}/godzilla",
        to.display()
    )))
}

fn parent(to: &Path) -> &Path {
    to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(refused(path))
}
