//! Addresses of stores. The scheme names the backend.

use std::{
    ffi::OsString,
    fmt::{self, Display},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use super::{BACKENDS, Backend};
use crate::{
    config::{self, shared},
    secret::Address,
};

/// The scheme of a directory.
const DIRECTORY: &str = "sqlite";

/// The address of a store, such as `mongodb://host/database` or `sqlite:./data`. Its `Debug` output does not contain it, because it can
/// contain a password.
#[derive(Clone)]
pub struct StoreUrl {
    /// The flag that sets it, and its variable.
    pub flag: &'static str,
    scheme: String,
    /// A URL with its scheme, or the path of a directory without it.
    value: OsString,
    /// The address of services.
    address: Option<Address>,
}

impl StoreUrl {
    /// The address in `--mongo-uri` or its file.
    ///
    /// # Errors
    /// When the flag is missing or its file cannot be read.
    pub fn of_services(flags: &shared::Mongo) -> Result<Self, String> {
        let uri = flags.uri()?;
        let scheme = uri.reveal().split_once(':').map_or("", |(scheme, _)| scheme);
        Ok(Self {
            flag: uri.flag(),
            scheme: scheme.to_owned(),
            value: uri.reveal().into(),
            address: Some(uri),
        })
    }

    /// The address in `--data-dir`: a directory, or a URL whose scheme names a backend.
    pub fn of_data_dir(flags: &config::Store) -> Self {
        let value = flags.data_dir.as_os_str();
        let names = BACKENDS.iter().flat_map(|backend| backend.schemes);
        let has = |scheme: &&&str| value.as_bytes().starts_with(format!("{scheme}:").as_bytes());
        let scheme = names.into_iter().find(has).copied().unwrap_or(DIRECTORY);
        let value = if scheme == DIRECTORY { flags.directory().as_os_str() } else { value };
        Self {
            flag: "--data-dir (GODZILLA_DATA_DIR)",
            scheme: scheme.to_owned(),
            value: value.to_owned(),
            address: None,
        }
    }

    /// The backend of the scheme, if there is one.
    pub fn backend(&self) -> Option<&'static Backend> {
        BACKENDS.iter().find(|backend| backend.schemes.contains(&self.scheme.as_str()))
    }

    /// The URL, for the code that connects. Empty when it is not UTF-8.
    pub fn reveal(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }

    /// The refusal of this URL, with the flag that sets it and without the URL.
    pub fn refused(&self, why: &dyn Display) -> String {
        match &self.address {
            Some(address) => address.refused(why),
            None => format!("the value of {} is refused: {why}", self.flag),
        }
    }

    /// The directory, for backends in files.
    pub fn directory(&self) -> &Path {
        Path::new(self.value.as_os_str())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreUrl").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::PathBuf};

    use super::*;

    #[test]
    fn the_scheme_names_the_backend() {
        let of =
            |data_dir: &OsStr| StoreUrl::of_data_dir(&config::Store { data_dir: PathBuf::from(data_dir) });
        let bytes = OsStr::from_bytes(b"caf\xe9");
        let rows: [(&OsStr, &OsStr); 6] = [
            ("./data".as_ref(), "./data".as_ref()),
            ("sqlite:./data".as_ref(), "./data".as_ref()),
            ("sqlite:/var/lib/x".as_ref(), "/var/lib/x".as_ref()),
            ("a:b".as_ref(), "a:b".as_ref()),
            ("sqlite".as_ref(), "sqlite".as_ref()),
            (bytes, bytes),
        ];
        for (value, directory) in rows {
            let url = of(value);
            assert_eq!(
                (url.scheme.as_str(), url.directory()),
                (DIRECTORY, Path::new(directory)),
                "{value:?}"
            );
            assert!(url.backend().is_some_and(|backend| backend.open_embedded.is_some()), "{value:?}");
        }
        for (value, is_shared) in [
            ("mongodb://s3cret", true),
            ("mongodb+srv://s3cret", true),
            ("s3cret", false),
            ("postgres://s3cret", false),
        ] {
            let flags = shared::Mongo { mongo_uri: value.parse().ok(), mongo_uri_file: None };
            let url = StoreUrl::of_services(&flags).unwrap();
            let backend = url.backend();
            assert_eq!(backend.is_some_and(|backend| backend.open_shared.is_some()), is_shared, "{value}");
            assert!(!format!("{url:?}").contains("s3cret"));
        }
    }
}
