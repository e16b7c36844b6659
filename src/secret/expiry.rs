//! Finds the times at which credentials stop working by themselves: the ends of certificates and tokens in them.
//!
//! The remote side is not trusted. The credentials have a bounded size, each part is read once, and at most
//! [`certificate::MOST_KEYS`] private keys are decoded.

mod certificate;
mod token;

use serde_json::{Map, Value};

use crate::lifecycle::CredentialEnd;

/// The parts of credentials whose ends count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpiryParts {
    /// Whether certificates count.
    pub certificates: bool,
    /// JSON Pointers (RFC 6901) to JSON Web Tokens.
    pub tokens: Vec<String>,
}

/// Limit in bytes. A longer JSON Pointer is cut.
const LONGEST_POINTER: usize = 253;

/// The ends of all these parts.
#[must_use]
pub(crate) fn ends(credentials: &Map<String, Value>, parts: &ExpiryParts) -> Vec<CredentialEnd> {
    let certificates = parts.certificates.then(|| certificate::ends(credentials));
    let tokens = parts.tokens.iter().map(|pointer| token::end(credentials, pointer));
    certificates.into_iter().flatten().chain(tokens).collect()
}

/// The JSON Pointer to a member of a value.
fn pointer_to(parent: &str, member: &str) -> String {
    let pointer = format!("{parent}/{}", member.replace('~', "~0").replace('/', "~1"));
    let printable = pointer.chars().filter(|character| !character.is_control());
    let mut size = 0;
    printable
        .take_while(|character| {
            size += character.len_utf8();
            size <= LONGEST_POINTER
        })
        .collect()
}
