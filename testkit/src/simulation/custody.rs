//! Rule 5 of the design: the operator stores credentials before anything else.
//!
//! A remote side may show credentials only once. From the moment at which a process has received those of a new key,
//! until a Secret contains them, the process may revoke no other key of the ServiceKey, and create no other one. Another
//! process can't know the credentials, and a key that is revoked itself needs no Secret.

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

/// The credentials that processes have received and not stored yet, by ServiceKey.
#[derive(Debug, Default)]
pub struct Custody(BTreeMap<Uuid, InHand>);

/// Credentials that only one process knows.
#[derive(Debug)]
struct InHand {
    process: String,
    key: String,
    secret: String,
    since: Instant,
}

/// A request of a process, as the effect at a remote side shows it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The process.
    pub process: String,
    /// When the process sent it.
    pub at: Instant,
}

impl Custody {
    /// A process received the credentials of this key of a ServiceKey.
    pub fn receive(&mut self, process: &str, owner: Uuid, key: &str, secret: &str) {
        let (process, key, secret) = (process.to_owned(), key.to_owned(), secret.to_owned());
        self.0.insert(owner, InHand { process, key, secret, since: Instant::now() });
    }

    /// A Secret contains this text.
    pub fn store(&mut self, text: &str) {
        self.0.retain(|_, held| held.secret != text);
    }

    /// A key is gone.
    pub fn lose(&mut self, key: &str) {
        self.0.retain(|_, held| held.key != key);
    }

    /// A process has ended.
    pub fn end(&mut self, process: &str) {
        self.0.retain(|_, held| held.process != process);
    }

    /// The key of the ServiceKey whose credentials the process had to store before it sent a request about another key.
    #[must_use]
    pub fn neglected(&self, owner: Uuid, key: &str, request: &Sent) -> Option<&str> {
        let held = self.0.get(&owner)?;
        let is_neglected = held.process == request.process && held.since <= request.at && held.key != key;
        is_neglected.then_some(held.key.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Uuid = Uuid::from_u128(1);

    #[test]
    fn only_the_process_that_knows_the_credentials_has_to_store_them_first() {
        let mut custody = Custody::default();
        let early = Sent { process: "a".to_owned(), at: Instant::now() };
        custody.receive("a", OWNER, "next", "s3cret");
        let late = |process: &str| Sent { process: process.to_owned(), at: Instant::now() };
        assert_eq!(custody.neglected(OWNER, "previous", &late("a")), Some("next"));
        assert_eq!(custody.neglected(OWNER, "next", &late("a")), None);
        assert_eq!(custody.neglected(OWNER, "previous", &late("b")), None);
        assert_eq!(custody.neglected(OWNER, "previous", &early), None);
        custody.store("s3cret");
        assert_eq!(custody.neglected(OWNER, "previous", &late("a")), None);
    }
}
