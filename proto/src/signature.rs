//! Identity on its way from the gateway to a service in another process: one header, signed with a key that only the roles
//! have, good for one method and path and half a minute. Pure; the gateway signs, the services verify.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Identity, Timestamp};

/// The header that carries a signed identity. A client's own is removed by the gateway like every `x-authenticated-*`.
pub const HEADER: &str = "x-authenticated-identity";

/// How long a signature is good, in milliseconds. It covers the way between two of our processes and their clocks.
pub const LIFETIME_MS: u64 = 30_000;

/// First in every header and every signed text: another version is another format.
const VERSION: &str = "1";

/// The key that all roles share. Its `Debug` shows nothing of it.
///
/// While a key is replaced, a role signs with one key and accepts signatures of others too ([`Key::accept`]).
#[derive(Clone)]
pub struct Key {
    signing: Hmac<Sha256>,
    accepted: Vec<Hmac<Sha256>>,
}

/// What a signature is for: the request's method and its path with the query, as sent. It is good for no other; the body is not covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Such as `/rooms?x=1`.
    pub path: &'a str,
}

/// The key is shorter than [`Key::MIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has at least {} bytes", Key::MIN)]
pub struct ShortKey;

/// Why a header names nobody. All of them are one refusal to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Not of the form `1:USER:SESSION:EXPIRES:SIGNATURE`, where nobody has neither name nor session.
    #[error("malformed")]
    Malformed,
    /// Signed with another key, for another request, or changed on its way.
    #[error("the signature does not fit")]
    Forged,
    /// Too old, or from a clock that is far ahead.
    #[error("expired")]
    Expired,
}

impl Key {
    /// The least number of bytes.
    pub const MIN: usize = 32;

    /// The key of these bytes, which should be random.
    pub fn new(bytes: &[u8]) -> Result<Self, ShortKey> {
        if bytes.len() < Self::MIN {
            return Err(ShortKey);
        }
        let signing = Hmac::new_from_slice(bytes).map_err(|_| ShortKey)?;
        Ok(Self { signing, accepted: Vec::new() })
    }

    /// Accepts signatures of `other` too. Signing does not change.
    pub fn accept(&mut self, other: Self) {
        self.accepted.push(other.signing);
    }

    /// The header's value that tells a service who asks for `target`; none is nobody, which only a gateway can say, either.
    pub fn sign(&self, identity: Option<&Identity>, target: Target<'_>, now: Timestamp) -> String {
        let (username, session) =
            identity.map_or(("", ""), |Identity { username, session }| (username.as_str(), session.as_str()));
        let expires = now.0 + LIFETIME_MS;
        let mac = mac(&self.signing, target, username, session, expires).finalize().into_bytes();
        format!("{VERSION}:{username}:{session}:{expires}:{}", hex::encode(mac))
    }

    /// Who asks for `target`, when a role with this key has said so a moment ago; none for somebody who is not logged in.
    ///
    /// # Errors
    /// For anything else.
    pub fn verify(
        &self,
        header: &str,
        target: Target<'_>,
        now: Timestamp,
    ) -> Result<Option<Identity>, Unproven> {
        let mut parts = header.split(':');
        let mut part = || parts.next().ok_or(Unproven::Malformed);
        let (version, username, session, expires, signature) = (part()?, part()?, part()?, part()?, part()?);
        if version != VERSION || parts.next().is_some() {
            return Err(Unproven::Malformed);
        }
        let expires: u64 = expires.parse().map_err(|_| Unproven::Malformed)?;
        let signature = hex::decode(signature).map_err(|_| Unproven::Malformed)?;
        let mut keys = std::iter::once(&self.signing).chain(&self.accepted);
        if !keys.any(|key| mac(key, target, username, session, expires).verify_slice(&signature).is_ok()) {
            return Err(Unproven::Forged);
        }
        if expires <= now.0 || expires > now.0 + 2 * LIFETIME_MS {
            return Err(Unproven::Expired);
        }
        if username.is_empty() {
            return Ok(None);
        }
        let username = username.parse().map_err(|_| Unproven::Malformed)?;
        Ok(Some(Identity { username, session: session.to_owned() }))
    }
}

/// Over a text in which no field can reach into its neighbour: a request line and a header hold no line breaks.
fn mac(key: &Hmac<Sha256>, target: Target<'_>, username: &str, session: &str, expires: u64) -> Hmac<Sha256> {
    let Target { method, path } = target;
    let text = format!("godzilla identity {VERSION}\n{method}\n{path}\n{username}\n{session}\n{expires}");
    key.clone().chain_update(text)
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

    /// The three steps of a rotation: roles of neighbouring steps accept each other, and the old key ends.
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
    fn a_signed_identity_is_believed_until_it_expires() {
        let header = key().sign(Some(&alice()), ME, NOW);
        assert_eq!(key().verify(&header, ME, NOW), Ok(Some(alice())));
        assert_eq!(key().verify(&header, ME, Timestamp(NOW.0 + LIFETIME_MS - 1)), Ok(Some(alice())));
        assert_eq!(key().verify(&header, ME, Timestamp(NOW.0 + LIFETIME_MS)), Err(Unproven::Expired));
        assert_eq!(key().verify(&header, ME, Timestamp(NOW.0 - LIFETIME_MS - 1)), Err(Unproven::Expired));
    }

    #[test]
    fn nobody_is_signed_like_everybody() {
        let header = key().sign(None, ME, NOW);
        assert_eq!(key().verify(&header, ME, NOW), Ok(None));
        assert_eq!(key().verify(&header.replacen("1::", "1:alice:", 1), ME, NOW), Err(Unproven::Forged));
        let nobody = key().sign(Some(&alice()), ME, NOW).replacen("alice", "", 1);
        assert_eq!(key().verify(&nobody, ME, NOW), Err(Unproven::Forged));
    }

    #[test]
    fn a_signature_is_good_for_its_own_request_only() {
        let header = key().sign(Some(&alice()), ME, NOW);
        for other in [
            Target { method: "POST", path: "/user/me" },
            Target { method: "GET", path: "/user/me?" },
            Target { method: "GET", path: "/rooms" },
        ] {
            assert_eq!(key().verify(&header, other, NOW), Err(Unproven::Forged), "{other:?}");
        }
    }

    #[test]
    fn another_key_or_a_changed_field_proves_nothing() {
        let other = Key::new(&[8; 32]).unwrap().sign(Some(&alice()), ME, NOW);
        assert_eq!(key().verify(&other, ME, NOW), Err(Unproven::Forged));
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
            assert_eq!(key().verify(&forged, ME, NOW), Err(Unproven::Forged), "{forged}");
        }
    }

    #[test]
    fn what_has_another_form_is_malformed() {
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
            let said = key().verify(&header, ME, NOW);
            assert!(matches!(said, Err(Unproven::Malformed | Unproven::Forged)), "{header}: {said:?}");
        }
    }

    #[test]
    fn a_short_key_is_refused_and_no_key_shows_itself() {
        assert_eq!(Key::new(&[7; 31]).err(), Some(ShortKey));
        assert_eq!(format!("{:?}", key()), "Key(..)");
    }
}
