//! Where in `--data-dir` the files are. A volume's root is often open to others (k3s, kind, microk8s and emptyDir make it 0777,
//! fsGroup lets a group write) and holds what is not ours (`lost+found`): then they are in a directory of our own inside.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use super::{FILES, unusable};
use crate::error::Error;

/// The name of our own directory.
const OWN: &str = "godzilla";

/// The directory that has the files, or will have them. Makes nothing.
pub fn resolve(data_dir: &Path) -> Result<PathBuf, Error> {
    let own = data_dir.join(OWN);
    match (contains_store(data_dir)?, contains_store(&own)?) {
        (true, true) => Err(unusable(data_dir)(format!(
            "there is a store in it and another one in {}; move the one away that is not wanted",
            own.display()
        ))),
        (true, false) => Ok(data_dir.to_owned()),
        (false, true) => Ok(own),
        (false, false) if is_shared(data_dir) => Ok(own),
        (false, false) => Ok(data_dir.to_owned()),
    }
}

/// Makes `directory`, if it is our own one inside of `data_dir`, and sees to it that only this user can enter it.
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
    // Not followed: a link could lead to a directory of another user.
    let about = fs::symlink_metadata(directory).map_err(unusable(data_dir))?;
    if !about.is_dir() || about.uid() != Uid::effective().as_raw() {
        return Err(unusable(data_dir)(format!("{} is not a directory of this user", directory.display())));
    }
    // Kubernetes opens it to the volume's group at every mount.
    if about.mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(unusable(data_dir))?;
    }
    tracing::warn!(
        data_dir = %data_dir.display(), directory = %directory.display(),
        "others can write to the data directory, so the store is in a directory of its own inside"
    );
    Ok(())
}

/// Whether one of the files is in it. A directory that this user may not look into is not one without a store.
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

/// Whether it is there and anybody else can put files into it or take them away.
fn is_shared(directory: &Path) -> bool {
    let Ok(about) = fs::metadata(directory) else { return false };
    about.mode() & 0o022 != 0 || about.uid() != Uid::effective().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A data directory with this mode; what is made in it beforehand.
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
    fn the_root_of_a_volume_gets_a_directory_inside_and_old_stores_stay_where_they_are() {
        // Mode of the root, files in it, the place: the root, our own directory, or a refusal.
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
    fn our_own_directory_is_private_and_not_somebody_elses() {
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
