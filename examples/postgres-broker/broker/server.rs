//! The PostgreSQL server: sessions, and the databases of the instances.

use anyhow::Context;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::{
    instance::Instance,
    sql::{BadName, Name},
};

/// The names of an instance in PostgreSQL. Each kind of role has its own prefix, which the roles of people do not have.
#[derive(Clone, Debug)]
pub struct Names {
    pub database: Name,
    /// The group that owns all objects in the database.
    pub owner: Name,
    /// The group that may read these objects.
    pub reader: Name,
}

impl Names {
    /// # Errors
    /// If PostgreSQL does not allow such names.
    pub fn of(database: &str) -> Result<Self, BadName> {
        Ok(Self {
            database: Name::new(database)?,
            owner: Name::new(format!("owner-{database}"))?,
            reader: Name::new(format!("reader-{database}"))?,
        })
    }
}

/// The role of a key.
///
/// # Errors
/// If PostgreSQL does not allow such a name.
pub fn key(binding: &str) -> Result<Name, BadName> {
    Name::new(format!("key-{binding}"))
}

/// Begins a session. It ends when the client is dropped.
pub async fn connect(login: &Config) -> Result<Client, Error> {
    let (client, connection) = login.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a session ended early");
        }
    });
    Ok(client)
}

/// Creates the missing groups and the missing database of an instance, and opens it.
///
/// # Errors
/// If the administrator can't log in, or lacks rights.
pub async fn prepare(names: Names, server: &Config) -> anyhow::Result<Instance> {
    let failed = || format!("can't prepare the database {}", names.database);
    let mut administrator = server.clone();
    administrator.dbname(names.database.as_str());
    make(&names, server).await.with_context(failed)?;
    share(&names, &administrator).await.with_context(failed)?;
    Instance::open(names.clone(), administrator).await.with_context(failed)
}

/// Creates the groups and the database. The administrator stays the database's owner, so that no key can drop it.
async fn make(Names { database, owner, reader }: &Names, server: &Config) -> Result<(), Error> {
    let server = connect(server).await?;
    for group in [owner, reader] {
        if server.query("SELECT FROM pg_roles WHERE rolname = $1", &[&group.as_str()]).await?.is_empty() {
            server.batch_execute(&format!("CREATE ROLE {group} NOLOGIN")).await?;
        }
    }
    let databases = "SELECT FROM pg_database WHERE datname = $1";
    if server.query(databases, &[&database.as_str()]).await?.is_empty() {
        server.batch_execute(&format!("CREATE DATABASE {database}")).await?;
    }
    // Without this, the keys of all other instances could connect to the database.
    let statements = format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC;
         GRANT ALL ON DATABASE {database} TO {owner};
         GRANT CONNECT ON DATABASE {database} TO {reader};"
    );
    server.batch_execute(&statements).await
}

/// Gives the schema to the owner group, and lets the reader group read the objects that the owner creates.
async fn share(Names { owner, reader, .. }: &Names, administrator: &Config) -> Result<(), Error> {
    let statements = format!(
        "ALTER SCHEMA public OWNER TO {owner};
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {reader};
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};"
    );
    connect(administrator).await?.batch_execute(&statements).await
}
