//! A server that is not a remote side. It sends every client the same answer, and records the requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// More than any request of these tests, in bytes.
const LARGEST_REQUEST: usize = 64 * 1024;

pub struct Spy {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Spy {
    /// Starts a server with this status line and headers, and this body.
    pub async fn answering(head: &str, body: &str) -> Self {
        Self::at("127.0.0.1:0", head, body).await
    }

    /// The same at this address.
    pub async fn at(address: &str, head: &str, body: &str) -> Self {
        Self::on(TcpListener::bind(address).await.unwrap(), head, body)
    }

    /// The same for the connections of this listener.
    pub fn on(listener: TcpListener, head: &str, body: &str) -> Self {
        let (address, sent) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let noted = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, noted) = (answer.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let _ = Self::answer(stream, &answer, &noted).await;
                });
            }
        });
        Self { address, sent }
    }

    async fn answer(mut stream: TcpStream, answer: &str, sent: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let mut request = vec![0; LARGEST_REQUEST];
        let mut length = 0;
        loop {
            length += stream.read(&mut request[length..]).await?;
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let lengths = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
            let wanted: usize = lengths.filter_map(|length| length.parse::<usize>().ok()).sum();
            if body.len() >= wanted {
                sent.lock().unwrap().push(text);
                stream.write_all(answer.as_bytes()).await?;
                return stream.shutdown().await;
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every request, from its method to the end of its body.
    pub fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

/// An address that refuses connections. It is reserved until this is dropped, so no other program can listen there.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self(socket)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}
