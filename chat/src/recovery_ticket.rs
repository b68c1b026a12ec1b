//! Recovery tickets: the private id (`pid`) that a client gets at CONNECT and shows at a later one to recover its session, on any node and after
//! a restart. A ticket is signed, so no store has it. Called by [`crate::client`].

use proto::{Timestamp, Username, signature::Key};

/// Lifetime of a ticket in milliseconds: the maximum lifetime of the login session under which it was issued.
pub const LIFETIME_MS: u64 = sessions::LIFETIME_SECONDS * 1000;

/// Separates the signatures of tickets from others under the same key.
const PURPOSE: &str = "recovery ticket";

/// What a ticket states about the session of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryTicket {
    /// The socket id, which the client keeps.
    pub sid: String,
    /// The last offset of the log when the client connected. Recovery starts there if the client has received no message.
    pub since: u64,
    /// Time of issue.
    pub issued: Timestamp,
}

/// The key that signs tickets. All nodes of a deployment have the same.
#[derive(Debug)]
pub struct TicketKey(Key);

impl TicketKey {
    /// Tickets under `key`.
    pub fn new(key: Key) -> Self {
        Self(key)
    }

    /// The ticket as `SID:SINCE:ISSUED:SIGNATURE`. Only `user` can use it.
    pub fn sign(&self, user: &Username, ticket: &RecoveryTicket) -> String {
        let RecoveryTicket { sid, since, issued } = ticket;
        let fields = format!("{sid}:{since}:{}", issued.0);
        let tag = self.0.tag(PURPOSE, &signed_text(user, &fields));
        format!("{fields}:{tag}")
    }

    /// The ticket that `pid` is. `None` when it was not signed for `user`, or has expired.
    pub fn verify(&self, user: &Username, pid: &str, now: Timestamp) -> Option<RecoveryTicket> {
        let (fields, tag) = pid.rsplit_once(':')?;
        if !self.0.has_tagged(PURPOSE, &signed_text(user, fields), tag) {
            return None;
        }
        let mut parts = fields.rsplitn(3, ':');
        let issued = Timestamp(parts.next()?.parse().ok()?);
        let since = parts.next()?.parse().ok()?;
        let sid = parts.next()?.to_owned();
        (now.0 < issued.0.saturating_add(LIFETIME_MS)).then_some(RecoveryTicket { sid, since, issued })
    }
}

/// The text under the signature. A name has no line break, so the fields cannot be shifted.
fn signed_text(user: &Username, fields: &str) -> String {
    format!("{}\n{fields}", user.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn key(byte: u8) -> TicketKey {
        TicketKey::new(Key::new(&[byte; 32]).unwrap())
    }

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn ticket() -> RecoveryTicket {
        RecoveryTicket { sid: "abc-DEF_1".to_owned(), since: 7, issued: NOW }
    }

    #[test]
    fn a_ticket_is_valid_for_its_user_until_it_expires() {
        let pid = key(1).sign(&user("alice"), &ticket());
        assert_eq!(key(1).verify(&user("ALICE"), &pid, NOW), Some(ticket()));
        assert_eq!(key(1).verify(&user("alice"), &pid, Timestamp(NOW.0 + LIFETIME_MS - 1)), Some(ticket()));
        assert_eq!(key(1).verify(&user("alice"), &pid, Timestamp(NOW.0 + LIFETIME_MS)), None);
        assert_eq!(key(1).verify(&user("mallory"), &pid, NOW), None);
    }

    #[test]
    fn a_changed_ticket_and_one_of_another_key_are_refused() {
        let pid = key(1).sign(&user("alice"), &ticket());
        assert_eq!(key(2).verify(&user("alice"), &pid, NOW), None);
        for changed in [pid.replacen(":7:", ":8:", 1), pid.replacen("abc", "abd", 1), format!("{pid}0")] {
            assert_eq!(key(1).verify(&user("alice"), &changed, NOW), None, "{changed}");
        }
        for nothing in ["", ":", ":::", "a:1:2:", "7"] {
            assert_eq!(key(1).verify(&user("alice"), nothing, NOW), None, "{nothing}");
        }
    }
}
