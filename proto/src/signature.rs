//! The signed identity header between the gateway and services in other processes. The gateway signs, the services verify. All
//! roles share the key. A signature is valid for one method and path and for [`LIFETIME_MS`]. No I/O.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Identity, Timestamp};

/// The header with a signed identity. The gateway removes it from clients' requests, like every `x-authenticated-*`.
pub const HEADER: &str = "x-authenticated-identity";

/// Lifetime of a signature in milliseconds. It covers the transmission between two processes and the difference of their clocks.
pub const LIFETIME_MS: u64 = 30_000;

/// Version of the format: the first field of the header and of the signed text.
const VERSION: &str = "1";

/// The key that all roles share. `Debug` does not print it.
///
/// During a key rotation, a role signs with one key and also accepts signatures of other keys ([`Key::accept`]).
#[derive(Clone)]
pub struct Key {
    signing: Hmac<Sha256>,
    accepted: Vec<Hmac<Sha256>>,
}

/// The request that a signature is valid for: method and path with query, as sent. The body is not covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Such as `/rooms?x=1`.
    pub path: &'a str,
}

/// Error: the key is shorter than [`Key::MIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has at least {} bytes", Key::MIN)]
pub struct ShortKey;

/// Reason for rejecting a header. Callers outside receive the same refusal for all reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not of the form `1:USER:SESSION:EXPIRES:SIGNATURE`. USER and SESSION are empty for an anonymous request.
    #[error("malformed")]
    Malformed,
    /// Signed with another key, for another request, or changed in transit.
    #[error("the signature does not fit")]
    Invalid,
    /// Expired, or signed by a process whose clock is too far ahead.
    #[error("expired")]
    Expired,
}

impl Key {
    /// Minimum length in bytes.
    pub const MIN: usize = 32;

    /// Makes a key of `bytes`, which should be random.
    pub fn new(bytes: &[u8]) -> Result<Self, ShortKey> {
        if bytes.len() < Self::MIN {
            return Err(ShortKey);
        }
        let signing = Hmac::new_from_slice(bytes).map_err(|_| ShortKey)?;
        Ok(Self { signing, accepted: Vec::new() })
    }

    /// Also accepts signatures of `other`. The key for signing does not change.
    pub fn accept(&mut self, other: Self) {
        self.accepted.push(other.signing);
    }

    /// Returns the header's value for a request to `target`. `None` signs an anonymous request.
    pub fn sign(&self, identity: Option<&Identity>, target: Target<'_>, now: Timestamp) -> String {
        let (username, session) =
            identity.map_or(("", ""), |Identity { username, session }| (username.as_str(), session.as_str()));
        let expires = now.0 + LIFETIME_MS;
        let mac = mac(&self.signing, target, username, session, expires).finalize().into_bytes();
        format!("{VERSION}:{username}:{session}:{expires}:{}", hex::encode(mac))
    }

    /// A MAC of `text` in hexadecimal digits. `purpose` separates it from MACs of other texts.
    pub fn tag(&self, purpose: &str, text: &str) -> String {
        hex::encode(tagged(&self.signing, purpose, text).finalize().into_bytes())
    }

    /// Whether `tag` is the MAC of `text` under this key or an accepted one.
    pub fn has_tagged(&self, purpose: &str, text: &str, tag: &str) -> bool {
        let Ok(tag) = hex::decode(tag) else { return false };
        let mut keys = std::iter::once(&self.signing).chain(&self.accepted);
        keys.any(|key| tagged(key, purpose, text).verify_slice(&tag).is_ok())
    }

    /// Verifies the header of a request to `target`. Returns `None` for an anonymous request.
    ///
    /// # Errors
    /// When the header is malformed, its signature is invalid for `target`, or it has expired.
    pub fn verify(
        &self,
        header: &str,
        target: Target<'_>,
        now: Timestamp,
    ) -> Result<Option<Identity>, SignatureError> {
        let mut parts = header.split(':');
        let mut part = || parts.next().ok_or(SignatureError::Malformed);
        let (version, username, session, expires, signature) = (part()?, part()?, part()?, part()?, part()?);
        if version != VERSION || parts.next().is_some() {
            return Err(SignatureError::Malformed);
        }
        let expires: u64 = expires.parse().map_err(|_| SignatureError::Malformed)?;
        let signature = hex::decode(signature).map_err(|_| SignatureError::Malformed)?;
        let mut keys = std::iter::once(&self.signing).chain(&self.accepted);
        if !keys.any(|key| mac(key, target, username, session, expires).verify_slice(&signature).is_ok()) {
            return Err(SignatureError::Invalid);
        }
        if expires <= now.0 || expires > now.0 + 2 * LIFETIME_MS {
            return Err(SignatureError::Expired);
        }
        if username.is_empty() {
            return Ok(None);
        }
        let username = username.parse().map_err(|_| SignatureError::Malformed)?;
        Ok(Some(Identity { username, session: session.to_owned() }))
    }
}

/// The MAC of all fields, separated by line breaks. A request line and a header contain no line breaks, so the fields cannot be
/// shifted.
fn mac(key: &Hmac<Sha256>, target: Target<'_>, username: &str, session: &str, expires: u64) -> Hmac<Sha256> {
    let Target { method, path } = target;
    let text = format!("godzilla identity {VERSION}\n{method}\n{path}\n{username}\n{session}\n{expires}");
    key.clone().chain_update(text)
}

/// The MAC of a text other than an identity.
fn tagged(key: &Hmac<Sha256>, purpose: &str, text: &str) -> Hmac<Sha256> {
    key.clone().chain_update(format!("godzilla {purpose} {VERSION}\n{text}"))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const ME: Target<'_> = Target { method: "GET", path: "/user/me" };

    fn key() -> Key {
        Key::new(&[7; 32]).unwrap()
    }

    /// A rotation has three steps. Roles of neighbouring steps accept each other's signatures. The last step rejects the old key.
    #[test]
    fn roles_of_neighbouring_steps_of_a_rotation_accept_each_other() {
        let (old, new) = (Key::new(&[7; 32]).unwrap(), Key::new(&[8; 32]).unwrap());
        let both = |signing: &Key, other: &Key| {
            let mut key = signing.clone();
            key.accept(other.clone());
            key
        };
        let steps = [old.clone(), both(&old, &new), both(&new, &old), new.clone()];
        let accepts = |verifier: &Key, signer: &Key| {
            let header = signer.sign(Some(&alice()), ME, NOW);
            verifier.verify(&header, ME, NOW) == Ok(Some(alice()))
        };
        for (step, next) in steps.iter().zip(&steps[1..]) {
            assert!(accepts(step, next) && accepts(next, step));
        }
        assert!(!accepts(&new, &old) && !accepts(&new, &steps[1]) && !accepts(&old, &steps[2]));
    }

    fn alice() -> Identity {
        Identity { username: "alice".parse().unwrap(), session: "0a".repeat(32) }
    }

    #[test]
    fn a_signed_identity_is_accepted_until_it_expires() {
        let header = key().sign(Some(&alice()), ME, NOW);
        assert_eq!(key().verify(&header, ME, NOW), Ok(Some(alice())));
        assert_eq!(key().verify(&header, ME, Timestamp(NOW.0 + LIFETIME_MS - 1)), Ok(Some(alice())));
        assert_eq!(key().verify(&header, ME, Timestamp(NOW.0 + LIFETIME_MS)), Err(SignatureError::Expired));
        assert_eq!(
            key().verify(&header, ME, Timestamp(NOW.0 - LIFETIME_MS - 1)),
            Err(SignatureError::Expired)
        );
    }

    #[test]
    fn an_anonymous_request_is_signed_and_verified() {
        let header = key().sign(None, ME, NOW);
        assert_eq!(key().verify(&header, ME, NOW), Ok(None));
        assert_eq!(
            key().verify(&header.replacen("1::", "1:alice:", 1), ME, NOW),
            Err(SignatureError::Invalid)
        );
        let anonymous = key().sign(Some(&alice()), ME, NOW).replacen("alice", "", 1);
        assert_eq!(key().verify(&anonymous, ME, NOW), Err(SignatureError::Invalid));
    }

    #[test]
    fn a_signature_is_valid_for_its_own_request_only() {
        let header = key().sign(Some(&alice()), ME, NOW);
        for other in [
            Target { method: "POST", path: "/user/me" },
            Target { method: "GET", path: "/user/me?" },
            Target { method: "GET", path: "/rooms" },
        ] {
            assert_eq!(key().verify(&header, other, NOW), Err(SignatureError::Invalid), "{other:?}");
        }
    }

    #[test]
    fn another_key_or_a_changed_field_is_rejected() {
        let other = Key::new(&[8; 32]).unwrap().sign(Some(&alice()), ME, NOW);
        assert_eq!(key().verify(&other, ME, NOW), Err(SignatureError::Invalid));
        let header = key().sign(Some(&alice()), ME, NOW);
        let session = alice().session;
        let later = (NOW.0 + LIFETIME_MS + 1).to_string();
        for (from, to) in [
            ("alice", "bob"),
            ("alice", "Alice"),
            (session.as_str(), "0b"),
            (&(NOW.0 + LIFETIME_MS).to_string(), &later),
        ] {
            let forged = header.replacen(from, to, 1);
            assert_ne!(forged, header);
            assert_eq!(key().verify(&forged, ME, NOW), Err(SignatureError::Invalid), "{forged}");
        }
    }

    #[test]
    fn malformed_headers_are_rejected() {
        let good = key().sign(Some(&alice()), ME, NOW);
        let (body, _) = good.rsplit_once(':').unwrap();
        let bad = [
            String::new(),
            "alice".to_owned(),
            ":::::".to_owned(),
            good.replacen("1:", "2:", 1),
            format!("{good}:"),
            format!("{body}:"),
            format!("{body}:zz"),
            format!("1:alice:{}:soon:00", alice().session),
        ];
        for header in bad {
            let result = key().verify(&header, ME, NOW);
            assert!(
                matches!(result, Err(SignatureError::Malformed | SignatureError::Invalid)),
                "{header}: {result:?}"
            );
        }
    }

    #[test]
    fn a_short_key_is_refused_and_debug_prints_no_key() {
        assert_eq!(Key::new(&[7; 31]).err(), Some(ShortKey));
        assert_eq!(format!("{:?}", key()), "Key(..)");
    }
}
