//! A login to PostgreSQL.

use std::{error::Error, future::poll_fn, io};

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Config, NoTls};

use super::{
    connection::{BoundedTcp, Connection},
    failure::Fault,
    tls,
};

/// The request for TLS. The client sends it in plain text before anything else.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Requests TLS. The handshake follows on the same connection.
pub(super) async fn request_tls(connection: &mut BoundedTcp) -> Result<(), Fault> {
    let of_connection = |error: io::Error| Fault::of_connection(&error);
    connection.write_all(&SSL_REQUEST).await.map_err(of_connection)?;
    match connection.read_u8().await.map_err(of_connection)? {
        b'S' => Ok(()),
        b'N' => Err(Fault::Tls("the server offers no TLS; enable it there".to_owned())),
        _ => Err(Fault::of_another_protocol()),
    }
}

/// The settings for the login.
pub(super) fn config(user: &str, password: &SecretString, database: &str) -> Result<Config, Fault> {
    for (field, value) in [("user", user), ("password", password.expose_secret()), ("database", database)] {
        if value.is_empty() || value.contains('\0') {
            return Err(Fault::Invalid { field, problem: "is empty or contains a null character" });
        }
    }
    let mut config = Config::new();
    config.user(user).password(password.expose_secret()).dbname(database);
    config.application_name("servicekey-operator");
    Ok(config)
}

/// Logs in and runs `SELECT 1`. A connection pooler may accept a login before it connects to the server.
pub(super) async fn log_in(config: &Config, connection: Connection) -> Result<(), Fault> {
    let (client, mut connection) =
        config.connect_raw(connection, NoTls).await.map_err(|error| fault_of(&error))?;
    let query = async {
        let outcome = client.simple_query("SELECT 1").await;
        drop(client);
        outcome
    };
    // Drives the connection until the client is dropped. Awaiting the connection would log notices of the server.
    let drive =
        async { while let Some(Ok(_)) = poll_fn(|context| connection.poll_message(context)).await {} };
    let (outcome, ()) = tokio::join!(query, drive);
    outcome.map_err(|error| fault_of(&error)).map(drop)
}

fn fault_of(error: &tokio_postgres::Error) -> Fault {
    if let Some(error) = error.as_db_error() {
        return fault_of_code(error.code().code());
    }
    match error.source() {
        Some(source) if !source.is::<io::Error>() => Fault::Unexpected(
            "the server requires a login method that the operator does not support".to_owned(),
        ),
        Some(_) | None => tls::fault_of(error),
    }
}

fn fault_of_code(code: &str) -> Fault {
    let is_valid =
        code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let shown =
        if is_valid { format!("SQLSTATE {code}") } else { "an error without a valid SQLSTATE".to_owned() };
    // Invalid authorization, an unknown database, or no right to connect to it.
    match code.get(..2) {
        Some("28" | "3D" | "42") => Fault::Refused(shown),
        _ => Fault::Unexpected(shown),
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc};

    use base64::{Engine, prelude::BASE64_STANDARD};
    use ring::{digest, hmac, pbkdf2};
    use rstest::rstest;
    use rustls::{ServerConfig, version::TLS13};
    use tokio::{
        io::{AsyncRead, AsyncWrite},
        net::TcpStream,
    };

    use super::*;
    use crate::verify::{
        Encryption, Probe, ProbeFailureClass as Class,
        test_server::{Authority, PASSWORD, TestServer, accept_tls, fails, outcome, serve, wait_for_end},
    };

    /// How the server checks the password, and its answers.
    #[derive(Clone, Copy)]
    enum Does {
        Trusts,
        ReadsPassword,
        /// SCRAM with this number of rounds.
        Scram(u32),
        /// SCRAM, but without knowing the password.
        PretendsScram,
        RequiresKerberos,
        /// Refuses the startup with this code.
        Fails(&'static str),
        /// Accepts the login, and refuses the query with this code.
        FailsLater(&'static str),
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    fn authentication(kind: u32, body: &str) -> Vec<u8> {
        message(b'R', &[&kind.to_be_bytes(), body.as_bytes()].concat())
    }

    fn error(code: &str) -> Vec<u8> {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0Mconfidential {PASSWORD}\0\0");
        message(b'E', fields.as_bytes())
    }

    async fn read_body(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
        let length = stream.read_u32().await?;
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        stream.read_exact(&mut body).await?;
        Ok(body)
    }

    async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
        Ok((stream.read_u8().await?, read_body(stream).await?))
    }

    async fn is_logged_in(
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        does: Does,
    ) -> io::Result<bool> {
        match does {
            Does::Trusts | Does::FailsLater(_) => Ok(true),
            Does::Fails(code) => {
                stream.write_all(&error(code)).await?;
                Ok(false)
            }
            Does::RequiresKerberos => {
                stream.write_all(&authentication(7, "")).await?;
                Ok(false)
            }
            Does::ReadsPassword => {
                stream.write_all(&authentication(3, "")).await?;
                let (_, body) = read_message(stream).await?;
                let is_right = body == format!("{PASSWORD}\0").as_bytes();
                if !is_right {
                    stream.write_all(&error("28P01")).await?;
                }
                Ok(is_right)
            }
            Does::Scram(rounds) => scram(stream, PASSWORD, rounds).await,
            Does::PretendsScram => scram(stream, "another", 4096).await.map(|_| false),
        }
    }

    async fn scram(
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        password: &str,
        rounds: u32,
    ) -> io::Result<bool> {
        stream.write_all(&authentication(10, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")).await?;
        let (_, body) = read_message(stream).await?;
        let first = String::from_utf8_lossy(&body).into_owned();
        let first = &first[first.find("n=").unwrap()..];
        let nonce = first.split_once("r=").unwrap().1;
        let challenge = format!("r={nonce}server,s={},i={rounds}", BASE64_STANDARD.encode("salt"));
        stream.write_all(&authentication(11, &challenge)).await?;
        let (_, body) = read_message(stream).await?;
        let last = String::from_utf8(body).unwrap();
        let (last, proof) = last.split_once(",p=").unwrap();

        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(rounds).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, b"salt", password.as_bytes(), &mut salted);
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let exchange = format!("{first},{challenge},{last}");
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let signature = sign(stored_key.as_ref(), exchange.as_bytes());
        let expected: Vec<_> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(one, other)| one ^ other).collect();
        let server_signature = sign(sign(&salted, b"Server Key").as_ref(), exchange.as_bytes());
        let is_right = BASE64_STANDARD.decode(proof).unwrap() == expected;
        if is_right || password != PASSWORD {
            let server_signature = BASE64_STANDARD.encode(server_signature.as_ref());
            stream.write_all(&authentication(12, &format!("v={server_signature}"))).await?;
        } else {
            stream.write_all(&error("28P01")).await?;
        }
        Ok(is_right)
    }

    /// Serves one client after its possible request for TLS.
    async fn serve_client(mut stream: impl AsyncRead + AsyncWrite + Unpin, does: Does) -> io::Result<()> {
        let startup = read_body(&mut stream).await?;
        assert!(String::from_utf8_lossy(&startup).contains("user\0admin\0database\0orders\0"));
        if is_logged_in(&mut stream, does).await? {
            let notice = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mconfidential\0\0");
            let ready = message(b'Z', b"I");
            let accepted = [authentication(0, ""), notice, ready.clone()].concat();
            stream.write_all(&accepted).await?;
            let (tag, query) = read_message(&mut stream).await?;
            assert_eq!((tag, query.as_slice()), (b'Q', &b"SELECT 1\0"[..]));
            let answer = match does {
                Does::FailsLater(code) => error(code),
                _ => message(b'C', b"SELECT 1\0"),
            };
            stream.write_all(&[answer, ready].concat()).await?;
        }
        wait_for_end(stream).await
    }

    async fn plain(does: Does) -> TestServer {
        serve(move |stream| serve_client(stream, does)).await
    }

    /// Answers the request for TLS with this byte, and then speaks TLS.
    async fn encrypted(config: ServerConfig, answer: u8) -> TestServer {
        let config = Arc::new(config);
        serve(move |mut stream: TcpStream| {
            let config = Arc::clone(&config);
            async move {
                assert_eq!(read_body(&mut stream).await?, SSL_REQUEST[4..]);
                stream.write_all(&[answer]).await?;
                serve_client(accept_tls(config, stream).await?, Does::ReadsPassword).await
            }
        })
        .await
    }

    fn with_password(server: &TestServer, password: &str, encryption: Encryption) -> Probe {
        Probe::Postgres {
            address: server.address(),
            user: "admin".to_owned(),
            password: password.into(),
            database: "orders".to_owned(),
            encryption,
        }
    }

    #[rstest]
    #[case::trust(Does::Trusts)]
    #[case::clear_text(Does::ReadsPassword)]
    #[case::scram(Does::Scram(4096))]
    #[tokio::test]
    async fn a_login_passes(#[case] does: Does) {
        let server = plain(does).await;
        assert_eq!(outcome(&with_password(&server, PASSWORD, Encryption::Disabled)).await, Ok(()));
    }

    #[rstest]
    #[case::clear_text(
        Does::ReadsPassword,
        Class::Refused,
        "does not accept the credentials: SQLSTATE 28P01"
    )]
    #[case::scram(Does::Scram(4096), Class::Refused, "SQLSTATE 28P01")]
    #[case::many_rounds(Does::Scram(100_001), Class::Unreachable, "as a PostgreSQL server")]
    #[case::without_the_password(Does::PretendsScram, Class::Unreachable, "as a PostgreSQL server")]
    #[case::another_method(Does::RequiresKerberos, Class::UnexpectedAnswer, "requires a login method")]
    #[case::no_database(Does::Fails("3D000"), Class::Refused, "SQLSTATE 3D000")]
    #[case::no_right(Does::Fails("42501"), Class::Refused, "SQLSTATE 42501")]
    #[case::too_many_clients(Does::Fails("53300"), Class::UnexpectedAnswer, "SQLSTATE 53300")]
    #[case::behind_a_pooler(Does::FailsLater("28P01"), Class::Refused, "SQLSTATE 28P01")]
    #[case::invalid_code(Does::Fails("confidential"), Class::UnexpectedAnswer, "without a valid SQLSTATE")]
    #[tokio::test]
    async fn a_login_fails(#[case] does: Does, #[case] class: Class, #[case] words: &str) {
        let server = plain(does).await;
        let password = format!("{PASSWORD}{PASSWORD}");
        fails(&with_password(&server, &password, Encryption::Disabled), class, words).await;
    }

    #[tokio::test]
    async fn tls_checks_the_certificate() {
        let authority = Authority::new();
        let config = authority.issue("127.0.0.1").server_config(None, &[&TLS13]);
        let server = encrypted(config, b'S').await;
        let tls = |ca_bundle| Encryption::Tls { ca_bundle };
        let trusting = Some(authority.pem());
        assert_eq!(outcome(&with_password(&server, PASSWORD, tls(trusting.clone()))).await, Ok(()));
        fails(&with_password(&server, "wrong", tls(trusting)), Class::Refused, "SQLSTATE 28P01").await;
        fails(&with_password(&server, PASSWORD, tls(None)), Class::TlsFailed, "the service's certificate")
            .await;
    }

    #[rstest]
    #[case(b'N', Class::TlsFailed, "the server offers no TLS")]
    #[case(b'E', Class::Unreachable, "as a PostgreSQL server")]
    #[tokio::test]
    async fn a_server_without_tls_receives_no_password(
        #[case] answer: u8,
        #[case] class: Class,
        #[case] words: &str,
    ) {
        let authority = Authority::new();
        let config = authority.issue("127.0.0.1").server_config(None, &[&TLS13]);
        let server = encrypted(config, answer).await;
        let encryption = Encryption::Tls { ca_bundle: Some(authority.pem()) };
        fails(&with_password(&server, PASSWORD, encryption), class, words).await;
    }

    #[rstest]
    #[case("", "`postgres.password` is empty or contains a null character")]
    #[case("hunter2\0", "`postgres.password` is empty or contains a null character")]
    #[tokio::test]
    async fn an_invalid_password_is_not_quoted(#[case] password: &str, #[case] words: &str) {
        let server = plain(Does::Trusts).await;
        fails(&with_password(&server, password, Encryption::Disabled), Class::InvalidProbe, words).await;
        assert_eq!(server.connections(), 0);
    }
}
