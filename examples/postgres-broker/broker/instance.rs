//! A service instance: one database, and a role in PostgreSQL for each of its keys.
//!
//! What a key may do is a matter of the group that its role is a member of: the owner's, or the reader's. A key that may
//! write acts as the owner from its first statement on, so what it makes belongs to the instance: the next key can use
//! it, and it stays when the key goes. The roles and their groups are all that the broker knows about keys.

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, Config, Error, error::SqlState};

use super::{
    refusal::Refusal,
    server::{Names, connect},
    sql::{Literal, Name},
};

/// An instance, and the administrator's session in its database. Requests for one instance take turns.
pub struct Instance {
    names: Names,
    administrator: Config,
    session: Mutex<Client>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Everything within the database.
    #[default]
    ReadWrite,
    /// Read what was made with other keys.
    ReadOnly,
}

/// What there is under the name of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A key of this instance.
    Key(Access),
    /// A key of this instance whose revocation came to no end. Nobody can log in with it.
    Remains,
    /// A key of another instance.
    Foreign,
}

impl Instance {
    /// An instance whose database was prepared, as the administrator sees it.
    pub async fn open(names: Names, administrator: Config) -> Result<Self, Error> {
        let session = Mutex::new(connect(&administrator).await?);
        Ok(Self { names, administrator, session })
    }

    pub const fn database(&self) -> &Name {
        &self.names.database
    }

    /// Looks for a key.
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

    /// Makes a key. The server, and whoever reads its logs, gets to know the verifier of the password only.
    pub async fn create(&self, key: &Name, access: Access, password: &str) -> Result<(), Error> {
        let group = self.group(access);
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let mut statements =
            format!("CREATE ROLE {key} LOGIN PASSWORD {} IN ROLE {group};", Literal(&verifier));
        if access == Access::ReadWrite {
            statements += &format!("ALTER ROLE {key} SET role = {};", Literal(group.as_str()));
        }
        // What is sent together is one transaction.
        self.session().await?.batch_execute(&statements).await
    }

    /// Whether a key has this password. Only PostgreSQL can tell.
    pub async fn admits(&self, key: &Name, password: &str) -> Result<bool, Error> {
        let mut login = self.administrator.clone();
        match connect(login.user(key.as_str()).password(password)).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a key: no new session, no old one, no role; what it owns goes to the instance. Where that comes to no end it
    /// is to be done again.
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
