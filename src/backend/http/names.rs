//! Resolves names to addresses.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
};

/// A resolver of names.
pub trait Names: fmt::Debug + Send + Sync {
    /// Returns all addresses of a host. It may block for as long as name servers take.
    ///
    /// # Errors
    /// If the name is unknown, or no name server answers.
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

#[derive(Debug)]
pub(super) struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}
