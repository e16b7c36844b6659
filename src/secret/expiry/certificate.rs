//! The ends of X.509 certificates (RFC 5280) in PEM (RFC 7468).
//!
//! Only the consumer's own certificates count: the consumer identifies itself with them, so their private keys are in the
//! credentials too. Certificates of authorities do not count. The consumer verifies the service with them, and bundles
//! often contain expired ones.

use std::{borrow::Cow, collections::BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{
        PrivateKeyDer,
        pem::{PemObject, SectionKind},
    },
};
use serde_json::{Map, Value};
use x509_cert::{
    der::{Decode, Encode},
    ext::pkix::BasicConstraints,
};
use zeroize::Zeroizing;

use super::pointer_to;
use crate::lifecycle::{CredentialEnd, ExpirySource};

/// The most private keys that are decoded. Further ones could be those of any certificate.
pub(super) const MOST_KEYS: usize = 16;

const BEGIN: &str = "-----BEGIN ";
/// The same in base64, as some services encode PEM once more.
const ENCODED_BEGIN: &str = "LS0tLS1CRUdJTi";
/// The end of the label of each kind of private key, encrypted ones included.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The ends of all certificates that count, each with the JSON Pointer of its entry.
pub(super) fn ends(credentials: &Map<String, Value>) -> Vec<CredentialEnd> {
    let mut found = Found::default();
    found.search(credentials, "");
    found.ends()
}

/// The certificates and private keys in credentials.
#[derive(Default)]
struct Found {
    certificates: Vec<(String, Result<Certificate, Unreadable>)>,
    /// The public keys of the private keys: `SubjectPublicKeyInfo` in DER.
    public_keys: BTreeSet<Vec<u8>>,
    /// The number of private keys.
    keys: usize,
    /// Whether there are private keys whose public key is unknown.
    has_unknown_key: bool,
}

/// A certificate that is not one of an authority.
struct Certificate {
    public_key: Vec<u8>,
    /// `None` if it has no end: RFC 5280, section 4.1.2.5, has the last second of the year 9999 for that.
    ends: Option<Timestamp>,
}

struct Unreadable;

impl Found {
    fn search(&mut self, members: &Map<String, Value>, parent: &str) {
        for (name, value) in members {
            self.search_value(value, &pointer_to(parent, name));
        }
    }

    fn search_value(&mut self, value: &Value, pointer: &str) {
        match value {
            Value::String(text) => self.read(text, pointer),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.search_value(item, &pointer_to(pointer, &index.to_string()));
                }
            }
            Value::Object(members) => self.search(members, pointer),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn read(&mut self, text: &str, pointer: &str) {
        let Some(text) = pem(text) else { return };
        let before = self.keys;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let Ok((kind, der)) = section else { continue };
            let der = Zeroizing::new(der);
            match kind {
                SectionKind::Certificate => {
                    let found = certificate(&der).transpose();
                    self.certificates.extend(found.map(|found| (pointer.to_owned(), found)));
                }
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    self.add_key(&der);
                }
                _ => {}
            }
        }
        // Sections that can't be decoded, such as encrypted keys.
        let begun =
            text.lines().filter(|line| line.starts_with(BEGIN) && line.trim_end().ends_with(PRIVATE_KEY));
        self.has_unknown_key |= begun.count() > self.keys - before;
    }

    fn add_key(&mut self, der: &[u8]) {
        self.keys += 1;
        let public_key = (self.keys <= MOST_KEYS).then(|| public_key(der)).flatten();
        match public_key {
            Some(public_key) => drop(self.public_keys.insert(public_key)),
            None => self.has_unknown_key = true,
        }
    }

    fn ends(self) -> Vec<CredentialEnd> {
        let Self { certificates, public_keys, keys, has_unknown_key } = self;
        let ends = certificates.into_iter().filter_map(|(pointer, certificate)| {
            let at = match certificate {
                Ok(Certificate { public_key, ends }) => {
                    let has_key = has_unknown_key || public_keys.contains(&public_key);
                    Some(ends.filter(|_| has_key)?)
                }
                Err(Unreadable) if keys > 0 || has_unknown_key => None,
                Err(Unreadable) => return None,
            };
            Some(CredentialEnd { at, source: ExpirySource::Certificate(pointer) })
        });
        ends.collect()
    }
}

/// The text as PEM: with line breaks, and decoded if it is base64 of PEM. `None` if it is neither.
fn pem(text: &str) -> Option<Zeroizing<String>> {
    let text = text.trim();
    let text: Cow<'_, str> = if text.starts_with(ENCODED_BEGIN) {
        let packed = Zeroizing::new(text.split_ascii_whitespace().collect::<String>());
        String::from_utf8(STANDARD.decode(&*packed).ok()?).ok()?.into()
    } else {
        text.into()
    };
    // Some services write the line breaks as the two characters `\n`.
    text.contains(BEGIN).then(|| Zeroizing::new(text.replace("\\n", "\n")))
}

/// Reads a certificate; `None` if it is an authority.
fn certificate(der: &[u8]) -> Result<Option<Certificate>, Unreadable> {
    let certificate = x509_cert::Certificate::from_der(der).map_err(|_| Unreadable)?;
    let certificate = certificate.tbs_certificate();
    let constraints = certificate.get_extension::<BasicConstraints>().map_err(|_| Unreadable)?;
    if constraints.is_some_and(|(_, constraints)| constraints.ca) {
        return Ok(None);
    }
    let ends = certificate.validity().not_after.to_unix_duration().as_secs();
    Ok(Some(Certificate {
        public_key: certificate.subject_public_key_info().to_der().map_err(|_| Unreadable)?,
        // Fails for the last hours of the year 9999 only.
        ends: i64::try_from(ends).ok().and_then(|second| Timestamp::from_second(second).ok()),
    }))
}

/// The public key of a private key; `None` if the key is of a kind that the TLS library does not know.
fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let key = any_supported_type(&PrivateKeyDer::try_from(der).ok()?).ok()?;
    Some(key.public_key()?.to_vec())
}

#[cfg(test)]
mod tests;
