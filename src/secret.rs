//! Secrets: addresses that can contain a password, and the key that roles sign identities with. Parsed by
//! [`crate::config`].

use std::{
    convert::Infallible, fmt, fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path, str::FromStr,
};

use proto::signature::Key;

/// Mode bits by which other users can access a file.
const OTHERS: u32 = 0o007;

/// The maximum size of a file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The flag of the key file.
const FLAG: &str = "--secret-file (GODZILLA_SECRET_FILE)";

/// How to create a valid key.
const REMEDY: &str =
    "make one with `openssl rand -hex 32`, or with scripts/secrets, and give the same file to every role";

/// An address of a store. Its `Debug` output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// The flag that sets it, and its variable. Empty before [`address`] has selected the address.
    flag: &'static str,
}

impl Address {
    /// The address itself, for the code that connects.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The refusal of this address, with the flag that sets it and without the address.
    pub fn refused(&self, why: &dyn fmt::Display) -> String {
        refused(self.flag, why)
    }
}

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self { text: text.to_owned(), flag: "" })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// Reads the key from a file. White space around it is removed, so that a final line break does not change the key.
///
/// During a key rotation the file contains several keys of printable text, one per line. The first one signs, and all
/// of them are accepted.
///
/// # Errors
/// The reason, without the content of the file.
pub fn key(path: &Path) -> Result<Key, String> {
    let content = private(FLAG, path)?;
    let mut keys = keys(content.trim_ascii()).into_iter().map(one_key);
    let mut signing = keys.next().unwrap_or_else(|| one_key(&[]))?;
    for accepted in keys {
        signing.accept(accepted?);
    }
    Ok(signing)
}

/// The keys in the content of a file. Content with other than printable bytes is one key, including its line breaks.
fn keys(content: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let is_key = |line: &&[u8]| line.len() >= Key::MIN && line.iter().all(u8::is_ascii_graphic);
    if lines.iter().all(is_key) { lines } else { vec![content] }
}

/// A key of these bytes. Refuses keys that are short or one repeated byte.
fn one_key(bytes: &[u8]) -> Result<Key, String> {
    let refuse = |why: &dyn fmt::Display| refused(FLAG, &format_args!("{why}; {REMEDY}"));
    let key = Key::new(bytes).map_err(|error| refuse(&error))?;
    match bytes.iter().all(|byte| *byte == bytes[0]) {
        true => Err(refuse(&"the key is one repeated byte")),
        false => Ok(key),
    }
}

/// The given address, or the content of the given file, each with its flag.
///
/// # Errors
/// The reason, without the content of the file.
pub fn address(
    given: (&'static str, Option<&Address>),
    file: (&'static str, Option<&Path>),
) -> Result<Option<Address>, String> {
    let (flag, Some(path)) = file else {
        let (flag, address) = given;
        return Ok(address.map(|address| Address { flag, ..address.clone() }));
    };
    let content = String::from_utf8(private(flag, path)?).map_err(|_| refused(flag, &"it is no text"))?;
    Ok(Some(Address { text: content.trim().to_owned(), flag }))
}

/// The content of a file that other users of the machine cannot read.
fn private(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut content = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut content)?;
        Ok((mode, content))
    };
    let (mode, content) = read().map_err(|error: std::io::Error| refused(flag, &error))?;
    if mode & OTHERS != 0 {
        let why = "every user of this machine can reach it; chmod 640 or less, defaultMode: 0440 (Kubernetes), mode: 0440 (Docker)";
        return Err(refused(flag, &why));
    }
    Ok(content)
}

fn refused(flag: &str, why: &dyn fmt::Display) -> String {
    format!("the value of {flag} is refused: {why}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proto::{Timestamp, signature::Target};

    use super::*;

    /// A key of exactly the minimum length.
    const GOOD: &str = "Vb7#kk2p(Zq9!mmx4$Rt6&wwe1)Yy8*u";

    fn in_file<T>(content: &str, mode: u32, read: impl FnOnce(&Path) -> T) -> T {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        read(file.path())
    }

    #[test]
    fn a_key_must_be_long_and_private_and_is_not_shown() {
        assert!(in_file(&format!(" {GOOD}\r\n"), 0o640, key).is_ok());
        let (short, same) = (&GOOD[1..], "0".repeat(64));
        for (content, mode) in [(short, 0o600), (&same, 0o600), ("", 0o600), (GOOD, 0o644)] {
            let text = in_file(content, mode, key).expect_err("refused");
            assert!(text.contains("--secret-file") && !text.contains("kk2p"), "{text}");
        }
        assert!(key(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn the_first_of_several_keys_signs_and_all_are_accepted() {
        const OTHER: &str = "Wm4!tt9k[Lr2^ggx7%Fd5&ppe3{Nn6+j";
        let (target, now) = (Target { method: "GET", path: "/user/me" }, Timestamp(1_000));
        let read = |content: &str| in_file(content, 0o600, key).unwrap();
        let (old, new, both) = (read(GOOD), read(OTHER), read(&format!("{OTHER}\n{GOOD}\n")));
        assert_eq!(both.sign(None, target, now), new.sign(None, target, now));
        for key in [&old, &new] {
            assert_eq!(both.verify(&key.sign(None, target, now), target, now), Ok(None));
        }
        assert!(new.verify(&old.sign(None, target, now), target, now).is_err());
    }

    #[test]
    fn an_address_can_be_in_a_private_file_and_is_not_shown() {
        let read = |path: &Path| address(("--redis-url", None), ("--redis-url-file", Some(path)));
        let address = in_file("redis://:s3cret@host\n", 0o640, read).unwrap().unwrap();
        assert_eq!(address.reveal(), "redis://:s3cret@host");
        assert!(!format!("{address:?}").contains("s3cret"));
        let text = in_file("redis://:s3cret@host", 0o644, read).expect_err("refused");
        assert!(text.contains("--redis-url-file") && !text.contains("s3cret"), "{text}");
    }
}
