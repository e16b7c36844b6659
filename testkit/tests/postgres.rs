//! PostgreSQL as tests use it: it starts, checks logins, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use testkit::postgres::Postgres;
use tokio::net::TcpStream;
use tokio_postgres::{Config, Error, NoTls, error::SqlState};

/// Logs in, queries the user's name, and logs out.
async fn who(login: &Config) -> Result<String, Error> {
    let (client, connection) = login.connect(NoTls).await?;
    let (answer, _) = tokio::join!(
        async move { client.query_one("SELECT session_user::text", &[]).await },
        // It ends when the client is dropped.
        connection
    );
    answer.map(|row| row.get(0))
}

#[tokio::test]
async fn the_superuser_logs_in_and_nobody_without_the_password() {
    let postgres = Postgres::start().await.unwrap();
    let mut login: Config = postgres.superuser().parse().unwrap();
    assert_eq!(who(&login).await.unwrap(), "postgres");
    login.password("a guess");
    assert_eq!(who(&login).await.unwrap_err().code(), Some(&SqlState::INVALID_PASSWORD));
}

#[tokio::test]
async fn two_servers_know_nothing_of_each_other_and_end_by_themselves() {
    let (one, two) = tokio::join!(Postgres::start(), Postgres::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.port(), two.port());
    let port = one.port();
    drop(one);
    let refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(who(&two.superuser().parse().unwrap()).await.unwrap(), "postgres");
}
