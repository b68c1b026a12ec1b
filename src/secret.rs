//! Secrets: addresses that can contain a password, and the key that roles sign identities with. Parsed by
//! [`crate::config`].

mod guessable;

use std::{
    convert::Infallible,
    fmt,
    fs::OpenOptions,
    io::{self, ErrorKind, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    str::FromStr,
};

use nix::{
    libc::O_NONBLOCK,
    unistd::{getegid, geteuid},
};
use proto::signature::Key;

/// Mode bits by which other users can access a file.
const OTHERS: u32 = 0o007;

/// The maximum size of a file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The flag of the key file.
const FLAG: &str = "--secret-file (GODZILLA_SECRET_FILE)";

/// The byte order mark that editors on Windows write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Docker creates a directory when the source of a file mount does not exist.
const DIRECTORY: &str =
    "it is a directory; name a file in it. Docker creates one where the source of a mount does not exist";

/// The shell's `<(command)` is a pipe.
const IRREGULAR: &str =
    "it is not a regular file but a pipe, a socket or a device; write the content to a file and name that";

/// How to create a valid key.
const REMEDY: &str =
    "make one with `openssl rand -hex 32`, or with scripts/secrets, and give the same file to every role";

/// An address of a store. Its `Debug` output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// The flag that sets it, and its variable. Empty before [`address`] has selected the address.
    flag: &'static str,
    /// Whether it is the content of a file.
    is_in_file: bool,
}

impl Address {
    /// The address itself, for the code that connects.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The flag that sets it, and its variable.
    pub fn flag(&self) -> &'static str {
        self.flag
    }

    /// The refusal of this address, with the flag that sets it and without the address.
    pub fn refused(&self, why: &dyn fmt::Display) -> String {
        match self.is_in_file {
            true => refused(self.flag, why),
            false => format!("the value of {} is refused: {why}", self.flag),
        }
    }
}

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self { text: text.to_owned(), flag: "", is_in_file: false })
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

/// A key of these bytes. Refuses keys that are short or guessable.
fn one_key(bytes: &[u8]) -> Result<Key, String> {
    let refuse = |why: &dyn fmt::Display| refused(FLAG, &format_args!("{why}; {REMEDY}"));
    let key = Key::new(bytes)
        .map_err(|error| refuse(&format_args!("{error}, white space around it not counted")))?;
    match guessable::why(bytes) {
        Some(why) => Err(refuse(&format_args!("the key {why}, so it can be guessed"))),
        None => Ok(key),
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
    Ok(Some(Address { text: content.trim().to_owned(), flag, is_in_file: true }))
}

/// Reads a file that other users cannot access. Symbolic links are followed: Kubernetes mounts `key -> ..data/key`.
fn private(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| refused(flag, &unreadable(&error));
    // Without this flag, the open of a named pipe blocks until another process writes to it.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.is_dir() {
        return Err(refused(flag, &DIRECTORY));
    }
    if !about.is_file() {
        return Err(refused(flag, &IRREGULAR));
    }
    if about.permissions().mode() & OTHERS != 0 {
        return Err(refused(
            flag,
            &"every user of this machine can reach it; chmod 640 or less, defaultMode: 0440 (Kubernetes), mode: 0440 (Docker)",
        ));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > MAX_FILE {
        return Err(refused(flag, &format_args!("it has more than {MAX_FILE} bytes")));
    }
    // Random bytes that begin with these three are no text.
    if content.starts_with(BYTE_ORDER_MARK) && str::from_utf8(&content).is_ok() {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    if content.trim_ascii().is_empty() { Err(refused(flag, &"it is empty")) } else { Ok(content) }
}

/// Why a file cannot be read, and the remedy.
fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it does not exist; mount the secret, or correct the path".to_owned(),
        ErrorKind::PermissionDenied => format!(
            "user {} of group {} cannot read it; let them own it (Docker: uid and gid of the secret, Kubernetes: fsGroup)",
            geteuid(),
            getegid()
        ),
        _ => error.to_string(),
    }
}

fn refused(flag: &str, why: &dyn fmt::Display) -> String {
    format!("the file of {flag} is refused: {why}")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn read(content: &str, mode: u32) -> Result<Key, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        key(file.path())
    }

    /// A key of exactly the minimum length.
    const GOOD: &str = "Vb7#kk2p(Zq9!mmx4$Rt6&wwe1)Yy8*u";

    #[test]
    fn a_key_must_be_long_and_private_and_is_not_shown() {
        assert!(read(GOOD, 0o640).is_ok());
        let short = &GOOD[1..];
        let spaces = format!("{short}{}", " ".repeat(20));
        for (content, mode) in [(short, 0o600), (&spaces, 0o600), ("", 0o600), (GOOD, 0o644)] {
            let text = read(content, mode).expect_err("refused");
            assert!(text.contains("--secret-file") && !text.contains("kk2p"), "{text}");
        }
        assert!(key(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn a_guessable_key_is_refused_with_the_remedy() {
        for content in ["s3cret".repeat(6), "0".repeat(64), "changeme".repeat(8)] {
            let text = read(&content, 0o600).expect_err("refused");
            assert!(text.contains("openssl rand -hex 32") && text.contains("scripts/secrets"), "{text}");
            assert!(!text.contains(&content), "{text}");
        }
    }

    #[test]
    fn the_first_of_several_keys_signs_and_all_are_accepted() {
        use proto::{Timestamp, signature::Target};
        const OTHER: &str = "Wm4!tt9k[Lr2^ggx7%Fd5&ppe3{Nn6+j";
        let (target, now) = (Target { method: "GET", path: "/user/me" }, Timestamp(1_000));
        let (old, new) = (read(GOOD, 0o600).unwrap(), read(OTHER, 0o600).unwrap());
        let both = read(&format!("{OTHER}\n{GOOD}\n"), 0o600).unwrap();
        assert_eq!(both.sign(None, target, now), new.sign(None, target, now));
        for key in [&old, &new] {
            assert_eq!(both.verify(&key.sign(None, target, now), target, now), Ok(None));
        }
        assert!(new.verify(&old.sign(None, target, now), target, now).is_err());
        // A line break among random bytes is part of the key.
        let odd = format!("{}\n{OTHER}", "\u{1}".repeat(40));
        assert_eq!(keys(odd.as_bytes()), [odd.as_bytes()]);
        assert!(read(&format!("{GOOD}\n{}", "k".repeat(64)), 0o600).is_err(), "one of them can be guessed");
    }

    #[test]
    fn white_space_around_a_key_is_ignored() {
        use proto::{Timestamp, signature::Target};
        let target = Target { method: "GET", path: "/user/me" };
        let signed = |content: &str| read(content, 0o600).unwrap().sign(None, target, Timestamp(1_000));
        for form in ["{}\n", "{}\r\n", "{}\n\n", " {}", "{} \t", "\n{}\n", "\u{feff}{}", "\u{feff} {}\r\n"] {
            assert_eq!(signed(&form.replace("{}", GOOD)), signed(GOOD), "{form:?}");
        }
    }

    #[test]
    fn an_address_can_be_in_a_private_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = || address(("--redis-url", None), ("--redis-url-file", Some(file.path())));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        for content in ["redis://:s3cret@host\n", "\u{feff}redis://:s3cret@host\r\n"] {
            fs::write(file.path(), content).unwrap();
            assert_eq!(read().unwrap().unwrap().reveal(), "redis://:s3cret@host", "{content:?}");
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let text = read().expect_err("refused");
        assert!(text.contains("--redis-url-file") && !text.contains("s3cret"), "{text}");
        assert_eq!(address(("", None), ("", None)), Ok(None));
    }

    #[test]
    fn a_file_that_is_not_regular_or_too_large_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        mkfifo(&at("pipe"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("link")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let size = usize::try_from(MAX_FILE).unwrap();
        let key_of = |length: usize| [GOOD.as_bytes(), &vec![b' '; length - GOOD.len()]].concat();
        for (name, length) in [("whole", size), ("large", size + 1), ("sparse", 1)] {
            fs::write(at(name), key_of(length.max(GOOD.len()))).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        OpenOptions::new().write(true).open(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        let cases = [
            (at("pipe"), "not a regular file"),
            (at("link"), "not a regular file"),
            ("/dev/null".into(), "not a regular file"),
            ("/dev/zero".into(), "not a regular file"),
            (at("directory"), "it is a directory"),
            (at("large"), "more than 65536 bytes"),
            (at("sparse"), "more than 65536 bytes"),
        ];
        for (path, part) in &cases {
            let refusals = [
                key(path).expect_err("refused"),
                address(("", None), ("--redis-url-file", Some(path))).expect_err("refused"),
            ];
            for text in refusals {
                assert!(text.contains(part), "{}: {text}", path.display());
            }
        }
        assert!(key(&at("socket")).is_err(), "a socket cannot be opened");
        assert!(key(&at("whole")).is_ok());
    }

    #[test]
    fn an_address_is_not_shown() {
        let address: Address = "redis://:s3cret@host".parse().unwrap();
        assert!(!format!("{address:?}").contains("s3cret"));
    }
}
