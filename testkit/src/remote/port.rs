//! A reserved port, for a fake that starts later than its clients.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port of 127.0.0.1 that no other program can take. The system refuses connections until a fake starts
/// [there](super::Builder::port).
#[derive(Debug)]
pub struct ReservedPort {
    socket: TcpSocket,
    addr: SocketAddr,
}

impl ReservedPort {
    /// Reserves a free port.
    ///
    /// # Errors
    /// There is no free port.
    pub fn take() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// The URL of a fake on plain http at this port, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn listen(self) -> io::Result<TcpListener> {
        const BACKLOG: u32 = 1024;
        self.socket.listen(BACKLOG)
    }
}
