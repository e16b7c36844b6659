//! Logs in to PostgreSQL, as a consumer of a Secret does.

use anyhow::{Context, bail, ensure};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use tokio_postgres::{Client, Config, NoTls, error::SqlState};

use crate::output;

/// The login in a Secret.
pub struct Login {
    secret: String,
    login: Config,
}

impl Login {
    /// Reads the login from a Secret: a connection string from the template of the manifests, or one entry per part.
    ///
    /// # Errors
    /// If the Secret contains neither.
    pub fn of(secret: &Secret) -> anyhow::Result<Self> {
        let name = secret.name_any();
        let entry = |entry: &str| {
            let ByteString(value) = secret.data.as_ref()?.get(entry)?;
            String::from_utf8(value.clone()).ok()
        };
        let part = |part: &str| entry(part).with_context(|| format!("the Secret `{name}` has no `{part}`"));
        let login = match entry("DATA_SOURCE_NAME") {
            Some(uri) => uri.parse()?,
            None => {
                let mut login = Config::new();
                login
                    .host(part("hostname")?)
                    .port(part("port")?.parse()?)
                    .user(part("username")?)
                    .password(part("password")?)
                    .dbname(part("database")?);
                login
            }
        };
        Ok(Self { secret: name, login })
    }

    /// Logs in, and returns the Secret, the user and the database of the session.
    async fn answer(&self) -> anyhow::Result<[String; 3]> {
        let session = begin(&self.login).await?;
        let query = "SELECT session_user::text, current_database()::text";
        let row = session.query_one(query, &[]).await?;
        Ok([self.secret.clone(), row.get(0), row.get(1)])
    }

    /// Tries to log in, and returns the message of the server's refusal.
    async fn refusal(&self) -> anyhow::Result<String> {
        match self.login.connect(NoTls).await {
            Ok(_) => bail!("the ServiceKey `{}` is gone, but its login still works", self.secret),
            Err(error) => {
                ensure!(error.code() == Some(&SqlState::INVALID_PASSWORD), "can't try to log in: {error}");
                Ok(error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default())
            }
        }
    }
}

/// Begins a session. It ends when it is dropped.
///
/// # Errors
/// If the server refuses the login.
pub async fn begin(login: &Config) -> anyhow::Result<Client> {
    let (session, connection) = login.connect(NoTls).await.context("can't log in to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(session)
}

/// Logs in with each login, and prints the users and databases.
///
/// # Errors
/// If a login does not work.
pub async fn show(logins: &[Login]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for login in logins {
        rows.push(login.answer().await?);
    }
    output::table(["SECRET", "LOGGED IN AS", "DATABASE"], &rows);
    Ok(())
}

/// Shows that none of the logins works any more.
///
/// # Errors
/// If one still works.
pub async fn show_refused(logins: &[Login]) -> anyhow::Result<()> {
    for login in logins {
        let refusal = login.refusal().await?;
        output::detail(format_args!("the old login is refused: {refusal}"));
    }
    Ok(())
}
