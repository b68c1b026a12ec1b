//! The directory of the files within `--data-dir`. The root of a volume is often accessible to other users (k3s, kind,
//! microk8s and emptyDir set mode 0777, fsGroup lets a group write) and contains other files (`lost+found`). The files
//! are then in a private subdirectory.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use super::{FILES, unusable};
use crate::error::Error;

/// The name of the private subdirectory.
const OWN: &str = "godzilla";

/// The directory that contains the files, or will contain them. Creates nothing.
pub fn resolve(data_dir: &Path) -> Result<PathBuf, Error> {
    let own = data_dir.join(OWN);
    match (contains_store(data_dir)?, contains_store(&own)?) {
        (true, true) => Err(unusable(data_dir)(format!(
            "there is a store in it and another one in {}; move one of them away",
            own.display()
        ))),
        (true, false) => Ok(data_dir.to_owned()),
        (false, true) => Ok(own),
        (false, false) if is_shared(data_dir) => Ok(own),
        (false, false) => Ok(data_dir.to_owned()),
    }
}

/// Creates `directory`, if it is the private subdirectory of `data_dir`, and restricts access to this user.
pub fn make_private(data_dir: &Path, directory: &Path) -> Result<(), Error> {
    if data_dir == directory {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => match embedded::cause_of(directory, &error) {
            Some(cause) => return Err(unusable(data_dir)(cause)),
            None => return Err(unusable(data_dir)(error)),
        },
    }
    // Links are not followed: a link can lead to a directory of another user.
    let about = fs::symlink_metadata(directory).map_err(unusable(data_dir))?;
    if !about.is_dir() || about.uid() != Uid::effective().as_raw() {
        return Err(unusable(data_dir)(format!("{} is not a directory of this user", directory.display())));
    }
    // Kubernetes opens the directory to the group of the volume at every mount.
    if about.mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(unusable(data_dir))?;
    }
    tracing::warn!(
        data_dir = %data_dir.display(), directory = %directory.display(),
        "others can write to the data directory, so the store is in a private subdirectory"
    );
    Ok(())
}

/// Whether the directory contains one of the files. A directory that this user cannot read is an error and not a
/// directory without a store.
pub fn contains_store(directory: &Path) -> Result<bool, Error> {
    for name in FILES {
        match directory.join(name).symlink_metadata() {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(unusable(directory)(format!(
                    "permission denied: user {} may not look into {}; run as the user that owns it",
                    Uid::effective(),
                    directory.display()
                )));
            }
            Err(_) => {}
        }
    }
    Ok(false)
}

/// Whether the directory exists and other users can add or remove files in it.
fn is_shared(directory: &Path) -> bool {
    let Ok(about) = fs::metadata(directory) else { return false };
    about.mode() & 0o022 != 0 || about.uid() != Uid::effective().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A data directory with this mode and these files.
    fn root(mode: u32, files: &[&str]) -> TempDir {
        let root = TempDir::new().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "content").unwrap();
        }
        fs::set_permissions(root.path(), Permissions::from_mode(mode)).unwrap();
        root
    }

    #[test]
    fn a_shared_root_gets_a_subdirectory_and_existing_stores_keep_their_directory() {
        // Mode of the root, files in it, and the result: the root (`""`), the private subdirectory, or `None` for an
        // error.
        let cases: [(u32, &[&str], Option<&str>); 10] = [
            (0o700, &[], Some("")),
            (0o755, &[], Some("")),
            (0o755, &["lost+found/x"], Some("")),
            (0o777, &[], Some(OWN)),
            (0o777, &["lost+found/x"], Some(OWN)),
            (0o1777, &[], Some(OWN)),
            (0o2775, &[], Some(OWN)),
            (0o700, &["users.sqlite3"], Some("")),
            (0o700, &["godzilla/chat.sqlite3"], Some(OWN)),
            (0o777, &["godzilla/chat.sqlite3", "users.sqlite3"], None),
        ];
        for (mode, files, expected) in cases {
            let root = root(mode, files);
            let place = resolve(root.path());
            match expected {
                Some(inside) => assert_eq!(place.unwrap(), root.path().join(inside), "{mode:o} {files:?}"),
                None => assert!(place.unwrap_err().to_string().contains("another one"), "{mode:o} {files:?}"),
            }
        }
        assert_eq!(resolve(Path::new("not/there")).unwrap(), Path::new("not/there"));
    }

    #[test]
    fn the_subdirectory_is_private_and_owned_by_this_user() {
        let root = root(0o777, &[]);
        let own = resolve(root.path()).unwrap();
        make_private(root.path(), &own).unwrap();
        fs::set_permissions(&own, Permissions::from_mode(0o2770)).unwrap();
        make_private(root.path(), &own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        fs::remove_dir(&own).unwrap();
        symlink("/tmp", &own).unwrap();
        assert!(make_private(root.path(), &own).is_err(), "a link");
        fs::remove_file(&own).unwrap();
        fs::write(&own, "").unwrap();
        assert!(make_private(root.path(), &own).is_err(), "a file");
    }
}
