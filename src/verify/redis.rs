//! `AUTH` and `PING` to Redis, in version 2 of its protocol.

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use zeroize::Zeroizing;

use super::{connection::Connection, failure::Fault, tls};

/// The most bytes of a reply, with its line end.
const LARGEST_REPLY: u64 = 512;
/// The longest error code to show.
const LONGEST_CODE: usize = 20;

/// A reply of one line.
enum Reply {
    Status(Vec<u8>),
    /// The first word of an error.
    Error(String),
}

/// Sends `AUTH` and `PING`.
pub(super) async fn log_in(
    connection: Connection,
    user: Option<&str>,
    password: &SecretString,
) -> Result<(), Fault> {
    let mut connection = BufStream::new(connection);
    let mut login = vec!["AUTH"];
    login.extend(user);
    login.push(password.expose_secret());
    match call(&mut connection, &login).await? {
        Reply::Status(status) if status == b"OK" => {}
        Reply::Status(_) => return Err(Fault::of_another_protocol()),
        Reply::Error(code) => return Err(fault_of(&code)),
    }
    match call(&mut connection, &["PING"]).await? {
        Reply::Status(status) if status == b"PONG" => Ok(()),
        Reply::Status(_) => Err(Fault::of_another_protocol()),
        // The server accepted the login of a user who may not send `PING`.
        Reply::Error(code) if code == "NOPERM" => Ok(()),
        Reply::Error(code) => Err(fault_of(&code)),
    }
}

/// Sends a command as an array of strings, and reads its reply.
async fn call(connection: &mut BufStream<Connection>, words: &[&str]) -> Result<Reply, Fault> {
    let mut command = Zeroizing::new(format!("*{}\r\n", words.len()));
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let mut reply = Vec::new();
    let exchange = async {
        connection.write_all(command.as_bytes()).await?;
        connection.flush().await?;
        connection.take(LARGEST_REPLY).read_until(b'\n', &mut reply).await
    };
    exchange.await.map_err(|error| tls::fault_of(&error))?;
    parse(&reply).ok_or_else(Fault::of_another_protocol)
}

fn parse(reply: &[u8]) -> Option<Reply> {
    match reply.strip_suffix(b"\r\n")?.split_first()? {
        (b'+', status) => Some(Reply::Status(status.to_owned())),
        (b'-', error) => {
            let code = error.split(|byte| *byte == b' ').next()?;
            let is_code = (2..=LONGEST_CODE).contains(&code.len()) && code.iter().all(u8::is_ascii_uppercase);
            let code = is_code.then(|| str::from_utf8(code).ok()).flatten()?;
            Some(Reply::Error(code.to_owned()))
        }
        _ => None,
    }
}

fn fault_of(code: &str) -> Fault {
    let shown = format!("error code `{code}`");
    match code {
        "WRONGPASS" | "NOAUTH" | "NOPERM" | "ERR" => Fault::Refused(shown),
        _ => Fault::Unexpected(shown),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use rstest::rstest;
    use rustls::version::TLS13;

    use super::*;
    use crate::verify::{
        Encryption, Probe, ProbeFailureClass as Class,
        test_server::{Authority, PASSWORD, fails, outcome, replying, replying_over_tls, serve},
    };

    fn probe(address: String, user: Option<&str>, encryption: Encryption) -> Probe {
        Probe::Redis { address, user: user.map(str::to_owned), password: PASSWORD.into(), encryption }
    }

    #[rstest]
    #[case::accepted(&["+OK\r\n", "+PONG\r\n"], None)]
    #[case::without_the_right_to_ping(&["+OK\r\n", "-NOPERM confidential\r\n"], None)]
    #[case::wrong_password(
        &["-WRONGPASS confidential hunter2\r\n"],
        Some((Class::Refused, "does not accept the credentials: error code `WRONGPASS`"))
    )]
    #[case::without_passwords(&["-ERR confidential\r\n"], Some((Class::Refused, "error code `ERR`")))]
    #[case::loading(&["+OK\r\n", "-LOADING confidential\r\n"], Some((Class::UnexpectedAnswer, "error code `LOADING`")))]
    #[case::only_a_code(&["-NOAUTH\r\n"], Some((Class::Refused, "error code `NOAUTH`")))]
    #[case::code_in_lower_case(&["-confidential error\r\n"], Some((Class::Unreachable, "as a Redis server")))]
    #[case::long_code(&["-ABCDEFGHIJKLMNOPQRSTU error\r\n"], Some((Class::Unreachable, "as a Redis server")))]
    #[case::another_status(&["+OK confidential\r\n"], Some((Class::Unreachable, "as a Redis server")))]
    #[case::another_type(&["$2\r\nOK\r\n"], Some((Class::Unreachable, "as a Redis server")))]
    #[tokio::test]
    async fn the_reply_decides(
        #[case] replies: &'static [&'static str],
        #[case] expected: Option<(Class, &str)>,
    ) {
        let server = replying(replies).await;
        let probe = probe(server.address(), Some("user"), Encryption::Disabled);
        match expected {
            None => assert_eq!(outcome(&probe).await, Ok(())),
            Some((class, words)) => fails(&probe, class, words).await,
        }
    }

    #[rstest]
    #[case(None, "*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n")]
    #[case(Some("us er\r\n"), "*3\r\n$4\r\nAUTH\r\n$7\r\nus er\r\n\r\n$7\r\nhunter2\r\n")]
    #[tokio::test]
    async fn sends_two_commands(#[case] user: Option<&str>, #[case] login: &str) {
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let seen = Arc::clone(&received);
        let server = serve(move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                for reply in ["+OK\r\n", "+PONG\r\n"] {
                    let mut command = vec![0; 4096];
                    let length = stream.read(&mut command).await?;
                    seen.lock().extend(&command[..length]);
                    stream.write_all(reply.as_bytes()).await?;
                }
                Ok(())
            }
        })
        .await;
        assert_eq!(outcome(&probe(server.address(), user, Encryption::Disabled)).await, Ok(()));
        let received = String::from_utf8(received.lock().clone()).unwrap();
        assert_eq!(received, format!("{login}*1\r\n$4\r\nPING\r\n"));
    }

    #[tokio::test]
    async fn a_long_reply_is_not_read() {
        let server = serve(|mut stream| async move {
            loop {
                stream.write_all(b"-ERR ").await?;
            }
        })
        .await;
        let probe = probe(server.address(), None, Encryption::Disabled);
        fails(&probe, Class::Unreachable, "as a Redis server").await;
    }

    #[tokio::test]
    async fn tls_checks_the_certificate() {
        let authority = Authority::new();
        let config = authority.issue("127.0.0.1").server_config(None, &[&TLS13]);
        let server = replying_over_tls(config, &["+OK\r\n", "+PONG\r\n"]).await;
        let probe = |ca_bundle| probe(server.address(), None, Encryption::Tls { ca_bundle });
        assert_eq!(outcome(&probe(Some(authority.pem()))).await, Ok(()));
        fails(&probe(None), Class::TlsFailed, "no TLS connection to `redis.address`").await;
    }
}
