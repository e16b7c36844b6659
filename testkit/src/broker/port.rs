//! A port for a broker that is down at first.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port of 127.0.0.1 that nobody else can take and where nobody listens: connections are refused until a broker
/// starts [there](super::Builder::port).
#[derive(Debug)]
pub struct ReservedPort {
    socket: TcpSocket,
    addr: SocketAddr,
}

impl ReservedPort {
    /// Takes a port that is free.
    ///
    /// # Errors
    /// There is none.
    pub fn take() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// Where a broker on plain http will be, without a path and without a slash at the end.
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
