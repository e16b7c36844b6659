//! stub
/// r
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Available,
    Overlap,
    Rotating,
    SecretConflict,
    KeyConflict,
    Suspended,
    Deleting,
    RevokeFailed,
    CredentialsUnusable,
    RemoteUnreachable,
    BindRejected,
    InstanceNotFound,
    Unauthorized,
    BindFailed,
    ProviderNotFound,
}
