//! Starts a server from an empty folder.

use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Command,
    sync::Arc,
};

use tokio::sync::OnceCell;

use super::{Error, account, programs::Programs};
use crate::{
    FileError, ProcessError, Stderr,
    process::{Account, Manner, Process, tail},
    scratch::Scratch,
};

/// The number of attempts with other ports.
const PORT_ATTEMPTS: usize = 5;
/// The superuser and its password. The server is on the loopback interface and ends with the test.
const SUPERUSER: &str = "postgres";
const PASSWORD: &str = "only-for-tests";
/// The settings of a cluster: logins need passwords, and messages are in English.
const INITDB: [&str; 6] = [
    "--auth=scram-sha-256",
    "--username=postgres",
    "--locale=C",
    "--encoding=UTF8",
    "--no-sync",
    "--no-instructions",
];
/// TCP on one address only, and no protection of data against a crash.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    // Files in the folder, which are removed with it, rather than in `/dev/shm`.
    "dynamic_shared_memory_type=mmap",
    "shared_buffers=16MB",
];
/// The server logs this when it is ready.
const READY: &str = "database system is ready to accept connections";
/// PostgreSQL's "immediate shutdown": it ends every session at once and returns its kernel resources, which a killed
/// server could not.
const END: &str = "QUIT";

static SHARED: OnceCell<Postgres> = OnceCell::const_new();

/// A running PostgreSQL; dropping it ends the server and removes its folder.
// Rust drops the fields in this order, and the parts must stop in this order.
pub struct Postgres {
    _server: Process,
    _scratch: Scratch,
    port: u16,
}

impl Postgres {
    /// The server that all tests of this process share, each with its own databases and roles. The first caller starts
    /// it. It ends with the process.
    ///
    /// # Errors
    /// As [`start`](Self::start); the next caller tries again.
    pub async fn shared() -> Result<&'static Self, Error> {
        SHARED.get_or_try_init(Self::start).await
    }

    /// Creates a cluster and starts its server, in about two seconds.
    ///
    /// # Errors
    /// [`Error`] names what to install, or contains the end of the failed program's output.
    pub async fn start() -> Result<Self, Error> {
        let programs = Programs::find()?;
        let scratch = Scratch::new("PostgreSQL", Arc::new(Stderr))?;
        let account = account::give(scratch.path())?;
        let (scratch, programs) = make_cluster(scratch, programs, account).await?;
        let mut attempt = 1;
        loop {
            // It is free now, but another process may take it before the server starts.
            let port = free_port().map_err(Error::Port)?;
            match start_on(port, &programs, scratch.path(), account).await {
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return Ok(Self { _server: started?, _scratch: scratch, port }),
            }
        }
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's login, to the database `postgres`, as a connection string.
    #[must_use]
    pub fn superuser(&self) -> String {
        format!("postgresql://{SUPERUSER}:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Runs `initdb` on a separate thread, because it takes a second.
async fn make_cluster(
    scratch: Scratch,
    programs: Programs,
    account: Option<Account>,
) -> Result<(Scratch, Programs), Error> {
    let made = tokio::task::spawn_blocking(move || {
        initdb(&programs, scratch.path(), account).map(|()| (scratch, programs))
    });
    made.await.map_err(|panic| FileError::of("run", "initdb")(panic.into()))?
}

fn initdb(programs: &Programs, folder: &Path, account: Option<Account>) -> Result<(), Error> {
    let password = folder.join("password");
    fs::write(&password, PASSWORD).map_err(FileError::of("write", &password))?;
    let mut command = Command::new(&programs.initdb);
    if let Some(account) = account {
        account.run(&mut command);
    }
    command.args(INITDB).arg("--pwfile").arg(password).arg("--pgdata").arg(folder.join("data"));
    let output = command.output().map_err(FileError::of("start", &programs.initdb))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Initdb { status: output.status, output: tail(&String::from_utf8_lossy(&said)) })
}

async fn start_on(
    port: u16,
    programs: &Programs,
    folder: &Path,
    account: Option<Account>,
) -> Result<Process, ProcessError> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), folder.join("data").into()];
    arguments.extend(["-p".into(), port.to_string().into()]);
    arguments.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), setting.into()]));
    let manner = Manner { account, end: END };
    // Each attempt has its own log: after "port in use" in a shared one, the result of the next attempt could not be
    // found.
    let log = folder.join(format!("postgres-{port}.log"));
    let mut server = Process::start_in(manner, "postgres", &programs.postgres, &arguments, log)?;
    server.until_logged(|log| log.contains(READY).then_some(())).await?;
    Ok(server)
}
