//! A service instance: one database, and a role in PostgreSQL for each of its keys.
//!
//! The rights of a key come from the group of its role: the owner's or the reader's. A key that may write acts as the
//! owner from its first statement. So the instance owns the objects that the key creates: the next key can use them,
//! and they stay when the key is deleted. The broker stores nothing about keys but the roles and their groups.

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, Config, Error, error::SqlState};

use super::{
    refusal::Refusal,
    server::{Names, connect},
    sql::{Literal, Name},
};

/// An instance, and the administrator's session in its database. Requests for one instance run one after the other.
pub struct Instance {
    names: Names,
    administrator: Config,
    session: Mutex<Client>,
}

/// The rights of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Everything within the database.
    #[default]
    ReadWrite,
    /// Read the objects that other keys created.
    ReadOnly,
}

/// The role with the name of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A key of this instance.
    Key(Access),
    /// A key of this instance whose deletion did not finish. Its login no longer works.
    Remains,
    /// A key of another instance.
    Foreign,
}

impl Instance {
    /// Opens an instance whose database is prepared, with the administrator's login.
    pub async fn open(names: Names, administrator: Config) -> Result<Self, Error> {
        let session = Mutex::new(connect(&administrator).await?);
        Ok(Self { names, administrator, session })
    }

    pub const fn database(&self) -> &Name {
        &self.names.database
    }

    pub async fn find(&self, key: &Name) -> Result<Found, Error> {
        let query = "
            SELECT rolcanlogin, ARRAY(
                SELECT granted.rolname::text
                FROM pg_auth_members JOIN pg_roles granted ON granted.oid = roleid
                WHERE member = key.oid
            )
            FROM pg_roles key WHERE rolname = $1";
        let Some(row) = self.session().await?.query_opt(query, &[&key.as_str()]).await? else {
            return Ok(Found::Nothing);
        };
        let (can_log_in, groups): (bool, Vec<String>) = (row.get(0), row.get(1));
        let is_member = |access: &Access| groups.iter().any(|group| group == self.group(*access).as_str());
        Ok(match [Access::ReadWrite, Access::ReadOnly].into_iter().find(is_member) {
            Some(access) if can_log_in => Found::Key(access),
            Some(_) => Found::Remains,
            None => Found::Foreign,
        })
    }

    /// Creates a key. The server and its logs contain only the verifier of the password.
    pub async fn create(&self, key: &Name, access: Access, password: &str) -> Result<(), Error> {
        let group = self.group(access);
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let mut statements =
            format!("CREATE ROLE {key} LOGIN PASSWORD {} IN ROLE {group};", Literal(&verifier));
        if access == Access::ReadWrite {
            statements += &format!("ALTER ROLE {key} SET role = {};", Literal(group.as_str()));
        }
        // PostgreSQL runs statements that arrive together in one transaction.
        self.session().await?.batch_execute(&statements).await
    }

    /// Whether a key has this password. Only a login can find that out.
    pub async fn admits(&self, key: &Name, password: &str) -> Result<bool, Error> {
        let mut login = self.administrator.clone();
        match connect(login.user(key.as_str()).password(password)).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a key: it refuses new sessions, ends the existing ones, gives the key's objects to the instance, and
    /// drops the role. If it fails, the caller has to repeat it.
    pub async fn remove(&self, key: &Name) -> Result<(), Refusal> {
        let session = self.session().await?;
        session.batch_execute(&format!("ALTER ROLE {key} NOLOGIN")).await?;
        let end = "SELECT pg_terminate_backend(pid, 5000 /* ms */) FROM pg_stat_activity WHERE usename = $1";
        session.query(end, &[&key.as_str()]).await?;
        let left = "SELECT FROM pg_stat_activity WHERE usename = $1";
        if !session.query(left, &[&key.as_str()]).await?.is_empty() {
            return Err(Refusal::concurrent("a session of this key does not end; ask again"));
        }
        let owner = &self.names.owner;
        let statements = format!("REASSIGN OWNED BY {key} TO {owner}; DROP OWNED BY {key}; DROP ROLE {key};");
        Ok(session.batch_execute(&statements).await?)
    }

    const fn group(&self, access: Access) -> &Name {
        match access {
            Access::ReadWrite => &self.names.owner,
            Access::ReadOnly => &self.names.reader,
        }
    }

    async fn session(&self) -> Result<MutexGuard<'_, Client>, Error> {
        let mut session = self.session.lock().await;
        if session.is_closed() {
            *session = connect(&self.administrator).await?;
        }
        Ok(session)
    }
}
