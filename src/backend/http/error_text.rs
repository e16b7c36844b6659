//! Describes transport errors in terms that a user can act on.
//!
//! It does not show the errors' own texts: they contain URLs with queries, times, and names of Rust types.

use std::{error::Error, io, iter};

use rustls::{AlertDescription, CertificateError, OtherError};
use url::Url;

use super::{HttpFailure, HttpFailureKind, path::origin, resolver::ResolveError};

/// Classifies and describes the failure of a request, or of reading its answer.
pub(super) fn describe_error(error: reqwest::Error, url: &Url) -> HttpFailure {
    let (kind, message) = describe(&error, url);
    HttpFailure::new(kind, message).caused_by(error)
}

fn describe(error: &reqwest::Error, url: &Url) -> (HttpFailureKind, String) {
    let target = format!("`{}`", origin(url));
    match find::<ResolveError>(error) {
        Some(ResolveError::Unproved { host: _ }) => return (HttpFailureKind::Unproved, target),
        Some(unresolved @ (ResolveError::Unknown { .. } | ResolveError::Refused(_))) => {
            return (HttpFailureKind::Unresolved, unresolved.to_string());
        }
        None => {}
    }
    if error.is_builder() {
        return (HttpFailureKind::Refused, format!("the request to {target} can't be built"));
    }
    let tls = find::<rustls::Error>(error);
    if error.is_connect() || tls.is_some_and(refuses_our_certificate) {
        let reason = tls.map_or_else(|| connection_words(error), tls_words);
        let message = format!("no connection to {target}: {reason}");
        return match tls {
            None | Some(rustls::Error::InvalidMessage(_)) => (HttpFailureKind::NotSent, message),
            Some(_) => (HttpFailureKind::Untrusted, message),
        };
    }
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        return (
            HttpFailureKind::Unusable,
            format!("no complete answer from {target}: the answer is not HTTP"),
        );
    }
    (HttpFailureKind::MaybeSent, format!("no complete answer from {target}: {}", exchange_words(error)))
}

/// Joins an error and its causes, for the log.
pub(super) fn describe_causes(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}

/// Returns whether the connection was closed before the answer began, or in the middle of its head. The two can't be
/// distinguished.
pub(super) fn is_cut(error: &reqwest::Error) -> bool {
    use io::ErrorKind as Kind;
    if error.is_connect() || error.is_timeout() || error.is_builder() {
        return false;
    }
    let is_cut = |kind| {
        matches!(
            kind,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof
        )
    };
    find_io(error).map_or_else(
        || find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message),
        |error| is_cut(error.kind()),
    )
}

/// Finds the first error of this type in the chain of sources. It also checks what I/O errors wrap, because they do not
/// report it as their source.
pub(crate) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// With TLS 1.3 the server checks the client's certificate after the client has finished its handshake. A server that
/// rejects it does not process the request.
fn refuses_our_certificate(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnknownCA
                | Alert::CertificateUnknown
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::UnsupportedCertificate
                | Alert::AccessDenied
                | Alert::DecryptError
        )
    )
}

fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => certificate_words(reason),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it requires a client certificate: set `tls.clientCertificate`".to_owned()
        }
        error if refuses_our_certificate(error) => {
            "it does not accept the operator's certificate: correct `tls.clientCertificate`".to_owned()
        }
        rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_) => {
            "it offers no secure TLS version or cipher: enable TLS 1.2 or 1.3 there".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: check scheme and port".to_owned(),
        _ => "the TLS handshake failed".to_owned(),
    }
}

fn certificate_words(reason: &CertificateError) -> String {
    use CertificateError as Reason;
    match reason {
        // An authority that was renewed under its old name shows up as a bad signature.
        Reason::UnknownIssuer | Reason::BadSignature => {
            "its certificate is not trusted: set `tls.caBundle` to the certificate of the authority that issued it"
        }
        Reason::Expired | Reason::ExpiredContext { .. } => "its certificate has expired: renew it there",
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check the clocks"
        }
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            "its certificate is for another name: use a name that the certificate lists"
        }
        Reason::Revoked => "its certificate has been revoked: renew it there",
        other if is_of_an_authority(other) => {
            "its certificate is a CA certificate (`CA:TRUE`), which a server must not present: issue a server \
             certificate with `CA:FALSE`, and set `tls.caBundle` to the certificate that signed it"
        }
        _ => "its certificate can't be used for a server: issue another one there",
    }
    .to_owned()
}

/// Whether the server presents a CA certificate, as many servers with self-signed certificates do.
fn is_of_an_authority(reason: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(error)) = reason else { return false };
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn connection_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out after half of `limits.timeout` (10s at most): check address, port and network \
                policies"
            .to_owned();
    }
    match find_io(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            "connection refused: check address and port, and whether the server is running".to_owned()
        }
        Some(kind) => io_words(kind).to_owned(),
        None => "the connection failed".to_owned(),
    }
}

fn exchange_words(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        return "the request timed out";
    }
    if let Some(kind) = find_io(error).map(io::Error::kind) {
        return io_words(kind);
    }
    match find::<hyper::Error>(error) {
        Some(error) if error.is_incomplete_message() => {
            "the connection was closed before the answer was complete"
        }
        _ => "the connection was lost",
    }
}

fn io_words(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection was reset",
        io::ErrorKind::UnexpectedEof => "the connection was closed before the answer was complete",
        io::ErrorKind::TimedOut => "the network timed out",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "the network has no route to it"
        }
        _ => "the connection was lost",
    }
}

fn find_io(error: &reqwest::Error) -> Option<&io::Error> {
    find::<io::Error>(error)
}
